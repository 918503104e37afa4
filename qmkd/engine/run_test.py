"""Packing, counting and hashing, each against a slow way of doing the same."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections import Counter

import numpy as np
import pytest

from qmkd.engine import batch, chance, engines, layout, prepared, reports, run, tableau
from qmkd.engine.noise import IDEAL
from qmkd.engine.prepared import ABSENT, Rows, Stopped, Unable
from qvm.examples import load, names
from qvm.program import EventField
from syscalls import results
from syscalls.results import COUNTS_KEYS_MAX, SHOT_BLOCK

ALONE = ("groups", "dense")
"""Engines that can run, alone, the examples used here: their guards stand on more than Paulis."""


def slow_row(row: list[int], events: tuple[EventField, ...]) -> bytes:
    """One packed row, bit by bit, after the text of `syscalls.results`."""
    values, validity, place = 0, 0, 0
    for at, (value, field) in enumerate(zip(row, events, strict=True)):
        if value != ABSENT:
            values |= value << place
            validity |= 1 << at
        place += field.bits
    return values.to_bytes(-(-place // 8), "little") + validity.to_bytes(
        -(-len(events) // 8), "little"
    )


def key(row: list[int]) -> str:
    return "".join("-" if value == ABSENT else str(value) for value in row)


def made_up(
    events: int, wide: bool, shots: int, rng: random.Random
) -> tuple[Rows, tuple[EventField, ...]]:
    fields = tuple(
        EventField(f"e{at}", 2 if wide and rng.random() < 0.4 else 1) for at in range(events)
    )
    rows = [
        [ABSENT if rng.random() < 0.2 else rng.randrange(2**field.bits) for field in fields]
        for _ in range(shots)
    ]
    return np.array(rows, dtype=np.uint8).reshape(shots, events), fields


@pytest.mark.parametrize("events", [0, 1, 4, 5, 7, 8, 9, 16, 31, 32, 33, 70])
@pytest.mark.parametrize("wide", [False, True])
def test_rows_are_packed_and_counted_as_documented(events: int, wide: bool) -> None:
    rng = random.Random(events)
    rows, fields = made_up(events, wide, 300, rng)
    packed = layout.pack_rows(rows, fields)
    assert np.array_equal(layout.unpack_rows(packed, fields), rows)
    assert [layout.unpack_row(row.tobytes(), fields) for row in packed] == rows.tolist()
    ran = [chance.pack(column != ABSENT) for column in rows.T]
    values = []
    for column, field in zip(np.where(rows == ABSENT, 0, rows).T, fields, strict=True):
        values += [chance.pack(column >> at & 1 == 1) for at in range(field.bits)]
    for shots in (300, 257, 64, 5, 1):
        words = -(-shots // 64)
        every = np.array([*values, *ran, chance.pack(np.ones(300, dtype=np.bool_))])[:, :words]
        numbers = list(range(len(values) + len(ran)))
        cut = layout.pack_bits(
            np.ascontiguousarray(every), numbers[: len(values)], numbers[len(values) :], shots
        )
        assert np.array_equal(cut, packed[:shots])
    assert [row.tobytes() for row in packed] == [slow_row(row, fields) for row in rows.tolist()]
    wire = [results.EventField(name=field.name, bits=field.bits) for field in fields]
    assert packed.shape[1] == layout.packed_row_bytes(fields) == results.row_bytes(wire)
    counting = reports.Counting(fields)
    counting.add(packed[:100])
    counting.add(packed[100:])
    assert counting.result() == dict(sorted(Counter(map(key, rows.tolist())).items()))


def test_counting_gives_up_where_too_many_rows_differ() -> None:
    fields = tuple(EventField(f"e{at}", 1) for at in range(40))
    number = COUNTS_KEYS_MAX
    codes = np.arange(number + 1, dtype="<u8")
    rows = np.unpackbits(codes.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")[:, :40]
    for most, counted in ((number, True), (number + 1, False)):
        counting = reports.Counting(fields)
        counting.add(layout.pack_rows(rows[:most], fields))
        assert (counting.result() is not None) == counted


def test_counting_gives_up_where_keys_take_too_many_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reports, "COUNTS_CHARS_MAX", 100)
    fields = tuple(EventField(f"e{at}", 1) for at in range(50))
    rows = np.zeros((3, len(fields)), dtype=np.uint8)
    rows[np.arange(3), np.arange(3)] = 1
    for most, counted in ((2, True), (3, False)):
        counting = reports.Counting(fields)
        counting.add(layout.pack_rows(rows[:most], fields))
        assert (counting.result() is not None) == counted


@pytest.mark.parametrize("name", names())
def test_rows_do_not_depend_on_segments_or_batches(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = run.prepare(load(name))
    engine = "+".join(engines.MAKERS)
    whole, rows = run.run_segment(program, 11, 0, 5000, engine)
    assert whole.counts is not None
    assert sum(whole.counts.values()) == 5000
    size = layout.packed_row_bytes(program.lowered.events)
    assert len(rows) == 5000 * size
    block = size * SHOT_BLOCK
    leaves = [hashlib.sha256(rows[at : at + block]).digest() for at in range(0, len(rows), block)]
    assert whole.leaves == b"".join(leaves)
    monkeypatch.setattr(batch, "BATCH_SHOTS_MAX", 256)
    program = run.prepare(load(name))
    parts = [
        run.run_segment(program, 11, first, min(2048, 5000 - first), engine)
        for first in range(0, 5000, 2048)
    ]
    assert b"".join(part for _, part in parts) == rows
    assert b"".join(report.leaves for report, _ in parts) == whole.leaves
    assert sum((Counter(report.counts) for report, _ in parts), Counter()) == whole.counts
    first = dict(
        zip(
            (field.name for field in program.lowered.events),
            key_values(rows, program.lowered.events),
            strict=True,
        )
    )
    assert whole.first_row == {name: value for name, value in first.items() if value != ABSENT}


def key_values(rows: bytes, events: tuple[EventField, ...]) -> list[int]:
    """The first row, unpacked bit by bit."""
    widths = sum(field.bits for field in events)
    values = int.from_bytes(rows[: -(-widths // 8)], "little")
    size = layout.packed_row_bytes(events)
    validity = int.from_bytes(rows[-(-widths // 8) : size], "little")
    found, place = [], 0
    for at, field in enumerate(events):
        found.append(values >> place & 2**field.bits - 1 if validity >> at & 1 else ABSENT)
        place += field.bits
    return found


def test_what_cannot_be_run_is_refused_in_words() -> None:
    bell, magic = run.prepare(load("bell")), run.prepare(load("t_injection"))
    with pytest.raises(Unable, match="no engine"):
        run.run_segment(bell, 0, 0, 1, "abacus")
    with pytest.raises(Unable, match="no engine 'abacus'"):
        run.run_segment(bell, 0, 0, 1, "frames+abacus")
    with pytest.raises(Unable, match="no noise model"):
        run.run_segment(bell, 0, 0, 1, "frames", noise="loud")
    with pytest.raises(Unable, match="is no Clifford gate"):
        run.run_segment(magic, 0, 0, 1, "tableau")
    with pytest.raises(Unable, match="frames cannot run a part of 2 qubits"):
        run.run_segment(magic, 0, 0, 1, "frames")
    with pytest.raises(Unable, match="not valid"):
        run.prepare(b"{}")


@pytest.mark.parametrize("engine", ["tableau", *ALONE])
def test_a_run_stops_at_the_fence_at_which_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(prepared, "POLL_NS", 1 << 60)
    program = run.prepare(load("adaptive_rounds"))
    assert program.lowered.epochs >= 3
    asked = iter([False, True])
    with pytest.raises(Stopped) as stopped:
        run.run_segment(program, 0, 0, 5, engine, stop=lambda: next(asked))
    fences = [step for step in program.lowered.steps if step.op == "FENCE_EPOCH"]
    assert stopped.value.epoch == fences[1].epoch


@pytest.mark.parametrize("engine", ["tableau", *ALONE])
def test_a_run_without_fences_stops_between_operations_once_some_time_has_passed(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    document = json.loads(load("bell"))
    nodes = document["program"]["nodes"]
    nodes[:] = [node for node in nodes if node["op"] != "FENCE_EPOCH"]
    program = run.prepare(json.dumps(document).encode())
    assert program.lowered.epochs == 1
    run.run_segment(program, 0, 0, 1, engine, stop=lambda: True)
    monkeypatch.setattr(prepared, "POLL_NS", 0)
    with pytest.raises(Stopped) as stopped:
        run.run_segment(program, 0, 0, 1, engine, stop=lambda: True)
    assert stopped.value.epoch == 0


@pytest.mark.parametrize("engine", ["tableau", *engines.MAKERS])
def test_a_run_stops_while_its_program_is_compiled_and_leaves_nothing_half_done(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    graph = load("repetition_code")
    untouched = run.event_rows(run.prepare(graph), 7, 0, 5, engine)
    monkeypatch.setattr(prepared, "POLL_NS", 0)
    program = run.prepare(graph)
    asked = 0

    def stop_at(question: int) -> bool:
        nonlocal asked
        asked += 1
        return asked == question

    def compiled(question: int) -> bool:
        nonlocal asked
        asked = 0
        compiler = tableau.compiled if engine == "tableau" else engines.compiler(engine)
        try:
            program.form(compiler, IDEAL, lambda: stop_at(question))
        except Stopped:
            return False
        return True

    questions = next(number for number in itertools.count(1) if compiled(number)) - 1
    assert questions > len(program.lowered.steps)
    assert np.array_equal(run.event_rows(program, 7, 0, 5, engine), untouched)
