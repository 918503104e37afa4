"""Every reason for which a call may be refused, one type per reason.

An error is a value that `check_*` returns, not an exception that somebody throws. Its number and
its name never change. On the wire it is

    {"code": CODE, "message": sentence(), "data": {"type": NAME, ...fields}}

The order of `ERRORS` is the order of precedence: where several reasons apply, the first is given.
Next: `syscalls.jsonrpc` encodes and decodes these, `syscalls.registry` says which call gives which.
"""

import re
from typing import Any, ClassVar

import msgspec

from syscalls.findings import FINDINGS_MAX, Finding
from syscalls.ids import JobId

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def wire_name(class_name: str) -> str:
    """The name an error type has on the wire: `InsufficientCaps` is `INSUFFICIENT_CAPS`."""
    return _HUMP.sub("_", class_name).upper()


class KernelError(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=wire_name):
    """A refusal. Encoding one with msgspec gives exactly the `data` of the JSON-RPC error.

    RETRYABLE: the very same request may succeed later without its caller changing anything.
    """

    CODE: ClassVar[int]
    NAME: ClassVar[str]
    RETRYABLE: ClassVar[bool] = False

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        cls.NAME = wire_name(cls.__name__)

    def sentence(self) -> str:
        """What happened, in plain words, from the fields."""
        raise NotImplementedError(f"{type(self).__name__} has no sentence")

    @property
    def code(self) -> int:
        """The number on the wire."""
        return self.CODE

    @property
    def name(self) -> str:
        """The name on the wire, `data.type`."""
        return self.NAME

    @property
    def message(self) -> str:
        """The sentence, as the wire names it."""
        return self.sentence()

    @property
    def retryable(self) -> bool:
        """Whether asking the same again later may help, for this very refusal."""
        return self.RETRYABLE


# --- JSON-RPC's own -----------------------------------------------------------------------------


class ParseError(KernelError, frozen=True, kw_only=True):
    """The bytes are not one JSON text in UTF-8, or exceed a bound of the framing. Mend the sender.

    Answered with id null. When a bound was exceeded the connection is closed after this answer.
    """

    CODE: ClassVar[int] = -32700
    reason: str

    def sentence(self) -> str:
        return f"Parse error: {self.reason}."


class InvalidRequest(KernelError, frozen=True, kw_only=True):
    """Valid JSON, but not a JSON-RPC 2.0 request. Mend the field at `path`."""

    CODE: ClassVar[int] = -32600
    path: str
    expected: str

    def sentence(self) -> str:
        return f"Invalid request: at {self.path}, expected {self.expected}."


class MethodNotFound(KernelError, frozen=True, kw_only=True):
    """No call has this name. `rpc.discover` lists those there are."""

    CODE: ClassVar[int] = -32601
    method: str

    def sentence(self) -> str:
        return f"Method not found: {self.method!r}; rpc.discover lists the calls there are."


class InvalidParams(KernelError, frozen=True, kw_only=True):
    """The call exists, but its parameters do not fit. Mend the field at `path`."""

    CODE: ClassVar[int] = -32602
    path: str
    expected: str

    def sentence(self) -> str:
        return f"Invalid params: at {self.path}, expected {self.expected}."


class InternalError(KernelError, frozen=True, kw_only=True):
    """The kernel failed, not the caller. Report it with `reference`, which names the log entry."""

    CODE: ClassVar[int] = -32603
    reference: str = ""

    def sentence(self) -> str:
        where = f"; the log has more under {self.reference}" if self.reference else ""
        return f"Internal error{where}."


# --- load ---------------------------------------------------------------------------------------


class Busy(KernelError, frozen=True, kw_only=True):
    """A bound on simultaneous work is reached. Ask the same again after `retry_after_ms`."""

    CODE: ClassVar[int] = -32011
    RETRYABLE: ClassVar[bool] = True
    what: str
    retry_after_ms: int

    def sentence(self) -> str:
        return f"Busy: {self.what}. Ask again in {self.retry_after_ms} ms."


