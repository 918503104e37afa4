"""Spans to an OpenTelemetry collector, with OpenTelemetry's own exporter (OTLP over HTTP).

The SDK is used for what it encodes and sends, not for its processors: a batch is held until it is
taken or given up, and meanwhile nothing more is read (`inbox.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from syscalls.tracing import Span

KINDS: Final = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
}
INT_MAX: Final = 2**63 - 1  # of an attribute (opentelemetry-proto, AnyValue.int_value)
TIME_MAX: Final = 2**64 - 1
SCOPE: Final = InstrumentationScope("qmkd")

RESOURCE: Final = Resource.create({"service.name": "qmkd"})
"""`OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` add to it, as for every SDK."""


def readable(span: Span) -> ReadableSpan:
    """As the SDK has it. Raises ValueError where the ids are none."""
    trace = int(span.trace_id, 16)
    parent = None
    if span.parent_id:
        parent = _context(trace, span.parent_id, is_remote=span.kind == "server")
    status = Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET)
    return ReadableSpan(
        name=span.name,
        context=_context(trace, span.span_id),
        parent=parent,
        resource=RESOURCE,
        attributes={name: _bounded(value) for name, value in span.attributes.items()},
        kind=KINDS[span.kind],
        status=status,
        start_time=max(0, min(span.start_ns, TIME_MAX)),
        end_time=max(0, min(span.end_ns, TIME_MAX)),
        instrumentation_scope=SCOPE,
    )


def _bounded(value: str | int | float) -> str | int | float:
    return max(-INT_MAX, min(value, INT_MAX)) if isinstance(value, int) else value


def _context(trace: int, span_id: str, *, is_remote: bool = False) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    context = SpanContext(trace, int(span_id, 16), is_remote=is_remote, trace_flags=flags)
    if not context.is_valid:
        raise ValueError("ids of spans are not zero, nor longer than 16 and 32 digits")
    return context


class Otlp:
    """A collector. bad: spans that were none. Each try takes `timeout_s` at most."""

    def __init__(self, url: str | None, timeout_s: float) -> None:
        """url: None takes what `OTEL_EXPORTER_OTLP_*` say, or the local collector's."""
        self._exporter = OTLPSpanExporter(endpoint=url, timeout=timeout_s)
        self.bad = 0

    def send(self, spans: Sequence[Span]) -> bool:
        """Whether the collector took them."""
        made = []
        for span in spans:
            try:
                made.append(readable(span))
            except ValueError:
                self.bad += 1
        return not made or self._exporter.export(made) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Also ends a try that is under way in another thread."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
