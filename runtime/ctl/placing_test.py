"""`qmkctl compile --machine`: what it writes, tells and refuses, and that a daemon runs it so."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from qvm.decode import decode_graph
from qvm.program import Graph
from runtime.client import Client
from runtime.ctl.__main__ import main
from runtime.ctl.exits import Exit
from runtime.jit.frontends import load
from runtime.jit.readout import register_counts
from tests.branches import distribution
from tests.daemon import running_daemon

pytest.importorskip("pymetis", reason="partitions")
pytest.importorskip("openqasm3", reason="reads the circuit")

FAN = """\
OPENQASM 3;
include "stdgates.inc";
qubit[6] q;
bit[6] c;
h q[0];
for int i in [1:5] { cx q[0], q[i]; }
for int i in [3:4] { cx q[i], q[i + 1]; t q[i]; h q[i]; cx q[i], q[i + 1]; }
c = measure q;
"""
MACHINE = """\
name = "two"
module = [{ name = "left", qubits = 70 }, { name = "right", qubits = 70 }]
link = [{ between = ["left", "right"], cycles = 20, fidelity = 0.98 }]
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    circuit, machine, out = (tmp_path / each for each in ("fan.qasm", "two.toml", "fan.qvm.json"))
    circuit.write_text(FAN)
    machine.write_text(MACHINE)
    return circuit, machine, out


def test_a_circuit_is_placed_and_the_program_names_its_channels(
    files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    circuit, machine, out = map(str, files)
    profile = ["--profile", "logical:Surface(d=3)", "--machine", machine]
    assert main(["compile", circuit, "-o", out, *profile, "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)["placing"]
    assert told["cost"]["pairs"] == 1 < told["in_order"]["pairs"]
    graph = json.loads(files[2].read_text())
    assert graph["resources"]["chs"] == ["left-right"]
    assert {*graph["metadata"]["placed"]} == {"left", "right"} == {*told["modules"]}
    # The kernel's own reckoning of the file says the same.
    assert main(["estimate", out, "--machine", machine, "--json"]) == Exit.OK
    channels = json.loads(capsys.readouterr().out)["channels"]
    assert channels["raw_pairs"] == told["cost"]["raw_pairs"]
    assert channels["cycles"] == told["cost"]["cycles"]


def test_people_are_told_what_crosses_and_what_it_costs(
    files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    circuit, machine, out = map(str, files)
    wide = ["--profile", "logical:Surface(d=3)", "--pair-error", "1e-6", "--no-moves"]
    assert main(["compile", circuit, "-o", out, "--machine", machine, *wide]) == Exit.OK
    told = capsys.readouterr().out
    assert "gates between modules take 1 Bell pairs (1 for copies" in told
    assert "in the order of qubits" in told
    assert main(["compile", circuit, "-o", out, "--machine", machine]) == Exit.OK
    assert "no Bell pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--no-moves",), "say how --machine places"),
        (("-o", "out.stim", "--machine", "two.toml"), "is no program"),
        (("--machine", "none.toml"), "No such file"),
        (
            ("--machine", "two.toml", "--profile", "logical:Surface(d=5)"),
            "are more than the 2 that two has room for",
        ),
        (("--machine", "two.toml", "--pair-error", "2"), "not above 0 and up to 1"),
    ],
)
def test_what_cannot_be_placed_is_refused_with_a_sentence(
    files: tuple[Path, Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    why: str,
) -> None:
    monkeypatch.chdir(files[0].parent)
    try:
        status: int = main(["compile", "fan.qasm", *arguments])
    except SystemExit as stop:
        status = int(stop.code or 0)
    assert status == Exit.USAGE
    assert why in capsys.readouterr().err


def test_a_placed_program_runs_on_the_machine_as_planned(
    files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    circuit, machine, out = map(str, files)
    profile = ["--profile", "logical:Surface(d=3)", "--machine", machine]
    assert main(["compile", circuit, "-o", out, *profile, "--json"]) == Exit.OK
    planned = json.loads(capsys.readouterr().out)["placing"]["cost"]
    with running_daemon(None, "--machine", machine) as daemon, Client(daemon.socket) as client:
        result = client.run(files[2].read_bytes(), shots=2000, seed=3, noise="ideal")
    telemetry = result.telemetry
    assert telemetry is not None
    assert telemetry.pairs == 2000 * planned["pairs"]
    assert telemetry.raw_pairs == pytest.approx(2000 * planned["raw_pairs"])
    graph = decode_graph(files[2].read_bytes())
    assert isinstance(graph, Graph)
    counts = register_counts(graph, result.counts)
    found = {word: number for word, number in counts.items() if number > 0}
    expected = distribution(load(files[0]))
    assert {word for word, chance in expected.items() if chance > 1e-9} == {*found}
    for word, number in found.items():
        mean = 2000 * expected[word]
        assert abs(number - mean) <= 5 * math.sqrt(mean * (1 - expected[word]))
