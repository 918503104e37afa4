"""Runs shots of a prepared program with a chosen engine; packs, counts and hashes the rows.

`prepare` turns graph bytes into what the engines run. `run_rows` hands packed rows to a sink as
they come, so that memory stays bounded; `run_segment` returns them whole. Their form is in
`layout.py`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np

from qmkd.core.ports import USUAL, SegmentReport, Setting
from qmkd.engine import engines, exact, tableau
from qmkd.engine.batch import run_batches
from qmkd.engine.choose import EXACT
from qmkd.engine.layout import (
    FEW_EVENTS,
    Packed,
    distinct,
    packed_row_bytes,
    unpack_row,
    unpack_rows,
)
from qmkd.engine.noise import DECODING, IDEAL, NoiseModel, Remembering
from qmkd.engine.paired import paired
from qmkd.engine.prepared import ABSENT, Poll, Prepared, Rows, Stop, Unable
from qmkd.engine.shot_data import ShotData, nothing, rows_of
from qvm.lower import lower
from qvm.program import EventField, VerifiedProgram
from qvm.verify import verify_bytes
from syscalls.decoding import DecoderFigures
from syscalls.results import COUNTS_CHARS_MAX, COUNTS_KEYS_MAX, SHOT_BLOCK

CHUNK_BYTES: Final = 32 << 20  # packed rows at a time
CHUNK_SHOTS_MAX: Final = 1 << 16

Sink = Callable[[Packed], None]
DataSink = Callable[[ShotData], None]

_CHARACTERS: Final = np.full(256, ord("-"), dtype=np.uint8)
_CHARACTERS[:4] = np.frombuffer(b"0123", dtype=np.uint8)
_CHARACTER: Final = _CHARACTERS.tobytes().decode("ascii")

assert CHUNK_SHOTS_MAX % SHOT_BLOCK == 0


def prepare(graph: bytes) -> Prepared:
    """Read, verify and lower a graph. Raises `Unable` where it is not valid."""
    verified = verify_bytes(graph)
    if not isinstance(verified, VerifiedProgram):
        raise Unable(f"the graph is not valid: {verified[0].path}: {verified[0].message}")
    return Prepared(lower(verified), verified.summary)


def noise_model(
    name: str, program: Prepared, setting: Setting = USUAL, stop: Stop = lambda: False
) -> NoiseModel:
    """The model of that name: `ideal`, `calibrated MODEL STRENGTH`, such as `calibrated uniform
    0.001`, or `decoded` or `physical` with these. All but `ideal` have the errors of the pairs that
    the setting names.

    Raises `Unable` where there is none or the code or the program cannot be decoded, `Uncalibrated`
    where a code's rates are not known, `Stopped` where `stop()` was true while decoders were made.
    """
    if name == "ideal":
        return IDEAL
    match name.split():
        case ["calibrated", model, strength] if _is_chance(strength):
            make = partial(_calibrated, name, program, model, float(strength), setting)
        case ["decoded" | "physical", model, strength] if _is_chance(strength):
            make = partial(_decoded, name, program, model, float(strength), setting, Poll(stop))
        case _:
            raise Unable(f"there is no noise model {name!r}")
    return program.kept((name, setting), lambda: paired(make(), program.lowered, setting.pairs))


def _calibrated(
    name: str, program: Prepared, model: str, strength: float, setting: Setting
) -> NoiseModel:
    """Imported at need: the table's laws bring SciPy with them."""
    from qmkd.engine.coded import CodedNoise
    from qmkd.engine.rates import TableRates
    from qmkd.engine.tables import table

    named = f"{name}, table {setting.table}" if setting.table else name
    return CodedNoise(named, program.lowered, TableRates(table(setting.table), model, strength))


def _decoded(
    name: str, program: Prepared, model: str, strength: float, setting: Setting, poll: Poll
) -> NoiseModel:
    """By lives of qubits, or the program as a whole. Imported at need, likewise."""
    from qmkd.engine.decoded import DecodedNoise
    from qmkd.engine.physical import PhysicalNoise
    from qmkd.engine.rates import TableRates
    from qmkd.engine.tables import table

    rates = TableRates(table(setting.table), model, strength)
    keeps = setting.decoder_data
    kind = PhysicalNoise if name.startswith("physical") else DecodedNoise
    return kind(name, program.lowered, rates, model, strength, setting.decoder, keeps, poll)


def _is_chance(text: str) -> bool:
    try:
        return 0 < float(text) < 0.5
    except ValueError:
        return False


