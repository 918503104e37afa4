"""A QVM graph in memory: as written (`Graph`), as verified (`VerifiedProgram`), as run (`Lowered`).

Holds types only. `decode.py` reads JSON into a `Graph`, `verify.py` turns a `Graph` into a
`VerifiedProgram` or findings, `lower.py` turns that into numbered slots and events for engines.
The structs are trees without cycles, so the cyclic collector need not visit them (`gc=False`).
The reference interpreter works from the `Graph` itself, so that it shares nothing with lowering.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from qvm.parts import Alike
from qvm.profiles import Profile
from syscalls.findings import Finding


class Condition(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """True where `event` holds the value; an event whose measurement did not run is never equal.

    Exactly one of `equals` and `value` is given.
    """

    event: str
    equals: int | UnsetType = UNSET
    value: int | UnsetType = UNSET


class Guard(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """`{event, equals}`, or `{type: and|or, conditions}`. Unset fields tell which."""

    event: str | UnsetType = UNSET
    equals: int | UnsetType = UNSET
    type: str | UnsetType = UNSET
    conditions: list[Condition] | UnsetType = UNSET


class Node(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One node as written."""

    id: str
    op: str
    args: dict[str, Any] | UnsetType = UNSET
    vqs: list[str] | UnsetType = UNSET
    chs: list[str] | UnsetType = UNSET
    inputs: list[str] | UnsetType = UNSET
    produces: list[str] | UnsetType = UNSET
    caps: list[str] | UnsetType = UNSET
    guard: Guard | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    nodes: list[Node]


