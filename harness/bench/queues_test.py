"""The world of queues: the same from its seed, as busy as it says, served as theory has it."""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np
import pytest

from harness.bench.queues import OTHERS_S, OTHERS_SIGMA, World, _Queue, simulate, world
from harness.bench.scheduler_bench import Unmitigated, backends_of, chooser
from policy.rules import Rules
from runtime.scheduler.calibrations import Snapshot
from runtime.scheduler.conftest import calibration
from runtime.scheduler.deciding import Entry
from runtime.scheduler.jobs import Job


def made(seed: int = 1, load: float = 0.5, days: float = 3.0, jobs_a_day: float = 20.0) -> World:
    machines = [
        Snapshot(calibration(f"m{number}", 0.004 * (number + 1), qubits=14)) for number in range(4)
    ]
    return world(machines, seed, load=load, days=days, jobs_a_day=jobs_a_day)


def test_a_world_and_what_comes_of_it_are_the_same_from_the_same_seed() -> None:
    one, again, other = made(), made(), made(2)
    assert one.others == again.others != other.others
    assert one.jobs == again.jobs
    backends = backends_of(one)
    first, second = (
        simulate(each, backends, chooser("spec-001", Rules())) for each in (one, again)
    )
    assert first == second
    assert len(first) == len(one.jobs)


@pytest.mark.parametrize("load", [0.3, 0.9])
def test_machines_are_as_busy_as_the_law_says_and_the_better_the_busier(load: float) -> None:
    """Within five standard errors of the sums of lognormal times of a thinned Poisson process."""
    days = 40.0
    found = made(load=load, days=days, jobs_a_day=1)
    used = np.array([sum(seconds for _, seconds in row) for row in found.others]) / (days * 86400)
    jobs = sum(map(len, found.others)) / 4
    # Busy and calm times of five hours make a few hundred stretches whose rates differ threefold.
    stretches = days * 86400 / (5 * 3600)
    relative = math.sqrt(math.exp(OTHERS_SIGMA**2) / jobs + 1 / stretches)
    assert used.mean() == pytest.approx(load, rel=5 * relative / 2)
    assert used[0] > used[-1]


def test_waiting_is_that_of_the_pollaczek_khinchine_formula() -> None:
    """Poisson arrivals, lognormal times, half of the time busy; within five standard errors."""
    rng = np.random.Generator(np.random.PCG64(4))
    mean = math.log(OTHERS_S) - OTHERS_SIGMA**2 / 2
    waits = []
    for _ in range(60):
        queue, at, some = _Queue(), 0.0, []
        for number in range(1500):
            at += float(rng.exponential(2 * OTHERS_S))
            begins = queue.add(at, float(rng.lognormal(mean, OTHERS_SIGMA)))
            queue.ends.clear()
            if number >= 300:
                some.append(begins - at)
        waits.append(np.mean(some))
    square = OTHERS_S**2 * math.exp(OTHERS_SIGMA**2)
    expected = 0.5 / OTHERS_S * square / (2 * (1 - 0.5))
    error = 5 * np.std(waits) / math.sqrt(len(waits))
    assert np.mean(waits) == pytest.approx(expected, abs=error)


def test_peers_see_the_same_queue_and_none_mitigates_who_does_not_today() -> None:
    found = made(load=0.8)
    seen: list[list[float]] = []

    def watching(job: Job, entries: list[Entry], now: datetime) -> tuple[str, str, int] | None:
        seen.append([each.state.waiting_s for each in entries])
        return chooser("least-busy", Unmitigated())(job, entries, now)

    came = simulate(found, backends_of(found), watching)
    assert {each.method for each in came} == {"none"}
    assert len(seen) == len(came)
    assert any(max(each) > min(each) for each in seen)