def run_segment(
    program: Prepared,
    seed: int,
    shot_first: int,
    shots: int,
    engine: str,
    noise: str = "ideal",
    counts: bool = True,
    stop: Stop = lambda: False,
    setting: Setting = USUAL,
) -> tuple[SegmentReport, bytes]:
    """Run shots [shot_first, shot_first + shots): the report, and their packed rows.

    Raises as `run_rows` does.
    """
    parts: list[bytes] = []
    report = run_rows(
        program, seed, shot_first, shots, engine, noise, counts, stop,
        lambda packed: parts.append(packed.tobytes()), setting,
    )  # fmt: skip
    return report, b"".join(parts)


def run_rows(
    program: Prepared,
    seed: int,
    shot_first: int,
    shots: int,
    engine: str,
    noise: str,
    counts: bool,
    stop: Stop,
    sink: Sink,
    setting: Setting = USUAL,
    data_sink: DataSink = lambda data: None,
) -> SegmentReport:
    """Run shots and hand their packed rows to `sink`, in order; engine EXACT has no rows.

    What decoders knew of each shot goes to `data_sink`, where the setting keeps it.

    shot_first is a multiple of SHOT_BLOCK. Raises `Unable` where engine or noise model do not exist
    or do not fit the program, `Stopped` where `stop()` was true at a fence, between batches or some
    time between operations.
    """
    assert shot_first % SHOT_BLOCK == 0, shot_first
    assert shots >= 1, shots
    if engine == EXACT:
        return _exact(program, noise_model(noise, program, setting, stop), stop)
    started = time.thread_time_ns()
    model = noise_model(noise, program, setting, stop)
    model_ns = time.thread_time_ns() - started
    leaves, data_leaves = _Leaves(), _Leaves()
    counting = _Counting(program.lowered.events) if counts else None
    first_row: dict[str, int] = {}

    def told(data: ShotData) -> None:
        data_leaves.add(rows_of(data))
        data_sink(data)

    for packed in packed_rows(program, seed, shot_first, shots, engine, model, stop, told):
        if not first_row:
            first_row = _named(program.lowered.events, packed[:1])
        leaves.add(packed)
        if counting is not None:
            counting.add(packed)
        sink(packed)
    found = None if counting is None else counting.result()
    hashed = leaves.finish()
    cpu_ns = time.thread_time_ns() - started
    return SegmentReport(
        shots=shots,
        counts=found,
        first_row=first_row,
        leaves=hashed,
        engine=engine,
        cpu_ns=cpu_ns,
        notes={name: n for name, n in program.notes.items() if not name.startswith(DECODING)},
        spent=_spent(program, engine, cpu_ns, 0 if model.ideal else model_ns),
        decoder=_decoders(program, model, shots, setting),
        decoder_leaves=data_leaves.finish(),
    )


def _decoders(
    program: Prepared, model: NoiseModel, shots: int, setting: Setting
) -> DecoderFigures | None:
    """What decoders did, where there are any. Imported at need, as above."""
    if not isinstance(model, Remembering):
        return None
    from qmkd.engine.tally import figures_of

    return figures_of(program.notes, setting.decoder, shots * model.length)


def _exact(program: Prepared, noise: NoiseModel, stop: Stop) -> SegmentReport:
    """Probabilities instead of rows. Raises `exact.TooLarge`."""
    started = time.thread_time_ns()
    probabilities = exact.exact(program, noise, stop).probabilities
    most = outcomes_max(len(program.lowered.events))
    if len(probabilities) > most:
        raise exact.TooLarge("outcomes", len(probabilities), most)
    cpu_ns = time.thread_time_ns() - started
    return SegmentReport(
        shots=1,
        counts=None,
        first_row={},
        leaves=hashlib.sha256(b"").digest(),
        engine=EXACT,
        cpu_ns=cpu_ns,
        notes={},
        probabilities=probabilities,
        spent={EXACT: cpu_ns},
    )


def _spent(program: Prepared, engine: str, cpu_ns: int, model_ns: int) -> dict[str, int]:
    """The CPU time of a run by what it went to, as `SegmentReport.spent`.

    model_ns: to make the noise model, decoders among it, which is part of compiling.
    """
    once = {"compile": model_ns} if model_ns else {}
    if engine == engines.TABLEAU:
        return {engine: cpu_ns - model_ns, **once}
    spent = {
        name.removesuffix("_ns"): ns
        for name, ns in program.notes.items()
        if name.endswith("_ns") and not name.startswith(DECODING)
    }
    spent["compile"] += model_ns
    return spent | {"results": cpu_ns - sum(spent.values())}


