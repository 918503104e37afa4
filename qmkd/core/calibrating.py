"""What no table knows of logical errors is measured here, once, for the first job that needs it.

A worker that is to run a job's shots says which point its noise lacks. The job then waits, RUNNING,
with its slices given back, until a worker that does nothing else has measured the point; one point
is measured at a time. With the new table it goes on, and with what could not be measured too: it is
then refused when it lacks the same again, so no step answers more jobs than workers hold.

Seeds follow from the point, so a point gives the same counts whoever asks for it, and when.
"""

from __future__ import annotations

from qmkd.core.effects import KillWorker, Note
from qmkd.core.jobs import has_shots, lack_no_more, set_ready, want_turn
from qmkd.core.limits import ATTEMPTS_MAX, POINT_NS, POINT_NS_MAX, POINTS_MEASURED_MAX, SECOND
from qmkd.core.ports import Point
from qmkd.core.state import Job, Measuring, Segment, State
from qmkd.core.waiting import cancel_timer
from qmkd.core.wording import calibration
from syscalls.errors import KernelError, NotAvailable


def lack(state: State, segment: Segment, point: Point) -> KernelError | str | None:
    """A slice of a running job could not run: its noise lacks the point, which is measured now.

    Returns what the job is refused with instead, or, in words, why that cannot be.
    """
    job = segment.job
    current = segment.table == state.table
    if job.shots_done:
        return f"{point} is lacked by a job that has run shots before"
    if current and point in state.measured:
        return f"{point} is lacked by a job that was given it"
    why = why_unmeasurable(state, point) if current else None
    if why is not None:
        remedy = f'Its logical error rates are not known: {why}. Ask for `noise: "ideal"`.'
        return NotAvailable(feature=f"The noise of {point}", remedy=remedy)
    if has_shots(job):
        set_ready(state, job, False)
    job.again.append(segment.slice)
    if current:
        _wait(state, job, point)
    elif job.lacks is None:
        _go_on(state, job)
    return None


def why_unmeasurable(state: State, point: Point) -> str | None:
    """Why a point that no table has is not measured here, or None if it is."""
    if point in state.measured or point in state.wanted:
        return None
    if point in state.unmeasurable:
        return state.unmeasurable[point]
    if point.distance > state.machine.measurable.get(point.code, 0):
        return "they are too dear to measure when asked for"
    taken = len(state.measured) + len(state.unmeasurable) + len(state.wanted)
    if taken >= POINTS_MEASURED_MAX:
        return f"no more than {POINTS_MEASURED_MAX} points are measured when asked for"
    return None


def _wait(state: State, job: Job, point: Point) -> None:
    if job.lacks is None:
        measuring = state.wanted.setdefault(point, Measuring(point, POINT_NS))
        measuring.jobs[job] = None
        job.lacks = point
        state.stirred = True
        state.version += 1


def _go_on(state: State, job: Job) -> None:
    """With the table as it is now."""
    job.table = state.table
    job.context = calibration(job.context, state.machine, job.table)
    if has_shots(job):
        set_ready(state, job, True)
        want_turn(state, job.tenant)
    state.version += 1


def over(state: State, measuring: Measuring, table: str, why: str) -> None:
    """A point was measured, or given up; all who waited for it go on."""
    _unheld(state, measuring)
    point = measuring.point
    if table:
        state.table = table
        state.measured.add(point)
    else:
        state.unmeasurable[point] = why
    state.out.append(Note("measured a point", {"point": str(point), "table": table, "why": why}))
    for job in list(measuring.jobs):
        lack_no_more(state, job)
        _go_on(state, job)
    state.wanted.pop(point, None)
    state.stirred = True


def too_long(state: State, measuring: Measuring) -> None:
    """End the worker that measures it."""
    assert measuring.worker is not None
    measuring.timer = 0
    measuring.late = True
    worker = measuring.worker
    worker.killed = True
    worker.ready = False
    state.out.append(KillWorker(worker.number))


def lost(state: State, measuring: Measuring, blame: int) -> None:
    """The worker that measured it is no more: measure it again, elsewhere, but not for ever."""
    measuring.attempts += blame
    if measuring.late:
        over(state, measuring, "", f"measuring them takes longer than {POINT_NS_MAX // SECOND} s")
    elif measuring.attempts >= ATTEMPTS_MAX:
        over(state, measuring, "", f"workers were lost over it, {measuring.attempts} times")
    else:
        _unheld(state, measuring)
        if not measuring.jobs:
            del state.wanted[measuring.point]


def _unheld(state: State, measuring: Measuring) -> None:
    cancel_timer(state, measuring.timer)
    measuring.timer = 0
    measuring.worker = None
