"""Forests beside scikit-learn's own, files that were changed, and splits that leak nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from harness.em.backends.physical import Physical
from harness.em.circuits.families import make
from harness.em.learning import training
from harness.em.learning.forest import ModelDamaged, grown, load
from harness.em.learning.training import Example, Split, kind, trained
from harness.em.methods.learned import FEATURES, Learned, corrections
from harness.em.methods.plan import Unplannable
from harness.em.methods.registry import method
from harness.em.running import carried_out

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")


@pytest.fixture(scope="module")
def found() -> list[Example]:
    """A few examples of three families on two machines."""
    backends = training.machines()[:2]
    made = []
    for family in ("ising", "vqe-hea", "qaoa-ring"):
        for seed in range(8):
            task = make(family, seed, 3, 1)
            made += [training.example(task, backend, 1_000, seed) for backend in backends]
    return made


def test_a_forest_of_arrays_predicts_what_scikit_learn_does() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.Generator(np.random.PCG64(1))
    rows, values = rng.standard_normal((200, 5)), rng.standard_normal(200)
    model = ExtraTreesRegressor(20, min_samples_leaf=2, random_state=1).fit(rows, values)
    others = rng.standard_normal((50, 5))
    mean, _ = grown(model, rows, {}).predict(others)
    assert mean == pytest.approx(model.predict(others), abs=1e-12)


def test_a_model_is_read_as_it_was_written_and_no_byte_may_change(
    found: list[Example], tmp_path: Path
) -> None:
    forest = trained(found)
    path = tmp_path / "model.npz"
    assert forest.save(path) == trained(found).digest == load(path).digest
    raw = path.read_bytes()
    rng = np.random.Generator(np.random.PCG64(2))
    for at in [*rng.integers(0, len(raw), 40).tolist(), len(raw) // 2]:
        changed = bytearray(raw)
        changed[at] ^= 1
        path.write_bytes(bytes(changed))
        try:
            assert load(path).digest == forest.digest  # a byte that no array depends on
        except ModelDamaged:
            continue
    with pytest.raises(Unplannable, match="No model"):
        method(f"ml-qem:model={tmp_path / 'none'}")
    with pytest.raises(Unplannable, match="name a model"):
        method("ml-qem")


@pytest.mark.parametrize(
    ("split", "group"),
    [
        (training.by_circuit, lambda e: e.circuit_id),
        (training.by_family, kind),
        (training.by_backend, lambda e: e.backend),
        (training.by_backend, lambda e: e.circuit_id),
        (training.by_family, lambda e: e.circuit_id),
    ],
)
def test_no_group_is_on_both_sides_of_a_split(
    split: Callable[[Sequence[Example]], Iterator[Split]],
    group: Callable[[Example], str],
    found: list[Example],
) -> None:
    # One circuit on one machine each, so that leaving out a machine leaves something to train on.
    alone = [each for at, each in enumerate(found) if at % 4 in (0, 3)]
    tested: list[int] = []
    for train, test in split(alone):
        assert {group(alone[at]) for at in train}.isdisjoint(group(alone[at]) for at in test)
        tested += test
    assert sorted(tested) == list(range(len(alone)))


def test_what_trees_disagree_about_is_not_added(found: list[Example]) -> None:
    forest = trained(found)
    rows = np.array([each.features for each in found])
    mean, scatter = forest.predict(rows)
    added, _ = corrections(forest, rows)
    assert (np.abs(added) <= np.abs(mean)).all()
    assert (added[scatter >= np.abs(mean)] == 0).all()


def test_a_learned_method_runs_counts_its_shots_and_says_where_it_knows_nothing(
    found: list[Example],
) -> None:
    forest = trained(found)
    how = Learned(forest)
    backend = training.machines()[0]
    ran = carried_out(how, make("ising", 3, 3, 1), backend, 1_000, 4)
    assert ran.plan.shots == 1_000
    assert how.reduce(ran.plan, ran.outcomes) == ran.estimate
    far = carried_out(how, make("ising", 3, 6, 8), Physical(6, 9, strength=6), 1_000, 4)
    assert "Outside" in far.estimate.note
    other = msgspec.structs.replace(forest, about={"features": [*FEATURES[1:]]})
    with pytest.raises(Unplannable, match="other features"):
        Learned(other)


@pytest.mark.slow
def test_learning_does_better_than_extrapolation_on_unseen_circuits() -> None:
    many = list(training.examples(training.machines(), range(2000, 2008)))
    left = training.errors(many, training.by_circuit(many))
    base = np.array([each.off for each in many])
    assert np.mean(np.abs(left)) < 0.9 * np.mean(np.abs(base))
