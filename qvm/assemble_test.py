"""Assembly text becomes the graph it means; what it cannot mean is refused where it stands."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from qvm import assemble as module
from qvm.assemble import AsmError, assemble, assemble_located, parse_param
from qvm.isa import OPS, Kind, Op
from qvm.program import Node, VerifiedProgram
from qvm.reference import distribution
from qvm.verify import verify


def nodes(text: str, **kwargs: Any) -> list[Node]:
    return assemble(text, **kwargs).program.nodes


def node(text: str, **kwargs: Any) -> dict[str, Any]:
    """The only node, as plain JSON without its id."""
    (found,) = nodes(text, **kwargs)
    plain: dict[str, Any] = msgspec.to_builtins(found)
    del plain["id"]
    return plain


def test_the_line_of_the_manual_says_all_that_a_node_can_say() -> None:
    text = "fix: MEASURE_ANGLE angle=pi/2, q0 -> m0 if e==1 && f==0 [CAP_DEBUG]  ; a comment"
    found = assemble(text)
    assert msgspec.to_builtins(found.program.nodes[0]) == {
        "id": "fix",
        "op": "MEASURE_ANGLE",
        "args": {"angle": math.pi / 2},
        "vqs": ["q0"],
        "produces": ["m0"],
        "guard": {
            "type": "and",
            "conditions": [{"event": "e", "equals": 1}, {"event": "f", "equals": 0}],
        },
        "caps": ["CAP_DEBUG"],
    }
    assert found.resources.vqs == ["q0"]
    assert found.resources.events == ["m0", "e", "f"]


def test_a_whole_program_assembles_verifies_and_runs() -> None:
    text = """
    .param n=3
    .caps CAP_ALLOC
    .macro LINK a b          ; entangle two neighbours
        APPLY_CNOT a, b
    .end
    alloc: ALLOC_LQ profile=logical:Surface(d={n}) -> q0, q1, q2
    APPLY_H q0
    .for i in 1..n
        link{i}: LINK q{i - 1}, q{i}
    .end
    FENCE_EPOCH
    .for i in 0..n
        look{i}: MEASURE_Z q{i} -> m{i}
    .end
    FREE_LQ q0, q1, q2
    """
    program = verify(assemble(text))
    assert isinstance(program, VerifiedProgram)
    assert distribution(program).probabilities == pytest.approx({"000": 0.5, "111": 0.5})
    assert [each.id for each in program.graph.program.nodes][:5] == [
        "alloc", "n2", "n3", "n4", "n5",
    ]  # fmt: skip
    assert program.graph.program.nodes[0].args == {"profile": "logical:Surface(d=3)", "n": 3}


def test_label_on_a_macro_call_stands_before_the_labels_inside() -> None:
    text = """
    .macro INNER q
    h: APPLY_H q
    .end
    .macro OUTER q
    a: INNER q
    x: APPLY_X q
    .end
    one: OUTER q0
    two: OUTER q1
    """
    assert [each.id for each in nodes(text)] == ["one.a.h", "one.x", "two.a.h", "two.x"]


def test_macro_takes_names_numbers_and_text() -> None:
    text = """
    .param half=0.5
    .macro LOOK q angle m tag
    BAR_REGION tag=tag
    MEASURE_ANGLE angle=angle*2, q -> m
    .end
    .for i in 0..1
    LOOK q{i}, half, "odd name", "a b"
    .end
    """
    bar, look = nodes(text)
    assert bar.args == {"tag": "a b"}
    assert look.args == {"angle": 1.0}
    assert look.produces == ["odd name"]


@pytest.mark.parametrize(("d", "op"), [(3, "APPLY_X"), (5, "APPLY_Y"), (7, "APPLY_Z")])
def test_parameter_given_from_outside_decides_a_block(d: int, op: str) -> None:
    text = """
    .param d=3
    .if d == 3
    APPLY_X q
    .else
    .if d == 5 || d == 6
    APPLY_Y q
    .else
    APPLY_Z q
    .end
    .end
    """
    assert node(text, params={"d": d})["op"] == op


def test_range_with_equals_reaches_its_end() -> None:
    assert len(nodes(".for i in 0..4\nAPPLY_X q\n.end")) == 4
    assert len(nodes(".for i in 0..=4\nAPPLY_X q\n.end")) == 5
    assert nodes(".for i in 4..0\nAPPLY_X q\n.end") == []


def test_included_file_shares_macros_and_parameters() -> None:
    files = {"lib.qvm": ".param w=2\n.macro TWICE q\nAPPLY_X q\nAPPLY_X q\n.end\n"}
    text = '.include "lib.qvm"\n.if w == 2\nTWICE q0\n.end'
    found = assemble_located(text, include=files.__getitem__, file="main.qvm")
    assert len(found.graph.program.nodes) == 2
    assert found.origins == [("lib.qvm", 3), ("lib.qvm", 4)]


def test_names_are_declared_by_first_use_in_order() -> None:
    found = assemble("MEASURE_Z b -> y\nMEASURE_Z a -> x\nUSE_CHAN semantic=teleport_state, a, c")
    assert (found.resources.vqs, found.resources.events) == (["b", "a"], ["y", "x"])
    assert found.resources.chs == ["c"]


def test_declarations_fix_the_order_and_what_is_declared() -> None:
    found = assemble(".events x y\n.events z\nMEASURE_Z b -> y\nMEASURE_Z a -> x")
    assert found.resources.events == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("APPLY_X q if a==1", {"guard": {"event": "a", "equals": 1}}),
        (
            "APPLY_X q if a==1 || b==2",
            {
                "guard": {
                    "type": "or",
                    "conditions": [{"event": "a", "equals": 1}, {"event": "b", "equals": 2}],
                }
            },
        ),
        ("COND_PAULI pauli=Z, q <- a, b", {"args": {"pauli": "Z"}, "inputs": ["a", "b"]}),
        ("MEASURE_BELL a, b -> m, n", {"vqs": ["a", "b"], "produces": ["m", "n"]}),
        ('APPLY_X "q 0"', {"vqs": ["q 0"]}),
        ('APPLY_X "q;{1}"', {"vqs": ["q;{1}"]}),
        ('APPLY_X "if"', {"vqs": ["if"]}),
        ("OPEN_CHAN fidelity=0.9, a, b -> c", {"vqs": ["a", "b"], "chs": ["c"]}),
        ('OPEN_CHAN opts={"fidelity": 0.9}, a, b, c', {"args": {"opts": {"fidelity": 0.9}}}),
        ("CLOSE_CHAN c", {"chs": ["c"]}),
        ("BAR_REGION tag=loop", {"args": {"tag": "loop"}}),
        ('MEASURE_ANGLE angle="pi/3", q -> m', {"args": {"angle": "pi/3"}}),
        ("ALLOC_LQ profile=logical:SHYPS(d=4, ), a, b", {"vqs": ["a", "b"]}),
        ("APPLY_X q [CAP_DEBUG, CAP_MAGIC]", {"caps": ["CAP_DEBUG", "CAP_MAGIC"]}),
        ('FENCE_EPOCH @{"vqs": [], "metadata": {"a;b": [1.5]}}', {"vqs": []}),
        ('"a label": APPLY_X q', {"op": "APPLY_X"}),
        ("\tAPPLY_X\tq\t; tabs\r", {"vqs": ["q"]}),
    ],
)
def test_instruction_means_these_fields(text: str, fields: dict[str, Any]) -> None:
    found = node(text)
    assert fields.items() <= found.items(), found


def test_head_of_a_graph_is_written_with_directives() -> None:
    found = assemble(
        '.version 0.1\n.caps\n.description "a; b"\n.meta {"k": [null]}\n.meta {"l": 1}'
    )
    assert (found.version, found.caps, found.description) == ("0.1", [], "a; b")
    assert found.metadata == {"k": [None], "l": 1}
    assert assemble("").caps is UNSET


@pytest.mark.parametrize(
    ("text", "line", "column", "sentence"),
    [
        ("APPLY_Q q", 1, 1, "is it APPLY_"),
        ("a: APPLY_X q\n b: HADAMARD q", 2, 5, "no opcode or macro 'HADAMARD'"),
        ("APPLY_X q0 q1", 1, 12, "a comma"),
        ("APPLY_X q0,", 1, 12, "an operand was expected"),
        ("APPLY_X angle=1, q", 1, 9, "takes no argument 'angle'; there are: none"),
        ("ALLOC_LQ n=1, n=2, q", 1, 15, "given twice"),
        ("APPLY_X q -> m", 1, 11, "writes no events"),
        ("APPLY_X q if a==1 && b==1 || c==1", 1, 27, "not by both"),
        ("APPLY_X q if a=1", 1, 15, "'==' was expected"),
        ("APPLY_X q if a==1.5", 1, 17, "whole number"),
        ("APPLY_X q if a==1 if b==1", 1, 19, "guard stands twice"),
        ("a: APPLY_X q\na: APPLY_X q", 2, 4, "already stands on line 1"),
        ("APPLY_X q{1.5}", 1, 10, "cannot stand in a name"),
        ("APPLY_X q{i}", 1, 11, "no value is named 'i'"),
        ("APPLY_X q{1", 1, 12, "closing brace"),
        ('APPLY_X "q', 1, 9, "quoted text"),
        ("APPLY_X q [CAP_A", 1, 17, "closing bracket"),
        ("APPLY_X q @{nope}", 1, 13, "a JSON object was expected"),
        ('APPLY_X q @{"id": "a"}', 1, 11, "other than id and op"),
        ('APPLY_X q @{"colour": 1}', 1, 11, "do not fit"),
        ('APPLY_X q @{"metadata": {"a": NaN}}', 1, 12, "no JSON number"),
        ('APPLY_X q @{"metadata": {"a": 1e999}}', 1, 12, "too large"),
        ("MEASURE_ANGLE angle=1/0, q -> m", 1, 22, "divides by zero"),
        (".nope", 1, 1, "no directive .nope"),
        (".end", 1, 1, "without a block"),
        (".else", 1, 1, "without a block"),
        (".for i in 0..2\n.else\n.end", 2, 1, "belongs to an .if"),
        (".if 1\n.else\n.else\n.end", 3, 1, "belongs to an .if"),
        ("APPLY_X q\n.for i in 0..2", 2, 1, "has no .end"),
        (".for i of 0..2\n.end", 1, 8, "'in' was expected"),
        (".for i in 0,2\n.end", 1, 12, "'..' was expected"),
        (".for i in 0..2.5\n.end", 1, 14, "whole number"),
        (".param d", 1, 9, "equals sign"),
        (".param d=1\n.param d=2", 2, 8, "already has a value"),
        (".macro A x x\n.end", 1, 8, "same name"),
        (".macro APPLY_H x\n.end", 1, 8, "already an opcode"),
        (".macro A x\n.end\nA q, r", 3, 1, "takes 1 values and is given 2"),
        (".macro A\nA\n.end\nA", 2, 1, "at most 32 deep"),
        ('.include "f"', 1, 10, "cannot be included here"),
        (".vqs a\nAPPLY_X b", 2, 9, "not declared by .vqs"),
        (".vqs a a", 1, 8, "declared twice"),
        ("APPLY_X a\n.vqs b", 2, 6, "before the first name"),
        (".description text", 1, 14, "text in quotes"),
        (".meta [1]", 1, 7, "a JSON object"),
        (".version 0.1 0.2", 1, 14, "not expected here"),
        ("APPLY_X q\n  .macro\n.end", 2, 9, "a name was expected"),
    ],
)
def test_mistake_is_refused_where_it_stands(
    text: str, line: int, column: int, sentence: str
) -> None:
    with pytest.raises(AsmError) as caught:
        assemble(text)
    error = caught.value
    assert sentence in error.message
    assert (error.line, error.column) == (line, column)
    assert error.listing().splitlines()[1] == f"    {text.split(chr(10))[line - 1]}"


def test_listing_holds_nothing_that_a_terminal_would_act_on() -> None:
    with pytest.raises(AsmError) as caught:
        assemble("\tNOPE \x1b[2J")
    assert caught.value.listing().splitlines()[1:] == ["     NOPE  [2J", "     ^"]


def test_listing_of_a_long_line_shows_the_part_with_the_mistake() -> None:
    for line, mark in (("[" * 5_000, "["), ("APPLY_CNOT " + "q, " * 5_000 + "?", "?")):
        with pytest.raises(AsmError) as caught:
            assemble(line)
        _, shown, below = caught.value.listing().splitlines()
        assert len(shown) < 300
        assert shown[below.index("^")] == mark


def test_error_in_an_included_file_names_that_file() -> None:
    with pytest.raises(AsmError) as caught:
        assemble('.include "lib"', include={"lib": "\nNOPE"}.__getitem__, file="main")
    assert str(caught.value).startswith("lib:2:1: ")


def test_file_that_includes_itself_is_refused() -> None:
    with pytest.raises(AsmError, match="at most 32 deep"):
        assemble('.include "a"', include=lambda name: '.include "a"')


def test_overriding_a_parameter_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(AsmError, match=r"no \.param is named 'e'; there are: d"):
        assemble(".param d=1", params={"e": 1})


def test_expansion_is_bounded_in_lines_and_in_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS_MAX", 1000)
    with pytest.raises(AsmError, match="more than 1000 lines"):
        assemble(".for i in 0..10**12\n.end")
    monkeypatch.setattr(module, "NODES_MAX", 10)
    with pytest.raises(AsmError, match="at most 10 nodes"):
        assemble(".for i in 0..11\nAPPLY_X q\n.end")


@given(st.text(st.sampled_from('.:;,->if=&|[]@{}"()0123 \tqAPLY_X\nforend'), max_size=60))
def test_any_text_is_a_graph_or_a_located_error(text: str) -> None:
    try:
        assert assemble(text).version
    except AsmError as raised:
        error = raised
    else:
        return
    assert 1 <= error.line <= text.count("\n") + 1
    assert 1 <= error.column <= len(text) + 1


@pytest.mark.parametrize("row", OPS.values(), ids=lambda row: row.name)
def test_every_opcode_can_be_written(row: Op) -> None:
    qubits = ", ".join(f"q{i}" for i in range(row.vqs.least))
    channel = ", c" if row.chs.least else ""
    arrow = " -> m" if row.kind is Kind.MEASURE else ""
    (found,) = nodes(f"{row.name} {(qubits + channel).removeprefix(', ')}{arrow}")
    assert found.op == row.name
    assert len(found.vqs or ()) == row.vqs.least
    assert len(found.chs or ()) == row.chs.least


@pytest.mark.parametrize(
    ("text", "value"),
    [("d=3", 3), ("d = pi/2", math.pi / 2), ("d=Surface", "Surface"), ("d=3x", "3x"), ("d=", "")],
)
def test_parameter_on_the_command_line_is_a_number_or_text(text: str, value: Any) -> None:
    assert parse_param(text) == ("d", value)


def test_parameter_without_a_name_is_refused() -> None:
    for text in ("3", "=3", "a b=3"):
        with pytest.raises(ValueError, match="name=value"):
            parse_param(text)
