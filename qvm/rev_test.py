from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from qvm.angles import angle_radians
from qvm.isa import OPS
from qvm.program import Body, Node, VerifiedProgram
from qvm.random_programs import random_program
from qvm.reference import distribution
from qvm.rev import NotUndoable, Segment, inverse, rev_segments, uncomputed
from qvm.verify import verify, verify_bytes

State = NDArray[np.complex128]
Json = dict[str, Any]

PAULI = {
    "I": np.eye(2, dtype=np.complex128),
    "X": np.array([[0, 1], [1, 0]], dtype=np.complex128),
    "Y": np.array([[0, -1j], [1j, 0]], dtype=np.complex128),
    "Z": np.diag([1, -1]).astype(np.complex128),
}


def verified(document: Json) -> VerifiedProgram:
    program = verify_bytes(json.dumps(document).encode())
    assert isinstance(program, VerifiedProgram), program
    return program


def program(*nodes: Json) -> VerifiedProgram:
    return verified(
        {
            "version": "0.1",
            "program": {"nodes": [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]},
            "resources": {"vqs": ["a", "b"], "events": ["m"]},
        }
    )


ALLOC: Json = {"op": "ALLOC_LQ", "vqs": ["a", "b"], "args": {"n": 2, "profile": "logical:ideal"}}
S: Json = {"op": "APPLY_S", "vqs": ["a"]}
M: Json = {"op": "MEASURE_Z", "vqs": ["a"], "produces": ["m"]}


def spans(found: VerifiedProgram) -> list[tuple[int, int, int]]:
    return [(each.first, each.last, each.epoch) for each in rev_segments(found)]


def test_segments_are_the_longest_runs_between_what_cannot_be_undone() -> None:
    fence = {"op": "FENCE_EPOCH"}
    barrier = {"op": "BAR_REGION", "vqs": ["a"], "args": {"tag": "t"}}
    found = program(ALLOC, S, M, S, S, fence, S, barrier, S)
    assert spans(found) == [(0, 1, 0), (3, 4, 0), (6, 6, 1), (8, 8, 1)]


def test_no_irreversible_op_stands_in_a_segment_and_no_reversible_one_outside() -> None:
    for seed in range(200):
        document = random_program(random.Random(seed), magic=True, angles=True, channels=True)
        found = verified(document)
        ops = [document["program"]["nodes"][index]["op"] for index in found.order]
        inside = {
            position for first, last, _ in spans(found) for position in range(first, last + 1)
        }
        assert inside == {at for at, op in enumerate(ops) if OPS[op].reversible}


def test_the_inverse_runs_backwards_with_the_same_guards() -> None:
    guard = {"event": "m", "equals": 1}
    rotate = {"op": "APPLY_RX", "vqs": ["b"], "args": {"theta": "pi/2"}, "guard": guard}
    found = program({**ALLOC}, M, S, rotate)
    undo = inverse(rev_segments(found)[1])
    assert [node.op for node in undo] == ["APPLY_RX", "APPLY_SDG"]
    assert undo[0].args == {"theta": -np.pi / 2}
    assert undo[0].guard == found.graph.program.nodes[3].guard


def test_an_allocation_is_undone_by_freeing_the_same_qubits() -> None:
    undo = inverse(rev_segments(program(ALLOC, S))[0])
    assert [(node.op, node.vqs) for node in undo] == [("APPLY_SDG", ["a"]), ("FREE_LQ", ["a", "b"])]
    assert not undo[1].args


def test_a_segment_and_its_inverse_leave_any_state_as_it_was() -> None:
    segments = 0
    for seed in range(200):
        rng = random.Random(seed)
        document = random_program(rng, qubits_max=4, magic=True, angles=True)
        found = verified(document)
        names = document["resources"]["vqs"]
        true = {event for event in document["resources"]["events"] if rng.random() < 0.5}
        start = np.random.default_rng(seed).normal(size=2 * 2 ** len(names)).view(np.complex128)
        start /= np.linalg.norm(start)
        for segment in rev_segments(found):
            state = start
            for node in (*segment.nodes, *inverse(segment)):
                state = apply(state, node, names, true)
            assert np.allclose(state, start, atol=1e-9)
            segments += 1
    assert segments > 500


def without(found: VerifiedProgram, segment: Segment) -> VerifiedProgram:
    """The program as if the segment had never been; what it allocates is never freed either."""
    nodes = [found.graph.program.nodes[index] for index in found.order]
    rest = [*nodes[: segment.first], *nodes[segment.last + 1 :]]
    graph = msgspec.structs.replace(found.graph, program=Body(rest))
    result = verify(graph)
    assert isinstance(result, VerifiedProgram), result
    return result


def test_a_program_with_a_segment_undone_is_the_program_without_it() -> None:
    """By the exact interpreter: the same distribution, and every witness is 0 with certainty."""
    checked = 0
    for seed in range(60):
        document = random_program(random.Random(seed), qubits_max=4, magic=True, angles=True)
        found = verified(document)
        for segment in rev_segments(found):
            if any(node.op == "ALLOC_LQ" for node in segment.nodes):
                continue
            undone = verify(uncomputed(found, segment, _next(found, segment), witness=True))
            assert isinstance(undone, VerifiedProgram), undone
            one = distribution(undone).probabilities
            two = distribution(without(found, segment)).probabilities
            assert one.keys() | two.keys() == {
                key for key in one.keys() | two.keys()
                if abs(one.get(key, 0) - two.get(key, 0)) < 1e-9
            }  # fmt: skip
            checked += 1
    assert checked > 50


