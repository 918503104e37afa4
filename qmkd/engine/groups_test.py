"""Shots in groups against Stim, one shot at a time, which knows nothing of groups or frames.

Programs come from seeds. What decides the way of a run but not its outcome, such as when to look
for equal groups, is turned up and down.
"""

from __future__ import annotations

import json
import random
from typing import Any, Final

import msgspec
import numpy as np
import pytest
import stim
from numpy.typing import NDArray

from qmkd.engine import groups, tableau
from qmkd.engine.batch import BATCH_SHOTS_MIN, Batch, Form, run_batches
from qmkd.engine.chance import Chance, Words
from qmkd.engine.native import _groups
from qmkd.engine.noise import IDEAL, NoiseModel, PauliChannel, Uniform
from qmkd.engine.prepared import Poll, Prepared, Rows, instruction
from qmkd.engine.primitives import CLIFFORDS
from qmkd.engine.run import prepare
from qvm.program import Step
from qvm.random_programs import Shape, shaped_program


class Everywhere(msgspec.Struct, frozen=True):
    """Any Pauli on each qubit before and after every step, measurements and fences among them.

    On every other qubit it strikes in all shots, whether or not the step's guard holds.
    """

    rate: float
    ideal: bool = False

    def before(self, step: Step) -> tuple[PauliChannel, ...]:
        terms = tuple((letter, self.rate / 3) for letter in "XYZ")
        return tuple(PauliChannel((qubit,), terms, qubit % 2 == 1) for qubit in step.qubits)

    after = before

    def flips(self, step: Step) -> float:
        return self.rate


NOISY: Final = Uniform(0.05, 0.1, 0.03, 0.02)
NOISES: Final[list[NoiseModel]] = [IDEAL, NOISY, Everywhere(0.03)]
SMALL: Final = Shape()
LONG: Final = Shape(qubits_max=5, nodes_max=120, branchings_max=50, guards=0.6)
BUSY: Final = Shape(qubits_max=20, nodes_max=80, branchings_max=40, guards=0.4)
WIDE: Final = Shape(qubits_max=90, nodes_max=250, branchings_max=40)


def program(seed: int, shape: Shape) -> Prepared:
    return prepare(json.dumps(shaped_program(random.Random(seed), shape)).encode())


def compiled(prepared: Prepared, noise: NoiseModel = IDEAL) -> Form:
    return Form(prepared, noise, lambda shape: groups.Maker)


def rows(
    prepared: Prepared,
    seed: int,
    shots: int,
    noise: NoiseModel = IDEAL,
    first: int = 0,
    form: Form | None = None,
) -> Rows:
    form = form or compiled(prepared, noise)
    batches = run_batches(prepared, form, seed, first, shots, lambda: False)
    return np.concatenate([batch.values() for batch in batches])


def check(
    prepared: Prepared, seed: int, shots: int, noise: NoiseModel = IDEAL, first: int = 0
) -> None:
    found = rows(prepared, seed, shots, noise, first)
    expected = tableau.run(prepared, seed, first, shots, noise, lambda: False)
    differs = (found != expected).any(axis=1).nonzero()[0]
    assert not len(differs), f"seed {seed}, {type(noise).__name__}: shots {differs}"


def peak(prepared: Prepared) -> int:
    return prepared.notes.get("groups_peak", 1)


