"""The comparison that decides whether a circuit of a corpus counts as wrong."""

from __future__ import annotations

import numpy as np
import pytest

from harness.bench.corpora_bench import SHOTS, _differs, _measuring
from harness.bench.corpora_sources import Expected
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
