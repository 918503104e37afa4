"""Whether two lists of gates do the same, up to the global phase.

Four ways, each for what it can carry: stabilizer tableaus for Clifford gates on any number of
qubits, the whole unitary, random states, and a proof by rewriting. What none of them can decide
counts as different. The proof is by pyzx, an engine too; the rest knows nothing of engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtime.jit.circuit import Operation
from runtime.jit.costs import counts
from runtime.jit.gates import GATES, by_eighths

UNITARY_QUBITS_MAX: Final = 10
STATE_QUBITS_MAX: Final = 20
WORK_MAX: Final = 1 << 29
"""Gates times amplitudes: seconds."""
STATES: Final = 2
TOLERANCE: Final = 1e-8
"""Of amplitudes. Floats lose 1e-15 at every gate; a wrong gate costs 1e-2 even where it is a T."""

States = NDArray[np.complex128]


class Witness(StrEnum):
    """How equality was found."""

    SAME = "same"
    """They are the same gates."""
    TABLEAU = "tableau"
    UNITARY = "unitary"
    STATES = "random states"
    REWRITING = "rewriting"


class Twin:
    """Gates to which others are compared; what that takes of them is reckoned once."""

    def __init__(self, gates: Sequence[Operation], width: int) -> None:
        self.gates = tuple(gates)
        self.width = width
        self._clifford = _clifford(gates)

    def witness(self, other: Sequence[Operation]) -> Witness | None:
        """How the two were found equal; None where they are not, or where nobody can tell."""
        width = self.width
        if self.gates == tuple(other):
            return Witness.SAME
        if self._clifford and _clifford(other):
            return Witness.TABLEAU if self._tableau == _tableau(other, width) else None
        work = max(len(self.gates), len(other)) << width
        if width <= UNITARY_QUBITS_MAX and work << width <= WORK_MAX:
            unitary = applied(other, np.eye(1 << width, dtype=np.complex128))
            return Witness.UNITARY if _same(self._unitary, unitary) else None
        if width <= STATE_QUBITS_MAX and STATES * work <= WORK_MAX:
            states = applied(other, _random_states(width))
            return Witness.STATES if _same(self._states, states) else None
        return Witness.REWRITING if _rewritten(self.gates, other, width) else None

    @cached_property
    def _tableau(self) -> Any:
        return _tableau(self.gates, self.width)

    @cached_property
    def _unitary(self) -> States:
        return applied(self.gates, np.eye(1 << self.width, dtype=np.complex128))

    @cached_property
    def _states(self) -> States:
        return applied(self.gates, _random_states(self.width))


def applied(gates: Sequence[Operation], states: States) -> States:
    """The states after the gates. states: shape (2^qubits, how many); qubit 0 is the lowest bit."""
    for each in gates:
        matrix = GATES[each.name].matrix(*(value.radians for value in each.angles))
        states = _turned(matrix, each.qubits, states)
    return states


def _turned(matrix: States, qubits: Sequence[int], states: States) -> States:
    if len(qubits) == 1:
        cube = states.reshape(-1, 2, states.shape[1] << qubits[0])
        return np.asarray(matrix @ cube).reshape(states.shape)
    low, high = sorted(qubits)
    cube = states.reshape(-1, 2, 1 << (high - low - 1), 2, states.shape[1] << low)
    # The first operand is the matrix's lowest bit; a pair of indices names (second, first).
    four = matrix.reshape(2, 2, 2, 2)
    if qubits[0] == high:
        four = four.transpose(1, 0, 3, 2)
    return np.asarray(np.einsum("abcd,icjdk->iajbk", four, cube)).reshape(states.shape)


def _same(one: States, other: States) -> bool:
    """Whether both are the same states, all of them with one global phase."""
    overlap = np.vdot(one, other)
    if abs(overlap) < 0.5 * np.vdot(one, one).real:
        return False
    return bool(np.abs(one * (overlap / abs(overlap)) - other).max() <= TOLERANCE)


def _random_states(width: int) -> States:
    """Gaussian amplitudes: whatever differs shows in each, but for a set of measure zero."""
    generator = np.random.default_rng(width)
    real, imaginary = generator.normal(size=(2, 1 << width, STATES))
    states = real + 1j * imaginary
    return np.asarray(states / np.linalg.norm(states, axis=0))


def _clifford(gates: Sequence[Operation]) -> bool:
    found = counts(gates)
    return not found.t and not found.rotations


def _tableau(gates: Sequence[Operation], width: int) -> Any:
    import stim

    circuit = stim.Circuit()
    for each in gates:
        names = [each.name]
        if each.angles:
            eighths = each.angles[0].eighths
            assert eighths is not None, "Clifford"
            names = list(by_eighths(each.name, eighths)[0])
        for name in names:
            circuit.append({"sdg": "S_DAG"}.get(name, name.upper()), each.qubits)
    circuit.append("I", [width - 1])
    return stim.Tableau.from_circuit(circuit)


def _rewritten(one: Sequence[Operation], other: Sequence[Operation], width: int) -> bool:
    """Whether one after the inverse of the other is reduced to nothing as a ZX diagram."""
    from runtime.jit.optimise.engines import to_zx

    return bool(to_zx(one, width).verify_equality(to_zx(other, width)))
