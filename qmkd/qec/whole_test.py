"""Whole programs: all that is determined is compared, distances hold, and the logic is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pytest
import stim

from qmkd.qec import noise
from qmkd.qec.circuits import memory
from qmkd.qec.codes.bacon_shor import bacon_shor
from qmkd.qec.codes.code import Basis, Code, CodeError
from qmkd.qec.codes.shyps import shyps
from qmkd.qec.codes.surface import surface
from qmkd.qec.logic import Action, What
from qmkd.qec.logic_test import BASES, observed, random_program
from qmkd.qec.whole import OutOfReach, Whole, turning

CODES: Final = (surface(3), bacon_shor(3))
NATIVE: Final[dict[str, tuple[What, ...]]] = {
    "Surface": ("CX", "CZ", "H"),
    "BaconShor": ("CX", "CZ", "H", "S"),
}


def name(code: object) -> str:
    assert isinstance(code, Code)
    return f"{code.variant}-{code.distance}"


def pair(wait: int, basis: Basis = "Z") -> list[Action]:
    """A Bell pair, measured in one basis."""
    end = 2 + 2 * wait
    return [Action(0, "prepare", (0,)), Action(0, "prepare", (1,)), Action(1, "H", (0,)),
            Action(1 + wait, "CX", (0, 1)), Action(end, "measure", (0,), basis),
            Action(end, "measure", (1,), basis)]  # fmt: skip


def cnot(
    wait: int, basis: Basis, gates: int = 1, turns: bool = False, between: int = 1
) -> list[Action]:
    """CNOTs `between` rounds apart, all one way or to and fro."""
    actions = [Action(0, "prepare", (patch,), basis) for patch in (0, 1)]
    for number in range(gates):
        actions.append(
            Action(wait + number * between, "CX", (1, 0) if turns and number % 2 else (0, 1))
        )
    end = 2 * wait + (gates - 1) * between
    return [*actions, *(Action(end, "measure", (patch,), basis) for patch in (0, 1))]


def teleported(wait: int, basis: Basis) -> list[Action]:
    """Patch 0 to patch 2, by way of 1."""
    before = [Action(0, "prepare", (0,), basis), Action(0, "prepare", (1,)),
              Action(0, "prepare", (2,)), Action(1, "H", (1,)), Action(2, "CX", (1, 2)),
              Action(2 + wait, "CX", (0, 1))]  # fmt: skip
    end = 2 + 2 * wait
    return [*before, Action(end, "measure", (0,), "X"), Action(end, "measure", (1,), "Z"),
            Action(end + 1, "measure", (2,), basis)]  # fmt: skip


def patches(actions: Sequence[Action]) -> int:
    return 1 + max(patch for each in actions for patch in each.patches)


def made(code: Code, actions: Sequence[Action]) -> Whole:
    return Whole([code] * patches(actions), actions)


def faults(circuit: stim.Circuit) -> int:
    """Fewest faults that a search finds; mechanisms of transversal gates are no edges."""
    found = circuit.search_for_undetectable_logical_errors(
        dont_explore_detection_event_sets_with_size_above=6,
        dont_explore_edges_with_degree_above=6,
        dont_explore_edges_increasing_symptom_degree=False,
    )
    return len(found)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("code", CODES, ids=name)
def test_a_program_that_only_waits_is_a_memory(code: Code, basis: Basis) -> None:
    whole = made(code, [Action(0, "prepare", (0,), basis), Action(5, "measure", (0,), basis)])
    known, plain = memory(code, 5, basis).flattened(), stim.Circuit()
    for each in known:
        if each.name not in ("DETECTOR", "OBSERVABLE_INCLUDE", "SHIFT_COORDS"):
            plain.append(each)
    assert whole.circuit == plain
    uniform = noise.uniform(1e-3)
    ours = whole.annotated(noise.apply(plain, uniform)).detector_error_model()
    theirs = noise.apply(known, uniform).detector_error_model()
    assert errors(ours) == errors(theirs)


def errors(model: stim.DetectorErrorModel) -> list[str]:
    return sorted(str(each) for each in model.flattened() if each.type == "error")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("code", CODES, ids=name)
def test_all_that_is_determined_is_compared(code: Code, seed: int) -> None:
    actions = random_program(seed, 3, NATIVE[code.profile], 20, given_up=False)
    whole = made(code, actions)
    circuit = whole.annotated(whole.circuit)
    circuit.detector_error_model()  # Raises where a detector or observable is random.
    assert circuit.count_determined_measurements() == circuit.num_detectors + len(whole.observables)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("code", CODES, ids=name)
def test_logical_errors_do_to_patches_what_errors_do_to_qubits(code: Code, seed: int) -> None:
    """Each observable says the same of a product of Paulis that begins the program."""
    actions = random_program(seed, 3, NATIVE[code.profile], 20)
    (patch,) = actions[0].patches
    whole = made(code, actions)
    layer = next(at for at, each in enumerate(whole.circuit) if each.name == "TICK")
    for letter, supports in (("X", code.logical_x), ("Z", code.logical_z)):
        struck = whole.circuit[: layer + 1]
        # H may have renumbered the block since.
        struck.append(f"{letter}_ERROR", [whole.first[patch].at[at] for at in supports[0]], 1)
        struck += whole.circuit[layer + 1 :]
        ideal = observed(actions)
        expected = ideal[:1]
        expected.append(f"{letter}_ERROR", [0], 1)
        expected += ideal[1:]
        detections, flips = (
            whole.annotated(struck)
            .compile_detector_sampler(seed=1)
            .sample(1, separate_observables=True)
        )
        assert not detections.any()
        _, wanted = expected.compile_detector_sampler(seed=1).sample(1, separate_observables=True)
        assert np.array_equal(flips, wanted)


@pytest.mark.parametrize("code", CODES, ids=name)
@pytest.mark.parametrize(
    "actions",
    [*(cnot(2, basis) for basis in BASES), cnot(2, "Z", 3, turns=True), pair(2), pair(2, "X"),
     teleported(1, "Z")],
    ids=["cnot X", "cnot Z", "to and fro", "pair", "pair X", "teleported"],
)  # fmt: skip
def test_programs_keep_the_distance(code: Code, actions: list[Action]) -> None:
    whole = made(code, actions)
    noisy = noise.apply(whole.circuit, noise.uniform(1e-3))
    assert faults(whole.annotated(noisy)) == code.distance
    for number, region in enumerate(whole.regions):
        seen = whole.seen(noisy, number, region.own)
        assert len(seen.shortest_graphlike_error()) == code.distance


@pytest.mark.slow
@pytest.mark.parametrize("code", [surface(5), bacon_shor(5)], ids=name)
@pytest.mark.parametrize("actions", [cnot(2, "Z"), pair(2), teleported(2, "X")])
def test_larger_codes_keep_their_distance_too(code: Code, actions: list[Action]) -> None:
    whole = made(code, actions)
    noisy = noise.apply(whole.circuit, noise.uniform(1e-3))
    for number, region in enumerate(whole.regions):
        seen = whole.seen(noisy, number, region.own)
        assert len(seen.shortest_graphlike_error()) == code.distance


def test_a_dual_patch_is_laid_on_the_code_where_it_fits() -> None:
    assert turning(surface(4)) is None
    for code in (surface(3), surface(5), bacon_shor(2), bacon_shor(4), shyps(2)):
        roles = turning(code)
        assert roles is not None
        assert sorted(roles) == list(range(len(code.qubits)))


def test_patches_may_be_far_apart_in_time_and_come_again() -> None:
    actions = [Action(0, "prepare", (0,)), Action(2, "measure", (0,)), Action(2, "prepare", (0,)),
               Action(9, "prepare", (1,)), Action(10, "CX", (0, 1)), Action(11, "discard", (0,)),
               Action(12, "measure", (1,)), Action(20, "prepare", (1,), "X"),
               Action(21, "measure", (1,), "X")]  # fmt: skip
    whole = made(surface(3), actions)
    assert whole.places == (1, 6, 8)
    circuit = whole.annotated(whole.circuit)
    assert circuit.count_determined_measurements() == circuit.num_detectors + 3
    rounds = sorted({at[2] for _, at in whole.detectors})
    assert rounds == [*range(13), 20, 21]


def test_what_codes_cannot_do_is_refused_by_its_place() -> None:
    begun = [Action(0, "prepare", (0,)), Action(0, "prepare", (1,))]
    for codes, gate, said in (
        ([surface(3), surface(3)], Action(1, "S", (0,)), "no transversal S"),
        ([surface(4), surface(4)], Action(1, "CZ", (0, 1)), "no transversal CZ"),
        ([surface(3), surface(5)], Action(1, "CX", (0, 1)), "two patches of one code"),
        ([surface(3), bacon_shor(3)], Action(1, "CX", (0, 1)), "two patches of one code"),
    ):
        with pytest.raises(OutOfReach, match=said) as refused:
            Whole(codes, [*begun, gate])
        assert refused.value.place == 2
        assert isinstance(refused.value, CodeError)
    turned = [*begun, Action(1, "H", (0,)), Action(2, "CX", (0, 1))]
    with pytest.raises(OutOfReach, match="orientation"):
        Whole([surface(4)] * 2, turned)