# --- who is calling -----------------------------------------------------------------------------


class AuthFailed(KernelError, frozen=True, kw_only=True):
    """The session is unknown, forged, closed or another's, or the tenant is not the caller's.

    Deliberately says no more than that. Open a session with `q_negotiate_caps`.
    """

    CODE: ClassVar[int] = -32100

    def sentence(self) -> str:
        return "Authentication failed: no such session or tenant for this caller."


class TenantSuspended(KernelError, frozen=True, kw_only=True):
    """The administrator has suspended this tenant. Nothing but their help changes that."""

    CODE: ClassVar[int] = -32101

    def sentence(self) -> str:
        return "This tenant is suspended; ask the machine's administrator."


class SessionExpired(KernelError, frozen=True, kw_only=True):
    """The session was idle too long and is closed. Open another with `q_negotiate_caps`."""

    CODE: ClassVar[int] = -32102

    def sentence(self) -> str:
        return "This session has expired; negotiate a new one."


# --- what may be asked at all -------------------------------------------------------------------


class NotAvailable(KernelError, frozen=True, kw_only=True):
    """The ABI has this, this build has not. Do what `remedy` says; asking again does not help."""

    CODE: ClassVar[int] = -32010
    feature: str
    remedy: str = "`rpc.discover` marks the calls that this build answers."

    def sentence(self) -> str:
        return f"{self.feature} is not available in this build. {self.remedy}"


class InsufficientCaps(KernelError, frozen=True, kw_only=True):
    """The session lacks rights. Negotiate a session that holds `missing`, if policy grants it."""

    CODE: ClassVar[int] = -32001
    required: list[str]
    missing: list[str]

    def sentence(self) -> str:
        return f"Insufficient capabilities: missing {', '.join(self.missing)}."


# --- jobs that exist, or not --------------------------------------------------------------------


class JobNotFound(KernelError, frozen=True, kw_only=True):
    """The caller has no such job. Another tenant's job is answered in just this way."""

    CODE: ClassVar[int] = -32300

    def sentence(self) -> str:
        return "No such job."


class AccessDenied(KernelError, frozen=True, kw_only=True):
    """The job is the caller's own tenant's, but of another session. Ask through that session."""

    CODE: ClassVar[int] = -32301

    def sentence(self) -> str:
        return "This job belongs to another session of the same tenant."


class CapabilityNotFound(KernelError, frozen=True, kw_only=True):
    """No capability of this name came from this session: unknown, expired, revoked or another's."""

    CODE: ClassVar[int] = -32002

    def sentence(self) -> str:
        return "No such capability came from this session."


class FaultNotFound(KernelError, frozen=True, kw_only=True):
    """No injected fault of this name is in force or to come. `q_get_telemetry` lists them."""

    CODE: ClassVar[int] = -32003

    def sentence(self) -> str:
        return "No injected fault of this name is in force or to come."


class CheckpointNotFound(KernelError, frozen=True, kw_only=True):
    """The caller has no such checkpoint. Another tenant's is answered in just this way."""

    CODE: ClassVar[int] = -32402

    def sentence(self) -> str:
        return "No such checkpoint."


class ChannelNotFound(KernelError, frozen=True, kw_only=True):
    """The caller has no such channel. Another tenant's is answered in just this way."""

    CODE: ClassVar[int] = -32502

    def sentence(self) -> str:
        return "No such channel."


class HandleNotFound(KernelError, frozen=True, kw_only=True):
    """The session has no such logical qubit: unknown, released or another's, nobody says which."""

    CODE: ClassVar[int] = -32503

    def sentence(self) -> str:
        return "The session has no such logical qubit."


class IdempotencyConflict(KernelError, frozen=True, kw_only=True):
    """The key stands for another submission, or another session's: `job_id`. Use a new key."""

    CODE: ClassVar[int] = -32305
    job_id: JobId

    def sentence(self) -> str:
        return f"This idempotency key already stands for another submission, {self.job_id}."


