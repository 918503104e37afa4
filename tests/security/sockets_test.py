"""The security list on a real daemon: what depends on sockets, users and descriptors."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from itertools import count

import pytest

from syscalls.errors import (
    AuthFailed,
    Busy,
    JobNotFound,
    QuotaExceeded,
)
from tests.daemon import Daemon, Line, example, running_daemon

STRICT = """
[limits]
connections_per_uid = 12
message_bytes = 65536
calls_in_flight = 256
"""


@pytest.fixture(scope="module")
def strict() -> Iterator[Daemon]:
    with running_daemon(config=STRICT) as one:
        yield one


@contextlib.contextmanager
def served(daemon: Daemon) -> Iterator[Line]:
    """A line that is answered; those of an earlier test may take a moment to be gone."""
    deadline = time.monotonic() + 10
    while True:
        with Line(daemon.socket) as line:
            answer = {}
            with contextlib.suppress(EOFError, ConnectionError):
                answer = line.ask_any("q_negotiate_caps", requested=[])
            if "result" in answer:
                line.call("q_close_session", session_id=answer["result"]["session_id"])
                yield line
                return
        assert time.monotonic() < deadline, "nobody is served any more"
        time.sleep(0.02)


def test_exhaust_descriptors_by_connections(strict: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        refused = 0
        for _ in range(20):
            line = stack.enter_context(Line(strict.socket))
            try:
                answer = line.ask_any("q_negotiate_caps", requested=[])
            except (EOFError, ConnectionError):
                answer = {"error": {"data": {"type": Busy.NAME}}}
            if "error" in answer:
                assert answer["error"]["data"]["type"] in (Busy.NAME, QuotaExceeded.NAME)
                refused += 1
        assert refused >= 8


def test_exhaust_descriptors_by_sending_some_along(strict: Daemon) -> None:
    """Nobody asked for them, so the host's kernel closes them with the message."""
    with served(strict) as line:
        before = len(os.listdir(f"/proc/{strict.process.pid}/fd"))
        null = os.open("/dev/null", os.O_RDONLY)
        request = (
            b'{"jsonrpc":"2.0","id":1,"method":"q_negotiate_caps","params":{"requested":[]}}\n'
        )
        for _ in range(8):
            socket.send_fds(line.sock, [request], [null] * 32)
            line.answer()
        os.close(null)
        assert len(os.listdir(f"/proc/{strict.process.pid}/fd")) <= before


def test_exhaust_memory_by_one_message(strict: Daemon) -> None:
    with served(strict) as line:
        line.send(b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 70_000)
        assert line.answer()["error"]["code"] == -32700
        assert line.ended()


def test_session_names_are_random_and_never_the_same(strict: Daemon) -> None:
    """128 bits each; the ones among all bits are within five standard errors of a half."""
    with served(strict) as line:
        names = []
        for _ in range(500):
            name = line.call("q_negotiate_caps", requested=[])["session_id"]
            line.call("q_close_session", session_id=name)
            names.append(name.removeprefix("sess_"))
    assert {len(name) for name in names} == {32}
    assert len(set(names)) == len(names)
    ones, bits = sum(int(name, 16).bit_count() for name in names), 128 * len(names)
    assert abs(ones - bits / 2) <= 5 * (bits / 4) ** 0.5


TWO = """
[[tenant]]
name = "victim"
uids = [{victim}]
[[tenant]]
name = "attacker"
uids = [{attacker}]
"""


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Connect as another user: the host's kernel tells the daemon who connected."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as two users")
def test_a_session_overheard_is_of_no_use_to_another_user() -> None:
    victim, attacker = 61_001, 61_002
    with running_daemon(config=TWO.format(victim=victim, attacker=attacker)) as daemon:
        daemon.socket.parent.chmod(0o711)
        numbers = count(1)
        with contextlib.ExitStack() as stack:
            with acting_as(victim):
                own = stack.enter_context(Line(daemon.socket))
            with acting_as(attacker):
                other = stack.enter_context(Line(daemon.socket))
            with acting_as(61_003):
                nobody = stack.enter_context(Line(daemon.socket))
            session = own.session()
            job = own.call("q_submit", session_id=session, graph=example("bell"))["job_id"]
            done = own.call("q_wait", session_id=session, job_id=job)
            theirs = other.session()
            for line, name, refusal in (
                (other, session, AuthFailed),
                (nobody, session, AuthFailed),
                (other, theirs, JobNotFound),
            ):
                for method in ("q_status", "q_wait", "q_cancel", "q_results", "q_subscribe"):
                    answer = line.ask(method, session_id=name, job_id=job)
                    assert answer["error"]["data"]["type"] == refusal.NAME, (method, answer)
                    next(numbers)
            assert "error" in nobody.ask("q_negotiate_caps", requested=[])
            assert "error" in other.ask("q_negotiate_caps", requested=[], tenant_id="victim")
            assert own.call("q_status", session_id=session, job_id=job) == done
            assert next(numbers) == 16
