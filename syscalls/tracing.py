"""Where a call comes from in a trace that its caller keeps: W3C Trace Context, Level 2.

A request may have a member `traceparent` beside `params`. It is the caller's own, names nothing
here, and no answer depends on it: one that is malformed is as if it were not there. What is made of
it is in `qmkd/shell/tracing.py`. Source: https://www.w3.org/TR/trace-context-2/, section 3.2.
"""

import re
from typing import Final, Literal

from msgspec import Struct

JSON_BYTES_MAX: Final = 58
"""How much of a member is looked at: one of version 00 in its quotes, and one character more."""

SAMPLED: Final = 1
_PARTS: Final = rb"-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"
# What later versions may add behind a further "-", nobody looks at.
_HEADER: Final = re.compile(rb'"(?:00' + _PARTS + rb'"|(?!00|ff)[0-9a-f]{2}' + _PARTS + rb'["-])')


class TraceParent(Struct, frozen=True, gc=False):
    """The caller's span. trace_id: 32 lower-case hexadecimal digits; span_id: 16; neither is zero.

    sampled: whether the caller keeps it, and whoever works for the caller should too.
    """

    trace_id: str
    span_id: str
    sampled: bool = True

    def header(self) -> str:
        """As it travels, in version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"


def trace_parent(json: bytes) -> TraceParent | None:
    """Read what stands in a request, as JSON. None for whatever is no `traceparent`.

    Of the JSON the first JSON_BYTES_MAX bytes are enough.
    """
    found = _HEADER.match(json)
    if found is None:
        return None
    trace, span, flags = (part.decode() for part in found.groups() if part is not None)
    if not (int(trace, 16) and int(span, 16)):
        return None
    return TraceParent(trace, span, bool(int(flags, 16) & SAMPLED))


class Span(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Something that was done, and is over. What the daemon tells, one JSON object a line.

    start_ns, end_ns: Unix time. kind: `server` answers a caller, `client` is one. error: why it
    failed, in a word; empty where it did not. parent_id: empty for the first of a trace.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str = ""
    start_ns: int
    end_ns: int
    kind: Literal["internal", "server", "client"] = "internal"
    error: str = ""
    attributes: dict[str, str | int | float] = {}
