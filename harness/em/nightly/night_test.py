"""Nights end to end: a jump that is found, few false alarms, the same bytes, going on after a
kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest

from harness.em.backends.physical import Physical
from harness.em.circuits.exact import exact
from harness.em.circuits.families import make
from harness.em.learning.forest import load
from harness.em.learning.training import trained
from harness.em.methods.direct import ReadoutMitigation
from harness.em.nightly import night, promotion
from harness.em.nightly.drift import NIGHTS_MIN, Residual, judge, predicted, residual
from harness.em.nightly.night import BadConfiguration, Configuration, configuration, nights, run
from harness.em.records.folder import Damaged
from harness.em.running import carried_out

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

SMALL = Configuration(
    backends=(
        "physical:qubits=3,seed=1,day={night},age=1",
        "physical:qubits=3,seed=2,day={night},age=1",
    ),
    families=("mirror", "ising", "ghz"),
    circuits=1,
    qubits=3,
    methods=("none", "readout"),
    training_circuits=4,
    shots=2_000,
)


def silent(done: int, total: int, name: str) -> None:
    assert done <= total


def tonight(seed: int, number: int, strength: float) -> Residual:
    """Of a machine whose calibration goes on telling the usual strength."""
    backend = Physical(4, seed, day=number, age_days=1, strength=strength, told=1.0)
    found = []
    for at, family in enumerate(("mirror", "ising", "vqe-hea", "qaoa-ring", "ghz")):
        task = make(family, 1, 4)
        got = carried_out(ReadoutMitigation(), task, backend, 16_000, 1_000 * number + at).estimate
        spread = task.observable.spread
        off = (task.exact - got.value) / spread
        found.append((predicted(task, backend.calibration), off, got.std_err / spread))
    whole = residual(found)
    assert whole is not None
    return whole


@pytest.mark.parametrize("seed", [1, 2])
def test_a_jump_of_gate_errors_that_no_calibration_tells_is_found_within_three_nights(
    seed: int,
) -> None:
    before = 20
    values = [tonight(seed, n, 1.6 if n > before else 1.0).value for n in range(1, before + 4)]
    states = [each.state for each in judge(values)]
    assert "drift" not in states[:before]
    assert "drift" in states[before:]


@pytest.mark.parametrize("tails", [3, 5, 1_000])
def test_false_alarms_of_independent_nights_are_few_also_where_tails_are_heavy(tails: int) -> None:
    """Student's t of 3, 5 and very many degrees of freedom. By chance alone the count of 50 years
    with the rate that is allowed would be within five of its standard deviations."""
    rng = np.random.Generator(np.random.PCG64([9, tails]))
    years = 50
    values = 0.3 * rng.standard_t(tails, (years, 365))
    alarms = sum(each.state == "drift" for year in values for each in judge(year.tolist()))
    assert alarms + 5 * max(alarms, 1) ** 0.5 <= 6 * years


def test_one_night_beyond_the_band_is_no_drift_nor_are_two_on_different_sides() -> None:
    quiet = [0.01 * (-1) ** n for n in range(20)]
    assert [j.state for j in judge([*quiet, 1.0, 0.0])[-2:]] == ["suspect", "steady"]
    assert [j.state for j in judge([*quiet, 1.0, -1.0])[-2:]] == ["suspect", "suspect"]
    after = [j.state for j in judge([*quiet, 1.0, 1.0, 1.0])]
    assert after[:NIGHTS_MIN] == ["learning"] * NIGHTS_MIN
    assert after[-3:] == ["suspect", "drift", "learning"], "the chart begins again"


def test_an_error_is_predicted_exactly_for_clifford_circuits_under_depolarising_errors() -> None:
    """Beside the simulator's own chances, with neither turns, relaxation nor readout errors."""
    task = make("ghz", 1, 3)
    machine = Physical(3, 1, turn_2q=0.0)
    got = carried_out(ReadoutMitigation(), task, machine, 4_000_000, 5).estimate
    off = (task.exact - got.value) / task.observable.spread
    expected, _ = predicted(task, machine.calibration)
    assert expected > 0.01
    # Relaxation is not a Pauli error; its share here is a tenth at most.
    assert off == pytest.approx(expected, rel=0.1)
    assert exact(task.circuit, task.observable)[0] == pytest.approx(task.exact)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("nightly") / "state"
    run(SMALL, state, silent)
    return state


def contents(state: Path) -> dict[str, bytes]:
    """Wall time is the one thing that may differ."""
    return {
        str(path.relative_to(state)): path.read_bytes()
        for path in sorted(state.rglob("*"))
        if path.is_file() and path.name != "timings.json"
    }


def test_a_night_that_is_repeated_gives_the_same_bytes(first: Path, tmp_path: Path) -> None:
    run(SMALL, tmp_path / "again", silent)
    assert contents(tmp_path / "again") == contents(first)


