"""Whether counts may come from the exact distribution that a case states.

For each outcome of probability p, the chance that its count k of n shots lies as far from n p as it
does, on its side, is at most exp(-n D(k/n, p)), D being the relative entropy of two coins (Chernoff
1952, Hoeffding 1963). An outcome is refused where this is below the case's false-alarm probability
divided by both sides of all outcomes; so a right server is refused no more often than the case
says. Outcomes that the case does not name have probability zero: one of them is a failure for
certain.
"""

from __future__ import annotations

from math import log

FALSE_ALARMS_MAX = 1e-6
"""Of all cases together: a whole run calls a right server wrong less often than this."""


def relative_entropy(got: float, expected: float) -> float:
    """Of a coin that shows heads with probability `got` to one with `expected`, in nats."""
    terms = ((got, expected), (1 - got, 1 - expected))
    if any(p > 0 and q <= 0 for p, q in terms):
        return float("inf")
    return sum(p * log(p / q) for p, q in terms if p > 0)


def unlikely(counts: dict[str, int], exact: dict[str, float], alarm: float) -> str | None:
    """The outcome whose count is too unlikely, in a sentence; None if all may well be so."""
    shots = sum(counts.values())
    assert abs(sum(exact.values()) - 1) < 1e-12, "the case states a whole distribution"
    for outcome in counts:
        if outcome not in exact:
            return f"outcome {outcome!r} came {counts[outcome]} times and cannot come at all"
    bound = log(2 * len(exact) / alarm)
    for outcome, probability in exact.items():
        count = counts.get(outcome, 0)
        if shots * relative_entropy(count / shots, probability) > bound:
            return (
                f"outcome {outcome!r} came {count} times of {shots}, with probability "
                f"{probability:.6g}; chance does so less than once in {1 / alarm:.0e} runs"
            )
    return None
