"""A soak drawn: memory, descriptors, answer times beside the echo's, the database."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.pictures.style import colours, finish
from tests.soak.figures import Moment
from tests.soak.probe import KINDS
from tests.soak.soak import Soaked, total

NAMES = {"call": "a call", "echo": "an echo", "job": "a small job"}
MIB = 1 << 20


def drawn(soaked: Soaked) -> Figure:
    """Four panels over the minutes; the warm-up is grey."""
    figure = Figure(figsize=(10.4, 7.0), layout="constrained")
    memory, descriptors, times, store = figure.subplots(2, 2).flat
    _lines(memory, soaked, {
        "daemon": lambda now: now.daemon.rss / MIB,
        "workers": lambda now: sum(each.rss for each in now.workers) / MIB,
        "daemon's memory files": lambda now: (now.memory_files or 0) / MIB,
    })  # fmt: skip
    finish(memory, x="", y="MiB", title="Memory, resident")
    _lines(descriptors, soaked, {
        "daemon": lambda now: now.daemon.fds or 0,
        "workers": lambda now: total(now.workers, "fds") or 0,
        "connections": lambda now: now.connections,
    })  # fmt: skip
    finish(descriptors, x="", y="number", title="Descriptors")
    _times(times, soaked)
    finish(times, x="minutes", y="ms", title="Answer times: 50th (dashed) and 99th percentile")
    _lines(store, soaked, {
        "database": lambda now: now.store_bytes / MIB,
        "entries of the chain / 1000": lambda now: now.entries / 1000,
        "jobs that have ended / 1000": lambda now: now.jobs / 1000,
    })  # fmt: skip
    finish(store, x="minutes", y="MiB, thousands", title="What is kept")
    for axes in (memory, descriptors, times, store):
        axes.axvspan(0, soaked.warm_s / 60, color="0.93", zorder=0)
        axes.legend(fontsize=8, frameon=False)
    for axes in (memory, descriptors, store):
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the legend
    return figure


def _lines(axes: Axes, soaked: Soaked, series: dict[str, Callable[[Moment], float]]) -> None:
    minutes = [each.at_s / 60 for each in soaked.samples]
    for (name, of), colour in zip(series.items(), colours(series).values(), strict=True):
        values = [of(each.moment) for each in soaked.samples]
        axes.plot(minutes, values, label=name, color=colour, linewidth=1.3)


def _times(axes: Axes, soaked: Soaked) -> None:
    for kind, colour in colours(KINDS).items():
        known = [each for each in soaked.windows if kind in each.counts]
        minutes = [(each.number + 0.5) * soaked.window_s / 60 for each in known]
        p99 = [1e3 * each.p99_s[kind] for each in known]
        p50 = [1e3 * each.p50_s[kind] for each in known]
        axes.plot(minutes, p99, label=NAMES[kind], color=colour, linewidth=1.3)
        axes.plot(minutes, p50, color=colour, linewidth=1.0, linestyle="--")
    axes.set_yscale("log")