class AlreadyCompleted(KernelError, frozen=True, kw_only=True):
    """The job is over, in state `state`, so it cannot be changed. Read its status instead."""

    CODE: ClassVar[int] = -32303
    state: str

    def sentence(self) -> str:
        return f"The job is already over: {self.state}."


class NotCompleted(KernelError, frozen=True, kw_only=True):
    """The job, in state `state`, has no results yet or never will. Wait for it, or read its status.

    A job that FAILED or was CANCELLED has none.
    """

    CODE: ClassVar[int] = -32304
    state: str

    def sentence(self) -> str:
        return f"The job has no results: it is {self.state}, not COMPLETED."


class ResultsDropped(KernelError, frozen=True, kw_only=True):
    """The job completed, but its results are no longer kept. Submit it again with its seed."""

    CODE: ClassVar[int] = -32307

    def sentence(self) -> str:
        return "The results of this job are no longer kept; the same seed gives the same bits."


class ResultsTooLarge(KernelError, frozen=True, kw_only=True):
    """The results do not fit the asked way of travelling. Do what `remedy` says."""

    CODE: ClassVar[int] = -32306
    size_bytes: int
    size_bytes_max: int
    remedy: str

    def sentence(self) -> str:
        return f"Results of {self.size_bytes} bytes exceed {self.size_bytes_max}. {self.remedy}"


# --- programs -----------------------------------------------------------------------------------


class InvalidGraph(KernelError, frozen=True, kw_only=True):
    """The program breaks rules, each found and located. Mend the program.

    findings: at most FINDINGS_MAX of them, errors first; findings_total: how many there are.
    """

    CODE: ClassVar[int] = -32200
    findings: list[Finding]
    findings_total: int

    def sentence(self) -> str:
        first = f" {self.findings[0].path}: {self.findings[0].message}" if self.findings else ""
        number = f"{self.findings_total} finding{'' if self.findings_total == 1 else 's'}"
        return f"Invalid graph, {number}.{first}"


class ProgramTooWide(KernelError, frozen=True, kw_only=True):
    """No engine here runs this program: it needs too many qubits together, which are alive at the
    same time and entangled with one another. `why` names what limits it.

    width, width_max: how many it needs together, and how many there may be.
    """

    CODE: ClassVar[int] = -32204
    width: int
    width_max: int
    why: str

    def sentence(self) -> str:
        return (
            f"{self.width} qubits are needed together, {self.width_max} are the most: {self.why}."
        )


class DeadlineUnreachable(KernelError, frozen=True, kw_only=True):
    """The program needs more epochs than its deadline allows. Shorten it or move the deadline."""

    CODE: ClassVar[int] = -32206
    estimated_epochs: int
    deadline_epochs: int

    def sentence(self) -> str:
        return (
            f"The job needs about {self.estimated_epochs} epochs, "
            f"its deadline allows {self.deadline_epochs}."
        )


class _Exceeded(KernelError, frozen=True, kw_only=True):
    """What both kinds of exhaustion carry. `waiting_helps`: the same request may fit later."""

    RETRYABLE: ClassVar[bool] = True
    what: str
    limit: int
    in_use: int
    asked: int
    waiting_helps: bool

    @property
    def retryable(self) -> bool:
        return self.waiting_helps

    def _sentence(self, whose: str) -> str:
        hint = " Waiting helps." if self.waiting_helps else ""
        return (
            f"{whose} {self.what}: {self.asked} asked, {self.in_use} of {self.limit} in use.{hint}"
        )


class QuotaExceeded(_Exceeded, frozen=True, kw_only=True):
    """The tenant's own quota does not cover this. If `waiting_helps`, ask again later."""

    CODE: ClassVar[int] = -32201

    def sentence(self) -> str:
        return self._sentence("Over this tenant's quota of")


class ResourceExhausted(_Exceeded, frozen=True, kw_only=True):
    """The machine does not have this much free. If `waiting_helps`, ask again later."""

    CODE: ClassVar[int] = -32202

    def sentence(self) -> str:
        return self._sentence("The machine has too little of")


# --- running ------------------------------------------------------------------------------------


