"""What the demonstration prints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from harness.demo.judge import P_MIN, Verdict
from harness.demo.runs import Run

OUTCOMES_SHOWN_MAX = 16
BAR_CHARS = 20


def outcomes_table(run: Run) -> Table:
    """Counts beside the exact distribution, the likeliest outcomes first.

    off by: how far the count is from its expectation, in standard deviations.
    """
    exact, shots = run.program.exact, run.verdict.shots
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), header_style="dim")
    table.add_column("outcome", overflow="fold", max_width=36)
    for name in ("counted", "expected", "off by"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("share counted", min_width=BAR_CHARS, no_wrap=True)
    ranked = sorted(exact.keys() | run.counts.keys(), key=lambda key: (-exact.get(key, 0.0), key))
    for key in ranked[:OUTCOMES_SHOWN_MAX]:
        seen, probability = run.counts.get(key, 0), exact.get(key, 0.0)
        spread = math.sqrt(shots * probability * (1 - probability))
        off = f"{(seen - shots * probability) / spread:+.1f} sd" if spread > 0.5 else ""
        bar = Text("█" * round(BAR_CHARS * seen / shots), style="blue")
        table.add_row(key or "(no events)", f"{seen}", f"{shots * probability:.1f}", off, bar)
    if rest := ranked[OUTCOMES_SHOWN_MAX:]:
        seen = sum(run.counts.get(key, 0) for key in rest)
        expected = shots * sum(exact.get(key, 0.0) for key in rest)
        table.add_row(f"{len(rest)} others", f"{seen}", f"{expected:.1f}", "", "")
    return table


def verdict_text(verdict: Verdict) -> Text:
    """Total variation distance, its bound and the test, in one line."""
    line = Text(
        f"  distance {verdict.distance:.4f} (bound {verdict.distance_max:.4f}), "
        f"G-test p = {verdict.p:.3g}: "
    )
    if verdict.inside:
        return line.append("inside the bounds", style="green")
    if verdict.impossible:
        return line.append(f"IMPOSSIBLE outcomes {verdict.impossible}", style="bold red")
    return line.append("OUTSIDE the bounds", style="bold red")


def summary_table(runs: Sequence[Run]) -> Table:
    """One line per program."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("program", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    for name in ("epochs", "outcomes", "TVD", "bound", "p", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for run in runs:
        verdict = run.verdict
        table.add_row(
            run.program.name,
            run.engine,
            str(run.status.progress.total_epochs),
            str(len(run.program.exact)),
            f"{verdict.distance:.4f}",
            f"{verdict.distance_max:.4f}",
            f"{verdict.p:.3g}",
            f"{run.status.telemetry.execution_time_ms:.1f}",
            Text("inside", style="green") if verdict.inside else Text("OUTSIDE", style="bold red"),
        )
    return table


def noisy_table(runs: Sequence[Run]) -> Table:
    """One line per program: how far the errors of its codes take it from the exact distribution."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("program", no_wrap=True)
    table.add_column("errors", no_wrap=True)
    for name in ("TVD", "impossible outcomes"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        noisy = run.noisy
        share = f"{100 * noisy.impossible / run.verdict.shots:.2f} %"
        table.add_row(run.program.name, noisy.noise, f"{noisy.distance:.4f}", share)
    return table


def bounds_sentence() -> str:
    """What "inside" means."""
    return (
        f"Inside: no impossible outcome; G-test (cells expecting fewer than 5 pooled) p > {P_MIN:g}"
        f"; total variation distance (TVD) below a bound that holds but for {P_MIN:g} of runs."
    )
