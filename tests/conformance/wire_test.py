"""Bad input, bad manners and bad luck on the wire, against a real daemon.

Each case gets the error the ABI documents, or is bounded by a limit that has a name; and whatever
one connection does, another one goes on working.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from qmkd.shell.limits import UNREAD_BYTES_PAUSE
from syscalls.framing import NESTING_MAX
from syscalls.jsonrpc import BATCH_MAX, REQUEST_ID_CHARS_MAX
from tests.daemon import Daemon, Line, example, running_daemon

PARSE, REQUEST, METHOD, PARAMS, BUSY = -32700, -32600, -32601, -32602, -32011
CONNECTIONS = 1_000
PIPELINED = 10_000

STRICT = """
[limits]
message_age_ms = 300
unread_ms = 400
message_bytes = 65536
calls_in_flight = 256
connections_per_uid = 40
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as one:
        yield one


@pytest.fixture(scope="module")
def strict() -> Iterator[Daemon]:
    with running_daemon(config=STRICT) as one:
        yield one


@pytest.fixture
def line(daemon: Daemon) -> Iterator[Line]:
    with Line(daemon.socket) as one:
        yield one


def call(number: object, method: str = "q_status", **params: object) -> bytes:
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return msgspec.json.encode(message)


NOBODY = {"session_id": "sess_0", "job_id": "job_0"}


def assert_alive(daemon: Daemon) -> None:
    """A well-behaved client is served at once."""
    with Line(daemon.socket, 5) as other:
        other.session()


def assert_alive_soon(daemon: Daemon) -> None:
    """A client that tries again when it is told `Busy` is served within seconds."""
    deadline = time.monotonic() + 5
    while True:
        try:
            with Line(daemon.socket, 5) as other:
                answer = other.ask_any("q_negotiate_caps", requested=[])
        except (EOFError, ConnectionError):
            answer = {}
        if "result" in answer:
            return
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)


# --- what is not a call -------------------------------------------------------------------------

DEEP = b"[" * 50_000 + b"]" * 50_000
BAD: list[tuple[bytes, int]] = [
    (b"{", PARSE),
    (b"nonsense", PARSE),
    (b'{"jsonrpc":"2.0","id":1,"method":"q_status","params":{]}', PARSE),
    (b'{"jsonrpc":"2.0","id":1,"method":"q_\xff\xfe","params":{}}', PARSE),
    (b"\xef\xbb\xbf{}", PARSE),
    (b'{"jsonrpc":"2.0","id":1,"method":"q_\\ud800"}', PARSE),
    (b'{"jsonrpc":"2.0","id":1,"method":"q_status","params":{"job_id":NaN}}', PARSE),
    (b'{"jsonrpc":"2.0","id":1,"method":"q_status","params":{"job_id":Infinity}}', PARSE),
    (b"[" * 100_000, PARSE),
    (b'{"a":' * 100_000, PARSE),
    (b'{"jsonrpc":"2.0","id":1,"method":"q_status","params":' + DEEP + b"}", PARSE),
    (b"{}", REQUEST),
    (b"1", REQUEST),
    (b"[]", REQUEST),
    (b"null", REQUEST),
    (b'{"jsonrpc":"1.0","id":1,"method":"q_status"}', REQUEST),
    (b'{"jsonrpc":"2.0","id":1.5,"method":"q_status"}', REQUEST),
    (b'{"jsonrpc":"2.0","id":true,"method":"q_status"}', REQUEST),
    (b'{"jsonrpc":"2.0","id":{},"method":"q_status"}', REQUEST),
    (b'{"jsonrpc":"2.0","id":99999999999999999999,"method":"q_status"}', REQUEST),
    (call("x" * (REQUEST_ID_CHARS_MAX + 1)), REQUEST),
    (b"[" + b",".join([b"1"] * (BATCH_MAX + 1)) + b"]", REQUEST),
    (b'{"jsonrpc":"2.0","id":1,"method":"q_nothing"}', METHOD),
    (call(1, job_id=1), PARAMS),
    (call(1, **NOBODY, surplus=1), PARAMS),
    (b'{"jsonrpc":"2.0","id":1,"method":"q_status","params":["sess_0","job_0"]}', PARAMS),
    (call(1, "q_wait", **NOBODY, timeout_ms=10**400), PARAMS),
    (call(1, "q_submit", session_id="s", graph={}, policy={"seed": 2**64}), PARAMS),
    (call(1, "q_submit", session_id="s", graph={}, policy={"shots": -1}), PARAMS),
    (b'{"jsonrpc":"2.0","id":1,"method":"q_wait","params":'
     b'{"session_id":"s","job_id":"j","timeout_ms":1e400}}', PARAMS),
]  # fmt: skip


