"""The exact interpreter against Stim, against density matrices, and against closed forms."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import pairwise, product
from typing import Any

import msgspec
import numpy as np
import pytest
import stim

from qvm import reference
from qvm.isa import OPS
from qvm.program import Graph, Node, VerifiedProgram
from qvm.random_programs import random_program
from qvm.reference import ReferenceLimit, distribution
from qvm.verify import verify

IDEAL = "logical:ideal"

Json = dict[str, Any]
Matrix = np.ndarray[Any, np.dtype[Any]]


def program(
    vqs: list[str], events: list[str], nodes: Sequence[Json], profile: str = IDEAL
) -> VerifiedProgram:
    """A verified program: ALLOC_LQ of all qubits, the given nodes, FREE_LQ of all."""
    listed = [
        {"op": "ALLOC_LQ", "args": {"n": len(vqs), "profile": profile}, "vqs": vqs},
        *nodes,
        {"op": "FREE_LQ", "vqs": vqs},
    ]
    graph = {
        "version": "0.1",
        "program": {"nodes": [{"id": f"n{i}", **node} for i, node in enumerate(listed)]},
        "resources": {"vqs": vqs, "events": events, "chs": []},
    }
    found = verify(msgspec.convert(graph, Graph))
    assert isinstance(found, VerifiedProgram), found
    return found


def op(
    name: str,
    *vqs: str,
    to: Sequence[str] = (),
    guard: Json | None = None,
    inputs: Sequence[str] = (),
    **args: Any,
) -> Json:
    node: Json = {"op": name, "vqs": list(vqs)}
    if args:
        node["args"] = args
    if to:
        node["produces"] = list(to)
    if inputs:
        node["inputs"] = list(inputs)
    if guard:
        node["guard"] = guard
    return node


def when(event: str, value: int) -> Json:
    return {"event": event, "equals": value}


def both(*conditions: tuple[str, int], join: str = "and") -> Json:
    return {"type": join, "conditions": [when(event, value) for event, value in conditions]}


def probabilities(vqs: list[str], events: list[str], nodes: Sequence[Json]) -> dict[str, float]:
    return distribution(program(vqs, events, nodes)).probabilities


# Against Stim: every Clifford gate and measurement, from the table.

STIM_NAMES = {
    "APPLY_H": "H",
    "APPLY_S": "S",
    "APPLY_SDG": "S_DAG",
    "APPLY_X": "X",
    "APPLY_Y": "Y",
    "APPLY_Z": "Z",
    "APPLY_CNOT": "CX",
    "APPLY_CZ": "CZ",
    "APPLY_SWAP": "SWAP",
    "TELEPORT_CNOT": "CX",
    "RESET": "R",
}
CLIFFORD_MATRICES = [row.name for row in OPS.values() if row.matrix and row.clifford]


@pytest.mark.parametrize("name", CLIFFORD_MATRICES)
def test_gate_has_the_matrix_that_stim_gives_it(name: str) -> None:
    matrix = np.array(OPS[name].matrix)
    theirs = stim.gate_data(STIM_NAMES[name]).unitary_matrix
    assert np.allclose(matrix, theirs, atol=1e-7)  # Stim keeps complex64.


class StimBranch:
    """One branch of a Clifford program in Stim's tableau simulator, with its probability."""

    def __init__(self, qubits: int) -> None:
        self.sim = stim.TableauSimulator()
        self.sim.set_num_qubits(qubits)
        self.events: dict[str, int] = {}
        self.p = 1.0

    def forks(self, pauli: Any) -> Iterator[tuple[int, StimBranch]]:
        """The branch for each possible value of a Pauli string: (value, branch)."""
        expected = self.sim.peek_observable_expectation(pauli)
        for value in (0, 1):
            if expected == (1, -1)[value ^ 1]:
                continue
            branch = StimBranch.__new__(StimBranch)
            branch.sim = self.sim.copy()
            branch.sim.postselect_observable(pauli, desired_value=bool(value))
            branch.events, branch.p = dict(self.events), self.p * (1 if expected else 0.5)
            yield value, branch


