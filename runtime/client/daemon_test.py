"""Both clients on a real daemon: many tasks, more jobs than the quota, a restart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

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
result_bytes = 4000000
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon(config=QUOTA.format(uid=os.getuid())) as running:
        yield running


DECODED: dict[str, Any] = {"noise": "decoded", "decoder_data": True, "seed": 3}


@pytest.mark.parametrize("shots", [500, 20_000])  # inside the answer, and in a memory file
def test_what_decoders_knew_of_each_shot_comes_with_the_result(daemon: Daemon, shots: int) -> None:
    with Client(daemon.socket) as client:
        result = client.run(BELL, shots=shots, **DECODED)
        data = result.decoder_data
        figures = result.telemetry.decoder
        assert figures is not None
        assert data.shape == (shots,)
        assert not data.flags.writeable
        assert data["flips"].sum() == figures.errors
        assert data["undecoded"].sum() == 0
        assert (data["gap"] > 0).all()
        assert result.telemetry.decoder_cycles == figures.cycles > 0
        assert sum(figures.syndrome_weights) == figures.calls
        context = result.execution_context
        assert context.decoder is not None
        assert "pymatching" in context.versions
        assert str(context.calibration).startswith("sha256:")
        again = client.run(BELL, shots=1024, **DECODED)
        both = min(shots, 1024)
        assert again.decoder_data[:both].tobytes() == data[:both].tobytes()


async def test_what_decoders_knew_comes_to_tasks_too(daemon: Daemon) -> None:
    async with AsyncClient(daemon.socket) as client:
        job = await client.submit(BELL, shots=100, **DECODED)
        assert (await job.wait(decoder_data=True)).decoder_data.shape == (100,)
        with pytest.raises(errors.ResultsUnavailable):
            (await job.wait()).decoder_data  # noqa: B018


def test_decoder_data_is_refused_where_there_is_none_and_where_it_is_too_much(
    daemon: Daemon,
) -> None:
    with Client(daemon.socket) as client:
        refused_with: list[dict[str, Any]] = [
            {"noise": "ideal"},
            {"noise": "calibrated"},
            {"exact": True},
        ]
        for policy in refused_with:
            with pytest.raises(errors.NotAvailable, match="nothing is decoded"):
                client.submit(BELL, decoder_data=True, **policy)
        with pytest.raises(errors.NotAvailable, match="decoder data of this job"):
            client.run(BELL, shots=10, noise="ideal").decoder_data  # noqa: B018
        with pytest.raises(errors.QuotaExceeded) as refused:
            client.submit(BELL, shots=1_000_000, **DECODED)
        assert refused.value.data["asked"] > 12_000_000 > refused.value.data["limit"]


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


def test_qubits_are_held_and_channels_opened_and_closed(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        one, two = client.alloc(2, "logical:Surface(d=3)", module="main")
        opened = client.open_chan(one, two, fidelity=0.9, type="DEJMPS")
        told = client.chan_status(opened.channel_id)
        assert (told.vq_a, told.vq_b, told.actual_fidelity) == (one, two, 1.0)
        client.close_chan(opened.channel_id)
        with pytest.raises(errors.ChannelNotFound):
            client.chan_status(opened.channel_id)
        client.release(one, two)
        with pytest.raises(errors.HandleNotFound):
            client.release(one)


async def test_tasks_hold_qubits_and_open_channels_too(daemon: Daemon) -> None:
    async with AsyncClient(daemon.socket) as client:
        one, two = await client.alloc(2, "logical:ideal")
        opened = await client.open_chan(one, two)
        assert (await client.chan_status(opened.channel_id)).uses == 0
        await client.close_chan(opened.channel_id)
        await client.release(one, two)
        assert not (await client.telemetry()).qubits


def test_thousands_of_calls_are_pipelined(daemon: Daemon) -> None:
    with Client(daemon.socket) as client:
        job = client.submit(BELL)
        job.wait()
        call = Calls.status(session_id=client.session_id, job_id=job.job_id)
        answers = client.call_all([call] * 5000)
    assert all(isinstance(answer, JobStatus) for answer in answers)


def test_what_this_build_does_not_do_raises_a_typed_error(daemon: Daemon) -> None:
    with (
        Client(daemon.socket) as client,
        pytest.raises(errors.NotAvailable, match="not available in this build"),
    ):
        client.submit(BELL, debug=True)


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