class Killed(BaseException):
    """Stands for the end of the process, wherever it comes."""


def test_a_night_that_was_stopped_goes_on_to_the_same_bytes(first: Path, tmp_path: Path) -> None:
    done: list[int] = []

    def stop(at: int, total: int, name: str) -> None:
        done.append(at)
        if len(done) == 8:
            raise Killed

    with pytest.raises(Killed):
        run(SMALL, tmp_path / "state", stop)
    assert not nights(tmp_path / "state")
    run(SMALL, tmp_path / "state", silent)
    assert contents(tmp_path / "state") == contents(first)


@pytest.mark.slow
def test_a_process_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    def command(state: str) -> list[str]:
        return [sys.executable, "-m", "harness.em", "nightly", "--state", str(tmp_path / state)]

    going = subprocess.Popen(command("killed"))
    rows = tmp_path / "killed/nights/0001/0/rows.jsonl"
    while not (rows.exists() and rows.read_bytes().count(b"\n") >= 3):
        assert going.poll() is None, "it ended before it could be killed"
    going.send_signal(signal.SIGKILL)
    going.wait()
    for state in ("killed", "whole"):
        subprocess.run(command(state), check=True, capture_output=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_drift_trains_a_model_and_one_that_is_no_better_is_not_promoted(tmp_path: Path) -> None:
    """Ten quiet nights are put there; then errors are not what calibrations say."""
    run(SMALL, tmp_path, silent)
    base = nights(tmp_path)[0]
    for number in range(1, 13):
        value = 5.0 if number == 12 else 0.01 * (-1) ** number
        machines = [
            msgspec.structs.replace(m, residual=Residual(value=value, std_err=0.01, circuits=3))
            for m in base.machines
        ]
        path = tmp_path / f"nights/{number:04}/night.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            msgspec.json.encode(msgspec.structs.replace(base, night=number, machines=machines))
        )
    hidden = tuple(text + ",strength=12,told=1" for text in SMALL.backends)
    config = msgspec.structs.replace(SMALL, backends=hidden)
    (tmp_path / "nightly.json").unlink()
    found = run(config, tmp_path, silent)
    assert len(found.alerts) == 2
    verdict = found.verdict
    assert verdict is not None
    assert set(verdict.by) == {"circuits", "backends", "families"}
    assert verdict.promoted == all(each.better for each in verdict.by.values())
    assert load(tmp_path / "nights/0013/model.npz").digest == verdict.candidate
    assert found.serving == (verdict.candidate if verdict.promoted else "")
    assert "times what the calibration says" in (tmp_path / "report.html").read_text()


def test_a_model_serves_on_where_the_candidate_is_no_better() -> None:
    backends = [Physical(3, seed, day=2, age_days=1) for seed in (1, 2)]
    found = promotion.gathered(backends, ("mirror", "ising", "vqe-hea"), 4, 3, 1_000, 3, 1)
    assert len({each.circuit_id for each in found}) == len(found)
    # It has learnt these very circuits by heart, which no candidate that has not seen them beats.
    serving = trained(found)
    _, verdict = promotion.judged(found, serving, ["x"])
    assert not verdict.promoted
    alone = [each for each in found if each.backend == found[0].backend]
    candidate, verdict = promotion.judged(alone, None, ["x"])
    assert candidate is None
    assert "too few backends" in verdict.because


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]


def test_the_report_is_one_file_with_pictures_and_nothing_from_elsewhere(first: Path) -> None:
    page = _Page()
    page.feed((first / "report.html").read_text())
    assert {"svg", "table", "h1"} <= page.tags
    assert not page.tags & {"script", "link", "iframe", "img"}
    assert not page.links


def test_what_makes_no_sense_is_refused(first: Path, tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="another configuration"):
        run(msgspec.structs.replace(SMALL, seed=2), first, silent)
    path = tmp_path / "nightly.toml"
    for text, said in (
        ("shots = 'many'", "shots"),
        ("families = ['none']", "no family"),
        ("methods = ['zne']", "readout"),
        ("backends = []", "one backend"),
        ("circuits = 0", "circuits is 1"),
        ("day = 1", "unknown field"),
        ("=", "nightly.toml"),
    ):
        path.write_text(text)
        with pytest.raises(BadConfiguration, match=said):
            configuration(path)


def test_a_backend_that_cannot_be_opened_holds_up_no_other(tmp_path: Path) -> None:
    both = (SMALL.backends[0], "physical:qubits=3,seed=1,day=9999")
    found = run(msgspec.structs.replace(SMALL, backends=both), tmp_path, silent)
    assert found.machines[0].rows
    assert "9999" in found.machines[1].trouble
    assert night.nights(tmp_path) == [found]
