"""A graph in, a `VerifiedProgram` or findings out.

One pass over the nodes in list order, which is the order of every handle's life; then what needs
the whole program: events read before they are written, the execution order, the peaks. Linear in
the size of the program (times a logarithm where nodes move). Nothing is repaired and nothing is
run. The rules by name stand in `findings.py`, the opcodes in `isa.py`; read `lower.py` next.

A `Graph` made by hand must hold the types it declares; `decode.py` makes sure of it for bytes.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from qvm import isa
from qvm.angles import angle_radians
from qvm.decode import VERSION, collector_paused, decode_graph
from qvm.findings import Findings, field, shown
from qvm.isa import OPS, Arg, ArgType, Kind, Op
from qvm.names import is_name, is_text
from qvm.order import execution_order
from qvm.profiles import Profile, parse_profile, with_distance
from qvm.program import (
    Blocks,
    Condition,
    EventField,
    Graph,
    Guard,
    NamedChannel,
    NamedQubit,
    Node,
    Summary,
    VerifiedProgram,
)
from qvm.shapes import part_shapes
from qvm.uses import CONSUMING, Uses, pair_uses
from syscalls.findings import Finding
from syscalls.ids import is_channel, is_handle
from syscalls.rights import Right

DEPTH_MAX: Final = 32
"""How deep metadata may nest."""

DIGEST_CHUNK_NODES: Final = 4096
CYCLE_SHOWN_MAX: Final = 8

_RIGHTS: Final = frozenset(right.value for right in Right)
_PAULI_OPS: Final = frozenset(
    {"APPLY_X", "APPLY_Y", "APPLY_Z", "COND_PAULI", "FENCE_EPOCH", "BAR_REGION"}
)
_JOINING: Final = frozenset(
    op.name
    for op in isa.TABLE
    if op.vqs.most == 2 and op.kind in (Kind.UNITARY, Kind.MEASURE, Kind.CHANNEL)
)
"""Operations that may entangle two qubits."""
_WIDE: Final = "MEASURE_BELL"

# What is known of a declared handle, as flags in one small integer.
_LIVE: Final = 1
_FRESH: Final = 2
_IDEAL: Final = 4
_NAMED: Final = 8

_UNWRITTEN: Final = -1


class _Row(NamedTuple):
    """An opcode as the pass needs it: what it takes, and which checks are not the common ones."""

    op: Op
    least: int
    most: int
    produces: bool
    special: Callable[[_Pass, int, Node, Op], None] | None
    touches: bool
    args: bool
    chs: bool
    inputs: bool


def verify_bytes(raw: bytes) -> VerifiedProgram | list[Finding]:
    """Decode and verify one JSON document. Never raises."""
    graph = decode_graph(raw)
    return verify(graph) if isinstance(graph, Graph) else graph


def verify(graph: Graph) -> VerifiedProgram | list[Finding]:
    """Check every rule. Never raises.

    Returns the program with its warnings; or, where there is an error, a `Findings` list, errors
    first: at most FINDINGS_MAX findings, their number in `total`.
    """
    with collector_paused():
        return _Pass(graph).run()


def program_digest(graph: Graph) -> str:
    """`sha256:` + hex over the compact JSON of {version, nodes, resources}, metadata left out.

    The order of nodes and fields is kept. Missing fields stay missing; `resources.chs` is always
    there.
    """
    encode = msgspec.json.encode
    sha = hashlib.sha256(b'{"version":' + encode(graph.version) + b',"nodes":[')
    nodes = graph.program.nodes
    for start in range(0, len(nodes), DIGEST_CHUNK_NODES):
        chunk = [
            node if node.metadata is UNSET else msgspec.structs.replace(node, metadata=UNSET)
            for node in nodes[start : start + DIGEST_CHUNK_NODES]
        ]
        sha.update((b"," if start else b"") + encode(chunk)[1:-1])
    sha.update(b'],"resources":' + encode(graph.resources) + b"}")
    return f"sha256:{sha.hexdigest()}"


class _Pass:
    """All that is known while one graph is being read."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = graph.program.nodes
        self.errors = Findings()
        self.warnings = Findings()
        self.qubits: dict[str, int] = {}
        self.channels: dict[str, int] = {}
        self.writer: dict[str, int] = {}
        self.wide: set[str] = set()
        self.unwritten_reads: list[tuple[int, str, str, int | None]] = []
        self.lifetimes: list[int] = []
        self.fences: list[int] = []
        self.profiles: dict[int, Profile] = {}
        self.priorities: list[int] = []
        self.deadlines: list[int] = []
        self.distance: tuple[int, int] | None = None
        self.distance_used = False
        self.angles: dict[int, float] = {}
        self.angle_texts: dict[str, float | str] = {}
        self.branching_guards = 0
        self.stated = None if graph.caps is UNSET else set(graph.caps)

    def run(self) -> VerifiedProgram | list[Finding]:
        self._head()
        self._ids()
        self._walk()
        self._distance_unused()
        order = self._order()
        self._ends()
        ops = Counter(map(attrgetter("op"), self.nodes))
        self._caps(ops)
        if self.errors:
            return self.errors.then(self.warnings)
        return VerifiedProgram(
            graph=self.graph,
            order=order,
            epoch=self._epochs(),
            angles=self.angles,
            summary=self._summary(order, ops),
            warnings=tuple(self.warnings),
        )

    # --- what stands around the nodes -------------------------------------------------------------

    def _head(self) -> None:
        graph, resources = self.graph, self.graph.resources
        if graph.version != VERSION:
            message = f"version {shown(graph.version)} is not {VERSION!r}, which this build reads"
            self.errors.error("version.unknown", "$.version", message)
        self._bound("bounds.nodes", "$.program.nodes", len(self.nodes), isa.NODES_MAX)
        self._bound("bounds.qubits", "$.resources.vqs", len(resources.vqs), isa.QUBITS_MAX)
        self._bound("bounds.channels", "$.resources.chs", len(resources.chs), isa.CHANNELS_MAX)
        self._bound("bounds.events", "$.resources.events", len(resources.events), isa.EVENTS_MAX)
        self._metadata(graph.metadata, "$.metadata", None)
        self._declare("vqs", resources.vqs, self.qubits, 0)
        self._declare("chs", resources.chs, self.channels, 0)
        self._declare("events", resources.events, self.writer, _UNWRITTEN)
        if not self.qubits.keys().isdisjoint(self.channels):
            for index, name in enumerate(resources.chs):
                if name in self.qubits:
                    path = f"$.resources.chs[{index}]"
                    self.errors.error(
                        "resource.duplicate", path, f"{shown(name)} is declared as a qubit too"
                    )

    def _bound(self, rule: str, path: str, number: int, most: int) -> None:
        if number > most:
            self.errors.error(rule, path, f"{number} are more than {most}, the most there may be")

    def _declare(self, kind: str, names: list[str], table: dict[str, int], start: int) -> None:
        for index, name in enumerate(names):
            if name in table:
                path = f"$.resources.{kind}[{index}]"
                self.errors.error("resource.duplicate", path, f"{shown(name)} is declared twice")
            table[name] = start
            if not is_name(name):
                self._name(f"$.resources.{kind}[{index}]", name, None)

    def _name(self, path: str, name: str, node: str | None) -> None:
        message = f"{shown(name)} is no name: 1 to {isa.NAME_CHARS_MAX} visible characters"
        self.errors.error("structure.name", path, message, node)

    def _ids(self) -> None:
        ids = [node.id for node in self.nodes]
        text = "".join(ids)
        plain = text.isascii() and text.isprintable() and "" not in (unique := set(ids))
        if not plain or max(map(len, ids), default=0) > isa.NAME_CHARS_MAX:
            unique = set(ids)
            for index, name in enumerate(ids):
                if not is_name(name):
                    self._name(f"$.program.nodes[{index}].id", name, name)
        if len(unique) == len(ids):
            return
        seen: set[str] = set()
        for index, name in enumerate(ids):
            if name in seen:
                path = f"$.program.nodes[{index}].id"
                message = f"an earlier node has the id {shown(name)}"
                self.errors.error("node.duplicate_id", path, message, name)
            seen.add(name)

    def _metadata(self, value: Any, path: str, node: str | None) -> None:
        level, depth = ([value] if value else []), 0
        while level:
            if depth > DEPTH_MAX:
                message = f"metadata nests deeper than {DEPTH_MAX}"
                self.errors.error("bounds.depth", path, message, node)
                return
            depth += 1
            inner: list[Any] = []
            for each in level:
                if isinstance(each, dict):
                    inner.extend(each.values())
                elif isinstance(each, list):
                    inner.extend(each)
            level = inner

    # --- the pass over the nodes ------------------------------------------------------------------

    def _walk(self) -> None:
        """Visit every node once. Common checks stand inline; the rest are calls."""
        rows, qubits, writer = _ROWS, self.qubits, self.writer
        for index, node in enumerate(self.nodes):
            row = rows.get(node.op)
            if row is None:
                self._unknown_op(index, node)
                continue
            op, least, most, produces, special, touches, takes_args, takes_chs, takes_inputs = row
            vqs: Sequence[str] = node.vqs or ()
            count = len(vqs)
            if not least <= count <= most:
                self._count(index, node, "vqs", count, op.vqs)
            if count > 1 and (vqs[0] == vqs[1] if count == 2 else len(set(vqs)) != count):
                self._repeated(index, node, "vqs", vqs)
            if node.guard or node.inputs or takes_inputs:
                self._reads(index, node, op)
            if node.args or takes_args:
                self._args(index, node, op)
            if special is not None:
                special(self, index, node, op)
            else:
                for name in vqs:
                    held = qubits.get(name, 0)
                    if held & _FRESH and touches:
                        qubits[name] = held - _FRESH
                    elif not held & _LIVE:
                        self._live(index, vqs)
                        break
            if produces:
                made = node.produces or ()
                if len(made) == 1 and writer.get(made[0], 0) == _UNWRITTEN and op.name != _WIDE:
                    writer[made[0]] = index
                else:
                    self._produces(index, node, op)
            elif node.produces:
                self._count(index, node, "produces", len(node.produces), op.produces)
            if node.chs or takes_chs:
                self._chs(index, node, op)
            if node.caps:
                self._node_caps(index, node)
            if node.metadata:
                self._metadata(node.metadata, f"$.program.nodes[{index}].metadata", node.id)

    def _error(self, rule: str, index: int, where: str, message: str) -> None:
        """Report at `where` (".vqs[0]", or "" for the whole node) below the node."""
        path = f"$.program.nodes[{index}]{where}"
        self.errors.error(rule, path, message, self.nodes[index].id)

    def _unknown_op(self, index: int, node: Node) -> None:
        self._error("op.unknown", index, ".op", f"there is no opcode {shown(node.op)}")
        # What the node would have written counts as written: one mistake, one finding.
        for name in node.produces or ():
            if self.writer.get(name) == _UNWRITTEN:
                self.writer[name] = index

    def _count(self, index: int, node: Node, kind: str, count: int, allowed: isa.Count) -> None:
        given = getattr(node, kind) is not UNSET
        least, most = allowed.least, allowed.most
        wanted = str(least) if least == most else f"{least} to {most}"
        message = f"{shown(node.op)} takes {wanted} {kind}, not {count}"
        self._error("operand.count", index, f".{kind}" if given else "", message)

    def _repeated(self, index: int, node: Node, kind: str, names: Sequence[str]) -> None:
        seen: set[str] = set()
        for at, name in enumerate(names):
            if name in seen:
                message = f"{shown(name)} is given twice"
                self._error("operand.repeated", index, f".{kind}[{at}]", message)
            seen.add(name)

    def _undeclared(self, index: int, where: str, name: str, kind: str) -> None:
        message = f"{shown(name)} is not declared in resources.{kind}"
        self._error("resource.undeclared", index, where, message)

    def _live(self, index: int, vqs: Sequence[str]) -> list[int]:
        """Report every operand that is not live; return what is known of each (0: not live)."""
        state = [self.qubits.get(name, 0) for name in vqs]
        for at, name in enumerate(vqs):
            if not state[at] & _LIVE:
                self._not_live(index, at, name, "lifetime.not_live")
                state[at] = 0
        return state

    def _not_live(self, index: int, at: int, name: str, rule: str) -> None:
        where = f".vqs[{at}]"
        held = self.qubits.get(name)
        if held is None:
            self._undeclared(index, where, name, "vqs")
            return
        self.qubits[name] = held | _NAMED
        why = "has been freed" if held & _NAMED else "has not been allocated"
        self._error(rule, index, where, f"{shown(name)} {why} here")

    def _produces(self, index: int, node: Node, op: Op) -> None:
        made = node.produces or ()
        if not op.produces.least <= len(made) <= op.produces.most:
            self._count(index, node, "produces", len(made), op.produces)
        for at, name in enumerate(made):
            earlier = self.writer.get(name)
            if earlier is None:
                self._undeclared(index, f".produces[{at}]", name, "events")
            elif earlier != _UNWRITTEN:
                message = f"{shown(name)} is written by {shown(self.nodes[earlier].id)} already"
                self._error("event.produced_twice", index, f".produces[{at}]", message)
            else:
                self.writer[name] = index
                if op.name == _WIDE and len(made) == 1:
                    self.wide.add(name)

    # --- lifetimes --------------------------------------------------------------------------------

    def _alloc(self, index: int, node: Node, op: Op) -> None:
        self.lifetimes.append(index)
        vqs = node.vqs or ()
        profile = self.profiles.get(index)
        born = _LIVE | _FRESH | _NAMED
        if profile is None or profile.code == "ideal":  # An unknown profile is one finding already.
            born |= _IDEAL
        for at, name in enumerate(vqs):
            held = self.qubits.get(name)
            if held is None:
                self._undeclared(index, f".vqs[{at}]", name, "vqs")
                continue
            if held & _LIVE:
                message = f"{shown(name)} is live already; FREE_LQ must come first"
                self._error("lifetime.double_alloc", index, f".vqs[{at}]", message)
            self.qubits[name] = born
        number = node.args.get("n") if node.args else None
        if type(number) is int and number >= 1 and number != len(vqs):
            message = f"n is {shown(number)}, but {len(vqs)} qubits are named"
            self._error("arg.range", index, ".args.n", message)

    def _free(self, index: int, node: Node, op: Op) -> None:
        self.lifetimes.append(index)
        for at, name in enumerate(node.vqs or ()):
            held = self.qubits.get(name, 0)
            if held & _LIVE:
                self.qubits[name] = _NAMED
            else:
                rule = "lifetime.double_free" if held & _NAMED else "lifetime.not_live"
                self._not_live(index, at, name, rule)

    def _fence(self, index: int, node: Node, op: Op) -> None:
        self.fences.append(index)
        self._live(index, node.vqs or ())

    def _reset(self, index: int, node: Node, op: Op) -> None:
        vqs = node.vqs or ()
        for name, held in zip(vqs, self._live(index, vqs), strict=True):
            if held and not node.guard:
                self.qubits[name] = held | _FRESH

    def _inject(self, index: int, node: Node, op: Op) -> None:
        vqs = node.vqs or ()
        for at, held in enumerate(self._live(index, vqs)):
            if held & _FRESH:
                self.qubits[vqs[at]] = held - _FRESH
            elif held:
                message = f"{shown(vqs[at])} has been touched since ALLOC_LQ or RESET"
                self._error("magic.not_fresh", index, f".vqs[{at}]", message)

    def _rotate(self, index: int, node: Node, op: Op) -> None:
        vqs = node.vqs or ()
        for at, held in enumerate(self._live(index, vqs)):
            if held:
                self.qubits[vqs[at]] = held & ~_FRESH
            if held and not held & _IDEAL:
                message = f"{shown(vqs[at])} is encoded; lower the rotation to Clifford and T"
                self._error("rotation.not_ideal", index, f".vqs[{at}]", message)

    def _chs(self, index: int, node: Node, op: Op) -> None:
        chs = node.chs or ()
        if not op.chs.least <= len(chs) <= op.chs.most:
            self._count(index, node, "chs", len(chs), op.chs)
            return
        for at, name in enumerate(chs):
            where = f".chs[{at}]"
            held = self.channels.get(name)
            if held is None:
                self._undeclared(index, where, name, "chs")
                continue
            if op.name == "OPEN_CHAN":
                if held & _LIVE:
                    message = f"{shown(name)} is open already; CLOSE_CHAN must come first"
                    self._error("channel.double_open", index, where, message)
                self.channels[name] = _LIVE | _NAMED
            else:
                if not held & _LIVE:
                    self._error("channel.not_open", index, where, f"{shown(name)} is not open here")
                self.channels[name] = _NAMED | (0 if op.name == "CLOSE_CHAN" else held)
        if op.name != "USE_CHAN":
            self.lifetimes.append(index)
        elif (node.args or {}).get("semantic") == "teleport_cnot" and len(node.vqs or ()) == 1:
            self._count(index, node, "vqs", 1, isa.TWO)

    # --- events -----------------------------------------------------------------------------------

    def _reads(self, index: int, node: Node, op: Op) -> None:
        """Check the guard and the inputs of a node that has, or might need, either."""
        guard = node.guard or None
        inputs = node.inputs or ()
        if guard is not None:
            if not op.guardable:
                message = f"{op.name} is done in every shot and takes no guard"
                self._error("guard.forbidden", index, ".guard", message)
            if op.name not in _PAULI_OPS:
                self.branching_guards += 1
            self._guard(index, guard)
        if op.inputs.most:
            if guard is None and not inputs:
                self._error("guard.missing", index, "", f"{op.name} needs inputs, a guard, or both")
            if len(inputs) > op.inputs.most:
                self._count(index, node, "inputs", len(inputs), op.inputs)
            if len(set(inputs)) != len(inputs):
                self._repeated(index, node, "inputs", inputs)
            for at, name in enumerate(inputs):
                self._read(index, f".inputs[{at}]", name, None)
        elif inputs and not set(inputs) <= _events(guard):
            message = f"{op.name} reads no inputs but the events of its guard"
            self._error("operand.count", index, ".inputs", message)

    def _guard(self, index: int, guard: Guard) -> None:
        if guard.conditions is UNSET and guard.type is UNSET:
            if guard.event is UNSET or guard.equals is UNSET:
                self._error("guard.shape", index, ".guard", "a guard needs event and equals")
            else:
                self._read(index, ".guard", guard.event, guard.equals)
            return
        if guard.event is not UNSET or guard.equals is not UNSET:
            message = "a guard has event and equals, or type and conditions, not both"
            self._error("guard.shape", index, ".guard", message)
        if guard.type not in ("and", "or"):
            message = "the type of a guard with conditions is 'and' or 'or'"
            self._error("guard.shape", index, ".guard", message)
        if not guard.conditions:
            self._error("guard.shape", index, ".guard", "a guard has one condition at the least")
            return
        if len(guard.conditions) > isa.CONDITIONS_MAX:
            message = f"{len(guard.conditions)} conditions are more than {isa.CONDITIONS_MAX}"
            self._error("bounds.conditions", index, ".guard.conditions", message)
        for at, condition in enumerate(guard.conditions):
            self._condition(index, f".guard.conditions[{at}]", condition)

    def _condition(self, index: int, where: str, condition: Condition) -> None:
        if (condition.equals is UNSET) == (condition.value is UNSET):
            self._error("guard.shape", index, where, "a condition has either equals or value")
            return
        wanted = condition.value if condition.equals is UNSET else condition.equals
        assert wanted is not UNSET
        self._read(index, where, condition.event, wanted)

    def _read(self, index: int, where: str, event: str, wanted: int | None) -> None:
        """Check that `event` can hold `wanted`; None is a term of a parity, which needs one bit."""
        writer = self.writer.get(event)
        if writer is None:
            self._undeclared(index, where, event, "events")
        elif writer == _UNWRITTEN:
            self.unwritten_reads.append((index, where, event, wanted))
        else:
            self._width(index, where, event, wanted)

    def _width(self, index: int, where: str, event: str, wanted: int | None) -> None:
        wide = event in self.wide
        if wanted is None:
            if wide:
                message = f"{shown(event)} holds two bits; write two events to take one's parity"
                self._error("event.width", index, where, message)
        elif not 0 <= wanted <= (3 if wide else 1):
            message = f"{shown(event)} is never {shown(wanted)}; it is 0 to {3 if wide else 1}"
            self._error("event.width", index, where, message)

    # --- arguments --------------------------------------------------------------------------------

    def _args(self, index: int, node: Node, op: Op) -> None:
        given = node.args or {}
        rows = _ARGS[op.name]
        for name, value in given.items():
            row = rows.get(name)
            if row is None:
                there = ", ".join(rows) or "none"
                message = f"{op.name} has no argument {shown(name)}; there are {there}"
                self._error("arg.unknown", index, field(".args", name), message)
            else:
                self._arg(index, node, row, value)
        where = "" if node.args is UNSET else ".args"
        for row in op.args:
            if row.required and row.name not in given:
                message = f"{op.name} needs the argument {row.name}"
                self._error("arg.missing", index, where, message)
        self._groups(index, op, given, where)

    def _groups(self, index: int, op: Op, given: dict[str, Any], where: str) -> None:
        """Rules between arguments."""
        for group in _GROUPS[op.name]:
            if sum(name in given for name in group) != 1:
                message = f"{op.name} takes exactly one of {', '.join(group)}"
                self._error("arg.group", index, where, message)
        if op.name == "OPEN_CHAN":
            if "opts" in given and len(given) > 1:
                message = "OPEN_CHAN takes either opts, or fidelity and perhaps type"
                self._error("arg.group", index, where, message)
            elif "opts" not in given and "fidelity" not in given:
                message = "OPEN_CHAN needs the argument opts or fidelity"
                self._error("arg.missing", index, where, message)
        elif op.name == "SET_POLICY" and not given:
            message = f"SET_POLICY needs one of {', '.join(row.name for row in op.args)}"
            self._error("arg.missing", index, where, message)
        elif op.name == "SET_POLICY":
            self._policy(index, {name: x for name, x in given.items() if type(x) is int})

    def _policy(self, index: int, given: dict[str, int]) -> None:
        """What SET_POLICY asks for, of the job and of what is allocated behind it in the list."""
        if "priority" in given:
            self.priorities.append(given["priority"])
        if "deadline" in given:
            self.deadlines.append(len(self.fences) + given["deadline"])
        if "code_distance" in given:
            self._distance_unused()
            self.distance = index, given["code_distance"]

    def _distance_unused(self) -> None:
        if self.distance is not None and not self.distance_used:
            message = "no ALLOC_LQ behind it leaves its distance open; each keeps what it names"
            index, _ = self.distance
            path = f"$.program.nodes[{index}].args.code_distance"
            self.warnings.warning("policy.unused", path, message, self.nodes[index].id)
        self.distance_used = False

    def _arg(self, index: int, node: Node, row: Arg, value: Any) -> None:
        where = f".args.{row.name}"
        match row.type:
            case ArgType.ANGLE:
                self._angle(index, where, value)
            case ArgType.PROFILE if type(value) is str:
                profile = parse_profile(self._at_distance(node, row, value))
                if isinstance(profile, str):
                    self._error("profile.unknown", index, where, profile)
                else:
                    self.profiles[index] = profile
            case ArgType.PAULI if type(value) is str:
                count = len(node.vqs or ())
                if not value or value.strip("IXYZ"):
                    message = f"{shown(value)} is not made of the letters I, X, Y, Z"
                    self._error("arg.choice", index, where, message)
                elif len(value) not in (1, count):
                    message = f"{len(value)} letters for {count} qubits; give 1 or {count}"
                    self._error("arg.range", index, where, message)
            case ArgType.CHANNEL_OPTIONS if type(value) is dict:
                for name, inner in value.items():
                    if name in _CHANNEL_OPTIONS:
                        self._plain(index, f"{where}.{name}", _CHANNEL_OPTIONS[name], inner)
                    else:
                        message = f"there is no option {shown(name)}"
                        self._error("arg.unknown", index, field(where, name), message)
            case _:
                self._plain(index, where, row, value)

    def _at_distance(self, node: Node, row: Arg, text: str) -> str:
        """The profile with the distance that SET_POLICY asks for, where it names none itself.

        The node has it from now on, so that the graph means the same to whoever reads it next.
        """
        named = text if self.distance is None else with_distance(text, self.distance[1])
        if named != text:
            self.distance_used = True
            assert node.args
            node.args[row.name] = named
        return named

    def _angle(self, index: int, where: str, value: Any) -> None:
        if type(value) is str:
            angle = self.angle_texts.get(value)
            if angle is None:
                angle = self.angle_texts[value] = angle_radians(value)
        elif type(value) is float or type(value) is int:
            angle = angle_radians(value)
        else:
            self._error("arg.type", index, where, f"expected an angle, found {shown(value)}")
            return
        if isinstance(angle, str):
            self._error("angle.expression", index, where, angle)
        else:
            self.angles[index] = angle

    def _plain(self, index: int, where: str, row: Arg, value: Any) -> None:
        """Check type and bounds of a number, text or choice; refuse what is of another type."""
        if type(value) not in _TYPES[row.type]:
            message = f"expected {row.type.value.replace('_', ' ')}, found {shown(value)}"
            self._error("arg.type", index, where, message)
        elif row.type is ArgType.CHOICE:
            if value not in row.choices:
                message = f"{shown(value)} is none of {', '.join(row.choices)}"
                self._error("arg.choice", index, where, message)
        elif row.type is ArgType.TEXT:
            if not is_text(value):
                message = f"a text has 1 to {isa.TEXT_CHARS_MAX} visible characters"
                self._error("arg.range", index, where, message)
        elif not (row.minimum <= value <= row.maximum and _finite(value)):
            message = f"{shown(value)} is outside {row.minimum:g} to {row.maximum:g}"
            self._error("arg.range", index, where, message)

    # --- capabilities -----------------------------------------------------------------------------

    def _node_caps(self, index: int, node: Node) -> None:
        stated = self.stated
        for at, name in enumerate(node.caps or ()):
            where = f".caps[{at}]"
            if name not in _RIGHTS:
                self._error("caps.unknown", index, where, f"there is no capability {shown(name)}")
            elif stated is not None and name not in stated:
                message = f"the node names {name}, which the graph's caps do not"
                self._error("caps.missing", index, where, message)

    def _caps(self, ops: Counter[str]) -> None:
        if self.stated is None:
            return
        for at, name in enumerate(self.graph.caps or ()):
            if name not in _RIGHTS:
                message = f"there is no capability {shown(name)}"
                self.errors.error("caps.unknown", f"$.caps[{at}]", message)
        lacking = {right: None for right in _rights(ops) if right not in self.stated}
        if not lacking:
            return
        for index, node in enumerate(self.nodes):
            op = OPS.get(node.op)
            if op is not None and op.right in lacking:
                message = f"{op.name} needs {op.right}, which the graph's caps do not name"
                self._error("caps.missing", index, ".op", message)
                del lacking[op.right]

    # --- the whole program ------------------------------------------------------------------------

    def _order(self) -> Sequence[int]:
        """Settle reads that came before their writer; return the order of execution."""
        moved = False
        for index, where, event, wanted in self.unwritten_reads:
            if self.writer[event] == _UNWRITTEN:
                message = f"no node writes {shown(event)}"
                self._error("event.never_produced", index, where, message)
            else:
                moved = True
                self._width(index, where, event, wanted)
        if not moved:
            return range(len(self.nodes))
        order, cycle = execution_order(self.nodes, self.writer)
        if cycle:
            names = [shown(self.nodes[index].id) for index in cycle[:CYCLE_SHOWN_MAX]]
            more = ", …" if len(cycle) > CYCLE_SHOWN_MAX else ""
            message = f"these wait for one another in a ring: {', '.join(names)}{more}"
            self._error("dag.cycle", cycle[0], "", message)
        return order

    def _ends(self) -> None:
        """Warn of what is left over when the program ends."""
        left = {name for name, held in self.qubits.items() if held & _LIVE}
        open_ = {name for name, held in self.channels.items() if held & _LIVE}
        if left or open_:
            self._left_over(left, open_)
        resources = self.graph.resources
        for kind, names, table in (
            ("vqs", resources.vqs, self.qubits),
            ("chs", resources.chs, self.channels),
        ):
            for at, name in enumerate(names):
                if not table[name]:
                    message = f"no node names {shown(name)}"
                    self.warnings.warning("resource.unused", f"$.resources.{kind}[{at}]", message)
        read = {event for _, _, event, _ in self.unwritten_reads}
        for at, name in enumerate(resources.events):
            if self.writer[name] == _UNWRITTEN and name not in read:
                message = f"no node writes {shown(name)}; it is absent in every shot"
                self.warnings.warning("event.never_produced", f"$.resources.events[{at}]", message)

    def _left_over(self, left: set[str], open_: set[str]) -> None:
        born: dict[str, tuple[int, str]] = {}
        for index in self.lifetimes:
            node = self.nodes[index]
            if node.op == "ALLOC_LQ":
                born |= {name: (index, f".vqs[{at}]") for at, name in enumerate(node.vqs or ())}
            elif node.op == "OPEN_CHAN":
                born |= {name: (index, f".chs[{at}]") for at, name in enumerate(node.chs or ())}
        for name, (index, where) in born.items():
            path, node_id = f"$.program.nodes[{index}]{where}", self.nodes[index].id
            if name in left:
                message = f"{shown(name)} is never freed; the kernel reclaims it at the end"
                self.warnings.warning("lifetime.not_freed", path, message, node_id)
            elif name in open_:
                message = f"{shown(name)} is never closed; the kernel takes it back at the end"
                self.warnings.warning("channel.not_closed", path, message, node_id)

    def _epochs(self) -> array[int]:
        epoch: array[int] = array("I")
        for number, fence in enumerate([*self.fences, len(self.nodes) - 1]):
            epoch.extend(array("I", [number]) * (fence + 1 - len(epoch)))
        return epoch

    def _named(self) -> tuple[tuple[NamedQubit, ...], tuple[NamedChannel, ...]]:
        """The qubits and channels that sessions hold, and what is done between them."""
        given: set[tuple[str, Profile]] = set()
        local: set[str] = set()
        ends: dict[str, tuple[str, ...]] = {}
        astray: set[str] = set()
        if not any(map(is_handle, self.qubits)) and not any(map(is_channel, self.channels)):
            return (), ()
        for index, node in enumerate(self.nodes):
            vqs = tuple(sorted(node.vqs or ()))
            channel = node.chs[0] if node.chs and is_channel(node.chs[0]) else ""
            if node.op == "ALLOC_LQ":
                given |= {(name, self.profiles[index]) for name in vqs if is_handle(name)}
            elif node.op == "OPEN_CHAN" and channel:
                if ends.setdefault(channel, vqs) != vqs:
                    astray.add(channel)
            elif node.op == "USE_CHAN" and channel:
                if ends[channel] != vqs:
                    astray.add(channel)
            elif node.op in _JOINING:
                local.update(filter(is_handle, vqs))
        return (
            tuple(
                NamedQubit(name=name, profile=profile, local=name in local)
                for name, profile in sorted(given, key=lambda each: (each[0], each[1].asked))
            ),
            tuple(
                NamedChannel(name=name, ends=(pair[0], pair[1]), astray=name in astray)
                for name, pair in sorted(ends.items())
            ),
        )

    def _peaks(self, order: Sequence[int]) -> tuple[int, int, int, int, tuple[Blocks, ...]]:
        """The largest numbers of logical qubits, of those that no session holds, and of physical
        qubits, channels and blocks beside what sessions hold, at one time."""
        lifetimes = self.lifetimes
        if not isinstance(order, range):
            place = {index: at for at, index in enumerate(order)}
            lifetimes = sorted(lifetimes, key=place.__getitem__)
        held: dict[str, Profile] = {}
        live: Counter[tuple[str, int]] = Counter()
        most: dict[tuple[str, int], int] = {}
        kinds: dict[tuple[str, int], Profile] = {}
        physical = channels = handles = 0
        peaks = [0, 0, 0, 0]
        for index in lifetimes:
            node = self.nodes[index]
            own = [name for name in node.chs or () if not is_channel(name)]
            channels += len(own) * (1 if node.op == "OPEN_CHAN" else -1)
            vqs = () if node.chs else node.vqs or ()
            begins = node.op == "ALLOC_LQ"
            if begins:
                profile = self.profiles[index]
                held |= dict.fromkeys(vqs, profile)
                kind = (profile.code, profile.distance)
                fresh = sum(not is_handle(name) for name in vqs)
                if fresh:
                    kinds[kind] = profile
                    most[kind] = max(most.get(kind, 0), live[kind] + fresh)
            for name in vqs:
                profile = held[name] if begins else held.pop(name)
                if is_handle(name):
                    handles += 1 if begins else -1
                    continue
                kind = (profile.code, profile.distance)
                physical -= profile.physical(live[kind])
                live[kind] += 1 if begins else -1
                physical += profile.physical(live[kind])
            now = (len(held), len(held) - handles, physical, channels)
            peaks = [max(pair) for pair in zip(peaks, now, strict=True)]
        blocks = (_blocks(profile, most[kind]) for kind, profile in kinds.items())
        in_order = sorted(blocks, key=lambda each: (-each.physical, each.code, each.distance))
        return peaks[0], peaks[1], peaks[2], peaks[3], tuple(in_order)

    def _summary(self, order: Sequence[int], ops: Counter[str]) -> Summary:
        peak_logical, others, peak_physical, peak_channels, blocks = self._peaks(order)
        handles, brokered = self._named()
        profiles = {profile.asked: profile for profile in self.profiles.values()}
        uses = Uses()
        if any(name in ops for name in CONSUMING):
            uses = pair_uses(self.nodes, order, self.profiles, blocks, handles)
        return Summary(
            digest=program_digest(self.graph),
            nodes=len(self.nodes),
            epochs=len(self.fences) + 1,
            rights=tuple(_rights(ops)),
            families=tuple(sorted({OPS[name].family for name in ops})),
            profiles=tuple(profiles[asked] for asked in sorted(profiles)),
            events=tuple(
                EventField(name, 2 if name in self.wide else 1)
                for name in self.graph.resources.events
            ),
            ops=dict(sorted(ops.items())),
            peak_logical=peak_logical,
            peak_physical=peak_physical,
            peak_channels=peak_channels,
            blocks=blocks,
            t_states=sum(number for name, number in ops.items() if OPS[name].right is Right.MAGIC),
            clifford=all(OPS[name].clifford for name in ops),
            pauli_guards=not self.branching_guards,
            branching_guards=self.branching_guards,
            ideal=all(profile.code == "ideal" for profile in self.profiles.values()),
            parts=part_shapes(map(self.nodes.__getitem__, order)),
            handles=handles,
            brokered=brokered,
            others_logical=others if handles else None,
            uses=uses.uses,
            uses_left_out=uses.left_out,
            joined=uses.joined,
            priority=max(self.priorities, default=None),
            deadline=min(self.deadlines, default=None),
        )