def holds(guard: Json | None, events: Mapping[str, int]) -> bool:
    if not guard:
        return True
    if "event" in guard:
        return bool(events.get(guard["event"]) == guard["equals"])
    join = all if guard["type"] == "and" else any
    return join(
        holds({"equals": each.get("value"), **each}, events) for each in guard["conditions"]
    )


def stim_probabilities(verified: VerifiedProgram) -> dict[str, float]:
    """The distribution by Stim alone, branch by branch, for Clifford programs."""
    graph = msgspec.to_builtins(verified.graph)
    number = {name: i for i, name in enumerate(graph["resources"]["vqs"])}
    branches = [StimBranch(len(number))]
    for index in verified.order:
        branches = [
            after
            for branch in branches
            for after in stim_step(branch, graph["program"]["nodes"][index], number)
        ]
    found: dict[str, float] = {}
    for branch in branches:
        key = "".join(str(branch.events.get(name, "-")) for name in graph["resources"]["events"])
        found[key] = found.get(key, 0) + branch.p
    return found


def stim_step(branch: StimBranch, node: Json, number: dict[str, int]) -> list[StimBranch]:
    targets = [number[name] for name in node.get("vqs", [])]
    name = node["op"]
    if not holds(node.get("guard"), branch.events):
        return [branch]
    if name in ("ALLOC_LQ", "FREE_LQ", "RESET"):
        return stim_reset(branch, targets)
    if name.startswith("MEASURE_"):
        return stim_measure(branch, node, targets)
    if name == "COND_PAULI":
        odd = sum(branch.events.get(event, 0) for event in node.get("inputs", [])) % 2
        if odd or not node.get("inputs"):
            letters = node["args"].get("pauli") or node["args"]["mask"]
            for letter, target in zip(
                letters * (len(targets) // len(letters)), targets, strict=True
            ):
                branch.sim.do(stim.CircuitInstruction(letter, [target]))
    elif name in STIM_NAMES:
        branch.sim.do(stim.CircuitInstruction(STIM_NAMES[name], targets))
    return [branch]


def stim_reset(branch: StimBranch, targets: list[int]) -> list[StimBranch]:
    branches = [branch]
    for target in targets:
        after = []
        for each in branches:
            for value, fork in each.forks(stim_pauli("Z", [target])):
                if value:
                    fork.sim.x(target)
                after.append(fork)
        branches = after
    return branches


def stim_pauli(letters: str, targets: list[int]) -> Any:
    return reduce(
        stim.PauliString.__mul__,
        [stim.PauliString(f"{a}{t}") for a, t in zip(letters, targets, strict=True)],
    )


def stim_measure(branch: StimBranch, node: Json, targets: list[int]) -> list[StimBranch]:
    letters = {"MEASURE_BELL": ["XX", "ZZ"]}.get(node["op"], [node["op"][-1]])
    branches: list[tuple[list[int], StimBranch]] = [([], branch)]
    for each in letters:
        branches = [
            ([*values, value], fork)
            for values, before in branches
            for value, fork in before.forks(stim_pauli(each, targets))
        ]
    for values, fork in branches:
        if len(node["produces"]) < len(values):
            values = [2 * values[0] + values[1]]
        fork.events.update(zip(node["produces"], values, strict=True))
    return [fork for _, fork in branches]


def random_clifford(rng: np.random.Generator, qubits: int = 3, length: int = 24) -> VerifiedProgram:
    """A Clifford program with guards, resets and measurements of every kind."""
    names = [f"q{i}" for i in range(qubits)]
    gates = [*STIM_NAMES, "COND_PAULI", "MEASURE_Z", "MEASURE_X", "MEASURE_Y", "MEASURE_BELL"]
    nodes: list[Json] = []
    events: list[str] = []
    for _ in range(length):
        name = gates[rng.integers(len(gates))]
        row = OPS[name]
        most = 2 if name == "COND_PAULI" else row.vqs.most
        node: Json = {"op": name, "vqs": [str(each) for each in rng.permutation(names)[:most]]}
        if events and rng.random() < 0.5:
            some = [str(each) for each in rng.permutation(events)[: rng.integers(1, 3)]]
            tests = [(event, int(rng.integers(2))) for event in some]
            node["guard"] = both(*tests, join=("and", "or")[rng.integers(2)])
        if name == "COND_PAULI":
            if not events:
                continue
            node["args"] = {"pauli": "".join(rng.permutation(list("IXYZ"))[:2])}
            node["inputs"] = events[-2:]
        if row.produces.most:
            fresh = [f"m{len(events) + i}" for i in range(row.produces.most)]
            events += fresh
            node["produces"] = fresh
        nodes.append(node)
    return program(names, events, nodes, profile="logical:Surface(d=3)")


@pytest.mark.parametrize("seed", range(40))
def test_random_clifford_programs_agree_with_stim(seed: int) -> None:
    verified = random_clifford(np.random.default_rng(seed))
    found = distribution(verified).probabilities
    assert found == pytest.approx(stim_probabilities(verified), abs=1e-12)


@pytest.mark.parametrize("seed", range(60))
def test_random_valid_clifford_programs_agree_with_stim(seed: int) -> None:
    verified = verify(msgspec.convert(random_program(random.Random(seed)), Graph))
    assert isinstance(verified, VerifiedProgram), verified
    found = distribution(verified).probabilities
    assert found == pytest.approx(stim_probabilities(verified), abs=1e-12)


@pytest.mark.slow
def test_a_thousand_random_valid_clifford_programs_agree_with_stim() -> None:
    for seed in range(1000, 2000):
        test_random_valid_clifford_programs_agree_with_stim(seed)


# Against density matrices: everything, on few qubits, with no cleverness.

PAULI = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}
ZERO, ONE = np.diag([1, 0]), np.diag([0, 1])
LOWER = np.array([[0, 1], [0, 0]])
HADAMARD = (PAULI["X"] + PAULI["Z"]) / np.sqrt(2)


