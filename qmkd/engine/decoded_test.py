"""Errors that decoding leaves: how often, where, and always the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
import pytest

from qmkd.core.ports import Setting
from qmkd.engine import decoded, engines, exact, run, snapshot
from qmkd.engine.coded import CodedNoise, Flips
from qmkd.engine.coded_test import FENCE, Json, Made, measured, op, program
from qmkd.engine.decoded import DecodedNoise
from qmkd.engine.noise import Told
from qmkd.engine.prepared import Prepared, Unable
from qmkd.engine.shot_data import ShotData, nothing
from qmkd.qec import data, noise
from qmkd.qec.calibration import Answer, Basis, Entry, Table
from qmkd.qec.circuits import memory
from qmkd.qec.codes.surface import surface
from qmkd.qec.measuring import Effort, decoder_of_memory, measure_memory
from qmkd.qec.sampling import Stop, from_log, sample_and_decode, to_log
from qvm.profiles import Profile
from syscalls.decoding import AT_ONCE, DecoderFigures, DecoderSpeed

P = 3e-3
BASES: Final[tuple[Basis, ...]] = ("Z", "X")


class Rounds(Made):
    """One for preparation, measurement, H and Y, the distance for X and S, 2 for CNOT."""

    def rounds(self, profile: Profile, op: str) -> int:
        if op in ("ALLOC_LQ", "RESET", "APPLY_Y") or op.startswith("MEASURE"):
            return 1
        return profile.distance if op == "APPLY_X" else super().rounds(profile, op)

    def magic(self, profile: Profile) -> float:
        return 0.0


class Measured(Rounds):
    """With the rates of entries of a table for memories of one code."""

    def __init__(self, entries: list[Entry]) -> None:
        super().__init__()
        one = entries[0]
        table = Table(entries, {})
        self.found: Answer = table.look_up(one.code, one.distance, one.noise, one.p, "memory")

    def memory(self, profile: Profile) -> Flips:
        return self.found.rate("X"), self.found.rate("Z")

    def ends(self, profile: Profile) -> Flips:
        return self.found.end("X"), self.found.end("Z")


def decoding(made: Prepared, strength: float = P) -> DecodedNoise:
    return DecodedNoise("decoded uniform", made.lowered, Rounds(), "uniform", strength)


# --- how often ------------------------------------------------------------------------------------


@cache
def memories(distance: int, effort: Effort) -> list[Entry]:
    """Calibrated in both bases."""
    found = (measure_memory(surface(distance), noise.uniform(P), basis, effort) for basis in BASES)
    return [entry for entry in found if entry is not None]


def check_memory(distance: int, shots: int, effort: Effort, nodes: list[Json], rounds: int) -> None:
    """A qubit that should be measured as 0 is 1 as often as under calibrated noise.

    The bound: five standard errors, of the shots and of both memories that were calibrated.
    """
    known = memories(distance, effort)
    made = program(*nodes, profile=f"logical:Surface(d={distance})")
    calibrated = CodedNoise("calibrated", made.lowered, Measured(known))
    many = 1 << 20
    expected = run.event_rows(made, 1, 0, many, "frames", calibrated).mean()
    found = run.event_rows(made, 2, 0, shots, "frames", decoding(made)).mean()
    variance = expected * (1 - expected) * (1 / shots + 1 / many)
    variance += max(of_fit(entry, rounds) for entry in known) * (1 - 2 * expected) ** 2
    assert abs(found - expected) < 5 * math.sqrt(variance), (found, expected, math.sqrt(variance))


def of_fit(entry: Entry, rounds: int) -> float:
    """Variance of -ln(1 - 2 chance) / 2 on the line through both lengths that were measured."""
    short, long = entry.experiments
    share = (rounds - short.rounds) / (long.rounds - short.rounds)
    found = 0.0
    for each, weight in ((short, 1 - share), (long, share)):
        found += weight**2 * each.errors / (each.shots - 2 * each.errors) ** 2
    return found


def stretches(distance: int) -> tuple[list[Json], int]:
    """Four, between gates that do not turn what is measured, and how many rounds it all takes."""
    return [op("APPLY_S", "a")] * 3 + [measured("a")], 3 * distance + 2


def turned(distance: int) -> tuple[list[Json], int]:
    """X errors matter until the H, Z errors from there on."""
    wait = op("APPLY_X", "a")
    return [wait, wait, op("APPLY_H", "a"), wait, measured("a", "X")], 3 * distance + 3


@pytest.mark.parametrize("nodes", [stretches, turned])
@pytest.mark.parametrize("distance", [3, 5])
def test_stored_qubits_err_as_under_calibrated_noise(
    distance: int, nodes: Callable[[int], tuple[list[Json], int]]
) -> None:
    check_memory(distance, 1 << 13, Effort(seconds=0.1, errors=300), *nodes(distance))


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [stretches, turned])
@pytest.mark.parametrize("distance", [3, 5])
def test_stored_qubits_err_as_under_calibrated_noise_looked_at_closely(
    distance: int, nodes: Callable[[int], tuple[list[Json], int]]
) -> None:
    check_memory(distance, 1 << 17, Effort(seconds=6, errors=5000), *nodes(distance))


def test_a_life_that_is_too_long_is_drawn_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 10 rounds err as that many memories of 10 rounds, sampled and decoded by Stim."""
    code = surface(3)
    monkeypatch.setattr(decoded, "DETECTORS_MAX", 12 * len(code.stabilizers))
    made = program(*[op("APPLY_X", "a")] * 5, op("APPLY_S", "a"), *[op("APPLY_X", "a")] * 3,
                   op("APPLY_Y", "a"), measured("a"))  # fmt: skip
    model = decoding(made)
    (allocated, *_), told = made.lowered.steps, model.told(made.lowered.steps[-1])
    assert [of.bits for of, _ in model.begun(allocated)] == [1, 2, 1] * 2
    assert told == (Told(0, "X", (2, 3)),)
    circuit = noise.apply(memory(code, 10, "Z"), noise.uniform(P))
    decoder = decoder_of_memory(code, circuit, "Z")
    tally = sample_and_decode(circuit, decoder, Stop(shots=1 << 16), 3)
    expected = from_log(3 * to_log(tally.errors / tally.shots))
    shots = 1 << 14
    found = 1 - run.event_rows(made, 3, 0, shots, "frames", model).mean()
    variance = expected * (1 - expected) / shots + 9 * tally.errors / tally.shots**2
    assert abs(found - expected) < 5 * math.sqrt(variance)


