"""Which logical outcomes of a program follow from which, whatever the signs: patches as qubits.

A program is a list of actions on patches, each at a time in rounds. Paulis are not among them, nor
what conditions them: they change signs only. Nothing physical is here; `whole.py` makes circuits of
the same actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from qmkd.qec.codes.code import OTHER, Basis

What = Literal["prepare", "measure", "discard", "CX", "CZ", "H", "S"]
Letter = tuple[int, Basis]
"""X or Z of one patch."""

NOTHING: Final[frozenset[int]] = frozenset()


class Action(NamedTuple):
    """Something done to patches, `at` rounds from the start. Actions of one patch are in order.

    prepare, measure: in `basis`; measuring takes all data, so the patch is gone until it is
    prepared anew. A gate comes at least one round after the preparation and at least one before
    whatever is next. discard: the patch is given up; preparing it anew does that too.
    """

    at: int
    what: What
    patches: tuple[int, ...]
    basis: Basis = "Z"


def gains(what: What, patches: Sequence[int]) -> tuple[tuple[Letter, Letter], ...]:
    """Which letters a gate multiplies by which others, up to signs. H exchanges letters instead."""
    first, last = patches[0], patches[-1]
    if what == "CX":
        return ((first, "X"), (last, "X")), ((last, "Z"), (first, "Z"))
    if what == "CZ":
        return ((first, "X"), (last, "Z")), ((last, "X"), (first, "Z"))
    return (((first, "X"), (first, "Z")),) if what == "S" else ()


def determined(actions: Sequence[Action]) -> dict[int, frozenset[int]]:
    """Of the measurements, by place in `actions`, those that follow from earlier ones, and which.

    The earlier ones are all random, and the parity with them is always the same.
    """
    known = _Known()
    found: dict[int, frozenset[int]] = {}
    for place, action in enumerate(actions):
        match action.what:
            case "prepare":
                known.prepare(action.patches[0], action.basis)
            case "discard":
                known.forget(action.patches[0])
            case "measure":
                said = known.measure(action.patches[0], action.basis, place)
                if said is not None:
                    found[place] = said
            case _:
                known.apply(action.what, action.patches)
    return found


def _bit(letter: Letter) -> int:
    patch, basis = letter
    return 1 << 2 * patch + (basis == "Z")


class _Known:
    """Generators of all operators whose value is known: letters as bits, and the measurements
    whose parity is the value."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, frozenset[int]]] = []

    def prepare(self, patch: int, basis: Basis) -> None:
        self.forget(patch)
        self._rows.append((_bit((patch, basis)), NOTHING))

    def apply(self, what: What, patches: tuple[int, ...]) -> None:
        pairs = [(_bit(one), _bit(two)) for one, two in gains(what, patches)]
        x, z = _bit((patches[0], "X")), _bit((patches[0], "Z"))
        rows = []
        for letters, value in self._rows:
            changed = letters
            for one, two in pairs:
                changed ^= two if letters & one else 0
            if what == "H" and bool(letters & x) != bool(letters & z):
                changed ^= x | z
            rows.append((changed, value))
        self._rows = rows

    def measure(self, patch: int, basis: Basis, number: int) -> frozenset[int] | None:
        """The measurements that say the outcome, None where it is random; the patch is gone."""
        wanted, against = _bit((patch, basis)), _bit((patch, OTHER[basis]))
        value = None
        if any(letters & against for letters, _ in self._rows):
            self._eliminate(against)
        else:
            value = self._value(wanted)
        if value is None:
            self._rows.append((wanted, frozenset((number,))))
        self.forget(patch)
        return value

    def forget(self, patch: int) -> None:
        """Keep what does not touch the patch."""
        for basis in ("X", "Z"):
            self._eliminate(_bit((patch, basis)))

    def _eliminate(self, bit: int) -> None:
        """Keep the products in which this letter does not occur."""
        pivot = next((row for row in self._rows if row[0] & bit), None)
        if pivot is not None:
            self._rows = [
                (row[0] ^ pivot[0], row[1] ^ pivot[1]) if row[0] & bit else row
                for row in self._rows
                if row is not pivot
            ]

    def _value(self, wanted: int) -> frozenset[int] | None:
        left, value = wanted, NOTHING
        reduced: dict[int, tuple[int, frozenset[int]]] = {}  # by their leading bit
        for row in self._rows:
            letters, said = row
            while letters and letters.bit_length() in reduced:
                other = reduced[letters.bit_length()]
                letters, said = letters ^ other[0], said ^ other[1]
            if letters:
                reduced[letters.bit_length()] = letters, said
        while left:
            if left.bit_length() not in reduced:
                return None
            other = reduced[left.bit_length()]
            left, value = left ^ other[0], value ^ other[1]
        return value
