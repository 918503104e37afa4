"""IBM's machines through the REST API of Qiskit Runtime: SamplerV2 jobs.

As quantum.cloud.ibm.com/docs/api/qiskit-runtime-rest has it. A job bears a tag that follows from
what it is; before one is made the tag is looked up, so that neither a lost answer nor a second
start pays twice. SamplerV2 takes no seed and has no resilience options, and circuits go in the
machine's own gates.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

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
from runtime.jit.circuit import Circuit

URL: Final = "https://quantum.cloud.ibm.com/api/v1"
IAM: Final = "https://iam.cloud.ibm.com"
VERSION: Final = "2025-05-01"
WAIT_S: Final = 3600.0
RENEW_S: Final = 120.0
NEEDED: Final = ("rz", "sx", "x", "cz")
DECOUPLING: Final = ("XX", "XpXm", "XY4")
DEAD: Final = 0.5
Kind = TypeVar("Kind")
UNITS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "": 1.0}


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float


class _Configuration(msgspec.Struct):
    n_qubits: int
    basis_gates: list[str]
    coupling_map: list[tuple[int, int]]
    max_shots: int = common.SHOTS_MAX
    simulator: bool = False


class _Figure(msgspec.Struct):
    name: str
    value: float | None = None
    unit: str = ""


class _Gate(msgspec.Struct):
    gate: str
    qubits: list[int]
    parameters: list[_Figure]


class _Properties(msgspec.Struct):
    last_update_date: str
    qubits: list[list[_Figure]]
    gates: list[_Gate]


class _Status(msgspec.Struct):
    state: bool
    status: str = ""


class _State(msgspec.Struct):
    status: str
    reason: str | None = ""


class _Job(msgspec.Struct):
    id: str
    status: str = ""
    state: _State | None = None

    @property
    def told(self) -> str:
        return self.state.status if self.state else self.status


class _Jobs(msgspec.Struct):
    jobs: list[_Job]


class _Samples(msgspec.Struct):
    samples: list[str]
    num_bits: int


class _Pub(msgspec.Struct):
    data: dict[str, _Samples]


class _Results(msgspec.Struct):
    results: list[_Pub]


class IbmRuntime:
    """machine: like `ibm_kingston`. on: its qubits that a circuit's 0, 1, ... become.

    decoupling: one of DECOUPLING, or empty. twirl: of gates and measurements, by IBM.
    """

    crypto_modes = ("classical",)

    def __init__(
        self,
        machine: str,
        on: Sequence[int],
        *,
        decoupling: str = "",
        twirl: bool = False,
        wait_s: float = WAIT_S,
        url: str = URL,
        iam: str = IAM,
        sleep: Sleep = time.sleep,
    ) -> None:
        self._key = _told("QISKIT_IBM_TOKEN", "an IBM Cloud API key")
        self._instance = _told("QISKIT_IBM_INSTANCE", "the CRN of an instance")
        self._calls, self._iam = Calls(url, sleep), Calls(iam, sleep)
        self._token, self._until = "", 0.0
        self._machine, self._on, self._wait_s = machine, tuple(on), wait_s
        place = f"/backends/{quote(machine, safe='')}"
        known = self._get(f"{place}/configuration", _Configuration)
        self._check_machine(known, decoupling, twirl)
        self._known = known
        self._options: dict[str, Any] = {}
        if decoupling:
            self._options["dynamical_decoupling"] = {"enable": True, "sequence_type": decoupling}
        if twirl:
            self._options["twirling"] = {"enable_gates": True, "enable_measure": True}
        self.name = f"ibm:{machine},on={'+'.join(map(str, self._on))}"
        if self._options:
            self.name += f",decoupling={decoupling},twirl={int(twirl)}"
        self.capabilities = Capabilities(qubits=len(self._on), seeded=False)
        self.cost = Cost()
        self.calibration: Calibration = _calibration(
            self.name, self._on, self._get(f"{place}/properties", _Properties)
        )
        self.availability = 1.0 if self._get(f"{place}/status", _Status).state else 0.0

    def _check_machine(self, known: _Configuration, decoupling: str, twirl: bool) -> None:
        name = self._machine
        if missing := [gate for gate in NEEDED if gate not in known.basis_gates]:
            raise Refused(f"{name} has no {', '.join(missing)}; circuits are made of these.")
        on = self._on
        if not on or len(set(on)) != len(on) or not all(0 <= q < known.n_qubits for q in on):
            raise Refused(f"{name} has qubits 0 to {known.n_qubits - 1}; name some, each once.")
        if decoupling and decoupling not in DECOUPLING:
            raise Refused(f"Decoupling is one of {', '.join(DECOUPLING)}, not {decoupling}.")
        if known.simulator and (decoupling or twirl):
            raise Refused(f"{name} simulates: decoupling and twirling would do nothing there.")

    def run(self, circuit: Circuit, shots: int, seed: int, distance: int | None = None) -> Outcome:
        """As of `Backend`. seed: names the run; the same one again is the same job."""
        common.check(self, circuit, shots, distance)
        if shots > self._known.max_shots:
            raise Refused(f"{self._machine} takes {self._known.max_shots:,} shots, not {shots:,}.")
        bits = native.measured(circuit)
        native.check_pairs(circuit, self._on, self._known.coupling_map)
        source = self._source(circuit, bits)
        name = digest([self.name, plain(circuit), source, shots, seed])
        tag = f"qmkd-{name[:32]}"
        job = self._submitted(tag, source, shots)
        polled(f"Job {job}", lambda: self._done(job), self._wait_s, self._calls.sleep)
        found = self._get(f"/jobs/{job}/results", _Results).results
        return Outcome(counts=_counts(job, found, circuit.bit_count, shots))

    def close(self) -> None:
        """Nothing is held between calls but a token, which ends by itself."""
        self._token = ""

    def _source(self, circuit: Circuit, bits: dict[int, int]) -> str:
        name_of = native.physical(self._on)
        return "\n".join(
            [
                "OPENQASM 3.0;",
                'include "stdgates.inc";',
                f"bit[{circuit.bit_count}] c;",
                *native.lines(native.ibm(circuit), name_of),
                *(f"c[{bit}] = measure {name_of(qubit)};" for qubit, bit in sorted(bits.items())),
            ]
        )

    def _submitted(self, tag: str, source: str, shots: int) -> str:
        """The job's name. Each attempt looks for the tag first, so there is one job at the most."""
        params = {"pubs": [[source, None, shots]], "options": self._options, "version": 2}
        body = msgspec.json.encode(
            {"program_id": "sampler", "backend": self._machine, "tags": [tag], "params": params}
        )

        def attempt() -> Reply:
            query = urlencode({"tags": tag, "limit": 20})
            there = self._once("GET", f"/jobs?{query}", b"")
            if there.status != 200:
                return there
            for job in decoded("Jobs", there.body, _Jobs).jobs:
                if not job.told.startswith(("Cancelled", "Failed")):
                    return Reply(200, msgspec.json.encode({"id": job.id}), 0.0)
            return self._once("POST", "/jobs", body)

        made = self._calls.again(f"A job on {self._machine}", attempt, (200, 201))
        return quote(decoded("A new job", made, _Job).id, safe="")

    def _done(self, job: str) -> bool | None:
        found = self._get(f"/jobs/{job}", _Job)
        if found.told == "Completed":
            return True
        if found.told.startswith(("Cancelled", "Failed")):
            why = (found.state.reason or "") if found.state else ""
            raise Refused(f"Job {job} is {found.told.lower()}{': ' if why else ''}{why[:300]}.")
        return None

    def _get(self, path: str, kind: type[Kind]) -> Kind:
        what = f"GET {path}"
        return decoded(what, self._calls.again(what, lambda: self._once("GET", path, b"")), kind)

    def _once(self, method: str, path: str, body: bytes) -> Reply:
        if not self._token or time.monotonic() > self._until:
            self._renew()
        headers = {
            "authorization": f"Bearer {self._token}",
            "service-crn": self._instance,
            "ibm-api-version": VERSION,
            "accept": "application/json",
            "content-type": "application/json",
        }
        return self._calls.once(method, path, body, headers)

    def _renew(self) -> None:
        """A token for the key. Refused keys are told, and never shown."""
        kind = "urn:ibm:params:oauth:grant-type:apikey"
        body = urlencode({"grant_type": kind, "apikey": self._key}).encode()
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
        }
        found = decoded(
            "A token of IBM Cloud",
            self._iam.again(
                "A token of IBM Cloud",
                lambda: self._iam.once("POST", "/identity/token", body, headers),
            ),
            _Token,
        )
        self._token = found.access_token
        self._until = time.monotonic() + max(0.0, found.expires_in - RENEW_S)


