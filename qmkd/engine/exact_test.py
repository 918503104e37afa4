"""Exact probabilities against the reference and, with noise, against plain density matrices."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from qmkd.engine import dense_test, exact, run
from qmkd.engine.exact import TooLarge
from qmkd.engine.noise import IDEAL, NoiseModel, PauliChannel, Uniform
from qvm.isa import OPS
from qvm.program import Lowered, LoweredGuard, Step, VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.reference import ReferenceLimit, distribution
from qvm.verify import verify_bytes
from tests.likelihood import g_test

NEAR = 1e-12
NOISE = Uniform(one=0.03, two=0.05, reset=0.04, readout=0.03)
SMALL = Shape(qubits_max=3, nodes_max=25, branchings_max=8, magic=True, angles=True)

Density = NDArray[np.complex128]
Record = tuple[int, ...]


def program(seed: int, shape: Shape) -> bytes:
    return json.dumps(shaped_program(random.Random(seed), shape)).encode()


def farthest(one: dict[str, float], two: dict[str, float]) -> float:
    return max(abs(one.get(key, 0) - two.get(key, 0)) for key in one.keys() | two.keys())


@pytest.mark.parametrize(
    "shape",
    [Shape(), Shape(magic=True), Shape(qubits_max=6, magic=True, angles=True)],
    ids=["clifford", "magic", "angles"],
)
def test_probabilities_are_those_of_the_reference(shape: Shape) -> None:
    compared = 0
    for seed in range(30):
        raw = program(seed, shape)
        verified = verify_bytes(raw)
        assert isinstance(verified, VerifiedProgram)
        try:
            wanted = distribution(verified).probabilities
        except ReferenceLimit:
            continue
        found = exact.exact(run.prepare(raw), IDEAL).probabilities
        assert list(found) == sorted(found)
        assert farthest(found, wanted) < NEAR, seed
        compared += 1
    assert compared > 20


def test_probabilities_under_noise_are_those_of_density_matrices() -> None:
    for seed in range(25):
        prepared = run.prepare(program(seed, SMALL))
        found = exact.exact(prepared, NOISE).probabilities
        assert farthest(found, by_density(prepared.lowered, NOISE)) < NEAR, seed


def test_rows_of_vectors_under_noise_are_drawn_from_these_probabilities() -> None:
    for seed in range(15):
        prepared = run.prepare(program(seed, SMALL))
        rows = dense_test.rows(prepared, seed, 4000, NOISE)
        observed = Counter("".join(row) for row in np.array([*"0123", *["-"] * 252])[rows])
        probabilities = exact.exact(prepared, NOISE).probabilities
        assert g_test(observed, probabilities) > dense_test.P_MIN, seed


def test_a_program_that_is_too_large_is_refused_with_what_it_would_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared = run.prepare(dense_test.injections(2, 1))
    for name, what in (
        ("EXACT_QUBITS_MAX", "qubits"),
        ("EXACT_AMPLITUDES_MAX", "amplitudes"),
        ("EXACT_ROWS_MAX", "rows"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(exact, name, 1)
            with pytest.raises(TooLarge, match=what) as refused:
                exact.exact(prepared, NOISE)
        assert refused.value.what == what
        assert refused.value.needed > refused.value.most == 1


# --- density matrices, step by step, as slow as can be --------------------------------------------


def by_density(lowered: Lowered, noise: NoiseModel) -> dict[str, float]:
    """What `exact` says, from lowered steps: neither primitives nor vectors."""
    whole = np.zeros((1 << lowered.slots,) * 2, dtype=np.complex128)
    whole[0, 0] = 1
    records: dict[Record, Density] = {(-1,) * len(lowered.events): whole}
    for step in lowered.steps:
        for channel in noise.before(step):
            records = struck(records, channel, step, lowered.slots)
        records = stepped(records, step, noise.flips(step), lowered.slots)
        for channel in noise.after(step):
            records = struck(records, channel, step, lowered.slots)
    found = {
        "".join("-0123"[value + 1] for value in record): float(density.trace().real)
        for record, density in records.items()
    }
    return {key: chance for key, chance in found.items() if chance > 1e-15}


def stepped(
    records: dict[Record, Density], step: Step, flip: float, slots: int
) -> dict[Record, Density]:
    found: dict[Record, Density] = {}
    for record, density in records.items():
        odd = not step.xor or sum(record[event] == 1 for event in step.xor) % 2 == 1
        if not holds(step.guard, record) or not odd:
            add(found, record, density)
            continue
        for values, operators in outcomes(step):
            after = sum(sandwiched(each, step.qubits, density, slots) for each in operators)
            assert not isinstance(after, int)
            for wrong in itertools.product((0, 1), repeat=bits(step)):
                chance = math.prod(flip if each else 1 - flip for each in wrong)
                told = list(record)
                for event, value in zip(step.events, reported(step, values, wrong), strict=True):
                    told[event] = value
                add(found, tuple(told), chance * after)
    return found


def bits(step: Step) -> int:
    return 2 if step.op == "MEASURE_BELL" else len(step.events)


def reported(step: Step, values: tuple[int, ...], wrong: tuple[int, ...]) -> tuple[int, ...]:
    told = tuple(value ^ flip for value, flip in zip(values, wrong, strict=True))
    return (2 * told[0] + told[1],) if len(told) == 2 and len(step.events) == 1 else told


def struck(
    records: dict[Record, Density], channel: PauliChannel, step: Step, slots: int
) -> dict[Record, Density]:
    spared = 1 - sum(chance for _, chance in channel.terms)
    found: dict[Record, Density] = {}
    for record, density in records.items():
        always = channel.always or step.op == "FENCE_EPOCH"
        if not always and not holds(step.guard, record):
            found[record] = density
            continue
        found[record] = spared * density
        for letters, chance in channel.terms:
            pauli = product(PAULIS[letter] for letter in reversed(letters))
            found[record] += chance * sandwiched(pauli, channel.qubits, density, slots)
    return found


def holds(guard: LoweredGuard | None, record: Record) -> bool:
    if guard is None:
        return True
    tests = [record[event] == wanted for event, wanted in guard.tests]
    return any(tests) if guard.any else all(tests)


def add(records: dict[Record, Density], record: Record, density: Density) -> None:
    records[record] = records[record] + density if record in records else density


PAULIS = {
    "I": np.eye(2, dtype=np.complex128),
    "X": np.array([[0, 1], [1, 0]], dtype=np.complex128),
    "Y": np.array([[0, -1j], [1j, 0]], dtype=np.complex128),
    "Z": np.array([[1, 0], [0, -1]], dtype=np.complex128),
}


def product(operators: Iterable[Density]) -> Density:
    whole = np.eye(1, dtype=np.complex128)
    for each in operators:
        whole = np.kron(whole, each).astype(np.complex128)
    return whole


def outcomes(step: Step) -> list[tuple[tuple[int, ...], list[Density]]]:
    """By outcome the Kraus operators of a step; of a step without, one that is ()."""
    one = PAULIS["I"]
    if step.op in ("MEASURE_X", "MEASURE_Y", "MEASURE_Z", "MEASURE_ANGLE"):
        cos, sin = math.cos(step.angle), math.sin(step.angle)
        observable = (
            cos * PAULIS["Z"] + sin * PAULIS["X"]
            if step.op == "MEASURE_ANGLE"
            else PAULIS[step.op[-1]]
        )
        return [((bit,), [(one + (1 - 2 * bit) * observable) / 2]) for bit in (0, 1)]
    if step.op == "MEASURE_BELL":
        xx, zz, both = (product([PAULIS[each]] * 2) for each in "XZI")
        return [
            ((m0, m1), [(both + (1 - 2 * m0) * xx) @ (both + (1 - 2 * m1) * zz) / 4])
            for m0, m1 in itertools.product((0, 1), repeat=2)
        ]
    if step.op in ("RESET", "FREE_LQ", "INJECT_T_STATE"):
        state = np.array([1, 0], dtype=np.complex128)
        if step.op == "INJECT_T_STATE":
            state[:] = math.sqrt(0.5), math.sqrt(0.5) * np.exp(0.25j * np.pi)
        prepare = [np.outer(state, bra) for bra in one]
        kraus = itertools.product(prepare, repeat=len(step.qubits))
        return [((), [product(each) for each in kraus])]
    if step.op == "COND_PAULI":
        return [((), [product(PAULIS[letter] for letter in reversed(step.pauli))])]
    if step.op in ("APPLY_RX", "APPLY_RY", "APPLY_RZ"):
        turn = math.cos(step.angle / 2) * one
        return [((), [turn - 1j * math.sin(step.angle / 2) * PAULIS[step.op[-1]]])]
    matrix = OPS[step.op].matrix
    if matrix is None:
        return [((), [np.eye(1 << len(step.qubits), dtype=np.complex128)])]
    return [((), [np.array(matrix, dtype=np.complex128)])]


def sandwiched(operator: Density, qubits: tuple[int, ...], density: Density, slots: int) -> Density:
    """K rho K^+, the first of the qubits being the operator's least significant bit."""
    size = 1 << slots
    whole = np.zeros((size, size), dtype=np.complex128)
    rest = [qubit for qubit in range(slots) if qubit not in qubits]
    for column in range(size):
        inner = sum((column >> qubit & 1) << at for at, qubit in enumerate(qubits))
        outer = sum(column & 1 << qubit for qubit in rest)
        for row in range(len(operator)):
            index = outer + sum((row >> at & 1) << qubit for at, qubit in enumerate(qubits))
            whole[index, column] = operator[row, inner]
    found: Density = whole @ density @ whole.conj().T
    return found
