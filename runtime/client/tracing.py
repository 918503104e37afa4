"""Spans of a client's calls, for callers that keep a trace; nothing of it is loaded otherwise.

Each call that is sent has a span, and its `traceparent` goes with it (`syscalls.tracing`), so that
what the daemon does for it can be found under the same trace. `OtelSpans` makes them with a tracer
of OpenTelemetry, which is an optional extra; `RecordedSpans` keeps them in a list, and needs
nothing.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from syscalls.syscall import Syscall
from syscalls.tracing import Span, TraceParent

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

SCOPE = "qmkd.client"


class TracingUnavailable(ImportError):
    """A tracer was asked for, and OpenTelemetry is not installed."""


class OpenSpan(Protocol):
    """A call that is under way. parent: what goes with it; None for nothing."""

    parent: TraceParent | None

    def end(self, error: str = "", code: int | None = None) -> None:
        """It was answered, or never will be. error: why not, in a word. code: the refusal's."""


class Spans(Protocol):
    """Who makes spans of calls."""

    def operation(self, name: str) -> contextlib.AbstractContextManager[None]:
        """A span around several calls."""

    def begin(self, call: Syscall) -> OpenSpan:
        """A call is about to be sent."""


def spans_of(tracer: Any) -> Spans | None:
    """What a client's `tracer` stands for. Raises TracingUnavailable.

    None and False stand for nothing, True for the tracer of OpenTelemetry's global provider; a
    tracer of OpenTelemetry and a `Spans` for themselves.
    """
    if tracer is None or tracer is False:
        return None
    if tracer is True:
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise TracingUnavailable(
                "Tracing needs OpenTelemetry, which is not installed: pip install 'qmkd[otel]'."
            ) from error
        tracer = trace.get_tracer(SCOPE)
    if hasattr(tracer, "start_span"):
        return OtelSpans(tracer)
    spans: Spans = tracer
    return spans


class OtelSpans:
    """Spans by a tracer of OpenTelemetry, under whatever span is current."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextlib.contextmanager
    def operation(self, name: str) -> Iterator[None]:
        with self._tracer.start_as_current_span(name):
            yield

    def begin(self, call: Syscall) -> OpenSpan:
        from opentelemetry.trace import SpanKind

        about = {"rpc.system": "jsonrpc", "rpc.method": call.METHOD}
        return _Otel(self._tracer.start_span(call.METHOD, kind=SpanKind.CLIENT, attributes=about))


class _Otel:
    def __init__(self, span: OtelSpan) -> None:
        self._span = span
        self.parent: TraceParent | None = None
        context = span.get_span_context()
        if context.is_valid:
            trace, own = f"{context.trace_id:032x}", f"{context.span_id:016x}"
            self.parent = TraceParent(trace, own, context.trace_flags.sampled)

    def end(self, error: str = "", code: int | None = None) -> None:
        from opentelemetry.trace import Status, StatusCode

        if code is not None:
            self._span.set_attribute("rpc.jsonrpc.error_code", code)
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


class RecordedSpans:
    """Keeps the spans of one trace, in the order in which they end."""

    def __init__(self) -> None:
        self.trace_id = secrets.token_hex(16)
        self.finished: list[Span] = []
        self._inside = ""

    @contextlib.contextmanager
    def operation(self, name: str) -> Iterator[None]:
        before, own, began_ns = self._inside, secrets.token_hex(8), time.time_ns()
        self._inside = own
        try:
            yield
        finally:
            self._inside = before
            self._keep(name, own, before, began_ns, "", None)

    def begin(self, call: Syscall) -> OpenSpan:
        return _Recorded(self, call.METHOD, self._inside)

    def _keep(
        self, name: str, own: str, parent: str, began_ns: int, error: str, code: int | None
    ) -> None:
        span = Span(
            name=name,
            trace_id=self.trace_id,
            span_id=own,
            parent_id=parent,
            start_ns=began_ns,
            end_ns=max(began_ns, time.time_ns()),
            kind="client",
            error=error,
            attributes={} if code is None else {"rpc.jsonrpc.error_code": code},
        )
        self.finished.append(span)


class _Recorded:
    def __init__(self, spans: RecordedSpans, name: str, inside: str) -> None:
        self._spans, self._name, self._inside = spans, name, inside
        self._began_ns = time.time_ns()
        self.parent: TraceParent | None = TraceParent(spans.trace_id, secrets.token_hex(8))

    def end(self, error: str = "", code: int | None = None) -> None:
        assert self.parent is not None
        own = self.parent.span_id
        self._spans._keep(self._name, own, self._inside, self._began_ns, error, code)
