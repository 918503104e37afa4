"""Plans say what decoding adds."""

from __future__ import annotations

import pytest

from qmkd.core.ports import Plan
from qmkd.engine import run
from qmkd.engine.choose import plan
from qmkd.engine.coded_test import measured, op, program
from qmkd.engine.decoded import DecodedNoise
from qmkd.engine.decoding_cost import DECODER, DETECTOR_NS
from qvm.examples import load

NOISE = "decoded uniform 0.001"


def planned(graph: bytes, shots: int, noise: str, keeps: bool = False) -> Plan:
    found = plan(run.prepare(graph).summary, shots, noise, keeps)
    assert isinstance(found, Plan)
    return found


@pytest.mark.parametrize("shots", [1, 1000])
def test_only_noise_that_decodes_costs_decoding(shots: int) -> None:
    plain = planned(load("ghz"), shots, "ideal")
    assert planned(load("ghz"), shots, "calibrated uniform 0.001") == plain
    for mode in ("decoded", "physical"):
        dear = planned(load("ghz"), shots, f"{mode} uniform 0.001")
        assert dear.rows[0].engine == DECODER
        assert dear.rows[1:] == plain.rows
        assert dear.ns_per_shot > plain.ns_per_shot
        assert dear.ns_fixed > plain.ns_fixed
        assert dear.bytes_peak > plain.bytes_peak
        assert dear.engine == plain.engine


def test_stronger_noise_and_kept_data_are_dearer() -> None:
    few, many, kept = (
        planned(load("ghz"), 100, noise, keeps).ns_per_shot
        for noise, keeps in ((NOISE, False), ("decoded uniform 0.003", False), (NOISE, True))
    )
    assert few < many < kept


@pytest.mark.parametrize("distance", [3, 5])
def test_detectors_are_foreseen_within_a_few_times(distance: int) -> None:
    nodes = [op("APPLY_H", "a"), op("APPLY_CNOT", "a", "b"), op("APPLY_H", "b"), op("APPLY_H", "a")]
    made = program(*nodes, measured("a"), measured("b"), profile=f"logical:Surface(d={distance})")
    model = run.noise_model(NOISE, made)
    assert isinstance(model, DecodedNoise)
    begun = [of for step in made.lowered.steps for of, _ in model.begun(step)]
    drawn = sum(of.detectors for of in begun)
    plain, dear = plan(made.summary, 1024), plan(made.summary, 1024, NOISE)
    assert isinstance(plain, Plan)
    assert isinstance(dear, Plan)
    foreseen = (dear.ns_per_shot - plain.ns_per_shot) / DETECTOR_NS
    assert drawn / 4 < foreseen < drawn * 4
