"""Which engine is chosen for which part, and that no plan promises what its figures do not hold."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys

import msgspec
import pytest

from qmkd.core import ports
from qmkd.core.ports import Plan
from qmkd.engine import choose, engines
from qmkd.engine.choose import DENSE, EXACT, FRAMES, GROUPS, MAGIC, TABLEAU
from qmkd.engine.limits import (
    CLIFFORD_QUBITS_MAX,
    DENSE_QUBITS_MAX,
    EXACT_QUBITS_MAX,
    GROUPS_QUBITS_MAX,
    MAGIC_QUBITS_MAX,
    MAGIC_TURNS_MAX,
    MAGIC_WIDTH_MAX,
)
from qvm.examples import load, names
from qvm.isa import NODES_MAX, QUBITS_MAX
from qvm.parts import Alike, Shape
from qvm.program import Summary, VerifiedProgram
from qvm.verify import verify_bytes
from syscalls.errors import ProgramTooWide
from syscalls.job import SHOTS_MAX
from syscalls.plan import FIGURE_MAX, PLAN_ROWS_MAX
from syscalls.results import SHOT_BLOCK

CLIFFORD = Shape(10, 100, 10, 0, 0)
BRANCHING = Shape(10, 100, 10, 0, 5)
TURNING = Shape(10, 100, 10, 5, 5)
FEW_TURNS = Shape(40, 100, 10, 5, 2)


def summary(*parts: Alike) -> Summary:
    """A summary of which only that is true which a planner looks at."""
    verified = verify_bytes(load("bell"))
    assert isinstance(verified, VerifiedProgram)
    shapes = [alike.shape for alike in parts for _ in range(alike.number)]
    return msgspec.structs.replace(
        verified.summary,
        nodes=sum(shape.operations for shape in shapes),
        peak_logical=sum(shape.qubits for shape in shapes),
        clifford=not any(shape.turns for shape in shapes),
        parts=parts,
    )


def planned(parts: Shape | tuple[Alike, ...], shots: int) -> Plan:
    of = (Alike(parts, 1),) if isinstance(parts, Shape) else parts
    found = choose.plan(summary(*of), shots)
    assert isinstance(found, Plan)
    return found


@pytest.mark.parametrize(
    ("shape", "engine"),
    [
        (CLIFFORD, FRAMES),
        (BRANCHING, GROUPS),
        (TURNING, DENSE),
        (CLIFFORD._replace(qubits=CLIFFORD_QUBITS_MAX), FRAMES),
        (CLIFFORD._replace(qubits=CLIFFORD_QUBITS_MAX + 1), None),
        (BRANCHING._replace(qubits=GROUPS_QUBITS_MAX), GROUPS),
        (BRANCHING._replace(qubits=GROUPS_QUBITS_MAX + 1), None),
        (TURNING._replace(qubits=DENSE_QUBITS_MAX, turns=99), DENSE),
        (TURNING._replace(qubits=DENSE_QUBITS_MAX + 1, turns=MAGIC_TURNS_MAX), MAGIC),
        (TURNING._replace(qubits=DENSE_QUBITS_MAX + 1, turns=MAGIC_TURNS_MAX + 1), None),
        (FEW_TURNS, MAGIC),
        (FEW_TURNS._replace(qubits=10), DENSE),
        (FEW_TURNS._replace(qubits=20), MAGIC),
        (FEW_TURNS._replace(qubits=20, turns=20), DENSE),
        (FEW_TURNS._replace(qubits=23, turns=MAGIC_WIDTH_MAX), DENSE),
        (FEW_TURNS._replace(qubits=MAGIC_QUBITS_MAX), MAGIC),
        (FEW_TURNS._replace(qubits=MAGIC_QUBITS_MAX + 1), None),
    ],
)
def test_a_parts_own_shape_picks_its_engine(shape: Shape, engine: str | None) -> None:
    assert choose.pick(shape) == engine


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("shots", [1, 2, 3, 1000])
def test_every_example_is_planned(name: str, shots: int) -> None:
    verified = verify_bytes(load(name))
    assert isinstance(verified, VerifiedProgram)
    plan = choose.plan(verified.summary, shots)
    assert isinstance(plan, Plan)
    assert plan.width == verified.summary.peak_logical
    assert min(plan.ns_fixed, plan.ns_per_shot, plan.bytes_peak) > 0
    parts = sum(alike.number for alike in verified.summary.parts)
    assert sum(row.parts for row in plan.rows) == (1 if plan.engine == TABLEAU else parts)


def test_engines_that_take_part_are_named_in_a_fixed_order() -> None:
    shapes = (CLIFFORD, BRANCHING, TURNING, FEW_TURNS)
    for order in itertools.permutations(shapes):
        plan = planned(tuple(Alike(shape, 2) for shape in order), 1000)
        assert plan.engine == f"{FRAMES}+{GROUPS}+{DENSE}+{MAGIC}"
        parts = {row.engine: row.parts for row in plan.rows}
        assert parts == {FRAMES: 2, GROUPS: 2, DENSE: 2, MAGIC: 2}


def test_few_shots_of_a_clifford_program_are_a_tableau_each() -> None:
    most = choose.TABLEAU_SHOTS_MAX
    for shape in (CLIFFORD, BRANCHING):
        assert planned(shape, most).engine == TABLEAU
        assert planned(shape, most + 1).engine == choose.pick(shape)
    assert planned(TURNING, 1).engine == DENSE


def test_many_narrow_parts_run_where_one_tableau_of_all_would_not_fit() -> None:
    plan = planned((Alike(Shape(2, 5, 2, 0, 0), QUBITS_MAX // 2),), 1)
    assert plan.engine == FRAMES


def test_a_part_too_wide_for_groups_runs_shot_by_shot_if_all_the_program_is_clifford() -> None:
    wide = BRANCHING._replace(qubits=GROUPS_QUBITS_MAX + 1)
    assert planned(wide, 1000).engine == TABLEAU
    beside_turns = summary(Alike(wide, 1), Alike(TURNING, 1))
    assert isinstance(choose.plan(beside_turns, 1000), ProgramTooWide)


def test_a_program_in_which_nothing_happens_runs() -> None:
    assert planned((), 10).engine == FRAMES


@pytest.mark.parametrize(
    ("shape", "most", "told"),
    [
        (CLIFFORD._replace(qubits=QUBITS_MAX), CLIFFORD_QUBITS_MAX, "4769 MiB"),
        (BRANCHING._replace(qubits=QUBITS_MAX), GROUPS_QUBITS_MAX, "for each history"),
        (
            TURNING._replace(qubits=30, turns=MAGIC_TURNS_MAX + 1),
            DENSE_QUBITS_MAX,
            "2^30 amplitudes, 16 GiB",
        ),
        (TURNING._replace(qubits=QUBITS_MAX), DENSE_QUBITS_MAX, "2^100004 bytes"),
    ],
)
def test_a_part_that_is_too_wide_is_refused_with_its_width_the_limit_and_the_memory(
    shape: Shape, most: int, told: str
) -> None:
    refused = choose.plan(summary(Alike(CLIFFORD, 3), Alike(shape, 1)), 10)
    assert isinstance(refused, ProgramTooWide)
    assert (refused.width, refused.width_max) == (shape.qubits, most)
    assert told in refused.sentence()


@pytest.mark.parametrize("shots", [1, 1000, SHOTS_MAX])
def test_the_dearest_program_there_can_be_is_planned_in_figures_that_clients_can_read(
    shots: int,
) -> None:
    most = 10 * NODES_MAX
    shapes = [Shape(qubits, most, most, 0, most) for qubits in (1, 200, GROUPS_QUBITS_MAX)]
    shapes.append(Shape(CLIFFORD_QUBITS_MAX, most, most, 0, 0))
    shapes += [Shape(qubits, most, most, most, most) for qubits in range(1, DENSE_QUBITS_MAX + 1)]
    plan = planned(tuple(Alike(shape, 1) for shape in shapes), shots)
    assert len(plan.rows) <= PLAN_ROWS_MAX
    assert sum(row.parts for row in plan.rows) == len(shapes)
    figures = [plan.ns_fixed, plan.ns_per_shot, plan.bytes_peak]
    figures += [figure for row in plan.rows for figure in (row.cpu_ns, row.bytes)]
    assert all(0 < figure <= FIGURE_MAX for figure in figures)
    assert plan.rows[0].cpu_ns == max(row.cpu_ns for row in plan.rows)


@pytest.mark.parametrize(
    "shape", [TURNING, FEW_TURNS, BRANCHING._replace(branching=40, measured=40)]
)
def test_many_parts_are_planned_to_share_the_room_for_states(shape: Shape) -> None:
    """Engines bound the states of all parts together, so many parts hold no more than one may."""
    parts, shots = 1000, SHOTS_MAX
    one, many = (planned((Alike(shape, number),), shots) for number in (1, parts))
    states = choose.POOLS[one.engine]
    apart = one.bytes_peak + parts * (one.bytes_peak - states)
    assert one.bytes_peak > states
    assert many.bytes_peak < apart
    assert many.rows[0].bytes < states + apart


def test_where_one_state_of_each_part_is_more_than_they_share_that_is_planned() -> None:
    shape = TURNING._replace(qubits=DENSE_QUBITS_MAX, turns=99)
    assert choose.pick(shape) == DENSE
    assert planned((Alike(shape, 9),), 10).bytes_peak > 9 * 2 * (16 << DENSE_QUBITS_MAX)


def test_exact_probabilities_are_planned_for_narrow_programs() -> None:
    small = choose.plan(summary(Alike(TURNING._replace(qubits=EXACT_QUBITS_MAX), 1)), ports.EXACT)
    assert isinstance(small, Plan)
    assert small.engine == EXACT
    large = choose.plan(summary(Alike(Shape(1, 1, 1, 0, 0), EXACT_QUBITS_MAX + 1)), ports.EXACT)
    assert isinstance(large, ProgramTooWide)
    assert (large.width, large.width_max) == (EXACT_QUBITS_MAX + 1, EXACT_QUBITS_MAX)


def test_slices_are_long_enough_for_many_references_and_never_much_too_long() -> None:
    assert planned(CLIFFORD, 100_000).shots_least == SHOT_BLOCK
    for guards in range(1, 40):
        plan = planned(BRANCHING._replace(branching=guards), 1 << 20)
        least = plan.shots_least
        assert least % SHOT_BLOCK == 0
        assert least == SHOT_BLOCK or least * plan.ns_per_shot <= choose.SLICE_NS_MOST
    assert planned(BRANCHING._replace(branching=10), 1 << 20).shots_least > SHOT_BLOCK


def test_compiling_takes_the_engine_that_was_picked() -> None:
    for shape in (CLIFFORD, BRANCHING, TURNING, FEW_TURNS):
        picked = choose.pick(shape)
        assert picked is not None
        suits, _ = engines.MAKERS[picked]
        assert suits(shape)
    assert set(engines.MAKERS) == set(choose.ENGINES)


def test_planning_needs_no_numerics() -> None:
    code = (
        "import sys, qmkd.engine.choose, qmkd.engine.messages;"
        "assert not {'numpy', 'stim'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The most memory that a run takes beyond what a warm process has, and what was planned for it.
MEASURED = """
import json, sys
from qmkd.engine import choose, run
from qvm.examples import load

