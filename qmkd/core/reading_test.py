"""Results and telemetry: what is shown, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from qmkd.core import effects as fx
from qmkd.core.conftest import Desk
from qmkd.core.limits import RESULTS_INLINE_BYTES_MAX
from syscalls.errors import InsufficientCaps, JobNotFound, NotCompleted, ResultsTooLarge
from syscalls.ids import JobId
from syscalls.job import JobState, Status
from syscalls.results import EventField, Results, ResultsReply
from syscalls.telemetry import GetTelemetry

ROW_BYTES = 2  # of a Bell program: a byte of values, a byte of validity


def test_results_travel_in_the_way_asked(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=5)
    asked = Results(session_id=session, job_id=job)
    assert desk.call(asked) == NotCompleted(state="RUNNING")
    desk.run_all()

    def results(**how: Any) -> tuple[ResultsReply, str | None, str | None]:
        desk.call(Results(session_id=session, job_id=job, **how))
        (reply,) = desk.sent(fx.Reply)
        assert isinstance(reply.body, ResultsReply)
        return reply.body, reply.inline, reply.attach

    body, inline, attach = results()
    assert (inline, attach, body.fd, body.counts) == (job, None, False, None)
    assert (body.shots, body.values_bytes, body.row_bytes) == (5, 1, ROW_BYTES)
    assert body.order == [EventField(name="m0", bits=1), EventField(name="m1", bits=1)]
    body, inline, attach = results(transport="fd")
    assert (inline, attach, body.fd) == (None, job, True)
    body, inline, attach = results(format="counts")
    assert (inline, attach, body.counts) == (None, None, {"00": 5})
    body, inline, attach = results(format="order")
    assert (inline, attach, body.counts) == (None, None, None)
    context = desk.call(Status(session_id=session, job_id=job)).execution_context
    assert body.digest == context.results_digest


@pytest.mark.parametrize("over", [0, 1])
def test_rows_beyond_the_bound_travel_by_descriptor_only(desk: Desk, over: int) -> None:
    session = desk.open()
    job = desk.submit(session, shots=RESULTS_INLINE_BYTES_MAX // ROW_BYTES + over)
    desk.run_all()
    reply = desk.call(Results(session_id=session, job_id=job))
    if not over:
        assert isinstance(reply, ResultsReply)
        return
    assert isinstance(reply, ResultsTooLarge)
    assert reply.size_bytes == RESULTS_INLINE_BYTES_MAX + ROW_BYTES
    assert "transport=fd" in reply.remedy
    assert isinstance(
        desk.call(Results(session_id=session, job_id=job, transport="fd")), ResultsReply
    )


def test_telemetry_shows_what_the_session_holds_now(desk: Desk) -> None:
    session = desk.open()
    jobs = [desk.submit(session), desk.submit(session)]
    shown = desk.call(GetTelemetry(session_id=session, job_id=jobs[0], list_jobs=True))
    usage = shown.resource_usage
    assert (usage.logical_qubits_allocated, usage.physical_qubits_used) == (4, 68)
    assert shown.jobs[JobState.RUNNING] == 2
    assert shown.job_ids == jobs
    assert shown.job.physical_qubits_used == 34
    assert shown.machine is None
    desk.run_all()
    shown = desk.call(GetTelemetry(session_id=session))
    assert shown.resource_usage.physical_qubits_used == 0
    assert (shown.jobs[JobState.RUNNING], shown.jobs[JobState.COMPLETED]) == (0, 2)
    assert shown.job_ids is None


def test_the_machines_figures_need_the_administrators_right(desk: Desk) -> None:
    plain, admin = desk.open("CAP_ALLOC"), desk.open("CAP_ADMIN")
    assert desk.call(GetTelemetry(session_id=plain, machine=True)) == InsufficientCaps(
        required=["CAP_ADMIN"], missing=["CAP_ADMIN"]
    )
    desk.submit(plain)
    figures = desk.call(GetTelemetry(session_id=admin, machine=True)).machine
    assert figures["physical_qubits_used"] == 34
    assert figures["jobs"]["RUNNING"] == figures["jobs_live"] == 1
    unknown = GetTelemetry(session_id=plain, job_id=JobId("job_x"))
    assert desk.call(unknown) == JobNotFound()
