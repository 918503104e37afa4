"""What a client raises. One exception type per kernel error, made from the kernel's own table.

    except errors.InvalidGraph as refusal:
        for finding in refusal.error.findings: ...

`QmkError` is the root. `Refused` is what the kernel said; the rest is what the client found out by
itself. `str()` of any of them is a sentence for a person. No I/O here.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from syscalls import errors as kernel
from syscalls.errors import ERRORS, KernelError
from syscalls.findings import Finding
from syscalls.job import JobStatus
from syscalls.jsonrpc import error_of_job

HINTS = {
    "AUTH_FAILED": "The daemon may have restarted: open a new session.",
    "CAPABILITY_NOT_FOUND": "Capabilities end with the session that they came from.",
    "JOB_NOT_FOUND": "Jobs end with their session; check the id.",
    "NOT_COMPLETED": "Wait for the job first.",
}

assert HINTS.keys() <= {error.NAME for error in ERRORS}, "hints are for errors that exist"


class QmkError(Exception):
    """Anything that keeps a client from what was asked."""


class Refused(QmkError):
    """The kernel refused a call, or a job ended with this error.

    error: the typed error, with the fields of its type.
    """

    def __init__(self, error: KernelError) -> None:
        super().__init__(error)
        self.error = error

    @property
    def code(self) -> int:
        """The number that never changes."""
        return self.error.code

    @property
    def data(self) -> dict[str, Any]:
        """The error's fields as plain values, as on the wire."""
        fields: dict[str, Any] = msgspec.to_builtins(self.error)
        return fields

    def __str__(self) -> str:
        return describe(self.error)


class Unreachable(QmkError, ConnectionError):
    """No daemon answers at the socket, or the connection was lost and could not be resumed."""


class DeadlinePassed(QmkError, TimeoutError):
    """The caller's own time limit passed before the kernel answered."""


class ResultsCorrupt(QmkError):
    """The packed results do not match their layout or their digest."""


class ResultsUnavailable(QmkError):
    """Results were asked for that were not fetched while the job's session was open."""


class PlottingUnavailable(QmkError, ImportError):
    """A picture was asked for that cannot be drawn here."""


class BadProgram(QmkError):
    """The source given is no program: a file that cannot be read, or text that is no assembly."""


class JobEnded(Refused):
    """The job is over, without a result. `status` tells all the kernel knows of it."""

    def __init__(self, status: JobStatus, error: KernelError) -> None:
        super().__init__(error)
        self.status = status


class JobFailed(JobEnded):
    """The job failed; `error` says why."""

    def __str__(self) -> str:
        return f"Job {self.status.job_id} failed. {describe(self.error)}"


class JobCancelled(JobEnded):
    """The job was cancelled before it completed."""

    def __str__(self) -> str:
        at = self.status.cancelled_at_epoch
        where = "" if at is None else f" in epoch {at}"
        return f"Job {self.status.job_id} was cancelled{where}."


def describe(error: KernelError) -> str:
    """The sentence for a person: what happened, what to do, and all findings if there are any."""
    if isinstance(error, kernel.InvalidGraph):
        return "\n".join([_headline(error), *(f"  {line(each)}" for each in error.findings)])
    hint = HINTS.get(error.name)
    return f"{error.sentence()} {hint}" if hint else error.sentence()


def line(finding: Finding) -> str:
    """One finding, as one line."""
    node = f" (node {finding.node})" if finding.node is not None else ""
    return f"{finding.severity}: {finding.path}{node}: {finding.message} [{finding.rule}]"


def _headline(error: kernel.InvalidGraph) -> str:
    total, shown = error.findings_total, len(error.findings)
    more = f", the first {shown} are" if shown < total else ""
    return f"The program breaks {total} rule{'' if total == 1 else 's'}{more}:"


def ended(status: JobStatus) -> JobEnded:
    """The exception for a job that is over and did not complete."""
    if status.error is None:
        nothing = kernel.UnknownError(number=0, kind="", text=f"The job is {status.state}.")
        return JobCancelled(status, nothing)
    return JobFailed(status, error_of_job(status.error))


def _exception_type(error: type[KernelError]) -> type[Refused]:
    bases: tuple[type, ...] = (Refused, TimeoutError) if error is kernel.Timeout else (Refused,)
    return type(error.__name__, bases, {"__doc__": inspect.getdoc(error), "__module__": __name__})


_KERNEL_ERRORS: tuple[type[KernelError], ...] = (*ERRORS, kernel.UnknownError)
BY_ERROR = {error: _exception_type(error) for error in _KERNEL_ERRORS}
_BY_NAME = {made.__name__: made for made in BY_ERROR.values()}

assert not _BY_NAME.keys() & {
    QmkError.__name__,
    *(each.__name__ for each in QmkError.__subclasses__()),
}, "what the kernel says and what the client says have different names"


def refused(error: KernelError) -> Refused:
    """The exception for a kernel error, of the type that bears its name."""
    return BY_ERROR[type(error)](error)


def __getattr__(name: str) -> type[Refused]:
    try:
        return _BY_NAME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
