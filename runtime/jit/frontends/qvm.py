"""QVM programs in, so that they can be written as other formats: what `emit.py` does, backwards.

JSON, assembly text or a graph. Gates, measurements, resets, fences, barriers, guards and
conditional Paulis have their like in a circuit; where a qubit lies and what it is encoded in have
none and are left to whoever emits the circuit again. Channels and SET_POLICY speak to the kernel
and are refused. The way out is `runtime/jit/emit.py`; opcodes mean what `qvm/isa.py` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from qvm.assemble import AsmError, assemble
from qvm.decode import decode_graph
from qvm.isa import OPS, Kind
from qvm.program import Graph, Guard, Node, VerifiedProgram
from qvm.verify import verify
from runtime.jit.angles import angle
from runtime.jit.circuit import Circuit, Condition, Position, Unsupported, bit_is
from runtime.jit.frontends.building import Builder, Truth
from runtime.jit.gates import TABLE

_GATES: Final = {row.opcode: row.name for row in TABLE if row.opcode is not None} | {
    "TELEPORT_CNOT": "cx"
}
_MEASURES: Final = {"MEASURE_Z": "measure", "MEASURE_X": "measure_x", "MEASURE_Y": "measure_y"}


def load(source: str | bytes | Graph, *, file: str = "") -> Circuit:
    """Read a QVM program. Raises `Unsupported`, also where the verifier finds it wrong.

    Names `r[i]` are element i of a register r, others a register of their own. Bits are those of
    the registers that `emit` noted in the metadata, else the events.
    """
    graph = source if isinstance(source, Graph) else _decoded(source, file)
    program = verify(graph)
    if not isinstance(program, VerifiedProgram):
        first = program[0]
        raise Unsupported(0, 0, first.path, first.message, file=file)
    return _Reader(program, file).circuit()


def _decoded(source: str | bytes, file: str) -> Graph:
    raw = source.encode() if isinstance(source, str) else source
    if not raw.lstrip().startswith(b"{"):
        try:
            return assemble(raw.decode(), file=file)
        except AsmError as error:
            raise Unsupported(0, 0, "", str(error), file=file) from None
    graph = decode_graph(raw)
    if isinstance(graph, Graph):
        return graph
    raise Unsupported(0, 0, graph[0].path, graph[0].message, file=file)


class _Reader:
    """Every event has a bit, and a truth of having been measured."""

    def __init__(self, program: VerifiedProgram, file: str) -> None:
        self._program = program
        self._graph = program.graph
        self._file = file
        self._build = Builder(file)
        self._bits: dict[str, tuple[int, ...]] = {}
        self._ran: dict[str, Truth] = {}
        self._used: set[str] = set()

    def circuit(self) -> Circuit:
        metadata = self._graph.metadata if isinstance(self._graph.metadata, dict) else {}
        noted: list[dict[str, Any]] = metadata.get("registers", [])
        self._qubits = _numbered(self._graph.resources.vqs, self._build.qubits)
        visible = self._visible(noted)
        for index in self._program.order:
            node = self._graph.program.nodes[index]
            self._build.at = Position(self._file, 0, 0, f"node {node.id}: {node.op}")
            self._node(node, self._program.angles.get(index, 0.0))
        self._build.at = Position(self._file, 0, 0, "registers")
        for bit, told in visible:
            # Bits begin as 0, and nothing else writes these.
            if (truth := self._told(told)) is not False:
                self._build.assign(bit, truth)
        description = self._graph.description
        made = self._build.circuit(description if isinstance(description, str) else "")
        kept = {key: value for key, value in metadata.items() if key != "registers"}
        return msgspec.structs.replace(made, metadata=kept)

    def _visible(self, noted: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
        """Give every event a bit; the bits of registers that are to be reckoned at the end."""
        sizes = {field.name: field.bits for field in self._program.summary.events}
        late = []
        for register in noted:
            bits = self._build.bits(register["name"], register["size"])
            told = register.get("bits", {})
            for place, bit in enumerate(bits):
                if str(place) in told:
                    late.append((bit, told[str(place)]))
                else:
                    self._bits[f"{register['name']}[{place}]"] = (bit,)
        rest = [name for name in sizes if name not in self._bits]
        if noted:
            for name in rest:
                self._bits[name] = tuple(self._build.hidden() for _ in range(sizes[name]))
            return late
        names = [name for name in rest if sizes[name] == 1]
        for name, bit in _numbered(names, self._build.bits).items():
            self._bits[name] = (bit,)
        for name in rest:
            if sizes[name] > 1:
                self._bits[name] = tuple(self._build.bits(name, sizes[name]))
        return late

    def _told(self, told: Mapping[str, Any]) -> Truth:
        """A bit as `emit` noted it, from events."""
        build = self._build
        if "xor" in told:
            terms: list[Truth] = [bit_is(self._bits[name][0]) for name in told["xor"]]
            return build.join("xor", [*terms, bool(told["plus"])])
        cubes = [
            build.join("and", [self._equal(name, value) for name, value in cube])
            for cube in told["any"]
        ]
        return build.join("or", cubes)

    def _equal(self, event: str, value: int) -> Truth:
        """That the event was measured and has the value; the first bit named is the highest."""
        bits = self._bits[event]
        tests: list[Truth] = [
            bit_is(bit, value >> (len(bits) - 1 - place) & 1) for place, bit in enumerate(bits)
        ]
        ran = [] if value else [self._ran.get(event, False)]
        return self._build.join("and", [*tests, *ran])

    def _guard(self, guard: Any) -> Truth:
        if not isinstance(guard, Guard):
            return True
        if not isinstance(guard.conditions, list):
            assert isinstance(guard.event, str)
            assert isinstance(guard.equals, int)
            return self._equal(guard.event, guard.equals)
        tests = []
        for each in guard.conditions:
            value = each.value if isinstance(each.value, int) else each.equals
            assert isinstance(value, int)
            tests.append(self._equal(each.event, value))
        return self._build.join("or" if guard.type == "or" else "and", tests)

    def _node(self, node: Node, turn: float) -> None:
        kind = OPS[node.op].kind
        names = _names(node.vqs)
        qubits = tuple(self._qubits[name] for name in names)
        if kind in (Kind.CHANNEL, Kind.ADMIN):
            raise self._build.unsupported("it speaks to the kernel; a circuit has no like of it")
        if kind is Kind.LIFETIME:
            self._lifetime(node.op, names, qubits)
            return
        if kind is Kind.ORDER:
            self._build.add("fence" if node.op == "FENCE_EPOCH" else "barrier", qubits)
            return
        truth = self._guard(node.guard)
        if node.op == "COND_PAULI":
            inputs: list[Truth] = [bit_is(self._bits[name][0]) for name in _names(node.inputs)]
            if inputs:
                truth = self._build.join("and", (truth, self._build.join("xor", inputs)))
        if truth is False:
            return
        if isinstance(truth, Condition):
            # Events are written once, so what a guard reads stays.
            with self._build.where(truth, steady=True):
                self._carry_out(node, qubits, turn)
        else:
            self._carry_out(node, qubits, turn)

    def _lifetime(self, op: str, names: Sequence[str], qubits: Sequence[int]) -> None:
        """A name that lives again begins in |0> again."""
        if op == "ALLOC_LQ":
            for name, qubit in zip(names, qubits, strict=True):
                if name in self._used:
                    self._build.add("reset", (qubit,))
                self._used.add(name)

    def _carry_out(self, node: Node, qubits: tuple[int, ...], turn: float) -> None:
        add = self._build.add
        events = _names(node.produces)
        for event in events:
            self._ran[event] = self._build.here()
        bits = [bit for event in events for bit in self._bits[event]]
        if node.op in _GATES:
            angles = (angle(turn),) if node.op.startswith("APPLY_R") else ()
            add(_GATES[node.op], qubits, angles)
        elif node.op in _MEASURES:
            add(_MEASURES[node.op], qubits, bits=(bits[0],))
        elif node.op == "MEASURE_ANGLE":
            # RY(-a) turns cos(a) Z + sin(a) X into Z.
            add("ry", qubits, (angle(-turn),))
            add("measure", qubits, bits=(bits[0],))
            add("ry", qubits, (angle(turn),))
        elif node.op == "MEASURE_BELL":
            add("cx", qubits)
            add("measure_x", qubits[:1], bits=(bits[0],))
            add("measure", qubits[1:], bits=(bits[1],))
            add("cx", qubits)
        elif node.op == "RESET":
            add("reset", qubits)
        elif node.op == "INJECT_T_STATE":
            for name in ("reset", "h", "t"):
                add(name, qubits)
        else:
            assert node.op == "COND_PAULI", node.op
            for letter, qubit in zip(_letters(node, len(qubits)), qubits, strict=True):
                if letter != "I":
                    add(letter.lower(), (qubit,))


def _names(value: Any) -> list[str]:
    return value if isinstance(value, list) else []


def _letters(node: Node, count: int) -> str:
    assert isinstance(node.args, dict)
    text = str(node.args["pauli"] if "pauli" in node.args else node.args["mask"])
    return text * count if len(text) == 1 else text


def _numbered(names: Sequence[str], make: Any) -> dict[str, int]:
    """Registers for the names, and the number of each."""
    parts = [(name, *_element(name)) for name in names]
    sizes: dict[str, int] = {}
    for _, register, place in parts:
        sizes[register] = max(sizes.get(register, 0), place + 1)
    if len({(register, place) for _, register, place in parts}) < len(parts) or any(
        size > 2 * len(names) + 64 for size in sizes.values()
    ):
        # Two names for one place, or hardly any of a register: then a register for each name.
        return {name: make(name, 1)[0] for name in names}
    found = {register: make(register, size) for register, size in sizes.items()}
    return {name: found[register][place] for name, register, place in parts}


def _element(name: str) -> tuple[str, int]:
    """`r[3]` as ("r", 3), any other name as element 0 of itself."""
    register, bracket, rest = name.partition("[")
    number = rest.removesuffix("]")
    if bracket and register and rest.endswith("]") and number.isdecimal() and len(number) < 9:
        return register, int(number)
    return name, 0
