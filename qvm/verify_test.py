"""Breaks every rule once, in the smallest program that breaks it, and checks where it is found."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import random
import time
from typing import Any

import msgspec
import pytest

from qvm import isa
from qvm.findings import RULES, WARNINGS
from qvm.lower import lower
from qvm.profiles import parse_profile
from qvm.program import Graph, Summary, VerifiedProgram
from qvm.random_programs import random_program
from qvm.summary import program_digest
from qvm.verify import DEPTH_MAX, verify, verify_bytes
from syscalls.findings import FINDINGS_MAX, Finding

Json = dict[str, Any]

ALLOC: Json = {
    "op": "ALLOC_LQ",
    "vqs": ["a", "b"],
    "args": {"n": 2, "profile": "logical:Surface(d=3)"},
}
FREE: Json = {"op": "FREE_LQ", "vqs": ["a", "b"]}
H: Json = {"op": "APPLY_H", "vqs": ["a"]}
M: Json = {"op": "MEASURE_Z", "vqs": ["a"], "produces": ["m"]}
BELL: Json = {"op": "MEASURE_BELL", "vqs": ["a", "b"], "produces": ["m"]}
IF_M: Json = {"event": "m", "equals": 1}
FENCE: Json = {"op": "FENCE_EPOCH"}
T: Json = {"op": "INJECT_T_STATE", "vqs": ["a"]}
OPEN: Json = {"op": "OPEN_CHAN", "vqs": ["a", "b"], "chs": ["c"], "args": {"fidelity": 0.9}}
USE: Json = {
    "op": "USE_CHAN",
    "vqs": ["a", "b"],
    "chs": ["c"],
    "args": {"semantic": "teleport_cnot"},
}
CLOSE: Json = {"op": "CLOSE_CHAN", "chs": ["c"]}
PAULI: Json = {"op": "COND_PAULI", "vqs": ["a"], "args": {"pauli": "X"}, "inputs": ["m"]}
ROTATE: Json = {"op": "APPLY_RX", "vqs": ["a"], "args": {"theta": 1}}


def graph(*nodes: Json, **changes: Any) -> Json:
    """A program that declares what its nodes name; `resources__vqs=...` overrides."""
    named: dict[str, dict[str, None]] = {"vqs": {}, "chs": {}, "events": {}}
    for node in nodes:
        for kind, field in (("vqs", "vqs"), ("chs", "chs"), ("events", "produces")):
            named[kind] |= dict.fromkeys(node.get(field, ()))
    made: Json = {
        "version": "0.1",
        "program": {"nodes": [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]},
        "resources": {kind: list(names) for kind, names in named.items()},
    }
    made = copy.deepcopy(made)
    for name, value in changes.items():
        place = made
        *outer, last = name.split("__")
        for each in outer:
            place = place[each]
        place[last] = value
    return made


def guarded(**guard: Any) -> Json:
    """A, measured into m, and a gate under that guard as node 2."""
    return graph(ALLOC, M, {**H, "guard": guard})


def check(document: Json) -> VerifiedProgram | list[Finding]:
    return verify_bytes(msgspec.json.encode(document))


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


N0 = "$.program.nodes[0]"
N1 = "$.program.nodes[1]"
N2 = "$.program.nodes[2]"

# Rule, path, broken program. Every other rule is kept, but for warnings.
BAD: list[tuple[str, str, Json]] = [
    ("structure.type", "$.resources.vqs", graph(resources__vqs=3)),
    ("structure.type", f"{N0}.vqs[1]", graph({**ALLOC, "vqs": ["a", 2]}, resources__vqs=["a"])),
    ("structure.type", f"{N1}.guard.equals", graph(ALLOC, {**H, "guard": {**IF_M, "equals": 1.0}})),
    (
        "structure.type",
        f"{N1}.guard.equals",
        graph(ALLOC, {**H, "guard": {**IF_M, "equals": True}}),
    ),
    ("structure.missing", "$", {"version": "0.1", "program": {"nodes": []}}),
    ("structure.missing", N0, graph({"vqs": []})),
    ("structure.unknown_field", f"{N1}.gard", graph(ALLOC, {**H, "gard": IF_M})),
    ("structure.unknown_field", '$["not a word"]', graph(**{"not a word": 1})),
    ("structure.name", f"{N0}.id", graph({**FENCE, "id": ""})),
    ("structure.name", f"{N0}.id", graph({**FENCE, "id": "x" * (isa.NAME_CHARS_MAX + 1)})),
    ("structure.name", "$.resources.vqs[0]", graph(resources__vqs=["a\n"])),
    ("structure.name", "$.resources.events[0]", graph(resources__events=["right\u202eleft"])),
    ("bounds.depth", "$.metadata", graph(metadata={"x": deep(DEPTH_MAX + 1)})),
    ("bounds.depth", f"{N0}.metadata", graph({**FENCE, "metadata": {"x": deep(DEPTH_MAX)}})),
    (
        "bounds.conditions",
        f"{N2}.guard.conditions",
        graph(
            ALLOC,
            M,
            {**H, "guard": {"type": "or", "conditions": [IF_M] * (isa.CONDITIONS_MAX + 1)}},
        ),
    ),
    ("version.unknown", "$.version", graph(version="0.2")),
    ("version.unknown", "$.version", graph(version="1", resources__vqs=3)),
    ("op.unknown", f"{N0}.op", graph({"op": "APPLY_FOO"})),
    ("op.unknown", f"{N1}.op", graph(ALLOC, {**M, "op": "measure_z"}, {**H, "guard": IF_M})),
    ("node.duplicate_id", f"{N1}.id", graph(FENCE, {**FENCE, "id": "n0"})),
    ("resource.duplicate", "$.resources.vqs[1]", graph(resources__vqs=["a", "a"])),
    ("resource.duplicate", "$.resources.chs[0]", graph(ALLOC, resources__chs=["a"])),
    ("resource.undeclared", f"{N1}.vqs[0]", graph(ALLOC, H, resources__vqs=["b", "x"])),
    ("resource.undeclared", f"{N1}.produces[0]", graph(ALLOC, M, resources__events=[])),
    ("resource.undeclared", f"{N1}.chs[0]", graph(ALLOC, OPEN, resources__chs=[])),
    ("resource.undeclared", f"{N1}.guard", graph(ALLOC, {**H, "guard": IF_M})),
    ("resource.undeclared", f"{N1}.inputs[0]", graph(ALLOC, PAULI)),
    ("operand.count", f"{N1}.vqs", graph(ALLOC, {"op": "APPLY_CNOT", "vqs": ["a"]})),
    ("operand.count", N0, graph({"op": "APPLY_H"})),
    ("operand.count", N1, graph(ALLOC, {"op": "MEASURE_Z", "vqs": ["a"]})),
    ("operand.count", f"{N1}.produces", graph(ALLOC, {**H, "produces": ["m"]})),
    ("operand.count", f"{N1}.produces", graph(ALLOC, {**M, "produces": ["m", "k"]})),
    ("operand.count", f"{N1}.chs", graph(ALLOC, {**H, "chs": ["c"]})),
    ("operand.count", f"{N2}.inputs", graph(ALLOC, M, {**H, "inputs": ["m"]})),
    (
        "operand.count",
        "$.program.nodes[3].inputs",
        graph(ALLOC, M, {**M, "produces": ["k"]}, {**H, "guard": IF_M, "inputs": ["m", "k"]}),
    ),
    ("operand.count", f"{N2}.vqs", graph(ALLOC, OPEN, {**USE, "vqs": ["a"]})),
    ("operand.repeated", f"{N1}.vqs[1]", graph(ALLOC, {"op": "APPLY_CZ", "vqs": ["a", "a"]})),
    ("operand.repeated", f"{N2}.inputs[1]", graph(ALLOC, M, {**PAULI, "inputs": ["m", "m"]})),
    ("arg.missing", f"{N0}.args", graph({**ALLOC, "args": {"n": 2}})),
    ("arg.missing", N1, graph(ALLOC, {"op": "BAR_REGION", "vqs": ["a"]})),
    ("arg.missing", f"{N0}.args", graph({"op": "SET_POLICY", "args": {}})),
    (
        "guard.forbidden",
        f"{N2}.guard",
        graph(ALLOC, M, {"op": "SET_POLICY", "args": {"priority": 1}, "guard": IF_M}),
    ),
    ("arg.missing", f"{N1}.args", graph(ALLOC, {**OPEN, "args": {"type": "bell"}})),
    ("arg.unknown", f"{N1}.args.theta", graph(ALLOC, {**H, "args": {"theta": 1}})),
    ("arg.unknown", f"{N1}.args.opts.foo", graph(ALLOC, {**OPEN, "args": {"opts": {"foo": 1}}})),
    ("arg.type", f"{N0}.args.n", graph({**ALLOC, "args": {**ALLOC["args"], "n": 2.0}})),
    ("arg.type", f"{N0}.args.n", graph({**ALLOC, "args": {**ALLOC["args"], "n": True}})),
    ("arg.type", f"{N0}.args.profile", graph({**ALLOC, "args": {"n": 2, "profile": 3}})),
    (
        "arg.type",
        f"{N1}.args.angle",
        graph(ALLOC, {**M, "op": "MEASURE_ANGLE", "args": {"angle": None}}),
    ),
    ("arg.type", f"{N1}.args.opts", graph(ALLOC, {**OPEN, "args": {"opts": []}})),
    ("arg.range", f"{N0}.args.n", graph({**ALLOC, "args": {**ALLOC["args"], "n": 3}})),
    ("arg.range", f"{N0}.args.n", graph({**ALLOC, "args": {**ALLOC["args"], "n": 10**4000}})),
    ("arg.range", f"{N0}.args.tag", graph({"op": "BAR_REGION", "args": {"tag": "x" * 257}})),
    ("arg.range", f"{N1}.args.fidelity", graph(ALLOC, {**OPEN, "args": {"fidelity": 0.4}})),
    ("arg.range", f"{N2}.args.pauli", graph(ALLOC, M, {**PAULI, "args": {"pauli": "XX"}})),
    ("arg.choice", f"{N2}.args.semantic", graph(ALLOC, OPEN, {**USE, "args": {"semantic": "x"}})),
    ("arg.choice", f"{N2}.args.mask", graph(ALLOC, M, {**PAULI, "args": {"mask": "x"}})),
    ("arg.group", f"{N2}.args", graph(ALLOC, M, {**PAULI, "args": {"mask": "X", "pauli": "X"}})),
    ("arg.group", f"{N2}.args", graph(ALLOC, M, {**PAULI, "args": {}})),
    ("arg.group", f"{N1}.args", graph(ALLOC, {**OPEN, "args": {"opts": {}, "fidelity": 0.9}})),
    (
        "angle.expression",
        f"{N1}.args.angle",
        graph(ALLOC, {**M, "op": "MEASURE_ANGLE", "args": {"angle": "exit()"}}),
    ),
    ("profile.unknown", f"{N0}.args.profile", graph({**ALLOC, "args": {"n": 2, "profile": "x"}})),
    ("rotation.not_ideal", f"{N1}.vqs[0]", graph(ALLOC, ROTATE)),
    ("lifetime.not_live", f"{N0}.vqs[0]", graph(H)),
    ("lifetime.not_live", f"{N0}.vqs[1]", graph(FREE)),
    ("lifetime.not_live", f"{N2}.vqs[0]", graph(ALLOC, FREE, H)),
    ("lifetime.double_alloc", f"{N1}.vqs[0]", graph(ALLOC, ALLOC)),
    ("lifetime.double_free", f"{N2}.vqs[1]", graph(ALLOC, FREE, FREE)),
    ("magic.not_fresh", f"{N2}.vqs[0]", graph(ALLOC, H, T)),
    ("magic.not_fresh", f"{N2}.vqs[0]", graph(ALLOC, T, T)),
    (
        "magic.not_fresh",
        "$.program.nodes[3].vqs[0]",
        graph(ALLOC, M, {"op": "RESET", "vqs": ["a"], "guard": IF_M}, T),
    ),
    ("channel.not_open", f"{N1}.chs[0]", graph(ALLOC, USE)),
    ("channel.not_open", "$.program.nodes[3].chs[0]", graph(ALLOC, OPEN, CLOSE, CLOSE)),
    ("channel.double_open", f"{N2}.chs[0]", graph(ALLOC, OPEN, OPEN)),
    ("event.produced_twice", f"{N2}.produces[0]", graph(ALLOC, M, M)),
    ("event.produced_twice", f"{N1}.produces[1]", graph(ALLOC, {**BELL, "produces": ["m", "m"]})),
    (
        "event.never_produced",
        f"{N1}.guard",
        graph(ALLOC, {**H, "guard": IF_M}, resources__events=["m"]),
    ),
    ("event.width", f"{N2}.guard", guarded(**{**IF_M, "equals": 2})),
    ("event.width", f"{N2}.guard", graph(ALLOC, BELL, {**H, "guard": {**IF_M, "equals": 4}})),
    ("event.width", f"{N2}.guard", guarded(**{**IF_M, "equals": -(2**70)})),
    ("event.width", f"{N2}.inputs[0]", graph(ALLOC, BELL, PAULI)),
    (
        "event.width",
        f"{N1}.guard",
        graph(ALLOC, {**H, "vqs": ["b"], "guard": {**IF_M, "equals": 2}}, M),
    ),
    ("guard.forbidden", "$.program.nodes[2].guard", graph(ALLOC, M, {**FREE, "guard": IF_M})),
    ("guard.shape", f"{N2}.guard", guarded()),
    ("guard.shape", f"{N2}.guard", guarded(event="m")),
    ("guard.shape", f"{N2}.guard", guarded(**{**IF_M, "type": "and", "conditions": [IF_M]})),
    ("guard.shape", f"{N2}.guard", guarded(type="xor", conditions=[IF_M])),
    ("guard.shape", f"{N2}.guard", guarded(type="and", conditions=[])),
    (
        "guard.shape",
        f"{N2}.guard.conditions[0]",
        guarded(type="and", conditions=[{**IF_M, "value": 1}]),
    ),
    (
        "guard.nested",
        f"{N2}.guard.conditions[0].type",
        guarded(type="and", conditions=[{"event": "m", "type": "and"}]),
    ),
    ("guard.missing", N1, graph(ALLOC, {**PAULI, "inputs": []})),
    ("caps.unknown", "$.caps[0]", graph(caps=["CAP_FLY"])),
    ("caps.unknown", f"{N0}.caps[0]", graph({**FENCE, "caps": ["CAP_FLY"]})),
    ("caps.missing", f"{N0}.op", graph(ALLOC, FREE, caps=[])),
    ("caps.missing", f"{N0}.caps[0]", graph({**FENCE, "caps": ["CAP_LINK"]}, caps=["CAP_DEBUG"])),
    ("dag.cycle", N1, graph(ALLOC, {**M, "guard": IF_M})),
    ("dag.cycle", N2, graph(ALLOC, {**H, "guard": IF_M}, M)),
    ("dag.cycle", N1, graph(ALLOC, {**H, "vqs": ["b"], "guard": IF_M}, FENCE, M)),
    ("dag.cycle", N0, graph({**FENCE, "guard": IF_M}, ALLOC, M)),
    (
        "dag.cycle",
        N1,
        graph(
            ALLOC,
            {**H, "vqs": ["b"], "guard": IF_M},
            {"op": "BAR_REGION", "args": {"tag": "t"}},
            M,
        ),
    ),
]

# Rules that a small program cannot break, or that JSON cannot.
RAW: list[tuple[str, bytes]] = [
    ("structure.json", b""),
    ("structure.json", b'{"version": NaN}'),
    ("structure.json", b"\xff"),
    ("structure.json", b'"\\ud800"'),
    ("structure.json", b"[1e999]"),
    ("bounds.depth", b"[" * 100_000),
]
WARN: list[tuple[str, str, Json]] = [
    ("resource.unused", "$.resources.vqs[0]", graph(resources__vqs=["a"])),
    ("resource.unused", "$.resources.chs[0]", graph(resources__chs=["c"])),
    ("event.never_produced", "$.resources.events[0]", graph(resources__events=["m"])),
    ("lifetime.not_freed", f"{N0}.vqs[1]", graph(ALLOC, {"op": "FREE_LQ", "vqs": ["a"]})),
    ("channel.not_closed", f"{N1}.chs[0]", graph(ALLOC, OPEN, FREE)),
    (
        "policy.unused",
        f"{N0}.args.code_distance",
        graph({"op": "SET_POLICY", "args": {"code_distance": 5}}, ALLOC, FREE),
    ),
]
TOO_MANY: dict[str, str] = {
    "bounds.nodes": "NODES_MAX",
    "bounds.qubits": "QUBITS_MAX",
    "bounds.channels": "CHANNELS_MAX",
    "bounds.events": "EVENTS_MAX",
}
"""Rule -> the bound that a test lowers until a small program is above it."""


@pytest.mark.parametrize(("rule", "path", "document"), BAD)
def test_a_broken_rule_is_the_one_error_and_is_located(
    rule: str, path: str, document: Json
) -> None:
    found = check(document)
    assert isinstance(found, list)
    errors = [each for each in found if each.severity == "error"]
    assert (rule, path) in [(each.rule, each.path) for each in errors]
    assert {each.rule for each in errors} <= {rule, "structure.type"}
    if ".nodes[" in path and rule not in ("structure.missing", "structure.type"):
        index = int(path.partition("[")[2].partition("]")[0])
        located = [each for each in errors if each.path == path]
        name = document["program"]["nodes"][index]["id"]
        assert located[0].node == (name if rule != "structure.name" else None)


@pytest.mark.parametrize(("rule", "raw"), RAW)
def test_what_is_no_json_is_one_finding(rule: str, raw: bytes) -> None:
    found = verify_bytes(raw)
    assert isinstance(found, list)
    assert [(each.rule, each.severity) for each in found] == [(rule, "error")]


@pytest.mark.parametrize(("rule", "path", "document"), WARN)
def test_a_warning_is_given_and_refuses_nothing(rule: str, path: str, document: Json) -> None:
    program = check(document)
    assert isinstance(program, VerifiedProgram)
    assert [(each.rule, each.path, each.severity) for each in program.warnings] == [
        (rule, path, "warning")
    ]


@pytest.mark.parametrize(("rule", "bound"), sorted(TOO_MANY.items()))
def test_more_than_a_bound_is_refused(
    rule: str, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = graph(ALLOC, OPEN, M, CLOSE, FREE)
    assert isinstance(check(document), VerifiedProgram)
    monkeypatch.setattr(isa, bound, 0)
    found = check(document)
    assert isinstance(found, list)
    assert [each.rule for each in found] == [rule]


def test_every_rule_is_broken_by_some_test() -> None:
    broken = {row[0] for row in BAD} | {row[0] for row in WARN} | {row[0] for row in RAW}
    assert broken | set(TOO_MANY) == set(RULES)
    assert {row[0] for row in WARN} == WARNINGS


def test_every_opcode_is_refused_with_one_operand_too_many_and_without_its_arguments() -> None:
    for op in isa.TABLE:
        if op.vqs.most < isa.OPERANDS_MAX:
            names = [f"q{at}" for at in range(op.vqs.most + 1)]
            alloc = {"op": "ALLOC_LQ", "vqs": names, "args": {**ALLOC["args"], "n": len(names)}}
            found = check(graph(alloc, {"op": op.name, "vqs": names}))
            assert isinstance(found, list)
            assert ("operand.count", f"{N1}.vqs") in [(each.rule, each.path) for each in found]
        if any(row.required for row in op.args):
            found = check(graph({"op": op.name}))
            assert isinstance(found, list)
            assert "arg.missing" in {each.rule for each in found}


def test_findings_are_bounded_counted_and_errors_come_first() -> None:
    nodes = [dict(H) for _ in range(3 * FINDINGS_MAX)]
    found = check(graph(*nodes, resources__chs=["c"]))
    assert isinstance(found, list)
    assert len(found) == FINDINGS_MAX
    assert found.total == 3 * FINDINGS_MAX + 1  # type: ignore[attr-defined]
    assert {each.severity for each in found} == {"error"}


def test_a_reader_listed_before_its_writer_runs_after_it() -> None:
    program = check(graph(ALLOC, {**H, "vqs": ["b"], "guard": IF_M}, M, FENCE, FREE))
    assert isinstance(program, VerifiedProgram)
    assert list(program.order) == [0, 2, 1, 3, 4]
    assert list(program.epoch) == [0, 0, 0, 0, 1]


def test_list_order_that_serves_is_kept_as_a_range() -> None:
    program = check(graph(ALLOC, M, {**H, "guard": IF_M}, FREE))
    assert isinstance(program, VerifiedProgram)
    assert program.order == range(4)


def test_a_guard_may_stand_on_every_op_that_the_table_says() -> None:
    for op in isa.TABLE:
        found = check(graph(ALLOC, M, {"op": op.name, "guard": IF_M}))
        rules = {each.rule for each in found} if isinstance(found, list) else set()
        assert ("guard.forbidden" in rules) == (not op.guardable)


def test_inputs_may_repeat_the_events_of_a_guard() -> None:
    assert isinstance(
        check(graph(ALLOC, M, {**H, "guard": IF_M, "inputs": ["m"]})), VerifiedProgram
    )


def test_a_reset_makes_a_qubit_fresh_and_a_guarded_one_keeps_it_so() -> None:
    reset = {"op": "RESET", "vqs": ["a"]}
    assert isinstance(check(graph(ALLOC, H, reset, T)), VerifiedProgram)
    other = {**M, "vqs": ["b"]}
    assert isinstance(check(graph(ALLOC, other, {**reset, "guard": IF_M}, T)), VerifiedProgram)
    assert isinstance(check(graph(ALLOC, {**FENCE, "vqs": ["a"]}, T)), VerifiedProgram)


def test_a_freed_qubit_may_live_again() -> None:
    assert isinstance(check(graph(ALLOC, FREE, ALLOC, FREE)), VerifiedProgram)


def test_the_summary_tells_what_the_kernel_needs() -> None:
    second = {"op": "ALLOC_LQ", "vqs": ["x"], "args": {"n": 1, "profile": "logical:SHYPS(d=9)"}}
    free_second = {"op": "FREE_LQ", "vqs": ["x"]}
    t_gate = {"op": "APPLY_T", "vqs": ["b"], "guard": IF_M}
    program = check(
        graph(ALLOC, T, BELL, t_gate, FENCE, FREE, second, OPEN | {"vqs": ["x", "y"]})
        | {"resources": {"vqs": ["a", "b", "x", "y"], "chs": ["c"], "events": ["m"]}}
    )
    assert isinstance(program, list), "y is not live"
    program = check(graph(ALLOC, T, BELL, t_gate, FENCE, FREE, second, free_second))
    assert isinstance(program, VerifiedProgram)
    summary = program.summary
    assert (summary.nodes, summary.epochs, summary.t_states) == (8, 2, 2)
    assert summary.rights == ("CAP_ALLOC", "CAP_MAGIC")
    assert summary.families == ("core/1", "magic/1", "measure/1")
    assert [each.asked for each in summary.profiles] == [
        "logical:SHYPS(d=9)",
        "logical:Surface(d=3)",
    ]
    assert [(each.name, each.bits) for each in summary.events] == [("m", 2)]
    assert summary.ops["ALLOC_LQ"] == 2
    # One block of SHYPS(d=16) holds (2^5 - 1)^2 = 961 data qubits, more than two patches of 17.
    assert (summary.peak_logical, summary.peak_physical, summary.peak_channels) == (2, 3 * 961, 0)
    assert (summary.clifford, summary.pauli_guards, summary.ideal) == (False, False, False)
    assert summary.branching_guards == 1


def test_the_digest_sees_nodes_and_resources_but_no_metadata() -> None:
    document = graph(ALLOC, H, FREE)
    same = copy.deepcopy(document) | {"metadata": {"x": 1}, "description": "other"}
    same["program"]["nodes"][1]["metadata"] = {"line": 3}
    other = copy.deepcopy(document)
    other["program"]["nodes"][1]["op"] = "APPLY_X"

    def digest(each: Json) -> str:
        return program_digest(msgspec.convert(each, Graph))

    assert digest(document) == digest(same) != digest(other)


def test_the_digest_is_the_hash_of_one_json_text() -> None:
    document = graph(ALLOC, *[FENCE] * 10_000, FREE)
    whole = {
        "version": document["version"],
        "nodes": document["program"]["nodes"],
        "resources": {kind: document["resources"][kind] for kind in ("vqs", "events", "chs")},
    }
    # Field order is that of the types: ours is the same in this document.
    whole["nodes"] = [
        {name: node[name] for name in ("id", "op", "args", "vqs") if name in node}
        for node in whole["nodes"]
    ]
    digest = "sha256:" + hashlib.sha256(msgspec.json.encode(whole)).hexdigest()
    assert program_digest(msgspec.convert(document, Graph)) == digest


def test_a_graph_made_in_python_is_checked_as_one_that_was_decoded() -> None:
    for seed in range(50):
        document = random_program(random.Random(seed), magic=True, angles=True, channels=True)
        made = verify(msgspec.convert(document, Graph))
        decoded = check(document)
        assert isinstance(made, VerifiedProgram)
        assert isinstance(decoded, VerifiedProgram)
        assert made.summary == decoded.summary


def test_lone_surrogates_in_a_graph_made_in_python_are_no_name() -> None:
    document = graph(FENCE)
    document["program"]["nodes"][0]["id"] = "\ud800"
    found = verify(msgspec.convert(document, Graph))
    assert isinstance(found, list)
    assert [each.rule for each in found] == ["structure.name"]
    assert msgspec.json.encode(found[0])


HUGE = "x" * 1_000_000


@pytest.mark.parametrize(
    "document",
    [
        graph(ALLOC, {**H, "id": HUGE, "args": dict.fromkeys("abcdefgh", 1)}),
        graph(ALLOC, {**H, "args": {HUGE: 1}}),
        graph(ALLOC, {**H, HUGE: 1}),
        graph(ALLOC, {**H, "op": HUGE}),
        graph(ALLOC, {**H, "vqs": [HUGE]}, resources__vqs=[]),
        graph(ALLOC, {**M, "op": "MEASURE_ANGLE", "args": {"angle": HUGE}}),
        graph({**ALLOC, "args": {"n": 2, "profile": HUGE}}),
        graph(ALLOC, {**H, "caps": [HUGE]}, caps=[HUGE]),
        graph(version=HUGE),
        graph(resources__events=[HUGE, HUGE]),
    ],
)
def test_a_finding_is_small_however_large_what_it_is_about(document: Json) -> None:
    found = check(document)
    assert isinstance(found, list)
    assert max(len(msgspec.json.encode(each)) for each in found) < 1000


def many(size: int) -> dict[str, Json]:
    """Programs that an unwary verifier takes quadratic time for."""
    names = [f"q{at}" for at in range(size)]
    events = [f"m{at}" for at in range(size)]
    alloc = {"op": "ALLOC_LQ", "vqs": names, "args": {"n": size, "profile": "logical:ideal"}}
    readers = [
        {**H, "vqs": [f"q{at % 8}"], "guard": {"event": event, "equals": 1}}
        for at, event in enumerate(events)
    ]
    writers = [{**M, "vqs": ["q9"], "produces": [event]} for event in events]
    ring = [
        {**M, "vqs": ["q0"], "produces": [each], "guard": {"event": events[at - 1], "equals": 1}}
        for at, each in enumerate(events)
    ]
    few = {"op": "ALLOC_LQ", "vqs": names[:10], "args": {**alloc["args"], "n": 10}}  # type: ignore[dict-item]
    return {
        "one node with all names": graph({**FENCE, "vqs": names * 2}),
        "all readers before all writers": graph(few, *readers, *writers),
        "a ring": graph(few, *ring),
        "a conditions list": guarded(type="and", conditions=[IF_M] * size),
        "unknown arguments": graph(ALLOC, {**H, "args": dict.fromkeys(names, 1)}),
        "unknown fields": graph(ALLOC, {**H, **dict.fromkeys(names, 1)}),
        "capabilities": graph(*[{**FENCE, "caps": ["CAP_LINK"]}] * size, caps=["CAP_X"] * size),
        "allocated over and over": graph(*[ALLOC] * (size // 2)),
        "deep metadata": graph(metadata={"x": [[[names]]]}, resources__chs=names),
        "wrong types": graph(**dict.fromkeys(names, 1), resources__vqs=[1] * size),
    }


def best_seconds(document: Json) -> float:
    raw = msgspec.json.encode(document)
    times = []
    for _ in range(3):
        began = time.process_time()
        verify_bytes(raw)
        times.append(time.process_time() - began)
    return min(times)


@pytest.mark.parametrize("shape", list(many(16)))
def test_time_grows_with_size_and_not_with_its_square(shape: str) -> None:
    # Sixteen times the size takes 16 times as long, or 256 times if every pair is looked at.
    small, large = (best_seconds(many(size)[shape]) for size in (1_000, 16_000))
    assert large < 80 * max(small, 1e-4)


def test_answers_travel_between_processes_and_findings_over_the_wire() -> None:
    found, program = check({}), check(graph(ALLOC, M, {**H, "guard": IF_M}))
    assert pickle.loads(pickle.dumps(program)) == program
    assert isinstance(found, list)
    copied = pickle.loads(pickle.dumps(found))
    assert (copied, copied.total) == (found, found.total)  # type: ignore[attr-defined]
    assert msgspec.json.decode(msgspec.json.encode(found), type=list[Finding]) == found


# --- SET_POLICY ---------------------------------------------------------------------------------


def asking(**args: int) -> Json:
    return {"op": "SET_POLICY", "args": args}


def summary_of(*nodes: Json) -> Summary:
    found = check(graph(*nodes))
    assert isinstance(found, VerifiedProgram), found
    return found.summary


def test_of_several_policies_the_highest_priority_and_the_soonest_deadline_count() -> None:
    fence = {"op": "FENCE_EPOCH"}
    found = summary_of(
        asking(priority=-3, deadline=9), fence, asking(priority=7), asking(deadline=2), fence
    )
    assert (found.priority, found.deadline) == (7, 3)
    nothing = summary_of(ALLOC)
    assert (nothing.priority, nothing.deadline) == (None, None)


@pytest.mark.parametrize("text", ["logical:Surface", "surface_code", "logical:SHYPS()"])
def test_a_code_without_a_distance_has_that_of_the_policy_before_it(text: str) -> None:
    def alloc(name: str, profile: str) -> Json:
        return {"op": "ALLOC_LQ", "args": {"n": 1, "profile": profile}, "vqs": [name]}

    found = check(
        graph(
            asking(code_distance=5),
            alloc("a", text),
            alloc("b", "logical:Surface(d=3)"),
            asking(code_distance=9),
            alloc("c", text),
        )
    )
    assert isinstance(found, VerifiedProgram), found
    nodes = found.graph.program.nodes
    profiles = lower(found).alloc_profiles
    asked = [profiles[at].asked_distance for at in (1, 2, 4)]
    assert asked == [5, 3, 9]
    args = [nodes[at].args for at in (1, 2, 4)]
    assert all(each and parse_profile(each["profile"]) == profiles[at]
               for each, at in zip(args, (1, 2, 4), strict=True))  # fmt: skip
    assert not [each for each in found.warnings if each.rule == "policy.unused"]
    without = check(graph(alloc("a", text), asking(code_distance=5)))
    assert isinstance(without, list)
    assert without[0].rule == "profile.unknown"


def test_a_distance_that_no_allocation_takes_is_warned_of() -> None:
    for nodes in (
        (asking(code_distance=5), ALLOC),
        (ALLOC, asking(code_distance=5)),
        (asking(code_distance=5), asking(code_distance=7), ALLOC),
    ):
        found = check(graph(*nodes))
        assert isinstance(found, VerifiedProgram)
        unused = [each.path for each in found.warnings if each.rule == "policy.unused"]
        at = [at for at, node in enumerate(nodes) if node["op"] == "SET_POLICY"]
        assert unused == [f"$.program.nodes[{each}].args.code_distance" for each in at]


def test_a_distance_that_the_code_does_not_reach_is_refused() -> None:
    alloc = {"op": "ALLOC_LQ", "args": {"n": 1, "profile": "logical:SHYPS"}, "vqs": ["a"]}
    found = check(graph(asking(code_distance=17), alloc))
    assert isinstance(found, list)
    assert found[0].path == f"{N1}.args.profile"


# --- what sessions hold -------------------------------------------------------------------------

HELD_A, HELD_B, OPENED = "vq_" + 32 * "a", "vq_" + 32 * "b", "chan_" + 32 * "c"


def renamed(node: Json, **names: str) -> Json:
    """The node with other names of qubits and channels."""
    changed = {
        kind: [names.get(each, each) for each in node.get(kind, ())] for kind in ("vqs", "chs")
    }
    return {**node, **{kind: each for kind, each in changed.items() if each}}


def test_what_sessions_hold_is_named_and_counts_for_nothing_new() -> None:
    nodes = [renamed(each, a=HELD_A, c=OPENED) for each in (ALLOC, OPEN, USE, CLOSE, FREE)]
    found = verify_bytes(json.dumps(graph(*nodes)).encode())
    assert isinstance(found, VerifiedProgram)
    summary = found.summary
    (handle,), (channel,) = summary.handles, summary.brokered
    assert (handle.name, handle.profile.distance, handle.local) == (HELD_A, 3, False)
    assert (channel.name, channel.ends, channel.astray) == (OPENED, ("b", HELD_A), False)
    assert (summary.peak_logical, summary.asked_logical) == (2, 1)
    assert (summary.peak_physical, summary.peak_channels) == (17, 0)
    assert [each.number for each in summary.blocks] == [1]


@pytest.mark.parametrize(
    ("op", "local"),
    [
        ("APPLY_CNOT", True), ("APPLY_CZ", True), ("APPLY_SWAP", True), ("TELEPORT_CNOT", True),
        ("FENCE_EPOCH", False), ("COND_PAULI", False),
    ],
)  # fmt: skip
def test_a_handle_is_local_where_an_operation_may_entangle_it(op: str, local: bool) -> None:
    node: Json = {"op": op, "vqs": [HELD_A, HELD_B]}
    if op == "COND_PAULI":
        node |= {"args": {"pauli": "X"}, "guard": IF_M}
    names = {"a": HELD_A, "b": HELD_B}
    nodes = [renamed(ALLOC, **names), renamed(M, **names), node, renamed(FREE, **names)]
    found = verify_bytes(json.dumps(graph(*nodes)).encode())
    assert isinstance(found, VerifiedProgram), found
    assert [each.local for each in found.summary.handles] == [local, local]


@pytest.mark.parametrize(
    "stray",
    [
        {**USE, "vqs": ["b", "x"]},
        {**USE, "vqs": ["b"], "args": {"semantic": "teleport_state"}},
        {**OPEN, "vqs": ["b", "x"]},
    ],
)
def test_a_named_channel_is_astray_where_it_joins_others_than_its_ends(stray: Json) -> None:
    three = {**ALLOC, "vqs": ["a", "b", "x"], "args": {**ALLOC["args"], "n": 3}}
    again = [CLOSE, stray] if stray["op"] == "OPEN_CHAN" else [stray]
    nodes = [three, OPEN, USE, *again, CLOSE, {**FREE, "vqs": ["a", "b", "x"]}]
    found = verify_bytes(json.dumps(graph(*(renamed(each, c=OPENED) for each in nodes))).encode())
    assert isinstance(found, VerifiedProgram), found
    assert [each.astray for each in found.summary.brokered] == [True]


def test_a_name_that_only_looks_like_a_handle_is_a_plain_one() -> None:
    for name in (HELD_A.upper(), HELD_A[:-1], HELD_A + "a", "vq_"):
        nodes = [renamed(each, a=name) for each in (ALLOC, FREE)]
        found = verify_bytes(json.dumps(graph(*nodes)).encode())
        assert isinstance(found, VerifiedProgram)
        assert not found.summary.handles
