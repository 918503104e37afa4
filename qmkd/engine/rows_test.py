"""The row machine: code that names what is not there is refused, however large the number."""

from __future__ import annotations

import numpy as np
import pytest

from qmkd.engine.chance import strikes
from qmkd.engine.rows import Block, Code, Where

PLACES = ("gaps", "bounds", "kinds", "pattern", "rows")
LARGEST = (1 << 31) - 1


def block() -> Block:
    """Rows 1 and 2 are struck in one of two ways, and row 2 becomes both."""
    of = strikes((0.1, 0.2))
    assert of is not None
    code = Code()
    code.strike([1, 2], [(0,), (0, 1)], of, Where(0, 0, 0))
    code.both(2, 2, 1)
    return code.block()


def run(made: Block) -> None:
    rows = np.zeros((3, 64), dtype=np.uint64)
    rows[0] = ~np.uint64(0)
    made.run(rows, 1, 0, lambda: None)


@pytest.mark.parametrize("value", [-1, LARGEST, -LARGEST])
@pytest.mark.parametrize("place", PLACES)
def test_noise_that_names_what_is_not_there_is_refused(place: str, value: int) -> None:
    made = block()
    run(made)
    made.noises[PLACES.index(place)] = value
    with pytest.raises(ValueError, match=r"no such table|out of range"):
        run(made)


@pytest.mark.parametrize("value", [-1, LARGEST, -LARGEST])
def test_instructions_and_patterns_that_name_what_is_not_there_are_refused(value: int) -> None:
    whole = block()
    for array in (whole.code, whole.pool):
        for place in range(len(array)):
            kept = array[place]
            array[place] = value
            with pytest.raises(ValueError, match=r"out of range|no row"):
                run(whole)
            array[place] = kept
    run(whole)
