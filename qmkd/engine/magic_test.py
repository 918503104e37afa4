"""Wide parts with few turns: bits against Stim and vectors, and distributions known exactly."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import stim

from qmkd.engine import dense, engines, magic, run, snapshot, tableau
from qmkd.engine.batch import Form, run_batches
from qmkd.engine.choose import active_max
from qmkd.engine.dense_test import ANGLES, MAGIC, NARROW, NOISE, TALL, allocation, program
from qmkd.engine.limits import MAGIC_WIDTH_MAX
from qmkd.engine.noise import IDEAL, NoiseModel, PauliChannel, Uniform
from qmkd.engine.prepared import Prepared, Rows, Unable
from qmkd.engine.snapshot import finish, resume, run_to_fence, take
from qvm.program import Step, VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.reference import distribution
from qvm.verify import verify_bytes
from tests.likelihood import g_test

P_MIN = 1e-6
WIDE = Shape(
    qubits_max=60, nodes_max=400, branchings_max=60, guards=0.1, channels=True, moved=False
)
TALL_MAGIC = Shape(qubits_max=9, nodes_max=120, branchings_max=40, magic=True, angles=True)
FAINT = Uniform(one=1e-3, two=1e-3, reset=1e-3, readout=1e-3)

Node = dict[str, Any]


def rows(
    prepared: Prepared,
    seed: int,
    shots: int,
    noise: NoiseModel = IDEAL,
    shot_first: int = 0,
    maker: Any = magic.Maker,
    batch_shots: int | None = None,
) -> Rows:
    form = Form(prepared, noise, lambda shape: maker)
    if batch_shots is not None:
        form.batch_shots = batch_shots
    batches = run_batches(prepared, form, seed, shot_first, shots, lambda: False)
    return np.concatenate([batch.values() for batch in batches])


# --- bit for bit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [IDEAL, NOISE], ids=["ideal", "noise"])
@pytest.mark.parametrize("shape", [NARROW, TALL], ids=["narrow", "tall"])
def test_clifford_programs_give_the_bits_of_stim(shape: Shape, noise: NoiseModel) -> None:
    for seed in range(12):
        prepared = run.prepare(program(seed, shape))
        want = tableau.run(prepared, seed, 128, 70, noise, lambda: False)
        assert np.array_equal(rows(prepared, seed, 70, noise, 128), want), seed


def check_against_vectors(seeds: range) -> None:
    for seed, shape in itertools.product(seeds, (MAGIC, ANGLES, TALL_MAGIC)):
        prepared, noise = run.prepare(program(seed, shape)), (IDEAL, NOISE)[seed % 2]
        want = rows(prepared, seed, 200, noise, 64, dense.Maker)
        assert np.array_equal(rows(prepared, seed, 200, noise, 64), want), (seed, shape)


def test_programs_with_turns_give_the_bits_of_state_vectors() -> None:
    check_against_vectors(range(20))


@pytest.mark.slow
def test_two_thousand_programs_with_turns_give_the_bits_of_state_vectors() -> None:
    check_against_vectors(range(1000, 3000))


def doubled(seed: int, shape: Shape, chance: float) -> tuple[bytes, bytes]:
    """A Clifford program, some S followed by a node that does nothing; and the same, each of those
    S in two halves."""
    graph = shaped_program(random.Random(seed), shape)
    rng, plain, halves = random.Random(seed), [], []
    for node in graph["program"]["nodes"]:
        plain.append(node)
        halves.append(node)
        if node["op"] in ("APPLY_S", "APPLY_SDG") and rng.random() < chance:
            rest = {"id": node["id"] + ".", "op": "BAR_REGION", "args": {"tag": "rest"}}
            plain.append(rest)
            op = {"APPLY_S": "APPLY_T", "APPLY_SDG": "APPLY_TDG"}[node["op"]]
            halves[-1:] = [{**node, "op": op}, {**node, "op": op, "id": rest["id"]}]
    graph.pop("caps", None)
    return tuple(
        json.dumps({**graph, "program": {"nodes": nodes}}).encode() for nodes in (plain, halves)
    )  # type: ignore[return-value]


class OnOthers(msgspec.Struct, frozen=True):
    """Noise, but not on S or T."""

    of: Uniform
    ideal: bool = False

    def before(self, step: Step) -> tuple[PauliChannel, ...]:
        return ()

    def after(self, step: Step) -> tuple[PauliChannel, ...]:
        halved = ("APPLY_S", "APPLY_SDG", "APPLY_T", "APPLY_TDG")
        return () if step.op in halved else self.of.after(step)

    def flips(self, step: Step) -> float:
        return self.of.flips(step)


def check_halves(seeds: range) -> tuple[int, int]:
    """T twice is S: how many programs with turns ran, and how many with qubits active at once."""
    ran, active = 0, 0
    for seed in seeds:
        noise = (IDEAL, OnOthers(NOISE), OnOthers(FAINT))[seed % 3]
        plain, halves = map(run.prepare, doubled(seed, WIDE, 0.5))
        want = tableau.run(plain, seed, 0, 40, noise, lambda: False)
        try:
            found = rows(halves, seed, 40, noise)
        except Unable:
            continue  # More than MAGIC_WIDTH_MAX are active.
        assert np.array_equal(found, want), seed
        ran += not halves.summary.clifford
        active += halves.notes["width_peak"] > 1
    return ran, active


def test_wide_programs_whose_turns_make_clifford_gates_give_the_bits_of_stim() -> None:
    ran, active = check_halves(range(15))
    assert ran >= 10
    assert active >= 8


@pytest.mark.slow
def test_five_hundred_wide_programs_give_the_bits_of_stim() -> None:
    ran, active = check_halves(range(100, 600))
    assert ran >= 250
    assert active >= 180


@pytest.mark.parametrize("noise", [IDEAL, NOISE], ids=["ideal", "noise"])
def test_rows_do_not_depend_on_batches_nor_on_how_many_vectors_fit(
    noise: NoiseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        prepared = run.prepare(program(seed, TALL_MAGIC))
        whole = rows(prepared, seed, 300, noise)
        for batch_shots in (64, 192):
            found = rows(prepared, seed, 300, noise, batch_shots=batch_shots)
            assert np.array_equal(found, whole), seed
        for fit in (64, 5, 1):
            with monkeypatch.context() as patch:
                patch.setattr(dense, "DENSE_BYTES_MAX", fit * 16 << 9)
                assert np.array_equal(rows(prepared, seed, 130, noise), whole[:130]), seed


def test_a_run_restored_at_any_fence_gives_the_bits_of_the_undisturbed_run() -> None:
    fences = 0
    for seed in range(15):
        graph = shaped_program(random.Random(seed), TALL_MAGIC)
        raw = json.dumps(graph).encode()
        program, noise = run.prepare(raw), (IDEAL, NOISE)[seed % 2]
        undisturbed = finish(snapshot.begin(program, engines.MAGIC, noise, seed, 64, 100))
        cut = snapshot.begin(program, engines.MAGIC, noise, seed, 64, 100)
        for epoch in range(len(cut.form.fences)):
            run_to_fence(cut, epoch)
            again = resume(run.prepare(raw), noise, take(program, engines.MAGIC, noise, cut))
            assert np.array_equal(finish(again), undisturbed), (seed, epoch)
            fences += 1
    assert fences >= 15


# --- wide programs whose distribution is known ----------------------------------------------------


class Writer:
    """A program being written, on qubits by number."""

    def __init__(self, qubits: int) -> None:
        self.names = [f"q{at}" for at in range(qubits)]
        self.events: list[str] = []
        self.nodes: list[Node] = [allocation(self.names)]

    def add(self, op: str, *qubits: int, **fields: Any) -> None:
        names = [self.names[qubit] for qubit in qubits]
        self.nodes.append({"id": f"n{len(self.nodes)}", "op": op, "vqs": names, **fields})

    def measure(self, op: str, qubit: int) -> str:
        self.events.append(f"e{len(self.events)}")
        self.add(op, qubit, produces=self.events[-1:])
        return self.events[-1]

    def circuit(self, circuit: stim.Circuit) -> None:
        """One of H, S and CX."""
        for instruction in circuit:
            for group in instruction.target_groups():
                name = {"H": "APPLY_H", "S": "APPLY_S", "CX": "APPLY_CNOT"}[instruction.name]
                self.add(name, *(target.value for target in group))

    def product(self, what: stim.PauliString, turn: bool) -> None:
        """T about a Pauli product, or measuring it."""
        support = [(qubit, "IXYZ"[what[qubit]]) for qubit in what.pauli_indices()]
        there: list[tuple[str, tuple[int, ...]]] = []
        for qubit, letter in support:
            there += [("APPLY_SDG", (qubit,))] * (letter == "Y")
            there += [("APPLY_H", (qubit,))] * (letter != "Z")
        *others, last = [qubit for qubit, _ in support]
        there += [("APPLY_CNOT", (qubit, last)) for qubit in others]
        there += [("APPLY_X", (last,))] * (what.sign == -1)
        for op, qubits in there:
            self.add(op, *qubits)
        if turn:
            self.add("APPLY_T", last)
        else:
            self.measure("MEASURE_Z", last)
        for op, qubits in reversed(there):
            self.add({"APPLY_SDG": "APPLY_S"}.get(op, op), *qubits)

    def raw(self) -> bytes:
        return json.dumps(
            {
                "version": "0.1",
                "program": {"nodes": self.nodes},
                "resources": {"vqs": self.names, "chs": [], "events": self.events},
                "caps": ["CAP_ALLOC", "CAP_MAGIC"],
            }
        ).encode()


def random_paulis(rng: random.Random, qubits: int) -> Iterator[tuple[stim.PauliString, bool]]:
    """Ten turns about products, a measurement after every second, and at the end of all qubits."""
    for at in range(15):
        letters = "".join(rng.choice("IXYZ") for _ in range(qubits))
        yield stim.PauliString("X" + letters[1:]), at % 3 < 2
    for at in range(qubits):
        yield stim.PauliString("_" * at + "XYZ"[at % 3] + "_" * (qubits - at - 1)), False


def hidden(seed: int, narrow: int, wide: int) -> tuple[bytes, bytes]:
    """A program on few qubits; and the same through a Clifford operation on many, so that what is
    turned about and measured are products on all of them."""
    rng = random.Random(seed)
    circuit = stim.Circuit()
    for _ in range(8):
        order = rng.sample(range(wide), wide)
        for one, two in zip(order[::2], order[1::2], strict=True):
            circuit.append("CX", [one, two])
            circuit.append(rng.choice(["H", "S"]), [one])
            circuit.append(rng.choice(["H", "S"]), [two])
    open_, hiding = Writer(narrow), Writer(wide)
    hiding.circuit(circuit)
    table = stim.Tableau.from_circuit(circuit)
    for what, turn in random_paulis(rng, narrow):
        open_.product(what, turn)
        hiding.product(table(what + stim.PauliString(wide - narrow)), turn)
    return open_.raw(), hiding.raw()


def test_a_narrow_program_hidden_among_fifty_qubits_is_distributed_as_it_is_alone() -> None:
    for seed in range(3):
        alone, wide = hidden(seed, 5, 50)
        verified, prepared = verify_bytes(alone), run.prepare(wide)
        assert isinstance(verified, VerifiedProgram)
        assert max(alike.shape.qubits for alike in prepared.summary.parts) == 50
        found = rows(prepared, seed, 20_000)
        observed = Counter("".join(map(str, row)) for row in found.tolist())
        assert g_test(observed, distribution(verified).probabilities) > P_MIN, seed
        assert 1 < prepared.notes["width_peak"] <= 5


class FaultyStates(msgspec.Struct, frozen=True):
    """Injected states have a Z error."""

    rate: float
    ideal: bool = False

    def before(self, step: Step) -> tuple[PauliChannel, ...]:
        return ()

    def after(self, step: Step) -> tuple[PauliChannel, ...]:
        if step.op != "INJECT_T_STATE":
            return ()
        return (PauliChannel(step.qubits, (("Z", self.rate),)),)

    def flips(self, step: Step) -> float:
        return 0.0


def distillation() -> bytes:
    """15 to 1 (Bravyi and Kitaev, "Universal quantum computation with ideal Clifford gates and
    noisy ancillas", 2005) by 15 injected states, all there at once: 31 qubits.

    A qubit and the [[15, 1, 3]] code block are a Bell pair; T of all 15 is T_DAG of the code; what
    X of each tells at the end are the checks, and whether T of the qubit has Z too.
    """
    writer = Writer(31)
    out, data, states = 0, range(1, 16), range(16, 31)
    for state in states:
        writer.add("INJECT_T_STATE", state)
    for first in (1, 2, 4, 8):
        writer.add("APPLY_H", first)
        for other in data:
            if other & first and other != first:
                writer.add("APPLY_CNOT", first, other)
    writer.add("APPLY_H", out)
    for qubit in data:
        writer.add("APPLY_CNOT", out, qubit)
    for qubit, state in zip(data, states, strict=True):
        writer.add("APPLY_CNOT", qubit, state)
    for qubit, state in zip(data, states, strict=True):
        event = writer.measure("MEASURE_Z", state)
        writer.add("APPLY_S", qubit, guard={"event": event, "equals": 1})
    for qubit in data:
        writer.measure("MEASURE_X", qubit)
    writer.add("APPLY_T", out)
    writer.measure("MEASURE_X", out)
    return writer.raw()


@pytest.mark.parametrize(("rate", "shots"), [(0.05, 400_000), (0.02, 1_000_000)])
def test_distilled_states_are_as_good_as_the_closed_form_says(rate: float, shots: int) -> None:
    """A state is kept, and then has an error, as often as by the weights of the code's dual
    (Bravyi and Kitaev, 2005, section V), up to three standard errors of this seed."""
    prepared = run.prepare(distillation())
    found = rows(prepared, 15, shots, FaultyStates(rate))
    checks, out = found[:, 15:30], found[:, 30]
    kept = np.ones(shots, dtype=np.bool_)
    for first in (1, 2, 4, 8):
        kept &= checks[:, [at - 1 for at in range(1, 16) if at & first]].sum(axis=1) % 2 == 0
    wrong = (out + checks.sum(axis=1)) % 2 == 1
    left = 1 - 2 * rate
    accept = (1 + 15 * left**8) / 16
    error = (1 - 15 * left**7 + 15 * left**8 - left**15) / (2 * (1 + 15 * left**8))
    assert abs(kept.mean() - accept) <= 3 * math.sqrt(accept * (1 - accept) / shots)
    number = int(kept.sum())
    assert abs(wrong[kept].mean() - error) <= 3 * math.sqrt(error * (1 - error) / number)
    (alike,) = prepared.summary.parts
    assert prepared.notes["width_peak"] <= 5 < MAGIC_WIDTH_MAX < active_max(alike.shape)


# --- how wide vectors get -------------------------------------------------------------------------


def spread(qubits: int, basis: str) -> bytes:
    """A T on each of many qubits, then their parity in some basis."""
    writer = Writer(qubits)
    for qubit in range(qubits):
        writer.add("APPLY_H", qubit)
        writer.add("APPLY_T", qubit)
    writer.product(stim.PauliString(basis * qubits), False)
    return writer.raw()


def test_turns_that_commute_with_what_is_measured_never_come() -> None:
    prepared = run.prepare(spread(100, "Z"))
    found = rows(prepared, 3, 10_000)
    assert prepared.notes["width_peak"] == 0
    assert abs(int(found.sum()) - 5000) <= 5 * math.sqrt(2500)


def test_states_of_too_many_qubits_are_refused_while_compiling() -> None:
    at_most = run.prepare(spread(MAGIC_WIDTH_MAX - 8, "X"))
    found = rows(at_most, 3, 10_000)
    expected = 10_000 * (1 - 0.5 ** ((MAGIC_WIDTH_MAX - 8) / 2)) / 2
    assert abs(int(found.sum()) - expected) <= 5 * math.sqrt(2500)
    with pytest.raises(Unable, match="a part of 25 qubits has more than 20"):
        rows(run.prepare(spread(25, "X")), 3, 64)


def test_the_bound_on_active_qubits_holds() -> None:
    for seed in range(30):
        shape = (ANGLES, TALL_MAGIC, TALL)[seed % 3]
        prepared = run.prepare(program(seed, shape))
        rows(prepared, seed, 64)
        bound = max(active_max(alike.shape) for alike in prepared.summary.parts)
        assert prepared.notes["width_peak"] <= bound
        assert all(magic.suits(alike.shape) for alike in prepared.summary.parts)
