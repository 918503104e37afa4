"""Sampling loops beside exact rates, and intervals beside their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from qmkd.qec.decoders import Lookup, Matching, model_of
from qmkd.qec.decoders_test import generated
from qmkd.qec.sampling import (
    CHUNK_SHOTS,
    Stop,
    Tally,
    clopper_pearson,
    from_log,
    piece_rate,
    sample_and_decode,
    syndrome_weights,
    to_log,
)

CIRCUIT = generated("repetition_code:memory", 3, 3, 0.03)
DECODER = Lookup(model_of(CIRCUIT))


def test_the_sampled_rate_is_the_exact_one_within_five_standard_errors() -> None:
    tally = sample_and_decode(CIRCUIT, DECODER, Stop(shots=1 << 17), seed=1)
    exact = DECODER.failure
    assert abs(tally.errors / tally.shots - exact) < 5 * math.sqrt(exact / tally.shots)


def test_one_seed_gives_one_tally_and_another_seed_another() -> None:
    runs = [sample_and_decode(CIRCUIT, DECODER, Stop(shots=20_000), seed) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_a_longer_run_begins_with_the_shots_of_a_shorter_one() -> None:
    seen: list[tuple[int, int]] = []

    def note(shots: int, errors: int) -> bool:
        seen.append((shots, errors))
        return True

    sample_and_decode(CIRCUIT, DECODER, Stop(shots=5 * CHUNK_SHOTS), 3, note)
    short = sample_and_decode(CIRCUIT, DECODER, Stop(shots=2 * CHUNK_SHOTS), 3)
    assert seen[1] == (short.shots, short.errors)
    odd = sample_and_decode(CIRCUIT, DECODER, Stop(shots=CHUNK_SHOTS + 1), 3)
    assert odd.shots == CHUNK_SHOTS + 1
    assert seen[0][1] <= odd.errors <= seen[0][1] + 1


def test_a_run_stops_at_enough_errors_or_when_told() -> None:
    enough = sample_and_decode(CIRCUIT, DECODER, Stop(shots=1 << 20, errors=50), 1)
    assert enough.errors >= 50
    assert enough.shots < 1 << 20
    told = sample_and_decode(CIRCUIT, DECODER, Stop(shots=1 << 20), 1, lambda *_: False)
    assert told.shots == CHUNK_SHOTS


def test_patterns_add_up_to_errors_of_each_observable() -> None:
    tally = Tally(shots=100, errors=6, patterns=((1, 3), (2, 2), (3, 1)))
    assert (tally.wrong(0), tally.wrong(1)) == (4, 3)
    sampled = sample_and_decode(CIRCUIT, DECODER, Stop(shots=20_000), 1)
    assert sampled.wrong(0) == sampled.errors == sum(count for _, count in sampled.patterns)


@pytest.mark.parametrize(("errors", "shots"), [(0, 50), (3, 1000), (50, 50), (400, 10**7)])
def test_beyond_the_interval_the_counts_have_half_of_five_percent_chance(
    errors: int, shots: int
) -> None:
    low, high = clopper_pearson(errors, shots)
    assert low <= errors / shots <= high
    if errors:
        assert math.isclose(binom.sf(errors - 1, shots, low), 0.025, rel_tol=1e-6)
    if errors < shots:
        assert math.isclose(binom.cdf(errors, shots, high), 0.025, rel_tol=1e-6)


@pytest.mark.parametrize("chance", [0.0, 1e-15, 1e-6, 0.1, 0.4999, 0.5])
def test_logs_of_flip_chances_add_up(chance: float) -> None:
    assert math.isclose(from_log(to_log(chance)), chance, rel_tol=1e-12)
    twice = 2 * chance * (1 - chance)
    assert math.isclose(from_log(2 * to_log(chance)), twice, rel_tol=1e-12)
    assert math.isclose(piece_rate(twice, 2), chance, rel_tol=1e-6)


def test_weights_count_detection_events() -> None:
    rows = np.array([[0, 0], [1, 128], [255, 3]], dtype=np.uint8)
    assert syndrome_weights(rows).tolist() == [0, 2, 10]


def test_sampling_and_matching_agree_with_counting_by_hand() -> None:
    circuit = generated("surface_code:rotated_memory_z", 3, 3, 0.01)
    decoder = Matching(model_of(circuit))
    tally = sample_and_decode(circuit, decoder, Stop(shots=CHUNK_SHOTS), seed=9)
    sampler = circuit.compile_detector_sampler(seed=9)
    detections, flips = sampler.sample(CHUNK_SHOTS, separate_observables=True, bit_packed=True)
    assert tally.errors == (decoder.decode(detections) != flips).any(axis=1).sum()
