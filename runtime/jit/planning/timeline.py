"""Where in a program errors strike, and how strongly, for several choices of codes at once.

Every logical qubit has a clock that counts rounds of syndrome extraction, as docs/noise.md says of
`calibrated` noise: whoever works or waits for r rounds suffers r rounds of its code's memory, the
first and last round of a life err as ends do, some operations err beyond their rounds, T states and
Bell pairs bring errors of their own. All of it are Pauli channels, and a Pauli channel multiplies
each component of a state in the basis of Paulis by a number. So channels that follow each other are
products of such numbers, and those of many codes are rows of one array.

What follows for a program is in `exact.py` and `cones.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from qvm.channels import Brokered
from qvm.profiles import Profile
from qvm.program import Lowered, Step
from runtime.jit.planning.rates import CodeRates

Factors = NDArray[np.float64]
"""shape (codes, 4^k): of the components I, X, Y, Z of one qubit, or of all products of k."""
Letters: Final = "IXYZ"

_IDLE: Final = frozenset({"BAR_REGION", "OPEN_CHAN", "CLOSE_CHAN", "SET_POLICY"})
_MAGIC: Final = frozenset({"APPLY_T", "APPLY_TDG", "INJECT_T_STATE"})
_PREPARES: Final = frozenset({"RESET", "INJECT_T_STATE"})
_SIGNS: Final = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
"""Of the component in a row, what each Pauli that strikes makes of its sign."""

_BEHIND: Final[Mapping[str, tuple[slice, tuple[str, str, str]]]] = {
    "TELEPORT_CNOT": (slice(0, 2), ("IX", "ZX", "ZI")),
    "APPLY_CNOT": (slice(0, 2), ("IX", "ZX", "ZI")),
    "APPLY_SWAP": (slice(1, 2), ("X", "Y", "Z")),
    "BAR_REGION": (slice(0, 1), ("X", "Y", "Z")),
}
"""By the last of the steps that a node comes to: which operands X, Y and Z of its Bell pair strike,
and as what (docs/noise.md, Channels)."""


_Key = TypeVar("_Key")
FACTORS_KEPT: Final = 4096


class Strike(msgspec.Struct, frozen=True):
    """Errors on these slots together, only in shots in which the step happens."""

    qubits: tuple[int, ...]
    factors: Factors


class Around(msgspec.Struct, frozen=True):
    """What surrounds a step. before, after: by slot, in every shot. struck: behind these."""

    before: dict[int, Factors]
    after: dict[int, Factors]
    struck: tuple[Strike, ...] = ()


class Timeline(msgspec.Struct, frozen=True):
    """around: of each step of the program, in order. codes: how many choices of codes there are."""

    steps: tuple[Step, ...]
    around: tuple[Around, ...]
    codes: int


def timeline(
    lowered: Lowered,
    choices: Sequence[Mapping[str, CodeRates | None]],
    pairs: Sequence[Brokered] = (),
) -> Timeline:
    """The errors of a program for each choice of codes.

    choices: of each the rates by the profile that the program names; None for qubits that never
    err. pairs: of each choice, what Bell pairs the program consumes; empty for none.
    """
    walks = [
        _Walk(lowered, choice, pairs[at] if pairs else None).run()
        for at, choice in enumerate(choices)
    ]
    around = tuple(_stacked(each) for each in zip(*walks, strict=True))
    return Timeline(lowered.steps, around, len(choices))


class _One(msgspec.Struct):
    """What surrounds a step for one choice: factors as `Around` has them, shape (4^k,)."""

    before: dict[int, Factors]
    after: dict[int, Factors]
    struck: dict[tuple[int, ...], Factors]


def _stacked(ones: Sequence[_One]) -> Around:
    return Around(
        _rows([one.before for one in ones], 1),
        _rows([one.after for one in ones], 1),
        tuple(
            Strike(qubits, factors)
            for size in (1, 2)
            for qubits, factors in _rows(
                [{k: v for k, v in one.struck.items() if len(k) == size} for one in ones], size
            ).items()
        ),
    )


def _rows(ones: Sequence[Mapping[_Key, Factors]], size: int) -> dict[_Key, Factors]:
    """One array for each key that any choice has; ones where a choice has nothing."""
    nothing = np.ones(4**size)
    keys = {key: None for one in ones for key in one}
    return {key: np.array([one.get(key, nothing) for one in ones]) for key in keys}


class _Walk:
    """One choice's way through the program. clocks: rounds, of the qubits that err."""

    def __init__(
        self, lowered: Lowered, choice: Mapping[str, CodeRates | None], pairs: Brokered | None
    ) -> None:
        self.lowered = lowered
        self.choice = choice
        self.profiles: dict[int, Profile] = {}
        self.rates: dict[int, CodeRates] = {}
        self.clocks: dict[int, int] = {}
        self.started = 0
        last = {step.node: at for at, step in enumerate(lowered.steps)}
        self.pairs = {
            last[node]: (terms.x, terms.y, terms.z)
            for terms in (pairs.terms if pairs else ())
            for node in terms.nodes
        }

    def run(self) -> list[_One]:
        found = [self._step(step) for step in self.lowered.steps]
        for at, chances in self.pairs.items():
            step = self.lowered.steps[at]
            operands, letters = _BEHIND[step.op]
            terms = list(zip(letters, chances, strict=True))
            _strike(found[at].struck, step.qubits[operands], terms)
        return found

    def _step(self, step: Step) -> _One:
        one = _One({}, {}, {})
        if step.op == "FENCE_EPOCH":
            self.started = max([self.started, *self.clocks.values()])
            for qubit in self.clocks:
                self._pass(one.before, qubit, self.started - self.clocks[qubit])
            return one
        if step.op == "ALLOC_LQ":
            self._allocate(step, one)
            return one
        coded = [qubit for qubit in step.qubits if qubit in self.rates]
        if step.op in _IDLE or not coded:
            return one
        latest = max(self.clocks[qubit] for qubit in coded)
        for qubit in coded:
            self._pass(one.before, qubit, latest - self.clocks[qubit])
        if step.op == "FREE_LQ":
            for qubit in step.qubits:
                for held in (self.profiles, self.rates, self.clocks):
                    held.pop(qubit, None)
        elif step.op.startswith("MEASURE_"):
            self._end(step, coded, one.before)
        elif step.op in _PREPARES:
            self._end(step, coded, one.after)
        else:
            rounds = max(self.rates[qubit].rounds[step.op] for qubit in coded)
            for qubit in coded:
                self._pass(one.after, qubit, rounds)
            self._extra(step, coded, one)
        if step.op in _MAGIC:
            for qubit in coded:
                _strike(one.struck, (qubit,), [("Z", self.rates[qubit].magic)])
        return one

    def _allocate(self, step: Step, one: _One) -> None:
        profile = self.lowered.alloc_profiles[step.node]
        rates = self.choice[profile.asked]
        for qubit in step.qubits:
            self.profiles[qubit] = profile
            if rates is not None:
                self.rates[qubit], self.clocks[qubit] = rates, self.started
        self._end(step, [qubit for qubit in step.qubits if qubit in self.rates], one.after)

    def _end(self, step: Step, coded: Sequence[int], into: dict[int, Factors]) -> None:
        """The first or the last round of a life."""
        for qubit in coded:
            rates = self.rates[qubit]
            self.clocks[qubit] += rates.rounds[step.op]
            _multiply(into, qubit, _flips(*rates.ends, 1))

    def _pass(self, into: dict[int, Factors], qubit: int, rounds: int) -> None:
        if rounds:
            self.clocks[qubit] += rounds
            _multiply(into, qubit, _flips(*self.rates[qubit].memory, rounds))

    def _extra(self, step: Step, coded: Sequence[int], one: _One) -> None:
        """What an operation errs beyond its rounds, where its operands are alike."""
        terms = self.rates[coded[0]].extra.get(step.op)
        if terms and len({self.profiles[qubit] for qubit in step.qubits}) == 1:
            _strike(one.struck, step.qubits, terms)


