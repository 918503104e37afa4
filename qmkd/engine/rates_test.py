"""The shipped rates in a program: against decoding the same program's syndromes as it runs."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from qmkd.engine import run
from qmkd.engine.prepared import Prepared, Unable
from qmkd.engine.rates import TableRates, _as_z_errors
from qmkd.qec.data import calibration
from qmkd.qec.flips import to_log
from qmkd.qec.noise import PRESETS
from qvm.profiles import Profile, parse_profile

SHOTS = 1 << 16
CNOTS = ((7, 3e-3), (5, 3e-3))


def bell(profile: str = "logical:Surface(d=3)") -> Prepared:
    """A pair, an epoch, and both measured."""
    ops = [("APPLY_H", "a"), ("APPLY_CNOT", "ab"), ("FENCE_EPOCH", ""), ("MEASURE_Z", "a")]
    nodes: list[dict[str, Any]] = [
        {"op": op, "vqs": list(qubits)} for op, qubits in [*ops, ("MEASURE_Z", "b")]
    ]
    nodes[2].pop("vqs")
    nodes.insert(0, {"op": "ALLOC_LQ", "vqs": ["a", "b"], "args": {"n": 2, "profile": profile}})
    for node, event in zip(nodes[-2:], "mn", strict=True):
        node["produces"] = [event]
    graph = {
        "version": "0.1",
        "program": {"nodes": [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]},
        "resources": {"vqs": ["a", "b"], "events": ["m", "n"]},
    }
    return run.prepare(json.dumps(graph).encode())


def wrong(noise: str) -> float:
    """How often the outcomes of the pair differ."""
    report, _ = run.run_segment(bell(), 5, 0, SHOTS, "frames", noise)
    assert report.counts is not None
    return (report.counts["01"] + report.counts["10"]) / SHOTS


def test_calibrated_errors_are_those_of_decoding_while_the_program_runs() -> None:
    calibrated, decoded = wrong("calibrated uniform 0.003"), wrong("decoded uniform 0.003")
    error = math.sqrt(2 * calibrated * (1 - calibrated) / SHOTS)
    assert 0.02 < calibrated < 0.04
    assert abs(calibrated - decoded) < 5 * error + 0.15 * calibrated, "and 15 % between the ways"


def test_fewer_physical_errors_and_more_distance_make_fewer_logical_ones() -> None:
    rates = [TableRates(calibration(), "uniform", p) for p in (1e-3, 2e-3, 3e-3)]
    found = [[sum(each.memory(surface(d))) for each in rates] for d in (3, 5, 7)]
    assert all(row == sorted(row) for row in found)
    assert all(list(column) == sorted(column, reverse=True) for column in zip(*found, strict=True))


def surface(distance: int) -> Profile:
    found = parse_profile(f"logical:Surface(d={distance})")
    assert isinstance(found, Profile)
    return found


def rates(p: float = 2e-3, noise: str = "uniform") -> TableRates:
    return TableRates(calibration(), noise, p)


def test_gates_err_beyond_their_rounds_by_what_was_measured() -> None:
    found = calibration().look_up("Surface", 3, "uniform", 2e-3, "cnot")
    assert found.how == "measured"
    measured = {term.pauli: term.rate for term in found.terms if term.rate}
    assert dict(rates().extra(surface(3), "APPLY_CNOT")) == measured
    assert dict(rates().extra(surface(3), "TELEPORT_CNOT")) == measured
    turned = {"II": "II", "IX": "IZ", "IZ": "IX", "XI": "XI", "ZI": "ZI", "XX": "XZ", "ZZ": "ZX"}
    expected = {turned[pauli]: rate for pauli, rate in measured.items()}
    assert dict(rates().extra(surface(3), "APPLY_CZ")) == expected
    h = {pauli for pauli, _ in rates().extra(surface(3), "APPLY_H")}
    assert h <= {"X", "Z"}
    assert rates().extra(surface(3), "APPLY_S") == ()


def test_an_unmeasured_gate_errs_like_as_many_rounds_as_a_measured_one() -> None:
    """At d = 7 a CNOT cannot be told from its rounds; that of d = 5 is the nearest."""
    here, there = (calibration().look_up("Surface", d, "uniform", p, "cnot") for d, p in CNOTS)
    assert (here.how, there.how) == ("extrapolated", "measured")
    memory = [calibration().look_up("Surface", d, "uniform", p, "memory") for d, p in CNOTS]
    for pauli in ("XI", "IX", "XX"):
        rounds = there.rate(pauli) / to_log(memory[1].rate("X"))
        assert here.rate(pauli) == pytest.approx(rounds * to_log(memory[0].rate("X")), rel=1e-9)


def test_a_twirled_t_state_has_a_z_error_for_every_second_x_error() -> None:
    """By density matrices: the twirl is over T X T^-1, which leaves T states alone."""
    paulis = [np.array(each) for each in ([[0, 1], [1, 0]], [[1, 0], [0, -1]])]
    state = np.array([1, np.exp(0.25j * np.pi)]) / math.sqrt(2)
    x, z = 0.07, 0.11
    density = np.outer(state, state.conj())
    for pauli, chance in zip(paulis, (x, z), strict=True):
        density = (1 - chance) * density + chance * pauli @ density @ pauli
    turn = np.diag([1, np.exp(0.25j * np.pi)])
    clifford = turn @ paulis[0] @ turn.conj().T
    density = (density + clifford @ density @ clifford.conj().T) / 2
    wrong = paulis[1] @ state
    assert _as_z_errors(x, z) == pytest.approx(float((wrong.conj() @ density @ wrong).real))
    assert abs(wrong.conj() @ density @ state) < 1e-12, "and errs in no other way"


def test_t_states_are_injected_as_measured_and_distilled_once() -> None:
    found = calibration().look_up("Surface", 5, "uniform", 1e-3, "inject_quiet")
    assert found.how == "measured"
    injected = found.rate("Z") * (1 - found.rate("X")) + found.rate("X") / 2
    assert 1e-3 < injected < 1e-2
    for profile in (surface(5), surface(9), bacon_shor(5)):
        error = rates(1e-3).magic(profile)
        assert 20 * injected**3 < error < 50 * injected**3


@pytest.mark.parametrize("noise", PRESETS)
@pytest.mark.parametrize("p", [1e-4, 1e-3, 3e-3])
def test_all_rates_of_common_codes_are_known_under_every_named_noise(noise: str, p: float) -> None:
    # Under biased noise X errors of larger surface codes are too rare to be measured.
    distances = (3, 5) if noise == "biased10" else (3, 5, 7, 9, 15)
    for profile in (*map(surface, distances), *map(bacon_shor, (3, 5, 7))):
        known = rates(p, noise)
        assert all(0 < rate < 0.1 for rate in known.memory(profile))
        assert all(0 <= rate < 0.1 for rate in known.ends(profile))
        assert 0 < known.magic(profile) < 0.1
        for op in ("APPLY_CNOT", "APPLY_H"):
            assert sum(rate for _, rate in known.extra(profile, op)) < 0.1


def bacon_shor(distance: int) -> Profile:
    found = parse_profile(f"logical:BaconShor(d={distance})")
    assert isinstance(found, Profile)
    return found


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        ("calibrated loud 0.001", "under loud noise of 0.001 are not known"),
        ("calibrated uniform 0.4", "under uniform noise of 0.4 are not known"),
        ("calibrated uniform", "no noise model"),
        ("calibrated uniform 0", "no noise model"),
        ("calibrated uniform nan", "no noise model"),
        ("louder", "no noise model"),
    ],
)
def test_what_is_not_known_is_refused_in_words(noise: str, said: str) -> None:
    with pytest.raises(Unable, match=said):
        run.run_segment(bell(), 5, 0, 64, "frames", noise)
