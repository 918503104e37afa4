"""The engines against each other, bit for bit; against Stim, shot by shot; against exact numbers.

Engines share `chance.py`, the lowered steps and their primitives. `stim_alone.py` shares the steps
only, and none of our chance; the reference interpreter not even those. Engines are taken from
`engines.MAKERS`, so a new one is tested the moment it is there. Programs come from seeds, and a
failure names the seed that replays it.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, kstest

from qmkd.engine import batch, engines, run
from qmkd.engine.digests.programs import FAMILIES, NOISES, Depolarizing, capable, graph
from qmkd.engine.layout import pack_rows
from qmkd.engine.noise import IDEAL, NoiseModel
from qmkd.engine.prepared import ABSENT, Rows
from qmkd.engine.stim_alone import StimAlone
from qvm.examples import load, names
from qvm.program import VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.reference import distribution
from qvm.verify import verify_bytes
from tests.likelihood import CELL_MIN, g_test

SHOTS: Final = 150  # neither a multiple of 64 nor less
TABLEAU_SHOTS: Final = 20
P_MIN: Final = 1e-6
P_MIN_OF_ALL: Final = 1e-4  # that p values are uniform
CELLS_MAX: Final = 64  # different rows beyond which parities of them are counted instead
PARITIES: Final = 6


def check_alike(raw: bytes, seed: int, noise: NoiseModel) -> list[str]:
    """Every engine that can gives the same rows; returns which they were.

    Stim's tableau, which takes shots one at a time, runs only the first of them.
    """
    prepared = run.prepare(raw)
    able = capable(prepared, noise)
    expected = run.event_rows(prepared, seed, 0, SHOTS, able[-1], noise)
    for engine in able[:-1]:
        shots = TABLEAU_SHOTS if engine == engines.TABLEAU else SHOTS
        rows = run.event_rows(prepared, seed, 0, shots, engine, noise)
        differs = (rows != expected[:shots]).any(axis=1)
        where = f"seed {seed}, {type(noise).__name__}, {engine}: shots {differs.nonzero()[0]}"
        assert not differs.any(), where
    return able


def check_family(name: str, seeds: range) -> Counter[str]:
    """Every program under one of the noises in turn; how many programs each engine ran."""
    family, ran = FAMILIES[name], Counter[str]()
    for seed in seeds:
        raw = graph(family, seed)
        ran.update(check_alike(raw, seed, NOISES[seed % len(NOISES)]))
    return ran


@pytest.mark.parametrize("name", FAMILIES)
def test_all_engines_give_the_same_bits_on_two_thousand_random_programs(name: str) -> None:
    """Over all families; each engine is forced alone where it suits every part, and mixed."""
    programs = FAMILIES[name].programs[0]
    ran = check_family(name, range(programs))
    assert ran["+".join(engines.MAKERS)] == programs, "together they can run everything"
    assert sum(ran.values()) > programs


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_all_engines_give_the_same_bits_on_twenty_thousand_random_programs(name: str) -> None:
    check_family(name, range(100_000, 100_000 + FAMILIES[name].programs[1]))


def test_every_engine_is_compared_with_another_on_many_programs() -> None:
    """So that none escapes because it suits nothing."""
    compared = Counter[str]()
    for family, seed in itertools.product(FAMILIES.values(), range(40)):
        prepared = run.prepare(graph(family, seed))
        alone = [name for name in capable(prepared, IDEAL) if "+" not in name]
        compared.update(alone if len(alone) > 1 else ())
    for engine in (engines.TABLEAU, *engines.MAKERS):
        assert compared[engine] > 40, engine


def test_packed_rows_are_the_rows() -> None:
    for seed, noise in itertools.product(range(5), NOISES):
        prepared = run.prepare(graph(FAMILIES["tall"], seed))
        for engine in capable(prepared, noise):
            portions = run.packed_rows(prepared, seed, 64, 77, engine, noise)
            rows = run.event_rows(prepared, seed, 64, 77, engine, noise)
            expected = pack_rows(rows, prepared.lowered.events)
            assert np.array_equal(np.concatenate(list(portions)), expected), (seed, engine)


LONG: Final = (0, 64, 128, 320, 4096, 4160, 4200)  # across what strikes are drawn for together
SHORT: Final = (0, 64, 192, 300)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_do_not_depend_on_where_shots_are_cut(name: str) -> None:
    family = FAMILIES[name]
    cuts = LONG if family.shape.qubits_max <= 8 and name != "tall" else SHORT
    for seed in range(3):
        noise, prepared = NOISES[seed % len(NOISES)], run.prepare(graph(family, seed))
        for engine in capable(prepared, noise):
            if engine == engines.TABLEAU:
                continue  # It takes shots one at a time.
            whole = run.event_rows(prepared, seed, 0, cuts[-1], engine, noise)
            parts = [
                run.event_rows(prepared, seed, one, two - one, engine, noise)
                for one, two in itertools.pairwise(cuts)
            ]
            assert np.array_equal(np.concatenate(parts), whole), (seed, engine)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("limit", [("BATCH_SHOTS_MAX", 192), ("BATCH_BYTES_MAX", 4096)])
def test_rows_do_not_depend_on_how_many_shots_are_taken_at_a_time(
    name: str, limit: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> list[tuple[int, str, Rows]]:
        found = []
        for seed in range(3):
            noise, prepared = NOISES[seed % len(NOISES)], run.prepare(graph(FAMILIES[name], seed))
            for engine in capable(prepared, noise):
                if engine != engines.TABLEAU:
                    made = run.event_rows(prepared, seed, 0, 300, engine, noise)
                    found.append((seed, engine, made))
        return found

    whole = rows()
    monkeypatch.setattr(batch, *limit)
    for (seed, engine, expected), (_, _, cut_up) in zip(whole, rows(), strict=True):
        assert np.array_equal(cut_up, expected), (seed, engine)


def test_noise_strikes_as_often_as_it_says() -> None:
    prepared = run.prepare(load("ghz"))
    rate, shots = 0.2, 20_000
    noisy = run.event_rows(prepared, 5, 0, shots, "frames", Depolarizing(0.0, rate))
    ideal = run.event_rows(prepared, 5, 0, shots, "frames")
    wrong = (noisy != ideal).sum(axis=0)
    bound = 5 * np.sqrt(shots * rate * (1 - rate))
    assert (abs(wrong - shots * rate) < bound).all()


# --- against Stim with its own chance -------------------------------------------------------------


def compared_with_stim(seed: int, ours: int, theirs: int) -> float | None:
    """p value of the two samples being alike; None where nothing in the program is random."""
    name = ("narrow", "Pauli guards", "tall")[seed % 3]
    family, noise = FAMILIES[name], NOISES[seed // 3 % len(NOISES)]
    prepared = run.prepare(graph(family, seed))
    *_, engine = capable(prepared, noise)
    rows = run.event_rows(prepared, seed, 0, ours, engine, noise)
    return two_samples(rows, StimAlone(prepared.lowered, noise, 1000 * seed).rows(theirs), seed)


def two_samples(ours: Rows, theirs: Rows, seed: int) -> float | None:
    """Chi-squared of whole rows where few of them differ, else of random parities of them."""
    both = np.concatenate([ours, theirs])
    _, codes = np.unique(both, axis=0, return_inverse=True)
    if codes.max(initial=0) >= CELLS_MAX:
        bits = np.concatenate([both == ABSENT, both & 1, both & 2], axis=1).astype(np.bool_)
        chosen = np.random.default_rng(seed).integers(0, 2, (bits.shape[1], PARITIES))
        codes = (bits.astype(np.int64) @ chosen % 2) @ (1 << np.arange(PARITIES))
    first, second = codes[: len(ours)], codes[len(ours) :]
    length = int(codes.max(initial=0)) + 1
    table = np.array([np.bincount(each, minlength=length) for each in (first, second)])
    table = together(table[:, table.any(axis=0)])
    return float(chi2_contingency(table, correction=False).pvalue) if table.shape[1] > 1 else None


def together(table: Any) -> Any:
    """A table of two samples with its rare cells thrown together. All of it where that is rare."""
    shares = table.sum(axis=1) / table.sum()
    table = table[:, np.argsort(table.sum(axis=0), kind="stable")]
    expected = table.sum(axis=0) * shares.min()
    rare = int((expected < CELL_MIN).sum())
    while rare and rare < table.shape[1] and expected[:rare].sum() < CELL_MIN:
        rare += 1
    if not rare:
        return table
    return np.concatenate([table[:, :rare].sum(axis=1, keepdims=True), table[:, rare:]], axis=1)


def check_against_stim(seeds: range) -> None:
    p_values = []
    for seed in seeds:
        found = compared_with_stim(seed, 4_000, 1_000)
        if found is not None:
            assert found > P_MIN, f"seed {seed}: {found}"
            p_values.append(found)
    assert len(p_values) > len(seeds) / 2, "most programs have something random in them"
    assert kstest(p_values, "uniform").pvalue > P_MIN_OF_ALL


def test_shots_are_distributed_as_those_of_stim_on_its_own() -> None:
    """120 programs, a third of them without noise, 1,000 shots of Stim each."""
    check_against_stim(range(120))


@pytest.mark.slow
def test_shots_of_thousands_of_programs_are_distributed_as_those_of_stim_on_its_own() -> None:
    check_against_stim(range(200_000, 202_000))


def test_unlike_samples_are_noticed() -> None:
    rng = np.random.default_rng(1)
    one = rng.integers(0, 2, (4000, 20), dtype=np.uint8)
    two = rng.integers(0, 2, (1000, 20), dtype=np.uint8)
    alike = two_samples(one, two, 3)
    assert alike is not None
    assert alike > 0.001
    two[:, 3] = two[:, 4]
    unlike = two_samples(one[:, 3:5], two[:, 3:5], 3)
    assert unlike is not None
    assert unlike < P_MIN
    assert two_samples(np.zeros((9, 2), np.uint8), np.zeros((5, 2), np.uint8), 0) is None


# --- against the exact distribution ---------------------------------------------------------------


def p_values(raw: bytes, seed: int, shots: int, every: bool = False) -> dict[str, float]:
    """By engine: all that can, or only the choice among all."""
    verified = verify_bytes(raw)
    assert isinstance(verified, VerifiedProgram)
    prepared = run.prepare(raw)
    able = capable(prepared, IDEAL)
    exact = distribution(verified).probabilities
    found = {}
    for engine in able if every else able[-1:]:
        report, _ = run.run_segment(prepared, seed, 0, shots, engine)
        assert report.counts is not None
        found[engine] = g_test(report.counts, exact)
    return found


@pytest.mark.parametrize("name", names())
def test_examples_are_distributed_as_the_reference_says(name: str) -> None:
    for seed, shots in ((20_240_229, 20_000), (17, 20_000)):
        found = p_values(load(name), seed, shots)
        assert min(found.values()) > P_MIN, found


def shaped(seed: int, shape: Shape) -> bytes:
    return json.dumps(shaped_program(random.Random(seed), shape)).encode()


MAGIC: Final = Shape(magic=True)
ANGLES: Final = Shape(qubits_max=6, magic=True, angles=True)


@pytest.mark.parametrize("shape", [Shape(), MAGIC, ANGLES], ids=["clifford", "magic", "angles"])
def test_large_random_programs_are_distributed_as_the_reference_says(shape: Shape) -> None:
    """Hypothesis likes small programs; these use the room that their shape gives."""
    for seed in range(110):
        found = p_values(shaped(seed, shape), seed, 4000)
        assert min(found.values()) > P_MIN, (seed, found)


@settings(
    max_examples=330,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    chance=st.randoms(use_true_random=False),
    shape=st.sampled_from((Shape(), MAGIC, ANGLES)),
    seed=st.integers(0, 2**64 - 1),
)
def test_random_programs_are_distributed_as_the_reference_says(
    chance: random.Random, shape: Shape, seed: int
) -> None:
    """Derandomized, so a fixed set of programs; a failing one is shrunk before it is shown."""
    graph = shaped_program(chance, shape)
    found = p_values(json.dumps(graph).encode(), seed, 4000)
    assert min(found.values()) > P_MIN, (found, json.dumps(graph))


@pytest.mark.slow
def test_thousands_of_random_programs_are_distributed_as_the_reference_says() -> None:
    for seed in range(10_000, 15_001):
        shape = (Shape(), MAGIC, ANGLES)[seed % 3]
        found = p_values(shaped(seed, shape), seed, 4000, every=True)
        assert min(found.values()) > P_MIN, (seed, found)


def test_a_wrong_distribution_is_noticed() -> None:
    exact = {"0": 0.5, "1": 0.5}
    assert g_test({"0": 5000, "1": 5000}, exact) > 0.9
    assert g_test({"0": 5400, "1": 4600}, exact) < P_MIN
    assert g_test({"0": 9999, "-": 1}, exact) == 0.0
