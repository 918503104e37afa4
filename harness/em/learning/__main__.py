"""`python -m harness.em.learning --out MODEL.npz`: train ML-QEM on simulated machines."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.em.learning.training import examples, machines, trained

CIRCUITS = 12
FIRST_SEED = 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.em.learning", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file for the model")
    parser.add_argument("--circuits", type=int, default=CIRCUITS, help="of each family")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.circuits)
    found = list(examples(machines(), seeds))
    forest = trained(found, {"seeds": [seeds.start, seeds.stop]})
    print(f"{forest.save(options.out)}  {options.out}: {len(found)} examples")
    return 0


if __name__ == "__main__":
    sys.exit(main())