def _blocks(profile: Profile, logical: int) -> Blocks:
    return Blocks(
        code=profile.code,
        distance=profile.distance,
        logical=profile.block,
        physical=profile.block_physical,
        number=-(-logical // profile.block),
    )


def _finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _events(guard: Guard | None) -> set[str]:
    if guard is None:
        return set()
    if guard.event is not UNSET:
        return {guard.event}
    return {condition.event for condition in guard.conditions or ()}


def _rights(ops: Counter[str]) -> list[str]:
    """The capabilities that these opcodes need, sorted."""
    rights = {OPS[name].right for name in ops if name in OPS}
    return sorted(right.value for right in rights if right is not None)


_TYPES: Final[dict[ArgType, tuple[type, ...]]] = {
    ArgType.INT: (int,),
    ArgType.NUMBER: (int, float),
    ArgType.ANGLE: (int, float, str),
    ArgType.TEXT: (str,),
    ArgType.PROFILE: (str,),
    ArgType.PAULI: (str,),
    ArgType.CHOICE: (str,),
    ArgType.CHANNEL_OPTIONS: (dict,),
}
_ARGS: Final = {op.name: {row.name: row for row in op.args} for op in isa.TABLE}
_GROUPS: Final = {
    op.name: [
        tuple(row.name for row in op.args if row.group == group)
        for group in sorted({row.group for row in op.args} - {""})
    ]
    for op in isa.TABLE
}
_CHANNEL_OPTIONS: Final = {row.name: row for row in isa.CHANNEL_OPTIONS}
_SPECIAL: Final[dict[str, Callable[[_Pass, int, Node, Op], None]]] = {
    "ALLOC_LQ": _Pass._alloc,
    "FREE_LQ": _Pass._free,
    "FENCE_EPOCH": _Pass._fence,
    "RESET": _Pass._reset,
    "INJECT_T_STATE": _Pass._inject,
    "APPLY_RX": _Pass._rotate,
    "APPLY_RY": _Pass._rotate,
    "APPLY_RZ": _Pass._rotate,
}
_ROWS: Final = {
    op.name: _Row(
        op=op,
        least=op.vqs.least,
        most=op.vqs.most,
        produces=op.produces.most > 0,
        special=_SPECIAL.get(op.name),
        touches=op.kind is not Kind.ORDER,
        args=bool(op.args),
        chs=op.chs.most > 0,
        inputs=op.inputs.most > 0,
    )
    for op in isa.TABLE
}

assert set(_TYPES) == set(ArgType)
assert {name for name, op in OPS.items() if op.family == isa.ROTATION} <= set(_SPECIAL)
assert {name for name, op in OPS.items() if op.kind is Kind.LIFETIME} <= set(_SPECIAL)
assert all(op.chs.most <= 1 for op in isa.TABLE), "one channel a node: none can be repeated"
