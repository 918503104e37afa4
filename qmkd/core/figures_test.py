"""The figures say what a walk over the records finds, before, while and after jobs run."""

from __future__ import annotations

from collections import Counter

from qmkd.core.conftest import Desk
from qmkd.core.figures import figures
from qmkd.core.state import State


def agree(state: State) -> None:
    told = figures(state)
    jobs = list(state.jobs.values())
    assert {each: n for each, n in told.jobs.items() if n} == Counter(job.state for job in jobs)
    for tenant in told.tenants:
        own = [job for job in jobs if job.tenant.rule.name == tenant.name and job.final is None]
        assert tenant.live == len(own)
        assert tenant.waiting == sum(job.place is None for job in own)
        sessions = [one for one in state.sessions.values() if one.tenant.rule.name == tenant.name]
        assert tenant.sessions == len(sessions)
    assert told.sessions == sum(tenant.sessions for tenant in told.tenants)
    assert told.physical == sum(tenant.physical for tenant in told.tenants)
    assert told.placed == sum(job.place is not None for job in jobs)
    assert 0 <= told.used <= told.offered
    assert told.workers_ready <= told.workers


def test_figures_agree_with_a_walk_over_the_records(desk: Desk) -> None:
    state = desk.kernel.state
    agree(state)
    session = desk.open()
    agree(state)
    for _ in range(3):
        desk.submit(session, shots=5)
        agree(state)
    assert sum(tenant.live for tenant in figures(state).tenants) == 3
    desk.run_all()
    agree(state)
    assert figures(state).used > 0
    assert sum(tenant.live for tenant in figures(state).tenants) == 0