def _told(name: str, what: str) -> str:
    found = os.environ.get(name, "")
    if not found or not found.isprintable():
        raise Refused(f"Set {name} to {what}: IBM's machines take jobs of nobody else.")
    return found


def _counts(job: str, found: Sequence[_Pub], bits: int, shots: int) -> dict[str, int]:
    """Shots by word. Samples are whole numbers in hex, bit 0 the lowest."""
    samples = found[0].data.get("c") if len(found) == 1 else None
    if samples is None or samples.num_bits != bits or len(samples.samples) != shots:
        raise Refused(f"Job {job} was for {shots} shots of {bits} bits; its results are not.")
    counted: Counter[str] = Counter()
    try:
        for each in samples.samples:
            value = int(each, 16)
            if not 0 <= value < 1 << bits:
                raise ValueError(each)
            counted[f"{value:0{bits}b}"] += 1
    except ValueError as error:
        raise Refused(f"Job {job} has a sample that is no word of {bits} bits.") from error
    return dict(sorted(counted.items()))


def _calibration(name: str, on: Sequence[int], known: _Properties) -> Calibration:
    """Of the qubits that are used, numbered anew."""
    place = {qubit: at for at, qubit in enumerate(on)}
    errors: dict[int, float] = {}
    edges: dict[str, float] = {}
    seconds: dict[str, list[float]] = {"sx": [], "cz": []}
    for gate in known.gates:
        if gate.gate not in seconds or not all(q in place for q in gate.qubits):
            continue
        figures = _figures(gate.parameters)
        error = figures.get("gate_error", 0.0)
        if "gate_length" in figures:
            seconds[gate.gate].append(figures["gate_length"])
        if gate.gate == "sx":
            errors[gate.qubits[0]] = min(DEAD, native.pauli_error(error, 1))
        elif error < DEAD:
            low, high = sorted(place[q] for q in gate.qubits)
            edges[f"{low}-{high}"] = native.pauli_error(error, 2)
    qubits = [_figures(known.qubits[q]) if q < len(known.qubits) else {} for q in on]
    return Calibration(
        backend=name,
        taken_at=known.last_update_date,
        qubits=tuple(
            _qubit(figures, errors.get(q, 0.0)) for q, figures in zip(on, qubits, strict=True)
        ),
        edges=edges,
        gate_1q_s=_mean(seconds["sx"]),
        gate_2q_s=_mean(seconds["cz"]),
        readout_s=_mean([f["readout_length"] for f in qubits if "readout_length" in f]),
    )


def _qubit(figures: dict[str, float], error: float) -> QubitFigures:
    wrong, t1, t2 = figures.get("readout_error", 0.0), figures.get("T1"), figures.get("T2")
    return QubitFigures(
        error=error,
        t1_s=t1 or None,
        t2_s=min(t2, 2 * t1) if t1 and t2 else None,
        read_1_for_0=min(DEAD, figures.get("prob_meas1_prep0", wrong)),
        read_0_for_1=min(DEAD, figures.get("prob_meas0_prep1", wrong)),
    )


def _figures(found: Sequence[_Figure]) -> dict[str, float]:
    """In seconds and shares; those that are missing are left out."""
    return {f.name: f.value * UNITS.get(f.unit, 1.0) for f in found if f.value is not None}


def _mean(found: Sequence[float]) -> float:
    return sum(found) / len(found) if found else 0.0
