"""Rotations in Clifford and T gates: T count, measured error and time, beside pygridsynth.

Errors are operator norms, of our words by exact arithmetic, of the peer's by multiplying matrices.
The peer's precision is the distance of channels, which is twice as large: so it is asked twice,
once with our number and once with the one that means the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from harness.bench.rows import Row, missing, row
from runtime.jit.angles import angle
from runtime.jit.gates import GATES
from runtime.jit.lower.synthesis import z_rotation

EPSILONS: Final = (1e-3, 1e-6, 1e-10)
EXTRA: Final = "pip install 'qmkd[peers-compilers]'"


class Words(NamedTuple):
    """Over some angles: mean T count, its standard error, greatest error by epsilon, CPU seconds
    for one."""

    t: float
    t_error: float
    worst: float
    seconds: float


def run(quick: bool) -> list[Row]:
    angles = np.random.default_rng(1).uniform(-math.pi, math.pi, 20 if quick else 100)
    rows: list[Row] = []
    peer = _peer()
    z_rotation(angle(0.1), 0.1)  # loads the library
    for epsilon in EPSILONS:
        ours = _ours(angles, epsilon)
        bits = 3 * math.log2(1 / epsilon)
        what = f"{len(angles)} angles, epsilon {epsilon:g}"
        rows.append(row(f"{what}: greatest error / epsilon", ours.worst, "", at_most=1))
        rows.append(
            row(f"{what}: T gates in the mean", ours.t, "", at_most=bits + 5 * ours.t_error)
        )
        rows.append(row(f"{what}: 3 log2(1/epsilon)", bits, ""))
        rows.append(row(f"{what}: time of one rotation", 1e3 * ours.seconds, "ms"))
        if peer is None:
            rows.append(missing(f"{what}: pygridsynth", EXTRA))
            continue
        for factor, how in ((1, "the same number asked"), (2, "the same error asked")):
            theirs = _theirs(peer, angles, epsilon, factor)
            rows.append(row(f"{what}: pygridsynth, {how}: T gates", theirs.t, ""))
            rows.append(row(f"{what}: pygridsynth, {how}: error / epsilon", theirs.worst, ""))
            rows.append(row(f"{what}: pygridsynth, {how}: time", 1e3 * theirs.seconds, "ms"))
            rows.append(
                row(f"{what}: our T gates / theirs, {how}", ours.t / theirs.t, "", at_most=1.01)
            )
    return rows


def _ours(angles: Any, epsilon: float) -> Words:
    start = time.process_time()
    words = [z_rotation(angle(float(each)), epsilon) for each in angles]
    seconds = (time.process_time() - start) / len(angles)
    return _words(
        [each.t_count for each in words], max(each.error for each in words), epsilon, seconds
    )


def _words(found: list[int], worst: float, epsilon: float, seconds: float) -> Words:
    counts = np.array(found)
    error = float(counts.std(ddof=1)) / math.sqrt(len(counts))
    return Words(float(counts.mean()), error, worst / epsilon, seconds)


def _peer() -> Callable[..., str] | None:
    try:
        from pygridsynth.gridsynth import gridsynth_gates
    except ImportError:
        return None
    found: Callable[..., str] = gridsynth_gates
    return found


def _theirs(peer: Callable[..., str], angles: Any, epsilon: float, factor: int) -> Words:
    start = time.process_time()
    words = [peer(float(each), factor * epsilon) for each in angles]
    seconds = (time.process_time() - start) / len(angles)
    worst = max(_distance(word, float(each)) for word, each in zip(words, angles, strict=True))
    return _words([word.count("T") for word in words], worst, epsilon, seconds)


def _distance(word: str, radians: float) -> float:
    """Operator norm of the difference from the rotation, at the best phase."""
    product = np.eye(2, dtype=np.complex128)
    for letter in word:
        if letter != "W":  # a global phase
            product = product @ GATES[letter.lower()].matrix()
    turned = GATES["rz"].matrix(radians).conj().T @ product
    turned /= np.sqrt(np.linalg.det(turned))
    sine = math.hypot(abs(turned[0, 1]), (turned[0, 0] - turned[1, 1]).imag / 2)
    return 2 * math.sin(math.asin(min(1.0, sine)) / 2)