# --- where ----------------------------------------------------------------------------------------


def test_errors_are_told_before_each_gate_that_changes_them() -> None:
    made = program(
        op("APPLY_H", "a"), op("APPLY_X", "a"), op("APPLY_CNOT", "a", "b"), FENCE,
        measured("a"), measured("b", "X"),
    )  # fmt: skip
    model = decoding(made)
    told = {step.op: {(each.qubit, each.letter) for each in model.told(step)}
            for step in made.lowered.steps}  # fmt: skip
    both = {(0, "X"), (0, "Z")}
    assert told["APPLY_H"] == both
    assert told["APPLY_X"] == set()
    assert told["APPLY_CNOT"] == both | {(1, "X"), (1, "Z")}
    assert told["FENCE_EPOCH"] == set()
    assert told["MEASURE_Z"] == {(0, "X")}
    assert told["MEASURE_X"] == {(1, "Z")}
    assert {of.ends for of, _ in model.begun(made.lowered.steps[0])} == {(1, 5, 8), (5, 8)}


def test_only_coded_qubits_that_something_happens_to_have_histories() -> None:
    made = program(op("APPLY_H", "c"), op("APPLY_S", "a"), measured("c"))
    model = decoding(made)
    begun = [of for step in made.lowered.steps for of, _ in model.begun(step)]
    assert [(of.ends, of.bits) for of in begun] == [((1, 4), 2)] * 2
    assert not model.told(made.lowered.steps[-1])


def test_a_life_ends_where_the_qubit_is_measured_or_prepared_again() -> None:
    last = op("MEASURE_X", "a", produces=["last"])
    made = program(measured("a"), op("RESET", "a"), op("APPLY_H", "a"), last)
    model = decoding(made)
    begun = [(step.op, of.ends) for step in made.lowered.steps for of, _ in model.begun(step)]
    assert begun == [("ALLOC_LQ", (2,)), ("RESET", (1, 3)), ("RESET", (1, 3))]


# --- always the same ------------------------------------------------------------------------------


def guarded() -> Prepared:
    """Two Bell pairs' worth of feed-forward, over two epochs."""
    return program(
        op("APPLY_H", "a"), op("APPLY_CNOT", "a", "b"), measured("a"), FENCE,
        op("APPLY_X", "b", guard={"event": "ma", "equals": 1}),
        op("APPLY_S", "b", guard={"event": "ma", "equals": 0}), op("APPLY_S", "b"), FENCE,
        measured("b"),
    )  # fmt: skip


