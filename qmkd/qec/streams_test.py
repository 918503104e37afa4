"""Many streams at once are accounted for as each by itself, and windows see what they should."""

from __future__ import annotations

import numpy as np
import pytest

from qmkd.qec import noise, streams
from qmkd.qec.circuits import memory
from qmkd.qec.codes.surface import surface
from qmkd.qec.decoders import model_of
from qmkd.qec.device import Device, account
from qmkd.qec.windows import rounds_of

DEVICES = {
    "keeps up": Device(round_ns=1000, window_ns=100, event_ns=10),
    "behind": Device(round_ns=1000, window_ns=2500, event_ns=300),
    "bounded": Device(round_ns=1000, window_ns=2500, event_ns=300, backlog_max=2),
    "fails": Device(round_ns=1000, window_ns=2500, event_ns=300, weight_max=3, backlog_max=1),
    "at once": Device(round_ns=1000, window_ns=0),
}


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_many_streams_come_to_what_each_comes_to_by_itself(device: Device) -> None:
    rng = np.random.default_rng(5)
    weights = rng.poisson(3, size=(300, 12))
    found = streams.account(device, weights, tuple(3 * each for each in range(1, 13)))
    ledgers = [account(device, row, commit=3) for row in weights]
    assert found == streams.Accounts(
        failures=sum(each.failures for each in ledgers),
        busy_ns=int(sum(each.busy_cycles for each in ledgers) * 1000 + 0.5),
        stalled_ns=int(sum(each.stalled_ns for each in ledgers)),
        overloads=sum(each.overloads for each in ledgers),
        backlog_most=max(max(each.backlog) for each in ledgers),
        waited_ns_most=int(max(each.reaction_ns for each in ledgers)),
    )


def test_nothing_to_account_for_comes_to_nothing() -> None:
    none = np.zeros((0, 3), dtype=np.int64)
    assert streams.account(DEVICES["bounded"], none, (6, 9, 12)) == (0,) * 6


@pytest.mark.parametrize("length", [1, 5, 6, 7, 20])
def test_each_window_sees_two_distances_of_rounds_and_each_round_is_seen(length: int) -> None:
    model = model_of(noise.apply(memory(surface(3), length, "Z"), noise.uniform(1e-3)))
    rounds = rounds_of(model)
    windows = streams.cut(rounds, 3)
    rng = np.random.default_rng(6)
    bits = rng.integers(0, 2, size=(50, model.num_detectors), dtype=np.uint8)
    found = streams.weights(windows, np.packbits(bits, axis=1, bitorder="little"))
    assert windows[-1].arrives == length
    for number, window in enumerate(windows):
        low = 3 * number
        high = low + 6 if number + 1 < len(windows) else length + 1
        assert window.arrives == min(high, length)
        assert np.array_equal(found[:, number], bits[:, (rounds >= low) & (rounds < high)].sum(1))
