"""Traces from a client's call to a worker's run, as a collector gets them: over OTLP/HTTP.

The collector is a server of the standard library that decodes with opentelemetry-proto.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runtime.client import Client
from runtime.client.protocol import Protocol
from runtime.client.tracing import RecordedSpans
from syscalls.ids import JobId, SessionId
from syscalls.job import Status
from syscalls.tracing import Span
from tests.daemon import ROOT, Line, clean_environment, running_daemon, short_folder

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from runtime.tracing.inbox import Inbox, Taken
from runtime.tracing.otlp import readable

BELL = ROOT / "qvm/examples/bell.qvm.json"
SECONDS = 30.0


class Collector(ThreadingHTTPServer):
    """Decodes what it is sent. answers: statuses to give first; then 200. open: whether it answers
    at all."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.url = f"http://127.0.0.1:{self.server_port}/v1/traces"
        self.answers: list[int] = []
        self.spans: list[Any] = []
        self.came = threading.Condition()
        self.open = threading.Event()
        self.open.set()

    def wait_for(self, *names: str) -> dict[str, Any]:
        """By name, once they are all there."""
        with self.came:
            assert self.came.wait_for(
                lambda: set(names) <= {span.name for span in self.spans}, SECONDS
            ), [span.name for span in self.spans]
            return {span.name: span for span in self.spans}


class _Post(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.open.wait(SECONDS)
        status = server.answers.pop(0) if server.answers else 200
        if status == 200:
            asked = ExportTraceServiceRequest.FromString(body)
            with server.came:
                for resource in asked.resource_spans:
                    for scope in resource.scope_spans:
                        server.spans += scope.spans
                server.came.notify_all()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.open.set()
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def exporter(path: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A running exporter, stopped in the end."""
    command = [sys.executable, "-m", "runtime.tracing", "--socket", str(path), *flags]
    process = subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)
    assert process.returncode == 0


def test_a_trace_leads_from_the_client_to_the_run_in_the_worker() -> None:
    provider = TracerProvider()
    tracer = provider.get_tracer("test")
    with short_folder() as folder, collector() as server:
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(server.url)))
        # However slow this host is, it is one segment.
        config = f'traces_socket = "{folder}/t"\npark_ms = 0\n'
        with (
            exporter(folder / "t", "--otlp", server.url),
            running_daemon(folder, config=config) as daemon,
            Client(daemon.socket, tracer=tracer) as client,
        ):
            with tracer.start_as_current_span("experiment") as outer:
                result = client.run(BELL, shots=100, seed=1)
            server.wait_for("job", "experiment")
        provider.shutdown()
    assert sum(result.counts.values()) == 100
    trace_id = outer.get_span_context().trace_id.to_bytes(16, "big")
    assert {span.trace_id for span in server.spans if span.name != "q_close_session"} == {trace_id}
    by_id = {span.span_id: span for span in server.spans}
    (ran,) = (span for span in server.spans if span.name == "worker run")
    way, span = [], ran
    while span is not None:
        way.append((span.name, span.kind))
        span = by_id.get(span.parent_span_id)
    internal, serves, calls = 1, 2, 3  # SpanKind of opentelemetry-proto
    assert way == [
        ("worker run", internal), ("segment", internal), ("placed", internal), ("job", internal),
        ("q_submit", serves), ("q_submit", calls), ("run", internal), ("experiment", internal),
    ]  # fmt: skip


def traced_statuses(count: int) -> bytes:
    call = {"jsonrpc": "2.0", "id": 1, "method": "q_status"}
    call |= {"params": {"session_id": "s", "job_id": "j"}}
    call |= {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    return (json.dumps(call).encode() + b"\n") * count


def scraped(path: Path, result: str) -> int:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        with sock.makefile("rb") as file:
            text = file.read().decode()
    found = re.search(rf'^qmkd_spans_total{{result="{result}"}} (\S+)$', text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def test_with_a_collector_that_does_not_answer_jobs_run_on_and_spans_are_dropped_and_counted() -> (
    None
):
    with short_folder() as folder, collector() as server:
        server.open.clear()
        config = f'traces_socket = "{folder}/t"\n'
        with (
            exporter(folder / "t", "--otlp", server.url, "--hold", "0"),
            running_daemon(folder, config=config) as daemon,
            Line(daemon.socket) as line,
        ):
            for _ in range(30):
                line.send(traced_statuses(500))
                for _ in range(500):
                    assert line.answer()["error"]["code"] == -32100
            with Client(daemon.socket, tracer=RecordedSpans()) as client:
                assert sum(client.run(BELL, shots=10).counts.values()) == 10
            assert scraped(folder / "q-metrics.sock", "dropped") > 0
            server.open.set()


def test_spans_that_a_collector_refuses_for_a_while_get_there_in_the_end() -> None:
    spans = [
        Span(name=f"s{n}", trace_id="a" * 32, span_id=f"{n + 1:016x}", start_ns=n, end_ns=n + 1)
        for n in range(10)
    ]
    with short_folder() as folder, collector() as server:
        server.answers = [400, 503]
        with exporter(folder / "t", "--otlp", server.url) as process:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(b'{"not": "a span"}\n\xff', str(folder / "t"))
                lines = b"\n".join(_json(span) for span in spans)
                sock.sendto(lines, str(folder / "t"))
            server.wait_for(*(span.name for span in spans))
            assert process.poll() is None
    assert [span.name for span in server.spans] == [span.name for span in spans]


def _json(span: Span) -> bytes:
    import msgspec

    return msgspec.json.encode(span)


def test_what_exceeds_the_protocols_numbers_is_bounded_and_bad_ids_are_refused() -> None:
    wide = Span(
        name="a", trace_id="f" * 32, span_id="1" * 16, start_ns=-5, end_ns=2**70,
        attributes={"x": 2**70},
    )  # fmt: skip
    made = readable(wide)
    assert made.start_time == 0
    assert made.end_time == 2**64 - 1
    assert made.attributes == {"x": 2**63 - 1}
    for bad in ({"span_id": "0" * 16}, {"span_id": "xyz"}, {"trace_id": "f" * 40}):
        fields = {"name": "a", "trace_id": "1" * 32, "span_id": "1" * 16, "start_ns": 0} | bad
        with pytest.raises(ValueError):
            readable(Span(**fields, end_ns=1))  # type: ignore[arg-type]


def test_a_socket_left_behind_is_taken_over_and_one_in_use_is_not() -> None:
    with short_folder() as folder:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
            left.bind(str(folder / "t"))
        with Inbox(folder / "t"), pytest.raises(Taken):
            Inbox(folder / "t")
        assert not (folder / "t").exists()


def test_without_a_tracer_nothing_is_loaded_and_no_field_is_sent() -> None:
    call = Status(session_id=SessionId("s"), job_id=JobId("j"))
    assert b"traceparent" not in Protocol(lambda fd: None).send(call)[1]
    code = (
        "import sys; from runtime.client import AsyncClient, Client; Client('/x'); "
        "from runtime.client.tracing import RecordedSpans; Client('/x', tracer=RecordedSpans()); "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
