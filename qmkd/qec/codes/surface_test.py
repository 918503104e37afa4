"""The rotated surface code: counts, distances, and how rectangles of any parity fit."""

from __future__ import annotations

import pytest

from qmkd.qec import noise
from qmkd.qec.circuits import memory
from qmkd.qec.codes.code import CodeError
from qmkd.qec.codes.surface import rectangle, surface
from qvm.profiles import Profile, parse_profile


@pytest.mark.parametrize("distance", range(2, 10))
def test_a_square_patch_has_one_qubit_and_the_footprint_of_its_profile(distance: int) -> None:
    code = surface(distance)
    profile = parse_profile(f"logical:{code.profile}(d={distance})")
    assert isinstance(profile, Profile)
    assert code.footprint.physical == profile.block_physical == 2 * distance**2 - 1
    assert code.k == profile.block == 1


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("width", "height"), [(2, 5), (5, 2), (3, 7), (4, 6), (6, 3)])
@pytest.mark.parametrize("origin", [(0, 0), (1, 0), (3, 4)])
def test_a_rectangle_keeps_z_over_its_width_and_x_over_its_height(
    width: int, height: int, origin: tuple[int, int], turned: bool
) -> None:
    code = rectangle(width, height, *origin, turned)
    faulty = noise.uniform(1e-3)
    # A memory in Z fails by logical X, whose length is the height, unless turned.
    distances = {
        basis: len(noise.apply(memory(code, 3, basis), faulty).shortest_graphlike_error())
        for basis in code.protects
    }
    expected = {"Z": height, "X": width}
    if turned:
        expected = {"Z": width, "X": height}
    assert distances == expected


def test_a_side_of_one_is_refused() -> None:
    with pytest.raises(CodeError, match=r"2\.\.99"):
        surface(1)
