"""`python -m qmkd.engine.digests [--write]`: compare reference runs, or write their digests anew.

Writing runs each on every engine that can, and refuses where they do not agree, or where bits
changed under the same version of the random words.
"""

from __future__ import annotations

import argparse
import sys

import msgspec

from qmkd.engine import chance, engines, run
from qmkd.engine.digests import (
    FILE,
    Digests,
    Reference,
    Run,
    changed,
    complaint,
    computed,
    digests,
    runs,
)
from qmkd.engine.digests import stored as read
from qmkd.engine.digests.programs import capable

TABLEAU_SHOTS_MAX = 1000  # runs of more are left to the others


def agreed(one: Run) -> Digests:
    """Its digests, on which every engine that can run it agrees. Else it ends the program."""
    able = capable(run.prepare(one.graph), one.noise)
    if one.shots > TABLEAU_SHOTS_MAX and engines.TABLEAU in able:
        able.remove(engines.TABLEAU)
    found = {engine: digests(one, engine) for engine in able}
    if len(set(found.values())) > 1:
        sys.exit(f"engines disagree on {one.name!r}: {found}")
    return found[able[-1]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m qmkd.engine.digests", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write reference.json")
    if not parser.parse_args().write:
        wrong = complaint(read(), computed())
        print(wrong or "All reference runs give the bits that they always gave.")
        return 1 if wrong else 0
    now = Reference(chance.VERSION, {one.name: agreed(one) for one in runs()})
    if FILE.exists() and (before := read()).version == now.version and changed(before, now):
        sys.exit(complaint(before, now))
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(now), indent=1) + b"\n")
    print(f"{FILE}: {len(now.runs)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
