"""How workers are started, ended and started again, with real processes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from qmkd.core import events as ev
from qmkd.shell import workers
from qmkd.shell.hub import Hub
from qmkd.shell.results import Results
from qmkd.shell.tables import Tables
from qmkd.shell.workers import START_FAILURES_MAX, Pool, Worker

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
