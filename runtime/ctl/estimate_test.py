"""`qmkctl estimate`: tables, JSON, pictures, and what is refused. No daemon runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from qvm.assemble import assemble
from qvm.program import VerifiedProgram
from qvm.verify import verify
from runtime.ctl.__main__ import main
from runtime.ctl.commands.estimate import counts_of
from runtime.ctl.exits import Exit
from runtime.ctl.picture import draw_frontier

COUNTS = '{"numQubits": 20, "tCount": 1000000, "measurementCount": 100}'
PROGRAM = """\
ALLOC_LQ n=3, profile="ideal", q0, q1, q2
APPLY_T q0
APPLY_RZ theta=0.3, q1
APPLY_RX theta=0.2, q1
INJECT_T_STATE q2
MEASURE_ANGLE angle=0.7, q1 -> m1
MEASURE_BELL q0, q2 -> b
FREE_LQ q0, q1, q2
"""


Estimate = Callable[..., str]


@pytest.fixture
def estimate(capsys: pytest.CaptureFixture[str]) -> Estimate:
    """Run `qmkctl estimate`, assert its status; what it wrote where that status makes it write."""

    def run(*arguments: str, status: Exit = Exit.OK) -> str:
        assert main(["estimate", *arguments]) == status
        told, complained = capsys.readouterr()
        return told if status == Exit.OK else complained

    return run


def test_a_program_is_counted_as_azure_counts() -> None:
    verified = verify(assemble(PROGRAM))
    assert isinstance(verified, VerifiedProgram), verified
    assert counts_of(verified.summary) == {
        "numQubits": 3,
        "tCount": 2,
        "rotationCount": 3,
        "rotationDepth": 3,
        "measurementCount": 3,
    }


def test_both_estimates_stand_side_by_side(estimate: Estimate, tmp_path: Path) -> None:
    file = tmp_path / "program.qvm"
    file.write_text(PROGRAM, encoding="utf-8")
    told = estimate(str(file))
    assert "closed form (Azure)" in told
    assert "rates (Surface, p = 0.001" in told
    assert "times as often as that form says" in told


def test_json_is_the_answer_of_the_numerics(estimate: Estimate) -> None:
    found = json.loads(estimate("--counts", COUNTS, "--json"))
    assert found["azure"]["distance"] < found["measured"]["distance"]
    assert found["measured"]["error_how"] in {"measured", "interpolated", "extrapolated"}


def test_the_frontier_is_drawn_as_svg(estimate: Estimate, tmp_path: Path) -> None:
    picture = tmp_path / "frontier.svg"
    estimate("--counts", COUNTS, "--plot", str(picture))
    assert b"<svg" in picture.read_bytes()


def test_a_frontier_of_one_side_is_drawn_as_png(tmp_path: Path) -> None:
    picture = tmp_path / "frontier.png"
    points = [{"seconds": 1.0 + n, "physical_qubits": 90 - n, "distance": 3} for n in range(4)]
    draw_frontier({"azure": points, "measured": []}, picture)
    assert picture.read_bytes()[1:4] == b"PNG"


def test_points_of_the_frontier_are_listed(estimate: Estimate) -> None:
    told = estimate("--counts", COUNTS.replace("1000000", "100000000"), "--frontier")
    assert told.count("physical qubits  ") >= 2
    assert told.count("copies") >= 3


def test_the_smallest_distance_for_an_error_needs_no_program(estimate: Estimate) -> None:
    told = estimate("--error-wanted", "1e-9", "--json")
    found = json.loads(told)["inverse"]
    assert found["error_per_cycle"] <= found["error_wanted"] == 1e-9
    assert 9 < found["distance"] < 25


FAR = """\
ALLOC_LQ n=2, profile="Surface(d=5)", a, b
OPEN_CHAN fidelity=0.999, a, b -> far
USE_CHAN semantic=teleport_cnot, a, b, far
MEASURE_Z b -> m
FREE_LQ a, b
"""
TWO = """\
name = "two"
[[module]]
name = "a"
qubits = 100
[[module]]
name = "b"
qubits = 100
"""
LINK = """\
[[link]]
between = ["a", "b"]
cycles = 50
fidelity = 0.97
"""


def test_channels_cost_what_the_links_of_a_machine_say(estimate: Estimate, tmp_path: Path) -> None:
    program, machine = tmp_path / "far.qvm", tmp_path / "two.toml"
    program.write_text(FAR)
    machine.write_text(TWO + LINK)
    told = estimate(str(program), "--machine", str(machine))
    assert "DEJMPS x 2" in told
    assert "slowed by links" in told
    found = json.loads(estimate(str(program), "--machine", str(machine), "--json"))["channels"]
    assert found["raw_pairs"] == pytest.approx(4.3365, abs=1e-4)
    assert found["cycles"] == 217  # 50 for each raw pair
    assert [row["uses"] for row in found["pairs"]] == [1]
    machine.write_text(TWO)
    assert "different modules" in estimate(
        str(program), "--machine", str(machine), status=Exit.USAGE
    )
    machine.write_text(TWO + LINK.replace("0.97", "1.97"))
    assert "$.link[0].fidelity" in estimate(
        str(program), "--machine", str(machine), status=Exit.USAGE
    )


def test_settings_with_faults_are_refused_with_their_places(
    estimate: Estimate, tmp_path: Path
) -> None:
    file = tmp_path / "machine.json"
    file.write_text('{"qec_scheme": {"code_family": "surface_code", "code_distance": 9, "x": 1}}')
    told = estimate("--counts", COUNTS, "--settings", str(file), status=Exit.USAGE)
    assert "$.qec_scheme.x" in told
    assert "error_budget is missing" in told


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "Name a program"),
        (("--counts", "{"), "not JSON"),
        (("--counts", COUNTS, "program.qvm"), "not both"),
        (("--plot", "out.svg"), "name a program"),
        (("--counts", COUNTS, "--settings", "none.json", "--p", "1e-3"), "give one of them"),
        (("--counts", COUNTS, "--settings", "none.json"), "No such file"),
        (("none.qvm",), "Cannot read"),
        (("--counts", COUNTS, "--machine", "none.toml"), "needs a program"),
    ],
)
def test_what_has_no_estimate_is_refused_with_a_sentence(
    estimate: Estimate, arguments: tuple[str, ...], why: str
) -> None:
    assert why in estimate(*arguments, status=Exit.USAGE)


def test_a_program_stands_in_a_table_of_several_distances(estimate: Estimate) -> None:
    found = json.loads(estimate("--counts", COUNTS, "--json"))["distances"]
    for side in ("azure", "measured"):
        rows = found[side]
        assert len(rows) >= 5
        assert [row["distance"] for row in rows] == sorted(row["distance"] for row in rows)
        failures = [row["failure"] for row in rows]
        assert failures == sorted(failures, reverse=True)
        assert failures[0] > 1e-3 > failures[-1]
        seconds = [row["seconds"] for row in rows]
        assert seconds == sorted(seconds)
    asked = json.loads(estimate("--counts", COUNTS, "--distances", "11,25", "--json"))
    assert [row["distance"] for row in asked["distances"]["measured"]] == [11, 25]
    assert "closed form: failure" in estimate("--counts", COUNTS)


CIRCUIT = """\
OPENQASM 3;
include "stdgates.inc";
qubit[3] q;
bit[3] c;
ccx q[0], q[1], q[2];
rz(0.3) q[0];
rz(0.4) q[1];
rz(pi/4) q[2];
rx(0.5) q[0];
c = measure q;
"""


def test_a_circuit_is_counted_as_it_stands_and_behind_the_passes_asked_for(
    estimate: Estimate, tmp_path: Path
) -> None:
    pytest.importorskip("openqasm3", reason="reads the circuit")
    file = tmp_path / "circuit.qasm"
    file.write_text(CIRCUIT)
    found = json.loads(estimate(str(file), "--json"))
    assert found["counts"] == {
        "numQubits": 3, "tCount": 1, "rotationCount": 3, "rotationDepth": 2, "cczCount": 1,
        "measurementCount": 3,
    }  # fmt: skip
    states = found["measured"]["t_states"]
    assert states == 1 + 4 + 3 * found["measured"]["t_states_per_rotation"]
    written = json.loads(estimate(str(file), "--epsilon", "1e-4", "--json"))
    assert written["counts"]["rotationCount"] == 0
    assert written["measured"]["t_states"] == written["counts"]["tCount"] > 60
    assert "1 Toffolis" in estimate(str(file))


def test_distances_that_are_none_are_refused(estimate: Estimate) -> None:
    assert "from 1 to 49, not 99" in estimate(
        "--counts", COUNTS, "--distances", "9,99", status=Exit.USAGE
    )
    assert "a program's" in estimate(
        "--error-wanted", "1e-9", "--distances", "9", status=Exit.USAGE
    )
