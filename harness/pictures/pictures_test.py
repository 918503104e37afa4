"""Each picture is drawn as SVG and as PNG, shows what it should, and is refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from harness.pictures import rates
from harness.pictures.__main__ import PICTURES, main
from harness.pictures.backlog import ROUND_NS, device_of, weights_of
from harness.pictures.patch import CODES_DRAWN
from qmkd.qec.calibration import encode
from qmkd.qec.data import calibration, counted, published
from qmkd.qec.device import account
from qmkd.qec.thresholds import fit_crossing, near
from qmkd.qec.validate import around_threshold

SVG = "{http://www.w3.org/2000/svg}"
PNG = b"\x89PNG\r\n"


def words(path: Path) -> str:
    """All that is written in an SVG."""
    return " ".join(text for text in ElementTree.parse(path).getroot().itertext() if text.strip())


@pytest.mark.slow
def test_one_command_draws_every_picture_in_both_formats_and_again_the_same(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        assert main(["all", "--out", str(tmp_path / folder), "--windows", "20"]) == 0
    for name in PICTURES:
        assert (tmp_path / "one" / f"{name}.png").read_bytes().startswith(PNG)
        first, second = ((tmp_path / each / f"{name}.svg").read_text() for each in ("one", "two"))
        assert first == second
        assert ElementTree.fromstring(first).tag == f"{SVG}svg"


def test_rates_name_every_distance_the_law_and_published_points(tmp_path: Path) -> None:
    out = tmp_path / "rates.svg"
    assert main(["by-strength", "--out", str(out)]) == 0
    for word in ("d = 3", "d = 15", "law, extrapolated", "published", "logical X errors per round"):
        assert word in words(out)
    assert main(["by-distance", "--code", "BaconShor", "--basis", "X", "--out", str(out)]) == 0
    for word in ("p = 0.001", "BaconShor memory in X", "logical Z errors per round"):
        assert word in words(out)


def test_measured_points_lie_in_their_intervals_and_spread_counts_add_up_again() -> None:
    asked = rates.Asked("Surface", "uniform", "Z")
    points = rates.ours(calibration(), asked)
    assert len({each.distance for each in points}) >= 4
    assert all(each.low <= each.rate <= each.high for each in points)
    (point,) = (
        each for each in rates.spread(published(), asked) if (each.distance, each.p) == (5, 3e-3)
    )
    # 1053 of 50155 shots of 20 rounds failed.
    assert (1 - (1 - 2 * point.rate) ** 20) / 2 == pytest.approx(1053 / 50155)


def test_a_table_of_ones_own_adds_to_the_shipped_one(tmp_path: Path) -> None:
    grown = tmp_path / "table"
    grown.write_bytes(encode(calibration(), "a test"))
    out = tmp_path / "rates.svg"
    assert main(["by-strength", "--table", str(grown), "--out", str(out)]) == 0
    grown.write_bytes(b"{}\n")
    assert main(["by-strength", "--table", str(grown), "--out", str(out)]) == 2


def test_a_threshold_states_both_crossings_with_their_intervals_and_the_same_twice(
    tmp_path: Path,
) -> None:
    out = tmp_path / "threshold.svg"
    assert main(["threshold", "--out", str(out)]) == 0
    first = out.read_bytes()
    assert main(["threshold", "--out", str(out)]) == 0
    assert out.read_bytes() == first
    for counts in (counted(), published()):
        found = fit_crossing(near(around_threshold(counts)))
        low, middle, high = (f"{100 * each:.3f}" for each in (found.low, found.p, found.high))
        assert f"crossing {middle} % ({low} to {high})" in words(out)


@pytest.mark.parametrize("code", sorted(CODES_DRAWN))
def test_a_patch_of_each_code_is_drawn_in_both_formats(code: str, tmp_path: Path) -> None:
    distance = "4" if code == "SHYPS" else "3"  # of a honeycomb, its size
    for name in ("patch.svg", "patch.png"):
        out = tmp_path / name
        arguments = ["patch", "--code", code, "--distance", distance, "--p", "0.1"]
        assert main([*arguments, "--out", str(out)]) == 0
    assert (tmp_path / "patch.png").read_bytes().startswith(PNG)
    picture = ElementTree.parse(tmp_path / "patch.svg").getroot()
    roles = {part for each in picture.iter() for part in each.attrib.get("class", "").split()}
    own = "hexagon" if code == "Honeycomb" else "logical"
    assert roles >= {"check", own, "data", "fired", "rounds"}


def test_a_load_is_the_share_of_time_that_a_decoder_works() -> None:
    weights = weights_of(3, 3e-3, 60, 1)
    assert weights.shape == (60,)
    assert weights.dtype == np.int64
    for load in (0.5, 0.9, 1.5):
        ledger = account(device_of(weights, 3, load), weights, 3)
        assert ledger.busy_cycles * ROUND_NS == pytest.approx(load * 60 * 3 * ROUND_NS)
        assert ledger.keeps_up == (load < 1)
    late = [account(device_of(weights, 3, load), weights, 3).waited_ns[-1] for load in (0.5, 1.5)]
    assert late[1] > 10 * late[0]


def test_a_backlog_shows_each_load_and_the_queue(tmp_path: Path) -> None:
    out = tmp_path / "backlog.png"
    asked = ["backlog", "--distance", "3", "--windows", "40", "--loads", "0.5", "2"]
    assert main([*asked, "--out", str(out)]) == 0
    assert out.read_bytes().startswith(PNG)
    assert main([*asked, "--out", str(out.with_suffix(".svg"))]) == 0
    for word in ("load 0.5", "load 2", "queue of 4", "held back"):
        assert word in words(out.with_suffix(".svg"))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("threshold", "--out", "picture.gif"), ".svg or .png"),
        (("by-strength", "--noise", "rain", "--out", "picture.svg"), "no Surface memory in Z"),
        (("patch", "--distance", "1", "--out", "picture.svg"), "sides of 2"),
        (("patch", "--p", "2", "--out", "picture.png"), "2"),
        (("backlog", "--loads", "-1", "--out", "picture.svg"), "above 0"),
        (("backlog", "--distance", "1", "--out", "picture.svg"), "sides of 2"),
        (("threshold", "--out", "nowhere/picture.svg"), "nowhere"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(
    arguments: tuple[str, ...],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("No picture: ")
    assert why in said
