"""The schedule of logical errors: who waits for whom, and what happens to them meanwhile."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from qmkd.engine import run
from qmkd.engine.coded import CodedNoise, Flips, flips_of
from qmkd.engine.exact import exact
from qmkd.engine.prepared import Prepared
from qmkd.engine.primitives import Noise, primitives, supports
from qvm.profiles import Profile

Json = dict[str, Any]
SHOTS = 1 << 16


class Made:
    """Rates by hand: X errors in memory, at the ends, in a CNOT, and of T states."""

    def __init__(self, x: float = 0.0, z: float = 0.0, end: float = 0.0, cnot: float = 0.0) -> None:
        self.x, self.z, self.end, self.cnot = x, z, end, cnot

    def memory(self, profile: Profile) -> Flips:
        return self.x * profile.distance, self.z * profile.distance

    def ends(self, profile: Profile) -> Flips:
        return self.end, self.end

    def rounds(self, profile: Profile, op: str) -> int:
        return {"APPLY_H": 1, "APPLY_CNOT": 2, "APPLY_S": profile.distance}.get(op, 0)

    def extra(self, profile: Profile, op: str) -> tuple[tuple[str, float], ...]:
        return (("XX", self.cnot),) if op == "APPLY_CNOT" and self.cnot else ()

    def magic(self, profile: Profile) -> float:
        return 0.25


def program(*nodes: Json, profile: str = "logical:Surface(d=3)") -> Prepared:
    """A program on qubits a and b of a profile and on c, which is ideal."""
    events = [event for node in nodes for event in node.get("produces", ())]
    allocs = [
        {"op": "ALLOC_LQ", "vqs": ["a", "b"], "args": {"n": 2, "profile": profile}},
        {"op": "ALLOC_LQ", "vqs": ["c"], "args": {"n": 1, "profile": "logical:ideal"}},
    ]
    written = [{"id": f"n{at}", **node} for at, node in enumerate([*allocs, *nodes])]
    graph = {
        "version": "0.1",
        "program": {"nodes": written},
        "resources": {"vqs": ["a", "b", "c"], "events": events},
    }
    return run.prepare(json.dumps(graph).encode())


def op(name: str, *qubits: str, **fields: Any) -> Json:
    return {"op": name, "vqs": list(qubits), **fields}


def measured(qubit: str, basis: str = "Z") -> Json:
    return op(f"MEASURE_{basis}", qubit, produces=[f"m{qubit}"])


FENCE: Json = {"op": "FENCE_EPOCH"}


def struck(made: Prepared, rates: Made) -> list[tuple[int, str, float]]:
    """(qubit, letter, probability) of every Pauli on one qubit that may strike, in order."""
    noise = CodedNoise("made", made.lowered, rates)
    found = []
    for each in primitives(made.lowered, noise):
        if isinstance(each, Noise) and len(each.qubits) == 1:
            chance = 1 - int(each.of.gaps[0]) / 2**64
            shares = np.diff([0.0, *(int(bound) / 2**64 for bound in each.of.bounds), 1.0])
            for (xs, zs), share in zip(supports(each.qubits, each.kinds), shares, strict=True):
                letter = "Y" if xs and zs else "X" if xs else "Z"
                found.append((each.qubits[0], letter, chance * float(share)))
    return found


def test_work_and_waiting_cost_rounds_of_memory() -> None:
    """a works 4 rounds before it meets b, which waits; c is ideal and has no part in it."""
    made = program(op("APPLY_S", "a"), op("APPLY_H", "a"), op("APPLY_CNOT", "a", "b"), FENCE)
    found = struck(made, Made(x=1e-3))
    expected = [(0, 3), (0, 1), (1, 4), (0, 2), (1, 2)]
    assert [(qubit, letter) for qubit, letter, _ in found] == [(at, "X") for at, _ in expected]
    for (_, _, chance), (_, rounds) in zip(found, expected, strict=True):
        assert chance == pytest.approx(flips_of(3e-3, rounds), rel=1e-12)
    assert CodedNoise("made", made.lowered, Made()).rounds == [6]


def test_at_a_fence_all_wait_for_the_last() -> None:
    made = program(op("APPLY_H", "a"), FENCE, op("APPLY_H", "b"), FENCE)
    found = struck(made, Made(z=1e-3))
    assert [(qubit, letter) for qubit, letter, _ in found] == [
        (0, "Z"),
        (1, "Z"),
        (1, "Z"),
        (0, "Z"),
    ]
    assert CodedNoise("made", made.lowered, Made()).rounds == [1, 1]


def test_independent_flips_make_a_y_where_both_happen() -> None:
    made = program(op("APPLY_H", "a"))
    chances = {letter: chance for _, letter, chance in struck(made, Made(x=0.01, z=0.02))}
    assert chances == pytest.approx({"X": 0.03 * 0.94, "Z": 0.06 * 0.97, "Y": 0.03 * 0.06})


def test_ideal_qubits_have_no_noise_and_take_no_time() -> None:
    made = program(op("APPLY_S", "c"), op("APPLY_CNOT", "b", "c"), FENCE, measured("c"))
    assert {qubit for qubit, *_ in struck(made, Made(x=1e-3))} == {0, 1}
    noise = CodedNoise("made", made.lowered, Made(x=1e-3))
    assert noise.rounds == [2], "CNOT waits for b alone"


def test_a_measurement_sees_the_errors_that_its_basis_sees() -> None:
    """Those of the first round and of the last one; preparing in Z forgives Z errors."""
    for basis, wrong in (("Z", 0.18), ("X", 0.5), ("Y", 0.5)):
        made = program(measured("a", basis))
        noise = CodedNoise("made", made.lowered, Made(end=0.1))
        found = exact(made, noise).probabilities
        assert found["1"] == pytest.approx(wrong)
    turned = program(op("APPLY_H", "a"), measured("a", "X"))
    found = exact(turned, CodedNoise("made", turned.lowered, Made(end=0.1))).probabilities
    assert found["1"] == pytest.approx(0.18)


def test_a_wrong_outcome_leaves_the_qubit_as_it_says() -> None:
    made = program(measured("a"), op("MEASURE_Z", "a", produces=["again"]))
    rates = Made(end=0.1)
    found = exact(made, CodedNoise("made", made.lowered, rates)).probabilities
    differ = sum(chance for row, chance in found.items() if row[0] != row[1])
    assert differ == pytest.approx(0.1), "the second measurement's own error, and no more"


@pytest.mark.parametrize(
    ("name", "waited", "ends"), [("APPLY_H", 1, 2), ("RESET", 0, 3), ("MEASURE_Z", 0, 3)]
)
def test_time_passes_in_shots_in_which_a_guarded_operation_does_not_happen(
    name: str, waited: int, ends: int
) -> None:
    """c is 0, so the guard never holds; what errs by time errs all the same."""
    fields: Json = {"guard": {"event": "mc", "equals": 1}}
    if name == "MEASURE_Z":
        fields["produces"] = ["never"]
    made = program(measured("c"), op(name, "b", **fields), measured("b"))
    noise = CodedNoise("made", made.lowered, Made(x=0.01, end=0.1))
    found = exact(made, noise).probabilities
    wrong = sum(chance for row, chance in found.items() if row[-1] == "1")
    signs = (1 - 2 * 0.1) ** ends * (1 - 2 * 0.03) ** waited
    assert wrong == pytest.approx((1 - signs) / 2)


def test_what_an_operation_errs_beyond_its_time_errs_only_where_it_happens() -> None:
    guard = {"event": "mc", "equals": 1}
    for first, chance in (((), 0.0), ((op("APPLY_X", "c"),), 0.2)):
        made = program(
            *first, measured("c"), op("APPLY_CNOT", "a", "b", guard=guard), measured("a")
        )
        found = exact(made, CodedNoise("made", made.lowered, Made(cnot=0.2))).probabilities
        wrong = sum(each for row, each in found.items() if row[-1] == "1")
        assert wrong == pytest.approx(chance)


def test_a_memory_of_many_rounds_errs_as_the_closed_form_says() -> None:
    rounds, rate = 200, 1e-3
    made = program(*[op("APPLY_S", "a")] * rounds, measured("a"))
    noise = CodedNoise("made", made.lowered, Made(x=rate / 3))
    rows = run.event_rows(made, 11, 0, SHOTS, "frames", noise)
    expected = flips_of(rate, 3 * rounds)
    assert abs(rows.mean() - expected) < 5 * math.sqrt(expected * (1 - expected) / SHOTS)


def test_what_a_cnot_errs_beyond_its_rounds_strikes_both_qubits_together() -> None:
    made = program(op("APPLY_CNOT", "a", "b"), measured("a"), measured("b"))
    noise = CodedNoise("made", made.lowered, Made(cnot=0.2))
    rows = run.event_rows(made, 5, 0, SHOTS, "frames", noise)
    assert np.array_equal(rows[:, 0], rows[:, 1])
    assert abs(rows[:, 0].mean() - 0.2) < 5 * math.sqrt(0.16 / SHOTS)


def test_consumed_t_states_carry_z_errors() -> None:
    """T and its inverse on |+> leave it as it was, but for the Z errors of two T states."""
    made = program(op("APPLY_H", "a"), op("APPLY_T", "a"), op("APPLY_TDG", "a"), measured("a", "X"))
    noise = CodedNoise("made", made.lowered, Made())
    rows = run.event_rows(made, 6, 0, SHOTS, "dense", noise)
    expected = 2 * 0.25 * 0.75
    assert abs(rows.mean() - expected) < 5 * math.sqrt(expected * (1 - expected) / SHOTS)
