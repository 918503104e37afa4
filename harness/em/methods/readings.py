"""From counts to the values of Pauli products, with their covariance, and readout errors undone.

Readout is undone qubit by qubit (Bravyi et al., arXiv:2006.14044, tensored): an outcome then counts
for +-1 no more, but for what makes the mean right. Bit 0 of an outcome is on the right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import Calibration, Outcome
from harness.em.circuits.paulis import Basis, Observable, measured
from harness.em.circuits.tasks import Gates
from harness.em.methods.plan import Run, Unplannable

Real = NDArray[np.float64]

CALIBRATION_SHARE: Final = 0.08
"""Of all shots, that go into two circuits that calibrate the readout of all qubits."""
CALIBRATION_MIN: Final = 100
SHOTS_TRUSTED: Final = 1000
"""Below, the spread seen in few shots is moved towards that of a fair coin."""
SEPARATION_MIN: Final = 0.05
"""1 - p(1|0) - p(0|1) below which a readout tells next to nothing."""


class Reading(NamedTuple):
    """Of one basis. means: of each term's product. covariance: of these means."""

    means: Real
    covariance: Real


class Readout(NamedTuple):
    """Chances of wrong outcomes, by qubit, and the variances of these chances."""

    read_1_for_0: Real
    read_0_for_1: Real
    variance_1: Real
    variance_0: Real


def words(counts: Mapping[str, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bits, shape (outcomes, qubits), column q being qubit q, and shots of each."""
    keys = list(counts)
    width = len(keys[0])
    flat = np.frombuffer("".join(keys).encode(), dtype=np.uint8).reshape(len(keys), width)
    return (flat - ord("0"))[:, ::-1], np.array([counts[key] for key in keys], dtype=np.int64)


def reading(outcome: Outcome, basis: Basis, readout: Readout | None = None) -> Reading:
    """The terms of a basis from its counts."""
    bits, shots = words(outcome.counts)
    plus, minus = _letters(bits.shape[1], readout)
    single = np.where(bits == 0, plus, minus)
    each = np.stack(
        [np.prod(single[:, [q for q, _ in term.product]], axis=1) for term in basis.terms], axis=1
    )
    total = int(shots.sum())
    means = shots @ each / total
    away = each - means
    scatter = (away * shots[:, None]).T @ away / max(total - 1, 1)
    if total < SHOTS_TRUSTED:
        scatter = scatter + np.diag(np.clip(1 - np.diag(scatter), 0, None)) / total
    return Reading(means, scatter / total)


def _letters(width: int, readout: Readout | None) -> tuple[Real, Real]:
    """What reading 0 and 1 on each qubit count for."""
    if readout is None:
        return np.ones(width), -np.ones(width)
    apart = 1 - readout.read_1_for_0 - readout.read_0_for_1
    shift = readout.read_0_for_1 - readout.read_1_for_0
    return (1 - shift) / apart, (-1 - shift) / apart


def total(
    whole: Observable, bases: Sequence[Basis], readings: Sequence[Reading]
) -> tuple[float, float]:
    """The observable's value and its variance, from one reading of each basis."""
    value, variance = whole.constant, 0.0
    for basis, each in zip(bases, readings, strict=True):
        weights = np.array([term.weight for term in basis.terms])
        value += float(weights @ each.means)
        variance += float(weights @ each.covariance @ weights)
    return value, variance


def errs(calibration: Calibration) -> bool:
    """Whether readout is said to err at all."""
    return any(q.read_1_for_0 or q.read_0_for_1 for q in calibration.qubits)


def readout_runs(width: int, shots: int) -> tuple[Run, ...]:
    """All qubits read in |0> and in |1>: crosstalk of readouts is none of this model."""
    if shots < 2:
        raise Unplannable("Calibrating readout takes two shots at least.")
    ones = Gates(width)
    for qubit in range(width):
        ones.add("x", qubit)
    bodies = (Gates(width).circuit(), ones.circuit())
    counts = (shots - shots // 2, shots // 2)
    return tuple(
        Run(circuit=measured(body, ()), shots=n, role="readout")
        for body, n in zip(bodies, counts, strict=True)
    )


def calibration_shots(shots: int) -> int:
    """How many of all shots calibrate the readout."""
    return min(shots // 2, max(CALIBRATION_MIN, round(CALIBRATION_SHARE * shots)))


def readout_of(zeros: Outcome, ones: Outcome) -> Readout:
    """The chances, from the outcomes of `readout_runs`."""
    found = []
    for outcome in (zeros, ones):
        bits, shots = words(outcome.counts)
        number = int(shots.sum())
        # Half a shot each way (Jeffreys) keeps chances off 0, where variances would vanish.
        share = (shots @ bits + 0.5) / (number + 1)
        found.append((share, share * (1 - share) / number))
    (wrong_1, variance_1), (right_1, variance_0) = found
    wrong_0 = 1 - right_1
    apart = 1 - wrong_1 - wrong_0
    scale = np.where(apart < SEPARATION_MIN, (1 - SEPARATION_MIN) / (wrong_1 + wrong_0), 1.0)
    return Readout(wrong_1 * scale, wrong_0 * scale, variance_1, variance_0)


def variance_of_readout(
    whole: Observable,
    bases: Sequence[Basis],
    outcomes: Sequence[Outcome],
    readout: Readout,
) -> float:
    """What the uncertain chances add to the variance of the value, to first order."""
    wrong_1 = readout.read_1_for_0 + np.sqrt(readout.variance_1)
    wrong_0 = readout.read_0_for_1 + np.sqrt(readout.variance_0)
    width = len(wrong_1)
    usual = _letters(width, readout)
    moved = [
        _letters(width, readout._replace(read_1_for_0=wrong_1)),
        _letters(width, readout._replace(read_0_for_1=wrong_0)),
    ]
    changes = np.zeros((2, width))
    for basis, outcome in zip(bases, outcomes, strict=True):
        bits, shots = words(outcome.counts)
        single = np.where(bits == 0, *usual)
        for term in basis.terms:
            qubits = [q for q, _ in term.product]
            share = term.weight * single[:, qubits].prod(axis=1) * shots / shots.sum()
            for kind, letters in enumerate(moved):
                # One qubit's letter stands as a factor in the product, so moving it scales that.
                scaled = np.where(bits == 0, *letters)[:, qubits] / single[:, qubits] - 1
                changes[kind, qubits] += share @ scaled
    return float((changes**2).sum())
