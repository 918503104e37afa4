"""Random valid programs, for tests and simulations: everything that the rules allow may turn up.

Chance comes in by argument; the same chance makes the same program. The graphs are plain JSON
objects, made without the verifier's help, so that the two can be held against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

_Item = TypeVar("_Item")

Json = dict[str, Any]

CODES: Final = ("logical:Surface(d=3)", "logical:shyps(d=3)", "logical:BaconShor(d=5)")
IDEAL: Final = "logical:ideal"

_GATES: Final = ("H", "S", "X", "Y", "Z", "SDG")
_PAIRS: Final = ("APPLY_CNOT", "APPLY_CZ", "APPLY_SWAP", "TELEPORT_CNOT")
_ANGLES: Final = ("pi/2", "-pi/4", "3*pi/8", "(1 + 2)*pi/5", 0, 1, 0.3, -2.5)
_UNGUARDED: Final = ("ALLOC_LQ", "FREE_LQ", "OPEN_CHAN", "CLOSE_CHAN", "SET_POLICY")


class Chance(Protocol):
    """The part of `random.Random` that is used here."""

    def random(self) -> float: ...
    def randrange(self, stop: int, /) -> int: ...
    def choice(self, seq: Sequence[_Item], /) -> _Item: ...
    def sample(self, population: Sequence[_Item], /, k: int) -> list[_Item]: ...


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What random programs may hold.

    qubits_max: declared, so live at once. nodes_max: all nodes. branchings_max: how often a shot
    may branch, over measurements, resets, frees and channel uses: it bounds exact interpreters.
    guards: chance that a node that may have a guard has one. moved: readers may be listed before
    the node whose event they read.
    """

    qubits_max: int = 8
    nodes_max: int = 40
    branchings_max: int = 14
    guards: float = 0.35
    magic: bool = False
    angles: bool = False
    channels: bool = False
    moved: bool = True


def random_program(
    rng: Chance,
    qubits_max: int = 8,
    nodes_max: int = 40,
    magic: bool = False,
    angles: bool = False,
    channels: bool = False,
    branchings_max: int = 14,
) -> Json:
    """A valid program as a JSON object; `Shape` explains the bounds."""
    shape = Shape(
        qubits_max=qubits_max,
        nodes_max=nodes_max,
        branchings_max=branchings_max,
        magic=magic,
        angles=angles,
        channels=channels,
    )
    return shaped_program(rng, shape)


def shaped_program(rng: Chance, shape: Shape) -> Json:
    """A valid program of that shape as a JSON object."""
    assert shape.qubits_max >= 1
    assert shape.nodes_max >= 2, "at the least one qubit is allocated and measured"
    return _Maker(rng, shape).program()


