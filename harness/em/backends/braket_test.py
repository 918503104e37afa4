"""Quantum tasks against replies as Amazon documents them, through HTTP on this host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from hmac import digest as mac
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from harness.em.backends.backend import Refused
from harness.em.backends.braket import Braket
from harness.em.backends.ibm_runtime_test import bell
from harness.em.backends.vendor_server import Asked, Script, Served, replies, served

REPLIES = replies("braket_replies.json")
ARN = REPLIES["device"]["deviceArn"]
TASK = f"GET /quantum-task/{quote(REPLIES['created']['quantumTaskArn'], safe='')}"
DEVICE = f"GET /device/{quote(ARN, safe='')}"
RESULTS = f"GET /amazon-braket-mine/{REPLIES['completed']['outputS3Directory']}/results.json"
SIMULATOR = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"


def device(**other: Any) -> dict[str, Any]:
    known = REPLIES["capabilities"] | other
    return {**REPLIES["device"], "deviceCapabilities": msgspec.json.encode(known).decode()}


def script() -> Script:
    return {
        DEVICE: [(200, device())],
        "POST /quantum-task": [(201, REPLIES["created"])],
        TASK: [(200, REPLIES["queued"]), (200, REPLIES["completed"])],
        RESULTS: [(200, REPLIES["results"])],
    }


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY_FILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    with served(script()) as found:
        yield found


def opened(server: Served, arn: str = ARN, on: tuple[int, ...] = (1, 2), **given: Any) -> Braket:
    return Braket(
        arn, "amazon-braket-mine", on, url=server.url, s3=server.url, sleep=server.slept, **given
    )


def signed_again(asked: Asked, region: str, service: str) -> str:
    """The signature, from the four steps of AWS's description, and from nothing of ours."""
    told = re.fullmatch(
        r".*SignedHeaders=([a-z0-9;-]+),Signature=\w+", asked.headers["authorization"]
    )
    assert told
    names = told[1].split(";")
    path = asked.path if service == "s3" else quote(asked.path)
    lines = [f"{name}:{asked.headers[name]}" for name in names]
    whole = [asked.method, path, "", *lines, "", told[1], sha256(asked.body).hexdigest()]
    at = asked.headers["x-amz-date"]
    scope = f"{at[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{sha256(chr(10).join(whole).encode()).hexdigest()}"
    key = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    for part in (*scope.split("/"), text):
        key = mac(key, part.encode(), "sha256")
    return key.hex()


def test_a_task_is_created_polled_and_read_from_s3(server: Served) -> None:
    backend = opened(server)
    # Columns are of qubits 2 and 1, which are the circuit's 1 and 0.
    assert backend.run(bell(), 4, 7).counts == {"00": 1, "10": 1, "11": 2}
    asked = server.only("POST", "/quantum-task")
    body = msgspec.json.decode(asked.body)
    action = msgspec.json.decode(body["action"])
    assert action["braketSchemaHeader"] == {"name": "braket.ir.openqasm.program", "version": "1"}
    source = action["source"].split("\n")
    assert source[2:4] == ["#pragma braket verbatim", "box {"]
    assert "cz $1, $2;" in source
    assert source[-2:] == ["c[0] = measure $1;", "c[1] = measure $2;"]
    assert (body["deviceArn"], body["shots"], len(body["clientToken"])) == (ARN, 4, 64)
    assert (body["outputS3Bucket"], body["outputS3KeyPrefix"]) == ("amazon-braket-mine", "qmkd")
    for each in server.log:
        service = "s3" if each.path.startswith("/amazon") else "braket"
        assert signed_again(each, "eu-north-1", service) in each.headers["authorization"]
    assert backend.cost.money == 0.00145


