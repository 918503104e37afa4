"""The shipped workload is served evenly and leaves little idle, on a schedule that is possible."""

from __future__ import annotations

import pytest

from harness.bench.fairness_bench import (
    JAIN_MIN,
    PACKED_MIN,
    TENANTS,
    check_feasible,
    hardware,
    need_of,
    serve,
    shortest,
    workload,
)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]
)
def test_tenants_of_equal_weight_are_served_evenly_and_the_machine_is_full(seed: int) -> None:
    served = serve(workload(seed), "fair")
    assert served.jain >= JAIN_MIN
    assert served.used >= PACKED_MIN
    assert served.packed <= 1, "no schedule is shorter than the shortest"


def test_arrival_or_priorities_alone_serve_tenants_unevenly() -> None:
    works = workload(0)
    for policy in ("fifo", "priority"):
        served = serve(works, policy)
        assert served.jain < 0.5
        assert served.waited > 0.25, "of the time, until the last tenant is served at all"


def test_every_tenant_brings_about_as_much_work() -> None:
    works = workload(0)
    parts = [0.0] * TENANTS
    for work in works:
        need = need_of(work.graph)
        parts[work.owner] += work.shots * need.cycles * need.dominant
    assert max(parts) < 1.2 * min(parts)
    assert shortest(works) * TENANTS > sum(parts)


def test_more_than_the_machine_has_is_noticed() -> None:
    need = need_of(workload(0)[0].graph)
    times = sum(hardware().spare) // need.qubits
    check_feasible([(0, 10, need)] * times)
    check_feasible([(0, 10, need)] * times + [(10, 20, need)])
    with pytest.raises(AssertionError):
        check_feasible([(0, 10, need)] * times + [(9, 20, need)])