def test_bits_do_not_depend_on_engines_or_batches() -> None:
    """Errors are made frequent; b is 1 only where one struck."""
    made = guarded()
    model = decoding(made, 1e-2)
    shots = 320
    rows = run.event_rows(made, 9, 4096, shots, "groups", model)
    assert 3 < rows[:, 1].sum() < shots / 2
    assert np.array_equal(rows[128:], run.event_rows(made, 9, 4224, 192, "groups", model))
    for engine in ("dense", "magic"):
        assert np.array_equal(rows, run.event_rows(made, 9, 4096, shots, engine, model)), engine
    form = made.form(engines.compiler("dense"), model)
    form.batch_shots = 64
    assert np.array_equal(rows, run.event_rows(made, 9, 4096, shots, "dense", model))
    single = run.event_rows(made, 9, 4096, 80, "tableau", model)
    assert np.array_equal(rows[:80], single)


SLOW: Final = DecoderSpeed(round_ns=1000, window_ns=2500, event_ns=400, weight_max=5, backlog_max=1)


def decoders(made: Prepared, engine: str, shots: int, setting: Setting) -> DecoderFigures:
    """What they did for the first shots."""
    report, _ = run.run_segment(made, 9, 0, shots, engine, "decoded uniform 0.01", setting=setting)
    assert not [name for name in report.notes if name.startswith("decoding")]
    assert report.decoder is not None
    return report.decoder