class Timeout(KernelError, frozen=True, kw_only=True):
    """The allowed time passed. A wait may be asked again; a job that timed out has failed."""

    CODE: ClassVar[int] = -32302
    timeout_ms: int

    def sentence(self) -> str:
        return f"Not done within {self.timeout_ms} ms."


class WorkerLost(KernelError, frozen=True, kw_only=True):
    """The processes running the job died, `attempts` times. Submit it again, or report it."""

    CODE: ClassVar[int] = -32207
    attempts: int

    def sentence(self) -> str:
        return f"The worker running this job was lost, {self.attempts} time(s); giving up."


# --- checkpoints and channels -------------------------------------------------------------------


class NoFence(KernelError, frozen=True, kw_only=True):
    """The job has no fence ahead at which this could happen. Put a FENCE_EPOCH in the program."""

    CODE: ClassVar[int] = -32400

    def sentence(self) -> str:
        return "The job reaches no further fence."


class CheckpointIncompatible(KernelError, frozen=True, kw_only=True):
    """The checkpoint was made by something this build cannot continue. Submit the job anew."""

    CODE: ClassVar[int] = -32401
    reason: str

    def sentence(self) -> str:
        return f"The checkpoint cannot be continued here: {self.reason}."


class FidelityUnavailable(KernelError, frozen=True, kw_only=True):
    """The channel cannot be that good. Ask for at most `reachable`."""

    CODE: ClassVar[int] = -32500
    asked: float
    reachable: float

    def sentence(self) -> str:
        return f"A fidelity of {self.asked} was asked, {self.reachable} is reachable."


class NotBrokered(KernelError, frozen=True, kw_only=True):
    """A qubit that is not the session's own is out of reach, or there is none of that name.

    Between tenants there is nothing but a channel by both sides' consent: the other side delegates
    CAP_LINK, `q_open_chan` opens the channel, and `USE_CHAN` of its two ends is all that crosses.
    """

    CODE: ClassVar[int] = -32501

    def sentence(self) -> str:
        return (
            "A qubit is named that is not this session's own, and no channel that both sides "
            "brokered reaches it."
        )


class UnknownError(KernelError, frozen=True, kw_only=True):
    """A client's stand-in for an error this version does not know. No kernel gives it.

    number, kind, text, fields: the error's code, `data.type`, message and data, as received.
    """

    CODE: ClassVar[int] = 0
    number: int
    kind: str
    text: str
    fields: dict[str, Any] = {}

    @property
    def code(self) -> int:
        return self.number

    @property
    def name(self) -> str:
        return self.kind

    def sentence(self) -> str:
        return self.text


ERRORS: tuple[type[KernelError], ...] = (
    ParseError,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    Busy,
    AuthFailed,
    TenantSuspended,
    SessionExpired,
    NotAvailable,
    InsufficientCaps,
    JobNotFound,
    AccessDenied,
    CapabilityNotFound,
    FaultNotFound,
    CheckpointNotFound,
    ChannelNotFound,
    HandleNotFound,
    IdempotencyConflict,
    AlreadyCompleted,
    NotCompleted,
    ResultsDropped,
    ResultsTooLarge,
    InvalidGraph,
    ProgramTooWide,
    DeadlineUnreachable,
    QuotaExceeded,
    ResourceExhausted,
    Timeout,
    WorkerLost,
    NoFence,
    CheckpointIncompatible,
    FidelityUnavailable,
    NotBrokered,
    InternalError,
)
PRECEDENCE: dict[type[KernelError], int] = {error: rank for rank, error in enumerate(ERRORS)}

assert len({error.CODE for error in ERRORS}) == len(ERRORS), "codes are unique"
assert len({error.NAME for error in ERRORS}) == len(ERRORS), "names are unique"
assert len(PRECEDENCE) == len(ERRORS), "each error is listed once"
assert all(-32768 <= error.CODE <= -32000 for error in ERRORS), "codes lie in JSON-RPC's range"
assert FINDINGS_MAX >= 1, "an invalid graph names at least one finding"
