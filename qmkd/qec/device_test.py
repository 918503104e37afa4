"""The decoder's accounting beside queues worked out by hand, and beside a slow simulation."""

from __future__ import annotations

import numpy as np
import pytest

from qmkd.qec.decoders import model_of
from qmkd.qec.decoders_test import generated
from qmkd.qec.device import Device, DeviceError, Ledger, account
from qmkd.qec.sampling import syndrome_weights
from qmkd.qec.windows import Stepwise, rounds_of, sliding


def weights(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def test_a_fast_decoder_is_never_behind() -> None:
    ledger = account(Device(round_ns=1000, window_ns=2500, event_ns=100), weights(1, 2, 3), 3)
    assert ledger.waited_ns == (2600, 2700, 2800)
    assert ledger.finished_ns == (5600, 8700, 11800)
    assert ledger.backlog == (1, 1, 1)
    assert ledger.busy_cycles == 8.1
    assert ledger.keeps_up
    assert ledger.reaction_ns == 2800
    assert (ledger.failures, ledger.overloads, ledger.stalled_ns) == (0, 0, 0)


def test_a_slow_decoder_falls_behind_by_the_same_amount_each_window() -> None:
    ledger = account(Device(round_ns=1000, window_ns=4000), weights(0, 0, 0, 0, 0), 3)
    assert ledger.waited_ns == (4000, 5000, 6000, 7000, 8000)
    assert ledger.backlog == (1, 2, 2, 2, 2)
    assert not ledger.keeps_up


def test_a_full_queue_holds_the_machine_back() -> None:
    device = Device(round_ns=1000, window_ns=4000, backlog_max=1)
    ledger = account(device, weights(0, 0, 0), 3)
    assert ledger.overloads == 2
    assert ledger.stalled_ns == 2000
    assert ledger.waited_ns == (4000, 4000, 4000)
    assert max(ledger.backlog) <= 1


def test_windows_heavier_than_the_device_takes_fail_and_cost_nothing() -> None:
    device = Device(round_ns=1000, window_ns=500, event_ns=10, weight_max=4)
    ledger = account(device, weights(4, 5, 0, 9), 1)
    assert ledger.failures == 2
    assert ledger.busy_cycles == pytest.approx((540 + 500) / 1000)
    assert ledger.histogram == (1, 0, 0, 0, 1, 1, 0, 0, 0, 1)


def by_ticks(device: Device, loads: list[int], commit: int) -> list[int]:
    """When each window is done, ticking in nanoseconds; the queue has no end."""
    done, waiting, left, number = [], [], 0, 0
    for now in range(10**6):
        if number < len(loads) and now == (number + 1) * commit * int(device.round_ns):
            waiting.append(loads[number])
            number += 1
        if left == 0 and waiting:
            left = int(device.window_ns + device.event_ns * waiting.pop(0))
        if left:
            left -= 1
            if left == 0:
                done.append(now + 1)
        if len(done) == len(loads):
            return done
    raise AssertionError("never done")


def test_the_ledger_is_that_of_a_machine_that_ticks() -> None:
    rng = np.random.default_rng(2)
    device = Device(round_ns=20, window_ns=15, event_ns=7)
    for _ in range(20):
        loads = rng.integers(0, 12, size=30)
        ledger = account(device, loads, 3)
        assert list(ledger.finished_ns) == by_ticks(device, loads.tolist(), 3)


def test_windows_of_a_real_history_feed_the_ledger() -> None:
    circuit = generated("surface_code:rotated_memory_z", 3, 30, 3e-3)
    model = model_of(circuit)
    detections = circuit.compile_detector_sampler(seed=1).sample(64, bit_packed=True)
    steps = sliding(rounds_of(model), 6, 3)
    heavy: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    Stepwise(model, steps).decode(detections, lambda _, rows: heavy.append(syndrome_weights(rows)))
    each_shot = np.array(heavy).T
    device = Device(round_ns=1000, window_ns=1000, event_ns=200, weight_max=10)
    ledgers: list[Ledger] = [account(device, shot, 3) for shot in each_shot]
    assert all(ledger.windows == len(steps) for ledger in ledgers)
    assert sum(sum(ledger.histogram) for ledger in ledgers) == each_shot.size
    assert sum(ledger.failures for ledger in ledgers) == (each_shot > 10).sum()


@pytest.mark.parametrize(
    ("field", "value"),
    [("round_ns", 0), ("window_ns", -1), ("event_ns", -1), ("weight_max", -1), ("backlog_max", 0)],
)
def test_a_decoder_that_cannot_be_is_refused(field: str, value: float) -> None:
    fields = {"round_ns": 1000, "window_ns": 10} | {field: value}
    with pytest.raises(DeviceError):
        Device(**fields)  # type: ignore[arg-type]
