"""Models as files: the same forests, no byte changed, no code in them; and what an engine does."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from policy import rules
from policy.api import BadFeatures
from policy.conftest import METHODS, made_up, question
from policy.engine import Engine, engine_of
from policy.features import NAMES, rows
from policy.forests import check, joined
from policy.models import MAGIC, BadModel, Model, decode, encode, load, save
from policy.signing import sign_model
from runtime.attest.conftest import TestSigner


def test_arrays_predict_what_the_library_predicts() -> None:
    """Against scikit-learn's own forest, bit for bit but for the order of a sum."""
    training = pytest.importorskip("policy.training")
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.Generator(np.random.PCG64(5))
    columns, targets = rng.normal(size=(300, len(NAMES))), rng.normal(size=(300, 3))
    trained = ensemble.ExtraTreesRegressor(n_estimators=12, random_state=1).fit(columns, targets)
    forest = training.flat(trained)
    check(forest, len(NAMES))
    asked = rng.normal(size=(500, len(NAMES)))
    assert np.allclose(forest.predict(asked), trained.predict(asked), rtol=1e-12, atol=1e-12)
    assert np.array_equal(forest.predict(asked)[:1], forest.predict(asked[:1]))
    both = joined(forest, forest).predict(asked)
    assert np.allclose(both, np.hstack([forest.predict(asked)] * 2), rtol=1e-12, atol=1e-12)


def test_no_group_is_in_training_and_test_and_each_is_tested_once() -> None:
    training = pytest.importorskip("policy.training")
    groups = [f"g{number % 17}" for number in range(200)]
    tested: list[str] = []
    for train, test in training.splits(groups, 5, 1):
        inside = {groups[at] for at in np.flatnonzero(train)}
        outside = {groups[at] for at in np.flatnonzero(test)}
        assert not inside & outside
        assert (train ^ test).all()
        tested += sorted(outside)
    assert sorted(tested) == sorted(set(groups))
    with pytest.raises(ValueError, match="one group"):
        next(training.splits(["a"] * 5, 2, 1))


def test_a_family_is_no_feature() -> None:
    asked = question()
    other = msgspec.structs.replace(
        asked, circuit=msgspec.structs.replace(asked.circuit, family="another")
    )
    assert np.array_equal(rows([asked]), rows([other]))


def test_training_is_the_same_from_the_same_seed(model: Model) -> None:
    training = pytest.importorskip("policy.training")
    asked, errors, groups = made_up(400, 1)
    again = training.fit(asked, errors, METHODS, groups, seed=1, data="of the test", trees=24)
    assert encode(again) == encode(model)


