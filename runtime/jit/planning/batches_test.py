"""Running by plans on a real daemon: what is refuted, what is not, and what comes of it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runtime.client import Client
from runtime.client.operations import PROGRAM_RIGHTS
from runtime.jit.planning.batches import Ran, run, seed_of
from runtime.jit.planning.choose import Aims, NothingFits, Plan, Planner, worse
from runtime.jit.planning.predict import Excess
from runtime.jit.planning.profile import FALSE_ALARMS, judge, upper_tail
from runtime.jit.planning.rates import CodeRates
from syscalls.fault import FaultKind
from tests.daemon import Daemon, running_daemon

EXAMPLES = Path(__file__).parents[3] / "qvm" / "examples"
GHZ = EXAMPLES / "ghz.qvm.json"
NOISE = 'physical_noise = "uniform 0.003"\n'


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon(config=NOISE) as made:
        yield made


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.socket, rights=(*PROGRAM_RIGHTS, "CAP_ADMIN")) as made:
        yield made


def done(found: Ran | NothingFits) -> Ran:
    assert isinstance(found, Ran), found
    return found


def test_a_right_plan_is_kept_and_the_same_seed_gives_the_same_run(client: Client) -> None:
    planner = Planner(client)
    aims = Aims(error_budget=0.2, shots=3000)
    first, second = (done(run(planner, GHZ, aims, seed=5)) for _ in range(2))
    assert first.counts == second.counts
    assert sum(first.counts.values()) == first.shots == 3000
    assert len(first.plans) == 1
    assert [each.seed for each in first.batches] == [
        seed_of(5, number) for number in range(len(first.batches))
    ]
    assert {each.refuted for each in first.batches} == {""}
    cost = first.plans[0].cost
    assert first.machine_s == pytest.approx(3000 * cost.cycles * 1e-6)
    assert {each.observed.cycles for each in first.batches} == {cost.cycles}


def test_a_prediction_that_outcomes_refute_is_replaced_by_one_that_they_do_not(
    client: Client,
) -> None:
    planner = Planner(client)
    aims = Aims(error_budget=0.1, shots=6000)
    right = planner.plan(GHZ, aims)
    planner.known(["Surface(d=3)"])
    noise = planner.machine.physical_noise
    planner._rates[noise] = {
        name: worse(found, 0.2) if isinstance(found, CodeRates) else found
        for name, found in planner._rates[noise].items()
    }
    found = done(run(planner, GHZ, aims, seed=1))
    assert isinstance(right, Plan)
    assert found.plans[0].cost.cycles < right.chosen.cost.cycles == found.plans[-1].cost.cycles
    assert "more than chance allows" in found.batches[0].refuted
    assert not found.batches[0].counted
    assert 3 < found.batches[0].verdict.factor < 8, "they err five times as often as was thought"
    assert sum(found.counts.values()) == 6000
    assert found.batches[-1].refuted == ""


def test_noise_that_has_drifted_is_planned_for(daemon: Daemon, client: Client) -> None:
    planner = Planner(client)
    fault = client.inject_fault(FaultKind.CALIBRATION, strength=1.15)
    try:
        found = done(run(planner, GHZ, Aims(error_budget=0.1, shots=2000), seed=2))
    finally:
        client.clear_fault(fault.fault_id)
    assert "the noise is uniform 0.00345 now" in found.batches[0].refuted
    assert not found.batches[0].counted
    assert len(found.plans) == 2
    assert found.plans[1].prediction.error > 0
    assert {each.observed.times for each in found.batches} == {1.15}


def test_a_program_that_is_not_followed_has_one_of_known_answer_beside_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.jit.planning.exact.WORK_MAX", 0)
    planner = Planner(client)
    planner._truth[GHZ.read_bytes()] = None
    plan = planner.plan(GHZ, Aims(error_budget=0.2, shots=4000))
    assert isinstance(plan, Plan)
    assert plan.excess is None
    assert plan.chosen.prediction.how == "light cone"
    monkeypatch.undo()
    found = done(run(planner, GHZ, Aims(error_budget=0.2, shots=4000), seed=3))
    assert all(each.observed.of > 0 for each in found.batches)
    assert found.machine_s < 1.1 * 4000 * plan.chosen.machine_s / 4000


def test_tails_are_sums_of_the_binomial_distribution() -> None:
    for trials, chance in ((1, 0.3), (20, 0.01), (60, 0.5), (60, 0.97)):
        for least in range(trials + 2):
            direct = math.fsum(
                math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k)
                for k in range(least, trials + 1)
            )
            assert upper_tail(least, trials, chance) == pytest.approx(direct, abs=1e-12)


def test_false_alarms_are_as_rare_as_stated() -> None:
    """4,000 runs of six looks each at the edges of the interval: the count of alarms is binomial
    with at most FALSE_ALARMS, and beyond five standard errors at most once in a million."""
    rng = random.Random(11)
    excess = Excess(keys=[], ideal=0, quiet=0, predicted=0.05, low=0.045, high=0.055)
    runs, alarms = 4000, 0
    for number in range(runs):
        chance = excess.high if number % 2 else excess.low
        among = of = 0
        for look in range(6):
            among += sum(rng.random() < chance for _ in range(40))
            of += 40
            if judge(excess, among, of, look).why:
                alarms += 1
                break
    spread = math.sqrt(runs * FALSE_ALARMS * (1 - FALSE_ALARMS))
    assert alarms <= runs * FALSE_ALARMS + 5 * spread


def test_what_errs_twice_as_often_is_noticed() -> None:
    excess = Excess(keys=[], ideal=0, quiet=0, predicted=0.05, low=0.045, high=0.055)
    verdict = judge(excess, 100, 1000, 3)
    assert verdict.factor == pytest.approx(2)
    assert verdict.p_value < verdict.alarm
    assert judge(excess, 50, 1000, 3).why == ""
    assert msgspec.json.encode(verdict)
