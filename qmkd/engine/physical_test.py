"""Programs run as one circuit of physical qubits: right where nothing fails, wrong as often as Stim
says, close to calibrated noise, and always the same."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import pytest

from qmkd.engine import engines, exact, physical, run, snapshot
from qmkd.engine.chance import HISTORY_DRAW_FIRST, unpack
from qmkd.engine.noise import IDEAL
from qmkd.engine.physical import PhysicalNoise
from qmkd.engine.prepared import Prepared, Unable
from qmkd.engine.rows import Where
from qmkd.qec import noise
from qmkd.qec.circuits import memory
from qmkd.qec.codes.surface import surface
from qmkd.qec.logic import determined
from qmkd.qec.measuring import decoder_of_memory
from qmkd.qec.sampling import Stop, sample_and_decode
from qmkd.qec.whole import Whole
from qmkd.qec.whole_decoding import decoder_of_whole

Json = dict[str, Any]
P: Final = 3e-3
SHOTS: Final = 1 << 13

# --- programs -------------------------------------------------------------------------------------


def program(
    *nodes: Json | str, qubits: str = "abc", profile: str = "logical:Surface(d=3)"
) -> Prepared:
    """Nodes after an allocation of all qubits; one that is text is an op and its qubits, then, for
    a measurement, its event, or EVENT=VALUE as a guard."""
    mine = [qubit for qubit in qubits if qubit in "abc"]
    alloc = {"op": "ALLOC_LQ", "vqs": mine, "args": {"n": len(mine), "profile": profile}}
    written = [alloc, *(read(each) if isinstance(each, str) else each for each in nodes)]
    graph = {
        "version": "0.1",
        "program": {"nodes": [{"id": f"n{at}", **node} for at, node in enumerate(written)]},
        "resources": {
            "vqs": list(qubits),
            "events": [event for node in written for event in node.get("produces", ())],
        },
    }
    return run.prepare(json.dumps(graph).encode())


def read(text: str) -> Json:
    name, *words = text.split()
    node: Json = {"op": name}
    for word in words:
        if "=" in word:
            event, value = word.split("=")
            node["guard"] = {"event": event, "equals": int(value)}
        elif word.isupper():
            node.setdefault("produces", []).append(word)
        else:
            node.setdefault("vqs", []).append(word)
    return node


FENCE: Final = "FENCE_EPOCH"
WAIT: Final = "APPLY_SWAP a b"
"""As many rounds as the distance, after which a and b are the other way round."""


class Experiment(NamedTuple):
    """wrong: whether a row of outcomes, keyed as on the wire, shows an error."""

    nodes: tuple[str, ...]
    wrong: Callable[[str], bool]


READ: Final = ("MEASURE_Z a M", "MEASURE_Z b N")
BY_WAY_OF_B: Final = ("MEASURE_X a M", "MEASURE_Z b N", FENCE, "APPLY_X c N=1", "APPLY_Z c M=1")
WAITED: Final = {
    "pair": Experiment(
        ("APPLY_H a", WAIT, "APPLY_CNOT b a", WAIT, *READ), lambda row: row not in ("00", "11")
    ),
    "cnot": Experiment(
        ("APPLY_X a", WAIT, "APPLY_CNOT b a", WAIT, *READ), lambda row: row != "11"
    ),
    "cnot of phases": Experiment(
        ("APPLY_H a", "APPLY_H b", "APPLY_Z b", WAIT, "APPLY_CNOT b a", WAIT, "MEASURE_X a M",
         "MEASURE_X b N"), lambda row: row != "11",
    ),
    "two cnots": Experiment(
        ("APPLY_X a", WAIT, "APPLY_CNOT b a", WAIT, "APPLY_CNOT a b", WAIT, *READ),
        lambda row: row != "01",
    ),
    "teleport": Experiment(
        ("APPLY_X a", "APPLY_H b", "APPLY_CNOT b c", WAIT, FENCE, "APPLY_CNOT b a", WAIT,
         *BY_WAY_OF_B, "MEASURE_Z c O"), lambda row: row[2] != "1",
    ),
    "teleport of a phase": Experiment(
        ("APPLY_H a", "APPLY_Z a", "APPLY_H b", "APPLY_CNOT b c", WAIT, FENCE, "APPLY_CNOT b a",
         WAIT, *BY_WAY_OF_B, "MEASURE_X c O"), lambda row: row[2] != "1",
    ),
}  # fmt: skip
"""About a distance of rounds lies between gates, as where they were calibrated."""


def prepared(name: str, distance: int, code: str = "Surface") -> Prepared:
    return program(*WAITED[name].nodes, profile=f"logical:{code}(d={distance})")


def wrong(name: str, made: Prepared, model: str, shots: int, seed: int = 5) -> int:
    report, _ = run.run_segment(made, seed, 0, shots, "frames", model)
    assert report.counts is not None
    return sum(number for row, number in report.counts.items() if WAITED[name].wrong(row))


def modelled(made: Prepared, strength: float = P) -> PhysicalNoise:
    model = run.noise_model(f"physical uniform {strength}", made)
    assert isinstance(model, PhysicalNoise)
    return model


KINDS: Final = ("H", "H", "X", "Z", "CNOT", "CNOT", "CNOT", "CZ", "SWAP", "measure", "measure",
                "reset", "fence")  # fmt: skip


def random_nodes(seed: int, length: int = 22, used_again: bool = True) -> list[str]:
    """Whatever one circuit takes, without feed-forward; all qubits are measured in the end.

    used_again: a qubit that was measured may be used without a RESET.
    """
    chance = random.Random(seed)
    nodes: list[str] = []
    for at in range(length):
        one, two = chance.sample("abc", 2)
        what = chance.choice(KINDS)
        if what == "fence":
            nodes.append(FENCE)
        elif what == "measure":
            nodes.append(f"MEASURE_{chance.choice('XZ')} {one} M{at}")
            if not used_again:
                nodes.append(f"RESET {one}")
        elif what == "reset":
            nodes.append(f"RESET {one}")
        else:
            pairs = ("CNOT", "CZ", "SWAP")
            nodes.append(f"APPLY_{what} {one} {two}" if what in pairs else f"APPLY_{what} {one}")
    return [*nodes, "MEASURE_BELL a b LAST PAIR", "MEASURE_Z c LATER"]


# --- where nothing fails --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_without_faults_outcomes_are_those_of_the_ideal_program(seed: int) -> None:
    made = program(*random_nodes(seed))
    ideal = run.event_rows(made, seed, 0, 256, "frames", IDEAL)
    assert np.array_equal(
        ideal, run.event_rows(made, seed, 0, 256, "frames", modelled(made, 1e-14))
    )


@pytest.mark.parametrize("seed", range(5))
def test_an_outcome_that_follows_from_others_is_wrong_exactly_where_decoding_leaves_it_flipped(
    seed: int,
) -> None:
    """Shot by shot, under so many faults that decoding fails often."""
    made, shots = program(*random_nodes(seed, used_again=False)), 512
    model = modelled(made, 0.02)
    first = made.lowered.steps[0]
    ((of, _),) = model.begun(first)
    at = Where(first.epoch, first.node, HISTORY_DRAW_FIRST)
    everywhere = np.full(shots // 64, ~np.uint64(0))
    found, _ = of.find(seed, at, 0, everywhere, lambda: None)
    differs = run.event_rows(made, seed, 0, shots, "frames", IDEAL)
    differs ^= run.event_rows(made, seed, 0, shots, "frames", model)
    follows = determined(model.actions)
    assert len(follows) == of.bits
    for bit, (place, said) in enumerate(follows.items()):
        columns = [event_of(model, each) for each in (place, *said)]
        parity = np.bitwise_xor.reduce(differs[:, columns], axis=1)
        assert np.array_equal(parity, unpack(found[bit], shots))
    assert found.any()


def event_of(model: PhysicalNoise, place: int) -> int:
    """The event of a measurement; of a Bell measurement the first is the one in X."""
    step, _ = model.acting[place]
    return step.events[model.actions[place].basis == "Z" if len(step.events) == 2 else 0]


def test_what_is_random_stays_random() -> None:
    """Half of the shots, within five standard errors, however many faults there are."""
    made = program("APPLY_H a", "APPLY_CNOT a b", *READ)
    rows = run.event_rows(made, 1, 0, SHOTS, "frames", modelled(made, 0.02))
    assert np.all(np.abs(rows.mean(axis=0) - 0.5) < 5 * 0.5 / math.sqrt(SHOTS))


# --- as often as Stim says ------------------------------------------------------------------------


def differ(errors: int, shots: int, other_errors: int, other_shots: int) -> float:
    """By how many standard errors."""
    pooled = (errors + other_errors) / (shots + other_shots)
    width = math.sqrt(pooled * (1 - pooled) * (1 / shots + 1 / other_shots))
    return abs(errors / shots - other_errors / other_shots) / width


@pytest.mark.parametrize("distance", [3, 5])
def test_a_program_that_only_waits_errs_as_a_memory_does(distance: int) -> None:
    made = program(WAIT, "MEASURE_Z b M", profile=f"logical:Surface(d={distance})")
    rounds = distance + 2
    assert modelled(made).length == rounds
    ones = int(run.event_rows(made, 1, 0, SHOTS, "frames", modelled(made)).sum())
    circuit = noise.apply(memory(surface(distance), rounds, "Z"), noise.uniform(P))
    decoder = decoder_of_memory(surface(distance), circuit, "Z")
    tally = sample_and_decode(circuit, decoder, Stop(shots=4 * SHOTS), 2)
    assert differ(ones, SHOTS, tally.errors, tally.shots) < 5


@pytest.mark.parametrize("name", ["pair", "two cnots", "teleport of a phase"])
def test_wrong_outcomes_are_as_frequent_as_where_stim_samples_the_circuit(name: str) -> None:
    """Of the last outcome, if the others are random; else of any."""
    made = prepared(name, 3)
    model = modelled(made)
    whole = Whole([surface(3)] * 3, model.actions)
    noisy = noise.apply(whole.circuit, noise.uniform(P))
    decoder = decoder_of_whole(whole, noisy)
    tally = sample_and_decode(whole.annotated(noisy), decoder, Stop(shots=SHOTS), 3)
    mine = wrong(name, made, f"physical uniform {P}", SHOTS)
    assert mine > 100
    assert differ(mine, SHOTS, tally.errors, tally.shots) < 5


# --- close to calibrated noise --------------------------------------------------------------------


def check_calibrated(name: str, distance: int, code: str, shots: int) -> None:
    """Within 15 % of one another, and three standard errors of the counts more."""
    made = prepared(name, distance, code)
    found = wrong(name, made, f"physical uniform {P}", shots)
    expected = wrong(name, made, f"calibrated uniform {P}", 4 * shots) / 4
    assert abs(expected - found) < 0.15 * found + 3 * math.sqrt(1.25 * found), (found, expected)


@pytest.mark.parametrize("name", ["cnot", "teleport"])
def test_calibrated_noise_is_close_to_the_circuit(name: str) -> None:
    check_calibrated(name, 3, "Surface", SHOTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", WAITED)
@pytest.mark.parametrize(("distance", "shots"), [(3, 1 << 18), (5, 1 << 17)])
def test_calibrated_noise_is_within_15_percent_of_the_circuit(
    name: str, distance: int, shots: int
) -> None:
    """The standard error of these counts is 1 % at d = 3 and below 2.5 % at d = 5."""
    check_calibrated(name, distance, "Surface", shots)


@pytest.mark.slow
@pytest.mark.parametrize("name", WAITED)
def test_calibrated_noise_is_within_15_percent_of_the_circuit_for_bacon_shor(name: str) -> None:
    check_calibrated(name, 3, "BaconShor", 1 << 18)


# --- always the same ------------------------------------------------------------------------------


def test_bits_do_not_depend_on_engines_or_batches() -> None:
    """Faults are made frequent, so that outcomes are often wrong."""
    made = prepared("teleport", 3)
    model = modelled(made, 0.01)
    rows = run.event_rows(made, 9, 4096, 320, "groups", model)
    assert 3 < (rows[:, 2] == 0).sum() < 160
    assert np.array_equal(rows[128:], run.event_rows(made, 9, 4224, 192, "groups", model))
    for engine in ("frames", "dense"):
        assert np.array_equal(rows, run.event_rows(made, 9, 4096, 320, engine, model)), engine
    form = made.form(engines.compiler("dense"), model)
    form.batch_shots = 64
    assert np.array_equal(rows, run.event_rows(made, 9, 4096, 320, "dense", model))
    assert np.array_equal(rows[:80], run.event_rows(made, 9, 4096, 80, "tableau", model))


@pytest.mark.parametrize("engine", ["frames", "tableau"])
def test_a_run_goes_on_from_a_snapshot_with_the_errors_that_were_found(engine: str) -> None:
    made = prepared("teleport", 3)
    model = modelled(made, 0.01)
    shots = 1 if engine == "tableau" else 192
    under_way = snapshot.begin(made, engine, model, 4, 0, shots)
    snapshot.run_to_fence(under_way, 0)
    taken = snapshot.take(made, engine, model, under_way)
    resumed = snapshot.resume(made, model, taken)
    assert np.array_equal(snapshot.finish(resumed), snapshot.finish(under_way))
    assert "pymatching" in snapshot.unseal(taken)[0].noise


def test_a_report_counts_each_program_as_one_history() -> None:
    made = prepared("cnot", 3)
    report, _ = run.run_segment(made, 1, 0, 1024, "frames", "physical uniform 0.01")
    assert report.decoder is not None
    assert report.decoder.histories == 1024
    assert report.decoder.cycles == 1024 * modelled(made).length
    assert report.decoder.errors == wrong("cnot", made, "physical uniform 0.01", 1024, seed=1)


# --- schedules ------------------------------------------------------------------------------------


def actions(*nodes: str) -> list[tuple[int, str, tuple[int, ...]]]:
    return [each[:3] for each in modelled(program(*nodes)).actions[3:]]


def test_gates_are_where_the_schedule_of_calibrated_noise_has_them() -> None:
    assert actions("APPLY_H a", "APPLY_CNOT a b", "APPLY_X a", *READ) == [
        (1, "H", (0,)), (2, "CX", (0, 1)), (4, "measure", (0,)), (4, "measure", (1,)),
    ]  # fmt: skip
    assert actions("APPLY_H a", FENCE, "APPLY_H b", *READ) == [
        (1, "H", (0,)), (2, "H", (1,)), (3, "measure", (0,)), (4, "measure", (1,)),
    ]  # fmt: skip


def test_a_measured_patch_is_prepared_anew_only_if_it_is_used() -> None:
    assert actions("MEASURE_X a M", "APPLY_X a", "MEASURE_X a N") == [
        (2, "measure", (0,)), (2, "prepare", (0,)), (4, "measure", (0,)),
    ]  # fmt: skip
    assert actions("MEASURE_X a M", "RESET a", "MEASURE_Z a N") == [
        (2, "measure", (0,)), (2, "prepare", (0,)), (4, "measure", (0,)),
    ]  # fmt: skip
    assert actions("MEASURE_Z a M", "FREE_LQ a") == [(2, "measure", (0,)), (2, "discard", (0,))]


def test_a_swap_exchanges_names_and_takes_its_time() -> None:
    assert actions("APPLY_SWAP a c", "MEASURE_Z a M") == [(5, "measure", (2,))]


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (("APPLY_T a",), "APPLY_T at node 1 is no transversal Clifford operation"),
        (("MEASURE_Y a M",), "MEASURE_Y at node 1 is no transversal"),
        (("APPLY_S a", "MEASURE_Z a M"), "APPLY_S at node 1: rotated has no transversal S"),
        (("MEASURE_Z a M", "APPLY_H b M=1"), "APPLY_H at node 2 is conditional"),
        (("MEASURE_Z a M", "RESET b M=1"), "RESET at node 2 is conditional"),
        (("MEASURE_BELL a b M N", "APPLY_H a"), "MEASURE_BELL at node 1 measures qubits that are"),
    ],
)
def test_what_is_no_circuit_is_refused_by_its_node(nodes: tuple[str, ...], said: str) -> None:
    with pytest.raises(Unable, match=said):
        modelled(program(*nodes))


def test_programs_that_are_not_of_few_like_patches_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = {"op": "ALLOC_LQ", "vqs": ["o"], "args": {"n": 1, "profile": "logical:ideal"}}
    small = {"op": "ALLOC_LQ", "vqs": ["o"], "args": {"n": 1, "profile": "logical:Surface(d=5)"}}
    both = ("APPLY_CNOT a o", "MEASURE_Z o M")
    with pytest.raises(Unable, match="on a patch and on an ideal qubit"):
        modelled(program(other, *both, qubits="abco"))
    with pytest.raises(Unable, match="APPLY_CNOT at node 2: CX needs two patches of one code"):
        modelled(program(small, *both, qubits="abco"))
    with pytest.raises(Unable, match="exchanges patches that are not alike"):
        modelled(program(small, "APPLY_SWAP a o", "MEASURE_Z o M", qubits="abco"))
    with pytest.raises(Unable, match="of Surface and BaconShor patches, not of"):
        modelled(program("MEASURE_Z a M", profile="logical:SHYPS(d=4)"))
    monkeypatch.setattr(physical, "DETECTORS_MAX", 100)
    with pytest.raises(Unable, match="has some 144 detectors"):
        modelled(prepared("cnot", 3))
    monkeypatch.undo()
    made = prepared("cnot", 3)
    with pytest.raises(Unable, match="no physical noise 'pink'"):
        run.noise_model("physical pink 0.1", made)
    with pytest.raises(Unable, match="no exact probabilities"):
        exact.exact(made, modelled(made))


def test_a_program_without_anything_to_get_wrong_has_no_histories() -> None:
    made = program("APPLY_H a", "MEASURE_Z a M")
    assert not any(modelled(made).begun(step) for step in made.lowered.steps)
