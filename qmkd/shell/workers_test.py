"""How workers are started, ended and started again, with real processes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from select import EPOLLIN
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.ports import USUAL
from qmkd.engine import messages as msg
from qmkd.engine import run
from qmkd.shell import workers
from qmkd.shell.hub import Hub
from qmkd.shell.outbox import Outbox
from qmkd.shell.results import ROWS_HELD_BYTES_MAX, Results
from qmkd.shell.snapshots import SEALS, Fetched, Snapshots
from qmkd.shell.store.schema import Damaged
from qmkd.shell.tables import Tables
from qmkd.shell.workers import FDS_WAITING_MAX, START_FAILURES_MAX, Pool, Worker
from syscalls.results import SHOT_BLOCK

OPTIONS = ("--scheduler=other",)
READY_S_MAX = 20.0
NO_TABLES = Tables(Path("/nowhere"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


def refuse(*_: Any) -> Any:
    """In the place of a call that finds no free descriptor."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("name", ["memfd_create", "ftruncate", "pidfd_open"])
def test_a_worker_that_cannot_be_started_leaves_nothing_open(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_descriptors()
    monkeypatch.setattr(os, name, refuse)
    for _ in range(3):
        with pytest.raises(OSError, match="Too many open files"):
            Worker(0, OPTIONS)
    assert open_descriptors() == before


def test_a_pool_that_can_start_no_worker_gives_up_and_says_why(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "Worker", refuse)
    pool = Pool(hub, Results(), NO_TABLES, lambda event: None, 1, OPTIONS)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.keep)
            with trio.fail_after(1000 * START_FAILURES_MAX):
                await pool.settled.wait()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert pool.broken == "no worker could be started: Too many open files"


def test_a_worker_ended_on_the_kernels_wish_is_replaced_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BACKOFF_S_MIN", "BACKOFF_S_MAX"):
        monkeypatch.setattr(workers, name, 1000.0)
    into, heard = trio.open_memory_channel[ev.Event](100)
    pool = Pool(hub, Results(), NO_TABLES, into.send_nowait, 1, OPTIONS)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.keep)
            nursery.start_soon(hub.run)
            with trio.fail_after(READY_S_MAX):
                first = await heard.receive()
                assert isinstance(first, ev.WorkerReady)
                pool.kill(0)
                assert await heard.receive() == ev.WorkerGone(0)
                assert await heard.receive() == first
            await pool.close()
            nursery.cancel_scope.cancel()

    trio.run(main)


# --- parking ------------------------------------------------------------------------------------

FENCES = 8


def with_fences() -> bytes:
    """Measurements, each with a fence behind it."""
    nodes: list[dict[str, object]] = [
        {"id": "a", "op": "ALLOC_LQ", "vqs": ["q"], "args": {"n": 1, "profile": "logical:ideal"}}
    ]
    for at in range(FENCES):
        nodes += [
            {"id": f"h{at}", "op": "APPLY_H", "vqs": ["q"]},
            {"id": f"m{at}", "op": "MEASURE_Z", "vqs": ["q"], "produces": [f"m{at}"]},
            {"id": f"f{at}", "op": "FENCE_EPOCH"},
        ]
    nodes.append({"id": "z", "op": "FREE_LQ", "vqs": ["q"]})
    events = [f"m{at}" for at in range(FENCES)]
    resources = {"vqs": ["q"], "chs": [], "events": events}
    return json.dumps(
        {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    ).encode()


def a_segment(ticket: int, **changes: Any) -> fx.RunSegment:
    fields: dict[str, Any] = {
        "ticket": ticket, "worker": 0, "job_id": "job", "program": 1, "graph": with_fences(),
        "engine": "frames", "seed": 3, "noise": "ideal", "shot_first": 0, "shots": 5000,
        "shots_total": 5000, "row_bytes": 2, "counts": True, "setting": USUAL,
    }  # fmt: skip
    return fx.RunSegment(**{**fields, **changes})


def with_pool(
    hub: Hub,
    results: Results,
    snapshots: Snapshots,
    count: int,
    story: Callable[[Pool, trio.MemoryReceiveChannel[ev.Event]], Awaitable[None]],
) -> None:
    """Tell a story of a pool of that many workers, which are ready."""
    into, heard = trio.open_memory_channel[ev.Event](100)
    pool = Pool(hub, results, NO_TABLES, into.send_nowait, count, OPTIONS, (), snapshots)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.keep)
            nursery.start_soon(hub.run)
            with trio.fail_after(READY_S_MAX):
                for _ in range(count):
                    assert isinstance(await heard.receive(), ev.WorkerReady)
                await story(pool, heard)
            await pool.close()
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("shots", [5000, 100_000])
def test_a_segment_parked_again_and_again_in_two_workers_has_the_rows_of_an_undisturbed_one(
    hub: Hub, shots: int
) -> None:
    """Rows that go through the socket, and rows in a memory file."""
    assert (shots * 2 > ROWS_HELD_BYTES_MAX) == (shots == 100_000)
    results, snapshots = Results(), Snapshots()
    parked: list[int] = []

    async def story(pool: Pool, heard: trio.MemoryReceiveChannel[ev.Event]) -> None:
        total = {"shots_total": shots}
        pool.run(a_segment(1, shots=SHOT_BLOCK, **total))
        assert isinstance(await heard.receive(), ev.SegmentDone)
        left = {"shot_first": SHOT_BLOCK, "shots": shots - SHOT_BLOCK}
        segment = a_segment(2, park_ns=1, **left, **total)
        while True:
            pool.run(segment)
            told = await heard.receive()
            snapshots.drop(segment.resume)
            if not isinstance(told, ev.SegmentParked):
                assert isinstance(told, ev.SegmentDone)
                return
            assert told.size, "it stands at a fence"
            parked.append(told.epoch)
            done = 0 if told.report is None else told.report.shots
            segment = msgspec.structs.replace(
                segment, ticket=segment.ticket + 1, worker=1 - segment.worker,
                resume=segment.ticket, shot_first=segment.shot_first + done,
                shots=segment.shots - done,
            )  # fmt: skip

    before = open_descriptors()
    with_pool(hub, results, snapshots, 2, story)
    assert parked == list(range(1, FENCES + 1))
    results.seal("job")
    fd = results.descriptor("job")
    _, rows = run.run_segment(run.prepare(with_fences()), 3, 0, shots, "frames")
    assert os.pread(fd, 2 * shots, 0) == rows
    os.close(fd)
    results.close()
    assert open_descriptors() == before


