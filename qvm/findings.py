"""The rules a program must keep, by name, and the list in which broken ones are gathered.

`RULES` is the only list of rule names: the verifier may report no other, the reference pages print
it, and a test breaks every one of them. Nothing here looks at a program; see `decode.py` for the
structural rules, and `verify.py` with the parts it names for the rest.
"""

from __future__ import annotations

import json
from typing import Final

from qvm.isa import NAME_CHARS_MAX
from qvm.names import is_name
from syscalls.findings import FINDINGS_MAX, Finding

RULES: Final[dict[str, str]] = {
    "structure.json": "A program is one JSON document: UTF-8, finite numbers, no trailing text.",
    "structure.type": "Every field holds the JSON type that the format gives it.",
    "structure.missing": "Every required field is present.",
    "structure.unknown_field": "Objects hold no fields but those of the format.",
    "structure.name": "Names of nodes, handles and events have 1 to 128 visible characters.",
    "bounds.depth": "Objects and lists nest only so deep.",
    "bounds.nodes": "A program has at most NODES_MAX nodes.",
    "bounds.qubits": "A program declares at most QUBITS_MAX qubits.",
    "bounds.channels": "A program declares at most CHANNELS_MAX channels.",
    "bounds.events": "A program declares at most EVENTS_MAX events.",
    "bounds.conditions": "A guard has at most CONDITIONS_MAX conditions.",
    "version.unknown": "The version is one that this build reads.",
    "op.unknown": "Every opcode stands in the instruction table.",
    "node.duplicate_id": "No two nodes have the same id.",
    "resource.duplicate": "No name is declared twice; qubits and channels share one set of names.",
    "resource.undeclared": "Every handle and event that a node names is declared in `resources`.",
    "resource.unused": "A declared handle that no node names is probably a mistake.",
    "operand.count": "A node has as many operands of each sort as its opcode takes.",
    "operand.repeated": "The operands of one node differ from one another.",
    "arg.missing": "Every required argument is given.",
    "arg.unknown": "Only arguments that the opcode takes are given.",
    "arg.type": "An argument is written as its type demands; true is no number, 2.0 no integer.",
    "arg.range": "An argument lies within its bounds and fits the operands.",
    "arg.choice": "An argument is one of the values to choose from.",
    "arg.group": "Of arguments that exclude one another exactly one is given.",
    "angle.expression": "An angle is finite: a number, or + - * / ( ) over numbers and pi.",
    "profile.unknown": "A profile names a code that exists, with a distance in range.",
    "rotation.not_ideal": "Rotations stand only on qubits of the ideal profile.",
    "lifetime.not_live": "A qubit is used only between its ALLOC_LQ and its FREE_LQ.",
    "lifetime.double_alloc": "A live qubit is not allocated again.",
    "lifetime.double_free": "A qubit is freed once for every allocation.",
    "lifetime.not_freed": "A qubit that is not freed is reclaimed when the program ends.",
    "magic.not_fresh": "INJECT_T_STATE takes a qubit that nothing touched since ALLOC_LQ or RESET.",
    "channel.not_open": "A channel is used and closed only while it is open.",
    "channel.double_open": "An open channel is not opened again.",
    "channel.not_closed": "A channel that is not closed is given back when the program ends.",
    "event.produced_twice": "Every event is written by one node, once.",
    "event.never_produced": "Every event has a node that writes it, surely one that is read.",
    "event.width": "An event is compared with a value it can hold; a two-bit event is in no XOR.",
    "guard.forbidden": "What begins or ends a lifetime, and SET_POLICY, is done in every shot.",
    "guard.shape": "A guard is {event, equals}, or {type: and|or, conditions: [...]}.",
    "guard.nested": "The conditions of a guard hold no guards themselves.",
    "policy.unused": "A code distance that SET_POLICY asks for is some later ALLOC_LQ's.",
    "guard.missing": "COND_PAULI has a condition: inputs, a guard, or both.",
    "caps.unknown": "Only capabilities that exist are named.",
    "caps.missing": "Stated capabilities cover what the opcodes need and what the nodes name.",
    "dag.cycle": "No node waits for itself: events flow forwards past every fence and barrier.",
}
"""Rule name -> what holds in a program that keeps it."""

WARNINGS: Final = frozenset(
    {
        "resource.unused",
        "lifetime.not_freed",
        "channel.not_closed",
        "event.never_produced",
        "policy.unused",
    }
)
"""Rules that may be broken without refusal. An event that is read but never written is an error."""

SHOWN_CHARS_MAX: Final = 60


class Findings(list[Finding]):
    """At most FINDINGS_MAX findings, and in `total` how many there would be without that bound.

    A node is named only where its id is a sound name: findings stay small and can be encoded.
    """

    __slots__ = ("total",)

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def error(self, rule: str, path: str, message: str, node: str | None = None) -> None:
        """Add an error; beyond the bound, only count it."""
        self._add("error", rule, path, message, node)

    def warning(self, rule: str, path: str, message: str, node: str | None = None) -> None:
        """Add a warning; beyond the bound, only count it."""
        assert rule in WARNINGS, rule
        self._add("warning", rule, path, message, node)

    def then(self, later: Findings) -> Findings:
        """These findings followed by `later`, within the same bound."""
        both = Findings()
        both.extend([*self, *later][:FINDINGS_MAX])
        both.total = self.total + later.total
        return both

    def _add(self, severity: str, rule: str, path: str, message: str, node: str | None) -> None:
        assert rule in RULES, rule
        self.total += 1
        if len(self) < FINDINGS_MAX:
            self.append(
                Finding(
                    rule=rule,
                    severity="error" if severity == "error" else "warning",
                    node=node if node is not None and is_name(node) else None,
                    path=path,
                    message=message,
                )
            )


def field(path: str, name: str) -> str:
    """The path of a field called `name` under `path`; a name that is no word is quoted as JSON.

    A name longer than any of ours is left out, which leaves the path of the object it stands in.
    """
    if len(name) > NAME_CHARS_MAX:
        return path
    word = name.isascii() and name.replace("-", "_").isidentifier()
    return f"{path}.{name}" if word else f"{path}[{json.dumps(name)}]"


def shown(value: object) -> str:
    """A short, one-line, printable picture of any value that JSON can hold."""
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case str():
            cut = value if len(value) <= SHOWN_CHARS_MAX else value[:SHOWN_CHARS_MAX] + "…"
            return repr(cut)
        case int() if value.bit_length() > 64:
            return f"a whole number of {value.bit_length()} bits"
        case int() | float():
            return repr(value)
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
    return f"a {type(value).__name__}"


assert set(RULES) >= WARNINGS
