"""Matching in steps beside matching all at once, on the same shots."""

from __future__ import annotations

import math

import numpy as np
import pytest
import stim

from qmkd.qec.decoders import Kind, Matching, Packed, Undecodable, error, mechanisms, model_of
from qmkd.qec.decoders_test import generated
from qmkd.qec.windows import Crossing, Part, Step, Stepwise, passes, rounds_of, sliding

SEED = 11


def sampled(circuit: stim.Circuit, shots: int) -> tuple[Packed, Packed]:
    sampler = circuit.compile_detector_sampler(seed=SEED)
    return sampler.sample(shots, separate_observables=True, bit_packed=True)  # type: ignore[no-any-return]


def memory(distance: int, rounds: int, p: float = 3e-3) -> stim.Circuit:
    return generated("surface_code:rotated_memory_z", distance, rounds, p)


def renumbered(model: stim.DetectorErrorModel, order: list[int]) -> stim.DetectorErrorModel:
    """The same model with detector i called order[i]."""
    coordinates = model.get_detector_coordinates()
    lines = [
        error(
            chance,
            [
                piece._replace(detectors=tuple(order[each] for each in piece.detectors))
                for piece in pieces
            ],
        )
        for chance, pieces in mechanisms(model)
    ]
    for detector, place in coordinates.items():
        lines.append(f"detector({', '.join(map(str, place))}) D{order[detector]}")
    return stim.DetectorErrorModel("\n".join(lines))


@pytest.mark.parametrize("correlated", [False, True])
def test_one_step_that_sees_everything_is_the_global_decoder(correlated: bool) -> None:
    circuit = memory(5, 8)
    model = model_of(circuit)
    detections, _ = sampled(circuit, 4096)
    everything = frozenset(range(model.num_detectors))
    stepwise = Stepwise(model, [Step(everything, everything)], correlated)
    assert (stepwise.decode(detections) == Matching(model, correlated).decode(detections)).all()


def test_windows_commit_every_detector_once_and_see_at_most_their_rounds() -> None:
    rounds = np.repeat(np.arange(31.0), 4)
    steps = sliding(rounds, 6, 3)
    committed = [detector for step in steps for detector in step.commit]
    assert sorted(committed) == list(range(len(rounds)))
    for step in steps:
        assert np.ptp(rounds[sorted(step.see)]) < 6
    for step in steps[:-1]:
        assert len(set(rounds[sorted(step.commit)])) == 3


def check_windows(distance: int, rounds: int, shots: int, correlated: bool) -> None:
    """Windows of 2d that commit d fail at most 1.01 times as often, plus five standard errors.

    Both decode the same shots, so the difference is in the shots in which only one of them fails.
    """
    circuit = memory(distance, rounds)
    model = model_of(circuit)
    detections, observables = sampled(circuit, shots)
    windows = Stepwise(model, sliding(rounds_of(model), 2 * distance, distance), correlated)
    whole = (Matching(model, correlated).decode(detections) != observables).any(axis=1)
    pieces = (windows.decode(detections) != observables).any(axis=1)
    assert whole.sum() > 100
    margin = 5 * math.sqrt(int((whole ^ pieces).sum()))
    assert pieces.sum() <= 1.01 * whole.sum() + margin
    assert (whole ^ pieces).sum() < 0.05 * whole.sum() or correlated


@pytest.mark.parametrize("correlated", [False, True])
def test_windows_fail_as_often_as_the_global_decoder(correlated: bool) -> None:
    check_windows(3, 30, 1 << 15, correlated)
    check_windows(5, 30, 1 << 13, correlated)


@pytest.mark.slow
@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize(("distance", "shots"), [(3, 1 << 18), (5, 1 << 17), (7, 1 << 17)])
def test_windows_fail_as_often_as_the_global_decoder_on_many_shots(
    distance: int, shots: int, correlated: bool
) -> None:
    check_windows(distance, 60, shots, correlated)


def test_the_order_of_detectors_in_the_model_does_not_matter() -> None:
    circuit = memory(3, 20)
    model = model_of(circuit)
    order = np.random.default_rng(SEED).permutation(model.num_detectors).tolist()
    mixed = renumbered(model, order)
    detections, _ = sampled(circuit, 4096)
    bits = np.unpackbits(detections, axis=1, count=model.num_detectors, bitorder="little")
    moved = np.empty_like(bits)
    moved[:, order] = bits
    ours = Stepwise(model, sliding(rounds_of(model), 6, 3), correlated=False)
    theirs = Stepwise(mixed, sliding(rounds_of(mixed), 6, 3), correlated=False)
    predicted = theirs.decode(np.packbits(moved, axis=1, bitorder="little"))
    # Among equally light explanations the choice depends on the order.
    assert (ours.decode(detections) != predicted).mean() < 1e-3