def spread(factors: Mapping[int, Matrix], qubits: int) -> Matrix:
    """The operator that is `factors[i]` on qubit i and the identity elsewhere; qubit 0 first."""
    return reduce(np.kron, [factors.get(i, np.eye(2)) for i in range(qubits)])


def turned(axis: str, theta: float) -> Matrix:
    return math.cos(theta / 2) * PAULI["I"] - 1j * math.sin(theta / 2) * PAULI[axis]


def kraus(node: Json, at: list[int], n: int) -> dict[int | None, list[Matrix]]:
    """Outcome -> list of Kraus operators on all n qubits, written from the meaning of each op."""
    name, args = node["op"], node.get("args", {})
    if name in ("APPLY_CNOT", "APPLY_CZ"):
        letter = "X" if name == "APPLY_CNOT" else "Z"
        off, on = spread({at[0]: ZERO}, n), spread({at[0]: ONE, at[1]: PAULI[letter]}, n)
        return {None: [off + on]}
    if name in ("RESET", "INJECT_T_STATE"):
        prepare = np.eye(2) if name == "RESET" else np.diag([1, np.exp(0.25j * math.pi)]) @ HADAMARD
        return {None: [spread({at[0]: prepare @ each}, n) for each in (ZERO, LOWER)]}
    if name.startswith("MEASURE_"):
        angle = args.get("angle", 0.0)
        tilted = math.cos(angle) * PAULI["Z"] + math.sin(angle) * PAULI["X"]
        observable = tilted if name == "MEASURE_ANGLE" else PAULI[name[-1]]
        return {
            value: [spread({at[0]: (np.eye(2) + sign * observable) / 2}, n)]
            for value, sign in ((0, 1), (1, -1))
        }
    single = {
        "APPLY_H": HADAMARD,
        "APPLY_S": np.diag([1, 1j]),
        "APPLY_T": np.diag([1, np.exp(0.25j * math.pi)]),
        "APPLY_TDG": np.diag([1, np.exp(-0.25j * math.pi)]),
    }
    matrix = single[name] if name in single else turned(name[-1], args["theta"])
    return {None: [spread({at[0]: matrix}, n)]}