@pytest.mark.parametrize(("message", "code"), BAD, ids=lambda v: repr(v)[:50])
def test_bad_messages_get_their_error_and_spoil_nothing_after_them(
    line: Line, message: bytes, code: int
) -> None:
    line.send(message + b"\n" + call("after", **NOBODY) + b"\n")
    answer = line.answer()
    assert answer["jsonrpc"] == "2.0"
    assert answer["error"]["code"] == code, answer
    assert answer["error"]["data"]["type"]
    assert "result" not in answer
    after = line.answer()
    assert (after["id"], after["error"]["code"]) == ("after", -32100)


def test_huge_integers_in_a_program_are_findings_or_errors_and_never_a_crash(line: Line) -> None:
    session = line.session()
    graph = example("bell")
    graph["program"]["nodes"][0]["args"]["n"] = 10**300
    answer = line.ask("q_submit", session_id=session, graph=graph)
    assert answer["error"]["code"] == -32200
    assert answer["error"]["data"]["findings_total"] >= 1


def test_a_program_nested_deep_is_refused_and_not_recursed_into(line: Line) -> None:
    session = line.session()
    head = b'{"jsonrpc":"2.0","id":1,"method":"q_submit","params":{"session_id":"'
    line.send(head + session.encode() + b'","graph":{"metadata":' + DEEP + b"}}}\n")
    assert line.answer()["error"]["code"] in (PARSE, PARAMS, -32200)


# --- framing ------------------------------------------------------------------------------------


def test_a_message_may_come_in_single_bytes_also_inside_a_character(line: Line) -> None:
    for byte in call("schön ☃ 𝄞", **NOBODY) + b"\n":
        line.send(bytes([byte]))
    assert line.answer()["id"] == "schön ☃ 𝄞"


def test_an_object_without_a_newline_is_answered(line: Line) -> None:
    line.send(call(1, **NOBODY))
    assert line.answer()["id"] == 1
    line.send(call(2, **NOBODY) + call(3, **NOBODY))
    assert [line.answer()["id"] for _ in range(2)] == [2, 3]


def test_an_object_followed_by_the_beginning_of_another_is_answered_before_the_other_ends(
    line: Line,
) -> None:
    other = call(2, **NOBODY)
    line.send(call(1, **NOBODY) + other[:20])
    assert line.answer()["id"] == 1
    line.send(other[20:])
    assert line.answer()["id"] == 2


def test_nesting_within_the_bound_needs_no_newline(line: Line) -> None:
    inner = NESTING_MAX - 20
    line.send(b'{"jsonrpc":"2.0","id":5,"method":"q_x","params":{"a":' + b"[" * inner)
    line.send(b"]" * inner + b"}}")
    assert line.answer()["error"]["code"] == METHOD


def test_a_client_that_stops_writing_still_gets_its_answers(line: Line) -> None:
    line.send(call(1, **NOBODY) + b"\n" + call(2, **NOBODY))
    line.sock.shutdown(socket.SHUT_WR)
    assert [line.answer()["id"] for _ in range(2)] == [1, 2]
    assert line.ended()


def test_a_message_cut_off_by_the_end_is_a_parse_error(line: Line) -> None:
    line.send(call(1, **NOBODY)[:-5])
    line.sock.shutdown(socket.SHUT_WR)
    assert line.answer()["error"]["code"] == PARSE
    assert line.ended()


def test_a_message_over_the_bound_is_refused_and_the_connection_closed(strict: Daemon) -> None:
    with Line(strict.socket) as line:
        with contextlib.suppress(ConnectionError):
            line.send(b'{"a":"' + b"x" * 200_000)
        answer = line.answer()
        assert (answer["id"], answer["error"]["code"]) == (None, PARSE)
        assert "65536 bytes" in answer["error"]["message"]
        assert line.ended()
    assert_alive(strict)