def most():
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

run.run_segment(run.prepare(load("t_injection")), 1, 0, 64, "+".join(choose.ENGINES))
open("/proc/self/clear_refs", "w").write("5")
before = most()
program = run.prepare(sys.stdin.buffer.read())
plan = choose.plan(program.summary, int(sys.argv[1]))
run.run_slice(program, 1, 0, int(sys.argv[1]), plan.engine, "ideal", True, lambda: False, len)
print(json.dumps([plan.engine, most() - before, plan.bytes_peak - choose.WORKER_BYTES]))
"""


def scrambled(qubits: int, operations: int, turns: int, guards: int) -> bytes:
    """Random gates on entangled qubits, some under guards, some outside the Clifford group."""
    rng = random.Random(1)
    names = [f"q{at}" for at in range(qubits)]
    args = {"n": qubits, "profile": "logical:ideal"}
    nodes: list[dict[str, object]] = [{"op": "ALLOC_LQ", "vqs": names, "args": args}]
    events: list[str] = []

    def measure(qubit: str) -> None:
        events.append(f"m{len(events)}")
        nodes.append({"op": "MEASURE_Z", "vqs": [qubit], "produces": [events[-1]]})

    kinds = ["APPLY_T"] * turns + ["guard"] * guards
    kinds += rng.choices(["APPLY_H", "APPLY_S", "APPLY_CNOT"], k=operations)
    rng.shuffle(kinds)
    for kind in kinds:
        some = rng.sample(names, 2)
        if kind == "guard":
            measure(some[0])
            guard = {"event": events[-1], "equals": 1}
            nodes.append({"op": "APPLY_H", "vqs": some[1:], "guard": guard})
        else:
            nodes.append({"op": kind, "vqs": some if kind == "APPLY_CNOT" else some[:1]})
    for name in names:
        measure(name)
    body = {"nodes": [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]}
    resources = {"vqs": names, "events": events}
    return msgspec.json.encode({"version": "0.1", "program": body, "resources": resources})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "program", "shots"),
    [
        (FRAMES, scrambled(300, 9000, 0, 0), 300_000),
        (FRAMES, scrambled(1000, 20_000, 0, 0), 64),
        (GROUPS, scrambled(60, 2000, 0, 30), 30_000),
        (GROUPS, scrambled(500, 3000, 0, 20), 64),
        (DENSE, scrambled(10, 200, 60, 10), 100_000),
        (DENSE, scrambled(22, 100, 40, 0), 100),
        (MAGIC, scrambled(60, 1000, 10, 4), 10_000),
    ],
)
def test_a_run_stays_within_the_memory_planned_for_it(
    engine: str, program: bytes, shots: int
) -> None:
    command = [sys.executable, "-c", MEASURED, str(shots)]
    done = subprocess.run(command, input=program, capture_output=True, check=True)
    used, taken, bound = msgspec.json.decode(done.stdout)
    assert engine in used.split("+")
    assert taken <= bound
