"""The comparison that decides whether a circuit of a corpus counts as wrong."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from harness.bench.corpora_bench import SHOTS, _differs, _fate, _measuring
from harness.bench.corpora_packages import texts_of
from harness.bench.corpora_sources import FOLDERS, Expected, sources
from runtime.jit.circuit import Circuit, Operation, Register


def drawn(shares: np.ndarray, shots: int) -> dict[int, int]:
    found = np.random.default_rng(7).multinomial(shots, shares)
    return {int(n): int(found[n]) for n in np.flatnonzero(found)}


@pytest.mark.parametrize("width", [1, 4, 14])
def test_counts_drawn_from_what_is_expected_are_not_wrong(width: int) -> None:
    shares = np.random.default_rng(3).dirichlet(np.ones(1 << width))
    assert _differs(drawn(shares, SHOTS), Expected(shares, {})) == ""
    other = np.random.default_rng(11).multinomial(20_000, shares)
    counts = {int(n): int(other[n]) for n in np.flatnonzero(other)}
    assert _differs(drawn(shares, SHOTS), Expected(None, counts)) == ""


@pytest.mark.parametrize("width", [1, 4, 14])
def test_counts_of_another_circuit_are_wrong(width: int) -> None:
    shares = np.random.default_rng(3).dirichlet(np.ones(1 << width))
    reversed_ = shares[::-1].copy()
    assert "wrong" in _differs(drawn(reversed_, SHOTS), Expected(shares, {}))
    assert "wrong" in _differs({1: SHOTS}, Expected(np.array([1.0, 0.0]), {}))


def test_a_circuit_that_measures_nothing_is_measured_at_its_end() -> None:
    bare = Circuit(qubits=(Register("q", 2),), bits=(), operations=(Operation("h", (0,)),))
    measured = _measuring(bare)
    assert [each.bits for each in measured.operations] == [(), (0,), (1,)]
    assert _measuring(measured) is measured


def test_texts_are_taken_out_of_a_pickle_without_carrying_it_out() -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, ("raise SystemExit('carried out')",)

    pickled = pickle.dumps([{"// a comment\nOPENQASM 2.0;": {"00": 1.0}}, Trap()])
    assert list(texts_of(pickled)) == [("00.qasm", b"// a comment\nOPENQASM 2.0;")]


def test_files_of_a_folder_come_all_the_way_by_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("qiskit_aer", reason="in the extra `peers-simulators`")
    program = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; h q[0]; cx q[0],q[1];'
    (tmp_path / "ours" / "deeper").mkdir(parents=True)
    (tmp_path / "ours" / "deeper" / "bell.qasm").write_text(program)
    monkeypatch.setenv(FOLDERS, str(tmp_path))
    (source,) = [each for each in sources(sizes=()) if each.corpus == "ours"]
    assert source.name == "deeper/bell.qasm"
    assert "matching" in _fate(source).steps


def test_qir_of_a_folder_is_judged_by_the_alliances_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qirrunner", reason="no dependency; .ci/run installs it")
    pytest.importorskip("pyqir", reason="in the extra `jit`")
    monkeypatch.setenv(FOLDERS, str(Path(__file__).parents[2] / "tests" / "corpora"))
    found = [each for each in sources(sizes=()) if each.name in ("bell.ll", "nested.ll")]
    assert len(found) == 2
    for source in found:
        fate = _fate(source)
        assert "matching" in fate.steps, fate.why
