"""The client for trio: the same surface as `sync.Client`, awaited.

    async with AsyncClient() as client:
        result = await client.run("bell.qvm.json", shots=1000, seed=7)

Any number of tasks may use one client at once; their calls share the connection. There is no
background task: of the tasks that wait, one reads for all, and cancelling it hands that on.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket as stdlib_socket
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack

import trio

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


class AsyncClient:
    """As `sync.Client`; see there for the arguments. Times are trio's clock."""

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
        self._opening = trio.Lock()
        self._reading = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def session(self) -> Session:
        """The session and what it may do; opened when first asked for."""
        async with self._opening:
            if self._session is None:
                steps = ops.negotiate(self.settings, trio.current_time, self._deadline(None))
                self._session = await self._drive(steps)
            return self._session

    async def session_id(self) -> SessionId:
        return (await self.session()).session_id

    async def close(self) -> None:
        """End the session that this client opened, and the connection. Raises no QmkError."""
        if self._closed:
            return
        try:
            if self._session is not None and not self._keep_session:
                # Also when leaving because of a cancellation: the jobs should not go on.
                with trio.CancelScope(shield=True), contextlib.suppress(QmkError):
                    await self.close_session(timeout=ops.CLOSE_S)
        finally:
            self._closed = True
            self._link.drop("The client was closed.")

    def remote_facts(self) -> Facts | None:
        """What the connection to another host agreed; None without one, or on this host."""
        stream = self._link.stream
        return None if stream is None else stream.facts()

    async def close_session(self, timeout: float | None = None) -> SessionClosed:
        """End the session: its jobs are cancelled, all it holds is released."""
        call = CloseSession(session_id=await self.session_id())
        closed = reply_of(await self._one(call, timeout), SessionClosed)
        self._session = None
        return closed

    async def call(self, call: Syscall, timeout: float | None = None) -> Reply:
        """Make any call; raises the refusal, as the exception of its name."""
        return reply_of(await self._one(call, timeout), Reply)

    async def call_all(
        self, calls: Sequence[Syscall], timeout: float | None = None
    ) -> list[Reply | KernelError]:
        """Make many calls at once (pipelined); each is answered by a reply or a refusal."""
        steps = perform(calls, trio.current_time, self._deadline(timeout))
        return [each.answer for each in await self._drive(steps)]

    async def submit(
        self, program: Program, timeout: float | None = None, **policy: Unpack[PolicyOptions]
    ) -> AsyncJob:
        """Submit a program (path, text, dict or `Graph`) as a job."""
        return (await self.submit_all([program], timeout, **policy))[0]

    async def submit_all(
        self,
        programs: Iterable[Program],
        timeout: float | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> list[AsyncJob]:
        """Submit many programs under one policy, pipelined."""
        calls = ops.submissions(await self.session_id(), programs, policy)
        steps = ops.submit(calls, trio.current_time, self._deadline(timeout))
        return [AsyncJob(self, each.job_id, each) for each in await self._drive(steps)]

    async def plan(
        self, program: Program, timeout: float | None = None, **policy: Unpack[PolicyOptions]
    ) -> Planned:
        """Say how a program would be run and what that should cost; nothing is run."""
        session, deadline = await self.session_id(), self._deadline(timeout)
        return await self._drive(ops.plan(session, program, policy, trio.current_time, deadline))

    async def run(
        self,
        program: Program,
        timeout: float | None = None,
        progress: Progress | None = None,
        samples: bool = False,
        **policy: Unpack[PolicyOptions],
    ) -> Result:
        """Submit, wait, and return the result. timeout: seconds for all of it; None for no limit.

        A job that is not done in time is cancelled; so is one whose caller is.
        """
        with self.span("run"):
            until = None if timeout is None else trio.current_time() + timeout
            job = await self.submit(program, timeout, **policy)
            left = None if until is None else max(0.0, until - trio.current_time())
            try:
                return await job.wait(timeout=left, progress=progress, samples=samples)
            except (TimeoutError, trio.Cancelled):
                with trio.CancelScope(shield=True), contextlib.suppress(QmkError):
                    await job.cancel(timeout=ops.CLOSE_S)
                raise

    def span(self, name: str) -> contextlib.AbstractContextManager[None]:
        """As `Client.span`."""
        return contextlib.nullcontext() if self._spans is None else self._spans.operation(name)

    def job(self, job_id: str) -> AsyncJob:
        """A job of this session, by its id."""
        return AsyncJob(self, JobId(job_id), None)

    async def restore(self, checkpoint_id: str, timeout: float | None = None) -> AsyncJob:
        """As `Client.restore`."""
        key = CheckpointId(checkpoint_id)
        call = Restore(session_id=await self.session_id(), checkpoint_id=key)
        return self.job(reply_of(await self._one(call, timeout), Restored).job_id)

    async def checkpoints(self, timeout: float | None = None) -> list[CheckpointKept]:
        """As `Client.checkpoints`."""
        call = ListCheckpoints(session_id=await self.session_id())
        return reply_of(await self._one(call, timeout), CheckpointsListed).checkpoints

    async def drop_checkpoint(self, checkpoint_id: str, timeout: float | None = None) -> None:
        """As `Client.drop_checkpoint`."""
        key = CheckpointId(checkpoint_id)
        call = DropCheckpoint(session_id=await self.session_id(), checkpoint_id=key)
        reply_of(await self._one(call, timeout), CheckpointDropped)

    async def subscribe(self, tell: Progress, job_id: str | None = None) -> None:
        """Hear of a job, or of all jobs of the session, whenever a task waits for anything.

        A subscription ends with the connection.
        """
        key = None if job_id is None else JobId(job_id)
        self._listeners.add(key, tell)
        call = Subscribe(session_id=await self.session_id(), job_id=key)
        reply_of(await self._one(call, None), Subscribed)

    async def alloc(
        self, n: int, profile: str, *, module: str | None = None, timeout: float | None = None
    ) -> list[HandleId]:
        """Hold `n` logical qubits until they are released; programs name them by these handles."""
        call = Alloc(session_id=await self.session_id(), n=n, profile=profile, module=module)
        return reply_of(await self._one(call, timeout), Allocated).handles

    async def release(self, *handles: str, timeout: float | None = None) -> None:
        """Give logical qubits back. Raises Busy while a job that is not over names one."""
        call = Release(
            session_id=await self.session_id(), handles=[HandleId(name) for name in handles]
        )
        reply_of(await self._one(call, timeout), Released)

    async def open_chan(
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
        call = OpenChan(session_id=await self.session_id(), options=options, **ends)
        return reply_of(await self._one(call, timeout), ChanOpened)

    async def chan_status(self, channel_id: str, timeout: float | None = None) -> ChanState:
        """How a channel of this session is now."""
        call = ChanStatus(session_id=await self.session_id(), channel_id=ChannelId(channel_id))
        return reply_of(await self._one(call, timeout), ChanState)

    async def close_chan(self, channel_id: str, timeout: float | None = None) -> None:
        """Close a channel. Raises Busy while a job that is not over names it."""
        call = CloseChan(session_id=await self.session_id(), channel_id=ChannelId(channel_id))
        reply_of(await self._one(call, timeout), ChanClosed)

    async def telemetry(
        self, job_id: str | None = None, *, machine: bool = False, list_jobs: bool = False
    ) -> Telemetry:
        """What the session uses, and what else is asked for."""
        key = None if job_id is None else JobId(job_id)
        call = GetTelemetry(
            session_id=await self.session_id(), job_id=key, machine=machine, list_jobs=list_jobs
        )
        return reply_of(await self._one(call, None), Telemetry)

    async def inject_fault(
        self,
        kind: FaultKind,
        *what: str,
        strength: float | None = None,
        after_cycles: int = 0,
        for_cycles: int | None = None,
    ) -> FaultInjected:
        """Behave as if a part of the machine failed. Needs CAP_ADMIN."""
        call = InjectFault(
            session_id=await self.session_id(),
            kind=kind,
            what=list(what),
            strength=strength,
            after_cycles=after_cycles,
            for_cycles=for_cycles,
        )
        return reply_of(await self._one(call, None), FaultInjected)

    async def clear_fault(self, fault_id: str) -> FaultCleared:
        """End an injected fault. Needs CAP_ADMIN."""
        call = ClearFault(session_id=await self.session_id(), fault_id=fault_id)
        return reply_of(await self._one(call, None), FaultCleared)

    async def discover(self) -> OpenrpcDocument:
        """The kernel's own description of its calls. Needs no session."""
        return reply_of(await self._one(Discover(), None), OpenrpcDocument)

    async def _one(self, call: Syscall, timeout: float | None) -> Settled:
        return await self._drive(one(call, trio.current_time, self._deadline(timeout)))

    async def _fetch(self, status: JobStatus) -> Packed:
        steps = ops.fetch(await self.session_id(), status, trio.current_time, self._deadline(None))
        return await self._drive(steps)

    async def _fetch_decoder_data(self, status: JobStatus) -> DecoderData:
        session, deadline = await self.session_id(), self._deadline(None)
        return await self._drive(
            ops.fetch_decoder_data(session, status, trio.current_time, deadline)
        )

    def _deadline(self, timeout: float | None) -> float | None:
        seconds = self.settings.timeout if timeout is None else timeout
        return None if seconds is None else trio.current_time() + seconds

    async def _drive(self, steps: Steps[T]) -> T:
        """Perform an operation's steps; returns what it returns."""
        try:
            step = next(steps)
            while True:
                outcomes: list[Outcome] = []
                match step:
                    case Exchange():
                        outcomes = await self._exchange(step)
                    case Pause(seconds=seconds):
                        await trio.sleep(seconds)
                step = steps.send(outcomes)
        except StopIteration as finished:
            value: T = finished.value
            return value

    async def _exchange(self, step: Exchange) -> list[Outcome]:
        assert not self._closed, "the client is open"
        numbers = self._link.post(step.calls)
        if isinstance(numbers, Lost):
            await trio.lowlevel.checkpoint()
            return [numbers] * len(step.calls)
        try:
            with trio.move_on_at(math.inf if step.deadline is None else step.deadline):
                self._link.flush()
                while not self._link.done(numbers):
                    if self._reading:
                        await self._waiting.park()
                    else:
                        await self._read_for_all()
        except BaseException:
            self._link.abandon(numbers)
            raise
        return self._link.collect(numbers)

    async def _read_for_all(self) -> None:
        """Wait for the socket once, take in what is there, and let everyone look for theirs."""
        assert self._link.socket is not None, "calls without an outcome have a connection"
        self._reading = True
        try:
            if self._link.unsent:
                await _wait_either(self._link.socket)
            else:
                await trio.lowlevel.wait_readable(self._link.socket)
            self._link.flush()
            self._link.receive()
        finally:
            self._reading = False
            self._waiting.unpark_all()


async def _wait_either(socket: stdlib_socket.socket) -> None:
    """Wait until the socket can be read or written."""

    async def wait_readable() -> None:
        await trio.lowlevel.wait_readable(socket)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_readable)
        await trio.lowlevel.wait_writable(socket)
        nursery.cancel_scope.cancel()


class AsyncJob:
    """A job of a client's session; as `sync.Job`, awaited."""

    def __init__(self, client: AsyncClient, job_id: JobId, submitted: Submitted | None) -> None:
        self.client = client
        self.job_id = job_id
        self.submitted = submitted

    def __repr__(self) -> str:
        return f"AsyncJob({self.job_id})"

    @property
    def warnings(self) -> list[Finding]:
        """What the verifier thought worth knowing when this client submitted the job."""
        return [] if self.submitted is None else self.submitted.warnings

    async def status(self, timeout: float | None = None) -> JobStatus:
        """Where the job stands, now."""
        call = Status(session_id=await self.client.session_id(), job_id=self.job_id)
        return reply_of(await self.client._one(call, timeout), JobStatus)

    async def cancel(self, timeout: float | None = None) -> JobStatus:
        """Stop the job; returns when it is stopped. Raises AlreadyCompleted if it was over."""
        call = Cancel(session_id=await self.client.session_id(), job_id=self.job_id)
        return reply_of(await self.client._one(call, timeout), JobStatus)

    async def checkpoint(
        self, *, how: Literal["forward", "rollback"] = "forward", timeout: float | None = None
    ) -> Checkpointed:
        """As `Job.checkpoint`."""
        session_id = await self.client.session_id()
        call = Checkpoint(session_id=session_id, job_id=self.job_id, how=how)
        return reply_of(await self.client._one(call, timeout), Checkpointed)

    async def migrate(self, target: str, timeout: float | None = None) -> Migrated:
        """As `Job.migrate`."""
        session_id = await self.client.session_id()
        call = Migrate(session_id=session_id, job_id=self.job_id, target=target)
        return reply_of(await self.client._one(call, timeout), Migrated)

    async def wait_done(
        self, timeout: float | None = None, progress: Progress | None = None
    ) -> JobStatus:
        """Wait until the job is over, however it ended. Raises DeadlinePassed; the job goes on."""
        deadline = None if timeout is None else trio.current_time() + timeout
        session_id = await self.client.session_id()
        with self.client._listeners.telling(self.job_id, progress):
            return await self.client._drive(
                ops.wait(
                    session_id,
                    self.job_id,
                    trio.current_time,
                    deadline,
                    progress=progress is not None,
                )
            )

    async def wait(
        self,
        timeout: float | None = None,
        progress: Progress | None = None,
        samples: bool = False,
        decoder_data: bool = False,
    ) -> Result:
        """Wait for the result. Raises JobFailed, JobCancelled, DeadlinePassed.

        progress: called with each `JobEvent`. samples, decoder_data: fetch them now; a result
        without them has counts only.
        """
        from runtime.client.results import no_longer

        status = await self.wait_done(timeout, progress)
        ops.result_of(status, no_longer, no_longer)
        packed = await self.client._fetch(status) if samples else None
        data = await self.client._fetch_decoder_data(status) if decoder_data else None
        return ops.result_of(
            status,
            lambda: no_longer() if packed is None else packed,
            lambda: no_longer() if data is None else data,
        )