def test_a_segment_parks_when_asked_and_one_that_nothing_is_kept_of_is_unfit(hub: Hub) -> None:
    def fetch(tickets: tuple[int, ...], fd: int, fetched: Fetched) -> None:
        hub.later(lambda: fetched(Damaged("its digest is another")))

    results, snapshots = Results(), Snapshots()
    large = {"shots": 1 << 21, "shots_total": 1 << 21}

    async def story(pool: Pool, heard: trio.MemoryReceiveChannel[ev.Event]) -> None:
        pool.run(a_segment(1, **large))
        pool.stop(0, 1, keep=True)
        told = await heard.receive()
        assert isinstance(told, ev.SegmentParked)
        assert snapshots.descriptor(1) is not None
        pool.run(a_segment(2, job_id="other", resume=99))
        lost = await heard.receive()
        assert isinstance(lost, ev.SegmentFailed)
        assert (lost.ticket, lost.reason) == (2, "unfit")
        assert "nothing is kept" in lost.message
        snapshots._fetch_stored = fetch
        pool.run(a_segment(4, job_id="fourth", resume=7))
        damaged = await heard.receive()
        assert isinstance(damaged, ev.SegmentFailed)
        assert (damaged.reason, damaged.message) == ("unfit", "its digest is another")
        pool.run(a_segment(3, job_id="third"))
        assert isinstance(await heard.receive(), ev.SegmentDone)

    with_pool(hub, results, snapshots, 1, story)
    snapshots.close()
    results.close()


def test_a_segment_is_held_back_until_what_it_goes_on_from_is_fetched(hub: Hub) -> None:
    """Meanwhile it can be stopped, its worker can end, and others run."""
    asked: list[tuple[int, Fetched]] = []
    results, snapshots = Results(), Snapshots(lambda _, fd, told: asked.append((fd, told)))
    shots = {"shots_total": 100_000}

    async def story(pool: Pool, heard: trio.MemoryReceiveChannel[ev.Event]) -> None:
        pool.run(a_segment(1, park_ns=1, shots=100_000, **shots))
        parked = await heard.receive()
        assert isinstance(parked, ev.SegmentParked)
        fd = snapshots.descriptor(1)
        assert fd is not None
        content = os.pread(fd, parked.size, 0)
        snapshots.drop(1)
        done = 0 if parked.report is None else parked.report.shots
        left = {"resume": 1, "shot_first": done, "shots": 100_000 - done, **shots}

        for ticket, keep in ((2, True), (3, False)):
            pool.run(a_segment(ticket, **left))
            pool.stop(0, ticket, keep=keep)
            assert await heard.receive() == stopped(ticket)
        pool.run(a_segment(4, job_id="other"))
        assert isinstance(await heard.receive(), ev.SegmentDone)
        pool.run(a_segment(5, **left))
        pool.kill(0)
        assert await heard.receive() == ev.WorkerGone(0)
        assert isinstance(await heard.receive(), ev.WorkerReady)
        pool.run(a_segment(6, **left))
        assert not pool._workers[0].running, "nothing was sent"

        ((fd, told),) = asked
        os.write(fd, content)
        told(None)
        assert list(pool._workers[0].running) == [6]
        finished = await heard.receive()
        assert isinstance(finished, ev.SegmentDone)
        assert finished.ticket == 6

    def stopped(ticket: int) -> ev.SegmentFailed:
        return ev.SegmentFailed(0, ticket, "stopped", "it had not begun")

    before = open_descriptors()
    with_pool(hub, results, snapshots, 1, story)
    results.seal("job")
    fd = results.descriptor("job")
    _, rows = run.run_segment(run.prepare(with_fences()), 3, 0, 100_000, "frames")
    assert os.pread(fd, 2 * 100_000, 0) == rows
    os.close(fd)
    snapshots.close()
    results.close()
    assert open_descriptors() == before


