"""The exit statuses of `qmkctl`, in one table, and which failure gives which."""

from __future__ import annotations

from enum import IntEnum

from runtime.client import errors
from syscalls import errors as kernel


class Exit(IntEnum):
    """What `qmkctl` ends with; a script may rely on these numbers."""

    OK = 0
    JOB_FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    TIMEOUT = 5
    INVALID_PROGRAM = 6
    DAMAGED = 7
    UNHEALTHY = 8
    UNVERIFIED = 9
    BUG = 70
    INTERRUPTED = 130


MEANING: dict[Exit, str] = {
    Exit.OK: "done (also when the reader of the output went away)",
    Exit.JOB_FAILED: "the job failed, or was cancelled",
    Exit.USAGE: "wrong usage, or a file that cannot be read or written",
    Exit.REFUSED: "refused by the kernel",
    Exit.UNREACHABLE: "the daemon cannot be reached",
    Exit.TIMEOUT: "not done in time",
    Exit.INVALID_PROGRAM: "the program is invalid",
    Exit.DAMAGED: "the database or the audit chain is damaged",
    Exit.UNHEALTHY: "the installation has a fault",
    Exit.UNVERIFIED: "a signature or a proof does not hold",
    Exit.BUG: "a fault of qmkctl itself",
    Exit.INTERRUPTED: "interrupted",
}

assert set(MEANING) == set(Exit), "every status is explained"


class Trouble(Exception):
    """A failure of qmkctl's own finding: a sentence for the user, and the status to end with."""

    def __init__(self, status: Exit, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def status_of(error: Exception) -> Exit:
    """The exit status for a failure that a person should read about."""
    match error:
        case Trouble(status=status):
            return status
        case errors.Refused(error=kernel.Timeout()) | errors.DeadlinePassed():
            return Exit.TIMEOUT
        case errors.JobEnded():
            return Exit.JOB_FAILED
        case errors.Refused(error=kernel.InvalidGraph()):
            return Exit.INVALID_PROGRAM
        case errors.Refused():
            return Exit.REFUSED
        case errors.Unreachable() | errors.ResultsCorrupt():
            return Exit.UNREACHABLE
        case errors.BadProgram() if isinstance(error.__cause__, OSError):
            return Exit.USAGE
        case errors.BadProgram():
            return Exit.INVALID_PROGRAM
        case errors.QmkError() | OSError():
            return Exit.USAGE
    return Exit.BUG


def epilog() -> str:
    """The table for `--help`."""
    rows = "\n".join(f"  {status.value:>3}  {text}" for status, text in MEANING.items())
    return f"exit status:\n{rows}"
