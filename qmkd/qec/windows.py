"""Matching in steps: windows that slide over the rounds, and one patch after another across CNOTs.

A step sees some detectors and decides the errors that touch those it commits. What a decided error
flips beyond these is carried to later steps as flipped detectors: matching is asked for these flips
as if they were observables, so a step is one batch, however many shots. What a step sees without
committing is only its view of the future, cut off at the far end.

Sliding windows: Dennis et al. (arXiv:quant-ph/0110143, section VI.B), Skoric et al.
(arXiv:2209.08552). Transversal CNOTs, which copy errors from one patch to the next: decode the
patch that errors come from first (Sahay et al., arXiv:2408.01393; Wan et al., arXiv:2403.01414).
Nothing here knows a code; who asks says which detectors belong together. Read `decoders.py` for the
packing of rows.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Final, NamedTuple

import numpy as np
import pymatching
import stim
from numpy.typing import NDArray

from qmkd.qec.decoders import (
    Kind,
    Packed,
    Piece,
    Undecodable,
    error,
    mechanisms,
    packed_bytes,
)

Watch = Callable[[int, Packed], None]
"""Told each step's index and the packed syndromes it is about to decode."""

ROUND_AXIS: Final = 2  # of a detector's coordinates (x, y, round)


class Step(NamedTuple):
    """Detectors. commit: part of `see`; no detector is committed twice, nor seen afterwards."""

    see: frozenset[int]
    commit: frozenset[int]


class Part(NamedTuple):
    """Detectors that are matched together: one patch's, of one kind.

    beside: detectors that are also seen, though not decided: the patch's other kind, so that
    correlated matching can learn from it.
    """

    detectors: frozenset[int]
    beside: frozenset[int] = frozenset()


class Crossing(NamedTuple):
    """At this round errors of part `first` are copied to part `second` (indices of parts)."""

    first: int
    second: int
    round: float


def rounds_of(model: stim.DetectorErrorModel) -> NDArray[np.float64]:
    """The round of each detector, from its coordinates (x, y, round). Raises Undecodable."""
    coordinates = model.get_detector_coordinates()
    rounds = np.empty(model.num_detectors)
    for detector in range(model.num_detectors):
        place = coordinates.get(detector, [])
        if len(place) <= ROUND_AXIS:
            raise Undecodable(f"detector {detector} has no round among its coordinates {place}")
        rounds[detector] = place[ROUND_AXIS]
    return rounds


def sliding(rounds: NDArray[np.float64], window: int, commit: int) -> list[Step]:
    """Windows of `window` rounds, each committing its first `commit`, the last one all it sees."""
    everything = Part(frozenset(range(len(rounds))))
    return passes([everything], [], rounds, window, commit)


def passes(
    parts: Sequence[Part],
    crossings: Iterable[Crossing],
    rounds: NDArray[np.float64],
    window: int | None = None,
    commit: int | None = None,
) -> list[Step]:
    """Steps part by part, in windows where asked, in an order in which errors are copied onwards.

    Raises Undecodable where no order exists: parts that copy errors to each other in both
    directions within one window (or at all, without windows).
    """
    assert (window is None) == (commit is None)
    assert window is None or commit is None or 0 < commit < window
    cuts = [_windows(part, rounds, window, commit) for part in parts]
    before: dict[tuple[int, int], set[tuple[int, int]]] = {
        (part, at): {(part, at - 1)} if at else set()
        for part, steps in enumerate(cuts)
        for at in range(len(steps))
    }
    for first, second, when in crossings:
        # An error beside the crossing flips detectors of the rounds just before and after it.
        decided = sum(low <= when + 1 for low, _ in cuts[first]) - 1
        seeing = sum(high <= when - 1 for _, high in cuts[second])
        if seeing < len(cuts[second]):
            before[second, seeing].add((first, max(decided, 0)))
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError as cycle:
        involved = sorted({part for part, _ in cycle.args[1]})
        raise Undecodable(
            f"parts {involved} copy errors to each other within one window: no order to decode in"
        ) from cycle
    return [_step(parts[part], rounds, cuts[part], at) for part, at in order]


