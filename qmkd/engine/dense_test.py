"""State vectors against Stim bit for bit, and against the exact distribution."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest

from qmkd.engine import dense, run, tableau
from qmkd.engine.batch import Form, run_batches
from qmkd.engine.chance import HALF, ONE, Chance, fraction, pack
from qmkd.engine.native import _branches
from qmkd.engine.noise import IDEAL, NoiseModel, Uniform
from qmkd.engine.prepared import Prepared, Rows
from qvm.program import VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.reference import distribution
from qvm.verify import verify_bytes
from tests.likelihood import g_test

NOISE = Uniform(one=0.03, two=0.05, reset=0.04, readout=0.03)
NARROW = Shape(channels=True)
TALL = Shape(qubits_max=5, nodes_max=160, branchings_max=60, guards=0.5, channels=True)
MAGIC = Shape(magic=True)
ANGLES = Shape(qubits_max=6, magic=True, angles=True)
P_MIN = 1e-6


def program(seed: int, shape: Shape) -> bytes:
    return json.dumps(shaped_program(random.Random(seed), shape)).encode()


def rows(
    program: Prepared,
    seed: int,
    shots: int,
    noise: NoiseModel = IDEAL,
    shot_first: int = 0,
    batch_shots: int | None = None,
) -> Rows:
    form = Form(program, noise, lambda shape: dense.Maker)
    if batch_shots is not None:
        form.batch_shots = batch_shots
    batches = run_batches(program, form, seed, shot_first, shots, lambda: False)
    return np.concatenate([batch.values() for batch in batches])


@pytest.mark.parametrize("noise", [IDEAL, NOISE], ids=["ideal", "noise"])
@pytest.mark.parametrize("shape", [NARROW, TALL], ids=["narrow", "tall"])
def test_clifford_programs_give_the_bits_of_stim(shape: Shape, noise: NoiseModel) -> None:
    for seed in range(25):
        prepared = run.prepare(program(seed, shape))
        want = tableau.run(prepared, seed, 128, 70, noise, lambda: False)
        assert np.array_equal(rows(prepared, seed, 70, noise, 128), want), seed


@pytest.mark.parametrize("noise", [IDEAL, NOISE], ids=["ideal", "noise"])
def test_rows_do_not_depend_on_batches_nor_on_how_many_vectors_fit(
    noise: NoiseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        prepared = run.prepare(program(seed, ANGLES))
        whole = rows(prepared, seed, 700, noise)
        for batch_shots in (64, 192):
            assert np.array_equal(rows(prepared, seed, 700, noise, 0, batch_shots), whole), seed
        for vectors in (64, 5, 1):
            with monkeypatch.context() as patch:
                patch.setattr(dense, "DENSE_BYTES_MAX", vectors * 16 << 6)  # of six qubits
                assert np.array_equal(rows(prepared, seed, 130, noise), whole[:130]), seed


def test_programs_with_magic_are_distributed_as_the_reference_says() -> None:
    for shape in (MAGIC, ANGLES):
        for seed in range(25):
            raw = program(seed, shape)
            verified = verify_bytes(raw)
            assert isinstance(verified, VerifiedProgram)
            found = rows(run.prepare(raw), seed, 4000)
            characters = np.array([*"0123", *["-"] * 252])[found]
            observed = Counter("".join(row) for row in characters)
            assert g_test(observed, distribution(verified).probabilities) > P_MIN, seed


@pytest.mark.parametrize("branches", [1, 2, 7, 100])
def test_shots_are_counted_and_moved_by_branch(branches: int) -> None:
    rng = np.random.default_rng(branches)
    of = rng.integers(0, branches, 640).astype(np.uint32)
    for density in (0.0, 0.02, 0.5, 1.0):
        inside = rng.random(640) < density
        row = pack(inside)
        counts = np.empty(branches, dtype=np.int64)
        _branches.count(of, row, counts)
        assert np.array_equal(counts, np.bincount(of[inside], minlength=branches))
        to = rng.integers(0, 2 * branches, branches).astype(np.uint32)
        if branches == 1:
            to[0] = 1
        moved = of.copy()
        _branches.move(moved, row, to)
        assert np.array_equal(moved, np.where(inside, to[of], of))
        for labels in (to, np.zeros_like(to)):
            moved = of.copy()
            _branches.relabel(moved, labels)
            assert np.array_equal(moved, labels[of])
        done = rng.integers(0, 2, branches).astype(np.uint8)
        left = np.empty_like(row)
        _branches.differ(of, pack(np.ones(640, dtype=np.bool_)), row, done, left)
        assert np.array_equal(left, pack(inside ^ (done[of] == 1)))


def test_outcomes_are_drawn_by_the_words_of_chance() -> None:
    """Fair ones by coins, certain ones by nothing, others by words; frames turn them over."""
    rng, at, first, shots = np.random.default_rng(3), (1, 2, 3), 192, 640
    of = rng.integers(0, 5, shots).astype(np.uint32)
    chances = np.array([0, HALF, ONE, ONE // 3, HALF], dtype=np.uint64)
    full = pack(np.ones(shots, dtype=np.bool_))
    where, flipped = rng.random(shots) < 0.7, rng.random(shots) < 0.5
    outcomes, drawn = np.empty_like(full), np.empty_like(full)
    _branches.draw(
        9, *at, first, full, pack(where), pack(flipped), of, chances, outcomes, drawn
    )  # fmt: skip
    wanted = np.where(flipped, np.uint64(ONE) - chances[of], chances[of])
    bits = where & (fraction(Chance(9).words(*at, first, shots)) < wanted)
    assert np.array_equal(outcomes, pack(bits))
    assert np.array_equal(drawn, pack(where & (bits ^ flipped)))


def test_shots_in_no_branch_are_refused() -> None:
    of, row = np.full(64, 3, dtype=np.uint32), np.zeros(1, dtype=np.uint64)
    with pytest.raises(ValueError, match="in no branch"):
        _branches.count(of, row, np.empty(3, dtype=np.int64))
    with pytest.raises(ValueError, match="fit"):
        _branches.move(of, np.zeros(2, dtype=np.uint64), np.arange(4, dtype=np.uint32))


def injections(count: int, data: int) -> bytes:
    """`count` times: T on a data qubit by a T state, with the S that half of the shots need."""
    qubits = [f"d{at}" for at in range(data)]
    nodes = [allocation([*qubits, "a"])]
    nodes += [{"id": f"h{at}", "op": "APPLY_H", "vqs": [qubit]} for at, qubit in enumerate(qubits)]
    for at in range(count):
        here = qubits[at % data]
        if data > 1:
            there = qubits[(at + 1) % data]
            nodes.append({"id": f"p{at}", "op": "APPLY_CNOT", "vqs": [there, here]})
        nodes += [
            {"id": f"r{at}", "op": "RESET", "vqs": ["a"]},
            {"id": f"i{at}", "op": "INJECT_T_STATE", "vqs": ["a"]},
            {"id": f"c{at}", "op": "APPLY_CNOT", "vqs": [here, "a"]},
            {"id": f"m{at}", "op": "MEASURE_Z", "vqs": ["a"], "produces": [f"e{at}"]},
            {
                "id": f"s{at}",
                "op": "APPLY_S",
                "vqs": [here],
                "guard": {"event": f"e{at}", "equals": 1},
            },
        ]
    nodes.append({"id": "end", "op": "MEASURE_X", "vqs": [qubits[0]], "produces": ["last"]})
    names = [*qubits, "a"]
    events = [*(f"e{at}" for at in range(count)), "last"]
    return graph(names, events, nodes)


def allocation(qubits: list[str]) -> dict[str, object]:
    arguments = {"n": len(qubits), "profile": "logical:Surface(d=3)"}
    return {"id": "alloc", "op": "ALLOC_LQ", "args": arguments, "vqs": qubits}


def graph(qubits: list[str], events: list[str], nodes: list[dict[str, object]]) -> bytes:
    return json.dumps(
        {
            "version": "0.1",
            "program": {"nodes": nodes},
            "resources": {"vqs": qubits, "chs": [], "events": events},
            "caps": ["CAP_ALLOC", "CAP_MAGIC"],
        }
    ).encode()


def test_injected_gates_leave_one_branch_for_any_number_of_shots() -> None:
    """On |+> after K gates T, P(1) in the X basis is sin^2(K pi / 8)."""
    shots = 40_000
    for count in (1, 2, 3, 8):
        prepared = run.prepare(injections(count, 1))
        found = rows(prepared, count, shots)
        assert prepared.notes["branches_peak"] == 2
        chance = np.sin(count * np.pi / 8) ** 2
        bound = 5 * np.sqrt(shots * chance * (1 - chance))
        assert abs(found[:, -1].sum() - shots * chance) <= bound
        for event in range(count):
            assert abs(found[:, event].sum() - shots / 2) <= 5 * np.sqrt(shots / 4)


def test_a_wide_state_is_sampled_without_more_amplitudes_than_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Measured qubits leave the vectors, so branches double while vectors halve."""
    width, rng = 14, random.Random(3)
    qubits = [f"q{at}" for at in range(width)]
    nodes = [allocation(qubits)]
    for layer in range(20):
        for at, qubit in enumerate(qubits):
            op = rng.choice(("APPLY_H", "APPLY_T", "APPLY_S"))
            nodes.append({"id": f"g{layer}.{at}", "op": op, "vqs": [qubit]})
        rng.shuffle(qubits)
        for at in range(0, width - 1, 2):
            pair = [qubits[at], qubits[at + 1]]
            nodes.append({"id": f"c{layer}.{at}", "op": "APPLY_CNOT", "vqs": pair})
    events = [f"e{at}" for at in range(width)]
    for event, qubit in zip(events, qubits, strict=True):
        nodes.append({"id": event, "op": "MEASURE_Z", "vqs": [qubit], "produces": [event]})
    monkeypatch.setattr(dense, "DENSE_BYTES_MAX", 64 << width)
    prepared = run.prepare(graph(qubits, events, nodes))
    assert len(rows(prepared, 1, 4096)) == 4096
    assert prepared.notes["branches_peak"] > 100
