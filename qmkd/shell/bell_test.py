"""A bell is heard between two turns of a busy loop, and wakes one that sleeps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from select import EPOLLIN, select

import trio
import trio.testing

from qmkd.shell.bell import Bell
from qmkd.shell.hub import Hub


def readable(bell: Bell) -> bool:
    return bool(select([bell.fd], [], [], 0.0)[0])


def test_a_bell_rung_while_nobody_hears_can_be_waited_for_until_it_is_silenced() -> None:
    bell = Bell()
    bell.ring()
    assert bell.rung
    assert readable(bell)
    bell.silence()
    assert not bell.rung
    assert not readable(bell)
    bell.silence()
    bell.close()


def test_a_bell_rung_while_somebody_hears_needs_no_system_call() -> None:
    bell = Bell()
    bell.hears = True
    bell.ring()
    assert bell.rung
    assert not readable(bell)
    bell.close()


def run_with(hub: Hub, done: trio.Event) -> None:
    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hub.run)
                await done.wait()
                nursery.cancel_scope.cancel()

    trio.run(main)
    hub.close()


def test_a_sleeping_hub_is_woken_by_another_thread() -> None:
    hub, bell, done = Hub(), Bell(), trio.Event()

    def hear() -> None:
        bell.silence()
        done.set()

    hub.listen(bell, hear)
    thread = threading.Timer(0.05, bell.ring)
    thread.start()
    run_with(hub, done)
    thread.join()


def test_a_busy_hub_hears_the_bell_before_its_next_turn_and_does_what_was_put_off() -> None:
    hub, bell, done = Hub(), Bell(), trio.Event()
    said: list[str] = []

    def hear() -> None:
        bell.silence()
        said.append("heard")
        hub.at_end_of_round(lambda: said.append("put off"))

    def turn(fd: int) -> Callable[[int], None]:
        def serve(events: int) -> None:
            os.eventfd_read(fd)
            said.append("turn")
            bell.ring()
            if said.count("turn") == 3:
                done.set()

        return serve

    hub.listen(bell, hear)
    for _ in range(3):
        fd = os.eventfd(1, os.EFD_NONBLOCK)
        hub.watch(fd, EPOLLIN, turn(fd))
    run_with(hub, done)
    assert said == 3 * ["turn", "heard", "put off"]


def test_what_is_put_off_while_the_hub_sleeps_is_done_soon() -> None:
    hub, done = Hub(), trio.Event()

    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hub.run)
                await trio.testing.wait_all_tasks_blocked()
                hub.at_end_of_round(done.set)
                await done.wait()
                nursery.cancel_scope.cancel()

    trio.run(main)
    hub.close()


def test_what_was_put_off_before_the_hub_runs_is_done_soon() -> None:
    hub, done = Hub(), trio.Event()
    hub.at_end_of_round(done.set)
    run_with(hub, done)
