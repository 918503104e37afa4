"""Our counts and closed form beside `qdk`, on the same OpenQASM programs, from the table."""

from __future__ import annotations

from functools import cache

import pytest

from harness.bench.estimate_bench import Compared, compared, table

pytest.importorskip("openqasm3", reason="reads the programs")


@cache
def answers() -> list[Compared]:
    return list(compared())


def test_programs_without_decisions_are_counted_and_estimated_as_qdk_does() -> None:
    found = answers()
    plain = [one for one in found if not one.decides]
    assert len(plain) >= 30
    for one in plain:
        assert one.same, (one.name, one.counts, one.theirs)
        assert one.estimates[0] == one.estimates[2], one.name


def test_the_closed_form_is_qdks_on_its_own_counts_of_every_program() -> None:
    for one in answers():
        assert one.estimates[1] == one.estimates[2], one.name


def test_a_program_with_decisions_counts_as_if_every_condition_held() -> None:
    odd = [one for one in answers() if not one.same]
    assert {one.name for one in odd} == {"repeat_until_success.qasm", "dynamic_qft(4)", "iqpe(4)"}
    for one in odd:
        assert one.decides
        assert all(one.counts.get(key, 0) >= number for key, number in one.theirs.items())


def test_every_example_of_ours_has_an_answer() -> None:
    names = {row["name"] for row in table() if "refused" not in row["answer"]}
    assert {"grover.qasm", "shor15.qasm", "vqe_h2.qasm", "phase_estimation.qasm"} <= names
