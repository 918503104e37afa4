"""Snapshots of runs: what is no state of the program is refused in words, what is can go on.

An input is a choice of program and engine, how the rest is meant, and the rest: the sealed bytes as
they are; or, since nobody finds a digest by chance, a body that is compressed and sealed here, read
as a run or as the rest of a slice. What goes on was written by a stranger, and C runs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Final, NamedTuple

import numpy as np

from qmkd.engine import engines, run, snapshot, tableau
from qmkd.engine.layout import packed_row_bytes
from qmkd.engine.noise import Uniform
from qmkd.engine.prepared import Prepared
from qmkd.engine.snapshot import Before, Unfit, finish, run_to_fence
from qvm.program import VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.verify import verify_bytes

BYTES_MAX = 3000
CODEC = "msgpack"
HEAD_BYTES = 2

SEED: Final = 5
SHOTS: Final = 70
FIRST: Final = 128
SLICE: Final = 200
EVERY: Final = "+".join(engines.MAKERS)
NOISE: Final = Uniform(one=0.03, two=0.05, reset=0.1, readout=0.02)

PAULI_GUARDS: Final = Shape(qubits_max=3, nodes_max=16, guards=0.0)
CLIFFORD: Final = Shape(qubits_max=3, nodes_max=16, guards=0.3)
TURNING: Final = Shape(qubits_max=3, nodes_max=16, guards=0.3, magic=True, angles=True)

CASES: Final = (
    (engines.TABLEAU, CLIFFORD),
    *((engine, PAULI_GUARDS) for engine in engines.MAKERS),
    (EVERY, CLIFFORD),
    (EVERY, TURNING),
)
SEALED, RUN, REST = range(3)


class Case(NamedTuple):
    """A program with fences, for an engine that can run it."""

    program: Prepared
    engine: str
    shots: int


@cache
def case(number: int) -> Case:
    """The program is the first random one that has a fence and that the engine takes."""
    engine, shape = CASES[number]
    shots = 1 if engine == engines.TABLEAU else SHOTS
    for seed in range(100):
        graph = shaped_program(Random(seed), shape)
        nodes = graph["program"]["nodes"]
        nodes.insert(len(nodes) // 2, {"id": "fence", "op": "FENCE_EPOCH"})
        raw = json.dumps(graph).encode()
        if isinstance(verify_bytes(raw), VerifiedProgram):
            program = run.prepare(raw)
            if snapshot.begin(program, engine, NOISE, SEED, FIRST, shots).form.fences:
                return Case(program, engine, shots)
    raise AssertionError("no program has a fence")


def check(data: bytes) -> None:
    if len(data) < HEAD_BYTES:
        return
    which, how = data[0] % len(CASES), data[1] % 3
    sealed = data[HEAD_BYTES:] if how == SEALED else seal(data[HEAD_BYTES:])
    chosen = case(which)
    with contextlib.suppress(Unfit):
        if how == REST:
            before, going = snapshot.resume_rest(
                chosen.program, chosen.engine, NOISE, SEED, FIRST, SLICE, sealed
            )
            check_before(chosen, before, going)
        else:
            going = snapshot.resume(chosen.program, NOISE, sealed)
        if going is not None:
            check_run(chosen, going)


def seal(body: bytes) -> bytes:
    packed = zlib.compress(body, snapshot.COMPRESSION)
    return snapshot.MAGIC + hashlib.sha256(packed).digest() + packed


def check_before(chosen: Case, before: Before, going: snapshot.Run | None) -> None:
    done = len(before.packed)
    assert before.packed.shape == (done, packed_row_bytes(chosen.program.lowered.events))
    assert done + (0 if going is None else going.shots) <= SLICE
    assert all(isinstance(each, int) for each in before.figures.values())


def check_run(chosen: Case, going: snapshot.Run) -> None:
    """It is a value: it comes back from its own bytes, and both give the same bits to the end."""
    saved = snapshot.take(chosen.program, going_engine(chosen, going), NOISE, going)
    again = snapshot.resume(chosen.program, NOISE, saved)
    rows = finish(going)
    assert rows.shape == (going.shots, packed_row_bytes(chosen.program.lowered.events))
    assert np.array_equal(finish(again), rows)


def going_engine(chosen: Case, going: snapshot.Run) -> str:
    """A snapshot names its engine itself, and may name another that can run the program."""
    return engines.TABLEAU if isinstance(going, tableau.Shot) else chosen.engine


def seeds() -> Iterator[bytes]:
    for number in range(len(CASES)):
        program, engine, shots = case(number)
        cut = snapshot.begin(program, engine, NOISE, SEED, FIRST, shots)
        run_to_fence(cut, 0)
        for prove in (False, True):
            sealed = snapshot.take(program, engine, NOISE, cut, prove)
            yield bytes([number, RUN]) + zlib.decompress(sealed[40:])
        yield bytes([number, SEALED]) + sealed
        row_bytes = packed_row_bytes(program.lowered.events)
        before = Before(np.zeros((64, row_bytes), dtype=np.uint8), None, {})
        cut = snapshot.begin(program, engine, NOISE, SEED, FIRST + 64, shots)
        run_to_fence(cut, 0)
        for rest in (cut, None):
            sealed = snapshot.take_rest(program, engine, NOISE, SEED, before, FIRST + 64, rest)
            yield bytes([number, REST]) + zlib.decompress(sealed[40:])