def packed_rows(
    program: Prepared,
    seed: int,
    shot_first: int,
    shots: int,
    engine: str,
    noise: NoiseModel,
    stop: Stop = lambda: False,
    data_sink: DataSink = lambda data: None,
) -> Iterator[Packed]:
    """The packed rows of the shots, in portions and in order. Raises as `run_rows` does.

    data_sink: is given what decoders knew of a portion just before it, where that is kept.
    """
    keeps = isinstance(noise, Remembering) and noise.keeps
    if engine == engines.TABLEAU:
        size = chunk_shots(packed_row_bytes(program.lowered.events), CHUNK_SHOTS_MAX)
        for first in range(shot_first, shot_first + shots, size):
            number = min(size, shot_first + shots - first)
            data = nothing(number) if keeps else None
            packed = tableau.run_packed(program, seed, first, number, noise, stop, data)
            if data is not None:
                data_sink(data)
            yield packed
        return
    started = time.thread_time_ns()
    form = program.form(engines.compiler(engine), noise, stop)
    compile_ns = time.thread_time_ns() - started
    for batch in run_batches(program, form, seed, shot_first, shots, stop):
        program.notes["compile_ns"] = compile_ns
        if batch.data is not None:
            data_sink(batch.data)
        yield batch.packed()


def event_rows(
    program: Prepared,
    seed: int,
    shot_first: int,
    shots: int,
    engine: str,
    noise: NoiseModel = IDEAL,
    stop: Stop = lambda: False,
) -> Rows:
    """The events of the shots, unpacked. Raises as `run_rows` does."""
    if engine == engines.TABLEAU:
        return tableau.run(program, seed, shot_first, shots, noise, stop)
    form = program.form(engines.compiler(engine), noise, stop)
    batches = run_batches(program, form, seed, shot_first, shots, stop)
    return np.concatenate([batch.values() for batch in batches])


def outcomes_max(events: int) -> int:
    """How many different rows are told of by their keys."""
    return min(COUNTS_KEYS_MAX, COUNTS_CHARS_MAX // max(1, events))


def chunk_shots(row_bytes: int, most: int) -> int:
    """Shots whose rows are held at a time: a power of two, so blocks are never torn."""
    most = max(1, min(most, CHUNK_BYTES // max(1, row_bytes)))
    return 1 << most.bit_length() - 1


def _named(events: tuple[EventField, ...], packed: Packed) -> dict[str, int]:
    """The only row of `packed` by event name, absent events left out."""
    row = unpack_row(packed.tobytes(), events)
    return {field.name: value for field, value in zip(events, row, strict=True) if value != ABSENT}


class _Leaves:
    """Hashes packed rows by blocks of SHOT_BLOCK, whatever the portions in which they come."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._hash = hashlib.sha256()
        self._rows = 0

    def add(self, packed: Packed) -> None:
        at = 0
        while at < len(packed):
            part = packed[at : at + SHOT_BLOCK - self._rows]
            self._hash.update(np.ascontiguousarray(part).data if part.size else b"")
            self._rows += len(part)
            at += len(part)
            if self._rows == SHOT_BLOCK:
                self._close()

    def finish(self) -> bytes:
        if self._rows:
            self._close()
        return b"".join(self._done)

    def _close(self) -> None:
        self._done.append(self._hash.digest())
        self._hash = hashlib.sha256()
        self._rows = 0


class _Counting:
    """How often each row occurs, keyed as on the wire; gives up where keys get too many."""

    def __init__(self, events: tuple[EventField, ...]) -> None:
        self._events = events
        self._keys_max = outcomes_max(len(events))
        self._total: dict[str, int] | None = {}

    def add(self, packed: Packed) -> None:
        if self._total is None:
            return
        found = distinct(packed, self._keys_max)
        if found is None:
            self._total = None
            return
        example, numbers = found
        total = self._total
        for key, number in zip(self._keys(packed[example]), numbers.tolist(), strict=True):
            total[key] = total.get(key, 0) + number
        if len(total) > self._keys_max:
            self._total = None

    def _keys(self, packed: Packed) -> list[str]:
        """Each row as it is keyed on the wire."""
        rows, size = len(packed), len(self._events)
        if rows * size <= FEW_EVENTS:
            values = [unpack_row(row.tobytes(), self._events) for row in packed]
            return ["".join(map(_CHARACTER.__getitem__, row)) for row in values]
        text = _CHARACTERS[unpack_rows(packed, self._events)].tobytes().decode("ascii")
        return [text[at * size : (at + 1) * size] for at in range(rows)]

    def result(self) -> dict[str, int] | None:
        """Sorted by key."""
        return None if self._total is None else dict(sorted(self._total.items()))
