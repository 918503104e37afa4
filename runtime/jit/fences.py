"""Fences, where a job may be stopped at the least cost.

A running job parks at its next fence (docs/decisions/0021-parking.md), and what it costs grows with
the state that has to be kept, so fences stand where the fewest qubits hold something. They end REV
segments and the stretches that may be rewritten: this comes last. Nothing else is moved.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime.jit.circuit import MEASUREMENTS, Circuit, Operation, expanded
from runtime.jit.gates import GATES


def fenced(circuit: Circuit, steps: int) -> Circuit:
    """The circuit with fences such that no chain of more than `steps` operations lacks one.

    Each stands in the second half of what is allowed, before the operation at which the fewest
    qubits are held; of equal places the last. Fences that are there already count. Gates without
    opcodes are taken apart, as fences may stand inside them, which loses the global phase.
    """
    assert steps >= 1
    operations = tuple(expanded(circuit.operations))
    held = _held(operations)
    made: list[Operation] = []
    start = 0
    while start < len(operations):
        end = _next(operations, held, start, steps)
        made += operations[start:end]
        if end < len(operations) and not _is_fence(operations[end]) and made:
            made.append(Operation("fence"))
        if end < len(operations) and _is_fence(operations[end]):
            made.append(operations[end])
            end += 1
        start = end
    return circuit.with_operations(made)


def _is_fence(each: Operation) -> bool:
    return each.name == "fence" and not each.qubits


def _next(operations: Sequence[Operation], held: Sequence[int], start: int, steps: int) -> int:
    """Where the next fence belongs: before which operation, from `start` on."""
    depth: dict[tuple[str, int], int] = {}
    best = start
    deepest = 0
    for at in range(start, len(operations)):
        each = operations[at]
        if _is_fence(each):
            return at
        if 2 * deepest >= steps and (best == start or held[at] <= held[best]):
            best = at
        wires = _wires(each)
        level = max((depth.get(wire, 0) for wire in wires), default=0) + _counts(each)
        if level > steps:
            return at if best == start else best
        deepest = max(deepest, level)
        depth.update(dict.fromkeys(wires, level))
    return len(operations)


def _wires(each: Operation) -> list[tuple[str, int]]:
    wires = [("q", qubit) for qubit in each.qubits] + [("b", bit) for bit in each.bits]
    if each.condition is not None:
        wires += [("b", bit) for bit, _ in each.condition.tests]
    return wires


def _counts(each: Operation) -> bool:
    """Whether it takes a step of time."""
    return each.name in GATES or each.name in MEASUREMENTS or each.name == "reset"


def _held(operations: Sequence[Operation]) -> list[int]:
    """Before each operation, how many qubits hold what a later operation needs.

    A qubit does from its first gate on, as long as something other than a reset is still to come.
    """
    count = len(operations)
    change = [0] * (count + 1)
    last: dict[int, int] = {}
    for at, each in enumerate(operations):
        if not _counts(each):
            continue
        fresh = each.name == "reset" and each.condition is None
        for qubit in each.qubits:
            if qubit in last and not fresh:
                # Held before every operation after the last one on it, up to this one.
                change[last[qubit] + 1] += 1
                change[at + 1] -= 1
            if fresh:
                last.pop(qubit, None)
            else:
                last[qubit] = at
    held, level = [], 0
    for at in range(count):
        level += change[at]
        held.append(level)
    return held
