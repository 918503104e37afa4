"""Replay one seed: `python -m tests.simulation --seed N --steps M`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.world import run


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--verbose", action="store_true", help="print how calls were answered")
    asked = parser.parse_args(arguments)
    began = time.perf_counter()
    answers = run(asked.seed, asked.steps)
    seconds = time.perf_counter() - began
    if asked.verbose:
        for kind in sorted(answers):
            print(f"{answers[kind]:8} {kind}")
    print(
        f"seed {asked.seed}: {asked.steps} steps, {sum(answers.values())} answers, "
        f"{seconds:.1f} s, every invariant held"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
