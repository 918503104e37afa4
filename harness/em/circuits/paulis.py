"""Observables: weighted sums of Pauli products, and the circuits that measure them.

A circuit is measured in bases: products that agree wherever they meet share one (qubit-wise
commuting, Kandala et al., arXiv:1704.05018), and so one run of the machine. How counts become
values is in `harness/em/methods/readings.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from runtime.jit.circuit import Circuit, Operation, Register

Pauli = tuple[tuple[int, str], ...]
"""A product of Paulis on distinct qubits, ascending: ((0, "X"), (3, "Z")); () is the identity."""

IDENTITY: Final[Pauli] = ()
LETTERS: Final = "XYZ"
_TURN: Final[dict[str, tuple[str, ...]]] = {"Z": (), "X": ("h",), "Y": ("sdg", "h")}
"""Gates after which measuring Z measures this."""


def pauli(text: str) -> Pauli:
    """The product that a text like "X0 Z3" names; "" is the identity. Raises ValueError."""
    found: dict[int, str] = {}
    for word in text.split():
        letter, place = word[0], word[1:]
        if letter not in LETTERS or not place.isdigit() or int(place) in found:
            raise ValueError(f"{text!r} is no product of Paulis like 'X0 Z3'")
        found[int(place)] = letter
    return tuple(sorted(found.items()))


def text_of(product: Pauli) -> str:
    """The inverse of `pauli`."""
    return " ".join(f"{letter}{qubit}" for qubit, letter in product)


class Term(msgspec.Struct, frozen=True, gc=False):
    """A product and its real weight."""

    weight: float
    product: Pauli


class Observable(msgspec.Struct, frozen=True):
    """A sum of terms with distinct products."""

    terms: tuple[Term, ...]

    @property
    def constant(self) -> float:
        """The weight of the identity."""
        return sum(term.weight for term in self.terms if not term.product)

    @property
    def spread(self) -> float:
        """Half the width of the interval that surely holds its values: the sum of |weights|."""
        return sum(abs(term.weight) for term in self.terms if term.product)

    @property
    def moving(self) -> tuple[Term, ...]:
        """The terms that are no constants."""
        return tuple(term for term in self.terms if term.product)


def observable(weights: Mapping[Pauli, float] | Iterable[tuple[Pauli, float]]) -> Observable:
    """The sum with these weights; those of equal products are added, zeros are left out."""
    found: dict[Pauli, float] = {}
    for product, weight in weights.items() if isinstance(weights, Mapping) else weights:
        found[product] = found.get(product, 0.0) + weight
    return Observable(tuple(Term(w, p) for p, w in sorted(found.items()) if w != 0.0))


def mean_of(products: Sequence[Pauli]) -> Observable:
    """Their mean."""
    return observable((product, 1.0 / len(products)) for product in products)


class Basis(msgspec.Struct, frozen=True):
    """What one run measures: a letter for each qubit that matters, and the terms read from it."""

    letters: Pauli
    terms: tuple[Term, ...]


def bases(whole: Observable) -> tuple[Basis, ...]:
    """The terms in as few bases as greed finds, the heaviest first. Constants are in none."""
    found: list[tuple[dict[int, str], list[Term]]] = []
    for term in sorted(whole.moving, key=lambda each: (-abs(each.weight), each.product)):
        for letters, terms in found:
            if all(letters.get(qubit, letter) == letter for qubit, letter in term.product):
                letters.update(term.product)
                terms.append(term)
                break
        else:
            found.append((dict(term.product), [term]))
    return tuple(Basis(tuple(sorted(letters.items())), tuple(terms)) for letters, terms in found)


def measured(body: Circuit, basis: Pauli) -> Circuit:
    """The circuit with all qubits measured at its end, in this basis: bit k is qubit k."""
    turns = [Operation(gate, (qubit,)) for qubit, letter in basis for gate in _TURN[letter]]
    reads = [Operation("measure", (qubit,), (), (qubit,)) for qubit in range(body.width)]
    return msgspec.structs.replace(
        body, bits=(Register("c", body.width),), operations=(*body.operations, *turns, *reads)
    )
