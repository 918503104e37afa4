"""Clifford circuits of any width under the twirled errors of a machine, sampled by Stim.

Each error becomes the Pauli channel that twirling makes of it (Geller and Zhou, arXiv:1305.2021
for relaxation): what it does to expectation values is kept but for what is no Pauli channel, that
is the drift towards |0> and the coherence of turns that go too far. Readout errors are drawn as
they are.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import stim
from numpy.typing import NDArray

from harness.em.backends.backend import Refused
from harness.em.backends.device import Device, Gate, kept, steps
from runtime.jit.circuit import Circuit, Operation
from runtime.jit.gates import by_eighths

_GATES: Final = {
    "x": "X", "y": "Y", "z": "Z", "h": "H", "s": "S", "sdg": "S_DAG", "cx": "CX", "cz": "CZ",
}  # fmt: skip
_PAIRS: Final = [a + b for a in "IXYZ" for b in "IXYZ"][1:]


def sample(circuit: Circuit, device: Device, shots: int, seed: int) -> dict[str, int]:
    """Counts by outcome, bit 0 on the right. Raises Refused for what is no Clifford circuit."""
    made = stim.Circuit()
    for step in steps(circuit, device.figures):
        if isinstance(step, Gate):
            for name in _names(step.operation):
                made.append(name, step.operation.qubits)
            if step.seconds:
                _errors(made, device, step)
        else:
            _relax(made, device, step.qubit, step.seconds)
    made.append("M", range(circuit.width))
    bits = made.compile_sampler(seed=seed).sample(shots)
    figures = device.figures.qubits[: circuit.width]
    wrong = np.where(bits, [q.read_0_for_1 for q in figures], [q.read_1_for_0 for q in figures])
    bits = bits ^ (np.random.Generator(np.random.PCG64([seed, 1])).random(bits.shape) < wrong)
    return counts_of(bits)


def counts_of(bits: NDArray[np.bool_]) -> dict[str, int]:
    """Shots by word, sorted; column 0 is on the right."""
    letters = np.ascontiguousarray(bits[:, ::-1].astype(np.uint8) + ord("0"))
    words, shots = np.unique(letters.view(f"S{letters.shape[1]}").reshape(-1), return_counts=True)
    return {word.decode(): int(n) for word, n in zip(words, shots, strict=True)}


def is_clifford(circuit: Circuit) -> bool:
    """Whether `sample` takes it."""
    try:
        for each in circuit.operations:
            if each.name != "measure":
                _names(each)
    except Refused:
        return False
    return True


def _names(each: Operation) -> tuple[str, ...]:
    if each.name in _GATES:
        return (_GATES[each.name],)
    eighths = each.angles[0].eighths if each.angles else None
    if eighths is None or eighths % 2:
        told = f"`{each.name}`"
        raise Refused(f"{told} is no Clifford gate, and this many qubits take no other.")
    return tuple(_GATES[name] for name in by_eighths(each.name, eighths)[0])


def _errors(made: stim.Circuit, device: Device, step: Gate) -> None:
    each, figures = step.operation, device.figures
    if len(each.qubits) == 1:
        made.append("X_ERROR", each.qubits, math.sin(device.turn_1q / 2) ** 2)
        made.append("DEPOLARIZE1", each.qubits, figures.qubits[each.qubits[0]].error)
    else:
        far = [0.0] * 15
        far[_PAIRS.index("ZX" if each.name == "cx" else "ZZ")] = math.sin(device.turn_2q / 2) ** 2
        made.append("PAULI_CHANNEL_2", each.qubits, far)
        made.append("DEPOLARIZE2", each.qubits, figures.pair_error(*each.qubits))
    for qubit in each.qubits:
        _relax(made, device, qubit, step.seconds)


def _relax(made: stim.Circuit, device: Device, qubit: int, seconds: float) -> None:
    transverse, along = kept(device.figures.qubits[qubit], seconds)
    flip = (1 - along) / 4
    made.append("PAULI_CHANNEL_1", [qubit], [flip, flip, max(0.0, (1 - transverse) / 2 - flip)])
