"""Timers fire when due, in order, and not when cancelled."""

from __future__ import annotations

import time

import trio

from qmkd.shell.clock import STALE_TIMERS_MAX, Clock, Timers


def test_the_clock_is_wall_time_and_never_goes_back() -> None:
    clock = Clock()
    readings = [clock.now_ns() for _ in range(1000)]
    assert readings == sorted(readings)
    assert abs(readings[0] - time.time_ns()) < 1_000_000_000


async def test_timers_fire_in_order_and_not_early_and_a_sooner_one_wakes_the_sleeper() -> None:
    clock, fired = Clock(), []
    timers = Timers(clock, lambda token: fired.append((token, clock.now_ns())))
    due = {}

    def set_in(token: int, ms: int) -> None:
        due[token] = clock.now_ns() + ms * 1_000_000
        timers.set(token, due[token])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        set_in(1, 60)
        await trio.sleep(0.01)
        set_in(2, 20)
        set_in(3, 30)
        timers.cancel(3)
        set_in(4, 10_000)
        timers.set(4, clock.now_ns() - 1)
        with trio.fail_after(5):
            while len(fired) < 3:
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()
    assert [token for token, _ in fired] == [4, 2, 1]
    assert all(at_ns >= due[token] for token, at_ns in fired if token != 4)


def test_cancelled_timers_do_not_pile_up() -> None:
    timers = Timers(Clock(), lambda token: None)
    for token in range(10 * STALE_TIMERS_MAX):
        timers.set(token, 1 << 62)
        timers.cancel(token)
    assert len(timers._heap) <= STALE_TIMERS_MAX + 1
