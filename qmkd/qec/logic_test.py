"""What follows from what, against Stim, on programs of one qubit per patch."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import stim

from qmkd.qec.codes.code import MEASURE, RESET, Basis
from qmkd.qec.logic import Action, What, determined

BASES: tuple[Basis, ...] = ("X", "Z")


def random_program(
    seed: int, patches: int, gates: Sequence[What], length: int, given_up: bool = True
) -> list[Action]:
    """Preparations, gates and measurements at random, and all measured in the end.

    given_up: patches are also discarded, or prepared while they live.
    """
    chance = random.Random(seed)
    actions: list[Action] = []
    clock = [0] * patches
    live: set[int] = set()

    def act(what: What, chosen: tuple[int, ...], rounds: int = 1) -> None:
        at = max(clock[patch] for patch in chosen)
        actions.append(Action(at, what, chosen, chance.choice(BASES)))
        for patch in chosen:
            clock[patch] = at + rounds

    for _ in range(length):
        patch = chance.randrange(patches)
        if patch not in live:
            act("prepare", (patch,))
            live.add(patch)
            continue
        ends: tuple[What, ...] = ("measure", "discard", "prepare") if given_up else ("measure",)
        what = chance.choice([*gates, *gates, *ends])
        if what in ("measure", "discard"):
            live.discard(patch)
            act(what, (patch,), 0)
        elif what in ("CX", "CZ"):
            others = sorted(live - {patch})
            if others:
                act(what, (patch, chance.choice(others)))
        else:
            act(what, (patch,))
    for patch in sorted(live):
        act("measure", (patch,), 0)
    return actions


def as_qubits(actions: Sequence[Action]) -> tuple[stim.Circuit, dict[int, int]]:
    """A circuit of one qubit for each preparation, and which result each measurement is.

    A qubit that is given up is left alone: resetting would tell Stim what it holds.
    """
    circuit = stim.Circuit()
    results: dict[int, int] = {}
    qubit: dict[int, int] = {}
    prepared = 0
    for place, (_, what, patches, basis) in enumerate(actions):
        if what == "prepare":
            qubit[patches[0]] = prepared
            prepared += 1
        qubits = [qubit[patch] for patch in patches]
        if what == "measure":
            results[place] = len(results)
        if what != "discard":
            gate = {"prepare": RESET[basis], "measure": MEASURE[basis]}.get(what, what)
            circuit.append(gate, qubits)
    return circuit, results


def observed(actions: Sequence[Action]) -> stim.Circuit:
    """The circuit of qubits in which every outcome that follows from others is an observable."""
    circuit, results = as_qubits(actions)
    for number, (place, said) in enumerate(determined(actions).items()):
        records = [results[each] - len(results) for each in (place, *said)]
        circuit.append("OBSERVABLE_INCLUDE", [stim.target_rec(each) for each in records], number)
    return circuit


@pytest.mark.parametrize("seed", range(100))
def test_what_follows_from_earlier_outcomes_is_what_stim_says(seed: int) -> None:
    actions = random_program(seed, 4, ("CX", "CZ", "H", "S"), 30)
    circuit = observed(actions)
    circuit.detector_error_model()  # Raises where a parity is not always the same.
    assert circuit.num_observables == circuit.count_determined_measurements()


def test_outcomes_follow_from_random_ones_only() -> None:
    for seed in range(20):
        found = determined(random_program(seed, 4, ("CX", "H"), 30))
        assert not any(place in found for said in found.values() for place in said)


def test_of_a_pair_the_second_outcome_follows_from_the_first() -> None:
    begun = [Action(0, "prepare", (0,)), Action(0, "prepare", (1,)), Action(1, "H", (0,))]
    pair = [*begun, Action(2, "CX", (0, 1)), Action(3, "measure", (1,)), Action(3, "measure", (0,))]
    assert determined(pair) == {5: frozenset({4})}
    apart = [*pair[:-1], Action(3, "measure", (0,), "X")]
    assert determined(apart) == {}
