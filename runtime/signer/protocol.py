"""What goes over the signer's socket: JSON-RPC 2.0, one object a line. Types alone, no I/O.

Bytes are base64 in JSON. Parameters go by name, a notification is not answered, and there are no
batches: `sign_all` is one request. An error has `data.type`, its name of `errors.py`, and
`data.retryable`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct

from runtime.signer.api import (
    MESSAGE_BYTES_MAX,
    Certificate,
    CertificateRequest,
    Protection,
    PublicKey,
    Signature,
)
from runtime.signer.errors import ERRORS, BadRequest, SignerError, SignerFault

MESSAGES_MAX = 64
LINE_BYTES_MAX = 8 << 20
assert 2 * MESSAGE_BYTES_MAX < LINE_BYTES_MAX, "a message in base64 fits, with what is around it"


class Call(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's parameters. METHOD: its name; RESULT: the type of its answer."""

    METHOD: ClassVar[str]
    RESULT: ClassVar[Any]


class KeyInfo(Struct, frozen=True, kw_only=True):
    """A key, for a list of them. What is of a version is of the active one, else the newest."""

    name: str
    algorithm: str
    version: int
    state: str
    protection: Protection
    provider: str
    quantum_safe: bool
    created_at: str
    due_at: str
    versions: int


class Listing(Struct, frozen=True, kw_only=True):
    """damaged: names of keys whose records are not what was written, and why."""

    keys: list[KeyInfo]
    damaged: dict[str, str]


class Changed(Struct, frozen=True, kw_only=True):
    """statement: a DSSE envelope, as JSON."""

    key: PublicKey
    statement: Raw


class AuditPage(Struct, frozen=True, kw_only=True):
    """entries: as they stand in the log. verified: how many were checked, None if none were."""

    entries: list[Raw]
    seq: int
    head: str
    verified: int | None = None


class TokenStatus(Struct, frozen=True, kw_only=True):
    """problem: None where it is open. tried: what it keeps (None), or why it does not."""

    label: str
    module: str
    serial: str
    version: str
    problem: str | None
    tried: dict[str, str | None]


class ServiceStatus(Struct, frozen=True, kw_only=True):
    """token: None where everything is software. hardening: what the kernel was asked and did."""

    version: str
    uid: int
    providers: dict[str, str]
    missing: dict[str, str]
    token: TokenStatus | None
    hardening: dict[str, str]
    audit_seq: int
    audit_head: str
    overdue: list[str]


class BackupFile(Struct, frozen=True, kw_only=True):
    data: bytes


class RestoredKeys(Struct, frozen=True, kw_only=True):
    """resident: keys that stayed in the other token, and are to be rotated now."""

    names: list[str]
    skipped: list[str]
    resident: list[str]


