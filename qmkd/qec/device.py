"""A decoder as a device with a speed: does it keep up, and what does it do when it cannot?

Pure accounting: given how heavy each window's syndrome was, when the decoder would have finished
it, how far behind it was, what it had to give up. Nothing here decodes; the weights come from
`windows.Stepwise` (its `watch`) and `sampling.syndrome_weights`. Times are in nanoseconds of the
simulated machine.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

WEIGHTS_MAX: Final = 4096
"""Longest histogram of syndrome weights; heavier windows are counted in the last place."""

Weights = NDArray[np.int64]


class DeviceError(ValueError):
    """A decoder that cannot be: times below zero, or no time between rounds."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder's speed and its limits.

    round_ns: between rounds of syndrome extraction. window_ns + event_ns * weight: to decode a
    window. weight_max: heavier windows are not decoded but failed. backlog_max: windows waiting at
    once; one more is overload, and the machine must wait with its next round.
    """

    round_ns: float
    window_ns: float
    event_ns: float = 0.0
    weight_max: int | None = None
    backlog_max: int | None = None

    def __post_init__(self) -> None:
        if not self.round_ns > 0:
            raise DeviceError(f"rounds take time; round_ns is {self.round_ns}")
        if self.window_ns < 0 or self.event_ns < 0:
            raise DeviceError("decoding takes no negative time")
        if self.weight_max is not None and self.weight_max < 0:
            raise DeviceError(
                f"a syndrome weighs nothing at least; weight_max is {self.weight_max}"
            )
        if self.backlog_max is not None and self.backlog_max < 1:
            raise DeviceError(f"one window must be able to wait; backlog_max is {self.backlog_max}")

    def service_ns(self, weights: Weights) -> NDArray[np.float64]:
        """How long each window takes; a failed one takes no time."""
        times = self.window_ns + self.event_ns * weights
        if self.weight_max is not None:
            times = np.where(weights > self.weight_max, 0.0, times)
        return np.asarray(times, dtype=np.float64)


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What a decoder did for one stream of windows.

    rounds: that the windows are for. busy_cycles: rounds' worth of work. finished_ns, waited_ns: of
    each window, when it was decoded and how long after its last round. backlog: windows waiting or
    in work when each arrives, itself included. stalled_ns: by how much rounds were held back, in
    all. overloads: how often. failures: windows heavier than the device takes. histogram: windows
    by weight.
    """

    windows: int
    rounds: int
    busy_cycles: float
    finished_ns: tuple[float, ...]
    waited_ns: tuple[float, ...]
    backlog: tuple[int, ...]
    stalled_ns: float
    overloads: int
    failures: int
    histogram: tuple[int, ...]

    @property
    def keeps_up(self) -> bool:
        """Whether the work took no longer than the rounds it was for; else the backlog grows."""
        return self.busy_cycles <= self.rounds

    @property
    def reaction_ns(self) -> float:
        """The longest wait: a gate that depends on an outcome may start that late."""
        return max(self.waited_ns, default=0.0)


def account(device: Device, weights: Weights, commit: int) -> Ledger:
    """Run a stream of windows, one after each `commit` rounds, through the device in order.

    weights: int64, shape (windows,).
    """
    assert weights.ndim == 1
    assert commit > 0
    service = device.service_ns(weights)
    arrival = 0.0
    stalled, overloads = 0.0, 0
    finished: list[float] = []
    waited: list[float] = []
    backlog: list[int] = []
    first_waiting = 0
    for number, time in enumerate(service):
        arrival += commit * device.round_ns
        # A full queue holds the machine back until a place in it is free.
        if device.backlog_max is not None and number >= device.backlog_max:
            free = finished[number - device.backlog_max]
            if free > arrival:
                stalled += free - arrival
                overloads += 1
                arrival = free
        start = max(arrival, finished[-1]) if finished else arrival
        finished.append(start + float(time))
        waited.append(finished[-1] - arrival)
        while first_waiting < number and finished[first_waiting] <= arrival:
            first_waiting += 1
        backlog.append(number - first_waiting + 1)
    failures = 0 if device.weight_max is None else int((weights > device.weight_max).sum())
    capped = np.minimum(weights, WEIGHTS_MAX)
    return Ledger(
        windows=len(weights),
        rounds=commit * len(weights),
        busy_cycles=float(service.sum()) / device.round_ns,
        finished_ns=tuple(finished),
        waited_ns=tuple(waited),
        backlog=tuple(backlog),
        stalled_ns=stalled,
        overloads=overloads,
        failures=failures,
        histogram=tuple(np.bincount(capped).tolist()) if len(weights) else (),
    )
