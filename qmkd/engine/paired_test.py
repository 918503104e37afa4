"""Tomography of what is sent over pairs, against density matrices of the circuits that consume it.

Nothing of the expected side shares code with what is tested: a raw pair is a 4x4 matrix, which is
purified, stored and consumed as the papers say, gate by gate and outcome by outcome. The tested
side is the whole path: a program is verified, its pairs are accounted, an engine draws its shots.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from qmkd.core.ports import PairError, Setting
from qmkd.engine import engines, run
from qmkd.engine.agreement_test import P_MIN
from qmkd.engine.digests.programs import FAMILIES, NOISES, capable, graph
from qmkd.engine.exact import exact
from qmkd.engine.noise import IDEAL
from qmkd.engine.paired import paired
from qmkd.engine.prepared import ABSENT, Prepared, Rows
from qvm import pairs_test
from qvm.channels import Brokered, Terms, broker
from qvm.machine import Hardware, Link, Module
from qvm.pairs import RAW, Pair, werner
from tests.likelihood import g_test

Json = dict[str, Any]
Matrix = NDArray[np.complex128]

NOISE: Final = "calibrated uniform 0.001"
"""Under which qubits of the ideal profile do not err, but pairs do."""
SHOTS: Final = 1 << 14
SIGMAS: Final = 5.0

I2, X, Y, Z = pairs_test.PAULIS
LETTERS: Final = {"X": X, "Y": Y, "Z": Z}
PREPARED: Final[dict[str, tuple[str, ...]]] = {
    "Z+": (),
    "Z-": ("APPLY_X",),
    "X+": ("APPLY_H",),
    "X-": ("APPLY_X", "APPLY_H"),
    "Y+": ("APPLY_H", "APPLY_S"),
    "Y-": ("APPLY_H", "APPLY_SDG"),
}
"""The eigenstates of Paulis, and how they are made of |0>."""


# --- the tested side ------------------------------------------------------------------------------


def op(name: str, *qubits: str, **more: Any) -> Json:
    return {"op": name, "vqs": list(qubits), **more}


def program(listed: Sequence[Json], profile: str = "ideal") -> Prepared:
    """All qubits that are named, allocated first."""
    names = list(dict.fromkeys(name for node in listed for name in node.get("vqs", ())))
    args = {"n": len(names), "profile": f"logical:{profile}"}
    nodes = [op("ALLOC_LQ", *names, args=args), *listed]
    resources = {
        "vqs": names,
        "chs": list(dict.fromkeys(name for node in listed for name in node.get("chs", ()))),
        "events": [name for node in listed for name in node.get("produces", ())],
    }
    for at, node in enumerate(nodes):
        node["id"] = f"n{at}"
    text = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return run.prepare(json.dumps(text).encode())


def two_modules(fidelity: float, lifetime: float | None) -> Hardware:
    link = Link(between=("m", "n"), cycles=1e-6, fidelity=fidelity, lifetime=lifetime)
    modules = tuple(Module(name=name, qubits=100_000) for name in "mn")
    return Hardware(name="two", module=modules, link=(link,))


def errors(found: Brokered) -> tuple[PairError, ...]:
    """What a job is given of its accounted pairs."""
    made = [PairError(node, t.x, t.y, t.z) for t in found.terms for node in t.nodes]
    return tuple(sorted(made, key=lambda each: each.node))


def drawn(prepared: Prepared, found: Brokered, seed: int) -> Rows:
    model = run.noise_model(NOISE, prepared, Setting(pairs=errors(found)))
    return run.event_rows(prepared, seed, 0, SHOTS, "frames", model)


class Case(NamedTuple):
    """A link, what is asked of it, and for how many cycles pairs wait."""

    fidelity: float
    asked: float
    kind: str
    lifetime: float | None
    wait: int


CASES: Final = (
    Case(0.8, 0.75, "", None, 0),
    Case(0.7, 0.8, "BBPSSW", None, 0),
    Case(0.75, 0.85, "DEJMPS", None, 0),
    Case(0.9, 0.7, "", 30.0, 6),
    Case(0.8, 0.78, "BBPSSW", 100.0, 10),
    Case(0.8, 0.8, "DEJMPS", 100.0, 6),
)
ROUNDS: Final = (0, 3, 2, 0, 1, 1)
"""That the cases come to, so that these are of all kinds."""


def opened(channel: str, one: str, other: str, case: Case) -> Json:
    args: Json = {"fidelity": case.asked} if case.asked else {"opts": {}}
    args |= {"type": case.kind} if case.kind else {}
    return op("OPEN_CHAN", one, other, chs=[channel], args=args)


def used(channel: str, semantic: str, *qubits: str, **more: Any) -> Json:
    return op("USE_CHAN", *qubits, chs=[channel], args={"semantic": semantic}, **more)


# --- the expected side ----------------------------------------------------------------------------


@cache
def pair_matrix(case: Case, protocol: str, rounds: int) -> Matrix:
    """The pair when it is consumed, purified by matrices of four qubits."""
    state = pairs_test.density(werner(case.fidelity))
    for _ in range(rounds):
        weights = [float((v.conj() @ state @ v).real) for v in pairs_test.STATES]
        start = Pair(*weights)
        if protocol == "BBPSSW":
            start = werner(weights[0])
        _, weights = pairs_test.exact(start, start, protocol == "DEJMPS")
        state = pairs_test.density(Pair(*weights))
    if case.lifetime is not None:
        state = pairs_test.kept_apart(state, case.wait, case.lifetime)
    return state


def on(qubits: int, **placed: Any) -> Matrix:
    """Matrices on some of so many qubits; `q0` is the first factor."""
    each = [placed.get(f"q{at}", I2) for at in range(qubits)]
    return kron(*each)


def kron(*factors: Matrix) -> Matrix:
    found = np.eye(1, dtype=np.complex128)
    for each in factors:
        found = np.kron(found, each).astype(np.complex128)
    return found


def cnot(qubits: int, control: int, target: int) -> Matrix:
    zero, one = np.diag([1, 0]), np.diag([0, 1])
    flipped = on(qubits, **{f"q{control}": one, f"q{target}": X})
    found: Matrix = on(qubits, **{f"q{control}": zero}) + flipped
    return found


def measured(state: Matrix, qubits: int, qubit: int, basis: Matrix, then: Matrix) -> Matrix:
    """After measuring a Pauli on a qubit, forgetting the outcome, and applying `then` where it was
    1."""
    sums = np.zeros_like(state)
    for sign, correction in ((1, np.eye(len(state))), (-1, then)):
        projector = correction @ on(qubits, **{f"q{qubit}": (I2 + sign * basis) / 2})
        sums += projector @ state @ projector.conj().T
    return sums


def eigenstate(name: str) -> Matrix:
    found: Matrix = (I2 + (1 if name[1] == "+" else -1) * LETTERS[name[0]]) / 2
    return found


def teleported(state: Matrix, pair: Matrix) -> Matrix:
    """Bennett et al.: the sender has qubits 0 and 1, the receiver 2."""
    whole = kron(state, pair)
    there = cnot(3, 0, 1)
    whole = there @ whole @ there.conj().T
    whole = measured(whole, 3, 1, Z, on(3, q2=X))
    whole = measured(whole, 3, 0, X, on(3, q2=Z))
    found: Matrix = whole.reshape(4, 2, 4, 2).trace(axis1=0, axis2=2)
    return found


def far_cnot(state: Matrix, pair: Matrix) -> Matrix:
    """Eisert et al. The state is of control and target; in between are the halves of the pair."""
    order = (0, 2, 3, 1)  # from control, target, near, far to control, near, far, target
    axes = kron(state, pair).reshape((2,) * 8).transpose(*order, *(4 + at for at in order))
    whole: Matrix = axes.reshape(16, 16)
    for step in (
        lambda s: cnot(4, 0, 1) @ s @ cnot(4, 0, 1),
        lambda s: measured(s, 4, 1, Z, on(4, q2=X)),
        lambda s: cnot(4, 2, 3) @ s @ cnot(4, 2, 3),
        lambda s: measured(s, 4, 2, X, on(4, q0=Z)),
    ):
        whole = step(whole)
    kept = whole.reshape(2, 4, 2, 2, 4, 2).trace(axis1=1, axis2=4)
    found: Matrix = kept.reshape(4, 4)
    return found


# --- one qubit ------------------------------------------------------------------------------------


def sent(case: Case, qubits: int) -> tuple[dict[tuple[str, str], float], Terms]:
    """Means of each Pauli of each eigenstate, teleported with one or two qubits; and the terms."""
    listed: list[Json] = []
    settings = list(itertools.product(PREPARED, LETTERS))
    for at, (state, basis) in enumerate(settings):
        here, there, channel = f"a{at}", f"b{at}", f"c{at}"
        listed += [op(name, here) for name in PREPARED[state]]
        listed.append(opened(channel, here, there, case))
        listed += [op("APPLY_H", here)] * case.wait
        listed.append(used(channel, "teleport_state", *(here, there)[:qubits]))
        listed.append(op(f"MEASURE_{basis}", (here, there)[qubits - 1], produces=[f"m{at}"]))
    prepared = program([dict(node) for node in listed])
    found = broker(prepared.summary, two_modules(case.fidelity, case.lifetime))
    assert isinstance(found, Brokered), found
    (terms,) = found.terms
    assert len(terms.nodes) == len(settings)
    rows = drawn(prepared, found, seed=qubits)
    means = 1 - 2 * rows.mean(axis=0)
    return dict(zip(settings, means.tolist(), strict=True)), terms


@pytest.mark.parametrize("qubits", [1, 2])
@pytest.mark.parametrize(("case", "rounds"), list(zip(CASES, ROUNDS, strict=True)))
def test_a_teleported_state_errs_as_accounted_and_as_its_circuit_with_that_pair_does(
    case: Case, rounds: int, qubits: int
) -> None:
    means, terms = sent(case, qubits)
    assert (terms.rounds, terms.age) == (rounds, case.wait)
    assert terms.protocol == ((case.kind or terms.protocol) if rounds else RAW)
    pair = pair_matrix(case, terms.protocol, terms.rounds)
    for (state, basis), mean in means.items():
        expected = np.trace(teleported(eigenstate(state), pair) @ LETTERS[basis]).real
        assert abs(mean - expected) <= SIGMAS * math.sqrt((1 - expected**2) / SHOTS), state + basis
    check_transfer(means, terms)


def check_transfer(means: Mapping[tuple[str, str], float], terms: Terms) -> None:
    """The Pauli transfer matrix, and the chances of errors that follow from its diagonal."""
    accounted = {"X": terms.x, "Y": terms.y, "Z": terms.z}
    lost = sum(accounted.values())
    bound = SIGMAS / math.sqrt(2 * SHOTS)  # of half the sum or difference of two means
    diagonal: dict[str, float] = {}
    for into, out in itertools.product(LETTERS, LETTERS):
        plus, minus = means[into + "+", out], means[into + "-", out]
        assert abs(plus + minus) / 2 <= bound, "it is unital"
        expected = 1 - 2 * (lost - accounted[into]) if into == out else 0.0
        assert abs((plus - minus) / 2 - expected) <= bound, into + out
        if into == out:
            diagonal[into] = (plus - minus) / 2
    for letter, chance in accounted.items():
        signs = [1 if letter == each else -1 for each in diagonal]
        chi = (1 + sum(s * t for s, t in zip(signs, diagonal.values(), strict=True))) / 4
        assert abs(chi - chance) <= bound * math.sqrt(3) / 4, letter


# --- two qubits -----------------------------------------------------------------------------------

PAIRS_OF_STATES: Final = list(itertools.product(PREPARED, repeat=2))
PAIRS_OF_BASES: Final = list(itertools.product(LETTERS, repeat=2))


def far_cnots(case: Case, op_name: str) -> tuple[Rows, Terms]:
    """All inputs by all bases, each on qubits of its own; outcomes of control and target in turn.

    TELEPORT_CNOT's are kept apart by a channel that sends a state before.
    """
    listed: list[Json] = []
    for at, (states, bases) in enumerate(itertools.product(PAIRS_OF_STATES, PAIRS_OF_BASES)):
        ends, channel = (f"a{at}", f"b{at}"), f"c{at}"
        wait = [op("APPLY_H", end) for end in ends] * case.wait
        if op_name == "TELEPORT_CNOT":
            listed += [opened(channel, *ends, case), used(channel, "teleport_state", *ends)]
            listed += [op("RESET", end) for end in ends]
        for end, state in zip(ends, states, strict=True):
            listed += [op(name, end) for name in PREPARED[state]]
        if op_name == "TELEPORT_CNOT":
            listed.append(op("TELEPORT_CNOT", *ends))
        else:
            listed += [opened(channel, *ends, case), *wait, used(channel, "teleport_cnot", *ends)]
        for name, end, basis in zip("mn", ends, bases, strict=True):
            listed.append(op(f"MEASURE_{basis}", end, produces=[f"{name}{at}"]))
    prepared = program([dict(node) for node in listed])
    found = broker(prepared.summary, two_modules(case.fidelity, case.lifetime))
    assert isinstance(found, Brokered), found
    channels = op_name == "USE_CHAN"
    nodes = {use.node for use in prepared.summary.uses if bool(use.channel) == channels}
    (terms,) = [each for each in found.terms if nodes <= set(each.nodes)]
    return drawn(prepared, found, seed=3), terms


FAR: Final = [
    *[(case, "USE_CHAN") for case in CASES],
    *[(Case(fidelity, 0.0, "", None, 0), "TELEPORT_CNOT") for fidelity in (0.7, 0.45)],
]
QUICK: Final = (4, 5, 7)


@pytest.mark.parametrize(
    ("case", "op_name"),
    [
        pytest.param(*each, marks=() if at in QUICK else pytest.mark.slow)
        for at, each in enumerate(FAR)
    ],
)
def test_a_cnot_between_modules_errs_as_its_circuit_with_that_pair_does(
    case: Case, op_name: str
) -> None:
    rows, terms = far_cnots(case, op_name)
    assert terms.age == (case.wait if op_name == "USE_CHAN" else 0)
    pair = pair_matrix(case, terms.protocol, terms.rounds)
    seen = [np.bincount(each, minlength=4) for each in (2 * rows[:, 0::2] + rows[:, 1::2]).T]
    after = {states: far_cnot(kron(*map(eigenstate, states)), pair) for states in PAIRS_OF_STATES}
    settings = itertools.product(PAIRS_OF_STATES, PAIRS_OF_BASES)
    for at, (states, bases) in enumerate(settings):
        for outcome, signs in enumerate(itertools.product((1, -1), repeat=2)):
            halves = [(I2 + s * LETTERS[b]) / 2 for s, b in zip(signs, bases, strict=True)]
            chance = min(1.0, max(0.0, float(np.trace(after[states] @ kron(*halves)).real)))
            bound = SIGMAS * math.sqrt(SHOTS * chance * (1 - chance))
            assert abs(seen[at][outcome] - SHOTS * chance) <= bound + 1e-6, (states, bases, outcome)
    check_flips(rows, terms)


def check_flips(rows: Rows, terms: Terms) -> None:
    """X and Y of the pair flip the target, seen in Z; Z and Y the control, seen in X."""
    settings = list(itertools.product(PAIRS_OF_STATES, PAIRS_OF_BASES))
    for basis, event, chance in (("Z", 1, terms.x + terms.y), ("X", 0, terms.z + terms.y)):
        wrong = trials = 0
        for at, (states, bases) in enumerate(settings):
            if {*bases, states[0][0], states[1][0]} == {basis}:
                expected = (states[0][1] == "-") ^ (states[1][1] == "-")
                wrong += int((rows[:, 2 * at + event] != expected).sum())
                trials += len(rows)
        assert trials == 4 * SHOTS
        assert abs(wrong - trials * chance) <= SIGMAS * math.sqrt(trials * chance * (1 - chance))


# --- any program, any engine ----------------------------------------------------------------------


def strange_pairs(prepared: Prepared) -> tuple[PairError, ...]:
    """Chances of its own for every node that may consume a pair."""
    return tuple(
        PairError(use.node, 0.05 + 0.01 * (use.node % 7), 0.1, 0.02 * (use.node % 5))
        for use in sorted(prepared.summary.uses)
    )


SEEDS: Final = {"narrow": 40, "Pauli guards": 30, "tall": 15, "magic": 40}


@pytest.mark.parametrize("name", SEEDS)
def test_all_engines_apply_pairs_to_the_same_bits_however_shots_are_cut(name: str) -> None:
    seen = changed = 0
    for seed in range(SEEDS[name]):
        prepared = run.prepare(graph(FAMILIES[name], seed))
        if not prepared.summary.uses:
            continue
        seen += 1
        inner = NOISES[seed % len(NOISES)]
        noise = paired(inner, prepared.lowered, strange_pairs(prepared))
        *able, every = capable(prepared, noise)

        def rows(engine: str, first: int = 0, shots: int = 150) -> Rows:
            return run.event_rows(prepared, seed, first, shots, engine, noise)  # noqa: B023

        expected = rows(every)
        for engine in able:
            shots = 20 if engine == engines.TABLEAU else 150
            assert np.array_equal(rows(engine, shots=shots), expected[:shots]), (seed, engine)
        parts = [rows(every, 0, 64), rows(every, 64, 86)]
        assert np.array_equal(np.concatenate(parts), expected), seed
        without = run.event_rows(prepared, seed, 0, 150, every, inner)
        changed += not np.array_equal(without, expected)
    assert changed > seen / 3 > 3


def test_pairs_that_never_err_change_nothing() -> None:
    for seed in range(6):
        prepared = run.prepare(graph(FAMILIES["tall"], seed))
        perfect = tuple(PairError(use.node, 0.0, 0.0, 0.0) for use in prepared.summary.uses)
        for inner in NOISES:
            assert paired(inner, prepared.lowered, ()) is inner
            noise = paired(inner, prepared.lowered, perfect)
            one, two = (run.event_rows(prepared, seed, 0, 99, "groups", n) for n in (inner, noise))
            assert np.array_equal(one, two), seed


def test_exact_probabilities_have_them_too() -> None:
    for seed in range(40):
        prepared = run.prepare(graph(FAMILIES["narrow"], seed))
        if not prepared.summary.uses:
            continue
        noise = paired(IDEAL, prepared.lowered, strange_pairs(prepared))
        chances = exact(prepared, noise).probabilities
        rows = run.event_rows(prepared, seed, 0, 4000, "frames+groups", noise)
        keys = ["".join("-" if at == ABSENT else str(at) for at in row) for row in rows.tolist()]
        assert g_test(Counter(keys), chances) > P_MIN, seed


def flipped(noise: str, profile: str, guard: int | None, semantic: str) -> float:
    """How often the receiver is found in |1>, where it would be in |0>, of pairs that always err
    by X. The event of the guard is 0."""
    use = used("x", semantic, "a", "b")
    if guard is not None:
        use["guard"] = {"event": "g", "equals": guard}
    listed = [op("MEASURE_Z", "c", produces=["g"]), opened("x", "a", "b", CASES[0]), use]
    prepared = program([*listed, op("MEASURE_Z", "b", produces=["m"])], profile)
    (node,) = prepared.summary.uses
    model = run.noise_model(noise, prepared, Setting(pairs=(PairError(node.node, 1.0, 0.0, 0.0),)))
    return float((run.event_rows(prepared, 1, 0, 2000, "frames+groups", model)[:, 1] == 1).mean())


@pytest.mark.parametrize("semantic", ["teleport_cnot", "teleport_state"])
def test_where_a_guard_does_not_hold_nothing_errs(semantic: str) -> None:
    assert flipped(NOISE, "ideal", None, semantic) == 1.0
    assert flipped(NOISE, "ideal", 0, semantic) == 1.0
    assert flipped(NOISE, "ideal", 1, semantic) == 0.0


def test_without_noise_pairs_do_not_err_either() -> None:
    assert flipped("ideal", "ideal", None, "teleport_cnot") == 0.0


@pytest.mark.parametrize("kind", ["calibrated", "decoded", "physical"])
def test_pairs_err_beside_every_other_noise(kind: str) -> None:
    """Which alone is wrong in a few shots in a hundred."""
    for semantic in ("teleport_cnot", "teleport_state"):
        assert flipped(f"{kind} uniform 0.001", "Surface(d=3)", None, semantic) > 0.95


def test_models_with_the_same_pairs_are_the_same_and_name_them() -> None:
    prepared = program([op("TELEPORT_CNOT", "a", "b")])
    one, alike, other = (
        paired(NOISES[1], prepared.lowered, (PairError(1, x, 0.1, 0.0),)) for x in (0.1, 0.1, 0.2)
    )
    assert one == alike != other
    assert (hash(one), repr(one)) == (hash(alike), repr(alike))
    assert repr(one) != repr(other)
    assert one != NOISES[1]


def test_a_worker_is_told_of_pairs_as_they_are() -> None:
    pairs = tuple(PairError(at, 0.1, 1 / 3, 1e-17) for at in range(3))
    told = msgspec.msgpack.encode(Setting(pairs=pairs))
    assert msgspec.msgpack.decode(told, type=Setting).pairs == pairs


PINNED: Final = "315153580de66c7cc60a219d8f231f40d495c5026c1f0ecffc3b6b82436d137f"
"""SHA-256 of the rows of 4,096 shots of a program with five uses of both kinds."""


def test_the_bits_of_a_run_with_pairs_stay_what_they_are() -> None:
    """They may change only together with `chance.VERSION`, and then the changelog says so."""
    prepared = run.prepare(graph(FAMILIES["narrow"], 9))
    assert len(prepared.summary.uses) == 5
    noise = paired(NOISES[1], prepared.lowered, strange_pairs(prepared))
    rows = run.event_rows(prepared, 9, 0, 4096, "frames+groups", noise)
    assert hashlib.sha256(rows.tobytes()).hexdigest() == PINNED
