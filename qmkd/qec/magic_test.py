"""Closed forms of distillation against enumerated and sampled circuits; cultivation's headlines."""

from __future__ import annotations

import math
from collections import Counter
from functools import reduce
from operator import xor

import pytest

from qmkd.qec import azure, factories, magic

TRIALS = 2_000_000


@pytest.mark.parametrize("p", [0.02, 0.05, 0.1, 0.3])
def test_sampled_distillation_is_within_three_sigma_of_the_closed_form(p: float) -> None:
    accept, error = magic.fifteen_to_one(p)
    found = magic.sample_fifteen_to_one(p, TRIALS, seed=11)
    assert abs(found.accepted - TRIALS * accept) <= 3 * math.sqrt(TRIALS * accept * (1 - accept))
    spread = math.sqrt(found.accepted * error * (1 - error))
    assert abs(found.wrong - found.accepted * error) <= 3 * spread


def test_counted_patterns_of_errors_are_those_of_the_circuit() -> None:
    """All 2^15 sets of Z errors, by what their product does: four checks, one output."""
    masks = [int(mask) for mask in magic.rotations()]
    wrong: Counter[int] = Counter()
    accepted = 0
    for pattern in range(1 << magic.INPUTS):
        errors = [mask for i, mask in enumerate(masks) if pattern >> i & 1]
        product = reduce(xor, errors, 0)
        if product & 0b1111 == 0:
            accepted += 1
            if product:
                wrong[len(errors)] += 1
    assert accepted == 1 << 11
    assert dict(wrong) == magic._UNDETECTED


def test_both_ways_of_writing_the_closed_form_agree() -> None:
    for p in (0.0, 1e-3, 9e-3, 1.1e-2, 0.2, 0.5):
        keep = 1 - 2 * p
        accept, error = magic.fifteen_to_one(p)
        closed = (1 - 15 * keep**7 + 15 * keep**8 - keep**15) / (32 * accept)
        assert error == pytest.approx(magic._undetected(p) / accept, rel=1e-9)
        assert error == pytest.approx(closed, rel=1e-9, abs=1e-14)
        assert accept == pytest.approx((1 + 15 * keep**8) / 16)
    assert magic.fifteen_to_one(1e-6).error == pytest.approx(35e-18, rel=1e-4)


def test_perfect_states_make_a_perfect_state() -> None:
    state = magic._distilled_state(magic.rotations(), 0)
    accept, error = magic._outcome(state)
    assert accept == pytest.approx(1)
    assert error == pytest.approx(0, abs=1e-12)
    assert magic.fifteen_to_one(0.0) == (1.0, 0.0)


def test_chances_beyond_a_half_are_refused() -> None:
    with pytest.raises(ValueError, match="1/2"):
        magic.fifteen_to_one(0.6)


def test_the_published_headlines_of_cultivation_are_in_the_table() -> None:
    """2e-9 at p = 1e-3 with 99 % discarded, 4e-11 at 5e-4: the paper's abstract and table 1."""
    at_3 = [row for row in magic.CULTIVATED if (row.p, row.fault_distance) == (1e-3, 5)]
    good = min(at_3, key=lambda row: abs(row.error - 2e-9))
    assert good.error == pytest.approx(2e-9, rel=0.1)
    assert good.discards / good.shots == pytest.approx(0.99, abs=0.005)
    assert min(row.error for row in magic.CULTIVATED) == pytest.approx(4e-11, rel=0.1)


def test_better_cultivated_states_cost_more() -> None:
    for each in {(row.fault_distance, row.p) for row in magic.CULTIVATED}:
        rows = [row for row in magic.CULTIVATED if (row.fault_distance, row.p) == each]
        assert [row.error for row in rows] == sorted(row.error for row in rows)
        assert [row.volume for row in rows] == sorted((row.volume for row in rows), reverse=True)


def test_cultivation_takes_the_cheapest_row_that_is_good_enough() -> None:
    found = magic.cultivation(8e-4, 1e-6)
    assert found is not None
    assert found.error <= 1e-6
    assert "p=0.001" in found.origin
    assert magic.cultivation(8e-4, 1e-12) is None
    assert magic.cultivation(3e-3, 1e-2) is None


def test_a_distillery_errs_at_least_as_its_states_and_patches_do() -> None:
    patch = azure.SURFACE_GATES.patch(azure.QUBITS["qubit_gate_ns_e3"], 15)
    source = magic.distillery(factories.UNITS[0], patch, 1e-3)
    assert source.error == pytest.approx(magic.fifteen_to_one(1e-3).error + 7.1 * patch.error)
    assert source.qubits == 31 * 2 * 15**2
    assert source.rounds_per_state > 11 * 15
    with pytest.raises(ValueError, match="distil nothing"):
        magic.distillery(
            factories.UNITS[0],
            factories.Patch(distance=3, physical_qubits=18, cycle_ns=1, error=0.01),
            1e-3,
        )
