"""Devices of Amazon Braket: quantum tasks in OpenQASM 3, results from S3, signed by SigV4.

As docs.aws.amazon.com/braket/latest/APIReference has it. The client token of a task follows from
what it is, so that the same one again is the same task, and is paid once. Circuits for machines go
into a verbatim box, in gates that the machine has: its compiler would take folded gates out again.
Machines with prx and cz (IQM's) are served, and simulators; others are refused.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from harness.em.backends import backend as common
from harness.em.backends import native
from harness.em.backends.backend import (
    Calibration,
    Capabilities,
    Cost,
    Outcome,
    QubitFigures,
    Refused,
)
from harness.em.backends.calls import Calls, Reply, Sleep, decoded, polled
from harness.em.circuits.tasks import digest, plain
from runtime.attest.errors import Unavailable
from runtime.attest.store import signature
from runtime.jit.circuit import Circuit

WAIT_S: Final = 3600.0
PREFIX: Final = "qmkd"
REGION: Final = "us-east-1"
NEEDED: Final = {"prx", "cz"}
ENDED: Final = ("FAILED", "CANCELLING", "CANCELLED")
DEAD: Final = 0.5
# Devices tell no times of gates. These are the usual ones of transmons, for planning alone.
GATE_1Q_S: Final = 20e-9
GATE_2Q_S: Final = 40e-9
READOUT_S: Final = 1.5e-6

Kind = TypeVar("Kind")


class _Device(msgspec.Struct, rename="camel"):
    device_name: str
    device_status: str
    device_type: str
    device_capabilities: str


class _DeviceCost(msgspec.Struct, rename="camel"):
    price: float
    unit: str


class _Service(msgspec.Struct, rename="camel"):
    shots_range: tuple[int, int]
    device_cost: _DeviceCost | None = None
    updated_at: str | None = None


class _Connectivity(msgspec.Struct, rename="camel"):
    fully_connected: bool
    connectivity_graph: dict[str, list[str]] = {}


class _Paradigm(msgspec.Struct, rename="camel"):
    qubit_count: int
    native_gate_set: list[str] = []
    connectivity: _Connectivity | None = None


class _Told(msgspec.Struct):
    value: float


class _FidelityType(msgspec.Struct):
    name: str


class _Fidelity(msgspec.Struct, rename="camel"):
    fidelity: float
    fidelity_type: _FidelityType


class _One(msgspec.Struct, rename="camel"):
    t1: _Told | None = msgspec.field(name="T1", default=None)
    t2: _Told | None = msgspec.field(name="T2", default=None)
    one_qubit_fidelity: list[_Fidelity] = []


class _PairFidelity(msgspec.Struct, rename="camel"):
    gate_name: str
    fidelity: float


class _Two(msgspec.Struct, rename="camel"):
    two_qubit_gate_fidelity: list[_PairFidelity] = []


class _Standardized(msgspec.Struct, rename="camel"):
    one_qubit_properties: dict[str, _One] = {}
    two_qubit_properties: dict[str, _Two] = {}


class _Known(msgspec.Struct):
    service: _Service
    action: dict[str, Any]
    paradigm: _Paradigm
    standardized: _Standardized | None = None


class _Made(msgspec.Struct, rename="camel"):
    quantum_task_arn: str


class _Task(msgspec.Struct, rename="camel"):
    status: str
    failure_reason: str = ""
    output_s3_bucket: str = msgspec.field(name="outputS3Bucket", default="")
    output_s3_directory: str = msgspec.field(name="outputS3Directory", default="")


class _Results(msgspec.Struct, rename="camel"):
    measurements: list[list[int]] | None = None
    measured_qubits: list[int] = []


class Braket:
    """arn: of the device. bucket, prefix: where its results go. on: qubits of a machine that a
    circuit's 0, 1, ... become, by its own numbers; none for a simulator."""

    crypto_modes = ("classical",)

    def __init__(
        self,
        arn: str,
        bucket: str,
        on: Sequence[int] = (),
        *,
        prefix: str = PREFIX,
        region: str = "",
        wait_s: float = WAIT_S,
        url: str = "",
        s3: str = "",
        sleep: Sleep = time.sleep,
    ) -> None:
        parts = arn.split(":")
        if len(parts) != 6 or parts[:1] != ["arn"] or parts[2] != "braket":
            raise Refused(f"{arn} is no ARN of a device of Braket.")
        if region and parts[3] and region != parts[3]:
            raise Refused(f"{arn} is in {parts[3]}; another region would do nothing.")
        self._region = parts[3] or region or os.environ.get("AWS_REGION", "") or REGION
        try:
            self._who = signature.credentials()
        except Unavailable as error:
            told = "Braket takes tasks of nobody without AWS_ACCESS_KEY_ID and"
            raise Refused(f"{told} AWS_SECRET_ACCESS_KEY, or a file of it: {error}") from error
        self._calls = Calls(url or f"https://braket.{self._region}.amazonaws.com", sleep)
        self._s3 = Calls(s3 or f"https://s3.{self._region}.amazonaws.com", sleep)
        self._arn, self._bucket, self._prefix, self._wait_s = arn, bucket, prefix, wait_s
        device = self._get(f"/device/{quote(arn, safe='')}", _Device)
        what = f"The capabilities of {device.device_name}"
        self._known = decoded(what, device.device_capabilities.encode(), _Known)
        self._simulates = device.device_type == "SIMULATOR"
        self._on = tuple(on)
        self._check_device(device.device_name)
        self.name = f"braket:{arn}" + (f",on={'+'.join(map(str, on))}" if on else "")
        width = self._known.paradigm.qubit_count if self._simulates else len(self._on)
        self.capabilities = Capabilities(qubits=width, seeded=False)
        price = self._known.service.device_cost
        per_shot = price.price if price and price.unit == "shot" else 0.0
        self.cost = Cost(money=per_shot, currency="USD")
        self.availability = 1.0 if device.device_status == "ONLINE" else 0.0
        self.calibration: Calibration = _calibration(self.name, self._known, self._on, width)

    def _check_device(self, name: str) -> None:
        if "braket.ir.openqasm.program" not in self._known.action:
            raise Refused(f"{name} takes no OpenQASM 3 programs.")
        if self._simulates:
            if self._on:
                raise Refused(f"{name} simulates: naming its qubits would do nothing.")
            return
        gates = self._known.paradigm.native_gate_set
        if not set(gates) >= NEEDED:
            told = ", ".join(gates) or "none"
            raise Refused(f"{name} has the gates {told}; circuits are made of prx and cz.")
        there = {qubit for edge in self._edges() for qubit in edge}
        if not self._on or len(set(self._on)) != len(self._on) or not set(self._on) <= there:
            raise Refused(f"{name} has qubits {', '.join(map(str, sorted(there)))}; name some.")

    def run(self, circuit: Circuit, shots: int, seed: int, distance: int | None = None) -> Outcome:
        """As of `Backend`. seed: names the run; the same one again is the same task."""
        common.check(self, circuit, shots, distance)
        least, most = self._known.service.shots_range
        if not least <= shots <= most:
            raise Refused(f"{self.name} takes {least} to {most:,} shots, not {shots:,}.")
        bits = native.measured(circuit)
        if not self._simulates:
            native.check_pairs(circuit, self._on, self._edges())
        task = self._submitted(circuit, self._source(circuit, bits), shots, seed)
        done = polled(f"Task {task}", lambda: self._done(task), self._wait_s, self._calls.sleep)
        place = f"/{done.output_s3_bucket}/{quote(done.output_s3_directory)}/results.json"
        what = f"The results of {task}"
        body = self._s3.again(what, lambda: self._once(self._s3, "s3", "GET", place, b""))
        named = {self._on[q] if self._on else q: bit for q, bit in bits.items()}
        found = decoded(what, body, _Results)
        return Outcome(counts=_counts(what, found, named, circuit.bit_count, shots))

    def close(self) -> None:
        """Nothing is held between calls."""

    def _source(self, circuit: Circuit, bits: dict[int, int]) -> str:
        name_of = _numbered if self._simulates else native.physical(self._on)
        top: list[str] = []
        if self._simulates:
            top = [f"qubit[{circuit.width}] q;"]
            gates = native.lines(native.simulator(circuit), name_of)
        else:
            inner = native.lines(native.iqm(circuit), name_of)
            gates = ["#pragma braket verbatim", "box {", *inner, "}"]
        reads = (f"c[{bit}] = measure {name_of(qubit)};" for qubit, bit in sorted(bits.items()))
        head = ["OPENQASM 3.0;", f"bit[{circuit.bit_count}] c;"]
        return "\n".join([*head, *top, *gates, *reads])

    def _submitted(self, circuit: Circuit, source: str, shots: int, seed: int) -> str:
        action = {
            "braketSchemaHeader": {"name": "braket.ir.openqasm.program", "version": "1"},
            "source": source,
        }
        asked = {
            "action": msgspec.json.encode(action).decode(),
            "clientToken": digest([self.name, plain(circuit), source, shots, seed]),
            "deviceArn": self._arn,
            "outputS3Bucket": self._bucket,
            "outputS3KeyPrefix": self._prefix,
            "shots": shots,
        }
        body = msgspec.json.encode(asked)
        made = self._calls.again(
            "A task of Braket",
            lambda: self._once(self._calls, "braket", "POST", "/quantum-task", body),
            (200, 201),
        )
        return decoded("A new task", made, _Made).quantum_task_arn

    def _done(self, task: str) -> _Task | None:
        found = self._get(f"/quantum-task/{quote(task, safe='')}", _Task)
        if found.status == "COMPLETED":
            return found
        if found.status in ENDED:
            why = f": {found.failure_reason[:300].rstrip('.')}" if found.failure_reason else ""
            raise Refused(f"Task {task} is {found.status.lower()}{why}; another seed is another.")
        return None

    def _edges(self) -> list[tuple[int, int]]:
        graph = self._known.paradigm.connectivity
        return [
            (int(one), int(other))
            for one, others in (graph.connectivity_graph if graph else {}).items()
            for other in others
        ]

    def _get(self, path: str, kind: type[Kind]) -> Kind:
        what = f"GET {path}"
        call = self._calls.again(what, lambda: self._once(self._calls, "braket", "GET", path, b""))
        return decoded(what, call, kind)

    def _once(self, calls: Calls, service: str, method: str, path: str, body: bytes) -> Reply:
        """Signed anew each time. But for S3, what is signed is a path that is quoted once more."""
        whole = calls.parts.path + path
        url = f"{calls.parts.scheme}://{calls.parts.netloc}"
        given = {"x-amz-content-sha256": sha256(body).hexdigest()}
        if body:
            given["content-type"] = "application/json"
        signed = signature.headers(
            method,
            url + (whole if service == "s3" else quote(whole)),
            given,
            self._who,
            self._region,
            service,
            datetime.now(UTC),
        )
        return calls.once(method, path, body, signed)


