"""The accounts of many decoders at once: of each shot a stream of windows, as `device.py` says.

`cut` says which windows a history's syndrome is given in, `weights` how heavy they are, `account`
what the decoder of each shot then did. The same accounting as `device.account`, shot by shot, with
sums and maxima instead of lists; of times in whole nanoseconds below 2^53 all of it is exact, so
that it adds up to the same however shots are cut into batches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmkd.qec.decoders import Packed
from qmkd.qec.device import Device, Weights
from qmkd.qec.windows import sliding


class Window(NamedTuple):
    """One window of a packed row of detectors.

    first: byte at which `mask` begins, which has the bits that the window sees. arrives: rounds
    after which it is complete.
    """

    first: int
    mask: Packed
    arrives: int


class Accounts(NamedTuple):
    """Of all streams together. Times in ns; the last two are the most of any stream."""

    failures: int
    busy_ns: int
    stalled_ns: int
    overloads: int
    backlog_most: int
    waited_ns_most: int


def cut(rounds: NDArray[np.float64], distance: int) -> tuple[Window, ...]:
    """Windows of two distances of rounds, one every distance; a short history is a single one.

    rounds: of each detector, the first being 0; the last is the length of the memory.
    """
    found = []
    last = int(rounds.max())
    steps = sliding(rounds, 2 * distance, distance)
    for number, step in enumerate(steps):
        seen = sorted(step.see)
        first = seen[0] // 8
        bits = np.zeros(8 * (seen[-1] // 8 + 1 - first), dtype=np.uint8)
        bits[[each - 8 * first for each in seen]] = 1
        arrives = last if number + 1 == len(steps) else (number + 2) * distance
        found.append(Window(first, np.packbits(bits, bitorder="little"), arrives))
    return tuple(found)


def weights(windows: tuple[Window, ...], detections: Packed) -> Weights:
    """Detection events that each window sees: int64, shape (shots, windows).

    detections: packed rows of the detectors.
    """
    found = np.empty((len(detections), len(windows)), dtype=np.int64)
    for number, (first, mask, _) in enumerate(windows):
        seen = detections[:, first : first + len(mask)] & mask
        found[:, number] = np.bitwise_count(seen).sum(axis=1)
    return found


def account(device: Device, weights: Weights, arrives: tuple[int, ...]) -> Accounts:
    """What a decoder for each shot did with its windows.

    weights: shape (shots, windows). arrives: rounds after which each window is complete, if the
    machine is not held back; it is held back for a stream by itself.
    """
    shots, windows = weights.shape
    assert len(arrives) == windows
    service = device.service_ns(weights)
    finished = np.zeros((shots, windows))
    held = np.zeros(shots)
    free = np.zeros(shots)
    waiting = np.zeros(shots, dtype=np.int64)
    overloads, backlog, waited = 0, 0, 0.0
    for number, rounds in enumerate(arrives):
        arrival = rounds * device.round_ns + held
        if device.backlog_max is not None and number >= device.backlog_max:
            late = np.maximum(finished[:, number - device.backlog_max] - arrival, 0.0)
            overloads += int(np.count_nonzero(late))
            held += late
            arrival += late
        free = np.maximum(arrival, free) + service[:, number]
        finished[:, number] = free
        waited = max(waited, float((free - arrival).max(initial=0.0)))
        waiting = _still_waiting(finished, waiting, number, arrival)
        backlog = max(backlog, int((number - waiting).max(initial=-1)) + 1)
    heaviest = device.weight_max
    return Accounts(
        failures=0 if heaviest is None else int((weights > heaviest).sum()),
        busy_ns=int(service.sum()),
        stalled_ns=int(held.sum()),
        overloads=overloads,
        backlog_most=backlog,
        waited_ns_most=int(waited),
    )


def _still_waiting(
    finished: NDArray[np.float64],
    first: NDArray[np.int64],
    number: int,
    now: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Of each stream the first of its windows up to `number` that is not done by now."""
    shots = np.arange(len(first))
    while True:
        done = (first < number) & (finished[shots, first] <= now)
        if not done.any():
            return first
        first = first + done
