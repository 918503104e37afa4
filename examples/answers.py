"""What the counts of an example mean: energy, cut, factors.

    qmkctl run examples/shor15.qasm --shots 200 --json | python examples/answers.py shor15

Needs nothing but Python. Counts are keyed by the words of the program's registers, first register
first, each word with its bit 0 last, as `registers` in the reply of `qmkctl run --json`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction

Counts = Mapping[str, float]


def energy(counts: Counts) -> float:
    """Of vqe_h2, in hartree. Words: what was measured along Z, and along X."""
    constant, single = -1.052373245772859, 0.39793742484318045
    zz, xx = -0.01128010425623538, 0.18093119978423156

    def signs(word: str) -> tuple[int, int]:
        """(-1)^bit of qubits 0 and 1."""
        return 1 - 2 * int(word[1]), 1 - 2 * int(word[0])

    def of(key: str) -> float:
        (z0, z1), (x0, x1) = map(signs, key.split(" "))
        return constant + single * (z0 - z1) + zz * z0 * z1 + xx * x0 * x1

    return _mean(counts, of)


def cut(counts: Counts) -> float:
    """Of qaoa_ring: how many edges of the ring are cut, on average."""
    return _mean(
        counts, lambda word: sum(a != b for a, b in zip(word, word[1:] + word[0], strict=True))
    )


def factors(counts: Counts) -> dict[int, float]:
    """Of shor15: the factors of 15 that the measured phases lead to, and how often."""
    found: dict[int, float] = {}
    for word, times in counts.items():
        period = Fraction(int(word, 2), 8).limit_denominator(4).denominator
        if period % 2 == 0 and pow(7, period, 15) == 1:
            for factor in (math.gcd(7 ** (period // 2) + by, 15) for by in (-1, 1)):
                if factor not in (1, 15):
                    found[factor] = found.get(factor, 0) + times
    return found


def _mean(counts: Counts, value: Callable[[str], float]) -> float:
    return sum(value(key) * times for key, times in counts.items()) / sum(counts.values())


ANSWERS: dict[str, Callable[[Counts], object]] = {
    "vqe_h2": energy,
    "qaoa_ring": cut,
    "shor15": factors,
}

if __name__ == "__main__":
    if sys.argv[1:] == [] or sys.argv[1] not in ANSWERS:
        sys.exit(f"usage: answers.py {'|'.join(ANSWERS)} < REPLY.json")
    print(ANSWERS[sys.argv[1]](json.load(sys.stdin)["registers"]))
