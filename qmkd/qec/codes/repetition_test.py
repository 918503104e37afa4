"""The repetition code protects one basis, and says so."""

from __future__ import annotations

import pytest

from qmkd.qec.circuits import memory
from qmkd.qec.codes.code import CodeError
from qmkd.qec.codes.repetition import repetition


def test_the_basis_that_is_not_protected_is_refused() -> None:
    with pytest.raises(CodeError, match="protects basis Z only, not X"):
        memory(repetition(5), 3, "X")
    with pytest.raises(CodeError, match="protects basis X only, not Z"):
        memory(repetition(5, "X"), 3, "Z")


def test_a_line_of_one_is_refused() -> None:
    with pytest.raises(CodeError, match=r"2\.\.999"):
        repetition(1)
