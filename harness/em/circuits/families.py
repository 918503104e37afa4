"""The families: generators of tasks, each a function of seed, qubits and depth alone.

`make` is the way in. Depth means layers of entangling gates, Trotter steps or layers of an ansatz,
as the family has them. What a family cannot do is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from harness.em.circuits import clifford, scrambled, textbook, trotter, variational
from harness.em.circuits.exact import exact
from harness.em.circuits.making import Made, Rng
from harness.em.circuits.tasks import Task

QUBITS_MAX: Final = 1024
DEPTH_MAX: Final = 10_000


class NoSuchTask(Exception):
    """A family has no circuit of this kind; says why."""


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """qubits_min, qubits_max: what it has circuits for. depth: what is taken for usual."""

    make: Callable[[Rng, int, int], Made]
    about: str
    qubits_min: int
    qubits_max: int
    depth: int


def _row(
    make: Callable[[Rng, int, int], Made], about: str, low: int, high: int, depth: int
) -> Family:
    return Family(make=make, about=about, qubits_min=low, qubits_max=high, depth=depth)


FAMILIES: Final[dict[str, Family]] = {
    "random": _row(scrambled.random_circuit, "random turns and CZ in a brick wall", 2, 16, 3),
    "mirror": _row(scrambled.mirror, "random Clifford layers, Paulis, and back", 2, QUBITS_MAX, 4),
    "ising": _row(trotter.ising, "Trotter steps of a transverse-field Ising chain", 2, 16, 3),
    "heisenberg": _row(trotter.heisenberg, "Trotter steps of a Heisenberg chain", 2, 16, 2),
    "h2": _row(trotter.h2, "Trotter steps of molecular hydrogen", 4, 4, 1),
    "lih": _row(trotter.lih, "Trotter steps of lithium hydride, largest terms", 6, 6, 1),
    "vqe-hea": _row(variational.hardware_efficient, "RY, RZ and CNOT ladders", 2, 16, 2),
    "vqe-ucc-h2": _row(variational.ucc_h2, "coupled cluster for molecular hydrogen", 4, 4, 1),
    "vqe-ucc-lih": _row(variational.ucc_lih, "coupled cluster for lithium hydride", 6, 6, 1),
    "qaoa-ring": _row(variational.qaoa_ring, "max-cut of a ring", 3, 16, 1),
    "qaoa-cubic": _row(variational.qaoa_cubic, "max-cut of random 3-regular graphs", 4, 16, 1),
    "qaoa-random": _row(variational.qaoa_random, "max-cut of G(n, 1/2)", 3, 16, 1),
    "qaoa-star": _row(variational.qaoa_star, "max-cut of a star", 3, 16, 1),
    "clifford": _row(clifford.brick_wall, "random Clifford brick wall", 2, QUBITS_MAX, 4),
    "ghz": _row(textbook.ghz, "a cat state", 2, QUBITS_MAX, 1),
    "qft": _row(textbook.qft, "a phase gradient through the inverse QFT", 2, 16, 1),
}


def make(family: str, seed: int, qubits: int, depth: int | None = None) -> Task:
    """The task of a family. Raises NoSuchTask."""
    row = FAMILIES.get(family)
    if row is None:
        raise NoSuchTask(f"No family is named {family}; there are {', '.join(FAMILIES)}.")
    if not row.qubits_min <= qubits <= row.qubits_max:
        bounds = f"{row.qubits_min} to {row.qubits_max}"
        raise NoSuchTask(f"{family} has circuits of {bounds} qubits, not of {qubits}.")
    layers = row.depth if depth is None else depth
    if not 1 <= layers <= DEPTH_MAX:
        raise NoSuchTask(f"A depth is 1 to {DEPTH_MAX}, not {layers}.")
    words = [seed, qubits, layers, *family.encode()]
    made = row.make(np.random.Generator(np.random.PCG64(words)), qubits, layers)
    value, how = made.exact or exact(made.circuit, made.observable)
    parameters: dict[str, Any] = {"n": qubits, "d": layers, **made.more}
    return Task(
        family=family,
        parameters=parameters,
        seed=seed,
        circuit=made.circuit,
        observable=made.observable,
        exact=value,
        exact_by=how,
    )
