"""Whole programs decoded: single faults, known experiments, and the two ways beside each other."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Final

import numpy as np
import pytest
import stim

from qmkd.qec import noise
from qmkd.qec.circuits import transversal_cnot
from qmkd.qec.codes.bacon_shor import bacon_shor
from qmkd.qec.codes.code import Basis, Code
from qmkd.qec.codes.surface import surface
from qmkd.qec.decoders import Decoder, Matching, Packed, mechanisms, model_of
from qmkd.qec.logic import Action
from qmkd.qec.logic_test import BASES, random_program
from qmkd.qec.measuring import decoder_of_cnot
from qmkd.qec.sampling import Stop, Tally, sample_and_decode
from qmkd.qec.whole import Whole
from qmkd.qec.whole_decoding import Passes, Program, Regional, decoder_of_whole
from qmkd.qec.whole_test import CODES, cnot, made, name, pair, teleported

P: Final = 3e-3
SEED: Final = 7


def packed(rows: list[tuple[int, ...]], bits: int) -> Packed:
    """Rows given by the numbers of the bits that are set."""
    found = np.zeros((len(rows), bits), dtype=np.uint8)
    for row, chosen in zip(found, rows, strict=True):
        row[list(chosen)] = 1
    return np.packbits(found, axis=1, bitorder="little")


@pytest.mark.parametrize("way", [Passes, Regional])
@pytest.mark.parametrize("code", CODES, ids=name)
@pytest.mark.parametrize(
    "actions", [cnot(2, "Z"), cnot(1, "X", 3), pair(2), teleported(1, "X")], ids=len
)
def test_no_single_fault_is_a_logical_error(
    way: type[Passes | Regional], code: Code, actions: list[Action]
) -> None:
    whole = made(code, actions)
    noisy = noise.apply(whole.circuit, noise.uniform(P))
    decoder = way(whole, noisy)
    faults = [each.whole() for each in mechanisms(whole.annotated(noisy).detector_error_model())]
    predicted = decoder.decode(packed([each.detectors for each in faults], decoder.detectors))
    wrong = predicted ^ packed([each.observables for each in faults], decoder.observables)
    assert not wrong.any(), decoder.name


@pytest.mark.parametrize(("distance", "correlated"), [(3, False), (5, True)])
def test_of_a_program_that_only_waits_both_ways_are_as_good_as_the_decoder_of_a_memory(
    distance: int, correlated: bool
) -> None:
    """On the same shots; they may differ where two explanations are equally light, and correlated
    matching takes mechanisms apart in another way.

    The bound: five standard errors of the shots in which only one fails.
    """
    actions = [Action(0, "prepare", (0,)), Action(2 * distance, "measure", (0,))]
    whole = made(surface(distance), actions)
    noisy = noise.apply(whole.circuit, noise.uniform(P))
    annotated = whole.annotated(noisy)
    detections, truly = annotated.compile_detector_sampler(seed=SEED).sample(
        1 << 14, separate_observables=True, bit_packed=True
    )
    expected = Matching(model_of(annotated), correlated).decode(detections) ^ truly
    for way in (Passes, Regional):
        left = way(whole, noisy).decode(detections) ^ truly
        differ = int((left ^ expected).sum())
        assert differ < 0.1 * expected.sum() or correlated
        assert abs(int(left.sum()) - int(expected.sum())) <= 5 * math.sqrt(differ)


def count(code: Code, actions: list[Action], shots: int, way: str = "") -> Tally:
    whole = made(code, actions)
    noisy = noise.apply(whole.circuit, noise.uniform(P))
    makers: dict[str, Callable[[Whole, stim.Circuit], Decoder]]
    makers = {"passes": Passes, "region": Regional, "": decoder_of_whole}
    decoder = makers[way](whole, noisy)
    return sample_and_decode(whole.annotated(noisy), decoder, Stop(shots=shots), SEED)


def apart(one: Tally, two: Tally) -> float:
    """How many standard errors two counts of errors differ by."""
    pooled = (one.errors + two.errors) / (one.shots + two.shots)
    width = math.sqrt(pooled * (1 - pooled) * (1 / one.shots + 1 / two.shots))
    return abs(one.errors / one.shots - two.errors / two.shots) / width


def check_cnot(distance: int, basis: Basis, shots: int) -> None:
    """Against the experiment that calibrates the gate, and its own two passes."""
    ours = count(surface(distance), cnot(distance, basis), shots)
    circuit = transversal_cnot(surface(distance), distance, distance, basis)
    noisy = noise.apply(circuit, noise.uniform(P))
    decoder = decoder_of_cnot(surface(distance), noisy, basis, [distance - 0.5])
    theirs = sample_and_decode(noisy, decoder, Stop(shots=shots), SEED + 1)
    assert theirs.errors > 100
    assert apart(ours, theirs) < 5


@pytest.mark.parametrize("basis", BASES)
def test_a_cnot_fails_as_often_as_the_experiment_that_calibrates_it(basis: Basis) -> None:
    check_cnot(3, basis, 1 << 14)
    check_cnot(5, basis, 3 << 12)


@pytest.mark.slow
@pytest.mark.parametrize("basis", BASES)
def test_a_cnot_fails_as_often_as_the_experiment_that_calibrates_it_on_many_shots(
    basis: Basis,
) -> None:
    check_cnot(3, basis, 1 << 18)
    check_cnot(5, basis, 1 << 17)


@pytest.mark.parametrize("code", CODES, ids=name)
def test_no_single_fault_is_a_logical_error_in_windows_either(code: Code) -> None:
    test_no_single_fault_is_a_logical_error(
        Passes, code, cnot(2, "Z", 2, turns=True, between=3 * code.distance)
    )


@pytest.mark.slow
@pytest.mark.parametrize(("distance", "more"), [(3, 1.12), (5, 1.25)])
def test_decoding_by_region_costs_a_little(distance: int, more: float) -> None:
    shots = 1 << 17
    passes = count(surface(distance), cnot(distance, "Z"), shots, "passes")
    region = count(surface(distance), cnot(distance, "Z"), shots, "region")
    margin = 5 * math.sqrt(region.errors + more**2 * passes.errors)
    assert passes.errors < region.errors < more * passes.errors + margin


@pytest.mark.slow
@pytest.mark.parametrize(("distance", "shots"), [(3, 1 << 17), (5, 1 << 16)])
def test_windows_to_and_fro_err_less_than_regions(distance: int, shots: int) -> None:
    """By five standard errors."""
    actions = cnot(distance, "Z", 2, turns=True, between=3 * distance)
    windows = count(surface(distance), actions, shots, "passes")
    region = count(surface(distance), actions, shots, "region")
    assert windows.errors + 5 * math.sqrt(region.errors + windows.errors) < region.errors


def test_patches_that_copy_errors_in_a_circle_are_decoded_by_region() -> None:
    """To and fro, and H in between, so that both kinds of a patch hang together."""
    mixed = [Action(0, "prepare", (0,)), Action(0, "prepare", (1,)), Action(1, "CX", (0, 1)),
             Action(2, "H", (1,)), Action(3, "CX", (0, 1)), Action(4, "measure", (0,)),
             Action(4, "measure", (1,), "X")]  # fmt: skip
    far = cnot(2, "Z", 2, turns=True, between=9)  # windows of 6 rounds have an order
    ordered = [cnot(2, "Z", 3), teleported(1, "Z"), far]
    circular = [cnot(2, "Z", 3, turns=True), mixed]
    for actions in (*ordered, *circular):
        by = "patch by patch" if actions in ordered else "by region"
        program = Program([surface(3)] * 3, actions, noise.uniform(P))
        assert program.decoder == f"pymatching {by}"


def test_random_programs_err_less_for_being_decoded() -> None:
    """With S among the gates of Bacon-Shor. The bound: five standard errors."""
    before = after = 0
    for seed in range(6):
        actions = random_program(seed, 3, ("CX", "CZ", "H", "S"), 20)
        program = Program([bacon_shor(3)] * 3, actions, noise.uniform(5e-4))
        detections, truly = struck(program, 1024, seed)
        left = program.flips(detections, truly)
        before += int(np.bitwise_count(truly).sum())
        after += int(left.sum())
    assert after + 5 * math.sqrt(before + after) < before / 2


def struck(program: Program, shots: int, seed: int) -> tuple[Packed, Packed]:
    """Packed rows of detectors and observables, mechanisms drawn one by one."""
    detections = np.zeros((shots, program.detectors), dtype=np.uint8)
    truly = np.zeros((shots, program.bits), dtype=np.uint8)
    generator = np.random.default_rng(seed)
    for chance, seen, flips in program.mechanisms:
        here = generator.random((shots, 1)) < chance
        detections[:, list(seen)] ^= here
        truly[:, list(flips)] ^= here
    pack = functools.partial(np.packbits, axis=1, bitorder="little")
    return pack(detections), pack(truly)
