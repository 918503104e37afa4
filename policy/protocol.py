"""What goes over the policy engine's socket: JSON-RPC 2.0, one object a line. Types alone, no
I/O."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from policy.api import Advice, Asked, Driver

LINE_BYTES_MAX: Final = 16 << 20
ASKED_MAX: Final = 10_000
BAD_REQUEST: Final = -32600
NO_METHOD: Final = -32601
BAD_PARAMETERS: Final = -32602
FAULT: Final = -32603


class Recommend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of `recommend`; its result is a list of `Advice`."""

    asked: list[Asked]


class Explain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of `explain`; its result is `Explained`."""

    asked: Asked


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """The advice, and the features that drove it; none where the rules answered."""

    advice: Advice
    drivers: tuple[Driver, ...]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """source: of the advice. trouble: why there is no model, or "". p50_us, p99_us: of the last
    questions, inside the service, from parsed to answered."""

    source: str
    trouble: str
    answered: int
    p50_us: float
    p99_us: float


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A line from a client."""

    jsonrpc: Literal["2.0"]
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")
    id: int | str | None = None


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    code: int
    message: str


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line to a client."""

    jsonrpc: str
    id: int | str | None
    result: Any = None
    error: Fault | None = None
