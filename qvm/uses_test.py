"""Nodes that may consume pairs: where their ends lie, what is asked, how old pairs are, by hand."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from qvm import uses
from qvm.program import HELD, PairUse, Span, Summary, VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.verify import verify_bytes

Json = dict[str, Any]


def summary(*listed: Json) -> Summary:
    """A program of these nodes; what they name is declared."""
    nodes = [{"id": f"n{at}", **node} for at, node in enumerate(listed)]
    resources = {
        "vqs": list(dict.fromkeys(name for node in listed for name in node.get("vqs", ()))),
        "chs": list(dict.fromkeys(name for node in listed for name in node.get("chs", ()))),
        "events": [name for node in listed for name in node.get("produces", ())],
    }
    text = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    found = verify_bytes(json.dumps(text).encode())
    assert isinstance(found, VerifiedProgram), found
    return found.summary


def alloc(*names: str, profile: str = "Surface(d=3)") -> Json:
    args = {"n": len(names), "profile": f"logical:{profile}"}
    return {"op": "ALLOC_LQ", "vqs": list(names), "args": args}


def op(name: str, *qubits: str, **more: Any) -> Json:
    return {"op": name, "vqs": list(qubits), **more}


def opened(channel: str, one: str, two: str, **args: Any) -> Json:
    return op("OPEN_CHAN", one, two, chs=[channel], args=args or {"fidelity": 0.99})


def used(channel: str, *qubits: str, semantic: str = "teleport_cnot") -> Json:
    return op("USE_CHAN", *qubits, chs=[channel], args={"semantic": semantic})


def ages(*listed: Json) -> list[int]:
    return [use.age for use in summary(*listed).uses]


def test_a_program_without_pairs_has_nothing_to_say_of_them() -> None:
    plain = summary(alloc("a", "b"), op("APPLY_CNOT", "a", "b"))
    assert (plain.uses, plain.uses_left_out, plain.joined) == ((), 0, ())


def test_each_use_names_its_ends_and_what_was_asked_of_its_channel() -> None:
    found = summary(
        alloc("a", "b", "c"),
        alloc("d", profile="Surface(d=5)"),
        opened("x", "a", "d", fidelity=0.999, type="DEJMPS"),
        opened("y", "b", "c", opts={}),
        used("x", "a", "d"),
        used("y", "c", "b", semantic="teleport_state"),
        op("TELEPORT_CNOT", "d", "c"),
    )
    assert found.uses == (
        PairUse(4, ((1, 0), (0, 0)), "x", 0.999, "DEJMPS", 0),
        PairUse(5, ((1, 2), (1, 1)), "y", 0.0, "", 0),
        PairUse(6, ((0, 0), (1, 2)), "", 0.0, "", 0),
    )


def test_with_one_qubit_the_ends_are_those_of_the_channel() -> None:
    found = summary(
        alloc("a", "b", "c"), opened("x", "a", "b"), used("x", "c", semantic="teleport_state")
    )
    assert [use.ends for use in found.uses] == [((0, 0), (0, 1))]


def test_a_pair_is_as_old_as_its_channel_is_open_or_unused() -> None:
    wait = [op("APPLY_H", "a")] * 4
    assert ages(alloc("a", "b"), opened("x", "a", "b"), *wait, used("x", "a", "b")) == [4]
    assert ages(alloc("a", "b"), *wait, opened("x", "a", "b"), used("x", "a", "b")) == [0]
    again = [used("x", "a", "b"), *wait[:2], used("x", "a", "b"), used("x", "a", "b")]
    assert ages(alloc("a", "b"), opened("x", "a", "b"), *again) == [0, 2, 0]


def test_what_others_do_meanwhile_makes_no_pair_older_but_a_fence_waits_for_it() -> None:
    busy = [op("APPLY_H", "c")] * 5
    start = [alloc("a", "b", "c"), opened("x", "a", "b")]
    assert ages(*start, *busy, used("x", "a", "b")) == [0]
    assert ages(*start, *busy, {"op": "FENCE_EPOCH"}, used("x", "a", "b")) == [5]


def test_a_guard_waits_for_its_event() -> None:
    measured = [op("APPLY_H", "c"), op("MEASURE_Z", "c", produces=["m"])]
    use = used("x", "a", "b") | {"guard": {"event": "m", "equals": 1}}
    assert ages(alloc("a", "b", "c"), opened("x", "a", "b"), *measured, use) == [2]


def test_blocks_that_operations_join_are_of_one_group_and_pairs_join_none() -> None:
    found = summary(
        alloc(*"abcdef"),
        op("APPLY_CNOT", "a", "b"),
        op("MEASURE_BELL", "d", "e", produces=["m", "n"]),
        op("COND_PAULI", "e", "f", inputs=["m"], args={"pauli": "XX"}),
        op("TELEPORT_CNOT", "b", "c"),
    )
    assert found.joined == (
        Span(0, 0, 2, 0),
        Span(0, 2, 1, uses.ALONE),
        Span(0, 3, 2, 1),
        Span(0, 5, 1, uses.ALONE),
    )


def test_qubits_that_a_session_holds_are_ends_by_the_number_of_their_handle() -> None:
    one, two = f"vq_{'0' * 31}a", f"vq_{'0' * 31}1"
    found = summary(alloc(one, two, "a"), op("APPLY_CZ", one, "a"), op("TELEPORT_CNOT", one, two))
    assert found.uses[0].ends == ((HELD, 1), (HELD, 0))
    assert found.joined == (Span(0, 0, 1, 0), Span(HELD, 0, 1, uses.ALONE), Span(HELD, 1, 1, 0))


def test_no_more_uses_are_kept_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "USES_MAX", 3)
    many = [op("TELEPORT_CNOT", "a", "b")] * 5
    found = summary(alloc("a", "b"), *many)
    assert (len(found.uses), found.uses_left_out) == (3, 2)
    apart = alloc(*"abcdefgh")
    cnots = [op("APPLY_CNOT", *pair) for pair in ("ah", "bg", "cf")]
    found = summary(apart, *cnots, *many[:2])
    assert (found.uses, found.uses_left_out) == ((), 2), "there are too many spans of blocks"


@pytest.mark.parametrize("seed", range(30))
def test_of_random_programs_every_use_is_kept_with_a_home_of_its_time(seed: int) -> None:
    raw = json.dumps(shaped_program(random.Random(seed), Shape(channels=True))).encode()
    program = verify_bytes(raw)
    assert isinstance(program, VerifiedProgram)
    nodes, found = program.graph.program.nodes, program.summary
    expected = [at for at in program.order if nodes[at].op in uses.CONSUMING]
    assert [use.node for use in found.uses] == expected
    blocks = [(kind, at) for kind, each in enumerate(found.blocks) for at in range(each.number)]
    for use in found.uses:
        assert {*use.ends} <= set(blocks)
        assert use.age >= 0
    if expected:
        spans = found.joined
        assert [(one.kind, one.first + at) for one in spans for at in range(one.number)] == blocks


def test_a_summary_with_uses_is_stored_and_read_back() -> None:
    made = summary(alloc("a", "b"), opened("x", "a", "b"), used("x", "a", "b"))
    assert made.uses
    for coder in (msgspec.json, msgspec.msgpack):
        assert coder.decode(coder.encode(made), type=Summary) == made
