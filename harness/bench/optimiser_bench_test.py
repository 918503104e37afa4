from __future__ import annotations

import math

import pytest

from harness.bench.optimiser_bench import EPSILON, PEERS, Judged, _judged, _shares
from harness.bench.synthesis_bench import _distance, _ours
from runtime.jit.circuit import Circuit, Operation, Register, expanded
from runtime.jit.costs import Counts
from runtime.jit.optimise.stretches import about_z

pytest.importorskip("qiskit", reason="a peer")
pytest.importorskip("pyzx", reason="a peer")
pytest.importorskip("pytket", reason="a peer")


def test_a_circuit_is_judged_by_what_each_peer_makes_of_it_and_what_we_do() -> None:
    circuit = Circuit(
        qubits=(Register("q", 3),), bits=(), operations=(Operation("ccx", (0, 1, 2)),) * 2
    )
    one = _judged("twice", list(about_z(expanded(circuit.operations))), 3)
    assert set(one.theirs) == set(PEERS)
    assert one.source.t == 14
    assert one.theirs["pyzx"].t == one.ours.t == one.ours.depth == 0
    assert one.equal


def test_the_shares_count_what_is_at_least_as_good() -> None:
    good = Counts(t=4, rotations=0, two_qubit=2, depth=9, t_depth=1, gates=9)
    bad = Counts(t=4, rotations=0, two_qubit=3, depth=9, t_depth=1, gates=9)
    judged = [
        Judged(name, bad, ours, {"one": theirs, "two": bad}, True)
        for name, ours, theirs in (("a", good, bad), ("b", bad, good), ("c", bad, bad))
    ]
    shares = {each["metric"]: each["value"] for each in _shares(judged)}
    assert shares["circuits"] == 3
    assert shares["ours at least the best of the three"] == pytest.approx(200 / 3)
    assert good.key(EPSILON) < bad.key(EPSILON)


def test_the_distance_of_a_peers_word_is_the_operator_norm() -> None:
    # T is RZ(pi/4) but for a phase; no gate at all is off by 2 sin(angle/4).
    assert _distance("T", math.pi / 4) == pytest.approx(0, abs=1e-12)
    assert _distance("W", 0.2) == pytest.approx(2 * math.sin(0.05), abs=1e-12)
    assert _ours([0.3, 0.4], 1e-3).worst <= 1
