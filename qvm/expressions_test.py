"""The assembler's arithmetic against Python's own, and its bounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvm.expressions import DEPTH_MAX, WHOLE_MAX, ExpressionError, Value, evaluate

BINARY = ["+", "-", "*", "//", "%", "/", "<", "<=", "==", "!=", ">", ">="]
ATOMS = st.one_of(
    st.integers(0, 99).map(str),
    st.floats(0, 99, allow_nan=False).map(repr),
    st.sampled_from(["x", "pi"]),
)
ARITHMETIC = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(BINARY[:6]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=12,
)
COMPARED = st.tuples(ARITHMETIC, st.sampled_from(BINARY[6:]), ARITHMETIC).map(" ".join)
NAMES: dict[str, Value] = {"x": 7}


@given(st.one_of(ARITHMETIC, COMPARED))
def test_expression_has_the_value_that_python_gives_it(text: str) -> None:
    try:
        expected: float = eval(text, {"x": 7, "pi": math.pi})
    except (ZeroDivisionError, OverflowError):
        with pytest.raises(ExpressionError):
            evaluate(text, 0, NAMES)
        return
    if abs(expected) > WHOLE_MAX or not math.isfinite(expected):
        return
    try:
        found: Any = evaluate(text, 0, NAMES)
    except ExpressionError as error:
        found, refusal = None, error.message
    if found is None:
        assert "too large" in refusal  # on the way to a smaller result
    else:
        assert found == (expected, len(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 ** 3 ** 2", 512),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("!0 + 1", 2),
        ("1 < 2 && 0 || 0", 0),
        ("0 || 2 && 3", 1),
        ('"a" == "a"', 1),
        ('"a" != "a"', 0),
        ("1e3", 1000.0),
        (".5", 0.5),
    ],
)
def test_hand_made_expression_has_its_value(text: str, value: Any) -> None:
    found, end = evaluate(text, 0, {})
    assert (found, type(found), end) == (value, type(value), len(text))


@pytest.mark.parametrize(("text", "end"), [("1..4", 1), ("x, y", 1), ("x]", 1), ("1 && 2", 6)])
def test_expression_stops_before_what_does_not_belong_to_it(text: str, end: int) -> None:
    assert evaluate(text, 0, NAMES)[1] == end


def test_conjunctions_are_left_to_a_caller_who_wants_them() -> None:
    assert evaluate("1 + 1 && 0", 0, {}, conjunctions=False) == (2, 5)
    assert evaluate("(1 && 0) == 0", 0, {}, conjunctions=False) == (0, 8)


@pytest.mark.parametrize(
    ("text", "column", "sentence"),
    [
        ("1 + nope", 4, "no value is named 'nope'"),
        ("1 / 0", 2, "divides by zero"),
        ("1 +", 3, "a value was expected"),
        ("(1", 2, "closing parenthesis"),
        ("9 ** 9 ** 9", 2, "an exponent of at most"),
        ("9 ** 64", 2, "too large"),
        ("1" * 5000, 0, "too large"),
        ("1e999", 0, "too large"),
        ("(-8) ** 0.5", 5, "not a real number"),
        ('"a" + 1', 4, "text cannot stand"),
        ("(" * 5000, DEPTH_MAX + 1, "nests at most"),
        ("-" * 5000, DEPTH_MAX + 1, "nests at most"),
        ("* 3", 0, "before '*'"),
    ],
)
def test_what_has_no_value_is_refused_where_it_stands(
    text: str, column: int, sentence: str
) -> None:
    with pytest.raises(ExpressionError, match=sentence.replace("*", r"\*")) as caught:
        evaluate(text, 0, NAMES)
    assert caught.value.column == column
