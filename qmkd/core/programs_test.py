"""Programs found again by their bytes."""

from __future__ import annotations

import pytest

from qmkd.core import programs
from qmkd.core.conftest import Desk, bell
from qmkd.core.limits import INLINE_GRAPH_BYTES_MAX
from syscalls.job import Submitted

LARGE = INLINE_GRAPH_BYTES_MAX


def number_of(desk: Desk, session: str, graph: bytes, uid: int = 1) -> int:
    name = desk.submit(session, graph, uid=uid)  # type: ignore[arg-type]
    number = desk.state.jobs[name].program.number
    desk.run_all()
    return number


def test_the_same_bytes_are_the_same_program_and_other_bytes_another(desk: Desk) -> None:
    session = desk.open()
    first = number_of(desk, session, bell())
    assert number_of(desk, session, bell()) == first
    assert number_of(desk, session, bell(1)) != first


def test_graphs_alike_in_length_beginning_and_end_are_told_apart(desk: Desk) -> None:
    session = desk.open()
    one = bell()
    other = one.replace(b"APPLY_H", b"APPLY_X")
    assert programs.key_of(one) == programs.key_of(other)
    numbers = [number_of(desk, session, graph) for graph in (one, other, one)]
    assert len(set(numbers)) == 3, "the later one takes the earlier one's place"


def test_a_large_program_seen_before_is_not_verified_again(desk: Desk) -> None:
    session = desk.open()
    assert desk.try_submit(session, bell(LARGE)) is None
    desk.run_all()
    assert isinstance(desk.try_submit(session, bell(LARGE)), Submitted)


def test_one_tenant_cannot_tell_what_another_has_submitted(desk: Desk) -> None:
    alice, bob = desk.open(), desk.open(uid=2)
    assert desk.try_submit(alice, bell(LARGE)) is None
    desk.run_all()
    assert desk.try_submit(bob, bell(LARGE), uid=2) is None, "verified anew"


def test_a_refused_submission_leaves_no_program(desk: Desk) -> None:
    session = desk.open()
    desk.try_submit(session, bell(), deadline_epochs=1)
    assert not desk.state.tenants["alice"].programs


def test_the_least_recently_used_program_goes_first(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("qmkd.core.programs", "tests.simulation.invariants"):
        monkeypatch.setattr(f"{room}.PROGRAMS_CACHED_MAX", 2)
    session = desk.open()
    first = number_of(desk, session, bell())
    second = number_of(desk, session, bell(1))
    assert number_of(desk, session, bell()) == first
    number_of(desk, session, bell(2))
    assert number_of(desk, session, bell()) == first
    assert number_of(desk, session, bell(1)) != second


def test_cached_programs_are_bounded_in_bytes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("qmkd.core.programs", "tests.simulation.invariants"):
        monkeypatch.setattr(f"{room}.PROGRAM_BYTES_CACHED_MAX", 2 * len(bell()))
    session = desk.open()
    for padding in range(5):
        number_of(desk, session, bell(padding))
    assert desk.state.tenants["alice"].program_bytes <= 2 * len(bell())
