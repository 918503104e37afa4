"""`traceparent`, held against the examples of W3C Trace Context and opentelemetry's own reader."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syscalls.ids import JobId, SessionId
from syscalls.job import Status
from syscalls.jsonrpc import Batch, Request, encode_request, parse
from syscalls.tracing import JSON_BYTES_MAX, TraceParent, trace_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"  # the specification's own example
CALL = Status(session_id=SessionId("s"), job_id=JobId("j"))


def request(value: object) -> bytes:
    body = {"jsonrpc": "2.0", "id": 1, "method": "q_status"}
    params = {"session_id": "s", "job_id": "j"}
    return json.dumps(body | {"params": params, "traceparent": value}).encode()


def read(value: object) -> TraceParent | None:
    found = parse(request(value))
    assert isinstance(found, Request)
    assert found.call == CALL
    return found.trace


@pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("00", False), ("03", True)])
def test_the_example_of_the_specification_is_read(flags: str, sampled: bool) -> None:
    assert read(GIVEN[:-2] + flags) == TraceParent(TRACE, SPAN, sampled)


def test_what_a_later_version_adds_is_not_looked_at() -> None:
    assert read(f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like") == TraceParent(TRACE, SPAN)
    assert read(f"cc-{TRACE}-{SPAN}-01" + "-" * 100_000) == TraceParent(TRACE, SPAN)


@pytest.mark.parametrize(
    "wrong",
    [
        "", "00", GIVEN[:-1], GIVEN + "-", GIVEN + "0", GIVEN.upper(), "ff" + GIVEN[2:],
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"cc-{TRACE}-{SPAN}-01.",
        GIVEN.replace("-", "_"), "é" * 55, "0" * 100_000, None, 7, 1.5, True, [GIVEN], {"a": GIVEN},
    ],
)  # fmt: skip
def test_what_is_no_traceparent_counts_as_none(wrong: object) -> None:
    assert read(wrong) is None


@given(st.text(alphabet="0123456789abcdef-g", min_size=50, max_size=60) | st.text())
@example(GIVEN)
def test_whoever_reads_it_reads_the_same(text: str) -> None:
    propagation = pytest.importorskip("opentelemetry.trace.propagation.tracecontext")
    trace = pytest.importorskip("opentelemetry.trace")
    context = propagation.TraceContextTextMapPropagator().extract({"traceparent": text})
    theirs = trace.get_current_span(context).get_span_context()
    ours = trace_parent(json.dumps(text, ensure_ascii=False).encode()[:JSON_BYTES_MAX])
    if ours is None:
        assert not theirs.is_valid or ("-" not in text[55:56] and len(text) > 55)
    else:
        assert (int(ours.trace_id, 16), int(ours.span_id, 16)) == (theirs.trace_id, theirs.span_id)
        assert ours.sampled == theirs.trace_flags.sampled


def test_a_call_with_a_trace_reads_back_alone_in_a_batch_and_when_large() -> None:
    trace = TraceParent(TRACE, SPAN)
    line = encode_request(1, CALL, trace)
    assert parse(line) == Request(1, CALL, False, trace)
    batch = parse(b"[" + line + b"," + encode_request(2, CALL) + b"]")
    assert batch == Batch([Request(1, CALL, False, trace), Request(2, CALL)])
    graph = '{"a":"' + "x" * 20_000 + '"}'
    large = f'{{"jsonrpc":"2.0","id":1,"method":"q_submit","traceparent":"{GIVEN}","params":'
    found = parse((large + f'{{"session_id":"s","graph":{graph}}}}}').encode())
    assert isinstance(found, Request)
    assert found.trace == trace
