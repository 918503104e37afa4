"""`qmkctl plan` and `run --error-budget`: what they print, and with which status they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.ctl.__main__ import main
from runtime.ctl.exits import Exit
from runtime.ctl.pareto import front
from runtime.jit.planning.choose import Considered
from runtime.jit.planning.predict import Cost, Prediction
from tests.daemon import running_daemon

BELL = str(Path(__file__).parents[2] / "qvm/examples/bell.qvm.json")

Ctl = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def socket() -> Iterator[Path]:
    with running_daemon() as daemon:
        yield daemon.socket


@pytest.fixture
def ctl(
    socket: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ctl:
    monkeypatch.setenv("QMK_SOCKET", str(socket))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        told = capsys.readouterr()
        return status, told.out, told.err

    return call


def test_a_plan_is_shown_with_what_was_not_taken_and_why(ctl: Ctl, tmp_path: Path) -> None:
    picture = tmp_path / "p.svg"
    status, out, _ = ctl("plan", BELL, "--error-budget", "0.01", "--plot", str(picture))
    assert status == Exit.OK
    assert "* " in out
    assert "above the budget of 0.01" in out
    assert picture.read_text().startswith("<?xml")
    status, out, _ = ctl("plan", BELL, "--error-budget", "0.01", "--json")
    told = json.loads(out)
    assert told["type"] == "plan"
    assert told["chosen"]["prediction"]["high"] <= 0.01
    assert told["machine"]["physical_noise"] == "uniform 0.001"
    assert len(list((tmp_path / "cache/qmkd/plans").iterdir())) == 1, "the second was kept"


def test_a_run_goes_by_its_plan(ctl: Ctl) -> None:
    arguments = ("run", BELL, "--error-budget", "0.01", "--shots", "1000", "--seed", "3")
    status, out, err = ctl(*arguments, "--json")
    ran = json.loads(out)
    assert (status, err) == (Exit.OK, "")
    assert sum(ran["counts"].values()) == 1000
    assert ran["unfinished"] is None
    status, out, _ = ctl(*arguments)
    assert "1,000 shots, seed 3" in out


def test_where_nothing_fits_the_status_says_so(ctl: Ctl) -> None:
    for command in ("plan", "run"):
        status, out, _ = ctl(command, BELL, "--error-budget", "1e-3", "--qubits", "20")
        assert status == Exit.REFUSED
        assert "Nothing keeps all wishes. Nearest is" in out


def test_what_the_plan_chooses_cannot_be_asked_for(ctl: Ctl) -> None:
    for more in (("--optimise",), ("--epsilon", "0.1"), ("--trace",), ("--noise", "ideal")):
        status, _, err = ctl("run", BELL, "--error-budget", "0.1", *more)
        assert status == Exit.USAGE
        assert more[0] in err


def test_the_front_has_what_no_other_beats() -> None:
    def variant(seconds: float, error: float) -> Considered:
        prediction = Prediction(
            error=error, low=0, high=error, noise=error, synthesis=0, how="exact", rates="measured"
        )
        cost = Cost(
            cycles=1, own_cycles=1, slowed="", logical=1, physical=1, blocks=1, t_states=0,
            raw_pairs=0, unfenced=1,
        )  # fmt: skip
        return Considered(way="", profile="", prediction=prediction, cost=cost, machine_s=seconds)

    points = [variant(*each) for each in ((1, 0.5), (2, 0.6), (3, 0.1), (3, 0.2), (4, 0.1))]
    assert front(points) == [points[0], points[2]]