class _Maker:
    """A program being written, and what is live in it so far."""

    def __init__(self, rng: Chance, shape: Shape) -> None:
        self.rng = rng
        self.shape = shape
        self.names = [f"q{at}" for at in range(1 + rng.randrange(shape.qubits_max))]
        self.nodes: list[Json] = []
        self.live: dict[str, str] = {}
        self.fresh: set[str] = set()
        self.events: dict[str, int] = {}
        self.open: list[str] = []
        self.opened = 0
        self.branchings = shape.branchings_max
        self.makers = self._makers()

    def program(self) -> Json:
        rng, shape = self.rng, self.shape
        length = 1 + rng.randrange(shape.nodes_max - 1)
        self._alloc()
        while len(self.nodes) < length:
            if self.live:
                rng.choice(self.makers)()
            else:
                self._alloc()
        self._end()
        if shape.moved:
            self._move()
        graph: Json = {
            "version": "0.1",
            "program": {"nodes": self.nodes},
            "resources": {
                "vqs": self.names,
                "chs": [f"c{at}" for at in range(self.opened)],
                "events": list(self.events),
            },
        }
        if rng.random() < 0.3:
            graph["caps"] = ["CAP_ALLOC", "CAP_MAGIC", "CAP_TELEPORT", "CAP_LINK"]
            graph["metadata"] = {"made": ["by", "chance"]}
        return graph

    def _makers(self) -> list[Callable[[], None]]:
        makers = 4 * [self._gate, self._pair] + 3 * [self._measure] + 2 * [self._cond_pauli]
        makers += [self._alloc, self._free, self._reset, self._bell, self._order, self._policy]
        if self.shape.magic:
            makers += 2 * [self._inject, self._t_gate]
        if self.shape.angles:
            makers += 2 * [self._measure_angle, self._rotate]
        if self.shape.channels:
            makers += [self._open, self._use, self._close]
        return makers

    # --- pieces -----------------------------------------------------------------------------------

    def _add(self, op: str, touch: bool = True, **fields: Any) -> None:
        node: Json = {"id": f"n{len(self.nodes)}", "op": op, **fields}
        rng = self.rng
        if op not in _UNGUARDED and "guard" not in node and self.events:
            if rng.random() < self.shape.guards:
                node["guard"] = self._guard()
            elif rng.random() < 0.05:
                node["guard"] = None
        if touch:
            self.fresh -= set(fields.get("vqs", ()))
        self.nodes.append(node)

    def _guard(self) -> Json:
        rng = self.rng
        events = [rng.choice(list(self.events)) for _ in range(1 + rng.randrange(3))]
        wanted = [rng.randrange(2 ** self.events[event]) for event in events]
        if rng.random() < 0.5:
            return {"event": events[0], "equals": wanted[0]}
        conditions = [
            {"event": event, rng.choice(("equals", "value")): value}
            for event, value in zip(events, wanted, strict=True)
        ]
        return {"type": rng.choice(("and", "or")), "conditions": conditions}

    def _event(self, bits: int = 1) -> str:
        name = f"m{len(self.events)}"
        self.events[name] = bits
        return name

    def _one(self) -> str:
        return self.rng.choice(list(self.live))

    def _two(self) -> list[str]:
        return self.rng.sample(list(self.live), k=2) if len(self.live) > 1 else []

    def _may_branch(self, times: int = 1) -> bool:
        """Spend that many branchings, if they are left."""
        if self.branchings < times:
            return False
        self.branchings -= times
        return True

    # --- nodes ------------------------------------------------------------------------------------

    def _alloc(self) -> None:
        rng = self.rng
        dead = [name for name in self.names if name not in self.live]
        if not dead:
            return
        vqs = rng.sample(dead, k=1 + rng.randrange(len(dead)))
        profile = IDEAL if self.shape.angles or rng.random() < 0.5 else rng.choice(CODES)
        self._add("ALLOC_LQ", vqs=vqs, args={"n": len(vqs), "profile": profile})
        self.live |= dict.fromkeys(vqs, profile)
        self.fresh |= set(vqs)

    def _free(self) -> None:
        vqs = self.rng.sample(list(self.live), k=1 + self.rng.randrange(min(2, len(self.live))))
        if self._may_branch(len(vqs)):
            self._add("FREE_LQ", vqs=vqs)
            for name in vqs:
                del self.live[name]

    def _gate(self) -> None:
        self._add(f"APPLY_{self.rng.choice(_GATES)}", vqs=[self._one()])

    def _pair(self) -> None:
        if vqs := self._two():
            self._add(self.rng.choice(_PAIRS), vqs=vqs)

    def _measure(self) -> None:
        if self._may_branch():
            vqs, op = [self._one()], f"MEASURE_{self.rng.choice('ZXY')}"
            self._add(op, vqs=vqs)
            self.nodes[-1]["produces"] = [self._event()]

    def _measure_angle(self) -> None:
        if self._may_branch():
            angle = self.rng.choice(_ANGLES)
            self._add("MEASURE_ANGLE", vqs=[self._one()], args={"angle": angle})
            self.nodes[-1]["produces"] = [self._event()]

    def _bell(self) -> None:
        if (vqs := self._two()) and self._may_branch(2):
            self._add("MEASURE_BELL", vqs=vqs)
            one = self.rng.random() < 0.5
            self.nodes[-1]["produces"] = (
                [self._event(bits=2)] if one else [self._event(), self._event()]
            )

    def _reset(self) -> None:
        if self._may_branch():
            name = self._one()
            self._add("RESET", touch=False, vqs=[name])
            if not self.nodes[-1].get("guard"):
                self.fresh.add(name)

    def _cond_pauli(self) -> None:
        rng = self.rng
        vqs = rng.sample(list(self.live), k=1 + rng.randrange(min(3, len(self.live))))
        letters = rng.choice((1, len(vqs)))
        pauli = "".join(rng.choice("IXYZ") for _ in range(letters))
        args = {rng.choice(("pauli", "mask")): pauli}
        narrow = [name for name, bits in self.events.items() if bits == 1]
        if narrow and rng.random() < 0.7:
            inputs = rng.sample(narrow, k=1 + rng.randrange(min(3, len(narrow))))
            self._add("COND_PAULI", vqs=vqs, args=args, inputs=inputs)
        elif self.events:
            self._add("COND_PAULI", vqs=vqs, args=args, guard=self._guard())

    def _order(self) -> None:
        rng = self.rng
        if rng.random() < 0.5:
            self._add("FENCE_EPOCH", touch=False)
            return
        some = rng.sample(list(self.live), k=rng.randrange(len(self.live) + 1))
        fields = {"vqs": some} if some else {}
        self._add("BAR_REGION", touch=False, args={"tag": f"region {len(self.nodes)}"}, **fields)

    def _policy(self) -> None:
        self._add("SET_POLICY", args={"priority": self.rng.randrange(10)})

    def _inject(self) -> None:
        if self.fresh:
            self._add("INJECT_T_STATE", vqs=[self.rng.choice(sorted(self.fresh))])

    def _t_gate(self) -> None:
        self._add(self.rng.choice(("APPLY_T", "APPLY_TDG")), vqs=[self._one()])

    def _rotate(self) -> None:
        ideal = [name for name, profile in self.live.items() if profile == IDEAL]
        if ideal:
            vqs = [self.rng.choice(ideal)]
            op = f"APPLY_R{self.rng.choice('XYZ')}"
            self._add(op, vqs=vqs, args={"theta": self.rng.choice(_ANGLES)})

    def _open(self) -> None:
        if vqs := self._two():
            name = f"c{self.opened}"
            self.opened += 1
            how: Json = {"fidelity": 0.9, "type": "bell"}
            args = {"opts": how} if self.rng.random() < 0.5 else how
            self._add("OPEN_CHAN", vqs=vqs, chs=[name], args=args)
            self.open.append(name)

    def _use(self) -> None:
        if self.open and (vqs := self._two()) and self._may_branch():
            semantic = self.rng.choice(("teleport_state", "teleport_cnot"))
            if semantic == "teleport_state" and self.rng.random() < 0.3:
                vqs = vqs[:1]
            chs = [self.rng.choice(self.open)]
            self._add("USE_CHAN", vqs=vqs, chs=chs, args={"semantic": semantic})

    def _close(self) -> None:
        if self.open:
            name = self.open.pop(self.rng.randrange(len(self.open)))
            self._add("CLOSE_CHAN", chs=[name])

    # --- the end ----------------------------------------------------------------------------------

    def _end(self) -> None:
        """Measure what is still live, as far as nodes and branchings reach."""
        for name in list(self.live):
            if len(self.nodes) < self.shape.nodes_max and self._may_branch():
                self._add("MEASURE_Z", vqs=[name])
                self.nodes[-1]["produces"] = [self._event()]

    def _move(self) -> None:
        """List some readers before their writers, where no handle and no fence forbids it."""
        for at in range(1, len(self.nodes)):
            if self._events_read(at) and self.rng.random() < 0.2:
                to = at
                while to > 0 and self._independent(self.nodes[to - 1], self.nodes[at]):
                    to -= 1
                self.nodes.insert(to, self.nodes.pop(at))

    def _events_read(self, at: int) -> bool:
        return bool(self.nodes[at].get("guard") or self.nodes[at].get("inputs"))

    def _independent(self, one: Json, other: Json) -> bool:
        if {"FENCE_EPOCH", "BAR_REGION", "SET_POLICY"} & {one["op"], other["op"]}:
            return False
        shared = {("q", each) for each in one.get("vqs", ())} & {
            ("q", each) for each in other.get("vqs", ())
        }
        written = set(other.get("produces", ())) & _read_by(one)
        return (
            not shared and not set(one.get("chs", ())) & set(other.get("chs", ())) and not written
        )


def _read_by(node: Json) -> set[str]:
    guard = node.get("guard") or {}
    events = {condition["event"] for condition in guard.get("conditions", ())}
    return events | ({guard["event"]} if "event" in guard else set()) | set(node.get("inputs", ()))
