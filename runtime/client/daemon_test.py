"""Both clients on a real daemon: many tasks, more jobs than the quota, a restart."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import trio

from qvm import examples
from runtime.client import AsyncClient, Client, errors
from runtime.client.stubs import Calls
from syscalls.events import JobEvent
from syscalls.job import JobState, JobStatus
from tests.daemon import Daemon, running_daemon, short_folder, start, wait_until_ready

BELL = examples.load("bell")
QUOTA = """
[[tenant]]
name = "few"
uids = [{uid}]
[tenant.quota]
jobs = 4
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon(config=QUOTA.format(uid=os.getuid())) as running:
        yield running


async def test_many_tasks_run_programs_over_one_client_with_the_bits_of_their_seeds(
    daemon: Daemon,
) -> None:
    found: dict[int, bytes] = {}
    async with AsyncClient(daemon.socket) as client:

        async def run(n: int) -> None:
            result = await client.run(BELL, shots=100, seed=n % 5, samples=True)
            found[n] = result.samples.tobytes()

        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(run, n)
    assert len(found) == 20
    assert all(found[n] == found[n % 5] for n in found)
    assert len(set(found.values())) == 5


def test_more_jobs_than_the_quota_are_submitted_as_room_becomes_free(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        jobs = client.submit_all([BELL] * 30, shots=10)
        assert {job.wait_done().state for job in jobs} == {JobState.COMPLETED}
        known = client.telemetry(list_jobs=True).job_ids
    assert known is not None
    assert sorted(known) == sorted(job.job_id for job in jobs)


def test_a_subscription_hears_every_job_to_its_end(daemon: Daemon) -> None:
    heard: list[JobEvent] = []
    with Client(daemon.socket) as client:
        client.subscribe(heard.append)
        jobs = client.submit_all([BELL] * 3, shots=10)
        for job in jobs:
            job.wait()
        client.telemetry()
    over = [event.job_id for event in heard if event.state is JobState.COMPLETED]
    assert sorted(over) == sorted(job.job_id for job in jobs)


def test_thousands_of_calls_are_pipelined(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        job = client.submit(BELL)
        job.wait()
        call = Calls.status(session_id=client.session_id, job_id=job.job_id)
        answers = client.call_all([call] * 5000)
    assert all(isinstance(answer, JobStatus) for answer in answers)


def test_a_call_this_build_does_not_answer_raises_a_typed_error(daemon: Daemon) -> None:
    with Client(daemon.socket, rights=["CAP_ALLOC", "CAP_CHECKPOINT"]) as client:
        job = client.submit(BELL)
        with pytest.raises(errors.NotAvailable, match="not available in this build"):
            client.call(Calls.checkpoint(session_id=client.session_id, job_id=job.job_id))


def test_after_a_restart_the_client_reconnects_and_goes_on_with_its_session() -> None:
    with short_folder() as folder:
        first = start(folder)
        wait_until_ready(first)
        client = Client(first.socket)
        job = client.submit(BELL)
        job.wait()
        done = job.status()
        assert first.stop() == 0
        second = start(folder)
        wait_until_ready(second)
        assert job.status() == done
        client.close()
        assert second.stop() == 0


def test_a_daemon_that_keeps_nothing_says_after_a_restart_that_the_session_is_gone() -> None:
    nothing = {"QMKD_DURABILITY": "none"}
    with short_folder() as folder:
        first = start(folder, environment=nothing)
        wait_until_ready(first)
        client = Client(first.socket)
        job = client.submit(BELL)
        assert first.stop() == 0
        second = start(folder, environment=nothing)
        wait_until_ready(second)
        with pytest.raises(errors.AuthFailed, match="open a new session"):
            job.status()
        client.close()
        assert second.stop() == 0
