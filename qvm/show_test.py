"""Drawings by hand-made expectation, and for random programs what every drawing must keep."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ElementTree

import msgspec
import pytest

from qvm import drawing, examples
from qvm.assemble import assemble
from qvm.drawing import DrawingLimit, Role, draw
from qvm.isa import OPS
from qvm.order import reads
from qvm.program import Graph, VerifiedProgram
from qvm.random_programs import random_program
from qvm.rev import rev_segments
from qvm.show import WIDTH_MIN, show_svg, show_text
from qvm.verify import verify, verify_bytes

SVG = "{http://www.w3.org/2000/svg}"


def verified(text: str) -> VerifiedProgram:
    found = verify(assemble(text))
    assert isinstance(found, VerifiedProgram), found
    return found


def example(name: str) -> VerifiedProgram:
    found = verify_bytes(examples.load(name))
    assert isinstance(found, VerifiedProgram)
    return found


def random_verified(seed: int) -> VerifiedProgram:
    plain = random_program(random.Random(seed), magic=True, angles=True, channels=True)
    found = verify(msgspec.convert(plain, Graph))
    assert isinstance(found, VerifiedProgram)
    return found


SEEDS = range(60)


def test_teleportation_reads_as_in_a_textbook() -> None:
    expected = """\
                      epoch 1           epoch 2                 epoch 3
message  |0⟩──H──T──H──║───────●──MX→mx──║───────────────────────║───────────────────────────⊣
here     |0⟩──H──●─────║───────⊕──MZ→mz──║───────────────────────║───────────────────────────⊣
there    |0⟩─────⊕─────║─────────────────║───────X[mz=1]──Z[mx]──║───────H──T†──H──MZ→wrong──⊣
        ╰── REV 1 ──╯                           ╰─── REV 3 ───╯         ╰ REV 4 ╯
"""
    assert show_text(example("teleportation")) == expected


def test_line_between_operands_crosses_the_wires_between_them() -> None:
    program = verified("ALLOC_LQ profile=ideal, a, b, c\nAPPLY_CNOT a, c\nFREE_LQ a, b, c")
    assert [line[:10] for line in show_text(program).splitlines()[:3]] == [
        "a  |0⟩──●─",
        "b  |0⟩──┼─",
        "c  |0⟩──⊕─",
    ]


def test_barrier_of_a_region_is_named_and_drawn_dashed() -> None:
    lines = show_text(example("reversible_segment")).splitlines()
    assert lines[0].split() == ["compute", "copy", "uncompute", "epoch", "1"]
    assert all(line.count("┊") == 3 for line in lines[1:5])


@pytest.mark.parametrize("width", [WIDTH_MIN, 60, 200])
def test_bands_keep_to_the_width_unless_one_column_is_wider(width: int) -> None:
    program = example("repetition_code")
    widest = max(len(line) for line in show_text(program, 10**6).splitlines())
    text = show_text(program, width)
    assert max(len(line) for line in text.splitlines()) <= min(width, widest)
    assert text.replace("\n", " ").count("⊣") == 5


@pytest.mark.parametrize("seed", SEEDS)
def test_every_operand_is_drawn_once_and_after_what_it_waits_for(seed: int) -> None:
    program = random_verified(seed)
    found = draw(program)
    cells = [
        (at, row, cell)
        for at, column in enumerate(found.columns)
        for row, cell in column.cells.items()
        if cell.role is not Role.BAR
    ]
    nodes = program.graph.program.nodes
    drawn = [node for node in nodes if OPS[node.op].kind != "order"]
    assert len(cells) == sum(len(node.vqs or ()) for node in drawn)
    written = {
        event: at
        for at, _, cell in cells
        if "→" in cell.label
        for event in cell.label.rpartition("→")[2].split(",")
    }
    assert set(written) == {event for node in nodes for event in node.produces or ()}
    for index in program.order:
        node = nodes[index]
        label = drawing._condition(node)
        if label and node.vqs and node.op not in ("FENCE_EPOCH", "BAR_REGION"):
            places = [at for at, _, cell in cells if label in cell.label]
            assert max(places) > max(written[event] for event in reads(node))


@pytest.mark.parametrize("seed", SEEDS)
def test_fences_and_segments_are_drawn_in_order(seed: int) -> None:
    program = random_verified(seed)
    columns = draw(program).columns
    epochs = [column.header for column in columns if column.fence]
    assert epochs == [f"epoch {i + 1}" for i in range(program.summary.epochs - 1)]
    segments = [column.segment for column in columns if column.segment]
    long = [i for i, each in enumerate(rev_segments(program), 1) if len(each.nodes) > 1]
    assert segments == sorted(segments)
    assert sorted(set(segments)) == long


@pytest.mark.parametrize("seed", SEEDS)
def test_svg_is_well_formed_and_refers_to_nothing_outside(seed: int) -> None:
    svg = show_svg(random_verified(seed))
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert "href" not in svg
    assert "url(" not in svg
    assert "@import" not in svg


def test_svg_says_names_events_and_segments() -> None:
    root = ElementTree.fromstring(show_svg(example("teleportation")))
    texts = {element.text for element in root.iter(f"{SVG}text")}
    assert {"message", "H", "T†", "[mz=1]", "→wrong", "epoch 1", "REV 1"} <= texts


def test_names_that_look_like_markup_are_escaped() -> None:
    name = "</text><script>&"
    quoted = f'"{name}"'
    program = verified(
        f".description {quoted}\nALLOC_LQ profile=ideal, {quoted}\nMEASURE_Z {quoted} -> {quoted}\n"
        f"APPLY_X {quoted} if {quoted}==1\nBAR_REGION tag={quoted}\nFREE_LQ {quoted}"
    )
    root = ElementTree.fromstring(show_svg(program))
    assert not list(root.iter(f"{SVG}script"))
    assert any(name in (element.text or "") for element in root.iter(f"{SVG}text"))


def test_characters_that_xml_cannot_hold_are_replaced() -> None:
    program = verified('.description "a\\u0000\\uffff\\u001b"\nALLOC_LQ profile=ideal, q')
    root = ElementTree.fromstring(show_svg(program))
    assert root.findtext(f"{SVG}title") == "a\ufffd\ufffd\ufffd"


def test_every_opcode_can_be_drawn() -> None:
    seen = set()
    for seed in range(200):
        program = random_verified(seed)
        seen |= set(program.summary.ops)
        assert show_text(program)
    assert seen == set(OPS)


def test_program_too_large_to_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "NODES_MAX", 5)
    with pytest.raises(DrawingLimit, match="holds 5 nodes"):
        show_text(example("ghz"))


def test_long_names_and_labels_are_cut() -> None:
    name = "x" * 100
    text = show_text(verified(f"ALLOC_LQ profile=ideal, {name}\nMEASURE_Z {name} -> {name}"))
    assert max(len(line) for line in text.splitlines()) < 100
    assert "…" in text