class ToSign(Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    message: bytes


class SignOne(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "sign"
    RESULT: ClassVar = Signature
    key: str
    message: bytes


class SignAll(Call, frozen=True, kw_only=True):
    """All of them, or an error and none."""

    METHOD: ClassVar = "sign_all"
    RESULT: ClassVar = list[Signature]
    requests: list[ToSign]


class Public(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "public"
    RESULT: ClassVar = PublicKey
    key: str
    version: int | None = None


class Verify(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "verify"
    RESULT: ClassVar = bool
    key: str
    message: bytes
    signature: bytes
    version: int | None = None


class Seal(Call, frozen=True, kw_only=True):
    """By the key's public half, so anybody may, here or elsewhere."""

    METHOD: ClassVar = "seal"
    RESULT: ClassVar = bytes
    key: str
    plaintext: bytes
    label: bytes = b""


class Unseal(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "unseal"
    RESULT: ClassVar = bytes
    key: str
    sealed: bytes
    label: bytes = b""
    version: int | None = None


class Issue(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "issue"
    RESULT: ClassVar = Certificate
    request: CertificateRequest


class Authority(Call, frozen=True, kw_only=True):
    """The certificate of a key by itself, DER."""

    METHOD: ClassVar = "authority"
    RESULT: ClassVar = bytes
    key: str


class List(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "list"
    RESULT: ClassVar = Listing


class Create(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "create"
    RESULT: ClassVar = PublicKey
    name: str
    algorithm: str
    provider: str | None = None
    protection: Protection | None = None


class Rotate(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "rotate"
    RESULT: ClassVar = Changed
    name: str
    without_root: bool = False


class Revoke(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "revoke"
    RESULT: ClassVar = Changed
    name: str
    reason: str
    version: int | None = None
    without_root: bool = False


class Statements(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "statements"
    RESULT: ClassVar = list[Raw]
    name: str


class Rewrap(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "rewrap"
    RESULT: ClassVar = int


class TakeBackup(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "backup"
    RESULT: ClassVar = BackupFile
    passphrase: bytes


class Restore(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "restore"
    RESULT: ClassVar = RestoredKeys
    data: bytes
    passphrase: bytes


class ReadAudit(Call, frozen=True, kw_only=True):
    """since: the first number; a negative one counts from the end."""

    METHOD: ClassVar = "audit"
    RESULT: ClassVar = AuditPage
    since: int = -20
    most: int = 1000
    verify: bool = False


class Status(Call, frozen=True, kw_only=True):
    METHOD: ClassVar = "status"
    RESULT: ClassVar = ServiceStatus


class Unlock(Call, frozen=True, kw_only=True):
    """Read the PIN again and log in, although the token counts a wrong one."""

    METHOD: ClassVar = "unlock"
    RESULT: ClassVar = ServiceStatus


class Metrics(Call, frozen=True, kw_only=True):
    """In the text format of Prometheus."""

    METHOD: ClassVar = "metrics"
    RESULT: ClassVar = str


CALLS: dict[str, type[Call]] = {each.METHOD: each for each in Call.__subclasses__()}

# --- envelopes ----------------------------------------------------------------------------------

_Id = int | str | None


class Request(Struct):
    jsonrpc: str
    method: str
    params: Raw = Raw(b"{}")
    id: _Id | msgspec.UnsetType = msgspec.UNSET


class _Sent(Struct):
    id: int
    method: str
    params: Call
    jsonrpc: str = "2.0"


class Failure(Struct, omit_defaults=True):
    code: int
    message: str
    data: dict[str, Any] = {}


class Answer(Struct, omit_defaults=True):
    id: _Id
    result: Raw | msgspec.UnsetType = msgspec.UNSET
    error: Failure | msgspec.UnsetType = msgspec.UNSET
    jsonrpc: str = ""


def encode_call(number: int, call: Call) -> bytes:
    """A request, with its line end."""
    return msgspec.json.encode(_Sent(number, call.METHOD, call)) + b"\n"


def encode_answer(identity: _Id, result: object) -> bytes:
    raw = Raw(msgspec.json.encode(result))
    return msgspec.json.encode(Answer(identity, result=raw, jsonrpc="2.0")) + b"\n"


def encode_error(identity: _Id, error: SignerError) -> bytes:
    data = {"type": error.NAME, "retryable": error.retryable}
    failure = Failure(error.CODE, str(error), data)
    return msgspec.json.encode(Answer(identity, error=failure, jsonrpc="2.0")) + b"\n"


_answer = msgspec.json.Decoder(Answer).decode
MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_answer(line: bytes, number: int, call: Call) -> Any:
    """The result of a call. Raises the error that the signer told; SignerFault for nonsense."""
    try:
        answer = _answer(line)
        if answer.id not in (number, None):
            raise SignerFault("The signer answered something else.")
        if isinstance(answer.error, Failure):
            known = ERRORS.get(answer.error.code)
            if known is None:
                raise SignerFault(answer.error.message)
            raise known(answer.error.message)
        if isinstance(answer.result, msgspec.UnsetType):
            raise SignerFault("The signer answered nothing.")
        return msgspec.json.decode(answer.result, type=type(call).RESULT)
    except MALFORMED as error:
        raise SignerFault(f"The signer's answer cannot be read: {error}.") from error


def bad_params(error: Exception) -> BadRequest:
    return BadRequest(f"The parameters do not fit: {str(error)[:200]}.")