def matrix_probabilities(
    nodes: Sequence[Json], qubits: list[str], events: list[str]
) -> dict[str, float]:
    n = len(qubits)
    zero = np.zeros((2**n, 2**n), dtype=complex)
    start = zero.copy()
    start[0, 0] = 1
    states: dict[tuple[tuple[str, int], ...], Matrix] = {(): start}
    for node in nodes:
        at = [qubits.index(name) for name in node["vqs"]]
        after: dict[tuple[tuple[str, int], ...], Matrix] = {}
        for record, rho in states.items():
            if not holds(node.get("guard"), dict(record)):
                after[record] = after.get(record, zero) + rho
                continue
            for value, operators in kraus(node, at, n).items():
                key = record if value is None else (*record, (node["produces"][0], value))
                after[key] = after.get(key, zero) + sum(
                    (k @ rho @ k.conj().T for k in operators), zero
                )
        states = after
    found: dict[str, float] = {}
    for record, rho in states.items():
        values = dict(record)
        p = np.trace(rho).real
        if p > 1e-13:
            found["".join(str(values.get(name, "-")) for name in events)] = p
    return found


def random_any(
    rng: np.random.Generator, qubits: int = 3, length: int = 20
) -> tuple[list[str], list[str], list[Json]]:
    names = [f"q{i}" for i in range(qubits)]
    gates = ["APPLY_H", "APPLY_S", "APPLY_T", "APPLY_TDG", "APPLY_RX", "APPLY_RY", "APPLY_RZ"]
    gates += ["APPLY_CNOT", "APPLY_CZ", "RESET", "MEASURE_Z", "MEASURE_X", "MEASURE_ANGLE"]
    nodes: list[Json] = []
    events: list[str] = []
    for _ in range(length):
        name = gates[rng.integers(len(gates))]
        row = OPS[name]
        node: Json = {
            "op": name,
            "vqs": [str(each) for each in rng.permutation(names)[: row.vqs.most]],
        }
        if row.args:
            node["args"] = {row.args[0].name: float(rng.uniform(-4, 4))}
        if events and rng.random() < 0.4:
            node["guard"] = when(str(rng.choice(events)), int(rng.integers(2)))
        if row.produces.most:
            events.append(f"m{len(events)}")
            node["produces"] = events[-1:]
        nodes.append(node)
    return names, events, nodes


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_agree_with_density_matrices(seed: int) -> None:
    names, events, nodes = random_any(np.random.default_rng(seed))
    found = probabilities(names, events, nodes)
    assert found == pytest.approx(matrix_probabilities(nodes, names, events), abs=1e-11)


def test_injected_t_state_agrees_with_density_matrices() -> None:
    nodes = [
        op("INJECT_T_STATE", "b"),
        op("APPLY_H", "a"),
        op("APPLY_CNOT", "a", "b"),
        op("MEASURE_X", "b", to=["m"]),
        op("MEASURE_ANGLE", "a", to=["n"], angle=0.7),
    ]
    found = probabilities(["a", "b"], ["m", "n"], nodes)
    assert found == pytest.approx(matrix_probabilities(nodes, ["a", "b"], ["m", "n"]), abs=1e-12)


# Closed forms.


@pytest.mark.parametrize("theta", [-2.0, 0.3, math.pi / 3, 3.0])
def test_rotation_by_theta_gives_one_with_probability_sine_squared_of_half(theta: float) -> None:
    for axis in "XY":
        nodes = [op(f"APPLY_R{axis}", "q", theta=theta), op("MEASURE_Z", "q", to=["m"])]
        found = probabilities(["q"], ["m"], nodes)
        assert found["1"] == pytest.approx(math.sin(theta / 2) ** 2)