def test_half_a_message_is_waited_for_only_so_long(strict: Daemon) -> None:
    with Line(strict.socket) as line, Line(strict.socket) as whole:
        began = time.monotonic()
        line.send(b'{"jsonrpc":"2.0","id":1,')
        answer = line.answer()
        assert 0.25 <= time.monotonic() - began < 5
        assert answer["error"]["code"] == PARSE
        assert "not complete after 300 ms" in answer["error"]["message"]
        assert line.ended()
        # One that merely has nothing to say is left alone.
        assert whole.ask("q_status", **NOBODY)["error"]["code"] == -32100


def test_dripping_bytes_does_not_keep_half_a_message_alive(strict: Daemon) -> None:
    with Line(strict.socket) as line:
        began = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012 - whichever write comes after the close
            line.send(b'{"jsonrpc":"2.0","id":1,"method":"')
            while time.monotonic() - began < 10:
                line.send(b"x")
                time.sleep(0.02)
        assert time.monotonic() - began < 5


# --- batches and notifications ------------------------------------------------------------------


def test_a_batch_is_answered_by_one_array_when_all_of_it_is_answered(daemon: Daemon) -> None:
    with Line(daemon.socket) as line:
        session = line.session()
        policy = {"shots": 50, "seed": 1}
        made = line.call("q_submit", session_id=session, graph=example("bell"), policy=policy)
        who = {"session_id": session, "job_id": made["job_id"]}
        parts = [call(1, "q_wait", **who), b"7", call(2, "q_nothing"), call(3, "q_status", **who)]
        notification = {"jsonrpc": "2.0", "method": "q_status", "params": who}
        parts.append(msgspec.json.encode(notification))
        line.send(b"[" + b",".join(parts) + b"]")
        answers = {one["id"]: one for one in line.answer()}
        assert answers.keys() == {1, 2, 3, None}
        assert answers[1]["result"]["state"] == "COMPLETED"
        assert answers[2]["error"]["code"] == METHOD
        assert answers[None]["error"]["code"] == REQUEST


def test_notifications_are_performed_and_never_answered_alone_or_in_a_batch(line: Line) -> None:
    session = line.session()
    silent = {"jsonrpc": "2.0", "method": "q_close_session", "params": {"session_id": session}}
    wrong = msgspec.json.encode({"jsonrpc": "2.0", "method": "q_nothing"})
    line.send(wrong + b"\n[" + wrong + b"," + wrong + b"]\n")
    line.send(msgspec.json.encode(silent) + b"\n")
    answer = line.ask("q_status", session_id=session, job_id="job_0")
    assert answer["error"]["code"] == -32100, "the session is closed"


# --- many ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def many_descriptors(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_idle_connections_leave_room_for_more(daemon: Daemon) -> None:
    with many_descriptors(CONNECTIONS + 200), contextlib.ExitStack() as stack:
        idle = [stack.enter_context(Line(daemon.socket)) for _ in range(CONNECTIONS)]
        assert_alive(daemon)
        for one in (idle[0], idle[-1]):
            assert one.ask("q_status", **NOBODY)["error"]["code"] == -32100
    assert_alive(daemon)


def test_connections_of_one_user_are_bounded_and_the_excess_is_told(strict: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(Line(strict.socket)) for _ in range(41)]
        answer = lines[-1].answer()
        assert (answer["id"], answer["error"]["code"]) == (None, BUSY)
        assert answer["error"]["data"]["retry_after_ms"] > 0
        assert lines[-1].ended()
        assert lines[0].ask("q_status", **NOBODY)["id"] == 1
    assert_alive_soon(strict)


def test_running_out_of_descriptors_neither_ends_nor_deafens_the_daemon() -> None:
    with running_daemon() as daemon, Line(daemon.socket) as early:
        early.session()
        used = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (used + 8, 20_000))
        with contextlib.ExitStack() as stack:
            lines = [stack.enter_context(Line(daemon.socket)) for _ in range(60)]
            assert early.ask("q_status", **NOBODY)["error"]["code"] == -32100
            time.sleep(0.3)
            lines[0].session()
        assert_alive_soon(daemon)
        assert "out of descriptors" in daemon.log


def exchanged(line: Line, data: bytes, answers: int) -> list[bytes]:
    """Write and read at the same time until so many lines have come."""
    line.sock.setblocking(False)
    view, received = memoryview(data), bytearray()
    deadline = time.monotonic() + 60
    while received.count(b"\n") < answers:
        assert time.monotonic() < deadline, received.count(b"\n")
        readable, writable, _ = select.select([line.sock], [line.sock] if view else [], [], 1)
        if writable:
            view = view[line.sock.send(view[: 1 << 16]) :]
        if readable:
            chunk = line.sock.recv(1 << 20)
            assert chunk, "hung up"
            received += chunk
    return bytes(received).splitlines()


