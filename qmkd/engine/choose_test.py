"""Which engine is chosen, and that no plan is one that the engine would refuse."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from qmkd.core.ports import Plan
from qmkd.engine import choose, run
from qmkd.engine.limits import CLIFFORD_QUBITS_MAX, DENSE_QUBITS_MAX
from qvm.examples import load, names
from qvm.program import Summary
from syscalls.errors import ProgramTooWide
from syscalls.results import SHOT_BLOCK

BELL: Summary = run.prepare(load("bell")).summary


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("shots", [1, 2, 3, 1000])
def test_the_chosen_engine_runs_the_program(name: str, shots: int) -> None:
    program = run.prepare(load(name))
    plan = choose.plan(program.summary, shots)
    assert isinstance(plan, Plan)
    report, _ = run.run_segment(program, 1, 0, shots, plan.engine)
    assert report.shots == shots
    assert plan.width == program.summary.peak_logical
    assert min(plan.ns_fixed, plan.ns_per_shot, plan.bytes_peak) > 0


@pytest.mark.parametrize(
    ("clifford", "shots", "engine"),
    [
        (True, 1, choose.TABLEAU),
        (True, choose.TABLEAU_SHOTS_MAX, choose.TABLEAU),
        (True, choose.TABLEAU_SHOTS_MAX + 1, choose.FRAMES),
        (False, 1, choose.DENSE),
        (False, 100_000, choose.DENSE),
    ],
)
def test_the_programs_own_properties_choose(clifford: bool, shots: int, engine: str) -> None:
    plan = choose.plan(msgspec.structs.replace(BELL, clifford=clifford), shots)
    assert isinstance(plan, Plan)
    assert plan.engine == engine


@pytest.mark.parametrize(
    ("clifford", "most"), [(True, CLIFFORD_QUBITS_MAX), (False, DENSE_QUBITS_MAX)]
)
def test_a_program_that_is_too_wide_is_refused_with_the_width_that_fits(
    clifford: bool, most: int
) -> None:
    fits = msgspec.structs.replace(BELL, clifford=clifford, peak_logical=most)
    assert isinstance(choose.plan(fits, 10), Plan)
    wide = choose.plan(msgspec.structs.replace(fits, peak_logical=most + 1), 10)
    assert isinstance(wide, ProgramTooWide)
    assert (wide.width, wide.width_max) == (most + 1, most)


def test_planning_needs_no_numerics() -> None:
    code = (
        "import sys, qmkd.engine.choose, qmkd.engine.messages;"
        "assert not {'numpy', 'stim'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_slices_are_long_enough_for_many_references_and_never_much_too_long() -> None:
    few = msgspec.structs.replace(BELL, pauli_guards=True, branching_guards=0)
    found = choose.plan(few, 100_000)
    assert isinstance(found, Plan)
    assert found.shots_least == SHOT_BLOCK
    for guards in range(1, 40):
        found = choose.plan(msgspec.structs.replace(BELL, branching_guards=guards), 1 << 20)
        assert isinstance(found, Plan)
        least = found.shots_least
        assert least % SHOT_BLOCK == 0
        assert least == SHOT_BLOCK or least * found.ns_per_shot <= choose.SLICE_NS_MOST
    ten = msgspec.structs.replace(BELL, branching_guards=10)
    found = choose.plan(ten, 1 << 20)
    assert isinstance(found, Plan)
    assert found.shots_least > 16 * SHOT_BLOCK
