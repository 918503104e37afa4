"""The circuits whose outcome the benchmark knows."""

from __future__ import annotations

from harness.bench.million_bench import QUBITS, SHOTS, _prepared, walk
from qmkd.engine import engines
from qmkd.engine.run import prepare, run_segment
from runtime.jit.readout import register_counts


def test_a_walk_there_and_back_leaves_the_flips() -> None:
    given, graph, encoded, _ = _prepared(walk(500, 3))
    assert given.outcome.count("1") == QUBITS // 2
    report, _ = run_segment(prepare(encoded), 1, 0, SHOTS, "+".join(engines.MAKERS))
    assert register_counts(graph, report.counts or {}) == {given.outcome: SHOTS}
    assert walk(500, 3) == given
    assert walk(500, 4).outcome != given.outcome
