"""A verified program in numbers: slots for qubits, positions for events, steps in execution order.

Slots are handed out lowest first and come back with FREE_LQ, so an engine needs as many as are
ever live at once. Two programs with the same digest lower to the same steps. Nothing is optimised
and nothing is run; engines take it from here. The reference interpreter does not: it reads graphs.
"""

from __future__ import annotations

import heapq
from typing import Final

from msgspec import UNSET

from qvm.profiles import Profile, parse_profile
from qvm.program import Guard, Lowered, LoweredGuard, Node, Step, VerifiedProgram

_Primitives = tuple[tuple[str, slice], ...]

# What a teleport through a channel comes to on logical states: opcodes and which operands each
# takes. With one qubit the state stays under its handle, and nothing but the order is left.
_TELEPORTS: Final[dict[tuple[str, int], _Primitives]] = {
    ("teleport_cnot", 2): (("APPLY_CNOT", slice(0, 2)),),
    ("teleport_state", 2): (("RESET", slice(1, 2)), ("APPLY_SWAP", slice(0, 2))),
    ("teleport_state", 1): (("BAR_REGION", slice(0, 1)),),
}


def lower(program: VerifiedProgram) -> Lowered:
    """Number a verified program's qubits and events.

    One step for every node in execution order, except that USE_CHAN becomes the ops that it comes
    to (all with its node index and guard). ALLOC_LQ and FREE_LQ keep their steps.
    """
    return _Lowering(program).run()


class _Lowering:
    """What has been numbered so far."""

    def __init__(self, program: VerifiedProgram) -> None:
        self.program = program
        self.numbers = {field.name: at for at, field in enumerate(program.summary.events)}
        self.slot_of: dict[str, int] = {}
        self.free: list[int] = []
        self.slots = 0
        self.profiles: dict[int, Profile] = {}
        self.steps: list[Step] = []

    def run(self) -> Lowered:
        program = self.program
        nodes = program.graph.program.nodes
        for index in program.order:
            node = nodes[index]
            if node.op == "ALLOC_LQ":
                self._alloc(index, node)
            qubits = tuple([self.slot_of[name] for name in node.vqs or ()])
            self._step(index, node, qubits)
            if node.op == "FREE_LQ":
                for name in node.vqs or ():
                    heapq.heappush(self.free, self.slot_of.pop(name))
        assert self.slots == program.summary.peak_logical, "no slot is wasted"
        return Lowered(
            steps=tuple(self.steps),
            slots=self.slots,
            alloc_profiles=self.profiles,
            events=program.summary.events,
            epochs=program.summary.epochs,
            digest=program.summary.digest,
        )

    def _alloc(self, index: int, node: Node) -> None:
        for name in node.vqs or ():
            if self.free:
                self.slot_of[name] = heapq.heappop(self.free)
            else:
                self.slot_of[name] = self.slots
                self.slots += 1
        profile = parse_profile((node.args or {})["profile"])
        assert isinstance(profile, Profile), "verified"
        self.profiles[index] = profile

    def _step(self, index: int, node: Node, qubits: tuple[int, ...]) -> None:
        epoch = self.program.epoch[index]
        guard = self._guard(node.guard) if node.guard else None
        args = node.args or {}
        if node.op == "USE_CHAN":
            for op, operands in _TELEPORTS[args["semantic"], len(qubits)]:
                self.steps.append(
                    Step(op=op, node=index, epoch=epoch, qubits=qubits[operands], guard=guard)
                )
            return
        numbers = self.numbers
        pauli: str = ""
        xor: tuple[int, ...] = ()
        if node.op == "COND_PAULI":
            pauli = args["pauli"] if "pauli" in args else args["mask"]
            pauli = pauli if len(pauli) == len(qubits) else pauli * len(qubits)
            xor = tuple([numbers[name] for name in node.inputs or ()])
        self.steps.append(
            Step(
                op=node.op,
                node=index,
                epoch=epoch,
                qubits=qubits,
                events=tuple([numbers[name] for name in node.produces or ()]),
                xor=xor,
                pauli=pauli,
                angle=self.program.angles.get(index, 0.0),
                guard=guard,
            )
        )

    def _guard(self, guard: Guard) -> LoweredGuard:
        if guard.event is not UNSET:
            assert guard.equals is not UNSET, "verified"
            return LoweredGuard(any=False, tests=((self.numbers[guard.event], guard.equals),))
        tests = []
        for each in guard.conditions or ():
            wanted = each.value if each.equals is UNSET else each.equals
            assert wanted is not UNSET, "verified"
            tests.append((self.numbers[each.event], wanted))
        return LoweredGuard(any=guard.type == "or", tests=tuple(tests))
