"""Each broken promise is noticed: whatever is off by one anywhere, `check` says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qmkd.core.conftest import Desk, bell
from qmkd.core.limits import CHECKPOINTS_MAX, INLINE_GRAPH_BYTES_MAX, JOBS_LIVE_MAX, check_machine
from qmkd.core.ports import Machine, Quota, TenantRule
from qmkd.core.state import State
from syscalls.job import JobState, Wait
from tests.simulation import invariants


def busy(make_desk: Callable[..., Desk]) -> State:
    """A kernel in the middle of everything."""
    desk = make_desk(workers=3)
    desk.workers(0, 1, 2)
    session = desk.open()
    desk.submit(session)
    desk.run_all()
    done = desk.submit(session)
    assert desk.call(Wait(session_id=session, job_id=done, timeout_ms=9)) is None
    assert desk.try_submit(session, bell(INLINE_GRAPH_BYTES_MAX)) is None
    desk.submit(session, shots=1_000_000, timeout_ms=50)
    return desk.state


COUNTERS: tuple[tuple[str, Callable[[State], Any], str], ...] = (
    *(
        (f"tenant.{name}", lambda state: state.tenants["alice"], name)
        for name in (
            "sessions", "live", "checking", "parked", "held_bytes", "logical", "physical",
            "rows_live", "kept_bytes", "program_bytes",
        )
    ),
    *(("state." + name, lambda state: state, name) for name in ("live", "parked", "physical")),
    ("worker.ns", lambda state: next(w for w in state.workers if w.held), "ns"),
    ("program.uses", lambda state: next(iter(state.tenants["alice"].programs.values())), "uses"),
    ("job.shots_done", lambda state: running(state), "shots_done"),
    ("job.shots_given", lambda state: running(state), "shots_given"),
    ("job.time_limit", lambda state: running(state), "time_limit"),
)  # fmt: skip


def running(state: State) -> Any:
    return [job for job in state.jobs.values() if job.state is JobState.RUNNING][-1]


@pytest.mark.parametrize(("name", "where", "field"), COUNTERS, ids=[row[0] for row in COUNTERS])
@pytest.mark.parametrize("by", [-1, 1])
def test_a_counter_off_by_one_is_noticed(
    make_desk: Callable[..., Desk], name: str, where: Callable[[State], Any], field: str, by: int
) -> None:
    state = busy(make_desk)
    invariants.check(state)
    record = where(state)
    setattr(record, field, getattr(record, field) + by)
    with pytest.raises((AssertionError, KeyError)):
        invariants.check(state)


BREAKAGES: tuple[tuple[str, Callable[[State], Any]], ...] = (
    ("a live job is lost", lambda state: state.jobs.popitem()),
    ("a timer is lost", lambda state: state.timers.popitem()),
    ("a connection is lost", lambda state: state.connections.clear()),
    ("a session is lost", lambda state: state.sessions.clear()),
    ("a turn is lost", lambda state: state.turns.clear()),
    ("a check is lost", lambda state: state.checks.clear()),
    ("a segment is lost", lambda state: running(state).segments.popitem()),
    ("a slice is given twice", lambda state: running(state).again.append(
        next(iter(running(state).segments.values())).slice)),
    ("a tally is off", lambda state: state.tally.update({JobState.FAILED: 1})),
    ("a job is over twice", lambda state: setattr(running(state), "state", JobState.FAILED)),
    ("a job stands for nothing", lambda state: state.tenants["alice"].ready.clear()),
    ("a graph is lost", lambda state: setattr(running(state).program, "graph", b"")),
    ("a closed session is open", lambda state: setattr(
        next(iter(state.sessions.values())), "open", False)),
)  # fmt: skip


@pytest.mark.parametrize(("name", "hurt"), BREAKAGES, ids=[row[0] for row in BREAKAGES])
def test_a_broken_reference_is_noticed(
    make_desk: Callable[..., Desk], name: str, hurt: Callable[[State], Any]
) -> None:
    state = busy(make_desk)
    hurt(state)
    with pytest.raises((AssertionError, KeyError)):
        invariants.check(state)


def test_an_idle_worker_beside_waiting_work_is_noticed(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    desk.submit(desk.open())
    desk.state.workers[0].ready = True
    with pytest.raises(AssertionError, match="idle"):
        invariants.check(desk.state)


@pytest.mark.parametrize(
    "machine",
    [
        Machine(workers=0),
        Machine(workers=1000),
        Machine(physical_qubits=0),
        Machine(tenants=(TenantRule(name="a", uids=frozenset()),) * 2),
        *(
            Machine(tenants=(TenantRule(name="a", uids=frozenset(), quota=quota),))
            for quota in (Quota(jobs=JOBS_LIVE_MAX + 1), Quota(checkpoints=CHECKPOINTS_MAX + 1))
        ),
    ],
)
def test_a_configuration_beyond_the_bounds_makes_no_kernel(machine: Machine) -> None:
    with pytest.raises(AssertionError):
        check_machine(machine)
