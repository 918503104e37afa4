"""Random circuits, and circuits that find back to where they began."""

from __future__ import annotations

import math
from typing import Final

from harness.em.circuits.making import Made, Rng, bricks, undone
from harness.em.circuits.paulis import mean_of, observable
from harness.em.circuits.tasks import Gates

CLIFFORDS: Final[tuple[tuple[str, ...], ...]] = tuple(
    (*axis, *turn)
    for axis in ((), ("h",), ("s", "h"))
    for turn in ((), ("s",), ("z",), ("sdg",), ("x",), ("x", "s"), ("y",), ("x", "sdg"))
)
"""The 24 Cliffords on one qubit: where Z goes, and a turn or flip behind it."""


def random_circuit(rng: Rng, qubits: int, depth: int) -> Made:
    """Layers of RY and RZ by random angles and CZ in a brick wall; the mean of Z.

    Turns are up to a quarter, so that values do not vanish as they do for Haar-random gates.
    """
    gates = Gates(qubits)
    for layer in range(depth):
        for qubit in range(qubits):
            gates.add("ry", qubit, angles=(rng.uniform(-math.pi / 4, math.pi / 4),))
            gates.add("rz", qubit, angles=(rng.uniform(-math.pi, math.pi),))
        for pair in bricks(qubits, layer):
            gates.add("cz", *pair)
    for qubit in range(qubits):
        gates.add("ry", qubit, angles=(rng.uniform(-math.pi / 4, math.pi / 4),))
    return Made(gates.circuit(), mean_of([((qubit, "Z"),) for qubit in range(qubits)]))


def mirror(rng: Rng, qubits: int, depth: int) -> Made:
    """Mirror circuits (Proctor et al., arXiv:2008.11294): Clifford layers, Paulis, and back.

    The outcome is one word; the observable is the mean of Z with the signs of that word.
    """
    there = Gates(qubits)
    for layer in range(depth):
        for qubit in range(qubits):
            for name in CLIFFORDS[int(rng.integers(len(CLIFFORDS)))]:
                there.add(name, qubit)
        for pair in bricks(qubits, layer):
            there.add("cx", *(pair if rng.integers(2) else pair[::-1]))
    whole = Gates(qubits)
    first = there.circuit().operations
    whole.operations = list(first)
    for qubit in range(qubits):
        name = ("id", "x", "y", "z")[int(rng.integers(4))]
        if name != "id":
            whole.add(name, qubit)
    whole.operations += undone(list(first))
    circuit = whole.circuit()
    plain = [((qubit, "Z"),) for qubit in range(qubits)]
    # Imported here: what is exact is no business of generators otherwise.
    from harness.em.circuits.exact import exact_terms

    signs, how = exact_terms(circuit, list(plain))
    wanted = observable(
        (product, round(sign) / qubits) for product, sign in zip(plain, signs, strict=True)
    )
    return Made(circuit, wanted, (1.0, how))