def test_a_model_is_read_as_it_was_written(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "policy.model"
    manifest = save(model, path)
    read = load(path)
    assert read.digest == manifest.sha256
    assert load(path, manifest.sha256).digest == manifest.sha256
    asked = [question(gates) for gates in (5, 50, 100)]
    advice = Engine(read).recommend(asked)
    told = [msgspec.structs.replace(each, source="") for each in Engine(model).recommend(asked)]
    assert [msgspec.structs.replace(each, source="") for each in advice] == told
    assert advice[0].source == f"model:{manifest.sha256}"


def test_a_model_with_one_byte_changed_is_refused_and_the_rules_answer(
    model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "policy.model"
    save(model, path)
    whole = path.read_bytes()
    for at in [0, len(MAGIC), len(MAGIC) + 3, 40, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:at] + bytes((whole[at] ^ 4,)) + whole[at + 1 :])
        with pytest.raises(BadModel, match="not those that were written"):
            load(path)
        engine = engine_of(path)
        (advice,) = engine.recommend([question()])
        assert advice.abstained
        assert advice.source == rules.INSTEAD
        assert "not those that were written" in advice.because[-1]
        assert advice.method == rules.advise(question()).method
    path.write_bytes(whole)
    assert engine_of(path).trouble == ""
    with pytest.raises(BadModel, match="not those"):
        load(path, "0" * 64)
    path.with_name("policy.model.manifest").unlink()
    with pytest.raises(BadModel, match="no manifest"):
        load(path)


def test_a_model_counts_by_its_signature_where_there_is_a_signer(
    model: Model, tmp_path: Path
) -> None:
    path, signer = tmp_path / "policy.model", TestSigner()
    save(model, path)
    assert "not signed" in engine_of(path, signer=signer).trouble
    sign_model(path, signer)
    assert engine_of(path, signer=signer).trouble == ""
    signer.rotate("manifest-pqc")
    assert engine_of(path, signer=signer).trouble == ""
    assert "does not hold" in engine_of(path, signer=TestSigner()).trouble
    # Another model under the same name, with a manifest of its own, is none of what was signed.
    other = msgspec.structs.replace(model, ood_one=model.ood_one * 2)
    save(other, path)
    assert "not those that were written" in engine_of(path, signer=signer).trouble


def test_bytes_that_lie_about_themselves_are_no_model(model: Model) -> None:
    """Also where whoever changed them could change the digest."""
    whole = encode(model)
    for bad in (
        b"",
        whole[:-1],
        whole + b"\0",
        b"x" + whole[1:],
        whole.replace(b"int32", b"int33", 1),
    ):
        with pytest.raises((ValueError, KeyError)):
            decode(bad, "")
    forest = model.regressor
    for change in (
        {"left": np.full_like(forest.left, len(forest.left))},
        {"left": np.zeros_like(forest.left)},
        {"feature": np.full_like(forest.feature, 99)},
        {"value": np.full_like(forest.value, np.nan)},
        {"roots": np.array([-1], np.int32)},
    ):
        broken = msgspec.structs.replace(model, regressor=forest._replace(**change))
        with pytest.raises(ValueError, match=r".+"):
            decode(encode(broken), "")


def test_the_model_is_followed_where_it_knows_and_not_where_it_does_not(model: Model) -> None:
    engine = Engine(model)
    (known,) = engine.recommend([question(80, 2000, 0.015)])
    assert known.method == "ml-qem"
    assert not known.abstained
    assert known.ood is not None
    assert known.ood < 1.5
    strange = question(4000, 100, 0.3, calibration_age_s=1e9)
    (far,) = engine.recommend([strange])
    assert far.abstained
    assert far.ood is not None
    assert far.ood > 1.5
    assert far.method == rules.advise(strange).method
    assert "unlike" in far.because[0]
    with pytest.raises(BadFeatures):
        engine.recommend([question(error_2q=float("nan"))])


def test_the_model_beats_every_fixed_choice_on_circuits_it_has_not_seen(model: Model) -> None:
    asked, errors, _ = made_up(300, 2)
    advice = Engine(model).recommend(asked)
    got = np.mean([e[METHODS.index(a.method)] for e, a in zip(errors, advice, strict=True)])
    assert got < errors.mean(axis=0).min()
    assert got / errors.min(axis=1).mean() < 1.1
    low = np.array([1 - 2 * (1 - a.fidelity_low) / 2 for a in advice])
    true = np.array(
        [1 - e[METHODS.index(a.method)] / 2 for e, a in zip(errors, advice, strict=True)]
    )
    # Nineteen of twenty, less five standard errors of a share of 300.
    assert (true >= low).mean() > 0.95 - 5 * np.sqrt(0.95 * 0.05 / 300)


def test_an_explanation_names_what_drove_the_choice(model: Model) -> None:
    drivers = Engine(model).explain(question(115, 2000, 0.019))
    assert drivers
    sizes = [abs(each.effect) for each in drivers]
    assert sizes == sorted(sizes, reverse=True)
    # The law of the training is in gates times their error: what says so leads.
    strength = {"log_gates_2q", "gates_2q_per_qubit", "log_error_2q", "exponent", "log_gates_1q"}
    strength |= {"bias_in_standard_errors", "log_error_1q", "log_depth"}
    strength |= {name for name in NAMES if name.startswith("rules_error")}
    assert drivers[0].feature in strength
    assert Engine().explain(question()) == ()


def test_no_method_is_offered_that_takes_more_circuits_than_are_allowed(model: Model) -> None:
    for most in (1, 2, 3, 5):
        plain = question(115)
        budget = msgspec.structs.replace(plain.budget, circuits_max=most)
        (advice,) = Engine(model).recommend([msgspec.structs.replace(plain, budget=budget)])
        assert all(each.circuits <= most for each in advice.alternatives)
        assert any(each.method == "ml-qem" for each in advice.alternatives) == (most >= 3)
