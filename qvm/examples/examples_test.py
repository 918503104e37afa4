"""Each example is sound, and leaves exactly the record that theory gives it."""

from __future__ import annotations

import json
from itertools import product
from math import cos, pi, sin

import pytest

from qvm import examples
from qvm.program import VerifiedProgram
from qvm.reference import distribution
from qvm.verify import verify_bytes

T_ZERO = cos(pi / 8) ** 2
T_ONE = sin(pi / 8) ** 2

EXPECTED = {
    "adaptive_rounds": {"00-10": 1 / 2, "11-10": 1 / 4, "100-0": 1 / 8, "101-0": 1 / 8},
    "bell": {"00": 1 / 2, "11": 1 / 2},
    "bell_measurement": {f"0123{x}{z}0": 1 / 4 for x, z in product("01", repeat=2)},
    "conditional_correction": {
        f"{coin}0{left}{right}{left ^ right}": 1 / 8
        for coin, left, right in product((0, 1), repeat=3)
    },
    "ghz": {"00000": 1 / 2, "11111": 1 / 2},
    "measurement_bases": {
        "111000": 3 / 8,
        "111001": 3 / 8,
        "111110": 1 / 8,
        "111111": 1 / 8,
    },
    "repetition_code": {f"{a}{b}{a}{b}000": 1 / 4 for a, b in product((0, 1), repeat=2)},
    "reversible_segment": {"010": 1 / 2, "100": 1 / 2},
    "t_injection": {"00": T_ZERO / 2, "01": T_ONE / 2, "10": T_ZERO / 2, "11": T_ONE / 2},
    "teleportation": {f"{x}{z}0": 1 / 4 for x, z in product("01", repeat=2)},
}


def test_every_example_has_its_distribution_written_down() -> None:
    assert set(examples.names()) == set(EXPECTED)


@pytest.mark.parametrize("name", examples.names())
def test_example_is_verified_without_warnings(name: str) -> None:
    program = verify_bytes(examples.load(name))
    assert isinstance(program, VerifiedProgram), program
    assert program.warnings == ()
    assert program.summary.epochs >= 2


@pytest.mark.parametrize("name", examples.names())
def test_example_leaves_the_record_that_theory_gives(name: str) -> None:
    program = verify_bytes(examples.load(name))
    assert isinstance(program, VerifiedProgram)
    assert distribution(program).probabilities == pytest.approx(EXPECTED[name], abs=1e-12)


@pytest.mark.parametrize("name", examples.names())
def test_example_says_what_it_shows(name: str) -> None:
    assert len(json.loads(examples.load(name))["description"]) > 20


def test_asking_for_an_example_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(KeyError, match="teleportation"):
        examples.load("../isa")
