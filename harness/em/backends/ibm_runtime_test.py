"""SamplerV2 jobs against replies as IBM documents them, through HTTP on this host."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
import pytest

from harness.em.backends import native
from harness.em.backends.backend import Refused
from harness.em.backends.ibm_runtime import IbmRuntime
from harness.em.backends.registry import open_backend
from harness.em.backends.vendor_server import Script, Served, replies, served
from harness.em.circuits.tasks import Gates
from runtime.jit.circuit import Circuit, Operation, Register
from runtime.jit.gates import GATES

REPLIES = replies("ibm_runtime_replies.json")
JOB = REPLIES["created"]["id"]


def bell() -> Circuit:
    gates = Gates(2)
    gates.add("h", 0)
    gates.add("cx", 0, 1)
    reads = tuple(Operation("measure", (q,), (), (q,)) for q in range(2))
    made = gates.circuit().operations
    return Circuit(qubits=(Register("q", 2),), bits=(Register("c", 2),), operations=made + reads)


def script() -> Script:
    """What is answered, the last reply of a path again and again."""
    place = "/backends/ibm_kingston"
    return {
        "POST /identity/token": [(200, REPLIES["token"])],
        f"GET {place}/configuration": [(200, REPLIES["configuration"])],
        f"GET {place}/properties": [(200, REPLIES["properties"])],
        f"GET {place}/status": [(200, REPLIES["status"])],
        "GET /jobs": [(200, REPLIES["none"])],
        "POST /jobs": [(200, REPLIES["created"])],
        f"GET /jobs/{JOB}": [(200, REPLIES["queued"]), (200, REPLIES["completed"])],
        f"GET /jobs/{JOB}/results": [(200, REPLIES["results"])],
    }


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "key-of-the-test")
    monkeypatch.setenv("QISKIT_IBM_INSTANCE", "crn:v1:bluemix:public:quantum-computing:::test::")
    with served(script()) as found:
        yield found


def opened(server: Served, **given: Any) -> IbmRuntime:
    return IbmRuntime(
        "ibm_kingston", (1, 2), url=server.url, iam=server.url, sleep=server.slept, **given
    )


def test_a_job_is_created_polled_and_read(server: Served) -> None:
    backend = opened(server, decoupling="XY4")
    assert backend.run(bell(), 4, 7).counts == {"00": 1, "10": 1, "11": 2}
    made = server.only("POST", "/jobs")
    assert made.headers["authorization"] == "Bearer token-of-the-test"
    assert made.headers["service-crn"].startswith("crn:v1:")
    assert made.headers["ibm-api-version"] == "2025-05-01"
    body = msgspec.json.decode(made.body)
    [[source, values, shots]] = body["params"].pop("pubs")
    assert body["params"] == {
        "options": {"dynamical_decoupling": {"enable": True, "sequence_type": "XY4"}},
        "version": 2,
    }
    assert (body["program_id"], body["backend"], values, shots) == (
        "sampler",
        "ibm_kingston",
        None,
        4,
    )
    assert "cz $1, $2;" in source
    assert source.endswith("c[0] = measure $1;\nc[1] = measure $2;")
    looked = server.only("GET", "/jobs")
    assert parse_qs(urlsplit(looked.path).query)["tags"] == body["tags"]
    assert len(server.asked("POST", "/identity/token")) == 1


def test_a_lost_answer_and_a_second_start_pay_once(server: Served) -> None:
    server.script["POST /jobs"] = [(0, None)]
    server.script["GET /jobs"] = [(200, REPLIES["none"]), (200, REPLIES["there"])]
    assert opened(server).run(bell(), 4, 7).shots == 4
    assert opened(server).run(bell(), 4, 7).shots == 4
    assert len(server.asked("POST", "/jobs")) == 1
    tags = {parse_qs(urlsplit(each.path).query)["tags"][0] for each in server.asked("GET", "/jobs")}
    assert len(tags) == 1
    opened(server).run(bell(), 4, 8)
    assert parse_qs(urlsplit(server.asked("GET", "/jobs")[-1].path).query)["tags"][0] not in tags


def test_retries_end_and_errors_say_what_the_vendor_said(server: Served) -> None:
    backend = opened(server)
    server.script["POST /jobs"] = [(503, {})]
    with pytest.raises(Refused, match="answers 503, 5 times"):
        backend.run(bell(), 4, 7)
    assert len(server.asked("POST", "/jobs")) == 5
    assert 0 < sum(server.pauses) < 60
    server.script["POST /jobs"] = [(403, REPLIES["refusal"])]
    with pytest.raises(Refused, match="403, Instance not authorised for this backend"):
        backend.run(bell(), 4, 7)
    assert len(server.asked("POST", "/jobs")) == 6


def test_failed_late_and_wrong_jobs_are_refused(server: Served) -> None:
    backend = opened(server, wait_s=3)
    server.script[f"GET /jobs/{JOB}"] = [(200, REPLIES["failed"])]
    with pytest.raises(Refused, match="is failed: The circuit has an instruction"):
        backend.run(bell(), 4, 7)
    server.script[f"GET /jobs/{JOB}"] = [(200, REPLIES["queued"])]
    with pytest.raises(Refused, match="not done after 3 s; the same run again takes it up"):
        backend.run(bell(), 4, 7)
    server.script[f"GET /jobs/{JOB}"] = [(200, REPLIES["completed"])]
    with pytest.raises(Refused, match="for 5 shots of 2 bits; its results are not"):
        backend.run(bell(), 5, 7)


def test_the_calibration_is_of_the_qubits_that_are_used(server: Served) -> None:
    known = opened(server).calibration
    assert known.taken_at == "2026-05-25T15:32:11Z"
    assert known.edges == {"0-1": pytest.approx(0.002 * 5 / 4)}
    first, second = known.qubits
    assert first.error == pytest.approx(2e-4 * 3 / 2)
    assert first.t1_s == pytest.approx(250e-6)
    assert first.t2_s == pytest.approx(500e-6)
    assert (first.read_1_for_0, second.read_1_for_0, second.read_0_for_1) == (0.01, 0.01, 0.03)
    assert known.gate_2q_s == pytest.approx(68e-9)
    assert known.readout_s == pytest.approx(1.5e-6)


def test_what_would_do_nothing_or_cannot_be_done_is_refused(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refused, match="no resilience options, and they would do nothing"):
        open_backend("ibm:ibm_kingston,on=1+2,resilience_level=2")
    apart = IbmRuntime("ibm_kingston", (0, 4), url=server.url, iam=server.url, sleep=server.slept)
    with pytest.raises(Refused, match="no gate between qubits 0 and 1, which are 0 and 4"):
        apart.run(bell(), 4, 7)
    with pytest.raises(Refused, match=r"qubits 0 to 4"):
        IbmRuntime("ibm_kingston", (1, 9), url=server.url, iam=server.url)
    middle = bell().with_operations([*bell().operations, Operation("x", (0,))])
    with pytest.raises(Refused, match="Qubit 0 is used after it was measured"):
        opened(server).run(middle, 4, 7)
    simulates = REPLIES["configuration"] | {"simulator": True}
    server.script["GET /backends/ibm_kingston/configuration"] = [(200, simulates)]
    with pytest.raises(Refused, match="simulates: decoupling and twirling would do nothing"):
        opened(server, twirl=True)
    with pytest.raises(Refused, match="no https:// address"):
        IbmRuntime("ibm_kingston", (1,), url="http://198.51.100.1")
    monkeypatch.delenv("QISKIT_IBM_TOKEN")
    with pytest.raises(Refused, match="Set QISKIT_IBM_TOKEN to an IBM Cloud API key"):
        opened(server)


def unitary(circuit: Circuit, natives: Iterator[native.Native]) -> Any:
    """Of one or two qubits, qubit 0 the lowest."""
    found: Any = np.eye(1 << circuit.width, dtype=complex)
    for name, angles, qubits in natives:
        one: Any
        if name == "sx":
            one = np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2
        elif name == "prx":
            theta, phi = angles
            c, s = np.cos(theta / 2), -1j * np.sin(theta / 2)
            one = np.array([[c, s * np.exp(-1j * phi)], [s * np.exp(1j * phi), c]])
        else:
            one = np.asarray(GATES[name].matrix(*angles))
        if len(qubits) == 1:
            parts: list[Any] = [
                one if at == qubits[0] else np.eye(2) for at in range(circuit.width)
            ]
            one = reduce(lambda a, b: np.kron(a, b), parts[::-1])
        found = one @ found
    return found


@pytest.mark.parametrize(
    ("name", "qubits", "angles"),
    [(name, (0,), ()) for name in ("x", "y", "z", "h", "s", "sdg", "t", "tdg")]
    + [(name, (0,), (0.7,)) for name in ("rx", "ry", "rz")]
    + [("cx", (0, 1), ()), ("cx", (1, 0), ()), ("cz", (0, 1), ())],
)
def test_native_gates_do_what_the_circuit_does(
    name: str, qubits: tuple[int, ...], angles: tuple[float, ...]
) -> None:
    gates = Gates(2)
    gates.add(name, *qubits, angles=angles)
    gates.add("h", 0)
    gates.add("rx", 1, angles=(0.3,))
    gates.add(name, *qubits, angles=angles)
    gates.add("ry", 0, angles=(0.4,))
    circuit = gates.circuit()
    wanted: Any = np.eye(4, dtype=complex)
    for each in circuit.operations:
        matrix: Any = GATES[each.name].matrix(*(angle.radians for angle in each.angles))
        if len(each.qubits) == 2 and each.qubits == (1, 0):
            swap = np.eye(4)[[0, 2, 1, 3]]
            matrix = swap @ matrix @ swap
        elif len(each.qubits) == 1:
            matrix = np.kron(matrix, np.eye(2)) if each.qubits[0] else np.kron(np.eye(2), matrix)
        wanted = matrix @ wanted
    found = unitary(circuit, native.ibm(circuit))
    assert abs(np.trace(wanted.conj().T @ found)) == pytest.approx(4)
    turned = unitary(circuit, native.iqm(circuit))
    assert np.abs(turned) ** 2 == pytest.approx(np.abs(wanted) ** 2)
