"""What a small program's events are distributed as, with errors, for several choices of codes.

States are held by their components in the basis of products of Paulis, in which errors multiply
each component by a number (`timeline.py`), so all choices go through the program together. Each
record of events owns a state, not normalised; measurements split records. Nothing is drawn.
Programs that are too wide or too long for this are for `cones.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qvm.isa import OPS, Kind
from qvm.program import Lowered, LoweredGuard, Step
from runtime.jit.planning.timeline import Around, Factors, Timeline

QUBITS_MAX: Final = 8
RECORDS_MAX: Final = 1 << 12
NUMBERS_MAX: Final = 1 << 24
"""Components of all records and choices at once: 128 MiB."""
WORK_MAX: Final = 3e9
"""Components times steps, at most, of a program that is followed at all."""
PROBABILITY_MIN: Final = 1e-13
ABSENT: Final = -1
_FORGETS: Final = frozenset({"FREE_LQ", "RESET", "INJECT_T_STATE"})

Matrix = NDArray[np.complex128]
Map = NDArray[np.float64]
"""A linear map on components: shape (4^k, 4^k), or (1, 4^k) where the qubit goes."""


class TooLarge(Exception):
    """Following this program in all its ways takes more than there is; the sentence says what."""


class Outcomes:
    """Probabilities of records of events, for several choices.

    keys: as counts are keyed on the wire. chances: float64, shape (choices, keys).
    """

    def __init__(self, keys: Sequence[str], chances: Factors) -> None:
        self.keys = list(keys)
        self.chances = chances

    def of(self, choice: int) -> dict[str, float]:
        """Of one choice, by key."""
        return dict(zip(self.keys, self.chances[choice].tolist(), strict=True))


def affordable(lowered: Lowered, choices: int) -> bool:
    """Whether `outcomes` would follow a program so wide and long, as far as can be told before."""
    size = choices * 4**lowered.slots
    return lowered.slots <= QUBITS_MAX and size * len(lowered.steps) <= WORK_MAX


def outcomes(lowered: Lowered, line: Timeline, wanted: frozenset[int] | None = None) -> Outcomes:
    """What the events come out as. Raises TooLarge.

    wanted: numbers of the events that are told; others read as if they had not run. None for all.
    """
    if lowered.slots > QUBITS_MAX:
        raise TooLarge(f"{lowered.slots} qubits are live at once, and {QUBITS_MAX} are the most")
    state = _State(len(lowered.events), line.codes)
    final, forgotten = _final(line.steps), _forgotten(line.steps, wanted)
    for at, (step, around) in enumerate(zip(line.steps, line.around, strict=True)):
        state.step(step, around, final.get(at, frozenset()))
        if at in forgotten:
            state.forget(forgotten[at])
    return state.outcomes()


def _forgotten(steps: Sequence[Step], wanted: frozenset[int] | None) -> dict[int, list[int]]:
    """Of each step the events that nobody reads behind it."""
    if wanted is None:
        return {}
    last: dict[int, int] = {}
    for at, step in enumerate(steps):
        tests = () if step.guard is None else step.guard.tests
        for event in (*step.events, *step.xor, *(event for event, _ in tests)):
            last[event] = at
    found: dict[int, list[int]] = {}
    for event, at in last.items():
        if event not in wanted:
            found.setdefault(at, []).append(event)
    return found


def _final(steps: Sequence[Step]) -> dict[int, frozenset[int]]:
    """Of each step the qubits that nothing looks at behind it, before they are freed."""
    used: set[int] = set()
    found: dict[int, frozenset[int]] = {}
    for at in reversed(range(len(steps))):
        step = steps[at]
        if step.op != "FENCE_EPOCH":
            found[at] = frozenset(step.qubits) - used
            used |= set(step.qubits)
        if step.op in _FORGETS and step.guard is None:
            used -= set(step.qubits)
    return found


class _State:
    """All records at one point of the program.

    live: the slots that have an axis. values: shape (choices, records, 4, ..., 4). records: int8,
    shape (records, events).
    """

    def __init__(self, events: int, choices: int) -> None:
        self.live: list[int] = []
        self.values: Factors = np.ones((choices, 1))
        self.records = np.full((1, events), ABSENT, dtype=np.int8)

    def step(self, step: Step, around: Around, final: frozenset[int]) -> None:
        """Carry out one step. final: of its qubits those that may go behind it."""
        self._err(around.before)
        chosen = self._guarded(step.guard)
        kind = OPS[step.op].kind
        if step.op == "ALLOC_LQ":
            for qubit in step.qubits:
                self._add(qubit)
        elif step.op == "FREE_LQ":
            for qubit in step.qubits:
                if qubit in self.live:
                    self._apply(_drop(), (qubit,), None)
        elif step.op == "COND_PAULI":
            chosen = _both(chosen, self._odd(step.xor))
            for letter, qubit in zip(step.pauli, step.qubits, strict=True):
                self._apply(_unitary(f"APPLY_{letter}", 0.0), (qubit,), chosen)
        elif kind is Kind.UNITARY:
            self._apply(_unitary(step.op, step.angle), step.qubits, chosen)
        elif kind is Kind.PREPARE:
            if step.qubits[0] not in self.live:
                self._add(step.qubits[0])
            self._apply(_prepared(step.op), step.qubits, chosen)
        elif kind is Kind.MEASURE:
            self._measure(step, chosen, final)
            return
        self._err(around.after)
        for strike in around.struck:
            self._strike(strike.factors, strike.qubits, self._guarded(step.guard))

    def forget(self, events: Sequence[int]) -> None:
        """Records that differ in these events alone become one."""
        self.records[:, events] = ABSENT
        rows, place = np.unique(self.records, axis=0, return_inverse=True)
        if len(rows) == len(self.records):
            return
        order = np.argsort(place.reshape(-1), kind="stable")
        starts = np.searchsorted(place.reshape(-1)[order], np.arange(len(rows)))
        self.values = np.add.reduceat(self.values[:, order], starts, axis=1)
        self.records = rows

    def outcomes(self) -> Outcomes:
        """The probability of each record."""
        while self.live:
            self._apply(_drop(), (self.live[-1],), None)
        keys = ["".join("-0123"[value + 1] for value in row) for row in self.records.tolist()]
        assert len(set(keys)) == len(keys), "records are distinct"
        total = self.values.sum(axis=1, keepdims=True)
        assert np.allclose(total, 1, atol=1e-8), "what was left out cannot be seen"
        return Outcomes(keys, self.values / total)

    # --- what happens to components ---------------------------------------------------------------

    def _add(self, qubit: int) -> None:
        """A qubit in |0>: its components I and Z are those of all the rest."""
        self._check_room(4 * self.values.size)
        wider = np.zeros((*self.values.shape, 4))
        wider[..., 0] = wider[..., 3] = self.values
        self.values = wider
        self.live.append(qubit)

    def _apply(self, made: Map, qubits: Sequence[int], chosen: NDArray[np.bool_] | None) -> None:
        """A map on these qubits, in the records chosen."""
        if chosen is None or chosen.all():
            self.values = _mapped(made, self.values, self._axes(qubits))
        elif chosen.any():
            assert made.shape[0] == made.shape[1], "a qubit goes in all records or in none"
            self.values[:, chosen] = _mapped(made, self.values[:, chosen], self._axes(qubits))
        if made.shape[0] < made.shape[1]:
            self.live.remove(qubits[0])

    def _measure(self, step: Step, chosen: NDArray[np.bool_] | None, final: frozenset[int]) -> None:
        """Split the records chosen by the outcomes; where all are and the qubit is done with, it
        goes."""
        ways = _projected(step.op, step.angle)
        if chosen is not None and not chosen.any():
            return
        goes = (chosen is None or bool(chosen.all())) and len(step.qubits) == 1
        goes = goes and step.qubits[0] in final
        inside = self.values if chosen is None else self.values[:, chosen]
        rows = self.records if chosen is None else self.records[chosen]
        self._check_room(self.values.size + len(ways) * inside.size)
        values, records = [], []
        for outcome, way in enumerate(ways):
            made = way[:1] if goes else way
            values.append(_mapped(made, inside, self._axes(step.qubits)))
            row = rows.copy()
            bits = (outcome,) if len(step.events) == 1 else (outcome >> 1, outcome & 1)
            for event, value in zip(step.events, bits, strict=True):
                row[:, event] = value
            records.append(row)
        if chosen is not None and not goes:
            values.append(self.values[:, ~chosen])
            records.append(self.records[~chosen])
        if goes:
            self.live.remove(step.qubits[0])
        whole, rows = np.concatenate(values, axis=1), np.concatenate(records)
        likely = whole.reshape(*whole.shape[:2], -1)[:, :, 0].max(axis=0) > PROBABILITY_MIN
        self.values, self.records = whole[:, likely], rows[likely]
        if len(self.records) > RECORDS_MAX:
            raise TooLarge(f"{len(self.records)} records of events are more than {RECORDS_MAX}")

    def _err(self, errors: Mapping[int, Factors]) -> None:
        for qubit, factors in errors.items():
            self._strike(factors, (qubit,), None)

    def _strike(
        self, factors: Factors, qubits: Sequence[int], chosen: NDArray[np.bool_] | None
    ) -> None:
        """Multiply components, in the records chosen. A qubit that is gone does not err."""
        if any(qubit not in self.live for qubit in qubits):
            return
        shape = [len(factors), 1, *[1] * len(self.live)]
        axes = self._axes(qubits)
        for axis in axes:
            shape[axis] = 4
        turned = factors.reshape(len(factors), *[4] * len(qubits))
        if list(axes) != sorted(axes):
            turned = turned.swapaxes(1, 2)
        if chosen is None:
            self.values *= turned.reshape(shape)
        elif chosen.any():
            self.values[:, chosen] *= turned.reshape(shape)

    # --- records ----------------------------------------------------------------------------------

    def _guarded(self, guard: LoweredGuard | None) -> NDArray[np.bool_] | None:
        """Which records satisfy the guard; None for all."""
        if guard is None:
            return None
        tests = [self.records[:, event] == value for event, value in guard.tests]
        return np.asarray((np.any if guard.any else np.all)(tests, axis=0), dtype=np.bool_)

    def _odd(self, events: Sequence[int]) -> NDArray[np.bool_] | None:
        """Records in which the parity of the events is odd; an absent one counts 0."""
        if not events:
            return None
        values = np.maximum(self.records[:, list(events)], 0)
        return np.asarray(np.bitwise_xor.reduce(values, axis=1) == 1, dtype=np.bool_)

    def _axes(self, qubits: Sequence[int]) -> tuple[int, ...]:
        return tuple(2 + self.live.index(qubit) for qubit in qubits)

    def _check_room(self, numbers: int) -> None:
        if numbers > NUMBERS_MAX:
            raise TooLarge(f"{numbers:,} components are more than {NUMBERS_MAX:,}")


def _both(one: NDArray[np.bool_] | None, two: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    if one is None or two is None:
        return two if one is None else one
    return one & two


def _mapped(made: Map, values: Factors, axes: Sequence[int]) -> Factors:
    """The map on these axes; an axis goes where the map has one row."""
    shape = values.shape
    if len(axes) == 1:
        (axis,) = axes
        left, right = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        done = made @ values.reshape(left, 4, right)
        kept = (len(made),) if len(made) > 1 else ()
        return np.ascontiguousarray(done).reshape(*shape[:axis], *kept, *shape[axis + 1 :])
    rest = [axis for axis in range(values.ndim) if axis not in axes]
    order = [*axes, *rest]
    done = made @ values.transpose(order).reshape(len(made), -1)
    moved = done.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
    return np.ascontiguousarray(moved)


# --- maps of operations ---------------------------------------------------------------------------

_PAULIS: Final = np.array(
    [[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]],
    dtype=np.complex128,
)


@lru_cache(maxsize=4)
def _products(size: int) -> Matrix:
    """All products of Paulis on so many qubits: shape (4^size, 2^size, 2^size). The first letter
    counts most; an operation's first qubit is its matrix's lowest bit (`qvm/isa.py`)."""
    found = [
        _kron([_PAULIS[letter] for letter in reversed(letters)])
        for letters in itertools.product(range(4), repeat=size)
    ]
    return np.array(found)


def _kron(parts: Sequence[Matrix]) -> Matrix:
    whole: Matrix = np.eye(1, dtype=np.complex128)
    for part in parts:
        whole = np.asarray(np.kron(whole, part), dtype=np.complex128)
    return whole


def _map_of(operator: Matrix) -> Map:
    """What rho -> A rho A^+ does to components: M[a, b] = Tr(P_a A P_b A^+) / 2^k."""
    size = len(operator).bit_length() - 1
    products = _products(size)
    turned = operator @ products @ operator.conj().T
    return np.asarray(np.einsum("aij,bji->ab", products, turned).real / len(operator))


_AXES: Final = {"APPLY_RX": 1, "APPLY_RY": 2, "APPLY_RZ": 3}


@lru_cache(maxsize=4096)
def _unitary(op: str, angle: float) -> Map:
    if op == "APPLY_I":
        return np.eye(4)
    if op in _AXES:
        axis = _PAULIS[_AXES[op]]
        return _map_of(math.cos(angle / 2) * _PAULIS[0] - 1j * math.sin(angle / 2) * axis)
    return _map_of(np.array(OPS[op].matrix, dtype=np.complex128))


@lru_cache(maxsize=4)
def _prepared(op: str) -> Map:
    """Forget the state, then hold a known one."""
    half = math.sqrt(0.5)
    components = {"RESET": (1, 0, 0, 1), "INJECT_T_STATE": (1, half, half, 0)}[op]
    made = np.zeros((4, 4))
    made[:, 0] = components
    return made


@lru_cache(maxsize=1)
def _drop() -> Map:
    return np.array([[1.0, 0.0, 0.0, 0.0]])


@lru_cache(maxsize=1024)
def _projected(op: str, angle: float) -> tuple[Map, ...]:
    """The map of each outcome; the first observable is the outcome's highest bit."""
    return tuple(_map_of(each) for each in _projectors(op, angle))


def _projectors(op: str, angle: float) -> Iterator[Matrix]:
    _, x, y, z = _PAULIS
    tilted = math.cos(angle) * z + math.sin(angle) * x
    observables = {
        "MEASURE_X": (x,),
        "MEASURE_Y": (y,),
        "MEASURE_Z": (z,),
        "MEASURE_ANGLE": (tilted,),
        "MEASURE_BELL": (np.kron(x, x), np.kron(z, z)),
    }[op]
    whole: Matrix = np.eye(len(observables[0]), dtype=np.complex128)
    for signs in itertools.product((1, -1), repeat=len(observables)):
        projector = whole
        for sign, observable in zip(signs, observables, strict=True):
            projector = projector @ (whole + sign * observable) / 2
        yield projector
