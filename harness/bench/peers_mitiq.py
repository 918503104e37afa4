"""mitiq, run by an interpreter of its own: questions and answers are JSON, one on each line.

mitiq pins other versions of what is used here, so this program imports nothing of ours and is
imported by nobody. `MITIQ_PYTHON` names the interpreter; `mitigation_bench.py` asks.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

Question = dict[str, Any]
Gate = tuple[str, list[int], list[float]]


def circuit_of(gates: list[Gate]) -> Any:
    """A circuit from names, qubits and angles."""
    import cirq

    fixed = {
        "x": cirq.X, "y": cirq.Y, "z": cirq.Z, "h": cirq.H, "s": cirq.S, "sdg": cirq.S**-1,
        "t": cirq.T, "tdg": cirq.T**-1, "cx": cirq.CNOT, "cz": cirq.CZ,
    }  # fmt: skip
    turns = {"rx": cirq.rx, "ry": cirq.ry, "rz": cirq.rz}
    made = cirq.Circuit()
    for name, qubits, angles in gates:
        gate = turns[name](*angles) if angles else fixed[name]
        made.append(gate.on(*(cirq.LineQubit(q) for q in qubits)))
    return made


def gates_of(circuit: Any) -> list[Gate]:
    """The inverse of `circuit_of`."""
    import cirq

    powers = {0.5: "s", -0.5: "sdg", 0.25: "t", -0.25: "tdg", 1: "z", -1: "z"}
    turns = {cirq.Rx: "rx", cirq.Ry: "ry", cirq.Rz: "rz"}
    plain = {cirq.X: "x", cirq.Y: "y", cirq.H: "h", cirq.CNOT: "cx", cirq.CZ: "cz"}
    found = []
    for each in circuit.all_operations():
        gate, qubits = each.gate, [q.x for q in each.qubits]
        if type(gate) in turns:
            found.append((turns[type(gate)], qubits, [float(gate._rads)]))
        elif isinstance(gate, cirq.ZPowGate):
            found.append((powers[gate.exponent], qubits, []))
        else:
            # Cliffords that undo themselves may come back with the exponent -1.
            own = gate**-1 if getattr(gate, "exponent", 1) == -1 else gate
            found.append((plain[own], qubits, []))
    return found


def fold(asked: Question) -> Question:
    """gates, scales: circuits folded globally, and CPU seconds for folding alone."""
    from mitiq.zne.scaling import fold_global

    circuit = circuit_of(asked["gates"])
    start = time.process_time()
    folded = [fold_global(circuit, scale) for scale in asked["scales"]]
    seconds = time.process_time() - start
    if not asked.get("circuits", True):
        return {"gates": [len(list(each.all_operations())) for each in folded], "seconds": seconds}
    return {"gates": [gates_of(each) for each in folded], "seconds": seconds}


def fit(asked: Question) -> Question:
    """fits: each with kind, scales, values, and a degree or an asymptote where it takes one."""
    from mitiq.zne.inference import ExpFactory, LinearFactory, PolyFactory, RichardsonFactory

    ways: dict[str, Callable[[Question], float]] = {
        "linear": lambda a: LinearFactory.extrapolate(a["scales"], a["values"]),
        "polynomial": lambda a: PolyFactory.extrapolate(a["scales"], a["values"], a["degree"]),
        "richardson": lambda a: RichardsonFactory.extrapolate(a["scales"], a["values"]),
        "exponential": lambda a: ExpFactory.extrapolate(
            a["scales"], a["values"], asymptote=a["asymptote"]
        ),
    }
    start = time.process_time()
    found: list[float | None] = []
    for each in asked["fits"]:
        try:
            found.append(float(ways[each["kind"]](each)))
        except Exception:  # a fit that does not converge is its answer
            found.append(None)
    return {"values": found, "seconds": time.process_time() - start}


def cancel(asked: Question) -> Question:
    """gates, error, samples: PEC circuits for local depolarising errors of two-qubit gates."""
    from mitiq.pec import sample_circuit
    from mitiq.pec.representations import (
        represent_operations_in_circuit_with_local_depolarizing_noise as represented,
    )

    circuit = circuit_of(asked["gates"])
    ways = represented(circuit, asked["error"])
    start = time.process_time()
    sample_circuit(circuit, ways, num_samples=asked["samples"], random_state=1)
    return {"seconds": time.process_time() - start}


def about(asked: Question) -> Question:
    import mitiq

    return {"version": mitiq.__version__}


ANSWERS: dict[str, Callable[[Question], Question]] = {
    "about": about,
    "fold": fold,
    "fit": fit,
    "cancel": cancel,
}


if __name__ == "__main__":
    for line in sys.stdin:
        question = json.loads(line)
        sys.stdout.write(json.dumps(ANSWERS[question["do"]](question)) + "\n")
        sys.stdout.flush()