def test_z_rotation_turns_plus_towards_plus_i() -> None:
    nodes = [
        op("APPLY_H", "q"),
        op("APPLY_RZ", "q", theta="pi/2"),
        op("MEASURE_Y", "q", to=["m"]),
    ]
    assert probabilities(["q"], ["m"], nodes) == pytest.approx({"0": 1.0})


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.1, 2.5])
def test_zero_measured_at_an_angle_gives_zero_with_cosine_squared_of_half(angle: float) -> None:
    nodes = [op("MEASURE_ANGLE", "q", to=["m"], angle=angle)]
    assert probabilities(["q"], ["m"], nodes)["0"] == pytest.approx(math.cos(angle / 2) ** 2)


def test_two_t_gates_are_an_s_gate() -> None:
    nodes = [op("APPLY_H", "q"), op("APPLY_T", "q"), op("APPLY_T", "q")]
    nodes += [op("MEASURE_Y", "q", to=["m"])]
    assert probabilities(["q"], ["m"], nodes) == pytest.approx({"0": 1.0})


def test_chsh_on_a_bell_pair_reaches_two_root_two() -> None:
    total = 0.0
    for a, b in product((0, 1), repeat=2):
        nodes = [
            op("APPLY_H", "a"),
            op("APPLY_CNOT", "a", "b"),
            op("MEASURE_ANGLE", "a", to=["x"], angle=a * math.pi / 2),
            op("MEASURE_ANGLE", "b", to=["y"], angle=(1 - 2 * b) * math.pi / 4),
        ]
        found = probabilities(["a", "b"], ["x", "y"], nodes)
        same = found.get("00", 0) + found.get("11", 0)
        total += (2 * same - 1) * (-1 if a and b else 1)
    assert total == pytest.approx(2 * math.sqrt(2))


# Guards, absence and lifetimes.

COIN = [op("APPLY_H", "c"), op("MEASURE_Z", "c", to=["coin"])]
MAYBE = op("MEASURE_Z", "q", to=["maybe"], guard=when("coin", 1))


def test_guard_on_an_absent_event_is_false_for_either_value() -> None:
    nodes = [
        *COIN,
        MAYBE,
        op("APPLY_X", "q", guard=when("maybe", 0)),
        op("APPLY_X", "q", guard=when("maybe", 1)),
        op("MEASURE_Z", "q", to=["end"]),
    ]
    found = probabilities(["c", "q"], ["coin", "maybe", "end"], nodes)
    assert found == pytest.approx({"0-0": 0.5, "101": 0.5})


@pytest.mark.parametrize(("join", "expected"), [("and", "0-0"), ("or", "0-1")])
def test_absent_event_makes_its_own_condition_false_only(join: str, expected: Any) -> None:
    guard = both(("maybe", 0), ("coin", 0), join=join)
    nodes = [*COIN, MAYBE, op("APPLY_X", "q", guard=guard), op("MEASURE_Z", "q", to=["end"])]
    found = probabilities(["c", "q"], ["coin", "maybe", "end"], nodes)
    assert found[expected] == pytest.approx(0.5)


def test_absent_event_counts_as_zero_in_an_exclusive_or() -> None:
    one = [op("APPLY_X", "o"), op("MEASURE_Z", "o", to=["one"])]
    nodes = [
        *COIN,
        *one,
        MAYBE,
        op("COND_PAULI", "q", inputs=["maybe", "one"], pauli="X"),
        op("MEASURE_Z", "q", to=["end"]),
    ]
    found = probabilities(["c", "o", "q"], ["coin", "one", "maybe", "end"], nodes)
    assert found == pytest.approx({"01-1": 0.5, "1101": 0.5})


