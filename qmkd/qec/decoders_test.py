"""Decoders beside exact enumeration: tiny models whose every syndrome is decoded."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import stim
from numpy.typing import NDArray

from qmkd.qec.decoders import (
    BpOsd,
    Confidence,
    Decoder,
    Lookup,
    Matching,
    Packed,
    Undecodable,
    decoder_for,
    matrices,
    mechanisms,
    model_of,
)


def generated(task: str, distance: int, rounds: int, p: float) -> stim.Circuit:
    return stim.Circuit.generated(
        task,
        distance=distance,
        rounds=rounds,
        after_clifford_depolarization=p,
        after_reset_flip_probability=p,
        before_measure_flip_probability=p,
        before_round_data_depolarization=p,
    )


TINY = [
    model_of(generated("repetition_code:memory", 3, 2, 0.02)),
    model_of(generated("repetition_code:memory", 5, 1, 0.05)),
    model_of(generated("surface_code:rotated_memory_z", 3, 1, 0.01)),
]


def every_syndrome(detectors: int) -> Packed:
    """All of them as packed rows, in order."""
    index = np.arange(1 << detectors)
    width = -(-detectors // 8)
    rows: Packed = np.empty((len(index), width), dtype=np.uint8)
    for byte in range(width):
        rows[:, byte] = index >> (8 * byte) & 255
    return rows


def joint(model: stim.DetectorErrorModel) -> NDArray[np.float64]:
    """Chances [observables, syndrome] by enumerating subsets, the slow way round."""
    table = {(0, 0): 1.0}
    for chance, pieces in mechanisms(model):
        syndrome = observables = 0
        for piece in pieces:
            for detector in piece.detectors:
                syndrome ^= 1 << detector
            for observable in piece.observables:
                observables ^= 1 << observable
        after: dict[tuple[int, int], float] = {}
        for (before_o, before_s), weight in table.items():
            for key, share in (
                ((before_o, before_s), 1 - chance),
                ((before_o ^ observables, before_s ^ syndrome), chance),
            ):
                after[key] = after.get(key, 0.0) + weight * share
        table = after
    found = np.zeros((1 << model.num_observables, 1 << model.num_detectors))
    for key, weight in table.items():
        found[key] = weight
    return found


def failure(decoder: Decoder, model: stim.DetectorErrorModel) -> float:
    """The chance that the decoder is wrong, exactly."""
    chances = joint(model)
    predicted = decoder.decode(every_syndrome(model.num_detectors))[:, 0]
    right = chances[predicted, np.arange(chances.shape[1])]
    return 1 - float(right.sum())


@pytest.mark.parametrize("model", TINY)
def test_the_table_fails_exactly_as_often_as_it_says(model: stim.DetectorErrorModel) -> None:
    table = Lookup(model)
    best = 1 - float(joint(model).max(axis=0).sum())
    assert math.isclose(table.failure, best, rel_tol=1e-9)
    assert math.isclose(failure(table, model), best, rel_tol=1e-9)


@pytest.mark.parametrize("model", TINY)
@pytest.mark.parametrize("decoding", ["correlated", "matching", "bp_osd"])
def test_no_decoder_beats_the_table_and_all_come_near(
    model: stim.DetectorErrorModel, decoding: str
) -> None:
    if decoding == "bp_osd":
        pytest.importorskip("ldpc")
    best = Lookup(model).failure
    ours = failure(decoder_for(model, decoding), model)  # type: ignore[arg-type]
    assert best * (1 - 1e-9) <= ours <= 1.06 * best


def test_a_table_of_many_observables_keeps_their_order() -> None:
    lines = [f"error(0.01) D{at} L{at}" for at in range(10)]
    model = stim.DetectorErrorModel("\n".join(lines))
    syndromes = every_syndrome(10)
    assert (Lookup(model).decode(syndromes) == syndromes).all()


def test_a_table_that_would_not_fit_is_refused_with_its_size() -> None:
    model = stim.DetectorErrorModel("error(0.1) D22 L0")
    with pytest.raises(Undecodable, match=r"2\^24"):
        Lookup(model)


@pytest.mark.parametrize(
    "line",
    ["error(0.1) D0 D1 D2", "error(0.1) D0 ^ D1 D2 D3 L0", "error(0.1) L0", "error(0.1) D0 ^ L0"],
)
def test_matching_refuses_what_is_no_edge_and_counts_it(line: str) -> None:
    model = stim.DetectorErrorModel(f"error(0.1) D0 D1\n{line}\nerror(0.1) D1 L0")
    with pytest.raises(Undecodable, match="1 mechanisms"):
        Matching(model)


def test_a_mechanism_without_chance_is_not_held_against_a_model() -> None:
    Matching(stim.DetectorErrorModel("error(0) D0 D1 D2\nerror(0.1) D0 D1\nerror(0.1) D0 L0"))


def test_a_model_that_does_not_decompose_is_left_whole() -> None:
    circuit = stim.Circuit(
        """
        R 0 1 2 3
        CORRELATED_ERROR(0.1) X0 X1 X2
        M 0 1 2 3
        DETECTOR rec[-4]
        DETECTOR rec[-3]
        DETECTOR rec[-2]
        OBSERVABLE_INCLUDE(0) rec[-2]
        """
    )
    model = model_of(circuit)
    assert [len(each.pieces) for each in mechanisms(model)] == [1]
    with pytest.raises(Undecodable):
        Matching(model)
    assert Lookup(model).failure == 0.0


CHAIN = (0.01, 0.2, 0.07, 0.03)


def chain() -> stim.DetectorErrorModel:
    """Qubits in a row, each flipped by chance; detectors compare neighbours; the first counts."""
    lines = [f"error({CHAIN[0]}) D0 L0"]
    lines += [f"error({p}) D{at} D{at + 1}" for at, p in enumerate(CHAIN[1:-1])]
    lines += [f"error({CHAIN[-1]}) D{len(CHAIN) - 2}"]
    return stim.DetectorErrorModel("\n".join(lines))


def test_the_gap_is_the_log_of_how_much_likelier_the_prediction_is() -> None:
    model = chain()
    flips, gaps = Confidence(model).gaps(every_syndrome(len(CHAIN) - 1))
    chances = joint(model)
    assert (flips[:, 0] == chances.argmax(axis=0)).all()
    exact = np.abs(np.log(chances[0] / chances[1]))
    # PyMatching rounds weights to 2^-14 of the largest.
    np.testing.assert_allclose(gaps, exact, atol=2e-3)


def test_the_gap_is_the_same_wherever_the_observable_is_drawn() -> None:
    moved = stim.DetectorErrorModel(
        "\n".join(str(line) for line in chain()).replace(" L0", "")
        .replace("D0 D1", "D0 D1 L0")
    )  # fmt: skip
    syndromes = every_syndrome(len(CHAIN) - 1)
    flips, gaps = Confidence(chain()).gaps(syndromes)
    flips_moved, gaps_moved = Confidence(moved).gaps(syndromes)
    np.testing.assert_allclose(gaps, gaps_moved, atol=1e-9)
    assert (flips_moved[:, 0] == (flips[:, 0] ^ (syndromes[:, 0] & 1))).all()


def test_gap_and_matching_predict_alike_and_low_gaps_hold_the_errors() -> None:
    circuit = generated("surface_code:rotated_memory_z", 3, 3, 0.01)
    model = model_of(circuit)
    sampler = circuit.compile_detector_sampler(seed=5)
    detections, observables = sampler.sample(8192, separate_observables=True, bit_packed=True)
    confidence = Confidence(model)
    flips, gaps = confidence.gaps(detections)
    sure = gaps > 0.01
    assert (flips == Matching(model, correlated=False).decode(detections))[sure].all()
    wrong = (flips != observables)[:, 0]
    rates = [wrong[(gaps >= low) & (gaps < low + 2)].mean() for low in (0, 2, 4)]
    assert rates[0] > 2 * rates[1] > 4 * rates[2]


def test_a_gap_needs_one_observable_and_no_loops() -> None:
    with pytest.raises(Undecodable, match="one observable"):
        Confidence(stim.DetectorErrorModel("error(0.1) D0 L0\nerror(0.1) D0 L1"))
    ring = "error(0.1) D0 D1 L0\nerror(0.1) D1 D2\nerror(0.1) D2 D0"
    with pytest.raises(Undecodable, match="loop"):
        Confidence(stim.DetectorErrorModel(ring))


def test_equal_mechanisms_are_one_that_strikes_an_odd_number_of_times() -> None:
    model = stim.DetectorErrorModel("error(0.1) D0 L0\nerror(0.2) D0 L0\nerror(0.3) D0 D1")
    checks, flips, chances = matrices(model)
    assert checks.toarray().tolist() == [[1, 1], [0, 1]]
    assert flips.tolist() == [[1, 0]]
    np.testing.assert_allclose(chances, [0.1 * 0.8 + 0.2 * 0.9, 0.3])


def test_belief_propagation_corrects_every_single_hyperedge_that_matching_refuses() -> None:
    pytest.importorskip("ldpc")
    triples = list(itertools.combinations(range(5), 3))
    marks = [" L0" if a * b % 2 else "" for a, b, _ in triples]
    lines = [
        f"error(0.002) D{a} D{b} D{c}{mark}" for (a, b, c), mark in zip(triples, marks, strict=True)
    ]
    model = stim.DetectorErrorModel("\n".join(lines))
    with pytest.raises(Undecodable, match="10 mechanisms"):
        Matching(model)
    syndromes = np.array([[sum(1 << at for at in triple)] for triple in triples], dtype=np.uint8)
    assert BpOsd(model).decode(syndromes)[:, 0].tolist() == [int(bool(mark)) for mark in marks]
