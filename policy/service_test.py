"""The engine behind its socket and behind HTTP, and clients of engines that misbehave."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policy import rules
from policy.api import Advice, BadFeatures
from policy.client import PolicyClient, Unanswered
from policy.conftest import question
from policy.engine import Engine
from policy.models import Model
from policy.protocol import Answer
from policy.service import Service, SocketServer, WebServer, line

START_S = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "policy.sock"
    server = SocketServer(place, Service(Engine()))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield place
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_client_gets_what_the_engine_says(path: Path) -> None:
    client = PolicyClient(path)
    asked = [question(gates) for gates in (5, 50)]
    assert client.recommend(asked) == rules.Rules().recommend(asked)
    assert client.explain(asked[0]).drivers == ()
    status = client.status()
    assert (status.source, status.trouble, status.answered) == (rules.SOURCE, "", 2)
    with pytest.raises(BadFeatures, match="error_2q"):
        client.recommend([question(error_2q=2.0)])


def test_a_socket_is_open_to_those_it_is_meant_for(tmp_path: Path) -> None:
    for everybody, mode in ((False, 0o660), (True, 0o666)):
        place = tmp_path / f"{mode:o}.sock"
        server = SocketServer(place, Service(Engine()), everybody=everybody)
        assert place.stat().st_mode & 0o777 == mode
        server.server_close()
        assert not place.exists()


def test_lines_that_are_no_requests_are_answered_with_the_reason() -> None:
    service = Service(Engine())

    def error(data: bytes) -> int:
        answer = line(service, data)
        assert answer is not None
        code: int = json.loads(answer)["error"]["code"]
        return code

    assert error(b"{") == -32600
    assert error(b'{"jsonrpc": "2.0", "id": 1, "method": "sing"}') == -32601
    assert error(b'{"jsonrpc": "2.0", "id": 1, "method": "recommend"}') == -32602
    nan = msgspec.json.encode(question()).replace(b'"error_2q":0.008', b'"error_2q":NaN')
    request = b'{"jsonrpc": "2.0", "id": 1, "method": "recommend", "params": {"asked": [%b]}}'
    assert error(request % nan) in (-32600, -32602)
    assert line(service, b'{"jsonrpc": "2.0", "method": "status"}') is None


def test_predict_over_http_is_as_spec_001_has_it() -> None:
    server = WebServer(("127.0.0.1", 0), Service(Engine()))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        link = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)

        def ask(method: str, where: str, body: bytes = b"") -> tuple[int, Any]:
            link.request(method, where, body)
            with link.getresponse() as answer:
                return answer.status, json.loads(answer.read())

        status, told = ask("POST", "/predict", msgspec.json.encode(question()))
        assert status == 200
        advice = rules.advise(question())
        assert told["method"] == advice.method
        assert {"params", "shot_multiplier", "expected_fidelity", "confidence"} < set(told)
        assert ask("POST", "/predict", b'{"circuit": 1}')[0] == 422
        assert ask("POST", "/other", b"{}")[0] == 404
        assert ask("GET", "/healthz")[1]["answered"] == 1
        bad = msgspec.structs.replace(question().budget, shots=0)
        asked = msgspec.structs.replace(question(), budget=bad)
        status, told = ask("POST", "/predict", msgspec.json.encode(asked))
        assert (status, "shots" in told["error"]) == (422, True)
        link.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_models_advice_goes_over_the_wire(model: Model) -> None:
    service = Service(Engine(model))
    for asked in (question(80), question(4000, 100, 0.3)):
        body = msgspec.json.encode(asked)
        (advice,) = Engine(model).recommend([asked])
        assert msgspec.json.decode(service.predict(body), type=Advice) == advice
    request = b'{"jsonrpc": "2.0", "id": 1, "method": "explain", "params": {"asked": %b}}'
    answer = line(service, request % msgspec.json.encode(question(80)))
    assert answer is not None
    assert json.loads(answer)["result"]["drivers"]
    assert service.status().p50_us > 0


def answering(place: Path, answer: Callable[[bytes], bytes]) -> threading.Thread:
    """A server that answers one line as it likes."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(place))
    listening.listen()

    def serve() -> None:
        with listening, listening.accept()[0] as link, link.makefile("rb") as file:
            link.sendall(answer(file.readline()))

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def _advice(change: Callable[[Advice], Advice]) -> bytes:
    return msgspec.json.encode(
        Answer(jsonrpc="2.0", id=1, result=[change(rules.advise(question()))])
    )


def _with(**more: Any) -> Callable[[Advice], Advice]:
    def change(advice: Advice) -> Advice:
        first = msgspec.structs.replace(advice.alternatives[0], **more)
        return msgspec.structs.replace(advice, alternatives=(first, *advice.alternatives[1:]))

    return change


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\n",
        b'{"jsonrpc": "2.0", "id": 1, "result": []}\n',
        b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "no"}}\n',
        _advice(_with(expected_fidelity=7.0)) + b"\n",
        _advice(_with(shots=0)) + b"\n",
        _advice(lambda advice: msgspec.structs.replace(advice, method="ml-qem")) + b"\n",
    ],
)
def test_an_engine_that_answers_nonsense_is_not_believed_and_the_rules_answer(
    answer: bytes, tmp_path: Path
) -> None:
    place = tmp_path / "policy.sock"
    thread = answering(place, lambda _: answer)
    (advice,) = PolicyClient(place, timeout=5).recommend([question()])
    thread.join()
    assert advice.abstained
    assert advice.source == rules.INSTEAD
    assert advice.method == rules.advise(question()).method
    assert "The safe rules answer." in advice.because[-1]


def test_an_engine_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    client = PolicyClient(tmp_path / "nobody.sock")
    assert client.recommend([question()])[0].abstained
    with pytest.raises(Unanswered, match="does not answer"):
        client.status()


def test_the_program_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    place = tmp_path / "policy.sock"
    broken = tmp_path / "broken.model"
    broken.write_bytes(b"this is no model")
    process = subprocess.Popen(
        [sys.executable, "-m", "policy", "--socket", str(place), "--model", str(broken)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_S
        while not place.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        status = PolicyClient(place).status()
        assert "no manifest" in status.trouble
        assert status.source == rules.SOURCE
        (advice,) = PolicyClient(place).recommend([question()])
        assert advice.abstained
    finally:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=START_S)
    assert process.returncode == 0
    assert "the safe rules answer" in told
    assert not place.exists()
