"""A slice of a job's shots on its way: what is done of it, in whole blocks, and how it is left.

A run may park at a fence or between batches, and another go on from there: together they give the
rows, leaves, counts and figures of one that never did. What is done is whole SHOT_BLOCKs, which are
told of at once; the rows of a torn block, and the run that stands at a fence, are the snapshot
(`snapshot.py`). `run.run_slice` is what does it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from qmkd.core.ports import SegmentReport, Setting
from qmkd.engine import snapshot
from qmkd.engine.batch import Batch
from qmkd.engine.layout import Packed, packed_row_bytes
from qmkd.engine.limits import SNAPSHOT_BYTES_MAX
from qmkd.engine.noise import DECODING, Figures, NoiseModel, Remembering, add_figures
from qmkd.engine.prepared import Prepared, Stop, never
from qmkd.engine.reports import Counting, Leaves, named
from qmkd.engine.shot_data import ShotData, nothing, rows_of
from qmkd.engine.snapshot import Before
from qmkd.engine.tableau import Shots
from syscalls.decoding import DecoderFigures
from syscalls.results import SHOT_BLOCK

Sink = Callable[[Packed], None]
DataSink = Callable[[ShotData], None]


class Parking:
    """When a run is to park: asked to, or by itself after a while.

    asked: whether it is asked to now. after_ns: since this was made; 0 for never. bytes_max: of a
    snapshot. back: whether it is asked to undo what it has run since the last fence.
    """

    def __init__(
        self,
        asked: Stop,
        after_ns: int = 0,
        bytes_max: int = SNAPSHOT_BYTES_MAX,
        back: Stop = never,
    ) -> None:
        self.asked = asked
        self.back = back
        self.bytes_max = bytes_max
        self._at_ns = time.monotonic_ns() + after_ns if after_ns else 0

    def __call__(self) -> bool:
        return self.asked() or 0 < self._at_ns <= time.monotonic_ns()


NEVER: Final = Parking(never)


class Parked(NamedTuple):
    """What is done of a slice, and what the rest of it goes on from.

    report: of whole SHOT_BLOCKs from the first on; None for none. snapshot: as `take_rest` makes
    it; empty where the rest begins anew. epoch: that the next shots are in, 0 where they have not
    begun.
    """

    report: SegmentReport | None
    snapshot: bytes = b""
    epoch: int = 0


class Slice:
    """Shots [first, end) of a program: what is done of them, up to `at`.

    Rows of a SHOT_BLOCK that is torn are held back until it is whole.
    """

    def __init__(
        self,
        program: Prepared,
        engine: str,
        model: NoiseModel,
        seed: int,
        first: int,
        shots: int,
        counts: bool,
        sink: Sink,
        data_sink: DataSink,
    ) -> None:
        self.program, self.engine, self.model, self.seed = program, engine, model, seed
        self.first = self.at = first
        self.end = first + shots
        self._sink, self._data_sink = sink, data_sink
        self._torn: list[Before] = []
        self._whole = 0
        self._leaves, self._data_leaves = Leaves(), Leaves()
        self._counting = Counting(program.lowered.events) if counts else None
        self._first_row: dict[str, int] | None = None
        self._figures: Figures = {}

    def resume(self, taken: bytes, stop: Stop) -> snapshot.Run | None:
        """Take over what is done of a torn block; returns the run that has begun, if one has."""
        before, begun = snapshot.resume_rest(
            self.program, self.engine, self.model, self.seed,
            self.first, self.end - self.first, taken, stop,
        )  # fmt: skip
        if len(before.packed):
            self._add(before)
        return begun

    def add(self, ended: Batch | Shots) -> None:
        """The next shots are done."""
        assert ended.shot_first == self.at
        self._add(Before(ended.packed(), ended.data, ended.counts))

    def _add(self, portion: Before) -> None:
        self._torn.append(portion)
        self.at += len(portion.packed)
        assert self.at <= self.end
        if self.at % SHOT_BLOCK == 0 or self.at == self.end:
            for each in self._torn:
                self._tell(each)
            self._torn.clear()

    def _tell(self, portion: Before) -> None:
        packed, data, figures = portion
        if data is not None:
            self._data_leaves.add(rows_of(data))
            self._data_sink(data)
        if self._first_row is None:
            self._first_row = named(self.program.lowered.events, packed[:1])
        self._leaves.add(packed)
        if self._counting is not None:
            self._counting.add(packed)
        self._sink(packed)
        add_figures(self._figures, figures)
        self._whole += len(packed)

    def parked(self, run: snapshot.Run | None, parking: Parking) -> Parked | None:
        """As it stands, still without a report; None where it had better go on to the end of its
        batch or block, since its snapshot would be too large and nobody asked."""
        taken = self._taken(run, parking.bytes_max)
        if taken is None and parking.asked():
            taken, run = self._taken(None, parking.bytes_max) or b"", None
        if taken is None:
            return None
        return Parked(None, taken, 0 if run is None else run.form.fences.index(run.done) + 1)

    def _taken(self, run: snapshot.Run | None, bytes_max: int) -> bytes | None:
        """What the rest goes on from; None where it is too large."""
        if run is None and not self._torn:
            return b""
        try:
            return snapshot.take_rest(
                self.program, self.engine, self.model, self.seed, self._before(), self.at, run,
                bytes_max,
            )  # fmt: skip
        except (MemoryError, snapshot.TooLarge):
            return None

    def _before(self) -> Before:
        row_bytes = packed_row_bytes(self.program.lowered.events)
        packed: Packed = np.zeros((0, row_bytes), dtype=np.uint8)
        keeps = isinstance(self.model, Remembering) and self.model.keeps
        data = [nothing(0)] if keeps else []
        figures: Figures = {}
        for each in self._torn:
            packed = np.concatenate([packed, each.packed])
            data += [] if each.data is None else [each.data]
            add_figures(figures, each.figures)
        return Before(packed, np.concatenate(data) if data else None, figures)

    def report(
        self, setting: Setting, cpu_ns: int, spent: Callable[[int], dict[str, int]]
    ) -> SegmentReport | None:
        """Of whole blocks, and of the last one; None for none."""
        if not self._whole:
            return None
        assert self._first_row is not None
        told = {**self.program.notes, **self._figures}
        return SegmentReport(
            shots=self._whole,
            counts=None if self._counting is None else self._counting.result(),
            first_row=self._first_row,
            leaves=self._leaves.finish(),
            engine=self.engine,
            cpu_ns=cpu_ns,
            notes={name: n for name, n in told.items() if not name.startswith(DECODING)},
            spent=spent(cpu_ns),
            decoder=_decoders(self._figures, self.model, self._whole, setting),
            decoder_leaves=self._data_leaves.finish(),
        )


def _decoders(
    figures: Figures, model: NoiseModel, shots: int, setting: Setting
) -> DecoderFigures | None:
    """What decoders did, where there are any. Imported at need: few have any."""
    if not isinstance(model, Remembering):
        return None
    from qmkd.engine.tally import figures_of

    return figures_of(figures, setting.decoder, shots * model.length)
