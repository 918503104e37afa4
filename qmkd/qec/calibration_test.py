"""Tables: what is written is read, damage is noticed, answers say how they were found."""

from __future__ import annotations

import math

import msgspec
import pytest

from qmkd.qec.calibration import (
    Basis,
    Entry,
    Experiment,
    Key,
    NotKnown,
    Table,
    TableError,
    Term,
    decode,
    encode,
)
from qmkd.qec.flips import from_log, to_log


def memory(distance: int, p: float, basis: Basis, rate: float, code: str = "Surface") -> Entry:
    term = Term(pauli={"X": "Z", "Z": "X"}[basis], rate=rate, low=0.9 * rate, high=1.1 * rate)
    return Entry(
        code=code,
        variant="rotated",
        distance=distance,
        noise="uniform",
        p=p,
        gadget="memory",
        basis=basis,
        per="round",
        terms=(term,),
        boundary=-0.8 * to_log(rate),
        decoder="pymatching correlated",
        interval="Clopper-Pearson 95 %",
        experiments=(Experiment(rounds=distance, shots=10_000, errors=400, seed=1),),
    )


def law(distance: int, p: float) -> float:
    return float(0.1 * (p / 0.01) ** ((distance + 1) / 2))


BASES: tuple[Basis, ...] = ("X", "Z")
ENTRIES = [
    memory(d, p, basis, law(d, p)) for d in (5, 7, 9) for p in (1e-3, 2e-3, 3e-3) for basis in BASES
]
CNOT = [
    msgspec.structs.replace(
        memory(5, 1e-3, basis, 1e-5),
        gadget="cnot",
        per="gate",
        terms=tuple(
            Term(pauli=pauli, rate=rate, low=0.0, high=2 * rate)
            for pauli, rate in ((f"{letter}I", 1e-5), (f"I{letter}", 2e-5), (letter * 2, 3e-5))
        ),
    )
    for basis, letter in zip(BASES, "ZX", strict=True)
]
TABLE = Table([*ENTRIES, *CNOT], {"stim": "1.16.0"})


def test_a_table_is_read_as_it_was_written() -> None:
    text = encode(TABLE, "python -m qmkd.qec calibrate")
    again = decode(text)
    assert again.entries == TABLE.entries
    assert again.versions == TABLE.versions
    assert encode(again, "python -m qmkd.qec calibrate") == text


def test_the_order_of_entries_does_not_change_the_text() -> None:
    backwards = Table(reversed(list(TABLE.entries.values())), TABLE.versions)
    assert encode(backwards, "x") == encode(TABLE, "x")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"errors":400', b'"errors":401'),
        (b'"format":2', b'"format":3'),
        (b'"sha256":"', b'"sha256":"0'),
        (b"}", b""),
    ],
)
def test_a_changed_table_is_refused(old: bytes, new: bytes) -> None:
    text = encode(TABLE, "x")
    assert old in text
    with pytest.raises(TableError):
        decode(text.replace(old, new, 1))


def test_a_table_without_its_last_entry_is_refused() -> None:
    with pytest.raises(TableError, match="digest"):
        decode(b"\n".join(encode(TABLE, "x").splitlines()[:-1]))
    with pytest.raises(TableError, match="header"):
        decode(b"")


def test_what_was_measured_is_answered_as_measured() -> None:
    answer = TABLE.look_up("Surface", 5, "uniform", 1e-3, "memory")
    assert answer.how == "measured"
    assert answer.rate("X") == answer.rate("Z") == law(5, 1e-3)
    assert "400 errors in 10000 shots" in answer.source
    cnot = TABLE.look_up("Surface", 5, "uniform", 1e-3, "cnot")
    assert [term.pauli for term in cnot.terms] == ["XI", "IX", "XX", "ZI", "IZ", "ZZ"]
    assert math.isclose(cnot.both(), 1.2e-4, rel_tol=1e-3)


def test_asked_again_the_same_answer_comes_back() -> None:
    one = TABLE.look_up("Surface", 5, "uniform", 1e-3, "memory")
    assert TABLE.look_up("Surface", 5, "uniform", 1e-3, "memory") is one


def test_between_measured_points_the_law_interpolates_and_beyond_it_says_so() -> None:
    between = TABLE.look_up("Surface", 7, "uniform", 1.5e-3, "memory")
    assert between.how == "interpolated"
    assert math.isclose(between.rate("X"), law(7, 1.5e-3), rel_tol=1e-6)
    beyond = TABLE.look_up("Surface", 15, "uniform", 1e-4, "memory")
    assert beyond.how == "extrapolated"
    assert math.isclose(beyond.rate("X"), law(15, 1e-4), rel_tol=1e-6)
    assert "law" in beyond.source


def test_a_gate_beyond_the_measured_ones_is_scaled_as_memory_is() -> None:
    scaled = TABLE.look_up("Surface", 7, "uniform", 2e-3, "cnot")
    assert scaled.how == "extrapolated"
    factor = law(7, 2e-3) / law(5, 1e-3)
    assert math.isclose(scaled.rate("IX"), 2e-5 * factor, rel_tol=1e-3)


@pytest.mark.parametrize(
    ("code", "distance", "noise", "p", "gadget"),
    [
        ("SHYPS", 16, "uniform", 1e-3, "memory"),
        ("Surface", 5, "si1000", 1e-3, "memory"),
        ("Surface", 5, "uniform", 0.02, "memory"),
        ("Surface", 5, "uniform", 1e-3, "s"),
    ],
)
def test_what_nothing_reaches_is_refused_with_what_there_is(
    code: str, distance: int, noise: str, p: float, gadget: str
) -> None:
    with pytest.raises(NotKnown, match="measured"):
        TABLE.look_up(code, distance, noise, p, gadget)


def test_preparing_keeping_and_measuring_add_up_to_the_memory_that_was_measured() -> None:
    answer = TABLE.look_up("Surface", 5, "uniform", 1e-3, "memory")
    whole = 2 * to_log(answer.end("X")) + 18 * to_log(answer.rate("X"))
    entry = TABLE.entries[Key("Surface", 5, "uniform", 1e-3, "memory", "Z")]
    assert math.isclose(whole, entry.boundary + 20 * to_log(entry.terms[0].rate), rel_tol=1e-9)
    assert answer.end("X") == from_log(0.6 * to_log(answer.rate("X")))


def test_a_table_grown_on_demand_extends_the_shipped_one() -> None:
    grown = Table([memory(5, 1e-3, "Z", 7e-5), memory(11, 3e-3, "Z", 1e-5)], {"stim": "2"})
    both = TABLE.joined(grown)
    assert len(both.entries) == len(TABLE.entries) + 1
    assert both.look_up("Surface", 5, "uniform", 1e-3, "memory").rate("X") == 7e-5
    assert both.versions == {"stim": "2"}
