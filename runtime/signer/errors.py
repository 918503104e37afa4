"""Every reason for which the signer does not do what it was asked, one type per reason.

They are exceptions, on the client's side as well: `client.py` raises what the service told. The
number and the name of each never change. `retryable` says whether the very same request may succeed
later without its caller changing anything; a queue of things to be signed waits on those, and only
on those.
"""

from __future__ import annotations

import re
from typing import ClassVar

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class SignerError(Exception):
    """Anything that keeps the signer from what was asked. `str()` is a sentence for a person."""

    CODE: ClassVar[int] = -31000
    NAME: ClassVar[str] = "SIGNER_ERROR"
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        cls.NAME = _HUMP.sub("_", cls.__name__).upper()


# --- what a caller should change ----------------------------------------------------------------


class BadRequest(SignerError):
    """The request is malformed, too large, or asks for what makes no sense."""

    CODE: ClassVar[int] = -31001


class NotAllowed(SignerError):
    """The policy does not let this user do that with this key."""

    CODE: ClassVar[int] = -31002


class UnknownKey(SignerError):
    """No key, or no version of it, has this name."""

    CODE: ClassVar[int] = -31003


class KeyExists(SignerError):
    """A key of this name is there already."""

    CODE: ClassVar[int] = -31004


class KeyNotActive(SignerError):
    """The key signs no more: it was rotated or revoked."""

    CODE: ClassVar[int] = -31005


class UnknownAlgorithm(SignerError):
    """No algorithm has this name, or it does not do what was asked."""

    CODE: ClassVar[int] = -31006


class NotBackedUp(SignerError):
    """The backup does not fit: another token's, of another passphrase, or changed."""

    CODE: ClassVar[int] = -31007


class Unopened(SignerError):
    """What is sealed does not open with this key: it was changed, or is for another."""

    CODE: ClassVar[int] = -31008


# --- what an operator should change -------------------------------------------------------------


class ProviderMissing(SignerError):
    """The algorithm is known, but no library here does it."""

    CODE: ClassVar[int] = -31020


class TokenAbsent(SignerError):
    """No token has the label, or its PKCS#11 module does not load."""

    CODE: ClassVar[int] = -31021
    retryable: ClassVar[bool] = True


class PinWrong(SignerError):
    """The token refused the PIN. It is not tried again, so that the token does not lock it."""

    CODE: ClassVar[int] = -31022
    retryable: ClassVar[bool] = True


class TokenFailed(SignerError):
    """The token did not do what it was asked."""

    CODE: ClassVar[int] = -31023
    retryable: ClassVar[bool] = True


class TokenLeaks(SignerError):
    """The token gave out a key that it had marked as one that never leaves it."""

    CODE: ClassVar[int] = -31024


class StorageFailed(SignerError):
    """A record could not be written, so nothing was signed: the disk is full, or read-only."""

    CODE: ClassVar[int] = -31025
    retryable: ClassVar[bool] = True


class RecordsDamaged(SignerError):
    """A record or the audit log is not what was written."""

    CODE: ClassVar[int] = -31026


# --- the way there ------------------------------------------------------------------------------


class SignerUnreachable(SignerError, ConnectionError):
    """No signer answers at the socket, or it went away before it answered."""

    CODE: ClassVar[int] = -31040
    retryable: ClassVar[bool] = True


class SignerSlow(SignerError, TimeoutError):
    """The signer did not answer in time. It may have signed; its audit log says so."""

    CODE: ClassVar[int] = -31041
    retryable: ClassVar[bool] = True


class SignerBusy(SignerError):
    """Too many requests are waiting."""

    CODE: ClassVar[int] = -31042
    retryable: ClassVar[bool] = True


class SignerFault(SignerError):
    """The signer failed in a way that it does not know; its log has more."""

    CODE: ClassVar[int] = -31043
    retryable: ClassVar[bool] = True


ERRORS: dict[int, type[SignerError]] = {
    each.CODE: each
    for each in (
        BadRequest,
        NotAllowed,
        UnknownKey,
        KeyExists,
        KeyNotActive,
        UnknownAlgorithm,
        NotBackedUp,
        Unopened,
        ProviderMissing,
        TokenAbsent,
        PinWrong,
        TokenFailed,
        TokenLeaks,
        StorageFailed,
        RecordsDamaged,
        SignerUnreachable,
        SignerSlow,
        SignerBusy,
        SignerFault,
    )
}

assert {each.CODE for each in SignerError.__subclasses__()} == set(ERRORS), "each has its number"
