"""Memories: keep a block for some rounds; are its logical qubits then still as prepared?"""

from __future__ import annotations

import stim

from qmkd.qec.circuits.writer import Writer
from qmkd.qec.codes.code import Basis, Code, CodeError


def memory(code: Code, rounds: int, basis: Basis) -> stim.Circuit:
    """Prepare in `basis`, `rounds` rounds, measure in `basis`: one observable per logical qubit.

    Raises CodeError where the code does not protect that basis, or for less than one round.
    """
    check_experiment(code, rounds, basis)
    writer = Writer([code])
    writer.prepare({0: basis})
    writer.rounds([0], rounds)
    found = writer.measure([0], basis)
    for number in range(code.k):
        support = writer.blocks[0].logical(basis, number)
        writer.observable(number, frozenset(found[qubit] for qubit in support))
    return writer.circuit


def check_experiment(code: Code, rounds: int, basis: Basis) -> None:
    """Raises CodeError where an experiment makes no sense for a code."""
    if basis not in code.protects:
        wants = " or ".join(code.protects)
        raise CodeError(f"{code.variant} protects basis {wants} only, not {basis}")
    if rounds < 1:
        raise CodeError(f"an experiment needs at least one round, not {rounds}")