@lru_cache(maxsize=FACTORS_KEPT)
def _flips(x: float, z: float, rounds: int) -> Factors:
    """Independent X and Z errors in each of some rounds: X turns the signs of Y and Z."""
    keeps_x, keeps_z = (1 - 2 * z) ** rounds, (1 - 2 * x) ** rounds
    return np.array([1.0, keeps_x, keeps_x * keeps_z, keeps_z])


def _multiply(into: dict[int, Factors], qubit: int, factors: Factors) -> None:
    into[qubit] = into[qubit] * factors if qubit in into else factors


def _strike(
    into: dict[tuple[int, ...], Factors],
    qubits: tuple[int, ...],
    terms: Sequence[tuple[str, float]],
) -> None:
    """At most one of these Paulis strikes."""
    factors = _struck(len(qubits), tuple(terms))
    into[qubits] = into[qubits] * factors if qubits in into else factors


@lru_cache(maxsize=FACTORS_KEPT)
def _struck(size: int, terms: tuple[tuple[str, float], ...]) -> Factors:
    chances = np.zeros(4**size)
    for letters, chance in terms:
        chances[_index(letters)] += chance
    chances[0] = 1 - chances.sum()
    factors: Factors = _signs(size) @ chances
    return factors


def _index(letters: str) -> int:
    """Of a product of Paulis, the first letter counting most."""
    return sum(Letters.index(each) * 4**at for at, each in enumerate(reversed(letters)))


@lru_cache(maxsize=4)
def _signs(size: int) -> Factors:
    found: Factors = _SIGNS.astype(np.float64)
    for _ in range(size - 1):
        found = np.asarray(np.kron(found, _SIGNS), dtype=np.float64)
    return found


def chances(factors: Factors) -> Factors:
    """The chance of each Pauli, of factors whose last axis is 4^k: the transform back."""
    size = round(math.log(factors.shape[-1], 4))
    found: Factors = factors @ _signs(size) / factors.shape[-1]
    return found
