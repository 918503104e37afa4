"""Sixty-four clients of eight tenants: every result right, nothing of another's seen."""

from __future__ import annotations

import pytest

from tests.tenants.crowd import Told, crowd, jain

FAIR = 0.95


def check(told: Told) -> None:
    assert told.wrong == []
    assert told.jobs > 0
    assert told.pried > 0


def test_a_few_seconds_of_many_clients_give_right_results_and_show_nobody_anothers() -> None:
    check(crowd(clients=16, tenants=4, seconds=4.0, seed=3))


@pytest.mark.slow
def test_two_minutes_of_sixty_four_clients_are_right_private_and_fair() -> None:
    told = crowd(clients=64, tenants=8, seconds=120.0, seed=1)
    check(told)
    assert jain(list(told.shots.values())) >= FAIR
