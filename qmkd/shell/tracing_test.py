"""Spans against what was asked for: in a real daemon, and of steps made up for the rare cases."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import msgspec
import trio
import trio.testing

from qmkd.core.effects import Effect, Reply
from qmkd.core.events import Called, ClientGone, Event, Origin, Peer
from qmkd.engine import messages as msg
from qmkd.shell.tracing import JOBS_MAX, WAITING_MAX, Teller, Traces
from syscalls.errors import JobNotFound
from syscalls.ids import JobId, SessionId
from syscalls.job import JobState, Status, Submitted
from syscalls.tracing import Span, TraceParent
from tests.daemon import Line, example, running_daemon, short_folder

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SUBMITS, WAITS = "1" * 16, "2" * 16
SPAN = Span(name="a", trace_id=TRACE, span_id="3" * 16, start_ns=1, end_ns=2)


def listener(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    made.settimeout(20)
    return made


def received(sock: socket.socket, until: str) -> list[Span]:
    """Spans up to one of that name."""
    found: list[Span] = []
    while not any(span.name == until for span in found):
        lines = sock.recv(1 << 20).splitlines()
        found += [msgspec.json.decode(line, type=Span) for line in lines]
    return found


def scraped(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n")
        with sock.makefile("rb") as file:
            return file.read().decode()


def ask(
    line: Line, method: str, params: object, flags: str = "", span: str = ""
) -> dict[str, object]:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    if flags:
        request["traceparent"] = f"00-{TRACE}-{span}-{flags}"
    line.send(json.dumps(request).encode() + b"\n")
    result = line.answer()["result"]
    assert isinstance(result, dict)
    return result


def test_a_traced_job_is_told_of_from_its_call_to_its_worker_and_others_are_not() -> None:
    with short_folder() as folder, listener(folder / "t") as sock:
        # However slow this host is, it is one segment.
        config = f'traces_socket = "{folder}/t"\npark_ms = 0\n'
        with running_daemon(folder, config=config) as daemon, Line(daemon.socket) as line:
            rights = {"requested": ["CAP_ALLOC"]}
            session = ask(line, "q_negotiate_caps", rights)["session_id"]
            submission = {
                "session_id": session,
                "graph": example("bell"),
                "policy": {"shots": 100, "seed": 7},
            }
            digests = []
            for flags in ("", "00", "01"):
                job = ask(line, "q_submit", submission, flags, SUBMITS)["job_id"]
                asked = {"session_id": session, "job_id": job}
                status = ask(line, "q_wait", asked, flags, WAITS)
                context = status["execution_context"]
                assert isinstance(context, dict)
                digests.append(context["results_digest"])
            spans = received(sock, until="job")
            told = [json.dumps(ask(line, "q_get_telemetry", asked)), json.dumps(status), daemon.log]
            told.append(scraped(folder / "q-metrics.sock"))
    assert len(set(digests)) == 1, "the same bits, traced or not"
    assert not [text for text in told if TRACE in text or SUBMITS in text], "only to the exporter"
    assert {span.trace_id for span in spans} == {TRACE}
    by_name = {span.name: span for span in spans if span.name != "keep"}
    parents = {name: span.parent_id for name, span in by_name.items()}
    assert parents == {
        "q_submit": SUBMITS,
        "q_wait": WAITS,
        "job": by_name["q_submit"].span_id,
        "queued": by_name["job"].span_id,
        "placed": by_name["job"].span_id,
        "segment": by_name["placed"].span_id,
        "worker run": by_name["segment"].span_id,
    }
    assert by_name["job"].attributes["qmk.job_id"] == job
    assert by_name["worker run"].attributes["qmk.shots"] == 100
    keeps = [span for span in spans if span.name == "keep"]
    assert keeps, "the job, its slice and its end are durable"
    assert {span.parent_id for span in keeps} == {by_name["job"].span_id}
    for inner, outer in (("worker run", "segment"), ("segment", "placed"), ("placed", "job")):
        assert by_name[outer].start_ns <= by_name[inner].start_ns
        assert by_name[inner].end_ns <= by_name[outer].end_ns


class Kernel:
    """Answers each step with what is laid ready for it."""

    def __init__(self) -> None:
        self.ready: list[list[Effect]] = []

    def step(self, now_ns: int, event: Event) -> list[Effect]:
        return self.ready.pop(0) if self.ready else []


class Told(Teller):
    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.spans: list[Span] = []

    def put(self, span: Span) -> None:
        self.spans.append(span)


def called(conn: int, call: int) -> Called:
    request = Status(session_id=SessionId("s"), job_id=JobId("j"))
    return Called(Origin(conn, call), Peer(uid=0, gid=0, pid=1), request, b"")


def traced(kernel: Kernel, told: Told) -> Traces:
    return Traces(kernel.step, told)


def test_a_call_has_one_span_whether_it_is_answered_refused_or_given_up() -> None:
    kernel, told = Kernel(), Told()
    traces = traced(kernel, told)
    for call in (1, 2):
        kernel.ready.append([])
        traces.announce(5, call, TraceParent(TRACE, SUBMITS))
        traces.step(1, called(5, call))
    kernel.ready.append([Reply(Origin(5, 1), JobNotFound())])
    traces.step(2, called(9, 1))
    traces.step(3, ClientGone(5))
    traces.step(4, ClientGone(9))
    assert [(span.name, span.error) for span in told.spans] == [
        ("q_status", "JOB_NOT_FOUND"),
        ("q_status", "client gone"),
    ]
    assert told.spans[0].attributes["rpc.jsonrpc.error_code"] == -32300
    told.close()


def test_a_trace_of_a_call_that_needs_no_step_does_not_pass_to_the_next() -> None:
    kernel, told = Kernel(), Told()
    traces = traced(kernel, told)
    traces.announce(1, 1, TraceParent(TRACE, SUBMITS))  # `rpc.discover`
    other = called(2, 1)
    kernel.ready.append([Reply(other.origin, JobNotFound())])
    traces.step(1, other)
    assert not told.spans
    told.close()


def test_of_too_many_traced_jobs_the_oldest_are_followed_no_further() -> None:
    kernel, told = Kernel(), Told()
    traces = traced(kernel, told)
    for number in range(JOBS_MAX + 3):
        call = called(1, number)
        traces.announce(1, number, TraceParent(TRACE, SUBMITS))
        job = Submitted(job_id=JobId(f"job_{number}"), state=JobState.QUEUED, estimated_epochs=1)
        kernel.ready.append([Reply(call.origin, job)])
        traces.step(number, call)
    assert len(traces._jobs) == JOBS_MAX
    assert "job_2" not in traces._jobs
    told.close()


def test_what_a_worker_says_of_a_segment_that_nobody_follows_is_not_told() -> None:
    told = Told()
    failed = msg.Failed(7, "internal", "", ran=(-1, 1 << 62))
    traced(Kernel(), told).ran(failed)
    assert not told.spans
    told.close()


async def test_spans_that_nobody_takes_are_dropped_and_counted() -> None:
    with short_folder() as folder:
        teller = Teller(folder / "t")
        for _ in range(WAITING_MAX + 5):
            teller.put(SPAN)
        with trio.move_on_after(0.3):
            await teller.run()
        assert teller.counts() == {"sent": 0, "dropped": 5}
        teller.close()
        assert teller.counts() == {"sent": 0, "dropped": WAITING_MAX + 5}


async def test_a_listener_that_comes_late_and_reads_slowly_gets_what_is_not_dropped() -> None:
    with short_folder() as folder:
        teller, found = Teller(folder / "t"), 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(teller.run)
            for _ in range(WAITING_MAX):
                teller.put(SPAN)
            await trio.testing.wait_all_tasks_blocked()
            with listener(folder / "t") as sock:
                sock.setblocking(False)
                while found < WAITING_MAX:
                    await trio.sleep(0.001)
                    try:
                        found += len(sock.recv(1 << 20).splitlines())
                    except BlockingIOError:
                        continue
            nursery.cancel_scope.cancel()
        assert teller.counts() == {"sent": WAITING_MAX, "dropped": 0}
        teller.close()
