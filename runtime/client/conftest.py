"""A scripted stand-in for the daemon, which answers as told and breaks connections as told.

It speaks through the serving end of `syscalls.jsonrpc`, so it knows nothing of the client.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from syscalls import jsonrpc
from syscalls.errors import KernelError
from syscalls.ids import JobId, SessionId, TenantId
from syscalls.job import (
    ExecutionContext,
    JobState,
    JobStatus,
    NoiseApplied,
    Progress,
    Submit,
    Submitted,
    Wait,
)
from syscalls.session import CloseSession, NegotiateCaps, Quota, Session, SessionClosed
from syscalls.syscall import Reply, Syscall
from syscalls.tracing import TraceParent


class Hangup(Struct):
    """Instead of an answer: send these bytes, then close the connection."""

    first: bytes = b""


class Parts(Struct):
    """Instead of an answer: send exactly these pieces, each by itself, with descriptors."""

    pieces: list[bytes]
    fds: list[int] = []


Answer = Reply | KernelError | Hangup | Parts | None
Handler = Callable[[int, Syscall], Answer]

SESSION = Session(
    session_id=SessionId("sess_" + "0" * 32),
    granted=["CAP_ALLOC"],
    denied=[],
    quota=Quota(max_logical_qubits=1, max_physical_qubits=1, max_channels=1, max_jobs=1),
    abi_version="0.1",
    qvm_version="0.1",
    op_families=[],
    tenant_id=TenantId("me"),
    expires_after_idle_s=60.0,
)
JOB = JobId("job_" + "1" * 32)
DONE = JobStatus(
    job_id=JOB,
    session_id=SESSION.session_id,
    state=JobState.COMPLETED,
    created_at="2025-01-31T12:00:00.000Z",
    progress=Progress(shots_done=3, shots_total=3),
    events={"a": 1},
    counts={"1-": 2, "01": 1},
    execution_context=ExecutionContext(
        engine="fake",
        why="",
        width=1,
        seed=7,
        program_digest="sha256:0",
        noise=NoiseApplied(requested="ideal", applied="ideal"),
    ),
)


def usual(number: int, call: Syscall) -> Answer:
    """What a kernel with one job, which is done, would answer."""
    match call:
        case NegotiateCaps():
            return SESSION
        case CloseSession():
            return SessionClosed(
                jobs_cancelled=0,
                jobs_forgotten=1,
                logical_qubits_released=0,
                channels_closed=0,
                subscriptions_ended=0,
            )
        case Submit():
            return Submitted(job_id=JOB, state=JobState.QUEUED, estimated_epochs=1)
        case Wait():
            return DONE
    raise AssertionError(f"no answer is scripted for {call}")


class FakeKernel:
    """Listens at `path`. `handler` answers call number n (from 0, over all connections)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handler: Handler = usual
        self.seen: list[Syscall] = []
        self.traces: list[TraceParent | None] = []  # of these calls
        self.connections = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def calls(self, kind: type[Syscall]) -> list[Syscall]:
        """The calls of one kind that arrived."""
        return [call for call in self.seen if isinstance(call, kind)]

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(timeout=10)
            assert not thread.is_alive(), "a connection was left open"
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        receiver = jsonrpc.Receiver()
        with connection:
            while data := connection.recv(65536):
                for message in receiver.receive(data):
                    assert isinstance(message, jsonrpc.Request), message
                    number = len(self.seen)
                    self.seen.append(message.call)
                    self.traces.append(message.trace)
                    if not self._answer(connection, message, self.handler(number, message.call)):
                        return

    def _answer(self, connection: socket.socket, request: jsonrpc.Request, answer: Answer) -> bool:
        match answer:
            case None:
                pass
            case Hangup():
                connection.sendall(answer.first)
                return False
            case Parts():
                fds = list(answer.fds)
                for piece in answer.pieces:
                    socket.send_fds(connection, [piece], fds)
                    for fd in fds:
                        os.close(fd)
                    fds = []
            case KernelError():
                connection.sendall(jsonrpc.encode_error(request.id, answer))
            case _:
                connection.sendall(jsonrpc.encode_reply(request.id, answer))
        return True


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[FakeKernel]:
    fake = FakeKernel(tmp_path / "s")
    yield fake
    fake.stop()