def _next(found: VerifiedProgram, segment: Segment) -> str | None:
    """The node that runs just after the segment."""
    after = [found.graph.program.nodes[index] for index in found.order][segment.last + 1 :]
    return after[0].id if after else None


FREE: Json = {"op": "FREE_LQ", "vqs": ["a", "b"]}
CNOT: Json = {"op": "APPLY_CNOT", "vqs": ["a", "b"]}


def scratch(*between: Json) -> VerifiedProgram:
    """Qubits `a`, `b` are computed on, and `out` is all that is to be left."""
    alloc: Json = {"op": "ALLOC_LQ", "vqs": ["out"], "args": {"n": 1, "profile": "logical:ideal"}}
    barrier: Json = {"op": "BAR_REGION", "vqs": [], "args": {"tag": "computed"}}
    nodes = [
        alloc, {"op": "FENCE_EPOCH"},
        ALLOC, {"op": "APPLY_H", "vqs": ["a"]}, {"op": "APPLY_T", "vqs": ["a"]}, CNOT, barrier,
        *between, FREE, {"op": "MEASURE_Z", "vqs": ["out"], "produces": ["m"]},
    ]  # fmt: skip
    return verified(
        {
            "version": "0.1",
            "program": {"nodes": [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]},
            "resources": {"vqs": ["a", "b", "out"], "events": ["m", "k"]},
        }
    )


def test_scratch_qubits_come_back_clean_and_are_freed_once() -> None:
    copy: Json = {"op": "APPLY_CNOT", "vqs": ["b", "out"]}
    found = scratch(copy, copy)
    graph = uncomputed(found, rev_segments(found)[1], witness=True)
    undone = verify(graph)
    assert isinstance(undone, VerifiedProgram), undone
    ops = [node.op for node in graph.program.nodes]
    assert ops[-7:] == [
        "APPLY_CNOT", "APPLY_TDG", "APPLY_H", "MEASURE_Z", "MEASURE_Z", "FREE_LQ", "MEASURE_Z",
    ]  # fmt: skip
    assert distribution(undone).probabilities == {"0-00": pytest.approx(1.0)}


def test_a_witness_tells_where_a_qubit_does_not_come_back_clean() -> None:
    found = scratch({"op": "APPLY_CNOT", "vqs": ["b", "out"]})
    undone = verify(uncomputed(found, rev_segments(found)[1], witness=True))
    assert isinstance(undone, VerifiedProgram), undone
    dirty = sum(
        chance for key, chance in distribution(undone).probabilities.items() if "1" in key[2:]
    )
    assert dirty == pytest.approx(0.5), "the copy is still entangled with what was undone"


def test_what_was_measured_in_between_is_not_undone() -> None:
    found = scratch({"op": "MEASURE_Z", "vqs": ["b"], "produces": ["k"]})
    with pytest.raises(NotUndoable, match="'n7' does what cannot be undone to 'b'"):
        uncomputed(found, rev_segments(found)[1])


def test_what_is_used_afterwards_is_not_undone() -> None:
    found = scratch({"op": "APPLY_CNOT", "vqs": ["b", "out"]})
    with pytest.raises(NotUndoable, match="'n7' still uses 'b'"):
        uncomputed(found, rev_segments(found)[1], before="n7")
    with pytest.raises(NotUndoable, match="comes before the segment has ended"):
        uncomputed(found, rev_segments(found)[1], before="n3")
    with pytest.raises(KeyError):
        uncomputed(found, rev_segments(found)[1], before="nowhere")


def apply(state: State, node: Node, names: list[str], true: set[str]) -> State:
    """The node on a vector whose least significant bit is the first name. Lifetimes do nothing."""
    if OPS[node.op].kind == "lifetime" or not holds(node, true):
        return state
    qubits = [names.index(name) for name in node.vqs or ()]
    args = node.args or {}
    if node.op == "COND_PAULI":
        letters = args.get("pauli") or args["mask"]
        for letter, qubit in zip(letters * (len(qubits) // len(letters)), qubits, strict=True):
            state = act(state, PAULI[letter], [qubit])
        return state
    matrix = OPS[node.op].matrix
    if matrix is not None:
        return act(state, np.array(matrix, dtype=np.complex128), qubits)
    theta = angle_radians(args["theta"])
    assert isinstance(theta, float)
    rotation = np.cos(theta / 2) * PAULI["I"] - 1j * np.sin(theta / 2) * PAULI[node.op[-1]]
    return act(state, rotation, qubits)


def holds(node: Node, true: set[str]) -> bool:
    if node.inputs and node.op == "COND_PAULI" and len(set(node.inputs) & true) % 2 == 0:
        return False
    guard = node.guard
    if not guard:
        return True
    if guard.event:
        return (guard.event in true) == bool(guard.equals)
    tests = [
        (each.event in true) == bool(each.equals or each.value) for each in guard.conditions or ()
    ]
    return any(tests) if guard.type == "or" else all(tests)


def act(state: State, matrix: State, qubits: list[int]) -> State:
    """matrix on those bits of the index, the first of them least significant."""
    result = np.zeros_like(state)
    for index, amplitude in enumerate(state):
        column = sum((index >> qubit & 1) << at for at, qubit in enumerate(qubits))
        rest = index & ~sum(1 << qubit for qubit in qubits)
        for row in range(2 ** len(qubits)):
            target = rest | sum((row >> at & 1) << qubit for at, qubit in enumerate(qubits))
            result[target] += matrix[row, column] * amplitude
    return result
