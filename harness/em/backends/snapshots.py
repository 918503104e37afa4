"""Qiskit Aer with the noise of a real device, as snapshots in qiskit-ibm-runtime have it.

The best connected qubits of the device are chosen and numbered from 0. Real calibrations have
holes: dead edges (errors of DEAD or more) are left out, a qubit without T1 or T2 does not relax,
and one that is connected to nothing is not chosen. Circuits are routed and translated and nothing
more: an optimiser would take folded gates out again.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

from harness.em.backends import backend as common
from harness.em.backends.backend import (
    Calibration,
    Capabilities,
    Cost,
    Outcome,
    QubitFigures,
    Refused,
)
from runtime.jit.circuit import Circuit

DEAD: Final = 0.5
QUBITS_MAX: Final = 10
EXTRA: Final = "pip install qiskit-ibm-runtime, in an environment of its own"
"""It takes python-dateutil below 3, which what is pinned here does not."""
PAIR_GATES: Final = ("cx", "ecr", "cz")
GATES: Final = ("rz", "sx", "x")


class Snapshot:
    """name: of the device, like `fake_lima`. qubits: how many of it, the best connected ones."""

    crypto_modes = ("classical",)
    availability = 1.0

    def __init__(self, name: str, qubits: int = 5) -> None:
        if not 2 <= qubits <= QUBITS_MAX:
            raise Refused(f"Of a snapshot 2 to {QUBITS_MAX} qubits are taken, not {qubits}.")
        device = _device(name)
        target = device.target
        self._pair_gate = next((g for g in PAIR_GATES if g in target.operation_names), None)
        if self._pair_gate is None:
            raise Refused(f"{name} has none of the gates {', '.join(PAIR_GATES)}.")
        edges = live_edges(target, self._pair_gate)
        self.layout = best_connected(edges, qubits)
        if len(self.layout) < qubits:
            told = f"{name} has {len(self.layout)} qubits that live edges connect"
            raise Refused(f"{told}, not {qubits}.")
        self.name = f"aer:{name},qubits={qubits}"
        self.capabilities = Capabilities(qubits=qubits)
        self.cost = Cost(seconds_overhead=0.5)
        self._device, self._edges = device, edges
        self.calibration: Calibration = _calibration(self.name, device, edges, self.layout)
        self._simulator: Any = None

    def run(self, circuit: Circuit, shots: int, seed: int, distance: int | None = None) -> Outcome:
        """As of `Backend`."""
        common.check(self, circuit, shots, distance)
        if self._simulator is None:
            self._simulator = self._noisy()
        job = self._simulator.run(self._routed(circuit), shots=shots, seed_simulator=seed % 2**31)
        return Outcome(counts=dict(sorted(job.result().get_counts().items())))

    def _noisy(self) -> Any:
        from qiskit_aer import AerSimulator
        from qiskit_aer.noise import (
            NoiseModel,
            ReadoutError,
            depolarizing_error,
            thermal_relaxation_error,
        )

        known = self.calibration
        model = NoiseModel(basis_gates=[*GATES, self._pair_gate])
        for q, figures in enumerate(known.qubits):
            relax = _relaxation(thermal_relaxation_error, figures, known.gate_1q_s)
            error = depolarizing_error(min(1.0, 4 * figures.error / 3), 1)
            for gate in ("sx", "x"):
                model.add_quantum_error(error.compose(relax) if relax else error, gate, [q])
            a, b = figures.read_1_for_0, figures.read_0_for_1
            model.add_readout_error(ReadoutError([[1 - a, a], [b, 1 - b]]), [q])
        for one, other in self._pairs():
            error = depolarizing_error(min(1.0, 16 * known.pair_error(one, other) / 15), 2)
            both = [
                _relaxation(thermal_relaxation_error, known.qubits[q], known.gate_2q_s)
                for q in (one, other)
            ]
            if all(both):
                error = error.compose(both[1].tensor(both[0]))
            model.add_quantum_error(error, self._pair_gate, [one, other])
        return AerSimulator(noise_model=model, method="density_matrix")

    def _pairs(self) -> list[tuple[int, int]]:
        places = {physical: q for q, physical in enumerate(self.layout)}
        both = [(places[a], places[b]) for a, b in self._edges if a in places and b in places]
        return sorted({*both, *((b, a) for a, b in both)})

    def _routed(self, circuit: Circuit) -> Any:
        from qiskit import QuantumCircuit, transpile

        made = QuantumCircuit(circuit.width, circuit.bit_count)
        for each in circuit.operations:
            if each.name == "measure":
                made.measure(each.qubits[0], each.bits[0])
            else:
                getattr(made, each.name)(*(a.radians for a in each.angles), *each.qubits)
                # Nothing may be put together across gates, folded ones least of all.
                made.barrier(*each.qubits)
        return transpile(
            made,
            basis_gates=[*GATES, self._pair_gate],
            coupling_map=[list(pair) for pair in self._pairs()],
            initial_layout=list(range(circuit.width)),
            optimization_level=0,
            seed_transpiler=1,
        )

    def close(self) -> None:
        """Holds nothing."""


def _device(name: str) -> Any:
    try:
        from qiskit_ibm_runtime import fake_provider
    except ImportError as error:
        raise Refused(
            f"Snapshots come with qiskit-ibm-runtime, which is not here: {EXTRA}."
        ) from error
    wanted = "".join(part.capitalize() for part in name.split("_")) + "V2"
    plain = wanted.removesuffix("V2")
    found = getattr(fake_provider, wanted, None) or getattr(fake_provider, plain, None)
    if found is None or not plain.startswith("Fake"):
        raise Refused(f"qiskit-ibm-runtime has no snapshot {name!r}; fake_lima is one.")
    return found()


def live_edges(target: Any, gate: str) -> dict[tuple[int, int], float]:
    """Errors of two-qubit gates, the better direction, by (low, high); dead ones are left out."""
    found: dict[tuple[int, int], float] = {}
    for pair, figures in target[gate].items():
        error = None if figures is None else figures.error
        if error is None or error >= DEAD:
            continue
        low, high = sorted(pair)
        found[low, high] = min(error, found.get((low, high), 1.0))
    return found


def best_connected(edges: dict[tuple[int, int], float], qubits: int) -> list[int]:
    """A connected set grown from each edge by the best edge out of it; that of least error."""
    best: tuple[float, list[int]] = (float("inf"), [])
    for first, error in sorted(edges.items(), key=lambda item: (item[1], item[0])):
        chosen, total = list(first), error
        while len(chosen) < qubits:
            out = [
                (e, pair) for pair, e in edges.items() if (pair[0] in chosen) != (pair[1] in chosen)
            ]
            if not out:
                break
            e, (a, b) = min(out)
            chosen.append(b if a in chosen else a)
            total += e
        better = (-len(chosen), total) < (-len(best[1]), best[0])
        if better:
            best = (total, chosen)
    return best[1]


def _calibration(
    name: str, device: Any, edges: dict[tuple[int, int], float], layout: list[int]
) -> Calibration:
    target = device.target
    pair_gate = next(gate for gate in PAIR_GATES if gate in target.operation_names)
    qubits = [_figures(device, physical) for physical in layout]
    places = {physical: q for q, physical in enumerate(layout)}
    near = {
        (places[a], places[b]): error
        for (a, b), error in edges.items()
        if a in places and b in places
    }
    return Calibration(
        backend=name,
        taken_at=_when(device),
        qubits=tuple(qubits),
        edges={f"{a}-{b}": e for (a, b), e in all_pairs(near, len(layout)).items()},
        gate_1q_s=_mean_duration(target, "sx", 35e-9),
        gate_2q_s=_mean_duration(target, pair_gate, 300e-9),
        readout_s=_mean_duration(target, "measure", 1e-6),
    )


def all_pairs(near: dict[tuple[int, int], float], qubits: int) -> dict[tuple[int, int], float]:
    """Errors of gates between any two: beyond neighbours, with three gates for each swap there."""
    ways = {(min(pair), max(pair)): error for pair, error in near.items()}
    cost = {(a, b): 0.0 if a == b else float("inf") for a in range(qubits) for b in range(qubits)}
    for (a, b), error in ways.items():
        cost[a, b] = cost[b, a] = error
    for middle, a, b in itertools.product(range(qubits), repeat=3):
        cost[a, b] = min(cost[a, b], 3 * cost[a, middle] + cost[middle, b])
    return {
        (a, b): ways.get((a, b), min(DEAD, cost[a, b], cost[b, a]))
        for a in range(qubits)
        for b in range(a + 1, qubits)
    }


def _figures(device: Any, physical: int) -> QubitFigures:
    target = device.target
    known = target.qubit_properties[physical] if target.qubit_properties else None
    t1, t2 = getattr(known, "t1", None), getattr(known, "t2", None)
    gate = target["sx"].get((physical,)) if "sx" in target.operation_names else None
    read = target["measure"].get((physical,))
    wrong = (read.error if read and read.error is not None else 0.0) or 0.0
    one, zero = _asymmetric(device, physical, wrong)
    return QubitFigures(
        error=min(DEAD, gate.error) if gate and gate.error is not None else 0.0,
        t1_s=t1 or None,
        t2_s=min(t2, 2 * t1) if t1 and t2 else None,
        read_1_for_0=min(one, 0.45),
        read_0_for_1=min(zero, 0.45),
    )


def _asymmetric(device: Any, physical: int, wrong: float) -> tuple[float, float]:
    """Chances of 1 for 0 and of 0 for 1, where the snapshot tells them apart."""
    properties = device.properties() if hasattr(device, "properties") else None
    if properties is None:
        return wrong, wrong
    told = properties.qubit_property(physical)
    one, zero = told.get("prob_meas1_prep0"), told.get("prob_meas0_prep1")
    return (one[0] if one else wrong), (zero[0] if zero else wrong)


def _when(device: Any) -> str:
    properties = device.properties() if hasattr(device, "properties") else None
    return "" if properties is None else str(properties.last_update_date.isoformat())


def _mean_duration(target: Any, gate: str, otherwise: float) -> float:
    if gate not in target.operation_names:
        return otherwise
    found = [f.duration for f in target[gate].values() if f is not None and f.duration]
    return float(sum(found) / len(found)) if found else otherwise


def _relaxation(make: Any, figures: QubitFigures, seconds: float) -> Any:
    if figures.t1_s is None or figures.t2_s is None:
        return None
    return make(figures.t1_s, figures.t2_s, seconds)
