"""Transversal logical gates: one layer between two rounds, and what it does to every value.

Each experiment prepares blocks in one basis, waits, applies the gate, waits and measures. Its
observables are the logical qubits of the blocks after the gate, as the ideal gate leaves them: an
observable that flips is a logical error of the output.
"""

from __future__ import annotations

import stim

from qmkd.qec.circuits.memories import check_experiment
from qmkd.qec.circuits.writer import Operator, Writer
from qmkd.qec.codes.code import OTHER, Basis, Code, CodeError


def transversal_cnot(
    code: Code, before: int, after: int, basis: Basis, gates: int = 1, between: int = 1
) -> stim.Circuit:
    """CX from each data qubit of one block to its like in another, `gates` times.

    before, after: rounds of both blocks before the first and after the last gate; between: rounds
    between two gates. Observables: logical qubits of the control block, then of the target.
    Detectors of the control have parts 0 and 1, of the target 2 and 3. Errors of one block become
    correlated with the other's, so a matching decoder needs two passes (arXiv:2403.03272).
    """
    for rounds in (before, after, between):
        check_experiment(code, rounds, basis)
    reach = max(x for x, _ in code.qubits) - min(x for x, _ in code.qubits) + 1
    writer = Writer([code, code.moved(float(int(reach) + 1), 0.0)])
    control, target = writer.blocks
    pairs = [qubit for pair in zip(control.data, target.data, strict=True) for qubit in pair]
    other = dict(zip(control.data, target.data, strict=True))
    other |= {two: one for one, two in other.items()}
    spreads = {"X": frozenset(control.data), "Z": frozenset(target.data)}

    def preimage(operator: Operator) -> tuple[Operator, ...]:
        kind, support = operator
        if not support <= spreads[kind]:
            return (operator,)
        return operator, (kind, frozenset(other[qubit] for qubit in support))

    writer.prepare({0: basis, 1: basis})
    writer.rounds([0, 1], before)
    for number in range(gates):
        writer.gates([0, 1], [0, 1], [("CX", pairs)], preimage)
        writer.rounds([0, 1], after if number == gates - 1 else between)
    _measure_all(writer, [0, 1], basis)
    return writer.circuit


def transversal_h(code: Code, before: int, after: int, basis: Basis) -> stim.Circuit:
    """H on each data qubit of a block, which becomes the dual code; measured in the other basis."""
    check_experiment(code, before, basis)
    check_experiment(code, after, basis)
    writer = Writer([code, code.dual()])

    def preimage(operator: Operator) -> tuple[Operator, ...]:
        return ((OTHER[operator[0]], operator[1]),)

    writer.prepare({0: basis})
    writer.rounds([0], before)
    writer.gates([0], [1], [("H", writer.blocks[0].data)], preimage)
    writer.rounds([1], after)
    _measure_all(writer, [1], OTHER[basis])
    return writer.circuit


def transversal_s(
    code: Code, before: int, after: int, basis: Basis, gates: int = 2, between: int = 1
) -> stim.Circuit:
    """S on the diagonal of a square of data qubits, CZ across it: a logical S, `gates` times.

    For codes whose X checks mirror their Z checks: Bacon-Shor and SHYPS, where it is S on diagonal
    logical qubits and CZ on mirrored pairs. An even number of gates is a Pauli, so that preparation
    and measurement in one basis see it. Errors are not edges: X errors become X and Z.
    Raises CodeError for codes that do not mirror, or for an odd number of gates in basis X.
    """
    for rounds in (before, after, between):
        check_experiment(code, rounds, basis)
    if gates % 2 and basis == "X":
        raise CodeError("an odd number of S takes X to Y, which no layer of the data measures")
    place = {at: i for i, at in enumerate(code.qubits[: code.data])}
    mirror = [place.get((y, x)) for x, y in code.qubits[: code.data]]
    writer = Writer([code])
    block = writer.blocks[0]
    known = {operator for operator, _, _ in block.stabilizers}

    def mirrored(support: frozenset[int]) -> frozenset[int]:
        here = {qubit: i for i, qubit in enumerate(block.data)}
        return frozenset(block.data[mirror[here[qubit]] or 0] for qubit in support)

    if None in mirror or any(
        (OTHER[kind], mirrored(support)) not in known for kind, support in known
    ):
        raise CodeError(f"{code.variant} is not its own dual when it is mirrored: it has no S")

    def preimage(operator: Operator) -> tuple[Operator, ...]:
        kind, support = operator
        return (operator, ("Z", mirrored(support))) if kind == "X" else (operator,)

    diagonal = [block.data[i] for i, j in enumerate(mirror) if i == j]
    across = [
        block.data[at] for i, j in enumerate(mirror) if j is not None and i < j for at in (i, j)
    ]
    writer.prepare({0: basis})
    writer.rounds([0], before)
    for number in range(gates):
        writer.gates([0], [0], [("S", diagonal), ("CZ", across)], preimage)
        writer.rounds([0], after if number == gates - 1 else between)
    _measure_all(writer, [0], basis)
    return writer.circuit


def _measure_all(writer: Writer, chosen: list[int], basis: Basis) -> None:
    """Measure blocks; one observable per logical qubit, block by block."""
    found = writer.measure(chosen, basis)
    index = 0
    for number in chosen:
        block = writer.blocks[number]
        for logical in range(block.code.k):
            results = frozenset(found[qubit] for qubit in block.logical(basis, logical))
            writer.observable(index, results)
            index += 1
