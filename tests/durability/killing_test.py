"""Nothing acknowledged is lost when a daemon is killed: a few kills here, many in long runs."""

from __future__ import annotations

import pytest

from tests.durability.killing import Told, kill_often


def check(told: Told) -> None:
    assert told.wrong == []
    assert told.acknowledged > told.kills
    assert told.results_compared > 0


def test_a_few_kills_lose_and_change_nothing() -> None:
    check(kill_often(6, seed=3, durability="power"))


@pytest.mark.slow
def test_five_hundred_kills_lose_and_change_nothing() -> None:
    check(kill_often(500, seed=1, durability="power"))
