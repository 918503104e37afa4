"""The tables of the ABI: every call, every notification, every error.

Loading this loads every type of the package, and nothing else: the generated documents in
`schemas/` are read by whoever serves them. Generators in `syscalls.derive` walk these tables.
"""

from syscalls.capability import Delegate, Revoke
from syscalls.channel import ChanStatus, CloseChan, OpenChan
from syscalls.checkpoint import (
    Checkpoint,
    DropCheckpoint,
    ListCheckpoints,
    Migrate,
    Replay,
    Restore,
)
from syscalls.discover import Discover
from syscalls.errors import (
    ERRORS,
    InsufficientCaps,
    InternalError,
    InvalidRequest,
    MethodNotFound,
    NotAvailable,
    ParseError,
    ResourceExhausted,
    Timeout,
    WorkerLost,
)
from syscalls.events import JobEvent, Subscribe
from syscalls.fault import ClearFault, InjectFault
from syscalls.job import Cancel, PlanJob, Status, Submit, Wait
from syscalls.qubit import Alloc, Release
from syscalls.results import Results
from syscalls.session import CloseSession, NegotiateCaps
from syscalls.syscall import SessionCall, Syscall
from syscalls.telemetry import GetMapping, GetTelemetry

CALLS: tuple[type[Syscall], ...] = (
    Discover,
    NegotiateCaps,
    CloseSession,
    Submit,
    PlanJob,
    Status,
    Wait,
    Cancel,
    Results,
    Subscribe,
    Checkpoint,
    Restore,
    ListCheckpoints,
    DropCheckpoint,
    Migrate,
    Replay,
    Alloc,
    Release,
    OpenChan,
    CloseChan,
    ChanStatus,
    Delegate,
    Revoke,
    GetMapping,
    GetTelemetry,
    InjectFault,
    ClearFault,
)
METHODS: dict[str, type[Syscall]] = {call.METHOD: call for call in CALLS}
NOTIFICATIONS: dict[str, type[JobEvent]] = {JobEvent.METHOD: JobEvent}
WIRE_ERRORS = {ParseError, InvalidRequest, MethodNotFound}  # refused before a call is known
# What a FAILED job's `error` may hold.
JOB_FAILURES = (
    NotAvailable,
    InsufficientCaps,
    ResourceExhausted,
    Timeout,
    WorkerLost,
    InternalError,
)
SESSIONLESS = (Discover, NegotiateCaps)

assert len(METHODS) == len(CALLS), "method names are unique"
assert not METHODS.keys() & NOTIFICATIONS.keys(), "a call and a notification never share a name"
assert all(error in ERRORS for call in CALLS for error in call.ERRORS), "every error is listed"
assert all((not issubclass(call, SessionCall)) == (call in SESSIONLESS) for call in CALLS), (
    "every call but the first two goes through a session"
)
assert WIRE_ERRORS | set(JOB_FAILURES) | {error for call in CALLS for error in call.ERRORS} == set(
    ERRORS
), "no error is without a use"
