"""Entries foretell experiments that they were not measured from."""

from __future__ import annotations

import math
from itertools import product

import pytest

from qmkd.qec import noise
from qmkd.qec.calibration import Basis, Experiment
from qmkd.qec.circuits import injection, memory, transversal_cnot
from qmkd.qec.codes.bacon_shor import bacon_shor
from qmkd.qec.codes.code import Code
from qmkd.qec.codes.shyps import shyps
from qmkd.qec.codes.surface import surface
from qmkd.qec.decoders import Matching, Undecodable, model_of
from qmkd.qec.measuring import (
    Counted,
    Effort,
    _copied,
    _two_qubit_terms,
    decoder_of_cnot,
    decoder_of_memory,
    flip_of,
    kinds_of,
    measure_around,
    measure_cnot,
    measure_h,
    measure_injection,
    measure_memory,
    seed_of,
    seen_only,
    shots_for,
)
from qmkd.qec.sampling import Stop, Tally, from_log, sample_and_decode, to_log

P = 5e-3
BASES: tuple[Basis, ...] = ("X", "Z")
EFFORT = Effort(seconds=2.0, errors=1500)


@pytest.mark.parametrize("code", [surface(3), bacon_shor(3)], ids=lambda code: code.profile)
def test_a_memory_of_another_length_fails_as_often_as_the_entry_says(code: Code) -> None:
    """Five standard errors, of the new sample and of the entry's rate together."""
    entry = measure_memory(code, noise.uniform(P), "Z", EFFORT)
    assert entry is not None
    rounds = 8
    circuit = noise.apply(memory(code, rounds, "Z"), noise.uniform(P))
    tally = sample_and_decode(
        circuit, decoder_of_memory(code, circuit, "Z"), Stop(shots=1 << 17, errors=4000), seed=77
    )
    sampled = tally.errors / tally.shots
    foretold = from_log(entry.boundary + rounds * to_log(entry.terms[0].rate))
    width = foretold / math.sqrt(min(each.errors for each in entry.experiments))
    assert abs(sampled - foretold) < 5 * math.hypot(width, sampled / math.sqrt(tally.errors))


def test_what_is_measured_again_is_the_same() -> None:
    effort = Effort(seconds=0.2)
    runs = [measure_memory(surface(3), noise.uniform(P), "X", effort) for _ in range(2)]
    assert runs[0] == runs[1] is not None


def test_a_memory_that_hardly_ever_fails_is_not_measurable() -> None:
    assert measure_memory(surface(5), noise.uniform(1e-5), "Z", Effort(seconds=0.01)) is None


@pytest.mark.parametrize("basis", BASES)
def test_the_chances_of_a_two_qubit_gate_are_found_behind_the_memory_around_it(
    basis: Basis,
) -> None:
    """Exact: the distribution is composed by hand and handed over as counts."""
    around, gate = 0.04, {0: 0.90, 1: 0.05, 2: 0.03, 3: 0.02}
    chances = dict.fromkeys(range(4), 0.0)
    singles = list(product((0, 1), repeat=2))
    for (c1, t1), (c2, t2), bits in product(singles, singles, range(4)):
        weight = gate[bits]
        for flip in (c1, t1, c2, t2):
            weight *= around if flip else 1 - around
        control, target = (c1, t1 ^ c1) if basis == "Z" else (c1 ^ t1, t1)
        chances[(control ^ c2 | (target ^ t2) << 1) ^ bits] += weight
    shots = 10**12
    patterns = tuple((bits, round(chances[bits] * shots)) for bits in (1, 2, 3))
    tally = Tally(shots=shots, errors=sum(count for _, count in patterns), patterns=patterns)
    counted = Counted(tally, Experiment(rounds=2, shots=shots, errors=tally.errors, seed=0), "none")
    terms = _two_qubit_terms(counted, basis, to_log(around), 0.0)
    for term, bits in zip(terms, (1, 2, 3), strict=True):
        assert math.isclose(term.rate, gate[bits], rel_tol=1e-6)
        assert term.low <= term.rate <= term.high


def test_a_parity_that_is_copied_twice_is_itself_again() -> None:
    for basis in BASES:
        assert {_copied(mask, basis) for mask in (1, 2, 3)} == {1, 2, 3}
        assert all(_copied(_copied(mask, basis), basis) == mask for mask in (1, 2, 3))


