from __future__ import annotations

import json
import random
from typing import Any

from qvm.lower import lower
from qvm.program import Lowered, LoweredGuard, Step, VerifiedProgram
from qvm.random_programs import random_program
from qvm.verify import verify_bytes

Json = dict[str, Any]


def alloc(*vqs: str, profile: str = "logical:ideal") -> Json:
    return {"op": "ALLOC_LQ", "vqs": list(vqs), "args": {"n": len(vqs), "profile": profile}}


def lowered(*nodes: Json, events: tuple[str, ...] = ()) -> Lowered:
    names = dict.fromkeys(name for node in nodes for name in node.get("vqs", ()))
    chs = dict.fromkeys(name for node in nodes for name in node.get("chs", ()))
    document = {
        "version": "0.1",
        "program": {"nodes": [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]},
        "resources": {"vqs": list(names), "chs": list(chs), "events": list(events)},
    }
    program = verify_bytes(json.dumps(document).encode())
    assert isinstance(program, VerifiedProgram), program
    return lower(program)


def test_the_lowest_free_slot_is_taken_first() -> None:
    made = lowered(
        alloc("a", "b", "c"),
        {"op": "FREE_LQ", "vqs": ["c", "a"]},
        alloc("x", "y", "z"),
        {"op": "APPLY_CNOT", "vqs": ["z", "x"]},
    )
    assert [step.qubits for step in made.steps] == [(0, 1, 2), (2, 0), (0, 2, 3), (3, 0)]
    assert made.slots == 4


def test_events_have_the_numbers_of_their_declaration() -> None:
    made = lowered(
        alloc("a", "b"),
        {"op": "MEASURE_BELL", "vqs": ["b", "a"], "produces": ["k", "m"]},
        {"op": "COND_PAULI", "vqs": ["a", "b"], "args": {"mask": "Y"}, "inputs": ["m", "k"]},
        {
            "op": "COND_PAULI",
            "vqs": ["a", "b"],
            "args": {"pauli": "XZ"},
            "guard": {"event": "k", "equals": 0},
        },
        events=("m", "k"),
    )
    measure, parity, guarded = made.steps[1:]
    assert measure == Step(op="MEASURE_BELL", node=1, epoch=0, qubits=(1, 0), events=(1, 0))
    assert (parity.pauli, parity.xor, parity.guard) == ("YY", (0, 1), None)
    assert (guarded.pauli, guarded.xor) == ("XZ", ())
    assert guarded.guard == LoweredGuard(any=False, tests=((1, 0),))


def test_guards_keep_their_order_and_their_connective() -> None:
    conditions = [{"event": "k", "value": 3}, {"event": "m", "equals": 0}]
    made = lowered(
        alloc("a", "b"),
        {"op": "MEASURE_BELL", "vqs": ["a", "b"], "produces": ["k"]},
        {"op": "MEASURE_Z", "vqs": ["a"], "produces": ["m"]},
        {"op": "APPLY_H", "vqs": ["a"], "guard": {"type": "or", "conditions": conditions}},
        {"op": "APPLY_H", "vqs": ["a"], "guard": {"type": "and", "conditions": conditions}},
        events=("m", "k"),
    )
    tests = ((1, 3), (0, 0))
    assert made.steps[3].guard == LoweredGuard(any=True, tests=tests)
    assert made.steps[4].guard == LoweredGuard(any=False, tests=tests)
    assert [field.bits for field in made.events] == [1, 2]


def test_steps_stand_in_execution_order_with_their_epochs_and_angles() -> None:
    made = lowered(
        alloc("a", "b", profile="logical:surface(d=4)"),
        {"op": "APPLY_X", "vqs": ["b"], "guard": {"event": "m", "equals": 1}},
        {"op": "MEASURE_ANGLE", "vqs": ["a"], "produces": ["m"], "args": {"angle": "1/4"}},
        {"op": "FENCE_EPOCH"},
        {"op": "FREE_LQ", "vqs": ["a"]},
        events=("m",),
    )
    assert [(step.node, step.epoch) for step in made.steps] == [
        (0, 0),
        (2, 0),
        (1, 0),
        (3, 0),
        (4, 1),
    ]
    assert made.steps[1].angle == 0.25
    assert made.epochs == 2
    assert {node: each.distance for node, each in made.alloc_profiles.items()} == {0: 4}


def test_a_used_channel_becomes_the_ops_that_it_comes_to() -> None:
    use = {"op": "USE_CHAN", "vqs": ["a", "b"], "chs": ["c"]}
    made = lowered(
        alloc("a", "b"),
        {"op": "OPEN_CHAN", "vqs": ["a", "b"], "chs": ["c"], "args": {"opts": {}}},
        {**use, "args": {"semantic": "teleport_cnot"}},
        {**use, "args": {"semantic": "teleport_state"}},
        {**use, "args": {"semantic": "teleport_state"}, "vqs": ["a"]},
    )
    assert [(step.op, step.qubits, step.node) for step in made.steps[2:]] == [
        ("APPLY_CNOT", (0, 1), 2),
        ("RESET", (1,), 3),
        ("APPLY_SWAP", (0, 1), 3),
        ("BAR_REGION", (0,), 4),
    ]


def test_slots_are_as_many_as_are_ever_live_at_once() -> None:
    for seed in range(300):
        document = random_program(random.Random(seed), magic=True, angles=True, channels=True)
        program = verify_bytes(json.dumps(document).encode())
        assert isinstance(program, VerifiedProgram)
        made = lower(program)
        live = peak = 0
        for index in program.order:
            node = document["program"]["nodes"][index]
            change = {"ALLOC_LQ": 1, "FREE_LQ": -1}.get(node["op"], 0)
            live += change * len(node.get("vqs", ()))
            peak = max(peak, live)
        assert made.slots == peak
        assert made == lower(program)
