"""What the nodes of a program write of events, and what their guards and inputs read.

A part of the verifier (`verify.py`): it gathers which node writes an event, and checks that what
is read may be read. What is read before it is written is settled at the end, where the order of
execution is.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET

from qvm import isa
from qvm.findings import shown
from qvm.isa import Op
from qvm.located import Located
from qvm.program import Condition, Guard, Node

UNWRITTEN: Final = -1
WIDE: Final = "MEASURE_BELL"
"""The operation that writes two bits into one event."""
_PAULI_OPS: Final = frozenset(
    {"APPLY_X", "APPLY_Y", "APPLY_Z", "COND_PAULI", "FENCE_EPOCH", "BAR_REGION"}
)


class Events:
    """writer: of each declared event the node that writes it, or UNWRITTEN. wide: of two bits.

    unwritten_reads: (node, where, event, wanted) of reads that came before the writer.
    branching_guards: how many guards decide more than Pauli corrections.
    """

    def __init__(self, found: Located) -> None:
        self.found = found
        self.writer: dict[str, int] = {}
        self.wide: set[str] = set()
        self.unwritten_reads: list[tuple[int, str, str, int | None]] = []
        self.branching_guards = 0

    def check_reads(self, index: int, node: Node, op: Op) -> None:
        """Check the guard and the inputs of a node that has, or might need, either."""
        guard = node.guard or None
        inputs = node.inputs or ()
        if guard is not None:
            if not op.guardable:
                message = f"{op.name} is done in every shot and takes no guard"
                self.found.error("guard.forbidden", index, ".guard", message)
            if op.name not in _PAULI_OPS:
                self.branching_guards += 1
            self._guard(index, guard)
        if op.inputs.most:
            if guard is None and not inputs:
                self.found.error(
                    "guard.missing", index, "", f"{op.name} needs inputs, a guard, or both"
                )
            if len(inputs) > op.inputs.most:
                self.found.count(index, node, "inputs", len(inputs), op.inputs)
            if len(set(inputs)) != len(inputs):
                self.found.repeated(index, node, "inputs", inputs)
            for at, name in enumerate(inputs):
                self._read(index, f".inputs[{at}]", name, None)
        elif inputs and not set(inputs) <= _events(guard):
            message = f"{op.name} reads no inputs but the events of its guard"
            self.found.error("operand.count", index, ".inputs", message)

    def _guard(self, index: int, guard: Guard) -> None:
        if guard.conditions is UNSET and guard.type is UNSET:
            if guard.event is UNSET or guard.equals is UNSET:
                self.found.error("guard.shape", index, ".guard", "a guard needs event and equals")
            else:
                self._read(index, ".guard", guard.event, guard.equals)
            return
        if guard.event is not UNSET or guard.equals is not UNSET:
            message = "a guard has event and equals, or type and conditions, not both"
            self.found.error("guard.shape", index, ".guard", message)
        if guard.type not in ("and", "or"):
            message = "the type of a guard with conditions is 'and' or 'or'"
            self.found.error("guard.shape", index, ".guard", message)
        if not guard.conditions:
            self.found.error(
                "guard.shape", index, ".guard", "a guard has one condition at the least"
            )
            return
        if len(guard.conditions) > isa.CONDITIONS_MAX:
            message = f"{len(guard.conditions)} conditions are more than {isa.CONDITIONS_MAX}"
            self.found.error("bounds.conditions", index, ".guard.conditions", message)
        for at, condition in enumerate(guard.conditions):
            self._condition(index, f".guard.conditions[{at}]", condition)

    def _condition(self, index: int, where: str, condition: Condition) -> None:
        if (condition.equals is UNSET) == (condition.value is UNSET):
            self.found.error("guard.shape", index, where, "a condition has either equals or value")
            return
        wanted = condition.value if condition.equals is UNSET else condition.equals
        assert wanted is not UNSET
        self._read(index, where, condition.event, wanted)

    def _read(self, index: int, where: str, event: str, wanted: int | None) -> None:
        """Check that `event` can hold `wanted`; None is a term of a parity, which needs one bit."""
        writer = self.writer.get(event)
        if writer is None:
            self.found.undeclared(index, where, event, "events")
        elif writer == UNWRITTEN:
            self.unwritten_reads.append((index, where, event, wanted))
        else:
            self.check_width(index, where, event, wanted)

    def check_width(self, index: int, where: str, event: str, wanted: int | None) -> None:
        """Check that an event that some node writes can hold `wanted`, as `_read` has it."""
        wide = event in self.wide
        if wanted is None:
            if wide:
                message = f"{shown(event)} holds two bits; write two events to take one's parity"
                self.found.error("event.width", index, where, message)
        elif not 0 <= wanted <= (3 if wide else 1):
            message = f"{shown(event)} is never {shown(wanted)}; it is 0 to {3 if wide else 1}"
            self.found.error("event.width", index, where, message)

    def check_produces(self, index: int, node: Node, op: Op) -> None:
        """Check what a node writes that does not just write one bit, once."""
        made = node.produces or ()
        if not op.produces.least <= len(made) <= op.produces.most:
            self.found.count(index, node, "produces", len(made), op.produces)
        for at, name in enumerate(made):
            earlier = self.writer.get(name)
            if earlier is None:
                self.found.undeclared(index, f".produces[{at}]", name, "events")
            elif earlier != UNWRITTEN:
                other = shown(self.found.nodes[earlier].id)
                message = f"{shown(name)} is written by {other} already"
                self.found.error("event.produced_twice", index, f".produces[{at}]", message)
            else:
                self.writer[name] = index
                if op.name == WIDE and len(made) == 1:
                    self.wide.add(name)


def _events(guard: Guard | None) -> set[str]:
    if guard is None:
        return set()
    if guard.event is not UNSET:
        return {guard.event}
    return {condition.event for condition in guard.conditions or ()}
