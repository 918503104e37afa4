"""Pictures: well-formed, complete, and readable without colour."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from qmkd.qec import noise
from qmkd.qec.circuits import memory
from qmkd.qec.codes.bacon_shor import bacon_shor
from qmkd.qec.codes.code import Code
from qmkd.qec.codes.honeycomb import honeycomb
from qmkd.qec.codes.repetition import repetition
from qmkd.qec.codes.shyps import shyps
from qmkd.qec.codes.surface import surface
from qmkd.qec.draw import DrawingLimit, Shown, block_svg

SVG = "{http://www.w3.org/2000/svg}"
CODES = (surface(4), bacon_shor(3), bacon_shor(3, pairs=True), repetition(4), shyps(4))


@pytest.mark.parametrize("shown", ["gauges", "stabilizers"])
@pytest.mark.parametrize("code", CODES, ids=lambda code: getattr(code, "variant", None))
def test_every_check_qubit_and_logical_line_is_drawn(code: Code, shown: Shown) -> None:
    picture = ElementTree.fromstring(block_svg(code, shown=shown))
    checks = code.gauges if shown == "gauges" else code.stabilizers
    assert len(picture.findall(f"{SVG}polygon")) == len(checks)
    assert len(picture.findall(f"{SVG}circle")) == len(code.qubits)
    assert len(picture.findall(f"{SVG}polyline")) == 2


def test_x_is_dashed_and_z_is_not() -> None:
    picture = ElementTree.fromstring(block_svg(surface(3)))
    for shape in (*picture.findall(f"{SVG}polygon"), *picture.findall(f"{SVG}polyline")):
        assert ("X" in shape.attrib["class"].split()) == ("stroke-dasharray" in shape.attrib)


def test_detectors_that_fired_are_marked_at_their_check_with_their_rounds() -> None:
    code = surface(5)
    circuit = noise.apply(memory(code, 5, "Z"), noise.uniform(1e-2))
    places = circuit.get_detector_coordinates()
    shot = circuit.compile_detector_sampler(seed=3).sample(1)[0]
    fired = [places[i] for i, event in enumerate(shot) if event]
    assert fired
    picture = ElementTree.fromstring(block_svg(code, fired))
    assert len(picture.findall(f"{SVG}path")) == len({(x, y) for x, y, *_ in fired})
    written = sum(len((text.text or "").split()) for text in picture.findall(f"{SVG}text"))
    assert written == len(fired)


def test_a_honeycomb_shows_its_hexagons_and_the_edges_inside() -> None:
    code = honeycomb(6)
    picture = ElementTree.fromstring(block_svg(code))
    assert len(picture.findall(f"{SVG}circle")) == len(code.hexagons) + len(code.qubits)
    lines = len(picture.findall(f"{SVG}polyline"))
    assert len(code.edges) * 0.8 < lines < len(code.edges)


def test_a_block_that_is_too_large_is_refused() -> None:
    with pytest.raises(DrawingLimit, match="at most 4096"):
        block_svg(surface(60))
