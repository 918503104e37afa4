"""The planner's shapes are those of the parts that the engines run."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from qmkd.engine.noise import IDEAL
from qmkd.engine.parts import cut
from qmkd.engine.primitives import primitives
from qvm.examples import load, names
from qvm.lower import lower
from qvm.parts import Alike
from qvm.program import VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.verify import verify_bytes

PROGRAMS = 100


def counted(verified: VerifiedProgram) -> tuple[Alike, ...]:
    """What the engines cut the program into, counted."""
    lowered = lower(verified)
    shapes, _ = cut(primitives(lowered, IDEAL), lowered.slots)
    return tuple(sorted((Alike(*each) for each in Counter(shapes).items()), reverse=True))


@pytest.mark.parametrize("name", names())
def test_the_summary_of_an_example_has_the_shapes_of_what_the_engines_cut(name: str) -> None:
    verified = verify_bytes(load(name))
    assert isinstance(verified, VerifiedProgram)
    assert verified.summary.parts == counted(verified)


@pytest.mark.parametrize("qubits", [2, 8, 40])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_summary_of_any_program_has_the_shapes_of_what_the_engines_cut(
    qubits: int, seed: int
) -> None:
    rng = random.Random(f"{qubits} {seed}")
    shape = Shape(
        qubits_max=qubits,
        nodes_max=6 * qubits + 30,
        branchings_max=1000,
        magic=True,
        angles=True,
        channels=True,
    )
    moved = 0
    for _ in range(PROGRAMS):
        verified = verify_bytes(msgspec.json.encode(shaped_program(rng, shape)))
        assert isinstance(verified, VerifiedProgram)
        assert verified.summary.parts == counted(verified)
        moved += not isinstance(verified.order, range)
    assert moved > 0, "some programs run in another order than they are listed in"
