"""QIR that a compiler nobody here wrote made: read, emitted, and distributed as it must be.

The programs are in `qir/`; `qir/programs.qs` says what they are and what compiled them.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from runtime.jit.frontends import load
from tests import branches

pytest.importorskip("pyqir", reason="pyqir reads QIR; the extra `jit` holds it")

PROGRAMS = sorted((Path(__file__).parent / "qir").glob("*.ll"))
SHOTS = 2000


def exact(path: Path) -> dict[str, float]:
    found = branches.by_qvm(load(path))
    return {key: p for key, p in found.items() if p > 1e-12}


def phase_estimated(phase: float, bits: int) -> dict[str, float]:
    """Nielsen and Chuang, equation 5.26: the amplitude of each answer is a geometric sum."""
    size = 1 << bits
    powers = np.arange(size)
    return {
        f"{k:0{bits}b}": float(
            abs(np.exp(2j * np.pi * powers * (phase - k / size)).sum() / size) ** 2
        )
        for k in range(size)
    }


KNOWN = {
    "bell": {"00": 0.5, "11": 0.5},
    "equal": {"0": 0.5, "1": 0.5},
    "count_ones": {f"{n:03b}": math.comb(4, n) / 16 for n in range(5)},
    "nested": {"010": 0.5, "111": 0.25, "001": 0.125, "101": 0.125},
    "phase_estimation": phase_estimated(0.3, 3),
}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_compiled_program_has_the_distribution_known_for_it(path: Path) -> None:
    found = exact(path)
    assert sum(found.values()) == pytest.approx(1)
    if path.stem in KNOWN:
        assert found == pytest.approx(KNOWN[path.stem], abs=1e-9)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_compiled_program_is_sampled_alike_by_the_alliances_runner(path: Path) -> None:
    """Within five standard errors of the exact probabilities."""
    runner = pytest.importorskip(
        "qirrunner", reason="the QIR Alliance's runner is no dependency; .ci/run installs it"
    )
    told: list[object] = []
    runner.run(str(path), shots=SHOTS, rng_seed=7, output_fn=told.append)
    wanted = exact(path)
    width = len(next(iter(wanted)))
    shots = Counter(_word(shot, width) for shot in "".join(map(str, told)).split("START")[1:])
    assert set(shots) <= set(wanted)
    for key, p in wanted.items():
        assert abs(shots[key] - SHOTS * p) <= 5 * math.sqrt(SHOTS * p * (1 - p)), key


def _word(shot: str, width: int) -> str:
    """What one shot recorded, as a register's word."""
    values = [value for kind, value in pairwise(shot.split()) if kind in ("RESULT", "BOOL")]
    numbers = [value for kind, value in pairwise(shot.split()) if kind == "INT"]
    if numbers:
        return f"{int(numbers[0]):0{width}b}"
    return "".join({"true": "1", "false": "0"}.get(each, each) for each in values)[::-1]