def _numbered(qubit: int) -> str:
    return f"q[{qubit}]"


def _counts(
    what: str, found: _Results, named: dict[int, int], bits: int, shots: int
) -> dict[str, int]:
    """Shots by word. named: the bit of each of the device's qubits."""
    rows, columns = found.measurements, found.measured_qubits
    if rows is None or len(rows) != shots or not set(named) <= set(columns):
        raise Refused(f"{what} are not {shots} shots of qubits {sorted(named)}.")
    place = {bit: columns.index(qubit) for qubit, bit in named.items()}
    counted: Counter[str] = Counter()
    for row in rows:
        if len(row) != len(columns) or not set(row) <= {0, 1}:
            raise Refused(f"{what} hold a shot that is no row of {len(columns)} bits.")
        counted[
            "".join(str(row[place[b]]) if b in place else "0" for b in reversed(range(bits)))
        ] += 1
    return dict(sorted(counted.items()))


def _calibration(name: str, known: _Known, on: Sequence[int], width: int) -> Calibration:
    """Of the qubits that are used, numbered anew; a simulator does not err."""
    told = known.standardized or _Standardized()
    perfect = QubitFigures(error=0.0, t1_s=None, t2_s=None, read_1_for_0=0.0, read_0_for_1=0.0)
    place = {qubit: at for at, qubit in enumerate(on)}
    edges = {}
    for pair, row in told.two_qubit_properties.items():
        ends = [int(each) for each in pair.split("-")]
        errors = [1 - f.fidelity for f in row.two_qubit_gate_fidelity if f.gate_name == "CZ"]
        if errors and errors[0] < DEAD and all(each in place for each in ends):
            low, high = sorted(place[each] for each in ends)
            edges[f"{low}-{high}"] = native.pauli_error(errors[0], 2)
    return Calibration(
        backend=name,
        taken_at=known.service.updated_at or "",
        qubits=tuple(_qubit(told.one_qubit_properties.get(str(each), _One())) for each in on)
        or (perfect,) * width,
        edges=edges,
        any_pair=None if on else 0.0,
        gate_1q_s=GATE_1Q_S if on else 0.0,
        gate_2q_s=GATE_2Q_S if on else 0.0,
        readout_s=READOUT_S if on else 0.0,
    )


def _qubit(told: _One) -> QubitFigures:
    lost = {each.fidelity_type.name: 1 - each.fidelity for each in told.one_qubit_fidelity}
    wrong = min(DEAD, lost.get("READOUT", 0.0))
    t1, t2 = (each.value if each else None for each in (told.t1, told.t2))
    return QubitFigures(
        error=min(DEAD, native.pauli_error(lost.get("RANDOMIZED_BENCHMARKING", 0.0), 1)),
        t1_s=t1 or None,
        t2_s=min(t2, 2 * t1) if t1 and t2 else None,
        read_1_for_0=wrong,
        read_0_for_1=wrong,
    )
