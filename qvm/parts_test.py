"""However many shapes there are, a few say enough, and none says too little."""

from __future__ import annotations

import random

from qvm import isa
from qvm.parts import SHAPES_MAX, Alike, Shape, bounded


def covered(shapes: dict[Shape, int], found: tuple[Alike, ...]) -> bool:
    """Each shape is within one found, of its own kind."""
    return all(
        any(
            all(one <= other for one, other in zip(shape, alike.shape, strict=True))
            and (shape.turns > 0, shape.branching > 0)
            == (alike.shape.turns > 0, alike.shape.branching > 0)
            for alike in found
        )
        for shape in shapes
    )


def random_shape(rng: random.Random, bits: int) -> Shape:
    qubits, *rest = (rng.getrandbits(rng.randint(1, bits)) for _ in range(5))
    return Shape(min(1 + qubits, isa.QUBITS_MAX), *rest)


def test_few_shapes_stay_as_they_are_widest_first() -> None:
    shapes = {Shape(1, 2, 1, 0, 0): 7, Shape(3, 9, 1, 0, 1): 1}
    assert bounded(shapes) == (
        Alike(Shape(3, 9, 1, 0, 1), 1),
        Alike(Shape(1, 2, 1, 0, 0), 7),
    )


def test_shapes_that_differ_little_are_taken_together_before_others() -> None:
    shapes = {Shape(5, operations, 1, 0, 0): 1 for operations in range(1, 1000)}
    found = bounded(shapes)
    assert len(found) <= SHAPES_MAX
    assert sum(alike.number for alike in found) == len(shapes)
    assert found[0].shape.operations == 999
    assert len(found) == (999).bit_length()


def test_any_number_of_any_shapes_is_bounded_and_covered() -> None:
    rng = random.Random(5)
    for spread in (1, 2, 8, 17):
        for number in (10, 200, 3000):
            shapes = {random_shape(rng, spread): 2 for _ in range(number)}
            found = bounded(shapes)
            assert len(found) <= SHAPES_MAX
            assert sum(alike.number for alike in found) == 2 * len(shapes)
            assert covered(shapes, found)


def test_the_widest_part_of_each_kind_keeps_its_width() -> None:
    rng = random.Random(6)
    shapes = {
        Shape(rng.randint(1, 5000), rng.randint(1, 10**6), rng.randint(0, 99), turns, 0): 1
        for turns in (0, 1, 5, 7, 1000)
        for _ in range(1000)
    }
    for turning in (False, True):
        widest = max(shape.qubits for shape in shapes if (shape.turns > 0) == turning)
        found = bounded(shapes)
        assert widest == max(a.shape.qubits for a in found if (a.shape.turns > 0) == turning)
