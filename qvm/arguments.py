"""The arguments of a program's nodes: their types, their bounds, and the rules between them.

A part of the verifier (`verify.py`), which visits the nodes in their order: SET_POLICY holds for
what is allocated behind it. What there may be is in `isa.py`.
"""

from __future__ import annotations

import math
from typing import Any, Final

from msgspec import UNSET

from qvm import isa
from qvm.angles import angle_radians
from qvm.findings import field, shown
from qvm.isa import Arg, ArgType, Op
from qvm.located import Located
from qvm.names import is_text
from qvm.profiles import Profile, parse_profile, with_distance
from qvm.program import Node


class Arguments:
    """angles, profiles: of the nodes that have one. priorities, deadlines: that are asked for; a
    deadline in epochs from the start. fences: passed so far."""

    def __init__(self, found: Located) -> None:
        self.found = found
        self.fences = 0
        self.angles: dict[int, float] = {}
        self.profiles: dict[int, Profile] = {}
        self.priorities: list[int] = []
        self.deadlines: list[int] = []
        self._texts: dict[str, float | str] = {}
        self._distance: tuple[int, int] | None = None
        self._distance_used = False

    def check(self, index: int, node: Node, op: Op) -> None:
        """Check the arguments of a node whose opcode takes some, or that has some."""
        given = node.args or {}
        rows = _ARGS[op.name]
        for name, value in given.items():
            row = rows.get(name)
            if row is None:
                there = ", ".join(rows) or "none"
                message = f"{op.name} has no argument {shown(name)}; there are {there}"
                self.found.error("arg.unknown", index, field(".args", name), message)
            else:
                self._arg(index, node, row, value)
        where = "" if node.args is UNSET else ".args"
        for row in op.args:
            if row.required and row.name not in given:
                message = f"{op.name} needs the argument {row.name}"
                self.found.error("arg.missing", index, where, message)
        self._groups(index, op, given, where)

    def _groups(self, index: int, op: Op, given: dict[str, Any], where: str) -> None:
        """Rules between arguments."""
        for group in _GROUPS[op.name]:
            if sum(name in given for name in group) != 1:
                message = f"{op.name} takes exactly one of {', '.join(group)}"
                self.found.error("arg.group", index, where, message)
        if op.name == "OPEN_CHAN":
            if "opts" in given and len(given) > 1:
                message = "OPEN_CHAN takes either opts, or fidelity and perhaps type"
                self.found.error("arg.group", index, where, message)
            elif "opts" not in given and "fidelity" not in given:
                message = "OPEN_CHAN needs the argument opts or fidelity"
                self.found.error("arg.missing", index, where, message)
        elif op.name == "SET_POLICY" and not given:
            message = f"SET_POLICY needs one of {', '.join(row.name for row in op.args)}"
            self.found.error("arg.missing", index, where, message)
        elif op.name == "SET_POLICY":
            self._policy(index, {name: x for name, x in given.items() if type(x) is int})

    def _policy(self, index: int, given: dict[str, int]) -> None:
        """What SET_POLICY asks for, of the job and of what is allocated behind it in the list."""
        if "priority" in given:
            self.priorities.append(given["priority"])
        if "deadline" in given:
            self.deadlines.append(self.fences + given["deadline"])
        if "code_distance" in given:
            self.end_policy()
            self._distance = index, given["code_distance"]

    def end_policy(self) -> None:
        """The distance that was asked for last is asked for no more; warn if it served nobody."""
        if self._distance is not None and not self._distance_used:
            message = "no ALLOC_LQ behind it leaves its distance open; each keeps what it names"
            index, _ = self._distance
            self.found.warning("policy.unused", index, ".args.code_distance", message)
        self._distance_used = False

    def _arg(self, index: int, node: Node, row: Arg, value: Any) -> None:
        where = f".args.{row.name}"
        match row.type:
            case ArgType.ANGLE:
                self._angle(index, where, value)
            case ArgType.PROFILE if type(value) is str:
                profile = parse_profile(self._at_distance(node, row, value))
                if isinstance(profile, str):
                    self.found.error("profile.unknown", index, where, profile)
                else:
                    self.profiles[index] = profile
            case ArgType.PAULI if type(value) is str:
                count = len(node.vqs or ())
                if not value or value.strip("IXYZ"):
                    message = f"{shown(value)} is not made of the letters I, X, Y, Z"
                    self.found.error("arg.choice", index, where, message)
                elif len(value) not in (1, count):
                    message = f"{len(value)} letters for {count} qubits; give 1 or {count}"
                    self.found.error("arg.range", index, where, message)
            case ArgType.CHANNEL_OPTIONS if type(value) is dict:
                for name, inner in value.items():
                    if name in _CHANNEL_OPTIONS:
                        self._plain(index, f"{where}.{name}", _CHANNEL_OPTIONS[name], inner)
                    else:
                        message = f"there is no option {shown(name)}"
                        self.found.error("arg.unknown", index, field(where, name), message)
            case _:
                self._plain(index, where, row, value)

    def _at_distance(self, node: Node, row: Arg, text: str) -> str:
        """The profile with the distance that SET_POLICY asks for, where it names none itself.

        The node has it from now on, so that the graph means the same to whoever reads it next.
        """
        named = text if self._distance is None else with_distance(text, self._distance[1])
        if named != text:
            self._distance_used = True
            assert node.args
            node.args[row.name] = named
        return named

    def _angle(self, index: int, where: str, value: Any) -> None:
        if type(value) is str:
            angle = self._texts.get(value)
            if angle is None:
                angle = self._texts[value] = angle_radians(value)
        elif type(value) is float or type(value) is int:
            angle = angle_radians(value)
        else:
            self.found.error("arg.type", index, where, f"expected an angle, found {shown(value)}")
            return
        if isinstance(angle, str):
            self.found.error("angle.expression", index, where, angle)
        else:
            self.angles[index] = angle

    def _plain(self, index: int, where: str, row: Arg, value: Any) -> None:
        """Check type and bounds of a number, text or choice; refuse what is of another type."""
        if type(value) not in _TYPES[row.type]:
            message = f"expected {row.type.value.replace('_', ' ')}, found {shown(value)}"
            self.found.error("arg.type", index, where, message)
        elif row.type is ArgType.CHOICE:
            if value not in row.choices:
                message = f"{shown(value)} is none of {', '.join(row.choices)}"
                self.found.error("arg.choice", index, where, message)
        elif row.type is ArgType.TEXT:
            if not is_text(value):
                message = f"a text has 1 to {isa.TEXT_CHARS_MAX} visible characters"
                self.found.error("arg.range", index, where, message)
        elif not (row.minimum <= value <= row.maximum and _finite(value)):
            message = f"{shown(value)} is outside {row.minimum:g} to {row.maximum:g}"
            self.found.error("arg.range", index, where, message)


def _finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


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

assert set(_TYPES) == set(ArgType)
