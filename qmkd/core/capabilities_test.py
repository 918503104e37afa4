"""Rights: what is granted, what is denied, what is found missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qmkd.core.conftest import Desk
from qmkd.core.ports import TenantRule
from syscalls.rights import Right
from syscalls.session import NegotiateCaps


def opened(desk: Desk, *requested: str, uid: int = 1) -> tuple[list[str], list[str]]:
    reply = desk.call(NegotiateCaps(requested=list(requested)), uid=uid)
    return reply.granted, reply.denied


@pytest.mark.parametrize("right", Right)
def test_a_right_is_granted_only_where_policy_grants_it(
    right: Right, make_desk: Callable[..., Desk]
) -> None:
    one = TenantRule(name="one", uids=frozenset({1}), grantable=frozenset({right}))
    others = frozenset(Right) - {right}
    two = TenantRule(name="two", uids=frozenset({2}), grantable=others)
    desk = make_desk((one, two))
    assert opened(desk, right.value) == ([right], [])
    assert opened(desk, right.value, uid=2) == ([], [right.value])


def test_unknown_names_are_denied_and_nothing_is_said_twice(desk: Desk) -> None:
    asked = ["CAP_FLY", "CAP_ALLOC", "", "CAP_ALLOC", "CAP_FLY", "ALLOC"]
    granted, denied = opened(desk, *asked)
    assert granted == [Right.ALLOC]
    assert denied == ["CAP_FLY", "", "ALLOC"]


def test_op_families_are_those_that_both_sides_know(desk: Desk) -> None:
    every = desk.call(NegotiateCaps(requested=[])).op_families
    assert "core/1" in every
    some = desk.call(NegotiateCaps(requested=[], op_families=["measure/1", "core/1", "x/9"]))
    assert some.op_families == ["core/1", "measure/1"]
