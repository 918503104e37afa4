"""`qmkctl` on circuits of other formats: compiled, verified, run on a real daemon."""

from __future__ import annotations

import importlib
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from qvm.program import VerifiedProgram
from qvm.verify import verify_bytes
from runtime.ctl.__main__ import main
from runtime.ctl.circuits import reading, registers_of, registers_shown
from runtime.ctl.exits import Exit, Trouble
from tests.daemon import running_daemon

if TYPE_CHECKING:
    from runtime.client.results import Result

TELEPORT = """\
OPENQASM 3;
include "stdgates.inc";
qubit[3] q; bit a; bit b; bit out;
ry(0.9) q[0]; h q[1]; cx q[1], q[2]; cx q[0], q[1]; h q[0];
a = measure q[0]; b = measure q[1];
if (b) x q[2];
if (a) { z q[2]; }
out = measure q[2];
"""


@pytest.fixture
def circuit(tmp_path: Path) -> Path:
    path = tmp_path / "teleport.qasm"
    path.write_text(TELEPORT)
    return path


def test_a_circuit_is_compiled_to_a_program_that_verifies(
    circuit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = circuit.with_name("out.qvm.json")
    assert main(["compile", str(circuit), "-o", str(out)]) == Exit.OK
    assert isinstance(verify_bytes(out.read_bytes()), VerifiedProgram)
    assert "3 qubits, 3 measurements" in capsys.readouterr().out
    assert main(["verify", str(circuit)]) == Exit.OK
    assert "12 nodes" in capsys.readouterr().out


def test_an_encoded_profile_takes_a_precision_for_rotations(
    circuit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(circuit.with_name("out.qvm.json"))
    encoded = ["compile", str(circuit), "-o", out, "--profile", "logical:Surface(d=3)", "--json"]
    assert main(encoded) == Exit.INVALID_PROGRAM
    assert "teleport.qasm:4:1: ry" in capsys.readouterr().err
    assert main([*encoded, "--epsilon", "1e-3"]) == Exit.OK
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert summary["t_states"] > 0
    assert main([*encoded[:-2], "logical:Nonsense"]) == Exit.INVALID_PROGRAM


def test_a_circuit_becomes_text_again(circuit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = circuit.with_name("again.qasm")
    assert main(["compile", str(circuit), "-o", str(out)]) == Exit.OK
    assert "if (b[0]) { x q[2]; }" in out.read_text()
    assert main(["compile", str(circuit), "-o", str(circuit.with_suffix(".stim"))]) == 6
    assert "ry" in capsys.readouterr().err


def test_the_noise_of_a_stim_circuit_is_left_out_when_asked_and_the_reply_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "noisy.stim"
    path.write_text("H 0\nDEPOLARIZE1(0.01) 0\nM(0.02) 0\n")
    out = ["-o", str(path.with_suffix(".qvm.json")), "--json"]
    assert main(["compile", str(path), *out]) == Exit.INVALID_PROGRAM
    assert "noisy.stim:2:1: DEPOLARIZE1(0.01) 0: " in capsys.readouterr().err
    assert main(["compile", str(path), *out, "--drop-noise"]) == Exit.OK
    dropped = json.loads(capsys.readouterr().out)["dropped"]
    assert dropped == {"DEPOLARIZE1": 1, "noise of M": 1}
    other = path.with_suffix(".qasm")
    other.write_text(TELEPORT)
    assert main(["compile", str(other), "--drop-noise"]) == Exit.USAGE
    assert "without an option 'drop_noise'" in capsys.readouterr().err


def test_inputs_of_a_circuit_are_given_on_the_command_line(
    circuit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    circuit.write_text(TELEPORT.replace("qubit[3]", "input float t; qubit[3]").replace("0.9", "t"))
    assert main(["compile", str(circuit)]) == Exit.INVALID_PROGRAM
    assert "input t needs a value" in capsys.readouterr().err
    out = str(circuit.with_name("out.qasm"))
    assert main(["compile", str(circuit), "-o", out, "--input", "t=3*pi/8"]) == Exit.OK
    assert "ry(3 * pi / 8) q[0];" in Path(out).read_text()


def test_what_cannot_be_read_names_line_and_construct(
    circuit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    circuit.write_text(TELEPORT + "delay[5ns] q[0];\n")
    assert main(["verify", str(circuit)]) == Exit.INVALID_PROGRAM
    assert "teleport.qasm:9:1: delay: QVM has no time" in capsys.readouterr().err
    assert main(["compile", str(circuit.with_name("none.txt"))]) == Exit.USAGE


def test_a_circuit_runs_and_its_registers_are_shown(
    circuit: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_daemon() as daemon:
        for name, value in (
            ("QMK_SOCKET", str(daemon.socket)),
            ("XDG_RUNTIME_DIR", str(circuit.parent)),
        ):
            monkeypatch.setitem(os.environ, name, value)
        assert main(["run", str(circuit), "--exact", "--json"]) == Exit.OK
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert main(["run", str(circuit), "--shots", "100"]) == Exit.OK
        assert "registers" in capsys.readouterr().out
    for key, probability in told["registers"].items():
        one = key.split()[-1] == "1"
        wanted = (math.sin if one else math.cos)(0.45) ** 2 / 4
        assert probability == pytest.approx(wanted, abs=1e-9), key
    assert len(told["registers"]) == 8


TOFFOLIS = """\
OPENQASM 3;
include "stdgates.inc";
qubit[4] q; bit[4] c;
h q;
ccx q[0], q[1], q[2]; ccx q[1], q[2], q[3]; rz(0.3) q[3]; ccx q[0], q[1], q[2];
h q;
c = measure q;
"""


@pytest.mark.parametrize(
    ("wishes", "t"), [([], 21), (["--ancillas", "1"], 12), (["--optimise"], 14)]
)
def test_compile_spares_t_gates_in_the_ways_that_are_asked_for(
    wishes: list[str], t: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyzx", reason="an engine of the optimiser")
    path, out = tmp_path / "toffolis.qasm", tmp_path / "out.qvm.json"
    path.write_text(TOFFOLIS)
    command = ["compile", str(path), "-o", str(out), *wishes]
    assert main([*command, "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert told["passes"]["before"]["t"] == 21
    assert told["passes"]["after"]["t"] == told["summary"]["t_states"] == t
    assert main([*command, "--epsilon", "1e-3"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "1 rotations take" in shown
    assert ("optimised: 21 -> 14 T gates" in shown) == ("--optimise" in wishes)


def test_numbers_of_ancillas_or_steps_that_make_no_sense_are_refused(
    circuit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", str(circuit), "--fence-every", "0"]) == Exit.USAGE
    assert "--fence-every" in capsys.readouterr().err
    assert main(["compile", str(circuit), "--ancillas", "-1"]) == Exit.USAGE
    assert "--ancillas" in capsys.readouterr().err


def test_values_of_registers_are_all_in_json_and_for_people_the_rest_is_summed_up() -> None:
    events = [f"c[{at}]" for at in range(7)]
    program = json.dumps({
        "version": "0.1",
        "program": {"nodes": []},
        "resources": {"vqs": [], "events": events},
        "metadata": {"registers": [{"name": "c", "size": 7}]},
    }).encode()  # fmt: skip
    result = SimpleNamespace(
        probabilities=None, counts={f"{value:07b}": 200 - value for value in range(128)}
    )
    found = registers_of(program, cast("Result", result))["registers"]
    assert len(found) == 128
    rows = registers_shown(found)
    assert rows[:-1] == list(found.items())[:64]
    assert rows[-1] == ("64 more, which --json lists", sum(200 - at for at in range(64, 128)))
    few = {"0": 1.0}
    assert registers_shown(few) == [("0", 1.0)]


@pytest.mark.parametrize("epsilon", ["inf", "nan", "0", "-1", "5", "x"])
def test_an_error_that_is_none_is_refused(
    epsilon: str, circuit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compile", str(circuit), f"--epsilon={epsilon}"])
    assert ended.value.code == Exit.USAGE
    assert "--epsilon" in capsys.readouterr().err


def test_a_file_is_written_only_in_a_known_format_and_never_over_its_source(
    circuit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foo = circuit.with_name("out.foo")
    assert main(["compile", str(circuit), "-o", str(foo)]) == Exit.USAGE
    assert ".json, .qasm, .qasm3, .stim" in capsys.readouterr().err
    assert not foo.exists()
    link = circuit.with_name("link.qasm")
    link.symlink_to(circuit)
    assert main(["compile", str(circuit), "-o", str(link)]) == Exit.USAGE
    assert "overwrite the circuit" in capsys.readouterr().err
    assert circuit.read_text() == TELEPORT


def test_names_of_files_may_end_in_capitals(
    circuit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud, out = circuit.with_name("LOUD.QASM"), circuit.with_name("OUT.QASM")
    loud.write_text(TELEPORT)
    assert main(["compile", str(loud), "-o", str(out)]) == Exit.OK
    assert out.read_text().startswith("OPENQASM 3.0;")
    assert main(["verify", str(loud)]) == Exit.OK
    assert "12 nodes" in capsys.readouterr().out


def test_bits_of_the_compilers_own_are_named_where_a_format_cannot_hide_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "toffoli.qasm", tmp_path / "out.qasm"
    path.write_text(TOFFOLIS)
    command = ["compile", str(path), "-o", str(out), "--ancillas", "2"]
    assert main(command) == Exit.OK
    assert "bits of the compiler's own are in and_" in capsys.readouterr().out
    assert "bit[2] and_; // the compiler's own" in out.read_text()
    assert main([*command, "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["helpers"] == ["and_"]
    assert main(["verify", str(out)]) == Exit.OK


def test_what_a_format_has_no_words_for_is_told_and_not_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "code.stim", tmp_path / "out.qasm"
    path.write_text("M(0.1) 0 1\nDETECTOR rec[-1]\nDETECTOR rec[-2]\n")
    command = ["compile", str(path), "--drop-noise", "-o", str(out)]
    assert main(command) == Exit.OK
    told = capsys.readouterr().out
    assert "no words for it: detectors, 2 x" in told
    assert "left out as asked: noise of M, 2 x" in told
    assert main([*command, "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["left_out"], told["dropped"]) == ({"detectors": 2}, {"noise of M": 2})
    assert main([*command, "--profile", "logical:Surface(d=3)"]) == Exit.USAGE
    assert "--profile is of a program's qubits" in capsys.readouterr().err


def test_an_input_has_one_value(circuit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--input", "t=1", "--input", "u=1", "--input", "t=2"]
    assert main(["compile", str(circuit), *given]) == Exit.USAGE
    assert "--input t is given more than one value" in capsys.readouterr().err


def test_a_package_that_is_missing_is_named() -> None:
    named = "This needs the package not_installed: pip install 'qmkd"
    with pytest.raises(Trouble, match=named) as refused, reading("teleport.qasm"):
        importlib.import_module("not_installed")
    assert refused.value.status == Exit.USAGE
