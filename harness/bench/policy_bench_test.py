"""The cases that a policy is judged by: no leak between training and test, and honest errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.bench.policy_cases import FOLDS_ML, METHODS, Cases, _errors, _Measured, cases
from harness.em.circuits.families import make
from policy.api import CircuitFeatures
from policy.training import splits
from runtime.scheduler.calibrations import Snapshot
from runtime.scheduler.conftest import calibration

MACHINES = 4


@pytest.fixture(scope="module")
def found() -> Cases:
    machines = [
        Snapshot(calibration(f"m{number}", 0.003 * (number + 1))) for number in range(MACHINES)
    ]
    return cases(machines, 1, 24, budgets=2)


@pytest.mark.parametrize("group", ["circuit", "backend", "family"])
def test_no_circuit_and_nothing_of_a_group_is_in_training_and_test(
    found: Cases, group: str
) -> None:
    names: list[str] = getattr(found, group)
    tested = np.zeros(len(names), int)
    for train, test in splits(names, 5, 3, apart=found.circuit):
        for each in (names, found.circuit):
            assert not {each[at] for at in np.flatnonzero(train)} & {
                each[at] for at in np.flatnonzero(test)
            }
        assert train.any()
        tested += test
    assert (tested == 1).all()


def test_a_circuit_has_one_name_wherever_it_runs(found: Cases) -> None:
    """Or the same one would count as unseen on another machine."""
    assert len(set(zip(found.circuit, found.backend, strict=True))) == 2 * len(set(found.circuit))
    assert len(set(found.circuit)) >= FOLDS_ML


def test_cases_are_the_same_from_the_same_seed(found: Cases) -> None:
    machines = [
        Snapshot(calibration(f"m{number}", 0.003 * (number + 1))) for number in range(MACHINES)
    ]
    assert cases(machines, 1, 24, budgets=2).digest == found.digest
    assert cases(machines, 2, 24, budgets=2).digest != found.digest


def test_expected_errors_are_those_of_drawn_values() -> None:
    """Against a hundred thousand drawn values of each method, within five standard errors."""
    shots = 2000
    measured = _Measured(
        task=make("ghz", 1, 4),
        asked=CircuitFeatures(qubits=4, depth=3, gates_1q=1, gates_2q=3, measurements=4),
        place=0, exact=0.9, plain=0.7, scaled=(0.78, 0.58, 0.43), read=0.9,
    )  # fmt: skip
    errors = dict(zip(METHODS, _errors(measured, 0.88, shots), strict=True))
    rng = np.random.Generator(np.random.PCG64(1))
    share = 0.9 * shots
    one, three = (
        rng.normal(value, 1 / math.sqrt(part * share) / 0.9, 100_000)
        for value, part in ((0.78, 0.75), (0.58, 0.25))
    )
    drawn = {
        "none": np.abs(rng.normal(0.7, 1 / math.sqrt(shots), 100_000) - 0.9),
        "zne": np.abs(1.5 * one - 0.5 * three - 0.9),
    }
    for method, found in drawn.items():
        error = 5 * found.std() / math.sqrt(len(found))
        assert errors[method] == pytest.approx(found.mean(), abs=error)
