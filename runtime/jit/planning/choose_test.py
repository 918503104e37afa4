"""Choosing: what is taken, what is not and why, and what is said where nothing fits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from qvm.assemble import assemble
from qvm.machine import Hardware, Module
from runtime.client import Client
from runtime.jit.planning.batches import Ran, run
from runtime.jit.planning.choose import Aims, NothingFits, Plan, Planner
from runtime.jit.planning.machine import look
from runtime.jit.planning.variants import NotPlannable, read, ways
from tests.daemon import Daemon, running_daemon

EXAMPLES = Path(__file__).parents[3] / "qvm" / "examples"
GHZ = EXAMPLES / "ghz.qvm.json"
TURNED = """OPENQASM 3;
include "stdgates.inc";
qubit[2] q;
bit[2] c;
ry(0.7) q[0];
cx q[0], q[1];
rz(0.4) q[1];
h q[1];
c = measure q;
"""
MACHINE = """
name = "scarce"
decoder_blocks = 3
[[module]]
name = "chip"
qubits = 3000
[[factory]]
module = "chip"
qubits = 810
cycles = 18.1
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    file = tmp_path_factory.mktemp("machine") / "scarce.toml"
    file.write_text(MACHINE)
    with running_daemon(None, "--machine", str(file)) as made:
        yield made


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.socket) as made:
        yield made


@pytest.fixture(scope="module")
def planner(client: Client) -> Planner:
    module = Module(name="main", qubits=100_000)
    return Planner(client, hardware=Hardware(name="plain", module=(module,)))


def taken(planner: Planner, aims: Aims, source: Path | str = GHZ) -> Plan:
    choice = planner.plan(source, aims)
    assert isinstance(choice, Plan), str(choice)
    return choice


def test_a_tighter_budget_costs_more_and_is_kept(planner: Planner) -> None:
    plans = [taken(planner, Aims(error_budget=budget)) for budget in (0.1, 1e-2, 1e-3, 1e-4)]
    for plan in plans:
        assert plan.chosen.prediction.high <= plan.aims.error_budget
        assert plan.chosen.why_not == ""
    cycles = [plan.chosen.cost.cycles for plan in plans]
    assert cycles == sorted(set(cycles))


def test_every_variant_that_was_not_taken_says_why(planner: Planner) -> None:
    plan = taken(planner, Aims(error_budget=0.01), TURNED)
    assert sum(not each.why_not for each in plan.considered) == 1
    for each in plan.considered:
        if each.why_not and "budget" not in each.why_not:
            assert each.machine_s >= plan.chosen.machine_s
    assert any("above the budget" in each.why_not for each in plan.considered)
    assert any("times the machine time" in each.why_not for each in plan.considered)


@pytest.mark.slow
def test_rotations_may_take_more_of_a_larger_budget(planner: Planner) -> None:
    wide, narrow = (taken(planner, Aims(error_budget=e), TURNED) for e in (0.1, 1e-3))
    assert wide.chosen.cost.t_states < narrow.chosen.cost.t_states


def test_where_nothing_fits_the_nearest_is_named_with_what_it_misses(planner: Planner) -> None:
    choice = planner.plan(GHZ, Aims(error_budget=1e-3, physical_qubits=100))
    assert isinstance(choice, NothingFits)
    assert choice.nearest is not None
    assert "physical qubits of 100" in str(choice)
    late = planner.plan(GHZ, Aims(error_budget=1e-3, deadline_s=1e-6, shots=10))
    assert isinstance(late, NothingFits)
    assert "after the deadline" in str(late)
    alien = planner.plan(GHZ, Aims(error_budget=0.1, codes=("SHYPS(d=8)",)))
    assert isinstance(alien, NothingFits)
    assert "not measured" in str(alien)


@pytest.mark.slow
def test_fences_are_put_where_they_are_asked_for(planner: Planner) -> None:
    free = taken(planner, Aims(error_budget=0.01), TURNED)
    fenced = taken(planner, Aims(error_budget=0.01, unfenced=150), TURNED)
    assert fenced.chosen.cost.unfenced <= 150 < free.chosen.cost.unfenced
    assert "fence every" in fenced.chosen.way


def test_a_program_of_a_sessions_own_qubits_is_refused(planner: Planner) -> None:
    handle = f"vq_{'0' * 32}"
    lines = (f'ALLOC_LQ n=1, profile="Surface(d=3)", {handle}', f"FREE_LQ {handle}", "")
    program = msgspec.json.encode(assemble("\n".join(lines)))
    with pytest.raises(NotPlannable, match="of a session"):
        planner.plan(program, Aims(error_budget=0.1))


def test_a_probe_tells_how_fast_factories_are(client: Client) -> None:
    machine = look(client)
    assert machine.stated == "as probed"
    assert machine.physical_noise == "uniform 0.001"
    (factory,) = machine.hardware.factory
    assert factory.cycles == pytest.approx(18.1, rel=0.01)


def test_where_the_decoder_falls_behind_the_rest_is_planned_with_that(client: Client) -> None:
    planner = Planner(client)
    found = run(planner, GHZ, Aims(error_budget=0.05, shots=1500), seed=4)
    assert isinstance(found, Ran)
    assert "decoding" in found.batches[0].refuted
    assert found.batches[0].counted
    assert planner.machine.hardware.decoder_blocks == 3
    assert {each.refuted for each in found.batches[1:]} == {""}
    assert found.plans[-1].cost.cycles == found.batches[-1].observed.cycles


def test_a_circuit_with_rotations_is_tried_in_several_precisions() -> None:
    tried = ways(read(TURNED), 0.01)
    assert len({way.epsilon for way in tried}) == 4
    assert all(way.epsilon is not None and way.epsilon <= 0.04 for way in tried)
