"""Half a minute of soak: everything is answered as it must be, and nothing is left behind."""

from __future__ import annotations

import pytest

from tests.soak import load
from tests.soak.picture import drawn
from tests.soak.soak import soak


@pytest.mark.slow
def test_half_a_minute_of_mixed_load_is_answered_rightly_and_leaves_nothing_behind() -> None:
    soaked = soak(30.0, window_s=2.0, warm_s=4.0, fill=256)
    assert soaked.wrong == []
    assert soaked.done.turns.keys() >= load.TURNS.keys() | {"strange"}
    assert {each.unit for each in soaked.judged} == {"B", "", "x"}
    assert len(drawn(soaked).axes) == 4
