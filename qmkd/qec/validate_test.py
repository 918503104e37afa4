"""What ships is what the commands make: the table, the rows, the document that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from qmkd.qec import noise, validate
from qmkd.qec.calibrate import COMMAND, STRENGTHS
from qmkd.qec.calibration import Basis, Key
from qmkd.qec.circuits import memory
from qmkd.qec.codes.surface import surface
from qmkd.qec.data import calibration, published
from qmkd.qec.measuring import Effort, decoder_of_memory, measure_memory, versions
from qmkd.qec.sampling import Stop, sample_and_decode
from qmkd.qec.validate import (
    Figure,
    as_table,
    curves_crossing,
    decode,
    distillation,
    power_law,
    purification,
    suppressions,
    surface_by_law,
    surface_memories,
    twirl,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "validation.md"
ROWS = decode((files("qmkd.qec.data") / "validation.jsonl").read_bytes())
BASES: tuple[Basis, ...] = ("X", "Z")


def test_the_document_shows_the_shipped_rows() -> None:
    assert as_table(ROWS) in DOCUMENT.read_text(encoding="utf-8")


def test_every_row_that_claims_a_bound_holds_it() -> None:
    assert [row for row in ROWS if row.holds is False] == []
    assert {row.claim for row in ROWS if row.holds} == set(validate.ROWS)
    assert list(dict.fromkeys(row.claim for row in ROWS)) == list(validate.ROWS)


@pytest.mark.parametrize(
    "made", [surface_memories, surface_by_law, power_law, curves_crossing, suppressions]
)
def test_rows_about_surface_memories_follow_from_the_shipped_counts(
    made: Callable[[], Iterator[Figure]],
) -> None:
    """Numbers to six digits: fits may round differently elsewhere."""
    for row in made():
        (shipped,) = (
            each for each in ROWS if (each.claim, each.setting) == (row.claim, row.setting)
        )
        assert shipped.ours == pytest.approx(row.ours, rel=1e-6)
        assert shipped.theirs == pytest.approx(row.theirs, rel=1e-6)
        assert (shipped.bound, shipped.holds) == (row.bound, row.holds)


@pytest.mark.parametrize("made", [distillation, purification, twirl])
def test_sampled_closed_forms_are_within_three_deviations(
    made: Callable[[], Iterator[Figure]],
) -> None:
    rows = list(made())
    assert rows
    assert [row for row in rows if not row.holds] == []


def test_the_shipped_table_names_its_command_and_versions() -> None:
    header = (
        (files("qmkd.qec.data") / "calibration.jsonl").read_text(encoding="utf-8").splitlines()[0]
    )
    assert COMMAND in header
    assert set(calibration().versions) == set(versions())


def test_every_entry_states_its_counts_and_holds_its_rates_between_its_bounds() -> None:
    for entry in calibration().entries.values():
        assert entry.experiments
        assert all(each.shots > 0 and each.seed > 0 for each in entry.experiments)
        for term in entry.terms:
            assert 0 <= term.low <= term.rate <= term.high <= 0.5


@pytest.mark.parametrize("code", ["Surface", "BaconShor"])
def test_common_settings_are_answered_and_say_what_was_measured(code: str) -> None:
    hows = set()
    for distance in range(3, 16, 2):
        for p in STRENGTHS:
            answer = calibration().look_up(code, distance, "uniform", p, "memory")
            hows.add(answer.how)
            assert 0 < answer.rate("X") < 0.5
            assert 0 < answer.rate("Z") < 0.5
    assert "measured" in hows
    assert calibration().look_up("Surface", 15, "uniform", 1e-4, "memory").how == "extrapolated"


def test_measured_rates_of_the_surface_code_fall_with_distance() -> None:
    entries = calibration().entries
    for p in STRENGTHS:
        for basis in BASES:
            found = [
                entries[key].terms[0].rate
                for d in (5, 7, 9, 11)
                if (key := Key("Surface", d, "uniform", p, "memory", basis)) in entries
            ]
            assert found == sorted(found, reverse=True)


def test_gates_are_measured_in_both_bases() -> None:
    for code in ("Surface", "BaconShor"):
        answer = calibration().look_up(code, 3, "uniform", 1e-3, "cnot")
        assert answer.how == "measured"
        assert {term.pauli for term in answer.terms} == {"XI", "IX", "XX", "ZI", "IZ", "ZZ"}
        assert calibration().look_up(code, 3, "uniform", 1e-3, "h").how == "measured"
    assert calibration().look_up("Surface", 3, "uniform", 1e-3, "inject").rate("X") > 1e-3


@pytest.mark.skipif(versions() != calibration().versions, reason="other versions draw other shots")
def test_a_point_measured_again_is_the_shipped_entry() -> None:
    entry = measure_memory(surface(3), noise.uniform(3e-3), "Z", Effort(seconds=6.0))
    assert entry == calibration().entries[Key("Surface", 3, "uniform", 3e-3, "memory", "Z")]


def test_published_counts_are_read_as_published() -> None:
    (row,) = (
        each
        for each in published()
        if (each.source, each.distance, each.p, each.basis) == ("midout", 5, 1e-3, "X")
    )
    assert (row.rounds, row.shots, row.errors) == (20, 1266826, 1045)
    assert len(published()) == 258


@pytest.mark.slow
@pytest.mark.parametrize(
    "made",
    [
        validate.bacon_shor_memories,
        validate.shyps_crossing,
        validate.windows,
        validate.two_pass_cnot,
        validate.lattice_surgery,
    ],
)
def test_what_is_sampled_for_the_document_holds_its_bounds(
    made: Callable[[], Iterator[Figure]],
) -> None:
    """The bounds are in the rows: 10 % and two standard deviations, or a factor."""
    if made is validate.shyps_crossing:
        pytest.importorskip("ldpc")
    assert [row for row in made() if not row.holds] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distance", "p", "shots"),
    [
        (5, 1e-3, 1_000_000),
        (7, 1e-3, 1_000_000),
        (5, 3e-3, 100_000),
        (7, 3e-3, 150_000),
        (9, 3e-3, 150_000),
        (11, 3e-3, 150_000),
        (13, 3e-3, 150_000),
        (15, 3e-3, 150_000),
    ],
)
def test_surface_memories_of_another_seed_are_within_the_bound_too(
    distance: int, p: float, shots: int
) -> None:
    """10 % and two standard deviations, which are many where few errors were seen."""
    for basis in BASES:
        circuit = noise.apply(memory(surface(distance), 4 * distance, basis), noise.uniform(p))
        decoder = decoder_of_memory(surface(distance), circuit, basis)
        tally = sample_and_decode(circuit, decoder, Stop(shots=shots, errors=1000), seed=20_261)
        theirs = validate._published(validate.ROTATED, distance, p, basis)
        assert validate._ratio("", "", tally, theirs, claimed=True).holds
