"""The demonstration: run every example on a fresh daemon and hold it against the exact result.

Each runs without errors, which is what is held against it, and with those of its codes.
Ends with status 0 if every program is inside its bounds, 1 if one is not, 2 if it could not be run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness.demo.host import HostFailed, daemon
from harness.demo.runs import Program, Run, all_programs, run_all, summary
from harness.demo.tables import (
    bounds_sentence,
    noisy_table,
    outcomes_table,
    summary_table,
    verdict_text,
)
from runtime.client import Client, QmkError
from syscalls.events import JobEvent
from syscalls.ids import JobId
from syscalls.job import SHOTS_MAX

SHOTS = 20_000
SEED = 20_250_131


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m harness.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="where to write")
    parser.add_argument("--shots", type=int, default=SHOTS)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    if not 1 <= options.shots <= SHOTS_MAX:
        parser.error(f"--shots is 1 to {SHOTS_MAX}")
    console = Console(highlight=False, emoji=False, markup=False)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        return _demonstrate(console, options.out, options.shots, options.seed)
    except (HostFailed, QmkError, OSError) as error:
        console.print(f"The demonstration could not be run. {error}", style="red")
        return 2


def _demonstrate(console: Console, out: Path, shots: int, seed: int) -> int:
    began = time.monotonic()
    programs = all_programs()
    console.print(f"Starting qmkd; {len(programs)} programs, twice {shots} shots, seed {seed}.")
    with daemon() as socket, Client(socket) as client:
        runs = _run_with_bar(console, client, programs, shots, seed)
    seconds = time.monotonic() - began
    for run in runs:
        console.print(f"\n{run.program.name}", style="bold")
        console.print(f"  {run.program.description}", style="dim")
        console.print(outcomes_table(run))
        console.print(verdict_text(run.verdict))
    console.print("\nSummary", style="bold")
    console.print(summary_table(runs))
    console.print(bounds_sentence(), style="dim")
    console.print("\nThe same with the errors of the codes that the programs ask for", style="bold")
    console.print(noisy_table(runs))
    _write(out, runs, shots, seed, seconds)
    inside = sum(run.verdict.inside for run in runs)
    console.print(
        f"{inside} of {len(runs)} programs inside their bounds, {seconds:.1f} s; the daemon "
        f"stopped cleanly. Wrote {out / 'demo.png'} and {out / 'demo.json'}."
    )
    return 0 if inside == len(runs) else 1


def _run_with_bar(
    console: Console, client: Client, programs: Sequence[Program], shots: int, seed: int
) -> list[Run]:
    """`run_all` under a progress bar of shots."""
    done: dict[JobId, int] = {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("shots"),
        TimeElapsedColumn(),
        console=console,
    ) as bar:
        task = bar.add_task("running", total=2 * shots * len(programs))

        def tell(event: JobEvent) -> None:
            done[event.job_id] = event.progress.shots_done
            bar.update(task, completed=sum(done.values()))

        runs = run_all(client, programs, shots, seed, tell)
        bar.update(task, completed=2 * sum(run.verdict.shots for run in runs))
    return runs


def _write(out: Path, runs: Sequence[Run], shots: int, seed: int, seconds: float) -> None:
    """`demo.json` and `demo.png`."""
    from harness.demo.picture import draw  # matplotlib takes a second to load

    data = msgspec.json.encode(summary(runs, shots, seed, seconds))
    (out / "demo.json").write_bytes(msgspec.json.format(data) + b"\n")
    title = f"qmkd: measured and exact, {shots} shots per program, seed {seed}"
    draw(runs, out / "demo.png", title=title)


if __name__ == "__main__":
    sys.exit(main())
