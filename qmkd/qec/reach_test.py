"""What a table says it reaches is what it answers, and asking needs no numerics."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import msgspec
import pytest

from qmkd.qec.calibration import NotKnown, Table
from qmkd.qec.calibration_test import BASES, law, memory
from qmkd.qec.data import calibration
from qmkd.qec.laws import DISTANCE_MAX
from qmkd.qec.noise import PRESETS
from qmkd.qec.reach import Reach, Strength, distances, parse_noise, shipped

CODES = ("Surface", "BaconShor", "SHYPS")


def test_the_shipped_table_states_the_reach_that_follows_from_its_entries() -> None:
    assert shipped() == calibration().reach()


@pytest.mark.parametrize("p", [0.9e-5, 1e-5, 7e-4, 1e-3, 3.5e-3, 3.7e-3, 1e-2])
@pytest.mark.parametrize("model", PRESETS)
def test_what_is_reached_is_answered_and_nothing_else(model: str, p: float) -> None:
    table, reached = calibration(), distances(shipped(), Strength(model, p))
    for code, distance in product(CODES, range(1, DISTANCE_MAX + 3)):
        try:
            table.look_up(code, distance, model, p, "memory")
            answered = True
        except NotKnown:
            answered = False
        assert answered == (distance in reached.get(code, frozenset())), (code, distance)


def test_a_single_measured_point_is_reached_and_half_of_one_is_not() -> None:
    whole = [memory(6, 1e-2, basis, law(6, 1e-2), "BaconShor") for basis in BASES]
    half = memory(8, 1e-2, "X", law(8, 1e-2), "BaconShor")
    (found,) = Table([*whole, half], {}).reach()
    expected = Reach(code="BaconShor", noise="uniform", p_least=1e-2, p_most=1e-2, distances=(6,))
    assert found == expected
    assert distances([found], Strength("uniform", 1e-2)) == {"BaconShor": frozenset({6})}
    assert distances([found], Strength("uniform", 1.1e-2)) == {}
    assert distances([found], Strength("si1000", 1e-2)) == {}


def test_physical_noise_is_a_model_and_a_strength() -> None:
    assert parse_noise("si1000 0.002") == Strength("si1000", 2e-3)
    for text in ("uniform", "uniform x", "uniform 0", "uniform nan", "uniform 0.5", "u 1e-3 2"):
        found = parse_noise(text)
        assert isinstance(found, str)
        assert repr(text) in found


def test_asking_loads_no_numerics() -> None:
    code = "import sys, qmkd.qec.reach as r; r.shipped(); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_rates_of_a_program_are_looked_up_without_scipy() -> None:
    """A worker's first job should not wait for it."""
    code = (
        "import sys, qmkd.engine.rates, qmkd.qec.data as d; "
        "d.calibration(); print('scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_reach_is_read_as_it_was_written() -> None:
    assert msgspec.json.decode(msgspec.json.encode(shipped()), type=tuple[Reach, ...]) == shipped()
