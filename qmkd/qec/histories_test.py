"""Told by stretches, histories add up to what the decoder got wrong, single faults to nothing."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from qmkd.qec import noise
from qmkd.qec.circuits import memory
from qmkd.qec.codes.bacon_shor import bacon_shor
from qmkd.qec.codes.code import Basis, Code
from qmkd.qec.codes.surface import surface
from qmkd.qec.decoders import Packed, mechanisms, model_of, packed_bytes
from qmkd.qec.histories import History, Struck

CODES = (surface(3), surface(5), bacon_shor(3))
NOISE = noise.uniform(3e-3)


def of_each(history: History, struck: list[Struck]) -> tuple[Packed, Packed]:
    """Detections and bits of shots in each of which one mechanism strikes."""
    detections = np.zeros((len(struck), 8 * packed_bytes(history.detectors)), dtype=np.uint8)
    truly = np.zeros((len(struck), 8 * packed_bytes(history.bits)), dtype=np.uint8)
    for shot, (_, detectors, bits) in enumerate(struck):
        detections[shot, list(detectors)] = 1
        truly[shot, list(bits)] = 1
    return (
        np.packbits(detections, axis=1, bitorder="little"),
        np.packbits(truly, axis=1, bitorder="little"),
    )


@pytest.mark.parametrize("basis", ["X", "Z"])
@pytest.mark.parametrize("code", CODES, ids=lambda code: f"{code.profile}{code.distance}")
def test_asking_changes_nothing_of_what_strikes(code: Code, basis: Basis) -> None:
    """Leaving out the bits that are asked for gives the model of the memory alone."""
    asked, alone = defaultdict[object, float](float), defaultdict[object, float](float)
    history = History(code, NOISE, basis, (1, 2, 5))
    for chance, detectors, bits in history.mechanisms:
        key = detectors, history.bits - 1 in bits
        asked[key] += chance - 2 * chance * asked[key]
    for mechanism in mechanisms(model_of(noise.apply(memory(code, 5, basis), NOISE))):
        detectors, observables = mechanism.whole()
        key = detectors, bool(observables)
        alone[key] += mechanism.chance - 2 * mechanism.chance * alone[key]
    asked.pop(((), False), None)
    assert asked == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("basis", ["X", "Z"])
@pytest.mark.parametrize("code", CODES, ids=lambda code: f"{code.profile}{code.distance}")
def test_one_fault_flips_no_stretch(code: Code, basis: Basis) -> None:
    history = History(code, NOISE, basis, (1, 2, 3, 6))
    flips = history.flips(*of_each(history, list(history.mechanisms)))
    assert flips.shape == (len(history.mechanisms), 4)
    assert not flips.any()


def test_a_logical_flip_that_nothing_sees_belongs_to_its_stretch() -> None:
    """As bits say what a stretch added, it is one bit, and that of the whole memory."""
    history = History(surface(3), NOISE, "Z", (2, 4, 6))
    whole = history.bits - 1
    of_stretch = [8 * 2 * stretch + 8 for stretch in range(2)]  # behind one byte of checks
    for stretch, bits in enumerate([(of_stretch[0], whole), (of_stretch[1], whole), (whole,)]):
        ((flips),) = history.flips(*of_each(history, [(0.0, (), bits)]))
        assert flips.tolist() == [int(each == stretch) for each in range(3)]


def test_stretches_add_up_to_what_the_decoder_got_wrong() -> None:
    """Shot by shot: any faults, two at a time, in a memory whose distance is two faults."""
    random = np.random.default_rng(5)
    cut, whole = (History(surface(3), NOISE, "Z", ends) for ends in ((2, 3, 6), (6,)))
    chosen = random.choice(len(cut.mechanisms), (2000, 2))
    pairs = [[cut.mechanisms[at] for at in pair] for pair in chosen.tolist()]
    struck: list[Struck] = [(0.0, odd(one[1], two[1]), odd(one[2], two[2])) for one, two in pairs]
    ends: list[Struck] = [
        (0.0, detectors, (0,) * (cut.bits - 1 in bits)) for _, detectors, bits in struck
    ]
    flips = cut.flips(*of_each(cut, struck))
    (told,) = whole.flips(*of_each(whole, ends)).T
    assert 20 < told.sum() < 1900
    assert np.array_equal(np.bitwise_xor.reduce(flips, axis=1), told)
    assert (flips.sum(axis=0) > 0).all()


def odd(one: tuple[int, ...], two: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(one) ^ set(two)))
