"""Every operation of a client as steps, and what the sync and the trio client have in common.

Nothing here waits or opens anything: the clients perform the steps (`exchange.py`). Results are
read in `results.py`.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

from msgspec import Raw, Struct

from runtime.client.address import Address
from runtime.client.errors import DeadlinePassed, ended, refused
from runtime.client.exchange import Clock, Steps, one, perform, reply_of
from runtime.client.programs import Program, graph_json
from syscalls.decoding import SHOT_COLUMNS_BYTES
from syscalls.errors import ResultsTooLarge, Timeout
from syscalls.events import JobEvent, Subscribe
from syscalls.ids import JobId, SessionId, TenantId
from syscalls.job import (
    CryptoMode,
    JobState,
    JobStatus,
    Noise,
    PlanJob,
    Planned,
    Policy,
    Submit,
    Submitted,
    Wait,
)
from syscalls.results import EVENT_BITS_MAX, Results, ResultsReply
from syscalls.rights import Right
from syscalls.session import NegotiateCaps, Session

if TYPE_CHECKING:
    from runtime.client.results import DecoderData, Packed, Result

TIMEOUT_S = 30.0  # of a call, its resending included, unless the caller says otherwise
INLINE_BYTES_MAX = 64 * 1024  # packed rows up to this size come inside the answer
WAIT_GRACE_S = 2.0  # how much longer than a bounded wait its answer may take
CLOSE_S = 5.0  # how long leaving a `with` block may take
KEY_BYTES = 16  # random bytes behind an idempotency key

PROGRAM_RIGHTS: tuple[Right, ...] = (Right.ALLOC, Right.LINK, Right.TELEPORT, Right.MAGIC)
"""What programs may need; asked for unless the caller names other rights."""

Progress = Callable[[JobEvent], None]


class PolicyOptions(TypedDict, total=False):
    """How to run a program; `syscalls.job.Policy` says what each means and by default is."""

    shots: int
    seed: int | None
    priority: int
    deadline_epochs: int | None
    timeout_ms: int | None
    noise: Noise | str | None
    counts: bool
    exact: bool
    decoder_data: bool
    raise_distance: bool
    debug: bool
    crypto_mode: CryptoMode | None
    idempotency_key: str | None


def policy_of(options: PolicyOptions) -> Policy:
    """The policy, always with an idempotency key, so that a submission may be sent again."""
    fields = dict(options)
    noise = fields.pop("noise", None)
    key = fields.pop("idempotency_key", None) or secrets.token_hex(KEY_BYTES)
    return Policy(
        **fields,  # type: ignore[arg-type]
        noise=Noise.PROFILE if noise is None else Noise(str(noise)),
        idempotency_key=str(key),
    )


class Listeners:
    """Who wants to hear of which job."""

    def __init__(self) -> None:
        self._by_job: dict[JobId | None, list[Progress]] = {}

    def add(self, job_id: JobId | None, tell: Progress) -> None:
        """job_id: None hears of all jobs."""
        self._by_job.setdefault(job_id, []).append(tell)

    def remove(self, job_id: JobId | None, tell: Progress) -> None:
        self._by_job[job_id].remove(tell)
        if not self._by_job[job_id]:
            del self._by_job[job_id]

    @contextlib.contextmanager
    def telling(self, job_id: JobId, tell: Progress | None) -> Iterator[None]:
        """Tell of a job for as long as the block lasts."""
        if tell is None:
            yield
            return
        self.add(job_id, tell)
        try:
            yield
        finally:
            self.remove(job_id, tell)

    def hear(self, event: JobEvent) -> None:
        for key in (event.job_id, None):
            for tell in list(self._by_job.get(key, ())):
                tell(event)


class Settings(Struct, frozen=True, kw_only=True):
    """What a client was made with."""

    address: Address
    timeout: float | None
    rights: Sequence[str]
    tenant_id: str | None


def negotiate(settings: Settings, clock: Clock, deadline: float | None) -> Steps[Session]:
    """Open a session."""
    tenant = None if settings.tenant_id is None else TenantId(settings.tenant_id)
    call = NegotiateCaps(requested=[str(right) for right in settings.rights], tenant_id=tenant)
    settled = yield from one(call, clock, deadline)
    return reply_of(settled, Session)


def submissions(
    session: SessionId, programs: Iterable[Program], options: PolicyOptions
) -> list[Submit]:
    """The calls that submit these programs under one policy, each with a key of its own."""
    return [
        Submit(session_id=session, graph=Raw(graph_json(program)), policy=policy_of(options))
        for program in programs
    ]


def plan(
    session: SessionId,
    program: Program,
    options: PolicyOptions,
    clock: Clock,
    deadline: float | None,
) -> Steps[Planned]:
    """Ask how a program would be run."""
    call = PlanJob(session_id=session, graph=Raw(graph_json(program)), policy=policy_of(options))
    settled = yield from one(call, clock, deadline)
    return reply_of(settled, Planned)


def submit(calls: Sequence[Submit], clock: Clock, deadline: float | None) -> Steps[list[Submitted]]:
    """Submit, pipelined; raises the first refusal. What was accepted beside it stays accepted."""
    settled = yield from perform(calls, clock, deadline)
    for each in settled:
        if each.error is not None:
            raise refused(each.error)
    return [reply_of(each, Submitted) for each in settled]


def wait(
    session: SessionId, job_id: JobId, clock: Clock, deadline: float | None, *, progress: bool
) -> Steps[JobStatus]:
    """Wait until the job is over, however it ended. Raises DeadlinePassed; the job then goes on."""
    timeout_ms = grace = None
    if deadline is not None:
        timeout_ms = max(1, round(1000 * (deadline - clock())))
        grace = deadline + WAIT_GRACE_S
    subscribed = [Subscribe(session_id=session, job_id=job_id)] if progress else []
    waiting = Wait(session_id=session, job_id=job_id, timeout_ms=timeout_ms)
    settled = yield from perform([*subscribed, waiting], clock, grace)
    for each in settled:
        if isinstance(each.error, Timeout):
            raise DeadlinePassed(f"Job {job_id} is not done yet; it goes on running.")
        if each.error is not None:
            raise refused(each.error)
    return reply_of(settled[-1], JobStatus)


def fetch(
    session: SessionId, status: JobStatus, clock: Clock, deadline: float | None
) -> Steps[Packed]:
    """Fetch and check the packed rows: inside the answer if few, else as a file descriptor."""
    from runtime.client.results import read_packed

    if _bytes_at_most(status) <= INLINE_BYTES_MAX:
        call = Results(session_id=session, job_id=status.job_id, transport="inline")
        (settled,) = yield from perform([call], clock, deadline)
        if settled.error is None:
            return read_packed(reply_of(settled, ResultsReply), settled.fd)
        if not isinstance(settled.error, ResultsTooLarge):
            raise refused(settled.error)
    call = Results(session_id=session, job_id=status.job_id, transport="fd")
    settled = yield from one(call, clock, deadline)
    return read_packed(reply_of(settled, ResultsReply), settled.fd)


def fetch_decoder_data(
    session: SessionId, status: JobStatus, clock: Clock, deadline: float | None
) -> Steps[DecoderData]:
    """Fetch and check what decoders knew of each shot, likewise."""
    from runtime.client.results import read_decoder_data

    few = status.progress.shots_total * SHOT_COLUMNS_BYTES <= INLINE_BYTES_MAX
    way: Literal["inline", "fd"] = "inline" if few else "fd"
    call = Results(session_id=session, job_id=status.job_id, format="decoder", transport=way)
    settled = yield from one(call, clock, deadline)
    return read_decoder_data(reply_of(settled, ResultsReply), settled.fd)


def _bytes_at_most(status: JobStatus) -> float:
    """An upper bound on the size of the packed rows, from the length of the outcomes counted."""
    if not status.counts:
        return float("inf")
    events = len(next(iter(status.counts)))
    return status.progress.shots_total * ((EVENT_BITS_MAX * events + 7) // 8 + (events + 7) // 8)


def result_of(
    status: JobStatus, load: Callable[[], Packed], load_data: Callable[[], DecoderData]
) -> Result:
    """The result of a job that is over; raises JobFailed or JobCancelled where there is none."""
    from runtime.client.results import Result

    if status.state is not JobState.COMPLETED:
        raise ended(status)
    return Result(status, load, load_data)
