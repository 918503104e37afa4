"""Reading is strict: every fault of a document is found, with its path."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stim

from qmkd.qec import azure, noise, settings
from qmkd.qec.decoders import Decoding
from qmkd.qec.settings import Law, Settings, read_settings

AS_PLANNED: dict[str, Any] = {
    "qec_scheme": {
        "code_family": "surface_code",
        "code_distance": 9,
        "logical_cycle_time_us": 1.0,
        "physical_qubit_count": 162,
    },
    "error_budget": {
        "physical_gate_error_rate": 1e-3,
        "measurement_error_rate": 1e-2,
        "idle_error_rate": 1e-4,
        "t1_us": 100,
        "t2_us": 80,
    },
    "decoder": {"type": "MWPM", "max_syndrome_weight": 10, "cycle_time_us": 0.1},
}
"""The example of the plan that the format comes from."""
LEAST: dict[str, Any] = {
    "qec_scheme": {"code_family": "Surface", "code_distance": 3},
    "error_budget": {"physical_gate_error_rate": 1e-3},
}


def changed(document: dict[str, Any], part: str, **fields: Any) -> bytes:
    """The document with fields replaced; a value of None leaves the field out."""
    own = {
        key: value for key, value in (document.get(part, {}) | fields).items() if value is not None
    }
    return json.dumps(document | {part: own}).encode()


def read(raw: bytes) -> Settings:
    found = read_settings(raw)
    assert isinstance(found, Settings), found
    return found


def findings(raw: bytes) -> list[tuple[str, str]]:
    found = read_settings(raw)
    assert not isinstance(found, Settings)
    return [(each.rule.removeprefix("settings."), each.path) for each in found]


def test_the_example_of_the_plan_is_read_as_written() -> None:
    found = read(json.dumps(AS_PLANNED).encode())
    assert (found.profile.code, found.profile.distance, found.warnings) == ("Surface", 9, ())
    assert found.qec_scheme.physical_qubit_count == 162
    assert found.error_budget.t2_us == 80
    assert (found.decoding, found.decoder.max_syndrome_weight) == ("matching", 10)
    assert found.round_us == pytest.approx(1 / 9)


@pytest.mark.parametrize("part", ["qec_scheme", "error_budget", "decoder"])
def test_an_unknown_field_is_found_wherever_it_stands(part: str) -> None:
    assert findings(changed(AS_PLANNED, part, t3_us=1)) == [("unknown_field", f"$.{part}.t3_us")]
    assert findings(json.dumps(LEAST | {"codes": {}}).encode()) == [("unknown_field", "$.codes")]


@pytest.mark.parametrize(
    ("part", "fields", "expected"),
    [
        ("qec_scheme", {"code_distance": "9"}, ("type", "$.qec_scheme.code_distance")),
        ("qec_scheme", {"code_distance": 9.0}, ("type", "$.qec_scheme.code_distance")),
        ("qec_scheme", {"code_distance": True}, ("type", "$.qec_scheme.code_distance")),
        ("qec_scheme", {"code_distance": 1}, ("range", "$.qec_scheme.code_distance")),
        ("qec_scheme", {"code_distance": None}, ("missing", "$.qec_scheme")),
        ("qec_scheme", {"code_family": "steane"}, ("code", "$.qec_scheme.code_family")),
        ("qec_scheme", {"code_family": "ideal"}, ("code", "$.qec_scheme.code_family")),
        ("qec_scheme", {"code_family": "Hastings_Haah"}, ("code", "$.qec_scheme.code_family")),
        ("qec_scheme", {"logical_cycle_time_us": 0},
         ("range", "$.qec_scheme.logical_cycle_time_us")),
        ("qec_scheme", {"logical_cycle_time_us": None}, ("missing", "$.qec_scheme")),
        ("qec_scheme", {"physical_qubit_count": 160},
         ("contradiction", "$.qec_scheme.physical_qubit_count")),
        ("error_budget", {"idle_error_rate": -1e-9}, ("range", "$.error_budget.idle_error_rate")),
        ("error_budget", {"measurement_error_rate": 0.6},
         ("range", "$.error_budget.measurement_error_rate")),
        ("error_budget", {"t2_us": 200.1}, ("contradiction", "$.error_budget.t2_us")),
        ("error_budget", {"t2_us": None}, ("missing", "$.error_budget")),
        ("decoder", {"type": "magic"}, ("decoder", "$.decoder.type")),
        ("decoder", {"max_syndrome_weight": 0}, ("range", "$.decoder.max_syndrome_weight")),
    ],
)  # fmt: skip
def test_each_fault_is_found_at_its_place(
    part: str, fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert findings(changed(AS_PLANNED, part, **fields)) == [expected]


def test_all_faults_are_found_at_once() -> None:
    document = {"qec_scheme": {"code_distance": 0}, "error_budget": 3, "decoder": {"kind": 1}}
    assert sorted(findings(json.dumps(document).encode())) == [
        ("missing", "$.qec_scheme"),
        ("range", "$.qec_scheme.code_distance"),
        ("type", "$.error_budget"),
        ("unknown_field", "$.decoder.kind"),
    ]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"3", b"\xff", b"{} {}", b"[" * 70_000, b"[" * 9_000]
)
def test_what_is_no_object_is_a_finding_and_never_an_exception(raw: bytes) -> None:
    assert len(findings(raw)) == 1


def test_a_code_that_lacks_the_distance_runs_at_the_next_one_and_says_so() -> None:
    raw = changed(LEAST, "qec_scheme", code_family="shyps", code_distance=9)
    document = json.loads(raw) | {"decoder": {"type": "BP_OSD"}}
    found = read(json.dumps(document).encode())
    assert found.profile.distance == 16
    assert [each.rule for each in found.warnings] == ["settings.distance"]


def test_matching_is_refused_for_a_code_whose_errors_are_no_edges() -> None:
    raw = changed(LEAST, "qec_scheme", code_family="SHYPS", code_distance=4)
    assert findings(raw) == [("decoder", "$.decoder.type")]


def test_a_decoder_slower_than_the_code_is_a_warning() -> None:
    found = read(changed(AS_PLANNED, "decoder", cycle_time_us=0.2))
    assert [each.path for each in found.warnings] == ["$.decoder.cycle_time_us"]


def test_every_decoder_that_settings_name_exists() -> None:
    assert set(settings.DECODERS.values()) == set(Decoding.__args__)  # type: ignore[attr-defined]


def test_the_noise_of_settings_has_their_rates_and_decays_while_waiting() -> None:
    model = settings.noise_model(read(json.dumps(AS_PLANNED).encode()))
    assert sum(model.two_qubit) == pytest.approx(1e-3)
    assert (model.reset, model.measure) == (1e-3, 1e-2)
    decay = noise.twirl(1000 / 9 / 8, 100e3, 80e3)
    assert model.idle_one == pytest.approx(noise.compose1(noise.depolarizing1(1e-4), decay))
    circuit = stim.Circuit.generated("surface_code:rotated_memory_z", distance=3, rounds=2)
    assert noise.apply(circuit, model).detector_error_model(decompose_errors=True).num_errors


def test_what_is_left_out_takes_the_gates_rate() -> None:
    model = settings.noise_model(read(json.dumps(LEAST).encode()))
    uniform = noise.uniform(1e-3)
    assert (model.measure, model.idle_two) == (uniform.measure, uniform.idle_two)


def test_in_azures_terms_the_distance_scales_what_was_given_for_one() -> None:
    found = settings.to_azure(read(json.dumps(AS_PLANNED).encode()))
    assert found.scheme.cycle_ns(found.qubit, 9) == 1000
    assert found.scheme.cycle_ns(found.qubit, 27) == 3000
    assert found.scheme.physical_qubits(9) == 162
    assert found.qubit.physical_error == 1e-2
    named = {path for path, _ in found.notes}
    assert {"$.qec_scheme.code_distance", "$.error_budget.t1_us", "$.decoder"} <= named
    assert found.scheme.prefactor == 0.03


def test_a_code_that_azure_does_not_know_needs_a_law() -> None:
    raw = changed(LEAST, "qec_scheme", code_family="SHYPS", code_distance=4)
    found = read(json.dumps(json.loads(raw) | {"decoder": {"type": "BP_OSD"}}).encode())
    with pytest.raises(azure.EstimateError, match="no law"):
        settings.to_azure(found)
    scheme = settings.to_azure(found, Law(threshold=3e-3, prefactor=0.2)).scheme
    assert scheme.physical_qubits(4) == 147 // 9
