"""Electronic Hamiltonians of H2 and LiH as Pauli sums, with reference energies, in hartree.

The files in `data/` say with which programs they were made; the tests diagonalise them again.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from harness.em.circuits.paulis import Observable, observable, pauli

NAMES: Final = ("h2", "lih")
_FOLDER: Final = Path(__file__).parent / "data"


class Molecule(msgspec.Struct, frozen=True, kw_only=True):
    """qubits: spin orbitals, up and down in turn. electrons: those that are not frozen.

    hartree_fock, ground: energies of this Hamiltonian's reference and lowest state.
    full_ci: of the molecule with nothing frozen. terms: weight and product.
    """

    name: str
    qubits: int
    electrons: int
    geometry_angstrom: list[tuple[str, tuple[float, float, float]]]
    basis: str
    mapping: str
    hartree_fock: float
    ground: float
    full_ci: float
    source: str
    terms: list[tuple[float, str]]

    @property
    def hamiltonian(self) -> Observable:
        return observable((pauli(product), weight) for weight, product in self.terms)


@lru_cache
def molecule(name: str) -> Molecule:
    """One of NAMES."""
    assert name in NAMES, name
    return msgspec.json.decode((_FOLDER / f"{name}.json").read_bytes(), type=Molecule)
