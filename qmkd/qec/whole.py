"""A whole logical program as one circuit: patches that live, meet, are measured, and are decoded.

`logic.py` has the form of programs. Between two times every patch that lives does a round of its
cycle; at a time data is prepared, measured or goes through a layer of transversal gates, while
the ancillas of all patches are reset. A patch that has gone through H is turned back, so that its
checks of one kind are again where those of others are, if the code allows it: a Bacon-Shor patch is
mirrored, a surface patch of odd distance goes round by a quarter.

A logical outcome that follows from earlier ones, up to errors, makes an observable. Each is decoded
by itself, by one matching over its *region*: the checks that its operator has gone through, back to
where it was prepared or measured before. Where a gate merges two operators into one, checks of both
are compared together. So whatever the pattern of gates, an error of one type of Pauli is an edge;
and nothing is looked at that comes later than the measurement. Decoding products of logical
operators as they propagate: Cain et al. (arXiv:2505.13587), Serra-Peralta et al.
(arXiv:2505.13599).

Nothing here draws. `qmkd/engine/physical.py` makes actions of programs, and draws.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import stim

from qmkd.qec.circuits.writer import NOTHING, Block, Operator, Records, Writer
from qmkd.qec.codes.code import MEASURE, OTHER, RESET, Basis, Code, CodeError, Coord
from qmkd.qec.logic import Action, Letter, determined, gains

BASES: Final[tuple[Basis, Basis]] = ("X", "Z")
GATES: Final = ("CX", "CZ", "S")

Group = tuple[int, ...]
"""Detectors of the whole that are compared together, as their parity."""


class Gain(NamedTuple):
    """A gate multiplies operator `one` by `two`, and by checks of `two` whose parity is `records`.

    checks: which check of `two` each check of `one` is multiplied by, both by their places.
    """

    one: Letter
    two: Letter
    checks: dict[Coord, Coord]
    records: Records


class Between(NamedTuple):
    """What happens `at` a time. measured: place of the action -> its letter and results. turned:
    letter after an H -> results whose parity tells it from the letter before."""

    at: int
    prepared: dict[int, Basis]
    measured: dict[int, tuple[Letter, Records]]
    gains: list[Gain]
    turned: dict[Letter, Records]


class Round(NamedTuple):
    patches: tuple[int, ...]


class Region(NamedTuple):
    """What decodes one observable. beside: detectors from which correlated matching can learn."""

    own: list[Group]
    beside: list[Group]


class OutOfReach(CodeError):
    """What codes cannot do in one layer. place: of the action."""

    def __init__(self, why: str, place: int) -> None:
        super().__init__(why)
        self.place = place


# --- writing --------------------------------------------------------------------------------------


class Whole(Writer):
    """The circuit of a program, without noise and annotations, and what it determines.

    codes: of each patch. actions: in the order in which outcomes may follow from earlier ones.
    detectors: results each compares, with coordinates (x, y, round, part). observables: results of
    each; `places` has the place of its measurement in `actions`, `regions` what decodes it.
    moments: what happened; `found` has the detectors of each and of each letter, by their place.

    Raises OutOfReach where codes cannot do what is asked of them.
    """

    def __init__(self, codes: Sequence[Code], actions: Sequence[Action]) -> None:
        super().__init__(_apart(codes))
        self.codes = tuple(codes)
        self.detectors: list[tuple[Records, tuple[float, ...]]] = []
        self.first = list(self.blocks)
        self._live: set[int] = set()
        self.moments: list[Between | Round] = []
        self.found: dict[tuple[int, Letter], dict[Coord, int]] = defaultdict(dict)
        self._same: dict[int, dict[int, Records]] = {}
        self._now = 0
        self._write(actions)
        known = determined(actions)
        self.places = tuple(known)
        traced = [self._trace({place, *known[place]}) for place in known]
        self.observables: tuple[Records, ...] = tuple(records for records, _ in traced)
        self.regions: tuple[Region, ...] = tuple(region for _, region in traced)

    def annotated(self, circuit: stim.Circuit) -> stim.Circuit:
        """The circuit, which may have got noise, with all detectors and observables at its end."""
        out = circuit.copy()
        for results, at in self.detectors:
            out.append("DETECTOR", self._targets(results), at)
        for number, results in enumerate(self.observables):
            out.append("OBSERVABLE_INCLUDE", self._targets(results), number)
        return out

    def seen(self, circuit: stim.Circuit, number: int, groups: Iterable[Group]) -> stim.Circuit:
        """The circuit with one observable, which is then number 0, and groups as detectors."""
        out = circuit.copy()
        for group in groups:
            results, at = NOTHING, self.detectors[group[0]][1]
            for each in group:
                results ^= self.detectors[each][0]
            out.append("DETECTOR", self._targets(results), at)
        out.append("OBSERVABLE_INCLUDE", self._targets(self.observables[number]), 0)
        return out

    def detector(self, results: Records, at: Coord, part: int) -> None:
        """Kept for `annotated`, rather than written where it is found."""
        letter: Letter = (part // 2, BASES[part % 2])
        self.found[len(self.moments), letter][at] = len(self.detectors)
        self.detectors.append((results, (*at, self._now, part)))

    def next_round(self) -> None:
        """Coordinates are absolute here."""
        self._now += 1

    def _compare(self, block: Block) -> None:
        """As always, but gauges that are measured right after they were are compared one by one."""
        same = self._same.pop(block.number, {})
        for number, before in same.items():
            gauge = block.code.gauges[number]
            now = frozenset((block.results[number],))
            self.detector(before ^ now, gauge.at, block.part(gauge.basis))
        if same:
            for operator, _, _ in block.stabilizers:
                if operator[0] == block.first:
                    del self.values[operator]
        super()._compare(block)

    def _write(self, actions: Sequence[Action]) -> None:
        by_time: dict[int, dict[int, Action]] = defaultdict(dict)
        for place, action in enumerate(actions):
            by_time[action.at][place] = action
        times = sorted(by_time)
        for now, then in zip(times, [*times[1:], *times[-1:]], strict=True):
            self._now = now
            self._between(by_time[now])
            for left in reversed(range(then - now)):
                if self._live:
                    live = tuple(sorted(self._live))
                    self._round([self.blocks[patch] for patch in live], last=left == 0)
                    self.moments.append(Round(live))

    def _between(self, actions: Mapping[int, Action]) -> None:
        """One layer, or two where a patch is measured and prepared at once."""
        taken = {each.patches[0]: each.basis for each in actions.values() if each.what == "measure"}
        fresh = {each.patches[0]: each.basis for each in actions.values() if each.what == "prepare"}
        given = {each.patches[0] for each in actions.values() if each.what == "discard"}
        assert taken.keys() <= self._live, "what is measured was prepared"
        reading, found = self._reading(taken)
        moment = Between(self._now, fresh, {}, [], {})
        for place, action in actions.items():
            if action.what == "measure":
                (patch,) = action.patches
                logical = self.blocks[patch].logical(action.basis, 0)
                results = frozenset(found[qubit] for qubit in logical)
                moment.measured[place] = ((patch, action.basis), results)
        if taken.keys() & fresh.keys():
            self.layer(reading)
            reading = []
        self._live = (self._live - taken.keys() - given) | fresh.keys()
        written: list[tuple[str, Sequence[int]]] = []
        preimages: dict[Operator, tuple[Operator, ...]] = {}
        for place, each in actions.items():
            if each.what == "H":
                written += self._turn(each.patches[0], moment, preimages)
            elif each.what in GATES:
                try:
                    written += self._gate(each, moment, preimages)
                except CodeError as error:
                    raise OutOfReach(str(error), place) from None
        written += self._prepared(fresh)
        live = [self.blocks[patch] for patch in sorted(self._live)]
        openings = [
            (each.gate, [block.at[qubit] for qubit in each.qubits])
            for block in live
            for each in block.code.opening
        ]
        self._carry(live, preimages)
        self.layer([*reading, *written, *openings])
        self.moments.append(moment)

    def _reading(
        self, taken: Mapping[int, Basis]
    ) -> tuple[list[tuple[str, Sequence[int]]], dict[int, int]]:
        """Operations that measure the data of patches, and the results to come: qubit -> result."""
        operations: list[tuple[str, Sequence[int]]] = []
        found: dict[int, int] = {}
        for basis in BASES:
            blocks = [self.blocks[patch] for patch in taken if taken[patch] == basis]
            data = [qubit for block in blocks for qubit in block.data]
            operations.append((MEASURE[basis], data))
            found |= {qubit: self.measured + len(found) + at for at, qubit in enumerate(data)}
            self.compare_data(blocks, basis, found)
        return operations, found

    def _prepared(self, fresh: Mapping[int, Basis]) -> list[tuple[str, Sequence[int]]]:
        """Patches as they were at first, and what they are known by."""
        for patch, basis in fresh.items():
            block = self.blocks[patch] = self.first[patch]
            block.fresh = basis
            for operator, _, _ in block.stabilizers:
                self.values.pop(operator, None)
                if operator[0] == basis:
                    self.values[operator] = NOTHING
        return [(RESET[basis], self.blocks[patch].data) for patch, basis in fresh.items()]

    def _carry(
        self, live: Iterable[Block], preimages: Mapping[Operator, tuple[Operator, ...]]
    ) -> None:
        """Know of each check what the operators that become it say, if all of them are known."""
        values: dict[Operator, Records] = {}
        for block in live:
            for operator, _, _ in block.stabilizers:
                parts = [self.values.get(each) for each in preimages.get(operator, (operator,))]
                known = [each for each in parts if each is not None]
                if len(known) == len(parts):
                    values[operator] = _sum(known)
        self.values = values

    # --- gates ------------------------------------------------------------------------------------

    def _gate(
        self, action: Action, moment: Between, preimages: dict[Operator, tuple[Operator, ...]]
    ) -> list[tuple[str, Sequence[int]]]:
        """A layer of CX, CZ, or S and CZ; fills in `moment` and the preimages of checks."""
        one, two = (self.blocks[action.patches[at]] for at in (0, -1))
        there = _pairing(action, one.code, two.code)
        across = {one.at[i]: two.at[j] for i, j in enumerate(there)}
        back = {second: first for first, second in across.items()}
        for (first, second), pairs in zip(
            gains(action.what, action.patches), (across, back), strict=False
        ):
            moment.gains.append(self._gain(first, second, pairs, preimages))
        for block in (one, two):
            block.fresh = None
        if action.what == "S":
            same = [qubit for qubit, other in across.items() if qubit == other]
            others = [each for pair in across.items() if pair[0] < pair[1] for each in pair]
            return [("S", same), ("CZ", others)]
        return [(action.what, [qubit for pair in across.items() for qubit in pair])]

    def _gain(
        self, one: Letter, two: Letter, pairs: Mapping[int, int],
        preimages: dict[Operator, tuple[Operator, ...]],
    ) -> Gain:  # fmt: skip
        first, second = self.blocks[one[0]], self.blocks[two[0]]
        place = {operator: at for operator, _, at in second.stabilizers}
        checks: dict[Coord, Coord] = {}
        for operator, _, at in first.stabilizers:
            if operator[0] == one[1]:
                image = (two[1], frozenset(pairs[qubit] for qubit in operator[1]))
                checks[at] = place[image]
                preimages[operator] = (operator, image)
        moved = frozenset(pairs[qubit] for qubit in first.logical(one[1], 0))
        return Gain(one, two, checks, self._differing(two[1], moved, second, preimages))

    def _turn(
        self, patch: int, moment: Between, preimages: dict[Operator, tuple[Operator, ...]]
    ) -> list[tuple[str, Sequence[int]]]:
        """H on all data. The patch is turned back where its code allows, else it is the dual."""
        old = self.blocks[patch]
        roles = turning(old.code)
        if roles is None:
            new = Block(old.code.dual(), patch, old.at)
        else:
            at = dict(zip(roles, old.at, strict=True))
            new = Block(old.code, patch, tuple(at[role] for role in range(len(at))))
        self.blocks[patch] = new
        for operator, _, _ in new.stabilizers:
            preimages[operator] = ((OTHER[operator[0]], operator[1]),)
        for basis in BASES:
            image = old.logical(OTHER[basis], 0)
            moment.turned[patch, basis] = self._differing(basis, image, new, preimages)
        if not new.commuting and OTHER[old.last] == new.first:
            self._same[patch] = _same_gauges(old, new)
        return [("H", new.data)]

    def _differing(
        self, basis: Basis, support: frozenset[int], block: Block,
        preimages: Mapping[Operator, tuple[Operator, ...]],
    ) -> Records:  # fmt: skip
        """Results whose parity tells an operator from the logical operator of its kind."""
        checks = [operator for operator, _, _ in block.stabilizers if operator[0] == basis]
        differ = support ^ block.logical(basis, 0)
        parts = [checks[at] for at in _product(differ, [check[1] for check in checks])]
        before = [each for part in parts for each in preimages.get(part, (part,))]
        return _sum(self.values[each] for each in before)

    # --- looking back -----------------------------------------------------------------------------

    def _trace(self, wanted: set[int]) -> tuple[Records, Region]:
        """Follow the product of measured operators back to where it is known: the results that say
        so, and all detectors on the way. wanted: places of the measurements in the actions."""
        here: set[Letter] = set()
        records = NOTHING
        region = Region([], [])
        for number in reversed(range(len(self.moments))):
            moment = self.moments[number]
            if isinstance(moment, Round):
                before = self.moments[number - 1]
                self._look(
                    region, number, here, before.gains if isinstance(before, Between) else []
                )
                continue
            for patch, basis in moment.prepared.items():
                assert (patch, OTHER[basis]) not in here, "it would be random"
                here.discard((patch, basis))
            records ^= _pulled(here, moment)
            for place, (letter, results) in moment.measured.items():
                if place in wanted:
                    here ^= {letter}
                    records ^= results
                    region.own.extend((each,) for each in self.found[number, letter].values())
        assert not here, "every operator was prepared or measured"
        return records, region

    def _look(self, region: Region, number: int, here: set[Letter], gained: Sequence[Gain]) -> None:
        """Detectors of a round. Just after a gate, operators that came from one are compared
        together, and nothing is beside that an error before it flips together with others."""
        merged = {gain.two: gain for gain in gained if {gain.one, gain.two} <= here}
        apart = {gain.one for gain in merged.values()}
        for letter in sorted(here - apart):
            found = self.found[number, letter]
            if letter not in merged:
                region.own.extend((each,) for each in found.values())
                continue
            gain = merged[letter]
            other = self.found[number, gain.one]
            region.own.extend((each, found[gain.checks[at]]) for at, each in other.items())
        crossed = {gain.one for gain in gained}
        for patch, basis in sorted(here):
            letter = (patch, OTHER[basis])
            if letter not in here and letter not in crossed:
                region.beside.extend((each,) for each in self.found[number, letter].values())


def _same_gauges(old: Block, new: Block) -> dict[int, Records]:
    """Gauges of a subsystem code that it measures first, and where their last results stand, from
    before an H: nothing that does not commute with them was measured since."""
    result = {
        frozenset(old.at[qubit] for qubit in gauge.support): old.results[number]
        for number, gauge in enumerate(old.code.gauges)
        if gauge.basis == old.last
    }
    return {
        number: frozenset((result[frozenset(new.at[qubit] for qubit in gauge.support)],))
        for number, gauge in enumerate(new.code.gauges)
        if gauge.basis == new.first
    }


def _pulled(here: set[Letter], moment: Between) -> Records:
    """Change operators after a gate into those before it; results that tell these apart."""
    records = NOTHING
    after = frozenset(here)
    for gain in moment.gains:
        if gain.one in after:
            here ^= {gain.two}
            records ^= gain.records
    for patch, basis in moment.turned:
        if (patch, basis) in after:
            records ^= moment.turned[patch, basis]
            if (patch, OTHER[basis]) not in after:
                here ^= {(patch, "X"), (patch, "Z")}
    return records


# --- codes ----------------------------------------------------------------------------------------


def _apart(codes: Sequence[Code]) -> list[Code]:
    """The codes side by side."""
    moved: list[Code] = []
    left = 0.0
    for code in codes:
        columns = [x for x, _ in code.qubits]
        moved.append(code.moved(left - float(int(min(columns))), 0.0))
        left += float(int(max(columns) - min(columns))) + 2
    return moved


def _pairing(action: Action, one: Code, two: Code) -> tuple[int, ...]:
    """Which data qubit of `two` meets each of `one`."""
    if _shape(one) != _shape(two):
        raise CodeError(f"{action.what} needs two patches of one code, size and orientation")
    if action.what == "CX":
        return tuple(range(one.data))
    roles = turning(one)
    if roles is None:
        raise CodeError(f"{one.variant} of distance {one.distance} has no transversal CZ")
    roles = roles[: one.data]
    if action.what == "S" and any(roles[roles[i]] != i for i in range(one.data)):
        raise CodeError(f"{one.variant} has no transversal S")
    return roles


def _shape(code: Code) -> tuple[tuple[Basis, tuple[int, ...]], ...]:
    return tuple((gauge.basis, gauge.support) for gauge in code.gauges)


_WAYS: Final[tuple[Callable[[float, float, float], Coord], ...]] = (
    lambda x, y, side: (y, x),
    lambda x, y, side: (y, side - x),
)
"""To lay a square on itself: mirrored in its diagonal, and turned by a quarter."""


@lru_cache(maxsize=64)
def _turning(
    qubits: tuple[Coord, ...], data: int, gauges: tuple[tuple[Basis, tuple[int, ...]], ...]
) -> tuple[int, ...] | None:
    left, top = min(x for x, _ in qubits[:data]), min(y for _, y in qubits[:data])
    side = max(x for x, _ in qubits[:data]) - left
    number = {(x - left, y - top): at for at, (x, y) in enumerate(qubits)}
    known = set(gauges)
    for way in _WAYS:
        roles = [number.get(way(x, y, side), -1) for x, y in number]
        if -1 not in roles and known == {
            (OTHER[basis], tuple(sorted(roles[qubit] for qubit in support)))
            for basis, support in gauges
        }:
            return tuple(roles)
    return None


def turning(code: Code) -> tuple[int, ...] | None:
    """How to lay the dual of a square code on the code: the new number of each qubit.

    None where it does not fit, as for surface codes of even distance.
    """
    return _turning(code.qubits, code.data, _shape(code))


def _product(target: frozenset[int], supports: Sequence[frozenset[int]]) -> list[int]:
    """Which supports make up the target, as a sum over GF(2)."""
    reduced: dict[int, tuple[frozenset[int], frozenset[int]]] = {}  # by largest qubit
    for at, support in enumerate(supports):
        left, used = support, frozenset((at,))
        while left and max(left) in reduced:
            other = reduced[max(left)]
            left, used = left ^ other[0], used ^ other[1]
        if left:
            reduced[max(left)] = left, used
    left, used = target, frozenset()
    while left:
        other = reduced[max(left)]
        left, used = left ^ other[0], used ^ other[1]
    return sorted(used)


def _sum(values: Iterable[Records]) -> Records:
    total = NOTHING
    for value in values:
        total ^= value
    return total
