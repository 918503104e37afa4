"""What a client does, without doing it: each operation is a generator of steps.

A step is "make these calls and tell me what came of each" or "pause". The sync and the trio client
perform the same steps, so deadlines, resending and the shape of every operation are written once.

What is sent again: a call refused with an error that is marked retryable, and, after a lost
connection, a call that may be performed twice without harm. A submission always bears an
idempotency key, so it is one of those.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from msgspec import Struct

from runtime.client.errors import DeadlinePassed, Unreachable, refused
from runtime.client.protocol import Settled
from syscalls.capability import Delegate
from syscalls.channel import OpenChan
from syscalls.checkpoint import Checkpoint, Migrate, Replay, Restore
from syscalls.errors import Busy
from syscalls.events import Subscribe
from syscalls.fault import InjectFault
from syscalls.job import Submit
from syscalls.qubit import Alloc, Release
from syscalls.syscall import Reply, Syscall

PAUSE_S_MIN = 0.02
PAUSE_S_MAX = 1.0
ATTEMPTS_MAX = 12  # of a call that has no deadline

assert PAUSE_S_MIN * 2**ATTEMPTS_MAX > PAUSE_S_MAX, "the last pauses are the longest"

# Performing one of these twice leaves two of what it makes.
NOT_RESENT: tuple[type[Syscall], ...] = (
    Alloc,
    Release,
    OpenChan,
    Delegate,
    Checkpoint,
    Migrate,
    Replay,
    Restore,
    InjectFault,
)


class Lost(Struct, frozen=True):
    """The call may or may not have been performed: its answer did not come.

    late: the deadline passed; otherwise the connection ended. sent: the call may have arrived.
    final: connecting again would not help.
    """

    why: str
    late: bool = False
    sent: bool = True
    final: bool = False


Outcome = Settled | Lost


class Exchange(Struct, frozen=True):
    """Make these calls at once and wait for all answers, at most until `deadline` on the clock."""

    calls: Sequence[Syscall]
    deadline: float | None


class Pause(Struct, frozen=True):
    seconds: float


T = TypeVar("T")
R = TypeVar("R", bound=Reply)
Steps = Generator[Exchange | Pause, list[Outcome], T]
Clock = Callable[[], float]


def may_resend(call: Syscall) -> bool:
    """Whether performing the call twice does no harm."""
    if isinstance(call, Submit):
        return call.policy.idempotency_key is not None
    return not isinstance(call, NOT_RESENT)


def perform(calls: Sequence[Syscall], clock: Clock, deadline: float | None) -> Steps[list[Settled]]:
    """Make calls until each is answered for good; returns the answers in the order of the calls.

    Raises Unreachable or DeadlinePassed where one cannot be had.
    """
    outcomes: list[Outcome] = [Lost("not sent", sent=False)] * len(calls)
    asked = missing = list(range(len(calls)))
    attempt = 0
    while True:
        answers = yield Exchange([calls[index] for index in asked], deadline)
        for index, answer in zip(asked, answers, strict=True):
            outcomes[index] = answer
        before = len(missing)
        missing = [index for index, call in enumerate(calls) if _again(call, outcomes[index])]
        if not missing:
            break
        # While some get through, the others need not wait longer and longer.
        attempt = attempt + 1 if len(missing) >= before else 1
        pause = max(_pause_s(outcomes[index], attempt) for index in missing)
        late = deadline is not None and clock() + pause >= deadline
        if late or (deadline is None and attempt >= ATTEMPTS_MAX):
            break
        asked = missing
        if any(isinstance(outcomes[index], Lost) for index in missing):
            # A subscription ends with its connection, so it is renewed with the rest.
            renewed = {index for index, call in enumerate(calls) if isinstance(call, Subscribe)}
            asked = sorted(renewed.union(missing))
        yield Pause(pause)
    return [_answered(outcome) for outcome in outcomes]


def _again(call: Syscall, outcome: Outcome) -> bool:
    """Whether asking again may help. Raises where the answer is lost and asking might do harm."""
    if isinstance(outcome, Settled):
        return outcome.error is not None and outcome.error.retryable
    if outcome.late:
        raise DeadlinePassed(outcome.why)
    if outcome.final or (outcome.sent and not may_resend(call)):
        raise Unreachable(outcome.why)
    return True


def _pause_s(outcome: Outcome, attempt: int) -> float:
    wished = 0.0
    if isinstance(outcome, Settled) and isinstance(outcome.error, Busy):
        wished = outcome.error.retry_after_ms / 1000
    return max(wished, min(PAUSE_S_MAX, PAUSE_S_MIN * 2.0 ** min(attempt, ATTEMPTS_MAX)))


def _answered(outcome: Outcome) -> Settled:
    if isinstance(outcome, Lost):
        raise Unreachable(outcome.why)
    return outcome


def one(call: Syscall, clock: Clock, deadline: float | None) -> Steps[Settled]:
    """Make one call; raises what the kernel refused it with."""
    (settled,) = yield from perform([call], clock, deadline)
    if settled.error is not None:
        raise refused(settled.error)
    return settled


def reply_of(settled: Settled, kind: type[R]) -> R:
    """The reply, of the type that the call's declaration promises."""
    assert isinstance(settled.reply, kind), f"{settled.call.METHOD} answers {kind.__name__}"
    return settled.reply
