"""Predictions against the kernel's own noise, followed exactly by its own engine."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import msgspec
import pytest

from qmkd.core.ports import PairError
from qmkd.engine.coded import CodedNoise
from qmkd.engine.exact import exact
from qmkd.engine.paired import paired
from qmkd.engine.prepared import Prepared
from qmkd.engine.rates import TableRates
from qmkd.qec.data import calibration
from qvm.channels import Brokered, broker
from qvm.decode import decode_graph
from qvm.lower import lower
from qvm.machine import Hardware, described
from qvm.profiles import Profile, parse_profile
from qvm.program import Graph, VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.verify import verify
from runtime.jit.planning.cones import seen_errors
from runtime.jit.planning.exact import outcomes
from runtime.jit.planning.predict import cost, keyed, predict, truth_of, variation
from runtime.jit.planning.rates import CodeRates, Known, ask
from runtime.jit.planning.timeline import timeline
from runtime.jit.planning.variants import Built, Way, built, ideal, in_code, read

ROOT = Path(__file__).parents[3]
NOISE = "uniform 0.001"
CODES = ("Surface(d=3)", "Surface(d=4)", "BaconShor(d=3)", "SHYPS(d=2)")
PLAIN = described(b'name = "plain"\nmodule = [{ name = "main", qubits = 9999 }]')
TWO = described(
    b'name = "two"\nmodule = [{ name = "a", qubits = 999 }, { name = "b", qubits = 999 }]\n'
    b'link = [{ between = ["a", "b"], cycles = 50, fidelity = 0.97, lifetime = 1e6 }]'
)


@cache
def known() -> Known:
    return ask([*CODES, "SHYPS(d=8)"], NOISE)


def rates(code: str) -> CodeRates:
    found = known()[code]
    assert isinstance(found, CodeRates)
    return found


def verified(graph: Graph) -> VerifiedProgram:
    program = verify(graph)
    assert isinstance(program, VerifiedProgram), program
    return program


def by_the_kernel(graph: Graph, hardware: Hardware) -> dict[str, float]:
    """What the program gives under `calibrated` noise, by the kernel's rooms alone."""
    program = verified(graph)
    lowered = lower(program)
    noise = CodedNoise("calibrated", lowered, TableRates(calibration(), "uniform", 0.001))
    found = broker(program.summary, hardware)
    assert isinstance(found, Brokered), found
    pairs = tuple(
        PairError(node, terms.x, terms.y, terms.z) for terms in found.terms for node in terms.nodes
    )
    prepared = Prepared(lowered, program.summary)
    return exact(prepared, paired(noise, lowered, pairs)).probabilities


def random_graph(seed: int, *, channels: bool = False) -> Graph:
    shape = Shape(
        qubits_max=4, nodes_max=30, branchings_max=8, guards=0.3, magic=True, channels=channels
    )
    graph = decode_graph(msgspec.json.encode(shaped_program(random.Random(seed), shape)))
    assert isinstance(graph, Graph)
    return graph


@pytest.mark.parametrize("seed", range(25))
def test_what_is_followed_is_what_the_kernel_draws_from(seed: int) -> None:
    code = CODES[seed % len(CODES)]
    graph = in_code(random_graph(seed), code)
    lowered = lower(verified(graph))
    choice: dict[str, CodeRates | None] = {
        each.asked: None if each.code == "ideal" else rates(code)
        for each in lowered.alloc_profiles.values()
        if each.asked == code or each.code == "ideal"
    }
    others = {each.asked for each in lowered.alloc_profiles.values()} - choice.keys()
    assert not others, "one code, and qubits without"
    found = outcomes(lowered, timeline(lowered, [choice]))
    theirs = by_the_kernel(graph, _hardware(PLAIN))
    assert variation(found.of(0), theirs) < 1e-8


def _hardware(found: object) -> Hardware:
    assert isinstance(found, Hardware), found
    return found


def test_pairs_between_modules_err_as_the_kernel_has_them() -> None:
    made = built(read(ROOT / "examples" / "teleport_modules.qvm"), Way())
    hardware = _hardware(TWO)
    truth = truth_of(made)
    (found,) = predict(made, {CODES[0]: rates(CODES[0])}, hardware, truth).values()
    theirs = by_the_kernel(in_code(made.graph, CODES[0]), hardware)
    assert truth is not None
    assert found.prediction.error == pytest.approx(variation(theirs, truth), rel=1e-6)
    plain = predict(made, {CODES[0]: rates(CODES[0])}, _hardware(PLAIN), truth)[CODES[0]]
    assert plain.prediction.error < found.prediction.error


def test_a_circuit_over_two_modules_errs_as_the_kernel_has_it() -> None:
    small = described(
        b'name = "small"\nmodule = [{ name = "a", qubits = 40 }, { name = "b", qubits = 40 }]\n'
        b'link = [{ between = ["a", "b"], cycles = 5, fidelity = 0.97, lifetime = 1e6 }]'
    )
    hardware = _hardware(small)
    source = read(
        'OPENQASM 3;\ninclude "stdgates.inc";\nqubit[3] q;\nbit[3] c;\n'
        "h q[0];\ncx q[0], q[1];\ncx q[1], q[2];\nc = measure q;\n"
    )
    code = CODES[0]
    made = built(source, Way(placed=code, pair_error=0.01), hardware)
    truth = truth_of(ideal(source))
    assert truth is not None
    (found,) = predict(made, {code: rates(code)}, hardware, truth).values()
    theirs = keyed(made, by_the_kernel(in_code(made.graph, code), hardware))
    assert found.prediction.error == pytest.approx(variation(theirs, truth), rel=1e-6)
    needs = cost(made, code, hardware)
    assert not isinstance(needs, str)
    assert needs.raw_pairs > 0


def test_a_light_cone_is_never_below_what_happens() -> None:
    for seed in range(40):
        graph = in_code(random_graph(seed), CODES[0])
        lowered = lower(verified(graph))
        profiles = {each.asked for each in lowered.alloc_profiles.values()}
        choices: list[dict[str, CodeRates | None]] = [{}, {}]
        for name in profiles:
            choices[0][name], choices[1][name] = None, rates(CODES[0])
        line = timeline(lowered, choices)
        found = outcomes(lowered, line)
        bound = seen_errors(line)
        assert bound[0] == 0
        assert variation(found.of(0), found.of(1)) <= bound[1] + 1e-9


def test_what_is_known_of_codes_is_what_the_kernel_has() -> None:
    ours = TableRates(calibration(), "uniform", 0.001)
    for code in CODES:
        profile = parse_profile(code)
        assert isinstance(profile, Profile)
        assert rates(code).memory == ours.memory(profile)
        assert sum(rates(code).memory) < sum(rates(code).at_most.memory)
        assert rates(code).magic == ours.magic(profile) < rates(code).magic_high
    assert "not measured" in str(known()["SHYPS(d=8)"])


def test_rotations_count_against_the_circuit_as_it_was_written() -> None:
    source = read(
        'OPENQASM 3;\ninclude "stdgates.inc";\n'
        "qubit q;\nbit c;\nh q;\nrz(0.3) q;\nh q;\nc = measure q;\n"
    )
    made: Built = built(source, Way(epsilon=0.2))
    truth = truth_of(ideal(source))
    found = predict(made, {CODES[1]: rates(CODES[1])}, _hardware(PLAIN), truth)[CODES[1]]
    assert 0 < found.prediction.synthesis <= 0.2
    assert found.prediction.error >= found.prediction.synthesis - found.prediction.noise
    assert found.excess is not None
    more = found.excess.predicted - found.excess.ideal
    assert more == pytest.approx(found.prediction.error)
