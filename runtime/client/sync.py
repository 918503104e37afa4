"""The blocking client.

    with Client() as client:
        result = client.run("bell.qvm.json", shots=1000, seed=7)
        print(result.counts)

Opens a session when first needed and closes it, with its jobs, on leaving. Not for use from several
threads at once; each takes a client of its own. What the steps are is in `operations.py`.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack

from runtime.client import operations as ops
from runtime.client.address import Remote, address_of
from runtime.client.errors import QmkError
from runtime.client.exchange import Exchange, Lost, Outcome, Pause, Steps, one, perform, reply_of
from runtime.client.link import Link
from runtime.client.operations import PROGRAM_RIGHTS, TIMEOUT_S, PolicyOptions, Progress
from runtime.client.programs import Program
from runtime.client.protocol import Settled
from runtime.client.stream import Facts
from runtime.client.tracing import spans_of
from syscalls.channel import (
    ChanClosed,
    ChanOpened,
    ChanOptions,
    ChanState,
    ChanStatus,
    CloseChan,
    OpenChan,
)
from syscalls.checkpoint import (
    Checkpoint,
    CheckpointDropped,
    Checkpointed,
    CheckpointKept,
    CheckpointsListed,
    DropCheckpoint,
    ListCheckpoints,
    Migrate,
    Migrated,
    Restore,
    Restored,
)
from syscalls.discover import Discover, OpenrpcDocument
from syscalls.errors import KernelError
from syscalls.events import Subscribe, Subscribed
from syscalls.fault import ClearFault, FaultCleared, FaultInjected, FaultKind, InjectFault
from syscalls.findings import Finding
from syscalls.ids import ChannelId, CheckpointId, HandleId, JobId, SessionId
from syscalls.job import Cancel, JobStatus, Planned, Status, Submitted
from syscalls.qubit import Alloc, Allocated, Release, Released
from syscalls.session import CloseSession, Session, SessionClosed
from syscalls.syscall import Reply, Syscall
from syscalls.telemetry import GetTelemetry, Telemetry

if TYPE_CHECKING:
    from runtime.client.results import DecoderData, Packed, Result

T = TypeVar("T")


class Client:
    """A session with the kernel, over one connection that is made again when it is lost.

    socket: where the daemon listens; by default as `runtime.client.address` says. remote: instead,
        `HOST:PORT` that serves it over TLS, or a `Remote` that says more; see docs/remote.md.
    timeout: seconds for one call, resending included; None for no limit. Waiting for a job has
        no limit but the one it is given.
    rights: capabilities to ask for. tenant_id: the tenant to act for, the caller's own by default.
    session: an open session to go on with; it is then left open at the end.
    tracer: a tracer of OpenTelemetry, or True for that of its global provider: each call has a span
        then, which the daemon's own go under, and so has `run`.

    Every method may raise `errors.QmkError`.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | Remote | None = None,
        *,
        remote: Remote | str | None = None,
        timeout: float | None = TIMEOUT_S,
        rights: Sequence[str] = PROGRAM_RIGHTS,
        tenant_id: str | None = None,
        session: Session | None = None,
        tracer: Any = None,
    ) -> None:
        self.settings = ops.Settings(
            address=address_of(socket, remote),
            timeout=timeout,
            rights=rights,
            tenant_id=tenant_id,
        )
        self._listeners = ops.Listeners()
        self._spans = spans_of(tracer)
        self._link = Link(self.settings.address, self._listeners.hear, self._spans)
        self._session = session
        self._keep_session = session is not None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def session(self) -> Session:
        """The session and what it may do; opened when first asked for."""
        if self._session is None:
            steps = ops.negotiate(self.settings, time.monotonic, self._deadline(None))
            self._session = self._drive(steps)
        return self._session

    @property
    def session_id(self) -> SessionId:
        return self.session.session_id

    def close(self) -> None:
        """End the session that this client opened, and the connection. Never raises."""
        if self._closed:
            return
        if self._session is not None and not self._keep_session:
            # A daemon that is gone has closed the session already.
            with contextlib.suppress(QmkError):
                self.close_session(timeout=ops.CLOSE_S)
        self._closed = True
        self._link.drop("The client was closed.")

    def remote_facts(self) -> Facts | None:
        """What the connection to another host agreed; None without one, or on this host."""
        stream = self._link.stream
        return None if stream is None else stream.facts()

    def close_session(self, timeout: float | None = None) -> SessionClosed:
        """End the session: its jobs are cancelled, all it holds is released."""
        call = CloseSession(session_id=self.session_id)
        closed = reply_of(self._one(call, timeout), SessionClosed)
        self._session = None
        return closed

    def call(self, call: Syscall, timeout: float | None = None) -> Reply:
        """Make any call; raises the refusal, as the exception of its name."""
        return reply_of(self._one(call, timeout), Reply)

    def call_all(
        self, calls: Sequence[Syscall], timeout: float | None = None
    ) -> list[Reply | KernelError]:
        """Make many calls at once (pipelined); each is answered by a reply or a refusal."""
        steps = perform(calls, time.monotonic, self._deadline(timeout))
        return [each.answer for each in self._drive(steps)]

    def submit(
        self, program: Program, timeout: float | None = None, **policy: Unpack[PolicyOptions]
    ) -> Job:
        """Submit a program (path, text, dict or `Graph`) as a job."""
        return self.submit_all([program], timeout, **policy)[0]

    def submit_all(
        self,
        programs: Iterable[Program],
        timeout: float | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> list[Job]:
        """Submit many programs under one policy, pipelined."""
        calls = ops.submissions(self.session_id, programs, policy)
        accepted = self._drive(ops.submit(calls, time.monotonic, self._deadline(timeout)))
        return [Job(self, each.job_id, each) for each in accepted]

    def plan(
        self, program: Program, timeout: float | None = None, **policy: Unpack[PolicyOptions]
    ) -> Planned:
        """Say how a program would be run and what that should cost; nothing is run."""
        deadline = self._deadline(timeout)
        return self._drive(ops.plan(self.session_id, program, policy, time.monotonic, deadline))

    def run(
        self,
        program: Program,
        timeout: float | None = None,
        progress: Progress | None = None,
        samples: bool = False,
        **policy: Unpack[PolicyOptions],
    ) -> Result:
        """Submit, wait, and return the result. timeout: seconds for all of it; None for no limit.

        A job that is not done in time is cancelled.
        """
        with self.span("run"):
            until = None if timeout is None else time.monotonic() + timeout
            job = self.submit(program, timeout, **policy)
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                return job.wait(timeout=left, progress=progress, samples=samples)
            except TimeoutError:
                with contextlib.suppress(QmkError):
                    job.cancel(timeout=ops.CLOSE_S)
                raise

    def span(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Put what is called in this block under one span; nothing without a tracer."""
        return contextlib.nullcontext() if self._spans is None else self._spans.operation(name)

    def job(self, job_id: str) -> Job:
        """A job of this session, by its id."""
        return Job(self, JobId(job_id), None)

    def restore(self, checkpoint_id: str, timeout: float | None = None) -> Job:
        """Go on from a checkpoint of this session, as a new job. Needs CAP_CHECKPOINT."""
        key = CheckpointId(checkpoint_id)
        call = Restore(session_id=self.session_id, checkpoint_id=key)
        return self.job(reply_of(self._one(call, timeout), Restored).job_id)

    def checkpoints(self, timeout: float | None = None) -> list[CheckpointKept]:
        """The session's checkpoints, the oldest first."""
        call = ListCheckpoints(session_id=self.session_id)
        return reply_of(self._one(call, timeout), CheckpointsListed).checkpoints

    def drop_checkpoint(self, checkpoint_id: str, timeout: float | None = None) -> None:
        """Let a checkpoint go."""
        key = CheckpointId(checkpoint_id)
        call = DropCheckpoint(session_id=self.session_id, checkpoint_id=key)
        reply_of(self._one(call, timeout), CheckpointDropped)

    def subscribe(self, tell: Progress, job_id: str | None = None) -> None:
        """Hear of a job, or of all jobs of the session, whenever this client waits for anything.

        A subscription ends with the connection.
        """
        key = None if job_id is None else JobId(job_id)
        self._listeners.add(key, tell)
        call = Subscribe(session_id=self.session_id, job_id=key)
        reply_of(self._one(call, None), Subscribed)

    def listen(self, seconds: float) -> bool:
        """Hear of what is subscribed to, for at most so long; returns once something has come.

        Whether the connection, and with it what is subscribed to, still stands.
        """
        if self._link.socket is not None and self._wait_ready(time.monotonic() + seconds):
            self._link.receive()
        return self._link.socket is not None

    def alloc(
        self, n: int, profile: str, *, module: str | None = None, timeout: float | None = None
    ) -> list[HandleId]:
        """Hold `n` logical qubits until they are released; programs name them by these handles."""
        call = Alloc(session_id=self.session_id, n=n, profile=profile, module=module)
        return reply_of(self._one(call, timeout), Allocated).handles

    def release(self, *handles: str, timeout: float | None = None) -> None:
        """Give logical qubits back. Raises Busy while a job that is not over names one."""
        call = Release(session_id=self.session_id, handles=[HandleId(name) for name in handles])
        reply_of(self._one(call, timeout), Released)

    def open_chan(
        self,
        vq_a: str,
        vq_b: str,
        *,
        fidelity: float | None = None,
        type: str | None = None,
        timeout: float | None = None,
    ) -> ChanOpened:
        """Open a channel between two qubits, of which one may be another tenant's by its consent.

        fidelity: the least that will do. type: a protocol of purification, `BBPSSW` or `DEJMPS`.
        """
        ends = {"vq_a": HandleId(vq_a), "vq_b": HandleId(vq_b)}
        options = ChanOptions(fidelity=fidelity, type=type)
        call = OpenChan(session_id=self.session_id, options=options, **ends)
        return reply_of(self._one(call, timeout), ChanOpened)

    def chan_status(self, channel_id: str, timeout: float | None = None) -> ChanState:
        """How a channel of this session is now."""
        call = ChanStatus(session_id=self.session_id, channel_id=ChannelId(channel_id))
        return reply_of(self._one(call, timeout), ChanState)

    def close_chan(self, channel_id: str, timeout: float | None = None) -> None:
        """Close a channel. Raises Busy while a job that is not over names it."""
        call = CloseChan(session_id=self.session_id, channel_id=ChannelId(channel_id))
        reply_of(self._one(call, timeout), ChanClosed)

    def telemetry(
        self, job_id: str | None = None, *, machine: bool = False, list_jobs: bool = False
    ) -> Telemetry:
        """What the session uses, and what else is asked for."""
        key = None if job_id is None else JobId(job_id)
        call = GetTelemetry(
            session_id=self.session_id, job_id=key, machine=machine, list_jobs=list_jobs
        )
        return reply_of(self._one(call, None), Telemetry)

    def inject_fault(
        self,
        kind: FaultKind,
        *what: str,
        strength: float | None = None,
        after_cycles: int = 0,
        for_cycles: int | None = None,
    ) -> FaultInjected:
        """Behave as if a part of the machine failed. Needs CAP_ADMIN."""
        call = InjectFault(
            session_id=self.session_id,
            kind=kind,
            what=list(what),
            strength=strength,
            after_cycles=after_cycles,
            for_cycles=for_cycles,
        )
        return reply_of(self._one(call, None), FaultInjected)

    def clear_fault(self, fault_id: str) -> FaultCleared:
        """End an injected fault. Needs CAP_ADMIN."""
        call = ClearFault(session_id=self.session_id, fault_id=fault_id)
        return reply_of(self._one(call, None), FaultCleared)

    def discover(self) -> OpenrpcDocument:
        """The kernel's own description of its calls. Needs no session."""
        return reply_of(self._one(Discover(), None), OpenrpcDocument)

    def _fetch(self, status: JobStatus) -> Packed:
        if self._closed or self._session is None:
            from runtime.client.results import no_longer

            return no_longer()
        steps = ops.fetch(self.session_id, status, time.monotonic, self._deadline(None))
        return self._drive(steps)

    def _fetch_decoder_data(self, status: JobStatus) -> DecoderData:
        if self._closed or self._session is None:
            from runtime.client.results import no_longer

            return no_longer()
        deadline = self._deadline(None)
        return self._drive(
            ops.fetch_decoder_data(self.session_id, status, time.monotonic, deadline)
        )

    def _one(self, call: Syscall, timeout: float | None) -> Settled:
        return self._drive(one(call, time.monotonic, self._deadline(timeout)))

    def _deadline(self, timeout: float | None) -> float | None:
        seconds = self.settings.timeout if timeout is None else timeout
        return None if seconds is None else time.monotonic() + seconds

    def _drive(self, steps: Steps[T]) -> T:
        """Perform an operation's steps; returns what it returns."""
        try:
            step = next(steps)
            while True:
                outcomes: list[Outcome] = []
                match step:
                    case Exchange():
                        outcomes = self._exchange(step)
                    case Pause(seconds=seconds):
                        time.sleep(seconds)
                step = steps.send(outcomes)
        except StopIteration as finished:
            value: T = finished.value
            return value

    def _exchange(self, step: Exchange) -> list[Outcome]:
        assert not self._closed, "the client is open"
        numbers = self._link.post(step.calls)
        if isinstance(numbers, Lost):
            return [numbers] * len(step.calls)
        try:
            self._link.flush()
            while not self._link.done(numbers):
                if not self._wait_ready(step.deadline):
                    break
                self._link.flush()
                self._link.receive()
        except BaseException:
            self._link.abandon(numbers)
            raise
        return self._link.collect(numbers)

    def _wait_ready(self, deadline: float | None) -> bool:
        """Wait until the socket has something for us or takes something; False when too late."""
        assert self._link.socket is not None, "calls without an outcome have a connection"
        left_ms = None if deadline is None else (deadline - time.monotonic()) * 1000
        if left_ms is not None and left_ms <= 0:
            return False
        poll = select.poll()
        wanted = select.POLLIN | (select.POLLOUT if self._link.unsent else 0)
        poll.register(self._link.socket, wanted)
        poll.poll(left_ms)
        return True


class Job:
    """A job of a client's session."""

    def __init__(self, client: Client, job_id: JobId, submitted: Submitted | None) -> None:
        self.client = client
        self.job_id = job_id
        self.submitted = submitted

    def __repr__(self) -> str:
        return f"Job({self.job_id})"

    @property
    def warnings(self) -> list[Finding]:
        """What the verifier thought worth knowing when this client submitted the job."""
        return [] if self.submitted is None else self.submitted.warnings

    def status(self, timeout: float | None = None) -> JobStatus:
        """Where the job stands, now."""
        call = Status(session_id=self.client.session_id, job_id=self.job_id)
        return reply_of(self.client._one(call, timeout), JobStatus)

    def cancel(self, timeout: float | None = None) -> JobStatus:
        """Stop the job; returns when it is stopped. Raises AlreadyCompleted if it was over."""
        call = Cancel(session_id=self.client.session_id, job_id=self.job_id)
        return reply_of(self.client._one(call, timeout), JobStatus)

    def checkpoint(
        self, *, how: Literal["forward", "rollback"] = "forward", timeout: float | None = None
    ) -> Checkpointed:
        """Keep the job's state at its next fence; it goes on by itself. Needs CAP_CHECKPOINT."""
        call = Checkpoint(session_id=self.client.session_id, job_id=self.job_id, how=how)
        return reply_of(self.client._one(call, timeout), Checkpointed)

    def migrate(self, target: str, timeout: float | None = None) -> Migrated:
        """Move the job to another module at its next fence. Needs CAP_MIGRATE."""
        call = Migrate(session_id=self.client.session_id, job_id=self.job_id, target=target)
        return reply_of(self.client._one(call, timeout), Migrated)

    def wait_done(
        self, timeout: float | None = None, progress: Progress | None = None
    ) -> JobStatus:
        """Wait until the job is over, however it ended. Raises DeadlinePassed; the job goes on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.client._listeners.telling(self.job_id, progress):
            return self.client._drive(
                ops.wait(
                    self.client.session_id,
                    self.job_id,
                    time.monotonic,
                    deadline,
                    progress=progress is not None,
                )
            )

    def wait(
        self,
        timeout: float | None = None,
        progress: Progress | None = None,
        samples: bool = False,
    ) -> Result:
        """Wait for the result. Raises JobFailed, JobCancelled, DeadlinePassed.

        progress: called with each `JobEvent`. samples: fetch them now, not when first used.
        """
        status = self.wait_done(timeout, progress)
        result = ops.result_of(
            status,
            lambda: self.client._fetch(status),
            lambda: self.client._fetch_decoder_data(status),
        )
        if samples:
            result.packed  # noqa: B018 - fetched by being looked at
        return result
