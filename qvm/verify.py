"""A graph in, a `VerifiedProgram` or findings out.

One pass over the nodes in list order, which is the order of every handle's life; then what needs
the whole program: events read before they are written, the execution order, the peaks. Linear in
the size of the program (times a logarithm where nodes move). Nothing is repaired and nothing is
run. Here are names, operands, lifetimes, capabilities and the order; `arguments.py` has what nodes
are told, `events.py` what they write and read, `summary.py` what the whole comes to. The rules by
name stand in `findings.py`, the opcodes in `isa.py`; read `lower.py` next.

A `Graph` made by hand must hold the types it declares; `decode.py` makes sure of it for bytes.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from msgspec import UNSET

from qvm import isa
from qvm.arguments import Arguments
from qvm.decode import VERSION, collector_paused, decode_graph
from qvm.events import UNWRITTEN, WIDE, Events
from qvm.findings import shown
from qvm.isa import OPS, Kind, Op
from qvm.located import Located
from qvm.names import is_name
from qvm.order import execution_order
from qvm.program import Graph, Node, VerifiedProgram
from qvm.summary import rights_of, summary
from syscalls.findings import Finding
from syscalls.rights import Right

DEPTH_MAX: Final = 32
"""How deep metadata may nest."""

CYCLE_SHOWN_MAX: Final = 8

_RIGHTS: Final = frozenset(right.value for right in Right)

# What is known of a declared handle, as flags in one small integer.
_LIVE: Final = 1
_FRESH: Final = 2
_IDEAL: Final = 4
_NAMED: Final = 8


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


class _Pass:
    """All that is known while one graph is being read."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = graph.program.nodes
        self.found = Located(self.nodes)
        self.errors, self.warnings = self.found.errors, self.found.warnings
        self.arguments = Arguments(self.found)
        self.events = Events(self.found)
        self.qubits: dict[str, int] = {}
        self.channels: dict[str, int] = {}
        self.lifetimes: list[int] = []
        self.fences: list[int] = []
        self.stated = None if graph.caps is UNSET else set(graph.caps)

    def run(self) -> VerifiedProgram | list[Finding]:
        self._head()
        self._ids()
        self._walk()
        self.arguments.end_policy()
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
            angles=self.arguments.angles,
            summary=summary(self.graph, order, ops, self.arguments, self.events, self.lifetimes),
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
        self._declare("events", resources.events, self.events.writer, UNWRITTEN)
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
        rows, qubits, events = _ROWS, self.qubits, self.events
        writer = events.writer
        for index, node in enumerate(self.nodes):
            row = rows.get(node.op)
            if row is None:
                self._unknown_op(index, node)
                continue
            op, least, most, produces, special, touches, takes_args, takes_chs, takes_inputs = row
            vqs: Sequence[str] = node.vqs or ()
            count = len(vqs)
            if not least <= count <= most:
                self.found.count(index, node, "vqs", count, op.vqs)
            if count > 1 and (vqs[0] == vqs[1] if count == 2 else len(set(vqs)) != count):
                self.found.repeated(index, node, "vqs", vqs)
            if node.guard or node.inputs or takes_inputs:
                events.check_reads(index, node, op)
            if node.args or takes_args:
                self.arguments.check(index, node, op)
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
                if len(made) == 1 and writer.get(made[0], 0) == UNWRITTEN and op.name != WIDE:
                    writer[made[0]] = index
                else:
                    events.check_produces(index, node, op)
            elif node.produces:
                self.found.count(index, node, "produces", len(node.produces), op.produces)
            if node.chs or takes_chs:
                self._chs(index, node, op)
            if node.caps:
                self._node_caps(index, node)
            if node.metadata:
                self._metadata(node.metadata, f"$.program.nodes[{index}].metadata", node.id)

    def _unknown_op(self, index: int, node: Node) -> None:
        self.found.error("op.unknown", index, ".op", f"there is no opcode {shown(node.op)}")
        # What the node would have written counts as written: one mistake, one finding.
        for name in node.produces or ():
            if self.events.writer.get(name) == UNWRITTEN:
                self.events.writer[name] = index

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
            self.found.undeclared(index, where, name, "vqs")
            return
        self.qubits[name] = held | _NAMED
        why = "has been freed" if held & _NAMED else "has not been allocated"
        self.found.error(rule, index, where, f"{shown(name)} {why} here")

    # --- lifetimes --------------------------------------------------------------------------------

    def _alloc(self, index: int, node: Node, op: Op) -> None:
        self.lifetimes.append(index)
        vqs = node.vqs or ()
        profile = self.arguments.profiles.get(index)
        born = _LIVE | _FRESH | _NAMED
        if profile is None or profile.code == "ideal":  # An unknown profile is one finding already.
            born |= _IDEAL
        for at, name in enumerate(vqs):
            held = self.qubits.get(name)
            if held is None:
                self.found.undeclared(index, f".vqs[{at}]", name, "vqs")
                continue
            if held & _LIVE:
                message = f"{shown(name)} is live already; FREE_LQ must come first"
                self.found.error("lifetime.double_alloc", index, f".vqs[{at}]", message)
            self.qubits[name] = born
        number = node.args.get("n") if node.args else None
        if type(number) is int and number >= 1 and number != len(vqs):
            message = f"n is {shown(number)}, but {len(vqs)} qubits are named"
            self.found.error("arg.range", index, ".args.n", message)

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
        self.arguments.fences += 1
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
                self.found.error("magic.not_fresh", index, f".vqs[{at}]", message)

    def _rotate(self, index: int, node: Node, op: Op) -> None:
        vqs = node.vqs or ()
        for at, held in enumerate(self._live(index, vqs)):
            if held:
                self.qubits[vqs[at]] = held & ~_FRESH
            if held and not held & _IDEAL:
                message = f"{shown(vqs[at])} is encoded; lower the rotation to Clifford and T"
                self.found.error("rotation.not_ideal", index, f".vqs[{at}]", message)

    def _chs(self, index: int, node: Node, op: Op) -> None:
        chs = node.chs or ()
        if not op.chs.least <= len(chs) <= op.chs.most:
            self.found.count(index, node, "chs", len(chs), op.chs)
            return
        for at, name in enumerate(chs):
            where = f".chs[{at}]"
            held = self.channels.get(name)
            if held is None:
                self.found.undeclared(index, where, name, "chs")
                continue
            if op.name == "OPEN_CHAN":
                if held & _LIVE:
                    message = f"{shown(name)} is open already; CLOSE_CHAN must come first"
                    self.found.error("channel.double_open", index, where, message)
                self.channels[name] = _LIVE | _NAMED
            else:
                if not held & _LIVE:
                    self.found.error(
                        "channel.not_open", index, where, f"{shown(name)} is not open here"
                    )
                self.channels[name] = _NAMED | (0 if op.name == "CLOSE_CHAN" else held)
        if op.name != "USE_CHAN":
            self.lifetimes.append(index)
        elif (node.args or {}).get("semantic") == "teleport_cnot" and len(node.vqs or ()) == 1:
            self.found.count(index, node, "vqs", 1, isa.TWO)

    # --- capabilities -----------------------------------------------------------------------------

    def _node_caps(self, index: int, node: Node) -> None:
        stated = self.stated
        for at, name in enumerate(node.caps or ()):
            where = f".caps[{at}]"
            if name not in _RIGHTS:
                self.found.error(
                    "caps.unknown", index, where, f"there is no capability {shown(name)}"
                )
            elif stated is not None and name not in stated:
                message = f"the node names {name}, which the graph's caps do not"
                self.found.error("caps.missing", index, where, message)

    def _caps(self, ops: Counter[str]) -> None:
        if self.stated is None:
            return
        for at, name in enumerate(self.graph.caps or ()):
            if name not in _RIGHTS:
                message = f"there is no capability {shown(name)}"
                self.errors.error("caps.unknown", f"$.caps[{at}]", message)
        lacking = {right: None for right in rights_of(ops) if right not in self.stated}
        if not lacking:
            return
        for index, node in enumerate(self.nodes):
            op = OPS.get(node.op)
            if op is not None and op.right in lacking:
                message = f"{op.name} needs {op.right}, which the graph's caps do not name"
                self.found.error("caps.missing", index, ".op", message)
                del lacking[op.right]

    # --- the whole program ------------------------------------------------------------------------

    def _order(self) -> Sequence[int]:
        """Settle reads that came before their writer; return the order of execution."""
        moved, events = False, self.events
        for index, where, event, wanted in events.unwritten_reads:
            if events.writer[event] == UNWRITTEN:
                message = f"no node writes {shown(event)}"
                self.found.error("event.never_produced", index, where, message)
            else:
                moved = True
                events.check_width(index, where, event, wanted)
        if not moved:
            return range(len(self.nodes))
        order, cycle = execution_order(self.nodes, events.writer)
        if cycle:
            names = [shown(self.nodes[index].id) for index in cycle[:CYCLE_SHOWN_MAX]]
            more = ", …" if len(cycle) > CYCLE_SHOWN_MAX else ""
            message = f"these wait for one another in a ring: {', '.join(names)}{more}"
            self.found.error("dag.cycle", cycle[0], "", message)
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
        read = {event for _, _, event, _ in self.events.unwritten_reads}
        for at, name in enumerate(resources.events):
            if self.events.writer[name] == UNWRITTEN and name not in read:
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
            if name in left:
                message = f"{shown(name)} is never freed; the kernel reclaims it at the end"
                self.found.warning("lifetime.not_freed", index, where, message)
            elif name in open_:
                message = f"{shown(name)} is never closed; the kernel takes it back at the end"
                self.found.warning("channel.not_closed", index, where, message)

    def _epochs(self) -> array[int]:
        epoch: array[int] = array("I")
        for number, fence in enumerate([*self.fences, len(self.nodes) - 1]):
            epoch.extend(array("I", [number]) * (fence + 1 - len(epoch)))
        return epoch


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

assert {name for name, op in OPS.items() if op.family == isa.ROTATION} <= set(_SPECIAL)
assert {name for name, op in OPS.items() if op.kind is Kind.LIFETIME} <= set(_SPECIAL)
assert all(op.chs.most <= 1 for op in isa.TABLE), "one channel a node: none can be repeated"
