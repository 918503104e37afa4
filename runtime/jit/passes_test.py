from __future__ import annotations

from collections.abc import Sequence

import pytest

from runtime.jit.angles import angle
from runtime.jit.circuit import Circuit, Operation, Register, check
from runtime.jit.lower.synthesis import Unreachable
from runtime.jit.passes import NOTHING, Wishes, passed
from tests import branches

pytest.importorskip("qiskit", reason="rotations are synthesised by Qiskit's library")

TOFFOLIS = [Operation("ccx", (0, 1, 2)), Operation("h", (2,)), Operation("ccx", (0, 1, 2))]
TURNED = [Operation("ry", (q,), (angle(0.3 + q),)) for q in range(3)]


def circuit(operations: Sequence[Operation]) -> Circuit:
    read = [Operation("measure", (q,), (), (q,)) for q in range(3)]
    made = Circuit(
        qubits=(Register("q", 3),),
        bits=(Register("c", 3),),
        operations=(*operations, *read),
    )
    check(made)
    return made


def test_without_a_wish_nothing_changes() -> None:
    source = circuit([*TURNED, *TOFFOLIS])
    made = passed(source, NOTHING)
    assert made.circuit is source
    assert made.report.before == made.report.after


@pytest.mark.parametrize(("ancillas", "t"), [(0, 14), (1, 8)])
def test_ancillas_are_used_where_they_spare_t_gates(ancillas: int, t: int) -> None:
    made = passed(circuit([*TURNED, *TOFFOLIS]), Wishes(ancillas=ancillas))
    assert made.report.after.t == t
    assert made.report.ands == bool(ancillas)
    assert made.circuit.width == 3 + ancillas


def test_phases_before_measurements_are_left_out_and_their_rotations_not_written() -> None:
    phases = [Operation("u", (q,), (angle(0.3), angle(0.4), angle(0.5))) for q in range(3)]
    report = passed(circuit(phases), Wishes(epsilon=1e-3, optimise=True)).report
    # Of three rotations each, the first finds |0> and the last is measured.
    assert (report.before.rotations, report.between.rotations) == (9, 3)
    assert report.lowered is not None
    assert report.lowered.rotations == 3


def test_ancillas_are_left_where_the_optimiser_does_without() -> None:
    pytest.importorskip("pyzx", reason="an engine of the optimiser")
    source = circuit([TOFFOLIS[0], TOFFOLIS[0]])
    made = passed(source, Wishes(ancillas=2, optimise=True))
    assert (made.report.after.t, made.report.ands, made.circuit.width) == (0, False, 3)


@pytest.mark.parametrize(("optimise", "ancillas"), [(False, 0), (True, 0), (True, 1)])
def test_all_passes_together_measure_the_same_within_their_error(
    optimise: bool, ancillas: int
) -> None:
    source = circuit([*TURNED, *TOFFOLIS, *TURNED])
    made = passed(source, Wishes(epsilon=1e-3, optimise=optimise, ancillas=ancillas, fence_every=9))
    check(made.circuit)
    assert made.report.after.rotations == 0
    assert made.report.lowered is not None
    assert made.report.lowered.error <= 1e-3
    before, after = branches.distribution(source), branches.distribution(made.circuit)
    # States that differ by e in norm give distributions that differ by 2 e in sum at most.
    assert sum(abs(before.get(key, 0) - after.get(key, 0)) for key in {*before, *after}) <= 2e-3


def test_a_precision_that_no_rotation_can_have_is_refused() -> None:
    with pytest.raises(Unreachable):
        passed(circuit(TURNED), Wishes(epsilon=1e-15))
