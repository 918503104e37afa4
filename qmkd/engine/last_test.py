from __future__ import annotations

import random

import pytest
import stim

from qmkd.engine.last import CONSTANT, relations
from qmkd.engine.prepared import reference


@pytest.mark.parametrize("slots", [1, 3, 8, 70])
def test_an_outcome_is_certain_where_stim_says_so_and_then_the_parity_that_is_promised(
    slots: int,
) -> None:
    rng, sims = random.Random(slots), []
    for _ in range(30):
        sim = reference(slots)
        for _ in range(rng.randrange(3 * slots + 3)):
            rng.choice((sim.h, sim.s, sim.x))(rng.randrange(slots))
            if slots > 1 and rng.random() < 0.7:
                sim.cnot(*rng.sample(range(slots), 2))
        sims.append(sim)
    qubits = tuple(rng.sample(range(slots), min(slots, 40)))
    certain, parities = relations(sims, qubits)
    for at, sim in enumerate(sims):
        seen: list[int] = []
        for place, qubit in enumerate(qubits):
            assert bool(certain[place, at]) == (sim.peek_z(qubit) != 0)
            seen.append(int(sim.measure(qubit)))
            if certain[place, at]:
                code = int(parities[place, at])
                parity = sum(bit for i, bit in enumerate(seen) if code >> i & 1)
                assert code >> place & 1 == 0
                assert (parity + (code >> CONSTANT)) % 2 == seen[-1]
    assert certain.any()
    assert not certain.all()


def test_stim_is_only_looked_at() -> None:
    sim = reference(2)
    sim.do(stim.Circuit("H 0\nCX 0 1"))
    certain, parities = relations([sim], (1, 0))
    assert certain.tolist() == [[False], [True]]
    assert parities[1, 0] == 1
    assert sim.peek_z(0) == 0