def test_a_lost_answer_and_a_second_start_name_the_same_task(server: Served) -> None:
    server.script["POST /quantum-task"] = [(0, None), (503, {}), (201, REPLIES["created"])]
    opened(server).run(bell(), 4, 7)
    opened(server).run(bell(), 4, 7)
    opened(server).run(bell(), 4, 8)
    bodies = [msgspec.json.decode(each.body) for each in server.asked("POST", "/quantum-task")]
    tokens = [each["clientToken"] for each in bodies]
    assert len(tokens) == 5
    assert len(set(tokens[:4])) == 1
    assert tokens[4] != tokens[0]


def test_retries_end_and_what_went_wrong_is_told(server: Served) -> None:
    backend = opened(server, wait_s=3)
    server.script["POST /quantum-task"] = [(429, {"message": "Too many requests."})]
    with pytest.raises(Refused, match="answers 429, Too many requests, 5 times"):
        backend.run(bell(), 4, 7)
    server.script["POST /quantum-task"] = [(400, REPLIES["refusal"])]
    with pytest.raises(Refused, match="answers 400, The device is retired"):
        backend.run(bell(), 4, 7)
    server.script["POST /quantum-task"] = [(201, REPLIES["created"])]
    server.script[TASK] = [(200, REPLIES["queued"])]
    with pytest.raises(Refused, match="not done after 3 s"):
        backend.run(bell(), 4, 7)
    server.script[TASK] = [(200, REPLIES["failed"])]
    with pytest.raises(Refused, match="is failed: The device is calibrating"):
        backend.run(bell(), 4, 7)
    server.script[TASK] = [(200, REPLIES["completed"])]
    with pytest.raises(Refused, match="are not 5 shots"):
        backend.run(bell(), 5, 7)


def test_the_calibration_is_of_the_qubits_that_are_used(server: Served) -> None:
    known = opened(server).calibration
    assert known.edges == {"0-1": pytest.approx(0.008 * 5 / 4)}
    assert known.qubits[0].error == pytest.approx(0.001 * 3 / 2)
    assert known.qubits[0].read_1_for_0 == pytest.approx(0.03)
    assert known.qubits[1].t1_s == 3e-5


def test_a_simulator_takes_no_verbatim_box_and_no_names_of_qubits(server: Served) -> None:
    paradigm = {"qubitCount": 34}
    simulates = device(paradigm=paradigm, standardized=None) | {"deviceType": "SIMULATOR"}
    server.script[f"GET /device/{quote(SIMULATOR, safe='')}"] = [(200, simulates)]
    with pytest.raises(Refused, match="simulates: naming its qubits would do nothing"):
        opened(server, SIMULATOR)
    backend = opened(server, SIMULATOR, (), region="eu-west-2")
    server.script[RESULTS] = [(200, REPLIES["results"] | {"measuredQubits": [0, 1]})]
    assert backend.run(bell(), 4, 7).counts == {"00": 1, "01": 1, "11": 2}
    action = msgspec.json.decode(server.only("POST", "/quantum-task").body)["action"]
    assert "verbatim" not in action
    assert "cnot q[0], q[1];" in action
    assert "/eu-west-2/braket/" in server.log[-3].headers["authorization"]


def test_what_would_do_nothing_or_cannot_be_done_is_refused(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refused, match="another region would do nothing"):
        opened(server, region="us-west-1")
    with pytest.raises(Refused, match="no gate between qubits 0 and 1, which are 1 and 3"):
        opened(server, on=(1, 3)).run(bell(), 4, 7)
    with pytest.raises(Refused, match="has qubits 1, 2, 3; name some"):
        opened(server, on=(0, 1))
    with pytest.raises(Refused, match="takes 1 to 20,000 shots"):
        opened(server).run(bell(), 30_000, 7)
    other = REPLIES["capabilities"]["paradigm"] | {"nativeGateSet": ["rx", "rz", "iswap"]}
    server.script[DEVICE] = [(200, device(paradigm=other))]
    with pytest.raises(Refused, match="has the gates rx, rz, iswap; circuits are made of prx"):
        opened(server)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Refused, match="without AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        opened(server)