def test_gates_of_small_codes_are_measured_beyond_memory() -> None:
    code, model, effort = surface(3), noise.uniform(P), Effort(seconds=1.0, errors=5000)
    x, z = (measure_around(code, model, basis, effort) for basis in BASES)
    assert x is not None
    assert z is not None
    round_of_memory = z.half()[0] / code.distance
    cnot = measure_cnot(code, model, "Z", z, effort)
    assert cnot is not None
    assert [term.pauli for term in cnot.terms] == ["XI", "IX", "XX"]
    assert sum(term.rate for term in cnot.terms) < 3 * round_of_memory
    h = measure_h(code, model, "Z", z, x, effort)
    assert h is not None
    assert [term.pauli for term in h.terms] == ["Z"]
    assert h.terms[0].rate < round_of_memory


def test_a_gate_that_hardly_ever_fails_is_not_measurable() -> None:
    code, effort = surface(3), Effort(seconds=0.05)
    assert measure_around(code, noise.uniform(1e-4), "Z", effort) is None


def test_injected_states_that_look_good_err_less_and_one_fault_is_still_enough() -> None:
    code, model, effort = surface(3), noise.uniform(P), Effort(seconds=0.5)
    every = measure_injection(code, model, "Z", effort)
    quiet = measure_injection(code, model, "Z", effort, quiet=True)
    assert quiet.gadget == "inject_quiet"
    assert P < quiet.terms[0].high < every.terms[0].low < every.terms[0].rate < 20 * P


def test_injection_has_errors_that_no_detector_sees_and_matching_wants_them_gone() -> None:
    model = model_of(noise.apply(injection(3, 3, "Z"), noise.uniform(P)))
    with pytest.raises(Undecodable):
        Matching(model)
    kept = seen_only(model)
    assert (kept.num_detectors, kept.num_observables) == (model.num_detectors, 1)
    Matching(kept)


def test_kinds_follow_the_checks_of_each_basis() -> None:
    circuit = memory(surface(3), 4, "Z")
    x, z = kinds_of(circuit.detector_error_model(), "Z")
    assert not x.observables
    assert z.observables == {0}
    assert len(x.detectors) + len(z.detectors) == circuit.num_detectors
    assert not x.detectors & z.detectors


def test_a_code_that_is_not_matchable_is_decoded_by_its_own_kind_of_checks() -> None:
    pytest.importorskip("ldpc")
    circuit = noise.apply(memory(shyps(4), 2, "Z"), noise.uniform(2e-3))
    decoder = decoder_of_memory(shyps(4), circuit, "Z")
    assert decoder.name.startswith("bp+osd")
    tally = sample_and_decode(circuit, decoder, Stop(shots=512), seed=1, chunk=256)
    _, flips = circuit.compile_detector_sampler(seed=1).sample(512, separate_observables=True)
    assert 10 * tally.errors < flips.any(axis=1).sum()
    assert flip_of(Counted(tally, Experiment(rounds=2, shots=1, errors=0, seed=0), ""), 9).value > 0


def test_effort_becomes_shots_by_the_circuit_alone() -> None:
    circuit = noise.apply(memory(surface(3), 3, "Z"), noise.uniform(P))
    decoder = Matching(model_of(circuit))
    assert shots_for(circuit, decoder, 2.0, 1) == shots_for(circuit, decoder, 2.0, 1)
    assert shots_for(circuit, decoder, 4.0, 1) > shots_for(circuit, decoder, 2.0, 1)
    seeds = {seed_of("memory", "Surface", d, p) for d in (3, 5) for p in (1e-3, 2e-3)}
    assert len(seeds) == 4


def test_a_cnot_is_decoded_block_by_block_in_the_order_of_copying() -> None:
    circuit = noise.apply(transversal_cnot(surface(3), 2, 2, "X"), noise.uniform(P))
    decoder = decoder_of_cnot(surface(3), circuit, "X", [1.5])
    coordinates = circuit.get_detector_coordinates()
    order = [{coordinates[each][3] for each in step.commit} for step in decoder.steps]
    # Z errors, which X checks see, go from the target (block 1) to the control.
    assert order == [{2.0}, {0.0}]