def test_figures_of_decoders_add_up_over_batches_and_engines() -> None:
    made, setting = guarded(), Setting(decoder=SLOW)
    model = run.noise_model("decoded uniform 0.01", made, setting)
    assert isinstance(model, DecodedNoise)
    form = made.form(engines.compiler("dense"), model)
    form.batch_shots = 64
    found = decoders(made, "dense", 128, setting)
    histories = [of for step in made.lowered.steps for of, _ in model.begun(step)]
    assert found.histories == 128 * len(histories)
    assert found.cycles == 128 * sum(of.ends[-1] for of in histories)
    assert found.calls == 128 * sum(-(-max(0, of.ends[-1] - 5) // 3) + 1 for of in histories)
    assert sum(found.syndrome_weights) == found.calls
    assert 0 < found.undecoded <= found.failures < found.calls
    assert found.errors > 0
    assert found.overloads > 0
    assert found.backlog_most == 1
    assert found.machine_ns == 128 * 1000 * model.length + found.stalled_ns
    assert found == decoders(made, "groups", 128, setting)
    assert found == decoders(made, "tableau", 128, setting)


KEPT: Final = Setting(decoder=SLOW, decoder_data=True)


def shot_data(made: Prepared, engine: str, first: int, shots: int) -> ShotData:
    """What decoders knew of these shots."""
    parts: list[ShotData] = []
    run.run_slice(
        made, 9, first, shots, engine, "decoded uniform 0.01", False, lambda: False,
        lambda packed: None, KEPT, parts.append,
    )  # fmt: skip
    return np.concatenate(parts)


def test_what_decoders_knew_of_a_shot_is_the_same_in_any_batch_and_engine() -> None:
    made, shots = guarded(), 1024 + 128
    whole = shot_data(made, "groups", 0, shots)
    model = run.noise_model("decoded uniform 0.01", made, KEPT)
    assert isinstance(model, DecodedNoise)
    made.form(engines.compiler("groups"), model).batch_shots = 64
    assert whole.tobytes() == shot_data(made, "groups", 0, shots).tobytes()
    assert whole[1024:].tobytes() == shot_data(made, "dense", 1024, 128).tobytes()
    assert whole[1024:1050].tobytes() == shot_data(made, "tableau", 1024, 26).tobytes()


def test_what_decoders_knew_of_shots_adds_up_to_their_figures() -> None:
    made = guarded()
    found = shot_data(made, "groups", 0, 1024)
    figures = decoders(made, "groups", 1024, KEPT)
    assert found["flips"].sum() == figures.errors
    assert found["undecoded"].sum() == figures.undecoded > 0
    assert (found["gap"][found["undecoded"] > 0] == 0).all()
    assert (found["gap"][found["undecoded"] == 0] > 0).all()
    assert (found["weight"][found["undecoded"] > 0] > 5).all()


def test_shots_of_which_decoders_were_surer_err_less() -> None:
    """Of a stored qubit; five standard errors of the rates in both halves."""
    made = program(*[op("APPLY_S", "a")] * 2, measured("a"))
    setting, parts = Setting(decoder_data=True), list[ShotData]()
    shots = 1 << 13
    run.run_slice(
        made, 5, 0, shots, "frames", "decoded uniform 0.003", False, lambda: False,
        lambda packed: None, setting, parts.append,
    )  # fmt: skip
    data = np.concatenate(parts)
    order = np.argsort(data["gap"], kind="stable")
    unsure, sure = (data["flips"][half] > 0 for half in np.split(order, 2))
    error = math.sqrt((unsure.mean() + sure.mean()) / (shots / 2))
    assert unsure.mean() - sure.mean() > 5 * error
    assert sure.mean() < unsure.mean() / 5


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    made = guarded()
    report, _ = run.run_segment(made, 1, 0, 64, "groups", "decoded uniform 0.01")
    assert report.decoder_leaves == b""


def test_a_decoder_that_is_given_too_much_leaves_errors_as_they_are() -> None:
    """Of a bound that every event exceeds, nothing is decoded."""
    made, shots = program(*[op("APPLY_X", "a")] * 4, measured("a")), 2048
    free = decoders(made, "frames", shots, Setting())
    none = decoders(made, "frames", shots, Setting(decoder=DecoderSpeed(weight_max=1)))
    assert free.failures == free.undecoded == free.busy_ns == free.stalled_ns == 0
    heavy = sum(none.syndrome_weights[2:])
    assert none.syndrome_weights == free.syndrome_weights
    assert none.failures == heavy
    assert none.undecoded > shots / 4
    assert none.errors - free.errors > 5 * math.sqrt(none.errors + free.errors)


@pytest.mark.parametrize("engine", ["groups", "tableau"])
def test_a_run_goes_on_from_a_snapshot_with_the_errors_that_were_found(engine: str) -> None:
    made = guarded()
    model = DecodedNoise(
        "decoded uniform", made.lowered, Rounds(), "uniform", 1e-2, AT_ONCE, keeps=True
    )
    shots = 1 if engine == "tableau" else 192
    under_way = snapshot.begin(made, engine, model, 4, 0, shots)
    snapshot.run_to_fence(under_way, 0)
    taken = snapshot.take(made, engine, model, under_way)
    resumed = snapshot.resume(made, model, taken)
    assert np.array_equal(snapshot.finish(resumed), snapshot.finish(under_way))
    assert resumed.data is not None is not under_way.data
    assert resumed.data.tobytes() == under_way.data.tobytes() != nothing(shots).tobytes()
    assert "pymatching" in snapshot.unseal(taken)[0].noise


def test_the_mode_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a table gates err by their rounds only, and nothing but these need be known."""
    monkeypatch.setattr(data, "calibration", lambda: Table([], {}))
    made = program(op("APPLY_CNOT", "a", "b"), measured("a"))
    model = run.noise_model("decoded si1000 0.002", made)
    assert isinstance(model, DecodedNoise)
    assert model is run.noise_model("decoded si1000 0.002", made)
    report, _ = run.run_segment(made, 1, 0, 1024, "frames", "decoded si1000 0.002")
    assert report.decoder is not None
    assert report.decoder.histories == 4 * 1024, "two qubits, two bases"
    assert report.notes["shots_flipped"] > 0


# --- refused --------------------------------------------------------------------------------------


def test_what_cannot_be_decoded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = program(op("APPLY_H", "a"), profile="logical:SHYPS(d=4)")
    with pytest.raises(Unable, match="cannot be decoded in the loop"):
        decoding(made)
    made = program(*[op("APPLY_S", "a")] * 3)
    with pytest.raises(Unable, match="under biased10 noise cannot be decoded in the loop"):
        DecodedNoise("decoded biased10", made.lowered, Rounds(), "biased10", P)
    monkeypatch.setattr(decoded, "DETECTORS_IN_ALL_MAX", 100)
    with pytest.raises(Unable, match="too much to decode"):
        decoding(made)
    monkeypatch.undo()
    with pytest.raises(Unable, match="no physical noise 'pink'"):
        DecodedNoise("decoded pink", made.lowered, Rounds(), "pink", P)
    with pytest.raises(Unable, match="no exact probabilities"):
        exact.exact(made, decoding(made))
