from __future__ import annotations

import pytest

from qvm.profiles import DISTANCE_MAX, Profile, parse_profile


def profile(text: str) -> Profile:
    found = parse_profile(text)
    assert isinstance(found, Profile), found
    return found


@pytest.mark.parametrize(
    ("text", "code", "distance", "block", "block_physical"),
    [
        ("logical:Surface(d=3)", "Surface", 3, 1, 17),
        ("logical:surface_code(d=4)", "Surface", 4, 1, 31),
        ("SURFACE( D = 5 )", "Surface", 5, 1, 49),
        ("logical:SHYPS(d=3)", "SHYPS", 4, 9, 3 * 49),
        ("logical:shyps(d=9)", "SHYPS", 16, 25, 3 * 961),
        ("logical:bacon_shor(d=3)", "BaconShor", 3, 1, 9 + 12),
        ("logical:ideal", "ideal", 0, 1, 1),
        ("logical:Ideal()", "ideal", 0, 1, 1),
    ],
)
def test_a_profile_has_its_codes_published_size(
    text: str, code: str, distance: int, block: int, block_physical: int
) -> None:
    found = profile(text)
    assert (found.code, found.distance, found.block, found.block_physical) == (
        code, distance, block, block_physical,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "", "logical:", "logical:Steane(d=3)", "logical:Surface", "logical:Surface(d=1)",
        f"logical:Surface(d={DISTANCE_MAX + 1})", "logical:Surface(d=3,d=3)", "logical:SHYPS(d=17)",
        "logical:Surface(d=\uff13)", "logical:Surface(d=-3)", "logical:Surface(x=3)", "x" * 10_000,
        "logical:ideal(d=3)", "logical:Surface(d=3))", "logical:Surface(d=" + "9" * 40 + ")",
    ],
)  # fmt: skip
def test_what_is_no_profile_is_refused_with_a_sentence(text: str) -> None:
    answer = parse_profile(text)
    assert isinstance(answer, str)
    assert len(answer) < 200


def test_qubits_come_in_whole_blocks() -> None:
    shyps = profile("logical:SHYPS(d=4)")
    assert [shyps.physical(logical) for logical in (0, 1, 9, 10)] == [0, 147, 147, 294]
