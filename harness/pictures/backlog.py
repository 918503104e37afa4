"""How far a decoder is behind: two speeds and a short queue, on one stream of real syndromes.

The stream is what windows of 2d that commit d see of memories one after another. A decoder's speed
is given by its load, the work that the stream brings in one unit of time; above 1 it falls behind
for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from harness.pictures.style import PictureRefused, colours, finish
from qmkd.qec import noise
from qmkd.qec.circuits import memory
from qmkd.qec.codes.code import CodeError
from qmkd.qec.codes.surface import surface
from qmkd.qec.decoders import Packed, model_of
from qmkd.qec.device import Device, Ledger, Weights, account
from qmkd.qec.sampling import syndrome_weights
from qmkd.qec.windows import Stepwise, rounds_of, sliding

ROUND_NS = 1000.0
SHARE_OF_EVENTS = 0.8
"""Of the work; the rest is the same for every window."""
WINDOWS_OF_ONE = 20
"""Windows of one memory."""
QUEUE = 4
"""Windows that wait at most in the bounded case."""


def weights_of(distance: int, p: float, windows: int, seed: int) -> Weights:
    """Detection events in each window of surface memories. Raises PictureRefused."""
    try:
        rounds = distance * (WINDOWS_OF_ONE + 1)
        circuit = noise.apply(memory(surface(distance), rounds, "Z"), noise.uniform(p))
    except (CodeError, noise.NoiseError) as problem:
        raise PictureRefused(str(problem)) from problem
    model = model_of(circuit)
    decoder = Stepwise(model, sliding(rounds_of(model), 2 * distance, distance), False)
    sampler = circuit.compile_detector_sampler(seed=seed)
    shots = sampler.sample(-(-windows // len(decoder.steps)), bit_packed=True)
    seen: list[Weights] = []

    def watch(_: int, syndromes: Packed) -> None:
        seen.append(syndrome_weights(syndromes))

    decoder.decode(shots, watch)
    return np.stack(seen, axis=1).reshape(-1)[:windows]


def device_of(weights: Weights, commit: int, load: float, queue: int | None = None) -> Device:
    """A decoder to which this stream is such a load."""
    work_ns = load * commit * ROUND_NS
    mean = max(float(weights.mean()), 1.0)
    return Device(
        round_ns=ROUND_NS,
        window_ns=(1 - SHARE_OF_EVENTS) * work_ns,
        event_ns=SHARE_OF_EVENTS * work_ns / mean,
        backlog_max=queue,
    )


def backlog(distance: int, p: float, windows: int, loads: Sequence[float], seed: int) -> Figure:
    """Windows waiting, and how late each is done, over the time of the machine."""
    if not loads or min(loads) <= 0 or windows < 1:
        raise PictureRefused("loads are above 0, and there is one window at least")
    weights = weights_of(distance, p, windows, seed)
    cases: list[tuple[str, Ledger]] = [
        (f"load {load:g}", account(device_of(weights, distance, load), weights, distance))
        for load in loads
    ]
    heaviest = max(loads)
    bounded = account(device_of(weights, distance, heaviest, QUEUE), weights, distance)
    stalled = bounded.stalled_ns / 1e3
    cases.append(
        (f"load {heaviest:g}, queue of {QUEUE}: rounds held back by {stalled:.0f} us", bounded)
    )
    figure = Figure(figsize=(7.4, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for (name, ledger), colour in zip(cases, colours(range(len(cases))).values(), strict=True):
        arrived = np.array(ledger.finished_ns) - np.array(ledger.waited_ns)
        above.step(arrived / 1e3, ledger.backlog, where="post", color=colour, label=name)
        below.plot(arrived / 1e3, np.array(ledger.waited_ns) / 1e3, color=colour)
    title = (
        f"Windows of {2 * distance} rounds committing {distance}: surface, p = {p:g}, 1 us a round"
    )
    finish(above, x="", y="windows waiting or in work", title=title)
    finish(below, x="time, us", y="decoded so late, us", title="")
    above.legend(frameon=False, fontsize=8)
    return figure
