"""A circuit in, a QVM graph out.

Gates that QVM has no opcode for are taken apart by their exact definitions; rotations by multiples
of pi/4 become Clifford and T gates, other rotations stay rotations, which only the `ideal` profile
runs. Every measurement writes an event of its own, so a classical bit becomes a truth function of
events (`logic.py`), and a condition becomes guards. Nothing is approximated or dropped but the
global phase, which no measurement sees. `readout.py` turns events back into registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import UNSET, UnsetType

from qvm.decode import collector_paused
from qvm.isa import CONDITIONS_MAX, EVENTS_MAX, NAME_CHARS_MAX, NODES_MAX, OPERANDS_MAX, QUBITS_MAX
from qvm.program import Body, Condition, Graph, Guard, Node, Resources
from runtime.jit import circuit as form
from runtime.jit import logic
from runtime.jit.circuit import NOWHERE, Circuit, Operation, Unsupported, labels
from runtime.jit.gates import GATES, PAULIS, by_eighths
from syscalls.version import QVM_VERSION

IDEAL: Final = "logical:ideal"
CUBES_MAX: Final = 64
"""Nodes that one conditional operation may take."""

_MEASURES: Final = {"measure": "MEASURE_Z", "measure_x": "MEASURE_X", "measure_y": "MEASURE_Y"}

assert set(_MEASURES) == set(form.MEASUREMENTS)

Where = Guard | UnsetType


def emit(circuit: Circuit, *, profile: str = IDEAL) -> Graph:
    """The QVM graph that does what the circuit does.

    profile: of every qubit. Qubits are allocated at the beginning and freed at the end; those that
    no operation names are left out. Raises Unsupported where a rotation stands on a profile that
    cannot turn by it, or a condition needs too many guards, or the graph grows beyond what QVM
    holds.
    """
    with collector_paused():
        return _Emitter(circuit, profile).run()


class _Emitter:
    """What has been written so far."""

    def __init__(self, circuit: Circuit, profile: str) -> None:
        self.circuit = circuit
        self.profile = profile
        self.ideal = profile.partition("(")[0].strip().lower() in ("ideal", IDEAL)
        self.qubits = labels(circuit.qubits)
        self.bits = labels(circuit.bits)
        self.logic = logic.Logic()
        self.value = [logic.FALSE] * len(self.bits)
        self.writes = [0] * len(self.bits)
        self.events: list[str] = []
        self.nodes: list[Node] = []

    def run(self) -> Graph:
        names = [*self.qubits, *self.bits]
        long = next((name for name in names if len(name) > NAME_CHARS_MAX - 16), None)
        if long is not None:
            raise Unsupported.at(NOWHERE, f"the name {long[:32]!r}... is too long for QVM")
        operations = self.circuit.operations
        used = sorted({qubit for each in operations for qubit in each.qubits})
        held = [self.qubits[qubit] for qubit in used]
        for part in _parts(held):
            args = {"n": len(part), "profile": self.profile}
            self._node("ALLOC_LQ", vqs=part, args=args)
        for each in operations:
            self._operation(each)
        for part in _parts(held):
            self._node("FREE_LQ", vqs=part)
        self._bounds(len(held))
        return Graph(
            version=QVM_VERSION,
            program=Body(nodes=self.nodes),
            resources=Resources(vqs=held, events=self.events),
            metadata={**self.circuit.metadata, "registers": self._registers()},
            description=self.circuit.name or UNSET,
        )

    def _bounds(self, qubits: int) -> None:
        counts = (
            ("nodes", len(self.nodes), NODES_MAX),
            ("qubits", qubits, QUBITS_MAX),
            ("measurements", len(self.events), EVENTS_MAX),
        )
        for what, number, most in counts:
            if number > most:
                why = f"the program has {number:,} {what}; QVM holds {most:,}"
                raise Unsupported.at(NOWHERE, why)

    def _node(
        self,
        op: str,
        *,
        vqs: list[str],
        args: dict[str, Any] | UnsetType = UNSET,
        inputs: list[str] | UnsetType = UNSET,
        produces: list[str] | UnsetType = UNSET,
        guard: Where = UNSET,
    ) -> None:
        self.nodes.append(
            Node(
                id=f"n{len(self.nodes)}",
                op=op,
                vqs=vqs,
                args=args,
                inputs=inputs,
                produces=produces,
                guard=guard,
            )
        )

    def _operation(self, each: Operation) -> None:
        if each.name in form.ORDERS:
            self._order(each)
            return
        runs = logic.TRUE if each.condition is None else self._truth(each.condition)
        if each.name == "assign":
            self.value[each.bits[0]] = runs
            return
        if runs == logic.FALSE:
            return
        if each.name in _MEASURES:
            self._measure(each, runs)
        elif each.name == "reset":
            for guard in self._guards(runs, each):
                self._node("RESET", vqs=[self.qubits[each.qubits[0]]], guard=guard)
        elif each.name in PAULIS and runs != logic.TRUE:
            self._pauli(each, runs)
        elif runs == logic.TRUE:
            self._gate(each, (UNSET,))
        else:
            self._gate(each, self._guards(runs, each))

    def _order(self, each: Operation) -> None:
        vqs = [self.qubits[qubit] for qubit in each.qubits]
        if each.name == "fence":
            self._node("FENCE_EPOCH", vqs=vqs[:OPERANDS_MAX])
        else:
            # A barrier over more qubits than a node may name is one over all of them.
            named = vqs if len(vqs) <= OPERANDS_MAX else []
            self._node("BAR_REGION", vqs=named, args={"tag": "barrier"})

    # --- classical bits ---------------------------------------------------------------------------

    def _truth(self, condition: form.Condition) -> int:
        """The condition as a function of events."""
        functions = [
            self.value[bit] if value else self.logic.negation(self.value[bit])
            for bit, value in condition.tests
        ]
        return self.logic.join(condition.join, functions)

    def _measure(self, each: Operation, runs: int) -> None:
        (bit,) = each.bits
        outcome = logic.FALSE
        # The parts of a condition exclude one another, so at most one of these measurements runs.
        for part, guard in self._parts_of(runs, each):
            event = self.logic.event(part)
            self.writes[bit] += 1
            number = self.writes[bit]
            name = self.bits[bit] if number == 1 else f"{self.bits[bit]}@{number}"
            self.events.append(name)
            self._node(
                _MEASURES[each.name],
                vqs=[self.qubits[each.qubits[0]]],
                produces=[name],
                guard=guard,
            )
            outcome = self.logic.join("or", (outcome, self.logic.true(event)))
        self.value[bit] = self.logic.choose(runs, outcome, self.value[bit])

    def _parts_of(self, runs: int, each: Operation) -> Iterator[tuple[int, Where]]:
        """Functions that exclude one another and make up `runs`, each with its guard."""
        if runs == logic.TRUE:
            yield runs, UNSET
            return
        tests = self.logic.any_of(runs)
        if tests is not None and 1 < len(tests) <= CONDITIONS_MAX:
            yield runs, self._guard("or", tests)
            return
        for cube in self._cubes(runs, each):
            truths = [
                self.logic.true(event) if value else self.logic.negation(self.logic.true(event))
                for event, value in cube
            ]
            ran = [self.logic.runs[event] for event, _ in cube]
            yield self.logic.join("and", truths + ran), self._guard("and", cube)

    def _cubes(self, runs: int, each: Operation) -> list[logic.Cube]:
        try:
            cubes = self.logic.cubes(runs, CUBES_MAX)
        except logic.TooRich:
            why = f"its condition would take more than {CUBES_MAX} guarded nodes"
            raise Unsupported.at(each.at, why) from None
        if any(len(cube) > CONDITIONS_MAX for cube in cubes):
            why = f"its condition compares more than {CONDITIONS_MAX} measurements"
            raise Unsupported.at(each.at, why)
        return cubes

    def _guards(self, runs: int, each: Operation) -> list[Where]:
        return [guard for _, guard in self._parts_of(runs, each)]

    def _guard(self, join: str, tests: logic.Cube) -> Guard:
        if len(tests) == 1:
            ((event, value),) = tests
            return Guard(event=self.events[event], equals=value)
        conditions = [Condition(event=self.events[e], equals=value) for e, value in tests]
        return Guard(type=join, conditions=conditions)

    def _pauli(self, each: Operation, runs: int) -> None:
        """A conditional Pauli: by the XOR of events where the condition is one."""
        vqs = [self.qubits[each.qubits[0]]]
        parity = self.logic.parity(runs)
        if parity is None or len(parity[0]) < 2 or len(parity[0]) > OPERANDS_MAX:
            for guard in self._guards(runs, each):
                self._node(f"APPLY_{each.name.upper()}", vqs=vqs, guard=guard)
            return
        events, always = parity
        if always:
            self._node(f"APPLY_{each.name.upper()}", vqs=vqs)
        self._node(
            "COND_PAULI",
            vqs=vqs,
            args={"pauli": each.name.upper()},
            inputs=[self.events[event] for event in events],
        )

    # --- gates ------------------------------------------------------------------------------------

    def _gate(self, each: Operation, guards: Sequence[Where]) -> None:
        row = GATES[each.name]
        if row.opcode is None:
            for part in form.defined(each)[0]:
                self._gate(part, guards)
            return
        vqs = [self.qubits[qubit] for qubit in each.qubits]
        if not each.angles:
            for guard in guards:
                self._node(row.opcode, vqs=vqs, guard=guard)
            return
        (angle,) = each.angles
        eighths = angle.eighths
        if eighths is not None:
            for name in by_eighths(each.name, eighths)[0]:
                for guard in guards:
                    self._node(_opcode(name), vqs=vqs, guard=guard)
            return
        if not self.ideal:
            why = f"{each.name}({angle.radians!r}) is no Clifford+T gate, as {self.profile} needs"
            raise Unsupported.at(each.at, why)
        for guard in guards:
            self._node(row.opcode, vqs=vqs, args={"theta": angle.radians}, guard=guard)

    # --- what the events mean ---------------------------------------------------------------------

    def _registers(self) -> list[dict[str, Any]]:
        """Of each register its name and size, and of each bit that is not simply the event of its
        own name, how it follows from events; read by `readout.py`."""
        found, first = [], 0
        for register in self.circuit.bits:
            bits = range(first, first + register.size)
            first += register.size
            if register.hidden:
                continue
            row: dict[str, Any] = {"name": register.name, "size": register.size}
            odd = {str(bit - bits.start): told for bit in bits if (told := self._told(bit))}
            found.append(row | ({"bits": odd} if odd else {}))
        return found

    def _told(self, bit: int) -> dict[str, Any]:
        parity = self.logic.parity(self.value[bit])
        if parity is not None:
            events = [self.events[event] for event in parity[0]]
            return {} if (events, parity[1]) == ([self.bits[bit]], 0) else {
                "xor": events, "plus": parity[1],
            }  # fmt: skip
        try:
            cubes = self.logic.cubes(self.value[bit], CUBES_MAX)
        except logic.TooRich:
            why = f"its value at the end follows from events in more than {CUBES_MAX} ways"
            raise Unsupported(0, 0, self.bits[bit], why) from None
        return {"any": [[[self.events[e], value] for e, value in cube] for cube in cubes]}


def _opcode(name: str) -> str:
    opcode = GATES[name].opcode
    assert opcode is not None, name
    return opcode


def _parts(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), OPERANDS_MAX):
        yield names[start : start + OPERANDS_MAX]
