"""Why the scheduler does not do what it was asked, one type per reason."""

from __future__ import annotations


class SchedulerError(Exception):
    """Anything here that a person should read about. `str()` is a sentence."""


class BadInput(SchedulerError):
    """A job, a backend or a calibration makes no sense; says which field and what it may be."""


class Unknown(SchedulerError):
    """Nothing is known by that name."""


class Damaged(SchedulerError):
    """A decision is not what was written, or the chain of decisions does not hold."""


class NotReplayed(SchedulerError):
    """A decision cannot be made again, or comes out otherwise."""


class Missing(SchedulerError):
    """A library or a service that is needed is not there; says what to install or start."""
