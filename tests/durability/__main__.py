"""`python -m tests.durability [--kills N] [--seed S] [--json]`: the figures of `killing.py`."""

from __future__ import annotations

import argparse
import json
import sys

from tests.durability.killing import kill_often


def main() -> int:
    """Exit status: 0 nothing lost; 1 something was, and what."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--durability", choices=("power", "process"), default="power")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    told = kill_often(asked.kills, asked.seed, asked.durability, progress=sys.stderr)
    if asked.json:
        print(json.dumps(told.figures(), indent=2))
    else:
        for name, value in told.figures().items():
            print(f"{name:32} {value}")
    for wrong in told.wrong:
        print(wrong, file=sys.stderr)
    return 1 if told.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
