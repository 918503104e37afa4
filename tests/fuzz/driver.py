"""One target under the fuzzer: `python -m tests.fuzz.driver NAME [libFuzzer's options] FOLDER ...`.

Our packages are instrumented as they are imported, so nothing of them may be imported before. The
process never comes back: libFuzzer ends it, and prints where it stands.
"""

from __future__ import annotations

import os
import sys
from random import Random

import atheris

PACKAGES = ["syscalls", "qvm", "qmkd"]
ORACLES = ["syscalls.framing_test", "syscalls.derive", "qvm.random_programs"]
"""Of these packages, what targets hold readers against, and make seeds with."""
AGAIN = "FUZZ_AGAIN"
"""Names the program by which libFuzzer starts itself anew, as it does to merge."""
TREE_SHARE = 0.6  # of changes that keep the form


def main() -> None:
    name = sys.argv.pop(1)
    sys.argv[0] = os.environ.get(AGAIN, sys.argv[0])
    with atheris.instrument_imports(include=PACKAGES, exclude=ORACLES):
        from tests.fuzz.targets import target

        chosen = target(name)
    from tests.fuzz.mutate import mutated

    def change(data: bytes, size_max: int, seed: int) -> bytes:
        rng = Random(seed)
        head, body = data[: chosen.HEAD_BYTES], data[chosen.HEAD_BYTES :]
        if body and rng.random() < TREE_SHARE:
            made = mutated(chosen.CODEC, body, rng)
            if made is not None and len(head) + len(made) <= size_max:
                return head + made
        return bytes(atheris.Mutate(data, size_max))

    def splice(one: bytes, other: bytes, size_max: int, seed: int) -> bytes:
        rng = Random(seed)
        at, to = rng.randrange(len(one) + 1), rng.randrange(len(other) + 1)
        return (one[:at] + other[to:])[:size_max]

    atheris.Setup(sys.argv, chosen.check, custom_mutator=change, custom_crossover=splice)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
