"""The programs on which engines are compared, as graphs, as Stim circuits and as peers take them.

Random ones come from a fixed seed, so every run compares the same programs.
"""

from __future__ import annotations

import json
import random
from typing import Any, Final

import stim

from harness.bench.peers_engine import Program
from qmkd.engine.noise import NoiseModel, Uniform
from qmkd.engine.prepared import Prepared
from qmkd.engine.stim_alone import lines_of
from qvm.isa import OPERANDS_MAX
from qvm.program import Step

Json = dict[str, Any]

GATES: Final = {
    "APPLY_H": "H", "APPLY_S": "S", "APPLY_T": "T", "APPLY_X": "X", "APPLY_Z": "Z",
    "APPLY_CNOT": "CX", "MEASURE_Z": "M",
}  # fmt: skip


def noisy(rate: float) -> Uniform:
    """The same rate for every kind of error."""
    return Uniform(one=rate, two=rate, reset=rate, readout=rate)


class Writer:
    """A program being written."""

    def __init__(self, qubits: int) -> None:
        self.qubits = [f"q{at}" for at in range(qubits)]
        self.nodes: list[Json] = []
        self.events: list[str] = []
        for first in range(0, qubits, OPERANDS_MAX):
            some = range(first, min(first + OPERANDS_MAX, qubits))
            args = {"n": len(some), "profile": "logical:ideal"}
            self.add("ALLOC_LQ", *some, args=args)

    def add(self, op: str, *qubits: int, **fields: Any) -> None:
        vqs = [self.qubits[at] for at in qubits]
        self.nodes.append({"id": f"n{len(self.nodes)}", "op": op, "vqs": vqs, **fields})

    def measure(self, qubit: int) -> str:
        self.events.append(f"m{len(self.events)}")
        self.add("MEASURE_Z", qubit, produces=[self.events[-1]])
        return self.events[-1]

    def graph(self) -> bytes:
        resources = {"vqs": self.qubits, "events": self.events}
        body = {"nodes": self.nodes}
        return json.dumps({"version": "0.1", "program": body, "resources": resources}).encode()


def clifford_program(qubits: int, operations: int, pauli_guards: bool) -> bytes:
    """Random gates with a measurement in a hundred, and a measurement of everything at the end."""
    rng, writer = random.Random(1), Writer(qubits)
    while len(writer.nodes) < operations - qubits:
        chance = rng.random()
        if chance < 0.01:
            event = writer.measure(rng.randrange(qubits))
            if pauli_guards:
                guard = {"event": event, "equals": 1}
                writer.add("APPLY_X", rng.randrange(qubits), guard=guard)
        elif chance < 0.5:
            writer.add(rng.choice(("APPLY_H", "APPLY_S")), rng.randrange(qubits))
        else:
            one, two = rng.sample(range(qubits), 2)
            writer.add("APPLY_CNOT", one, two)
    for qubit in range(qubits):
        writer.measure(qubit)
    return writer.graph()


def guarded_program(qubits: int, layers: int, guards: int) -> bytes:
    """Layers of H, S and CNOT; now and then a measurement guards an H or S."""
    rng, writer = random.Random(2), Writer(qubits)
    for layer in range(layers):
        for qubit in range(qubits):
            writer.add(rng.choice(("APPLY_H", "APPLY_S")), qubit)
        order = rng.sample(range(qubits), qubits)
        for one, two in zip(order[::2], order[1::2], strict=True):
            writer.add("APPLY_CNOT", one, two)
        if layer % (layers // guards) == 0:
            one, two = rng.sample(range(qubits), 2)
            guard = {"event": writer.measure(one), "equals": 1}
            writer.add(rng.choice(("APPLY_H", "APPLY_S")), two, guard=guard)
    for qubit in range(qubits):
        writer.measure(qubit)
    return writer.graph()


def guarded_teleport() -> bytes:
    """A stabilizer state teleported, turned by an H and an S under conditions, and measured."""
    writer = Writer(3)
    for op, *qubits in (("H", 0), ("S", 0), ("H", 1), ("CNOT", 1, 2), ("CNOT", 0, 1), ("H", 0)):
        writer.add(f"APPLY_{op}", *qubits)
    mx, mz = writer.measure(0), writer.measure(1)
    for op, event in (("X", mz), ("Z", mx), ("H", mx), ("S", mz)):
        writer.add(f"APPLY_{op}", 2, guard={"event": event, "equals": 1})
    writer.measure(2)
    return writer.graph()


def injections(qubits: int, times: int) -> bytes:
    """T gates by injected states on the qubits but the last, entangled, in turn; all measured.

    Each: a T state on the last qubit, CNOT, its measurement, and an S where that was 1.
    """
    writer, last = Writer(qubits), qubits - 1
    writer.add("APPLY_H", 0)
    for qubit in range(1, last):
        writer.add("APPLY_CNOT", qubit - 1, qubit)
    for turn in range(times):
        qubit = turn % last
        if turn:
            writer.add("RESET", last)
        writer.add("INJECT_T_STATE", last)
        writer.add("APPLY_CNOT", qubit, last)
        guard = {"event": writer.measure(last), "equals": 1}
        writer.add("APPLY_S", qubit, guard=guard)
        writer.add("APPLY_H", qubit)
    for qubit in range(last):
        writer.measure(qubit)
    return writer.graph()


def dense_program(qubits: int, layers: int) -> bytes:
    """H on every qubit, so that no amplitude is 0 for long; layers of one of H, T, S on every qubit
    and CNOT along a line; all measured, so that every gate matters."""
    rng, writer = random.Random(3), Writer(qubits)
    for qubit in range(qubits):
        writer.add("APPLY_H", qubit)
    for layer in range(layers):
        for qubit in range(qubits):
            writer.add(rng.choice(("APPLY_H", "APPLY_T", "APPLY_S")), qubit)
        for one in range(layer % 2, qubits - 1, 2):
            writer.add("APPLY_CNOT", one, one + 1)
    for qubit in range(qubits):
        writer.measure(qubit)
    return writer.graph()


def gates_of(program: Prepared) -> int:
    """How many gates it has."""
    return sum(step.op.startswith("APPLY_") for step in program.lowered.steps)


def as_circuit(program: Prepared, noise: NoiseModel) -> stim.Circuit:
    """For Stim: guarded Paulis become feedback, and other guarded gates are left out.

    The errors that follow a guarded Pauli here strike whether it happened or not.
    """
    lines: list[str] = []
    made, at = 0, dict[int, int]()
    for step in program.lowered.steps:
        before, operation, after = lines_of(step, noise)
        if step.events:
            at[step.events[0]], made = made, made + 1
        if step.guard is not None:
            if step.op != "APPLY_X":
                continue
            ((event, _),) = step.guard.tests
            operation = (f"CX rec[{at[event] - made}] {step.qubits[0]}",)
        lines += (*before, *operation, *after)
    return stim.Circuit("\n".join(lines))


def as_ops(program: Prepared, rate: float) -> Program:
    """For peers."""

    def guard(step: Step) -> int | None:
        return None if step.guard is None else step.guard.tests[0][0]

    ops = [
        (GATES[step.op], list(step.qubits), guard(step))
        for step in program.lowered.steps
        if step.op != "ALLOC_LQ"
    ]
    return Program(qubits=program.lowered.slots, ops=ops, noise=rate)