def test_conditional_pauli_needs_both_its_parity_and_its_guard() -> None:
    nodes = [
        *COIN,
        op("APPLY_H", "d"),
        op("MEASURE_Z", "d", to=["other"]),
        op("COND_PAULI", "q", inputs=["coin"], guard=when("other", 1), pauli="Y"),
        op("MEASURE_Z", "q", to=["end"]),
    ]
    found = probabilities(["c", "d", "q"], ["coin", "other", "end"], nodes)
    assert found == pytest.approx({"000": 0.25, "010": 0.25, "100": 0.25, "111": 0.25})


def test_mask_gives_each_qubit_its_own_pauli() -> None:
    nodes = [
        op("APPLY_X", "c"),
        op("MEASURE_Z", "c", to=["coin"]),
        op("COND_PAULI", "c", "q", "r", inputs=["coin"], mask="XIX"),
        *(op("MEASURE_Z", name, to=[f"m{name}"]) for name in "cqr"),
    ]
    found = probabilities(["c", "q", "r"], ["coin", "mc", "mq", "mr"], nodes)
    assert found == pytest.approx({"1001": 1.0})


def test_freeing_half_a_bell_pair_leaves_a_mixed_qubit_that_allocation_does_not_remember() -> None:
    alloc = {"op": "ALLOC_LQ", "args": {"n": 1, "profile": IDEAL}, "vqs": ["b"]}
    nodes = [
        op("APPLY_H", "a"),
        op("APPLY_CNOT", "a", "b"),
        op("FREE_LQ", "b"),
        alloc,
        op("MEASURE_X", "a", to=["x"]),
        op("MEASURE_Z", "b", to=["z"]),
    ]
    found = probabilities(["a", "b"], ["x", "z"], nodes)
    assert found == pytest.approx({"00": 0.5, "10": 0.5})


def test_measurement_leaves_the_qubits_in_the_bell_state_it_named() -> None:
    nodes = [
        op("MEASURE_BELL", "a", "b", to=["m"]),
        op("MEASURE_BELL", "a", "b", to=["x", "z"]),
        op("MEASURE_Z", "a", to=["p"]),
        op("MEASURE_Z", "b", to=["q"]),
    ]
    found = probabilities(["a", "b"], ["m", "x", "z", "p", "q"], nodes)
    expected = {"00000": 0.25, "00011": 0.25, "21000": 0.25, "21011": 0.25}
    assert found == pytest.approx(expected)


def test_no_record_owns_more_vectors_than_its_qubits_have_dimensions() -> None:
    names = [f"q{i}" for i in range(6)]
    nodes = []
    for _ in range(40):
        for left, right in pairwise(names):
            nodes += [op("APPLY_H", left), op("APPLY_T", left), op("APPLY_CNOT", left, right)]
            nodes += [op("RESET", left)]
    machine = reference._Machine(verified := program(names, [], nodes))
    for index in verified.order:
        machine.run(index)
        assert len(machine.vectors) <= 2 ** len(machine.live)
    assert machine.probabilities() == pytest.approx({"": 1.0})


def test_more_than_twelve_live_qubits_are_refused_with_a_sentence() -> None:
    names = [f"q{i}" for i in range(13)]
    with pytest.raises(ReferenceLimit, match="13 qubits are live"):
        distribution(program(names, [], []))


def test_too_many_branches_are_refused_before_they_are_made() -> None:
    toss = [[op("APPLY_H", "q"), op("MEASURE_Z", "q", to=[f"m{i}"])] for i in range(18)]
    with pytest.raises(ReferenceLimit, match="branches"):
        probabilities(["q"], [f"m{i}" for i in range(18)], [node for pair in toss for node in pair])


def test_channels_are_refused_by_name() -> None:
    graph = program(["a", "b"], [], []).graph
    node = Node(id="open", op="OPEN_CHAN", vqs=["a", "b"], chs=["c"], args={"fidelity": 0.9})
    graph.program.nodes.insert(1, node)
    graph.resources.chs.append("c")
    verified = verify(graph)
    assert isinstance(verified, VerifiedProgram), verified
    with pytest.raises(ReferenceLimit, match="OPEN_CHAN"):
        distribution(verified)