class Resources(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    vqs: list[str]
    events: list[str]
    chs: list[str] = []


class Graph(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A whole graph as written."""

    version: str
    program: Body
    resources: Resources
    caps: list[str] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    description: str | UnsetType = UNSET


class EventField(msgspec.Struct, frozen=True):
    """One declared event: `bits` is 2 for a Bell outcome kept in one event, else 1."""

    name: str
    bits: int


class Blocks(msgspec.Struct, frozen=True, kw_only=True):
    """`number` code blocks of one kind. logical, physical: qubits of one block."""

    code: str
    distance: int
    logical: int
    physical: int
    number: int

    @property
    def coded(self) -> bool:
        """Whether there are syndromes to decode."""
        return self.code != "ideal"


class NamedQubit(msgspec.Struct, frozen=True, kw_only=True):
    """A qubit that the program names by a handle of `q_alloc`, with a profile it gives it.

    local: takes part in an operation on two qubits that is no use of a named channel between them.
    """

    name: str
    profile: Profile
    local: bool


class NamedChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel that the program names as `q_open_chan` did, and the qubits it opens it between.

    ends: sorted. astray: it is opened between others as well, or used on others than these two.
    """

    name: str
    ends: tuple[str, str]
    astray: bool


HELD: Final = -1
"""In place of a kind of blocks: qubits that sessions hold, numbered by their handles, sorted."""


class Span(NamedTuple):
    """`number` blocks of a kind, from `first` on, that belong to a group."""

    kind: int
    first: int
    number: int
    group: int


class Kind(NamedTuple):
    """What pairs that are alike have in common; fields as those of `PairUse`."""

    asked: float
    type: str
    age: int


class PairUse(NamedTuple):
    """A node that consumes a Bell pair where its ends lie in different modules.

    ends: of each of the two its (kind, block), as in `homes.py`, or (HELD, number). channel: the
    name of the one that it uses, whose ends are to lie apart; "" for a TELEPORT_CNOT. asked: the
    fidelity asked for; 0 for none. type: of the channel. age: logical time steps since the channel
    was opened or last used.
    """

    node: int
    ends: tuple[tuple[int, int], tuple[int, int]]
    channel: str
    asked: float
    type: str
    age: int

    @property
    def kind(self) -> Kind:
        return Kind(self.asked, self.type, self.age)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel needs to know of a verified program without holding its nodes.

    digest: `sha256:` + hex over the canonical encoding of version, nodes and resources (not
        metadata or description).
    epochs: fences + 1. rights: capabilities the ops need, sorted. families, profiles: sorted.
    peak_logical, peak_physical: largest numbers live at once (whole blocks); width = peak_logical.
    blocks: of each kind the largest number live at once, largest blocks first.
    t_states: T states consumed if every guard holds. ops: how often each opcode occurs.
    clifford: every op is a Clifford op. pauli_guards: guards stand only on Pauli unitaries,
        fences and barriers. branching_guards: how many guards stand on anything else.
        ideal: every profile is `ideal`.
    priority, deadline: what SET_POLICY asks for, the deadline in epochs from the start.
    parts: the shapes of the parts that never touch (`parts.py`), and how many have each.
    handles, brokered: qubits and channels that sessions hold, sorted. Of these, peak_physical,
        peak_channels and blocks count nothing. others_logical: peak_logical without them, or None
        where that is the same.
    uses: nodes that may consume a Bell pair, in execution order (`uses.py`). uses_left_out: how
        many there are beyond those. joined: of a program with `uses`, all blocks, and which groups
        of them other operations on several qubits join.
    """

    digest: str
    nodes: int
    epochs: int
    rights: tuple[str, ...]
    families: tuple[str, ...]
    profiles: tuple[Profile, ...]
    events: tuple[EventField, ...]
    ops: dict[str, int]
    peak_logical: int
    peak_physical: int
    peak_channels: int
    blocks: tuple[Blocks, ...]
    t_states: int
    clifford: bool
    pauli_guards: bool
    branching_guards: int
    ideal: bool
    parts: tuple[Alike, ...]
    handles: tuple[NamedQubit, ...] = ()
    brokered: tuple[NamedChannel, ...] = ()
    others_logical: int | None = None
    uses: tuple[PairUse, ...] = ()
    uses_left_out: int = 0
    joined: tuple[Span, ...] = ()
    priority: int | None = None
    deadline: int | None = None

    @property
    def asked_logical(self) -> int:
        """Logical qubits that it needs beside those that its session holds."""
        return self.peak_logical if self.others_logical is None else self.others_logical


class VerifiedProgram(msgspec.Struct, frozen=True, kw_only=True):
    """A graph in which the verifier found no error.

    order: node indices in execution order (a `range` where list order serves).
    epoch: for each node in list order, its epoch, counted from 0.
    angles: node index -> radians, for ops with an angle argument.
    warnings: findings of severity warning.
    """

    graph: Graph
    order: Sequence[int]
    epoch: Sequence[int]
    angles: dict[int, float]
    summary: Summary
    warnings: tuple[Finding, ...]


class LoweredGuard(msgspec.Struct, frozen=True, gc=False):
    """Tests (event number, value) joined by OR where `any`, else by AND."""

    any: bool
    tests: tuple[tuple[int, int], ...]


class Step(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One node, numbered, for engines.

    op: opcode name. node: index in the graph's list (keys the random words). epoch: from 0.
    qubits: slot numbers below `Lowered.slots`; a slot is reused after FREE_LQ and is then |0>.
    events: event numbers written. xor: event numbers whose parity conditions a COND_PAULI (empty:
        unconditional but for the guard). pauli: one letter per qubit, COND_PAULI only.
    angle: radians, for ops that have one, else 0.0.
    """

    op: str
    node: int
    epoch: int
    qubits: tuple[int, ...] = ()
    events: tuple[int, ...] = ()
    xor: tuple[int, ...] = ()
    pauli: str = ""
    angle: float = 0.0
    guard: LoweredGuard | None = None


class Lowered(msgspec.Struct, frozen=True, kw_only=True):
    """A verified program ready for an engine.

    steps: in execution order. slots: number of qubit slots; all start in |0>.
    alloc_profiles: profile of each ALLOC_LQ, by its node index.
    events: declared events in the order of `resources.events`.
    """

    steps: tuple[Step, ...]
    slots: int
    alloc_profiles: dict[int, Profile]
    events: tuple[EventField, ...]
    epochs: int
    digest: str
