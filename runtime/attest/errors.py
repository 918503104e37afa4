"""What the world does to signed records, one type per reason."""

from __future__ import annotations


class AttestError(Exception):
    """Anything here that a person should read about. `str()` is a sentence."""


class NotAuthentic(AttestError):
    """What was given is not what was signed, or not by whom, or not in the form that is signed."""


class NotMet(AttestError):
    """It is authentic, and less than was asked for: another tenant's, or too weakly signed."""


class NotThere(AttestError):
    """Nothing is known by that name."""


class Forked(AttestError):
    """A log contradicts what it had said before."""


class Unavailable(AttestError):
    """The signer, the store, the daemon or a witness does not answer now; later it may."""
