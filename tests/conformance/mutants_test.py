"""Servers with one rule broken are caught, each by the case meant for it.

All of them take about a second and a half each; a sample of them is among the fast tests.
"""

from __future__ import annotations

import pytest

from tests.conformance.cases import cases, requirements
from tests.conformance.catching import catch
from tests.conformance.mutants import GOAL, MUTANTS, Mutant, source_of

SAMPLE = (
    "answers-notifications",
    "keeps-closed-sessions",
    "grants-everything",
    "shows-others-jobs",
    "counts-one-too-many",
    "uses-after-free",
    "turns-T-backwards",
    "tells-nobody-of-the-end",
)
OTHERS = [mutant for name, mutant in MUTANTS.items() if name not in SAMPLE]


def test_there_are_as_many_mutants_as_the_goal() -> None:
    assert len(MUTANTS) >= GOAL


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=list(MUTANTS))
def test_a_mutant_changes_one_place_of_the_source(mutant: Mutant) -> None:
    """Where this fails, the source was rewritten: have the mutant break the same rule anew."""
    assert source_of(mutant.module).count(mutant.old) == 1
    assert mutant.old != mutant.new


def test_every_area_has_a_mutant_and_each_is_meant_for_a_case_that_exists() -> None:
    there = {case.name: case.area for case in cases(requirements())}
    assert {mutant.caught_by for mutant in MUTANTS.values()} <= there.keys()
    assert {there[mutant.caught_by] for mutant in MUTANTS.values()} == set(there.values())


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_of_mutants_is_caught_each_by_its_case(name: str) -> None:
    caught = catch(MUTANTS[name])
    assert caught.caught, caught.why


@pytest.mark.slow
@pytest.mark.parametrize("mutant", OTHERS, ids=lambda mutant: str(mutant.name))
def test_all_mutants_are_caught_each_by_its_case(mutant: Mutant) -> None:
    caught = catch(mutant)
    assert caught.caught, caught.why
