from __future__ import annotations

import math
import random

import pytest

from qvm.angles import ANGLE_CHARS_MAX, ANGLE_DEPTH_MAX, angle_radians, parse_angle


@pytest.mark.parametrize(
    ("text", "radians"),
    [
        ("pi", math.pi),
        ("π/2", math.pi / 2),
        ("-3*pi/4", -3 * math.pi / 4),
        (" 1 - 2 - 3 ", -4.0),
        ("8/4/2", 1.0),
        ("2*-pi", -2 * math.pi),
        ("--1", 1.0),
        ("1.5e-3*(pi + .5)", 1.5e-3 * (math.pi + 0.5)),
        ("1.", 1.0),
        ("(" * ANGLE_DEPTH_MAX + "1" + ")" * ANGLE_DEPTH_MAX, 1.0),
    ],
)
def test_an_expression_stands_for_its_value(text: str, radians: float) -> None:
    assert parse_angle(text) == radians


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "2pi", "pie", "pi2", "1 2", "(1", "1)", "()", "1+", "*1", "1/0", "0*1e999",
        "1e400", "nan", "inf", "1_0", "0x10", "1,5",
        "\uff12", "1//2", "2**3", "__import__('os')", "pi()", "1\n",
        "\ud800", "(" * (ANGLE_DEPTH_MAX + 1) + "1" + ")" * (ANGLE_DEPTH_MAX + 1),
        "1" + "+1" * (ANGLE_CHARS_MAX // 2),
    ],
)  # fmt: skip
def test_what_is_no_finite_expression_is_refused_with_a_sentence(text: str) -> None:
    answer = parse_angle(text)
    assert isinstance(answer, str)
    assert answer


@pytest.mark.parametrize("value", [None, True, [], {}, math.nan, math.inf, 10**400, b"pi"])
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    assert isinstance(angle_radians(value), str)


def test_a_number_stands_for_itself() -> None:
    assert angle_radians(2) == 2.0
    assert angle_radians(-0.25) == -0.25


def test_random_expressions_have_the_value_that_python_gives_them() -> None:
    rng = random.Random(7)

    def make(depth: int) -> str:
        if depth == 0 or rng.random() < 0.3:
            return rng.choice(("pi", "1", "2.5", "3e-1", "0.125"))
        left, right = make(depth - 1), make(depth - 1)
        text = f"{left}{rng.choice('+-*/')}{right}"
        return rng.choice((text, f"({text})", f"-({text})"))

    compared = 0
    for _ in range(3000):
        text = make(3)
        if len(text) <= ANGLE_CHARS_MAX:
            try:
                expected = eval(text, {"pi": math.pi})
            except ZeroDivisionError:
                assert isinstance(parse_angle(text), str)
                continue
            assert parse_angle(text) == expected, text
            compared += 1
    assert compared > 2000
