from __future__ import annotations

import random

import stim

from qmkd.engine.common import Common
from qmkd.engine.prepared import instruction, reference

QUBITS = 5
GATES = ("H", "S", "CX", "CZ", "SWAP")


def _supports(common: Common) -> list[stim.PauliString]:
    found = []
    for bit in range(QUBITS):
        pauli = stim.PauliString(QUBITS)
        for slot in range(QUBITS):
            pauli[slot] = (common.x[slot] >> bit & 1) ^ 3 * (common.z[slot] >> bit & 1)
        if pauli.weight:
            found.append(pauli)
    return found


def test_what_is_in_common_stabilizes_every_group_whatever_happens_to_them() -> None:
    kicks = 0
    for seed in range(60):
        rng = random.Random(seed)
        groups = [reference(QUBITS)]
        for _ in range(30):
            groups[0].h(rng.randrange(QUBITS))
            groups[0].cnot(*rng.sample(range(QUBITS), 2))
        common = Common(groups[0])
        groups.append(groups[0].copy())
        for _ in range(40):
            gate, one, two = rng.choice(GATES), *rng.sample(range(QUBITS), 2)
            circuit = stim.Circuit(instruction(gate, (one, two)[: 1 if gate in "HS" else 2]))
            turn = rng.random()
            if turn < 0.6:
                common.move(((gate, one, two),))
                for group in groups:
                    group.do(circuit)
            elif turn < 0.75:
                common.restrict(gate, one, two)
                rng.choice(groups).do(circuit)
            else:
                kick = common.kick(one)
                certain = [group.peek_z(one) != 0 for group in groups]
                kicks += kick is not None
                assert kick is None or (one in kick[0] and not any(certain))
                inside = rng.choice((groups, groups[:1]))
                common.project(one, everywhere=inside is groups)
                for group in inside:
                    group.measure(one)
            for pauli in _supports(common):
                assert all(group.peek_observable_expectation(pauli) for group in groups)
    assert kicks > 60


def test_one_group_has_all_its_stabilizers_in_common() -> None:
    sim = reference(2)
    sim.do(stim.Circuit("H 0\nCX 0 1"))
    common = Common(sim)
    assert common.kick(0) == ((0, 1), ())
    assert common.restrict("S", 0, 0)
    assert common.kick(0) is None
