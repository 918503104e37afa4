"""Bacon-Shor codes: footprint, distance by ancillas and by pairs."""

from __future__ import annotations

import pytest

from qmkd.qec.codes.bacon_shor import bacon_shor
from qmkd.qec.codes.code import CodeError
from qvm.profiles import Profile, parse_profile


@pytest.mark.parametrize("distance", range(2, 10))
def test_the_code_with_ancillas_has_the_footprint_of_its_profile(distance: int) -> None:
    code = bacon_shor(distance)
    profile = parse_profile(f"logical:{code.profile}(d={distance})")
    assert isinstance(profile, Profile)
    assert code.footprint.physical == profile.block_physical
    assert code.k == profile.block == 1


def test_pair_measurements_need_no_ancillas_and_four_layers() -> None:
    code = bacon_shor(5, pairs=True)
    assert code.footprint.physical == 25
    assert len(code.cycle) == 4
    assert code.circuit_distance == 3


def test_a_side_of_one_is_refused() -> None:
    with pytest.raises(CodeError, match=r"2\.\.99"):
        bacon_shor(1)
