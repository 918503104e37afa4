from __future__ import annotations

import math

from runtime.jit.angles import angle, turn
from runtime.jit.circuit import Operation, bit_is
from runtime.jit.costs import Counts, counts


def test_counts_of_a_small_circuit_are_those_counted_by_hand() -> None:
    found = counts([
        Operation("h", (0,)),
        Operation("t", (0,)),
        Operation("rz", (1,), (angle(0.3),)),
        Operation("rz", (1,), (turn(3) / 4,)),
        Operation("rz", (2,), (turn(1) / 2,)),
        Operation("cx", (0, 1)),
        Operation("swap", (1, 2)),
    ])  # fmt: skip
    assert found == Counts(t=2, rotations=1, two_qubit=2, depth=4, t_depth=2, gates=7)


def test_a_condition_waits_for_the_measurement_that_it_reads() -> None:
    measured = Operation("measure", (0,), (), (0,))
    free, held = Operation("t", (1,)), Operation("t", (1,), (), (), bit_is(0))
    assert (counts([measured, free]).depth, counts([measured, held]).depth) == (1, 2)


def test_a_barrier_over_everything_lets_no_depth_pass_and_has_none() -> None:
    one, other = Operation("h", (0,)), Operation("h", (1,))
    assert counts([one, other]).depth == 1
    assert counts([one, Operation("barrier"), other]).depth == 2
    assert counts([one, Operation("barrier", (1,)), other]).depth == 1


def test_a_rotation_weighs_what_its_share_of_the_error_asks_for() -> None:
    four = counts([Operation("rz", (q,), (angle(0.3),)) for q in range(4)])
    assert four.t_states(1e-6) == 4 * 3 * math.log2(4e6)
    assert counts([Operation("t", (0,))]).t_states(1e-6) == 1
    assert four.key(1e-6) > four.key(1e-3)


def test_nothing_costs_nothing() -> None:
    assert counts([]) == Counts(0, 0, 0, 0, 0, 0)
