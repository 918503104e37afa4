"""Spans of a client's calls, against a scripted kernel: what was sent with each, how each ended."""

from __future__ import annotations

import sys

import pytest

from runtime.client import AsyncClient, Client, errors
from runtime.client.conftest import FakeKernel, Hangup, usual
from runtime.client.tracing import RecordedSpans, TracingUnavailable, spans_of
from syscalls.errors import JobNotFound
from syscalls.job import Wait

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

PROGRAM = b'{"version":"0.1","program":{"nodes":[]},"resources":{"vqs":[],"events":[]}}'


class Kept:
    """A tracer, and the spans that it has ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        tracer = provider.get_tracer("test")
        assert isinstance(tracer, Tracer)
        self.tracer = tracer

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


def test_each_call_sends_the_span_that_it_is(kernel: FakeKernel) -> None:
    kept = Kept()
    with Client(kernel.path, tracer=kept.tracer) as client:
        client.run(PROGRAM)
    calls = [span for span in kept.spans if span.name.startswith("q_")]
    assert [span.name for span in calls] == [call.METHOD for call in kernel.seen]
    for span, sent in zip(calls, kernel.traces, strict=True):
        assert sent is not None
        context = span.get_span_context()
        assert context is not None
        assert (int(sent.trace_id, 16), int(sent.span_id, 16)) == (
            context.trace_id,
            context.span_id,
        )
    (run,) = (span for span in kept.spans if span.name == "run")
    context = run.get_span_context()
    assert context is not None
    inside = [span.name for span in calls if span.parent and span.parent.span_id == context.span_id]
    assert inside == ["q_negotiate_caps", "q_submit", "q_wait"]


async def test_the_trio_client_sends_its_spans_too(kernel: FakeKernel) -> None:
    spans = RecordedSpans()
    async with AsyncClient(kernel.path, tracer=spans) as client:
        await client.run(PROGRAM)
    sent = [one for one in kernel.traces if one is not None]
    assert [one.span_id for one in sent] == [
        span.span_id for span in spans.finished if span.name != "run"
    ]
    assert {one.trace_id for one in sent} == {spans.trace_id}


def test_a_span_says_how_its_call_ended(kernel: FakeKernel) -> None:
    kept = Kept()
    kernel.handler = lambda number, call: (
        Hangup()
        if number == 2
        else JobNotFound()
        if isinstance(call, Wait)
        else usual(number, call)
    )
    with Client(kernel.path, tracer=kept.tracer) as client:
        job = client.submit(PROGRAM)
        with pytest.raises(errors.Refused):
            job.wait_done()
    waits = [span for span in kept.spans if span.name == "q_wait"]
    assert [span.status.description for span in waits] == ["lost", "JOB_NOT_FOUND"]
    assert {span.status.status_code for span in waits} == {StatusCode.ERROR}
    assert waits[1].attributes is not None
    assert waits[1].attributes["rpc.jsonrpc.error_code"] == JobNotFound.CODE


def test_what_is_not_sampled_says_so_and_a_tracer_without_a_provider_sends_nothing(
    kernel: FakeKernel,
) -> None:
    with Client(kernel.path, tracer=TracerProvider(ALWAYS_OFF).get_tracer("test")) as client:
        client.submit(PROGRAM)
    assert [one is not None and one.sampled for one in kernel.traces] == [False] * 3
    assert None not in kernel.traces
    kernel.traces.clear()
    with Client(kernel.path, tracer=trace.NoOpTracer()) as client:
        client.submit(PROGRAM)
    assert kernel.traces == [None] * 3


def test_asking_for_a_tracer_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spans_of(None) is None
    assert spans_of(True) is not None
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(TracingUnavailable, match="pip install"):
        spans_of(True)
