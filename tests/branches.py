"""Circuits of `runtime.jit` followed exactly, branch by branch: an oracle that shares only the gate
matrices with the compiler. Slow, for a handful of qubits. And the same by way of a QVM program.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from qvm import reference
from qvm.program import VerifiedProgram
from qvm.verify import verify
from runtime.jit.circuit import Circuit, Condition, Operation
from runtime.jit.emit import emit
from runtime.jit.gates import GATES
from runtime.jit.readout import register_counts

Vector = NDArray[np.complex128]
_BASES = {"measure": "", "measure_x": "h", "measure_y": "sdg h"}


def applied(matrix: Vector, state: Vector, qubits: tuple[int, ...]) -> Vector:
    """A matrix on some qubits of a vector whose lowest index bit is qubit 0."""
    width = state.size.bit_length() - 1
    cube = state.reshape((2,) * width)
    axes = [width - 1 - qubit for qubit in reversed(qubits)]
    moved = np.moveaxis(cube, axes, range(len(axes)))
    shape = moved.shape
    moved = (matrix @ moved.reshape(len(matrix), -1)).reshape(shape)
    return np.asarray(np.moveaxis(moved, range(len(axes)), axes).reshape(-1))


def gate_matrix(each: Operation) -> Vector:
    return GATES[each.name].matrix(*(angle.radians for angle in each.angles))


def by_qvm(circuit: Circuit) -> dict[str, float]:
    """The registers' distribution, by the reference interpreter of the program that is emitted."""
    graph = emit(circuit)
    program = verify(graph)
    assert isinstance(program, VerifiedProgram), program
    return register_counts(graph, reference.distribution(program).probabilities)


def unitary(circuit: Circuit) -> Vector:
    """Of a circuit of gates alone, with its global phase."""
    size = 1 << circuit.width
    columns = []
    for start in range(size):
        state = np.zeros(size, dtype=np.complex128)
        state[start] = np.exp(1j * circuit.phase.radians)
        for each in circuit.operations:
            if each.name in GATES:
                assert each.condition is None
                state = applied(gate_matrix(each), state, each.qubits)
            else:
                assert each.name in ("barrier", "fence"), each
        columns.append(state)
    return np.array(columns).T


def distribution(circuit: Circuit) -> dict[str, float]:
    """Exact probabilities of the visible registers, keyed as `readout.register_counts` does."""
    state = np.zeros(1 << circuit.width, dtype=np.complex128)
    state[0] = 1
    branches = [((0,) * circuit.bit_count, state)]
    for each in circuit.operations:
        branches = [after for before in branches for after in _step(each, *before)]
    found: dict[str, float] = defaultdict(float)
    for bits, vector in branches:
        found[_words(circuit, bits)] += float(np.vdot(vector, vector).real)
    return dict(sorted(found.items()))


def _step(
    each: Operation, bits: tuple[int, ...], state: Vector
) -> list[tuple[tuple[int, ...], Vector]]:
    holds = each.condition is None or _holds(each.condition, bits)
    if each.name == "assign":
        return [(_written(bits, each.bits[0], int(holds)), state)]
    if not holds or each.name in ("barrier", "fence"):
        return [(bits, state)]
    if each.name in GATES:
        return [(bits, applied(gate_matrix(each), state, each.qubits))]
    for name in _BASES.get(each.name, "").split():
        state = applied(GATES[name].matrix(), state, each.qubits)
    found = []
    for outcome in (0, 1):
        projector = np.diag([1.0 - outcome, float(outcome)]).astype(np.complex128)
        after = applied(projector, state, each.qubits)
        if np.vdot(after, after).real < 1e-14:
            continue
        if each.name == "reset":
            if outcome:
                after = applied(GATES["x"].matrix(), after, each.qubits)
            found.append((bits, after))
            continue
        for name in reversed(_BASES[each.name].replace("sdg", "s").split()):
            after = applied(GATES[name].matrix(), after, each.qubits)
        found.append((_written(bits, each.bits[0], outcome), after))
    return found


def _holds(condition: Condition, bits: tuple[int, ...]) -> bool:
    tests = [bits[bit] == value for bit, value in condition.tests]
    if condition.join == "xor":
        return sum(tests) % 2 == 1
    return all(tests) if condition.join == "and" else any(tests)


def _written(bits: tuple[int, ...], bit: int, value: int) -> tuple[int, ...]:
    return (*bits[:bit], value, *bits[bit + 1 :])


def _words(circuit: Circuit, bits: tuple[int, ...]) -> str:
    words, first = [], 0
    for register in circuit.bits:
        word = bits[first : first + register.size]
        first += register.size
        if not register.hidden:
            words.append("".join(str(bit) for bit in reversed(word)))
    return " ".join(words)
