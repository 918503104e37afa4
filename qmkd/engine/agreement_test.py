"""The engines against each other, bit for bit, and against the exact distribution.

Tableau, frames and dense share `chance.py` and the lowered steps and nothing else; the reference
interpreter shares neither. Programs come from seeds, so a failure names the seed that replays it.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from qmkd.engine import choose, dense, frames, run, tableau
from qmkd.engine.layout import pack_rows
from qmkd.engine.noise import IDEAL, NoiseModel, PauliChannel
from qmkd.engine.prepared import Prepared, Rows
from qvm.examples import load, names
from qvm.program import Step, VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.reference import distribution
from qvm.verify import verify_bytes

P_MIN = 1e-6
CELL_MIN = 5.0  # expected shots below which cells are thrown together
Engine = Callable[..., Rows]


class Depolarizing(msgspec.Struct, frozen=True):
    """Every Pauli but the identity, equally likely, after each operation; resets and fences too."""

    rate: float
    flip: float
    ideal: bool = False

    def before(self, step: Step) -> tuple[PauliChannel, ...]:
        if not step.op.startswith("MEASURE"):
            return ()
        return tuple(PauliChannel((qubit,), (("X", self.rate),)) for qubit in step.qubits)

    def after(self, step: Step) -> tuple[PauliChannel, ...]:
        if not 1 <= len(step.qubits) <= 2 or step.op in ("ALLOC_LQ", "FREE_LQ"):
            return ()
        letters = list(map("".join, itertools.product("IXYZ", repeat=len(step.qubits))))[1:]
        rate = self.rate / len(letters)
        return (PauliChannel(step.qubits, tuple((each, rate) for each in letters)),)

    def flips(self, step: Step) -> float:
        return self.flip


def program(seed: int, shape: Shape) -> bytes:
    return json.dumps(shaped_program(random.Random(seed), shape)).encode()


def rows_of(
    engine: Engine, program: Prepared, seed: int, shots: int, noise: NoiseModel = IDEAL
) -> Rows:
    return engine(program, seed, 0, shots, noise, lambda: False)


def check_alike(raw: bytes, seed: int, shots: int, noise: NoiseModel, engines: list[Engine]) -> int:
    """Every engine gives the same rows; returns the most groups that frames had."""
    prepared = run.prepare(raw)
    first = rows_of(engines[0], prepared, seed, shots, noise)
    groups = 1
    for engine in engines[1:]:
        rows = rows_of(engine, prepared, seed, shots, noise)
        groups = max(groups, prepared.notes.get("groups_peak", 1))
        assert np.array_equal(rows, first), f"seed {seed}: {engine.__module__}"
    return groups


NARROW = Shape(channels=True)
TALL = Shape(qubits_max=5, nodes_max=160, branchings_max=60, guards=0.5, channels=True)
WIDE = Shape(qubits_max=70, nodes_max=300, branchings_max=120, guards=0.2, channels=True)


def test_all_engines_give_the_same_bits_on_random_clifford_programs() -> None:
    engines: list[Engine] = [tableau.run, frames.run, dense.run]
    groups = 1
    for seed in range(300):
        groups = max(groups, check_alike(program(seed, NARROW), seed, 70, IDEAL, engines))
    assert groups > 8, "groups were split"


def test_all_engines_give_the_same_bits_on_long_programs_full_of_guards() -> None:
    engines: list[Engine] = [tableau.run, frames.run, dense.run]
    for seed in range(60):
        check_alike(program(seed, TALL), seed, 130, IDEAL, engines)


def test_frames_and_tableau_give_the_same_bits_on_programs_too_wide_for_vectors() -> None:
    for seed in range(40):
        check_alike(program(seed, WIDE), seed, 70, IDEAL, [tableau.run, frames.run])


@pytest.mark.parametrize("noise", [IDEAL, Depolarizing(0.05, 0.03)])
def test_measuring_the_last_qubits_together_gives_the_bits_of_one_by_one(
    monkeypatch: pytest.MonkeyPatch, noise: NoiseModel
) -> None:
    for seed in range(60):
        prepared = run.prepare(with_measured_end(program(seed, NARROW)))
        monkeypatch.setattr(frames, "LAST_SLOTS_MAX", 2048)
        monkeypatch.setattr(frames, "LAST_SHOTS_LEAST", 0)
        together = rows_of(frames.run, prepared, seed, 130, noise)
        monkeypatch.setattr(frames, "LAST_SLOTS_MAX", 0)
        assert np.array_equal(rows_of(frames.run, prepared, seed, 130, noise), together), seed


def with_measured_end(raw: bytes) -> bytes:
    """The same, but every qubit that is left at the end is measured there."""
    document = json.loads(raw)
    nodes, resources = document["program"]["nodes"], document["resources"]
    live: dict[str, None] = {}
    for node in nodes:
        for name in node.get("vqs", ()):
            if node["op"] == "FREE_LQ":
                live.pop(name, None)
            elif node["op"] == "ALLOC_LQ":
                live[name] = None
    for name in live:
        event = f"end_{name}"
        resources["events"].append(event)
        nodes.append({"id": event, "op": "MEASURE_Z", "vqs": [name], "produces": [event]})
    return json.dumps(document).encode()


def test_all_engines_apply_the_same_errors() -> None:
    engines: list[Engine] = [tableau.run, frames.run, dense.run]
    for seed in range(60):
        check_alike(program(seed, NARROW), seed, 70, Depolarizing(0.05, 0.03), engines)


@pytest.mark.slow
def test_all_engines_give_the_same_bits_on_thousands_of_programs() -> None:
    engines: list[Engine] = [tableau.run, frames.run, dense.run]
    for seed in range(1000, 6000):
        check_alike(program(seed, NARROW), seed, 70, IDEAL, engines)
        if seed % 5 == 0:
            check_alike(program(seed, TALL), seed, 130, IDEAL, engines)
            check_alike(program(seed, NARROW), seed, 70, Depolarizing(0.05, 0.03), engines)


def test_packed_rows_are_the_rows() -> None:
    for seed in range(30):
        prepared = run.prepare(program(seed, TALL))
        for noise in (IDEAL, Depolarizing(0.05, 0.03)):
            for packer, engine in (
                (tableau.run_packed, tableau.run),
                (frames.run_packed, frames.run),
                (dense.run_packed, dense.run),
            ):
                packed = packer(prepared, seed, 3, 77, noise, lambda: False)
                rows = engine(prepared, seed, 3, 77, noise, lambda: False)
                assert np.array_equal(packed, pack_rows(rows, prepared.lowered.events)), seed


@pytest.mark.parametrize(("engine", "magic"), [(frames, False), (dense, True), (tableau, False)])
def test_rows_do_not_depend_on_where_shots_are_cut(engine: object, magic: bool) -> None:
    work: Engine = engine.run  # type: ignore[attr-defined]
    for seed in range(20):
        prepared = run.prepare(program(seed, Shape(magic=magic, angles=magic)))
        whole = rows_of(work, prepared, seed, 300)
        cuts = [0, 1, 3, 4, 67, 131, 256, 300]
        parts = [
            work(prepared, seed, one, two - one, IDEAL, lambda: False)
            for one, two in itertools.pairwise(cuts)
        ]
        assert np.array_equal(np.concatenate(parts), whole), seed


def test_rows_do_not_depend_on_how_many_shots_an_engine_takes_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = [rows_of(frames.run, run.prepare(program(at, TALL)), at, 500) for at in range(10)]
    narrow = Shape(qubits_max=3, magic=True, angles=True)
    vectors = [rows_of(dense.run, run.prepare(program(at, narrow)), at, 500) for at in range(10)]
    monkeypatch.setattr(frames, "BATCH_SHOTS", 192)
    monkeypatch.setattr(frames, "BATCH_SHOTS_MAX", 192)
    monkeypatch.setattr(frames, "FOLDS_MAX", 2)  # kicks come from a table
    monkeypatch.setattr(frames, "GROUP_BYTES_MAX", 100_000)  # some twenty references
    monkeypatch.setattr(dense, "BATCH_SHOTS", 256)
    monkeypatch.setattr(dense, "STATE_BYTES_MAX", 16 << 3 << 3)  # eight vectors of three qubits
    for at in range(10):
        assert np.array_equal(
            rows_of(frames.run, run.prepare(program(at, TALL)), at, 500), whole[at]
        )
        prepared = run.prepare(program(at, narrow))
        assert np.array_equal(rows_of(dense.run, prepared, at, 500), vectors[at])


def test_noise_strikes_as_often_as_it_says() -> None:
    prepared = run.prepare(load("ghz"))
    rate, shots = 0.2, 20_000
    noise = Depolarizing(0.0, rate)
    rows = rows_of(frames.run, prepared, 5, shots, noise)
    ideal = rows_of(frames.run, prepared, 5, shots)
    wrong = (rows != ideal).sum(axis=0)
    bound = 5 * np.sqrt(shots * rate * (1 - rate))
    assert (abs(wrong - shots * rate) < bound).all()


# --- against the exact distribution -------------------------------------------------------------


def g_test(observed: dict[str, int], exact: dict[str, float]) -> float:
    """p value of the observed counts. Rare cells count together; an impossible one gives 0."""
    shots = sum(observed.values())
    if any(exact.get(key, 0.0) < 1e-12 for key in observed):
        return 0.0
    cells, rare = [], [0.0, 0.0]
    for key, chance in exact.items():
        seen, expected = float(observed.get(key, 0)), shots * chance
        if expected < CELL_MIN:
            rare = [rare[0] + seen, rare[1] + expected]
        else:
            cells.append((seen, expected))
    if rare[1] > 0:
        cells.append((rare[0], rare[1]))
    statistic = 2 * sum(seen * np.log(seen / expected) for seen, expected in cells if seen)
    return float(chi2.sf(statistic, len(cells) - 1)) if len(cells) > 1 else 1.0


def p_value(raw: bytes, seed: int, shots: int, engine: str | None = None) -> float:
    verified = verify_bytes(raw)
    assert isinstance(verified, VerifiedProgram)
    if engine is None:
        plan = choose.plan(verified.summary, shots)
        engine = plan.engine  # type: ignore[union-attr]
    report, _ = run.run_segment(run.prepare(raw), seed, 0, shots, engine)
    assert report.counts is not None
    return g_test(report.counts, distribution(verified).probabilities)


@pytest.mark.parametrize("name", names())
def test_examples_are_distributed_as_the_reference_says(name: str) -> None:
    assert p_value(load(name), 20_240_229, 20_000) > P_MIN
    assert p_value(load(name), 17, 20_000, "dense") > P_MIN


MAGIC = Shape(magic=True)
ANGLES = Shape(qubits_max=6, magic=True, angles=True)


@pytest.mark.parametrize("shape", [Shape(), MAGIC, ANGLES], ids=["clifford", "magic", "angles"])
def test_large_random_programs_are_distributed_as_the_reference_says(shape: Shape) -> None:
    """Hypothesis likes small programs; these use the room that their shape gives."""
    for seed in range(110):
        assert p_value(program(seed, shape), seed, 4000) > P_MIN, f"seed {seed}"


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
    assert p_value(json.dumps(graph).encode(), seed, 4000) > P_MIN, json.dumps(graph)


@pytest.mark.slow
def test_thousands_of_random_programs_are_distributed_as_the_reference_says() -> None:
    for seed in range(10_000, 15_001):
        shape = (Shape(), MAGIC, ANGLES)[seed % 3]
        assert p_value(program(seed, shape), seed, 4000) > P_MIN, f"seed {seed}"


def test_a_wrong_distribution_is_noticed() -> None:
    exact = {"0": 0.5, "1": 0.5}
    assert g_test({"0": 5000, "1": 5000}, exact) > 0.9
    assert g_test({"0": 5400, "1": 4600}, exact) < P_MIN
    assert g_test({"0": 9999, "-": 1}, exact) == 0.0
