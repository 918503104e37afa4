"""`python -m tests.soak [--seconds S] [--warm S] [--fill N] [--seed S] [--out FOLDER]`,
or `--judge soak.json [--warm S]`.

Writes `soak.json`, `soak.svg` and `soak.png` into the folder. Exit status: 0 all is
flat; 1 something grows, or was not as it must be; 3 the run does not decide.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from harness.pictures.style import SUFFIXES, save
from tests.soak.picture import drawn
from tests.soak.soak import Soaked, judged, soak, worst
from tests.soak.verdict import Verdict

STATUS = {Verdict.FLAT: 0, Verdict.GROWS: 1, Verdict.UNDECIDED: 3}
SECONDS = 3600.0
FILL = 4096  # as many as the daemon keeps of a tenant's finished jobs
WARM_SHARE = 0.1
WINDOWS = 120


def table(soaked: Soaked) -> str:
    """The verdicts, as a table in Markdown, and what was done."""
    lines = [
        "| what | first | last | growth | 95 % | bound | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in soaked.judged:
        first, last = (amount(value, each.unit) for value in (each.first, each.last))
        lines.append(
            f"| {each.name} | {first} | {last} | {each.growth:+.1%} | ±{each.error:.1%} "
            f"| {each.bound:.0%} | {each.verdict} |"
        )
    before, after = soaked.idle
    jobs = soaked.samples[-1].moment.jobs
    ends = soaked.samples[-1].moment.worker_ends
    turns = ", ".join(f"{count} {name}" for name, count in soaked.done.turns.items())
    lines += [
        "",
        f"{soaked.seconds:.0f} s after {soaked.warm_s:.0f} s of warm-up: {jobs} jobs; turns: "
        f"{turns}; {soaked.reloads} reloads, {ends} workers ended.",
        f"Idle before and after: {before.daemon.fds} and {after.daemon.fds} descriptors, "
        f"{before.daemon.rss / 2**20:.1f} and {after.daemon.rss / 2**20:.1f} MiB resident.",
    ]
    return "\n".join(lines)


def amount(value: float, unit: str) -> str:
    """A number for people."""
    return f"{value / 2**20:.1f} MiB" if unit == "B" else f"{value:.2f}{unit}"


def judged_again(path: Path, warm_s: float | None) -> Soaked:
    """A soak from its file; where a moment is given, judged from that one on."""
    soaked = msgspec.json.decode(path.read_bytes(), type=Soaked)
    if warm_s is not None:
        soaked.warm_s = warm_s
        soaked.judged = judged(soaked)
    return soaked


def say(soaked: Soaked) -> int:
    """Print what came of it; the exit status."""
    print(table(soaked))
    for wrong in soaked.wrong:
        print(wrong, file=sys.stderr)
    print(f"\nverdict: {worst(soaked)}")
    return STATUS[worst(soaked)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after the warm-up")
    parser.add_argument("--warm", type=float, help="seconds of warm-up, at the least")
    parser.add_argument("--fill", type=int, default=FILL, help="jobs to finish before it is warm")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judge", type=Path, help="a soak.json, judged again, from --warm on")
    parser.add_argument("--out", type=Path, default=Path("out/soak"))
    asked = parser.parse_args()
    if asked.judge is not None:
        return say(judged_again(asked.judge, asked.warm))
    asked.out.mkdir(parents=True, exist_ok=True)
    warm_s = asked.seconds * WARM_SHARE if asked.warm is None else asked.warm
    with (asked.out / "progress.txt").open("w") as progress:

        def tell(line: str) -> None:
            print(line, file=progress, flush=True)

        soaked = soak(asked.seconds, asked.seconds / WINDOWS, warm_s, asked.fill, asked.seed, tell)
    (asked.out / "soak.json").write_bytes(msgspec.json.encode(soaked))
    (asked.out / "soak.md").write_text(table(soaked) + "\n")
    for suffix in SUFFIXES:
        save(drawn(soaked), asked.out / f"soak{suffix}")
    return say(soaked)


if __name__ == "__main__":
    sys.exit(main())
