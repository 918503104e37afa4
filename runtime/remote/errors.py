"""What this room raises. `str()` of each is a sentence for a person. No I/O here."""

from __future__ import annotations


class RemoteError(Exception):
    """Anything that keeps a remote connection, or its configuration, from working."""


class BadCredentials(RemoteError):
    """A folder of credentials does not hold what is needed, or holds what is of no use."""


class BadSettings(RemoteError):
    """The configuration of `qmkctl serve-remote` does not hold together."""


class HandshakeFailed(RemoteError):
    """The two ends did not agree, or one did not believe the other.

    reason: one of `tls.REASONS`, for counting.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