def _windows(
    part: Part, rounds: NDArray[np.float64], window: int | None, commit: int | None
) -> list[tuple[float, float]]:
    """First round and end (exclusive) of what each step sees."""
    mine = rounds[sorted(part.detectors)]
    start, end = float(mine.min()), float(mine.max()) + 1
    if window is None or commit is None or end - start <= window:
        return [(start, end)]
    tally = -(-int(np.ceil(end - start) - window) // commit) + 1
    cuts = [(start + at * commit, start + at * commit + window) for at in range(tally)]
    cuts[-1] = (cuts[-1][0], max(end, cuts[-1][1]))
    return cuts


def _step(
    part: Part, rounds: NDArray[np.float64], cuts: list[tuple[float, float]], at: int
) -> Step:
    low, high = cuts[at]
    until = cuts[at + 1][0] if at + 1 < len(cuts) else high
    commit = frozenset(each for each in part.detectors if low <= rounds[each] < until)
    see = frozenset(each for each in part.detectors | part.beside if low <= rounds[each] < high)
    return Step(see, commit)


class Stepwise:
    """Matching step by step. Satisfies `decoders.Decoder`.

    model: its mechanisms are taken apart as it decomposes them or, where `kinds` are given, whole
    mechanisms by kind: each piece then flips detectors and observables of one kind only.

    Raises Undecodable where in some step a piece flips more than two detectors, where a piece flips
    observables and no detector, or where no step commits a detector that errors flip, unless it is
    of a kind without observables.
    """

    def __init__(
        self,
        model: stim.DetectorErrorModel,
        steps: Sequence[Step],
        correlated: bool = True,
        kinds: Sequence[Kind] | None = None,
    ) -> None:
        style = "pymatching correlated" if correlated else "pymatching"
        self.name = f"{style} in {len(steps)} steps"
        self.detectors: int = model.num_detectors
        self.observables: int = model.num_observables
        self.steps = tuple(steps)
        self._layout = _Layout(self.detectors, steps)
        errors = [(each.chance, _taken_apart(each.pieces, kinds)) for each in mechanisms(model)]
        _check_decided(errors, steps, kinds or ())
        self._works = list(_works(errors, steps, self._layout, self.observables, correlated))

    def decode(self, detections: Packed, watch: Watch | None = None) -> Packed:
        """Predicted flips of the observables, as `decoders.Decoder.decode`."""
        rows = self._layout.arranged(detections)
        predicted = np.zeros((len(rows), packed_bytes(self.observables)), dtype=np.uint8)
        for at, work in enumerate(self._works):
            seen = work.seen(rows)
            if watch is not None:
                watch(at, seen)
            flips = work.decode(seen)
            predicted ^= flips[:, : predicted.shape[1]]
            if len(work.carried):
                rows[:, work.carried] ^= flips[:, predicted.shape[1] :]
        return predicted


def _taken_apart(pieces: tuple[Piece, ...], kinds: Sequence[Kind] | None) -> tuple[Piece, ...]:
    if kinds is None:
        return pieces
    flat = [set[int](), set[int]()]
    for piece in pieces:
        flat[0] ^= set(piece.detectors)
        flat[1] ^= set(piece.observables)
    found = (
        Piece(tuple(sorted(flat[0] & kind.detectors)), tuple(sorted(flat[1] & kind.observables)))
        for kind in kinds
    )
    return tuple(piece for piece in found if piece != ((), ()))


class _Layout:
    """Where each detector's bit is kept: in the order in which steps commit them.

    Where that is the model's own order, rows are only copied. Otherwise what a step commits starts
    on a byte, so that a step's syndrome is a few slices of the rows.
    """

    def __init__(self, detectors: int, steps: Sequence[Step]) -> None:
        order = [detector for step in steps for detector in sorted(step.commit)]
        assert len(order) == len(set(order)), "a detector is committed twice"
        self.same = order == sorted(order)
        self.place: dict[int, int] = {detector: detector for detector in range(detectors)}
        self.bytes = packed_bytes(detectors)
        self._detectors = detectors
        if self.same:
            return
        missing = sorted(set(range(detectors)) - set(order))
        at = 0
        for group in [*(sorted(step.commit) for step in steps), missing]:
            at = 8 * packed_bytes(at)
            for detector in group:
                self.place[detector] = at
                at += 1
        self.bytes = packed_bytes(at)
        self._source = np.full(8 * self.bytes, detectors)
        for detector, place in self.place.items():
            self._source[place] = detector

    def arranged(self, detections: Packed) -> Packed:
        """A copy of the packed rows in this layout, unused bits zero."""
        assert detections.dtype == np.uint8
        assert detections.shape[1] == packed_bytes(self._detectors)
        if self.same:
            return detections.copy()
        bits = np.zeros((len(detections), self._detectors + 1), dtype=np.uint8)
        bits[:, :-1] = np.unpackbits(detections, axis=1, count=self._detectors, bitorder="little")
        return np.packbits(bits[:, self._source], axis=1, bitorder="little")


class _Work:
    """One step, ready to run. carried: bytes of the rows that its carried flips are XORed into."""

    def __init__(
        self,
        slices: list[tuple[int, int]],
        mask: Packed,
        matching: pymatching.Matching,
        correlated: bool,
        carried: NDArray[np.intp],
    ) -> None:
        self._slices = slices
        self._mask = None if bool((mask == 255).all()) else mask
        self._matching = matching
        self._correlated = correlated
        self.carried = carried

    def seen(self, rows: Packed) -> Packed:
        parts = [rows[:, start:stop] for start, stop in self._slices]
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return whole if self._mask is None else whole & self._mask

    def decode(self, seen: Packed) -> Packed:
        flips: Packed = self._matching.decode_batch(
            seen,
            bit_packed_shots=True,
            bit_packed_predictions=True,
            enable_correlations=self._correlated,
        )
        return flips


_Errors = Sequence[tuple[float, tuple[Piece, ...]]]


def _works(
    errors: _Errors,
    steps: Sequence[Step],
    layout: _Layout,
    observables: int,
    correlated: bool,
) -> Iterator[_Work]:
    decided: set[int] = set()
    made: dict[str, pymatching.Matching] = {}  # windows in the bulk are all alike
    touching: dict[int, list[int]] = defaultdict(list)
    for index, (_, pieces) in enumerate(errors):
        for detector in {each for piece in pieces for each in piece.detectors}:
            touching[detector].append(index)
    for step in steps:
        step = step._replace(see=step.see - decided)
        slices, local, mask = _view(step, layout)
        near = sorted({index for detector in step.see for index in touching[detector]})
        edges = _edges([errors[index] for index in near], step, decided)
        reached = {
            each
            for _, pieces in edges
            for piece, committed in pieces
            if committed
            for each in piece.detectors
            if each not in step.commit
        }
        carried = sorted({layout.place[each] // 8 for each in reached})
        first_id = 8 * packed_bytes(observables)
        flip_id = {
            each: first_id + 8 * carried.index(layout.place[each] // 8) + layout.place[each] % 8
            for each in reached
        }
        text = _local_model(edges, step, local, flip_id)
        # The last of the detectors and of the observables fix the width of the packed rows.
        text += f"\ndetector D{8 * len(mask) - 1}"
        text += f"\nlogical_observable L{first_id + 8 * len(carried) - 1}"
        if text not in made:
            made[text] = pymatching.Matching.from_detector_error_model(
                stim.DetectorErrorModel(text), enable_correlations=correlated
            )
        yield _Work(slices, mask, made[text], correlated, np.array(carried, dtype=np.intp))
        decided |= step.commit


def _check_decided(errors: _Errors, steps: Sequence[Step], kinds: Sequence[Kind]) -> None:
    needless = [kind.detectors for kind in kinds if not kind.observables]
    committed = frozenset().union(*needless, *(step.commit for step in steps))
    flipped = {each for _, pieces in errors for piece in pieces for each in piece.detectors}
    if flipped - committed:
        raise Undecodable(f"no step decides detectors {sorted(flipped - committed)[:5]}")
    unseen = sum(
        not piece.detectors for _, pieces in errors for piece in pieces if piece.observables
    )
    if unseen:
        raise Undecodable(f"{unseen} mechanisms flip an observable and no detector of its kind")
    for step in steps:
        assert step.commit <= step.see


def _view(step: Step, layout: _Layout) -> tuple[list[tuple[int, int]], dict[int, int], Packed]:
    """Byte slices of the rows that hold what the step sees, its bit numbers there, and a mask."""
    places = sorted((layout.place[each], each) for each in step.see)
    slices: list[tuple[int, int]] = []
    for place, _ in places:
        byte = place // 8
        if slices and byte <= slices[-1][1]:
            slices[-1] = (slices[-1][0], max(byte + 1, slices[-1][1]))
        else:
            slices.append((byte, byte + 1))
    starts = list(itertools.accumulate((stop - start for start, stop in slices), initial=0))
    mask = np.zeros(starts[-1], dtype=np.uint8)
    local: dict[int, int] = {}
    for place, each in places:
        at = next(at for at, (start, stop) in enumerate(slices) if start <= place // 8 < stop)
        byte = starts[at] + place // 8 - slices[at][0]
        local[each] = 8 * byte + place % 8
        mask[byte] |= np.uint8(1 << place % 8)
    return slices, local, mask


_Edges = list[tuple[float, list[tuple[Piece, bool]]]]
"""Mechanisms of a step: chance, and pieces not yet decided with whether this step decides them."""


def _edges(errors: _Errors, step: Step, decided: set[int]) -> _Edges:
    found: _Edges = []
    wide = 0
    for chance, pieces in errors:
        kept = []
        for piece in pieces:
            here = [each for each in piece.detectors if each in step.see]
            if not here or not decided.isdisjoint(piece.detectors):
                continue
            wide += len(here) > 2
            kept.append((piece, not step.commit.isdisjoint(piece.detectors)))
        if kept:
            found.append((chance, kept))
    if wide:
        raise Undecodable(f"in one step {wide} mechanisms flip more than two detectors of a kind")
    return found


def _local_model(
    edges: _Edges, step: Step, local: Mapping[int, int], flip_id: Mapping[int, int]
) -> str:
    """The step's own model: its bit numbers as detectors, what to report as observables."""
    named = []
    likeliest: dict[tuple[int, ...], dict[tuple[int, ...], float]] = defaultdict(dict)
    for chance, pieces in edges:
        renamed = []
        for piece, committed in pieces:
            ends = tuple(sorted(local[each] for each in piece.detectors if each in step.see))
            report: tuple[int, ...] = ()
            if committed:
                far = (flip_id[each] for each in piece.detectors if each not in step.commit)
                report = (*piece.observables, *sorted(far))
            known = likeliest[ends]
            known[report] = known.get(report, 0.0) + chance
            renamed.append(ends)
        named.append((chance, renamed))
    # Errors with the same ends here cannot be told apart: all report what the likelier ones flip.
    best = {
        ends: max(chances, key=lambda report: (chances[report], report))
        for ends, chances in likeliest.items()
    }
    return "\n".join(
        error(chance, [Piece(ends, best[ends]) for ends in renamed]) for chance, renamed in named
    )