# --- every program ------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", NOISES, ids=["ideal", "noisy", "noisy everywhere"])
@pytest.mark.parametrize(
    ("shape", "seeds"),
    [(SMALL, 24), (LONG, 8), (BUSY, 8), (WIDE, 3)],
    ids=["small", "long", "busy", "wide"],
)
def test_rows_are_those_of_stim_shot_by_shot(shape: Shape, seeds: int, noise: NoiseModel) -> None:
    for seed in range(seeds):
        shots = (64, 70, 130, 1)[seed % 4]
        check(program(seed, shape), seed, shots, noise, (0, 64, 4032, 64_000)[seed // 4 % 4])


@pytest.mark.slow
def test_rows_of_many_programs_are_those_of_stim() -> None:
    for seed in range(1000, 2200):
        shape = (SMALL, LONG, BUSY, WIDE)[seed % 4]
        check(program(seed, shape), seed, 130, NOISES[seed // 4 % 3], 64 * (seed % 100))


@pytest.mark.parametrize(
    "settings",
    [
        {"LOOK_LEAST": 1, "LAST_LEAST": 1},
        {"LOOK_LEAST": 1000, "LAST_LEAST": 1000},
        {"LOOK_FEW": 2, "WAITING_MAX": 2},
        {"SLICED_QUBITS_MAX": 0},
    ],
    ids=["looking always", "looking never", "few at a time", "nothing in slices"],
)
def test_no_outcome_depends_on_when_groups_are_merged_or_how_frames_are_kept(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, int]
) -> None:
    cases = [(seed, (LONG, BUSY)[seed % 2], NOISES[seed // 2 % 3]) for seed in range(12)]
    plain = [rows(program(seed, shape), seed, 200, noise) for seed, shape, noise in cases]
    for name, value in settings.items():
        monkeypatch.setattr(groups, name, value)
    for expected, (seed, shape, noise) in zip(plain, cases, strict=True):
        assert np.array_equal(rows(program(seed, shape), seed, 200, noise), expected), seed


def test_shots_in_too_many_groups_run_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = [program(seed, BUSY) for seed in range(12)]
    whole = [rows(each, seed, 1000) for seed, each in enumerate(busy)]
    monkeypatch.setattr(groups, "CROWD_BYTES_MAX", 3000)
    monkeypatch.setattr(groups, "GROUPS_BYTES_MAX", 3000)
    smaller = 0
    for seed, (each, expected) in enumerate(zip(busy, whole, strict=True)):
        form = compiled(each)
        assert np.array_equal(rows(each, seed, 1000, form=form), expected), seed
        assert form.batch_shots >= BATCH_SHOTS_MIN
        smaller += form.batch_shots < 1000
    assert smaller >= 3


def test_rows_do_not_depend_on_where_shots_are_cut() -> None:
    for seed in range(10):
        each, noise = program(seed, BUSY), (IDEAL, NOISY)[seed % 2]
        whole = rows(each, seed, 4500, noise)
        form = compiled(each, noise)
        parts = [
            rows(each, seed, end - first, noise, first, form)
            for first, end in ((0, 64), (64, 4160), (4160, 4500))
        ]
        assert np.array_equal(np.concatenate(parts), whole), seed


def test_a_run_saved_at_a_fence_goes_on_as_if_never_cut() -> None:
    fences = 0
    for seed in range(40):
        each, noise = program(seed, (LONG, BUSY)[seed % 2]), (IDEAL, NOISY)[seed // 2 % 2]
        form = compiled(each, noise)
        for fence in form.fences:
            fences += 1
            cut = Batch(form, Chance(seed), 64, 130, Poll(lambda: False))
            cut.run(fence)
            resumed = Batch(form, Chance(seed), 64, 130, Poll(lambda: False))
            resumed.load(cut.save())
            resumed.done = fence
            resumed.run()
            assert np.array_equal(resumed.values(), rows(each, seed, 130, noise, 64)), seed
    assert fences > 40


# --- groups -------------------------------------------------------------------------------------


class Writer:
    """A program being written: one letter of gates per call, and measurements that name events."""

    def __init__(self, qubits: int) -> None:
        self.names = [f"q{at}" for at in range(qubits)]
        args = {"n": qubits, "profile": "logical:ideal"}
        self.nodes: list[dict[str, Any]] = [
            {"id": "n0", "op": "ALLOC_LQ", "vqs": self.names, "args": args}
        ]
        self.events: list[str] = []

    def add(self, op: str, *qubits: int, guard: str | None = None, **fields: Any) -> None:
        vqs = [self.names[at] for at in qubits]
        node = {"id": f"n{len(self.nodes)}", "op": op, "vqs": vqs, **fields}
        if guard is not None:
            node["guard"] = {"event": guard, "equals": 1}
        self.nodes.append(node)

    def gates(self, *gates: tuple[str, *tuple[int, ...]], guard: str | None = None) -> None:
        for name, *qubits in gates:
            self.add(f"APPLY_{name}", *qubits, guard=guard)

    def measure(self, qubit: int) -> str:
        self.events.append(f"m{len(self.events)}")
        self.add("MEASURE_Z", qubit, produces=[self.events[-1]])
        return self.events[-1]

    def prepared(self) -> Prepared:
        resources = {"vqs": self.names, "events": self.events}
        graph = {"version": "0.1", "program": {"nodes": self.nodes}, "resources": resources}
        return prepare(json.dumps(graph).encode())


def teleportations(links: int) -> Prepared:
    """A state handed on, turned by an H and an S under conditions at every link."""
    writer = Writer(3)
    writer.gates(("H", 0), ("S", 0))
    for link in range(links):
        one, two, three = link % 3, (link + 1) % 3, (link + 2) % 3
        writer.gates(("H", two), ("CNOT", two, three), ("CNOT", one, two), ("H", one))
        mx, mz = writer.measure(one), writer.measure(two)
        writer.gates(("X", three), ("S", three), guard=mz)
        writer.gates(("Z", three), ("H", three), guard=mx)
        writer.add("RESET", one)
        writer.add("RESET", two)
    writer.measure(links % 3 * 2 % 3)
    return writer.prepared()


@pytest.mark.parametrize("sliced", [True, False])
def test_a_long_chain_of_guarded_teleportations_stays_at_a_few_groups(
    monkeypatch: pytest.MonkeyPatch, sliced: bool
) -> None:
    if not sliced:
        monkeypatch.setattr(groups, "SLICED_QUBITS_MAX", 0)
    chain = teleportations(120)
    check(chain, 3, 70)
    rows(chain, 3, 20_000)
    assert 1 < peak(chain) <= 2 * groups.LOOK_LEAST


def test_guards_on_independent_coins_double_the_groups_each() -> None:
    """Bell pairs, of each the half of which an S is guarded: no two histories hold the same."""
    count = 8
    writer = Writer(3 * count)
    for at in range(count):
        coin, one, two = 3 * at, 3 * at + 1, 3 * at + 2
        writer.gates(("H", coin), ("H", one), ("CNOT", one, two), ("CZ", coin, one))
        if at:
            writer.gates(("CNOT", one, one - 3))
    for at in range(count):
        writer.gates(("S", 3 * at + 1), guard=writer.measure(3 * at))
    for at in range(count):
        writer.gates(("H", 3 * at + 1), ("H", 3 * at + 2))
        writer.measure(3 * at + 1)
        writer.measure(3 * at + 2)
    each = writer.prepared()
    check(each, 1, 70)
    rows(each, 1, 16_384)
    assert peak(each) == 1 << count


def test_a_guarded_gate_that_comes_to_a_pauli_splits_no_group() -> None:
    """S on |1>, CNOT from a qubit that was measured, CZ with |1>, SWAP of basis states."""
    writer = Writer(5)
    writer.gates(("X", 1), ("H", 0), ("H", 2), ("H", 4))
    coin, control = writer.measure(0), writer.measure(2)
    writer.gates(("S", 1), ("CNOT", 2, 4), ("CZ", 1, 4), ("SWAP", 3, 0), guard=coin)
    writer.gates(("CZ", 4, 2), ("H", 4), guard=control)
    for qubit in range(5):
        writer.measure(qubit)
    each = writer.prepared()
    check(each, 5, 200)
    rows(each, 5, 4096)
    assert peak(each) == 2, "only the H at the end turns anything"


def test_a_guarded_measurement_of_what_is_certain_splits_no_group() -> None:
    writer = Writer(3)
    writer.gates(("H", 0), ("X", 1))
    coin = writer.measure(0)
    writer.events.append("inside")
    writer.add("MEASURE_Z", 1, guard=coin, produces=["inside"])
    writer.add("RESET", 1, guard=coin)
    writer.measure(1)
    each = writer.prepared()
    check(each, 5, 200)
    assert peak(each) == 1


# --- turns and tableaus -------------------------------------------------------------------------


def test_turns_and_paulis_make_up_the_gates() -> None:
    """Stim's SPP is exp(-i pi/4 P) up to phase, SPP_DAG its inverse."""
    paulis = {"X", "Y", "Z"}
    assert groups.TURNS.keys() == CLIFFORDS - paulis
    for name, (turns, then) in groups.TURNS.items():
        made = stim.Circuit()
        for letters, phase in turns:
            product = "*".join(f"{each}{at}" for at, each in enumerate(letters) if each != "I")
            made.append_from_stim_program_text(f"{'SPP_DAG' if phase else 'SPP'} {product}")
        for at, letter in enumerate(then):
            made.append(letter, at)
        gate = stim.Circuit(instruction(name, tuple(range(len(then)))))
        assert made.to_tableau() == gate.to_tableau(), name


Part = tuple[int, int, Words, NDArray[np.uint32], Words, Words]


def fresh(qubits: int, shots: int = 128) -> Part:
    """The arguments of a part at large: one group, all qubits |0>, and two rows for outcomes."""
    words = shots // 64
    bits = np.zeros((3, words), dtype=np.uint64)
    bits[0] = ~np.uint64(0)
    part = (
        qubits,
        1,
        np.empty((1, groups.stride(qubits)), dtype=np.uint64),
        np.zeros(shots, dtype=np.uint32),
        np.zeros(shots * -(-2 * qubits // 64), dtype=np.uint64),
        bits,
    )
    _groups.begin(*part)
    return part


def never() -> None:
    """Nobody stops the run."""


def test_buffers_that_do_not_fit_are_refused() -> None:
    qubits, count, tableaus, numbers, frames, bits = fresh(40)
    paulis = np.array([1, 0, 0], dtype=np.uint64)
    for part in (
        (0, count, tableaus, numbers, frames, bits),
        (4096, count, tableaus, numbers, frames, bits),
        (qubits, 2, tableaus, numbers, frames, bits),
        (qubits, count, tableaus[:, :-8].copy(), numbers, frames, bits),
        (qubits, count, tableaus, numbers[:64].copy(), frames, bits),
        (qubits, count, tableaus, numbers, frames[1:].copy(), bits),
        (qubits, count, tableaus, numbers, frames, bits.reshape(-1)[:5].copy()),
        (qubits, count, tableaus, numbers.astype(np.uint64), frames, bits),
        (qubits, count, tableaus, numbers[:0].copy(), frames, bits),
    ):
        with pytest.raises(ValueError):
            _groups.begin(*part)
    whole = (qubits, count, tableaus, numbers, frames, bits)
    for wrong in ([1, 0], [1, 0, 4], [1, 1 << 40, 0]):
        with pytest.raises(ValueError):
            _groups.turn(*whole, np.array(wrong * 2, dtype=np.uint64), 0, 1)
    for where in (0, 3):
        with pytest.raises(ValueError):
            _groups.turn(*whole, np.tile(paulis, 2), 0, where)
    what = np.array([0, 1, 0, 0, -1, 0], dtype=np.int32)
    addresses = np.zeros(3, dtype=np.uint64)
    for place, value in ((0, 1), (1, 3), (2, 3), (3, 1), (4, 1), (4, -2)):
        wrong_what = what.copy()
        wrong_what[place] = value
        with pytest.raises(ValueError):
            _groups.measure(*whole, paulis, wrong_what, addresses, 1, 0, never)
    with pytest.raises(ValueError):
        _groups.measure(*whole, paulis, what, addresses, 1, 32, never)
    assert _groups.measure(*whole, paulis, what, addresses, 1, 0, never) == 1
    with pytest.raises(ValueError):
        _groups.merge(*whole, np.array([1], dtype=np.int32), never)
    none, no_words = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.uint64)
    beyond = np.array([0, 1 << 40], dtype=np.uint64)
    taken_in = np.array([1, 0, 0, 0], dtype=np.int32)
    with pytest.raises(ValueError, match="no Pauli"):
        _groups.run(
            *whole, taken_in, none, no_words, no_words, none, beyond, addresses, 1, 0, never
        )
    with pytest.raises(ValueError):
        _groups.hashes(*whole, np.array([1], dtype=np.uint32), np.zeros(1, dtype=np.uint64), never)


def test_a_run_can_be_stopped_within_many_measurements() -> None:
    class Enough(Exception):
        pass

    calls = 0

    def stop_at_the_third() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Enough

    part = fresh(20)
    paulis = np.tile(np.array([1, 0], dtype=np.uint64), 9)
    what = np.array([[at, 0, 0, at, -1, 0] for at in range(9)], dtype=np.int32)
    addresses = np.zeros(27, dtype=np.uint64)
    with pytest.raises(Enough):
        _groups.measure(*part, paulis, what, addresses, 1, 0, stop_at_the_third)
    assert calls == 3
    with pytest.raises(ZeroDivisionError):
        _groups.last(*part, paulis, np.zeros(9, dtype=np.int32), addresses, 1, 0, raises)
    with pytest.raises(ZeroDivisionError):
        _groups.merge(*part, np.zeros(1, dtype=np.int32), raises)


def raises() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("qubits", [1, 13, 32, 33, 64, 65, 150])
def test_measuring_x_of_zeros_is_random_and_then_certain(qubits: int) -> None:
    part = fresh(qubits)
    width = -(-2 * qubits // 64)
    pauli = np.zeros(width + 1, dtype=np.uint64)
    last = qubits - 1
    pauli[last // 64] = 1 << last % 64
    for into in (1, 2):
        what = np.array([0, into, 0, 0, -1, 0], dtype=np.int32)
        addresses = np.array([0, into, 0], dtype=np.uint64)
        assert _groups.measure(*part, pauli, what, addresses, 7, 0, never) == 1
    found = part[5]
    assert np.array_equal(found[1], Chance(7).coins(0, 1, 0, 0, 128))
    assert np.array_equal(found[2], found[1]), "measured again it is the same"
