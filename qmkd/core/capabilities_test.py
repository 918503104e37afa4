"""Rights: what is granted, what is denied, what is found missing."""

from __future__ import annotations

import pytest

from qmkd.core.capabilities import negotiate
from qmkd.core.conftest import Desk
from syscalls.rights import Right
from syscalls.session import NegotiateCaps


@pytest.mark.parametrize("right", Right)
def test_a_right_is_granted_only_where_policy_grants_it(right: Right) -> None:
    assert negotiate([right.value], frozenset({right})) == ([right], [])
    assert negotiate([right.value], frozenset(Right) - {right}) == ([], [right.value])


def test_unknown_names_are_denied_and_nothing_is_said_twice() -> None:
    asked = ["CAP_FLY", "CAP_ALLOC", "", "CAP_ALLOC", "CAP_FLY", "ALLOC"]
    granted, denied = negotiate(asked, frozenset(Right))
    assert granted == [Right.ALLOC]
    assert denied == ["CAP_FLY", "", "ALLOC"]


def test_op_families_are_those_that_both_sides_know(desk: Desk) -> None:
    every = desk.call(NegotiateCaps(requested=[])).op_families
    assert "core/1" in every
    some = desk.call(NegotiateCaps(requested=[], op_families=["measure/1", "core/1", "x/9"]))
    assert some.op_families == ["core/1", "measure/1"]
