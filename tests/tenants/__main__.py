"""`python -m tests.tenants [--clients N] [--tenants N] [--seconds S] [--json]`."""

from __future__ import annotations

import argparse
import json
import sys

from tests.tenants.crowd import crowd


def main() -> int:
    """Exit status: 0 all was right; 1 something was not, and what."""
    parser = argparse.ArgumentParser(prog="python -m tests.tenants", description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--tenants", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    told = crowd(asked.clients, asked.tenants, asked.seconds, asked.seed)
    if asked.json:
        print(json.dumps(told.figures(), indent=2))
    else:
        for name, value in told.figures().items():
            print(f"{name:36} {value}")
    for wrong in told.wrong[:20]:
        print(wrong, file=sys.stderr)
    return 1 if told.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
