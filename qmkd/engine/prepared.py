"""A lowered program as the engines share it: its steps numbered for chance, its forms kept.

Each engine compiles a program once per noise model and finds the result here again. Also what the
engines have in common: how rows look, how a run is stopped, which Stim gate an opcode is.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import stim
from numpy.typing import NDArray

from qmkd.core.ports import Point
from qmkd.engine.chance import (
    NOISE_DRAW_FIRST,
    NOISE_DRAWS,
    OWN_DRAWS,
    STEPS_PER_NODE_MAX,
    Strikes,
    strikes,
)
from qmkd.engine.noise import CHANNELS_PER_STEP_MAX, NoiseModel, PauliChannel
from qvm.program import Lowered, Step, Summary

Rows = NDArray[np.uint8]
"""shape (shots, events), in the order of `Lowered.events`: 0..3, or ABSENT."""
ABSENT: Final = 255

Stop = Callable[[], bool]

Pause = Callable[[], bool]
"""Whether a run may be left at the fence at which this is asked, to go on from there later."""


def never() -> bool:
    """No run is left."""
    return False


POLL_NS: Final = 10_000_000
TABLEAU_BYTES_LEAST: Final = 4096
LINES_MAX: Final = 4096  # of a circuit for Stim, which nothing stops
FORMS_MAX: Final = 6  # compiled forms and noise models kept per program

GATES: Final = {
    "APPLY_H": "H",
    "APPLY_S": "S",
    "APPLY_SDG": "S_DAG",
    "APPLY_X": "X",
    "APPLY_Y": "Y",
    "APPLY_Z": "Z",
    "APPLY_CNOT": "CX",
    "TELEPORT_CNOT": "CX",
    "APPLY_CZ": "CZ",
    "APPLY_SWAP": "SWAP",
}
"""Clifford opcodes by the name that Stim has for them."""
PAULIS: Final = {"APPLY_X": "X", "APPLY_Y": "Y", "APPLY_Z": "Z"}
PASSIVE: Final = frozenset({"ALLOC_LQ", "BAR_REGION", "OPEN_CHAN", "CLOSE_CHAN", "SET_POLICY"})
"""Opcodes that touch no state, on logical qubits."""
BASES: Final = {"MEASURE_Z": "Z", "MEASURE_X": "X", "MEASURE_Y": "Y"}

_Form = TypeVar("_Form")
_Item = TypeVar("_Item")


class Stopped(Exception):
    """The run was asked to stop and did, in program epoch `epoch`; it has no result."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"stopped in epoch {epoch}")
        self.epoch = epoch


class Poll:
    """Asks `stop` between actions, but rarely. epoch: what a run that stops here stops in."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._next_ns = time.monotonic_ns() + POLL_NS
        self.epoch = 0

    def __call__(self) -> None:
        """Raises `Stopped` where it is time to ask, and the answer is yes."""
        now = time.monotonic_ns()
        if now >= self._next_ns:
            self._next_ns = now + POLL_NS
            if self._stop():
                raise Stopped(self.epoch)

    def fence(self, epoch: int) -> None:
        """At a fence it always is time. Raises `Stopped`."""
        if self._stop():
            raise Stopped(epoch)
        self.epoch = epoch + 1


def polled(items: Iterable[_Item], poll: Callable[[], None]) -> Iterator[_Item]:
    """The items, after calling `poll` for each."""
    for each in items:
        poll()
        yield each


class Unable(Exception):
    """This engine cannot run this program; the sentence says why."""


class Uncalibrated(Unable):
    """The logical errors of `point` are in no table that is here."""

    def __init__(self, point: Point, why: str) -> None:
        super().__init__(why)
        self.point = point


def tableau_bytes(slots: int) -> int:
    """What Stim holds for a state of that many qubits: four bit matrices and some."""
    return slots * slots // 2 + 1024 * slots // 8 + TABLEAU_BYTES_LEAST


class Prepared:
    """A lowered program with whatever the engines have compiled from it.

    notes: figures that the last run left, such as its most groups or branches in a batch.
    """

    def __init__(self, lowered: Lowered, summary: Summary) -> None:
        self.lowered = lowered
        self.summary = summary
        self.notes: dict[str, int] = {}
        self._forms: OrderedDict[Any, Any] = OrderedDict()

    def form(
        self, compiler: Compiler[_Form], noise: NoiseModel, stop: Stop = lambda: False
    ) -> _Form:
        """What `compiler` makes of this program under this noise, made at most once.

        Raises `Stopped` where `stop()` was true some time while it was made.
        """
        return self.kept((compiler, noise), lambda: compiler(self, noise, Poll(stop)))

    def kept(self, key: Hashable, make: Callable[[], _Form]) -> _Form:
        """What `make` made for this key, made again only after FORMS_MAX others."""
        found: _Form | None = self._forms.get(key)
        if found is None:
            found = self._forms[key] = make()
            if len(self._forms) > FORMS_MAX:
                self._forms.popitem(last=False)
        return found


Compiler = Callable[[Prepared, NoiseModel, Poll], _Form]


class Numbered(NamedTuple):
    """A step with its draws: `draw` is its first own one; channels and flips have theirs.

    flips: what readout flips strike with, None where they never do.
    """

    step: Step
    draw: int
    before: tuple[tuple[int, PauliChannel], ...]
    after: tuple[tuple[int, PauliChannel], ...]
    flip_draw: int
    flips: Strikes | None


def numbered(lowered: Lowered, noise: NoiseModel) -> Iterator[Numbered]:
    """The steps in order, passive ones left out unless noise strikes there."""
    node, part = -1, 0
    for step in lowered.steps:
        part = part + 1 if step.node == node else 0
        node = step.node
        assert part < STEPS_PER_NODE_MAX, "a node is few steps"
        draw = part * OWN_DRAWS
        if noise.ideal:
            if step.op not in PASSIVE:
                yield Numbered(step, draw, (), (), 0, None)
            continue
        before, after = noise.before(step), noise.after(step)
        assert len(before) + len(after) <= CHANNELS_PER_STEP_MAX
        first = NOISE_DRAW_FIRST + part * NOISE_DRAWS
        between = first + len(before)
        yield Numbered(
            step,
            draw,
            tuple(enumerate(before, first)),
            tuple(enumerate(after, between)),
            between + len(after),
            strikes((noise.flips(step),)) if step.events else None,
        )


def instruction(gate: str, qubits: tuple[int, ...]) -> str:
    """One line of a Stim circuit."""
    return f"{gate} {qubits[0]}" if len(qubits) == 1 else f"{gate} {qubits[0]} {qubits[1]}"


def reference(slots: int) -> stim.TableauSimulator:
    """A new tableau of `slots` qubits in |0>. Raises MemoryError where there is no room."""
    make_room(3 * tableau_bytes(slots))
    sim = stim.TableauSimulator(seed=0)
    sim.set_num_qubits(slots)
    return sim


def make_room(size: int) -> None:
    """Raises MemoryError where `size` bytes cannot be had: Stim does not look, it crashes."""
    np.empty(size, dtype=np.uint8)