SEALED = b"a snapshot"
LIES: dict[str, tuple[dict[str, Any], tuple[bool, ...]]] = {
    "no file": ({"size": len(SEALED)}, ()),
    "a file that may change": ({"size": len(SEALED)}, (False,)),
    "a file of another size": ({"size": len(SEALED) + 1}, (True,)),
    "another digest's length": ({"size": len(SEALED), "digest": b"x"}, (True,)),
    "more files than it may": ({"size": 0}, (True,) * (FDS_WAITING_MAX + 1)),
}


def a_file(sealed: bool) -> int:
    fd = os.memfd_create("snapshot", os.MFD_ALLOW_SEALING)
    os.write(fd, SEALED)
    if sealed:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


def in_its_place(hub: Hub, pool: Pool) -> socket.socket:
    """A socket that speaks for the worker, whose own is closed."""
    worker = pool._workers[0]
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    hub.forget(worker.sock.fileno())
    worker.sock.close()
    worker.sock, worker.outbox = ours, Outbox(ours)
    hub.watch(ours.fileno(), EPOLLIN, lambda events: pool._moved(worker, events))
    return theirs


def say_parked(
    theirs: socket.socket, ticket: int, changes: dict[str, Any], files: tuple[bool, ...]
) -> None:
    """With files that are sealed or not."""
    fds = [a_file(sealed) for sealed in files]
    digest = sha256(SEALED).digest()
    parked = msg.Parked(ticket, None, None, **{"digest": digest, **changes})
    socket.send_fds(theirs, [msg.frame(parked)], fds)
    for fd in fds:
        os.close(fd)


def test_a_worker_that_lies_about_a_snapshot_is_ended_and_nothing_of_it_is_kept(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end of the socket is ours here; the process itself waits for the end of its own."""
    for name in ("BACKOFF_S_MIN", "BACKOFF_S_MAX"):
        monkeypatch.setattr(workers, name, 0.01)
    snapshots = Snapshots()

    async def story(pool: Pool, heard: trio.MemoryReceiveChannel[ev.Event]) -> None:
        for ticket, (changes, files) in enumerate(LIES.values(), 1):
            theirs = in_its_place(hub, pool)
            pool.run(a_segment(ticket))
            say_parked(theirs, ticket, changes, files)
            theirs.close()
            assert await heard.receive() == ev.WorkerGone(0)
            assert snapshots.descriptor(ticket) is None
            assert isinstance(await heard.receive(), ev.WorkerReady)

    before = open_descriptors()
    with_pool(hub, Results(), snapshots, 1, story)
    assert open_descriptors() == before


def test_a_snapshot_that_no_descriptor_is_left_for_is_lost_and_the_worker_not_blamed(
    hub: Hub,
) -> None:
    snapshots = Snapshots()

    async def story(pool: Pool, heard: trio.MemoryReceiveChannel[ev.Event]) -> None:
        theirs = in_its_place(hub, pool)
        truth: tuple[dict[str, Any], tuple[bool, ...]] = (
            {"size": len(SEALED), "epoch": 3},
            (True,),
        )
        for ticket in (1, 2, 3):
            pool.run(a_segment(ticket))
        say_parked(theirs, 1, *truth)
        say_parked(theirs, 2, *truth)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            pool._moved(pool._workers[0], EPOLLIN)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await heard.receive() == ev.SegmentParked(0, 1, None)
        digest = sha256(SEALED).digest()
        assert await heard.receive() == ev.SegmentParked(0, 2, None, 3, len(SEALED), digest)
        assert snapshots.descriptor(1) is None
        assert snapshots.descriptor(2) is not None
        say_parked(theirs, 3, {"size": 0, "digest": b""}, ())
        assert await heard.receive() == ev.SegmentParked(0, 3, None)
        theirs.close()

    before = open_descriptors()
    with_pool(hub, Results(), snapshots, 1, story)
    snapshots.close()
    assert open_descriptors() == before