def test_a_watcher_sees_the_syndrome_of_every_step() -> None:
    circuit = memory(3, 12)
    model = model_of(circuit)
    detections, _ = sampled(circuit, 256)
    steps = sliding(rounds_of(model), 6, 3)
    seen: list[tuple[int, int]] = []
    Stepwise(model, steps).decode(
        detections, lambda at, rows: seen.append((at, int(np.bitwise_count(rows).sum())))
    )
    assert [at for at, _ in seen] == list(range(len(steps)))
    first = np.unpackbits(detections, axis=1, bitorder="little")[:, sorted(steps[0].see)]
    assert seen[0][1] == first.sum()


# --- patches that copy errors to each other -------------------------------------------------------


def copying(length: int) -> tuple[stim.DetectorErrorModel, list[Part], list[Kind]]:
    """Two chains of rounds; in the middle round errors of the first are copied to the second."""
    lines = []
    for at in range(length):
        copied = f" D{length + length // 2}" if at == length // 2 else ""
        lines.append(f"error(0.02) D{at}{copied} L0" + (" L1" if copied else ""))
        lines.append(f"error(0.03) D{length + at} L1")
    for at in range(length - 1):
        lines.append(f"error(0.01) D{at} D{at + 1}")
        lines.append(f"error(0.01) D{length + at} D{length + at + 1}")
    lines += [f"detector(0, 0, {at}) D{at}" for at in range(length)]
    lines += [f"detector(1, 0, {at}) D{length + at}" for at in range(length)]
    parts = [Part(frozenset(range(length))), Part(frozenset(range(length, 2 * length)))]
    kinds = [Kind(frozenset(range(2 * length)), frozenset({0, 1}))]
    return stim.DetectorErrorModel("\n".join(lines)), parts, kinds


@pytest.mark.parametrize("windowed", [False, True])
def test_the_part_that_errors_come_from_tells_the_other_one(windowed: bool) -> None:
    model, parts, kinds = copying(24)
    cut = {"window": 8, "commit": 4} if windowed else {}
    steps = passes(parts, [Crossing(0, 1, 12)], rounds_of(model), **cut)
    decoder = Stepwise(model, steps, correlated=False, kinds=kinds)
    bits = np.zeros((1, 48), dtype=np.uint8)
    bits[0, [12, 24 + 12]] = 1  # the copied error: both observables flip
    assert decoder.decode(np.packbits(bits, axis=1, bitorder="little"))[0, 0] == 0b11
    bits[0, 24 + 12] = 0  # it and one of the second chain, which undo each other there
    assert decoder.decode(np.packbits(bits, axis=1, bitorder="little"))[0, 0] == 0b01


def test_parts_that_copy_to_each_other_have_an_order_only_in_separate_windows() -> None:
    model, parts, _ = copying(40)
    rounds = rounds_of(model)
    both = [Crossing(0, 1, 8), Crossing(1, 0, 30)]
    with pytest.raises(Undecodable, match="copy errors to each other"):
        passes(parts, both, rounds)
    steps = passes(parts, both, rounds, window=8, commit=4)
    order = [(min(step.commit) // 40, rounds[min(step.commit)]) for step in steps]
    assert sorted(detector for step in steps for detector in step.commit) == list(range(80))
    assert order.index((0, 8.0)) < order.index((1, 0.0) if (1, 0.0) in order else (1, 8.0))
    with pytest.raises(Undecodable, match="copy errors to each other"):
        passes(parts, [Crossing(0, 1, 20), Crossing(1, 0, 21)], rounds, window=8, commit=4)


def test_a_model_whose_errors_no_step_decides_is_refused() -> None:
    model = model_of(memory(3, 4))
    half = frozenset(range(8))
    with pytest.raises(Undecodable, match="no step decides"):
        Stepwise(model, [Step(half, half)])


def test_hyperedges_within_a_step_are_refused_with_their_number() -> None:
    model = stim.DetectorErrorModel("error(0.1) D0 D1 D2\nerror(0.1) D0 L0")
    everything = frozenset(range(3))
    with pytest.raises(Undecodable, match="1 mechanisms"):
        Stepwise(model, [Step(everything, everything)])
