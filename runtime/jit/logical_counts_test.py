"""Counts by hand; beside `qdk`'s own in `harness/bench/estimate_bench_test.py`."""

from __future__ import annotations

from runtime.jit.angles import ZERO, angle, turn
from runtime.jit.circuit import Circuit, Operation, Register, bit_is
from runtime.jit.logical_counts import logical_counts


def counted(*operations: Operation, width: int = 4) -> tuple[int, ...]:
    circuit = Circuit(
        qubits=(Register("q", width),), bits=(Register("c", width),), operations=operations
    )
    found = logical_counts(circuit)
    return (
        found.num_qubits, found.t_count, found.rotation_count, found.rotation_depth,
        found.ccz_count, found.measurement_count,
    )  # fmt: skip


def rz(qubit: int, radians: float = 0.3) -> Operation:
    return Operation("rz", (qubit,), (angle(radians),))


def test_rotations_stand_in_one_layer_unless_a_chain_joins_them() -> None:
    joined = Operation("cx", (0, 1))
    assert counted(rz(0), rz(1)) == (2, 0, 2, 1, 0, 0)
    assert counted(rz(0), joined, rz(1)) == (2, 0, 2, 2, 0, 0)
    t = Operation("t", (0,))
    assert counted(t, t, joined, rz(0), rz(1)) == (2, 2, 2, 1, 0, 0)
    assert counted(t, rz(0), rz(1)) == (2, 1, 2, 2, 0, 0)


def test_multiples_of_a_quarter_turn_cost_nothing_and_odd_eighths_a_t_gate() -> None:
    turns = [Operation("ry", (0,), (turn(1) / 4 * times,)) for times in range(8)]
    assert counted(*turns) == (1, 4, 0, 0, 0, 0)
    assert counted(Operation("u", (0,), (angle(0.1), ZERO, turn(1) / 4))) == (1, 1, 1, 1, 0, 0)


def test_a_toffoli_is_one_and_a_controlled_swap_too() -> None:
    assert counted(Operation("ccz", (0, 1, 2)), Operation("cswap", (0, 1, 2))) == (3, 0, 0, 0, 2, 0)


def test_conditions_count_as_if_they_held_and_idle_qubits_not_at_all() -> None:
    read = Operation("measure", (3,), (), (0,))
    guarded = Operation("t", (1,), (), (), bit_is(0))
    assert counted(read, guarded, Operation("reset", (1,))) == (2, 1, 0, 0, 0, 1)