def test_ten_thousand_pipelined_calls_are_each_answered_once(line: Line) -> None:
    calls = b"".join(call(i, **NOBODY) + b"\n" for i in range(PIPELINED))
    answers = exchanged(line, calls, PIPELINED)
    ids = [msgspec.json.decode(one)["id"] for one in answers]
    assert sorted(ids) == list(range(PIPELINED))


def test_a_client_with_ten_thousand_calls_at_hand_does_not_hold_up_another(daemon: Daemon) -> None:
    with Line(daemon.socket) as flood, Line(daemon.socket) as other:
        flood.sock.settimeout(0.05)
        calls = b"".join(call(i, **NOBODY) + b"\n" for i in range(PIPELINED))
        with contextlib.suppress(TimeoutError):
            flood.sock.sendall(calls)
        waits = []
        for _ in range(50):
            began = time.monotonic()
            other.ask("q_status", **NOBODY)
            waits.append(time.monotonic() - began)
        assert sorted(waits)[25] < 0.05


def test_a_client_that_never_reads_is_not_read_any_more_and_then_disconnected(
    strict: Daemon,
) -> None:
    with Line(strict.socket) as line:
        line.sock.settimeout(1)
        calls = b"".join(call(i, "rpc.discover") + b"\n" for i in range(100))
        sent = 0
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 10:
                sent += line.sock.send(calls)
        assert time.monotonic() - began < 8, "it is disconnected"
        assert sent < 10 * UNREAD_BYTES_PAUSE, "it is not read without bound"
    assert_alive(strict)
    assert "does not read" in strict.log


def test_waits_beyond_the_bound_on_calls_in_flight_are_taken_up_as_others_are_answered(
    strict: Daemon,
) -> None:
    with Line(strict.socket) as line:
        session = line.session()
        graph = example("bell")
        policy = {"shots": 1_000_000, "seed": 1}
        made = line.call("q_submit", session_id=session, graph=graph, policy=policy)
        who: dict[str, Any] = {"session_id": session, "job_id": made["job_id"]}
        answers = exchanged(
            line, b"".join(call(i, "q_wait", **who) + b"\n" for i in range(600)), 600
        )
        assert len({msgspec.json.decode(one)["id"] for one in answers}) == 600


def test_clients_that_vanish_leave_nothing_behind(daemon: Daemon) -> None:
    before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    for data in (b"", b'{"half', call(1, **NOBODY) * 50, b"[" + b",".join([call(1)] * 50) + b"]"):
        for _ in range(10):
            with Line(daemon.socket) as line:
                line.send(data)
    with Line(daemon.socket) as line:
        session = line.session()
        job = line.call("q_submit", session_id=session, graph=example("bell"))["job_id"]
        line.begin("q_wait", session_id=session, job_id=job)
    assert_alive(daemon)
    deadline = time.monotonic() + 5
    while len(os.listdir(f"/proc/{daemon.process.pid}/fd")) > before:
        assert time.monotonic() < deadline, "descriptors are left behind"
        time.sleep(0.02)


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_mass_of_tiny_messages_in_one_line_is_taken_apart_without_holding_up_others(
    daemon: Daemon, end: bytes
) -> None:
    count = 300_000
    with Line(daemon.socket) as flood, Line(daemon.socket) as other:
        flood.sock.settimeout(0.2)
        # Unread, so it goes in as far as the daemon takes it.
        with contextlib.suppress(TimeoutError):
            flood.sock.sendall(b"[" * (end == b"") + b"{}" * count + end)
        waits = []
        for _ in range(100):
            began = time.monotonic()
            other.ask("q_status", **NOBODY)
            waits.append(time.monotonic() - began)
        assert max(waits) < 0.5


def test_every_message_of_a_line_that_holds_many_is_answered(line: Line) -> None:
    count = 2_000
    answers = exchanged(line, b"{}" * count + b" x\n", count + 1)
    codes = [msgspec.json.decode(one)["error"]["code"] for one in answers]
    assert codes == [REQUEST] * count + [PARSE]
