"""LLVM's integers beside NumPy's of eight bits, which are cut and signed by other code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.frontends.llvm_arithmetic import CASTS, COMPARE, FLOAT, INTEGER, signed

WIDTH = 8
bytes_ = st.integers(0, 255)


def unsigned(function: Callable[[Any, Any], Any]) -> Callable[[int, int], int]:
    return lambda a, b: int(function(np.uint8(a), np.uint8(b)))


def as_signed(function: Callable[[Any, Any], Any]) -> Callable[[int, int], int]:
    return lambda a, b: int(function(np.uint8(a).view(np.int8), np.uint8(b).view(np.int8)))


NUMPY = {
    "ADD": unsigned(np.add), "SUB": unsigned(np.subtract), "MUL": unsigned(np.multiply),
    "AND": unsigned(np.bitwise_and), "OR": unsigned(np.bitwise_or),
    "XOR": unsigned(np.bitwise_xor), "SHL": unsigned(np.left_shift),
    "LSHR": unsigned(np.right_shift), "ASHR": as_signed(np.right_shift),
    "UDIV": unsigned(np.floor_divide), "UREM": unsigned(np.remainder),
    "SDIV": as_signed(lambda a, b: np.trunc(float(a) / float(b))), "SREM": as_signed(np.fmod),
}  # fmt: skip
COMPARED = {
    "EQ": unsigned(np.equal), "NE": unsigned(np.not_equal), "UGT": unsigned(np.greater),
    "UGE": unsigned(np.greater_equal), "ULT": unsigned(np.less), "ULE": unsigned(np.less_equal),
    "SGT": as_signed(np.greater), "SGE": as_signed(np.greater_equal), "SLT": as_signed(np.less),
    "SLE": as_signed(np.less_equal),
}  # fmt: skip


@pytest.mark.parametrize("name", INTEGER)
@settings(max_examples=40, derandomize=True)
@given(a=bytes_, b=bytes_)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_an_integer_operation_is_numpys(name: str, a: int, b: int) -> None:
    found = INTEGER[name](a, b, WIDTH)
    if "DIV" in name or "REM" in name:
        assert (found is None) == (b == 0)
    elif "SH" in name:
        assert (found is None) == (b >= WIDTH)
    if found is not None:
        assert found % 256 == NUMPY[name](a, b) % 256


@pytest.mark.parametrize("name", COMPARE)
@settings(max_examples=40, derandomize=True)
@given(a=bytes_, b=bytes_)
def test_a_comparison_is_numpys(name: str, a: int, b: int) -> None:
    assert COMPARE[name](a, b, WIDTH) == bool(COMPARED[name](a, b))


def test_casts_keep_signs_where_they_should() -> None:
    assert signed(255, 8) == -1
    assert CASTS["SEXT"](255, 8, 16) % (1 << 16) == 0xFFFF
    assert CASTS["ZEXT"](255, 8, 16) == 255
    assert (CASTS["SI_TO_FP"](255, 8, 64), CASTS["UI_TO_FP"](255, 8, 64)) == (-1.0, 255.0)
    assert (CASTS["FP_TO_SI"](-2.7, 64, 8), CASTS["FP_TO_UI"](2.7, 64, 8)) == (-2, 2)
    assert FLOAT["FDIV"](1.0, 0.0) is None


def test_what_no_double_or_integer_holds_is_undefined() -> None:
    assert FLOAT["FMUL"](1e300, 1e300) is None
    assert FLOAT["FREM"](1.0, 0.0) is None
    assert FLOAT["FADD"](float("inf"), -1.0) is None
    assert CASTS["FP_TO_SI"](float("inf"), 64, 8) is None
    assert [CASTS["FP_TO_SI"](a, 64, 8) for a in (127.9, 128.0, -128.9, -129.0)] == [
        127, None, -128, None,
    ]  # fmt: skip
    assert [CASTS["FP_TO_UI"](a, 64, 8) for a in (-0.9, -1.0, 255.9, 256.0)] == [0, None, 255, None]
