"""SHYPS codes: parameters, footprint, and distances by exhaustion where that is possible."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import stim

from qmkd.qec import noise
from qmkd.qec.circuits import memory
from qmkd.qec.codes.code import Basis, Code, CodeError, null_space, rank
from qmkd.qec.codes.shyps import RANKS, circulant, shyps
from qvm.profiles import SHYPS_DISTANCES, Profile, parse_profile


@pytest.mark.parametrize("distance", sorted(RANKS))
def test_parameters_and_footprint_are_those_of_the_profile(distance: int) -> None:
    code, r = shyps(distance), RANKS[distance]
    profile = parse_profile(f"logical:SHYPS(d={distance})")
    assert isinstance(profile, Profile)
    assert (code.data, code.k, code.distance) == ((2**r - 1) ** 2, r**2, 2 ** (r - 1))
    assert code.footprint.physical == profile.block_physical
    assert code.k == profile.block


def test_there_are_the_distances_that_profiles_offer() -> None:
    assert tuple(sorted(RANKS)) == SHYPS_DISTANCES
    with pytest.raises(CodeError, match="not 9"):
        shyps(9)


@pytest.mark.parametrize("r", sorted(RANKS.values()))
def test_every_word_of_the_simplex_code_has_the_weight_of_the_distance(r: int) -> None:
    """The distance follows: see the docstring of the module."""
    words = null_space(circulant(r))
    assert rank(words) == r
    for size in range(1, r + 1):
        for chosen in combinations(words, size):
            assert np.sum(chosen, axis=0).__mod__(2).sum() == 2 ** (r - 1)


@pytest.mark.parametrize("distance", sorted(RANKS))
def test_bare_logical_operators_reach_the_distance_and_gauges_have_weight_three(
    distance: int,
) -> None:
    code = shyps(distance)
    for basis in code.protects:
        assert set(code.logical_matrix(basis).sum(axis=1)) == {distance}
        assert set(code.gauge_matrix(basis).sum(axis=1)) == {3}


@pytest.mark.parametrize("distance", [2, 4])
def test_no_lighter_operator_is_logical(distance: int) -> None:
    """All products of X on fewer qubits: what commutes with the stabilizers commutes with all Z."""
    code = shyps(distance)
    checks = code.stabilizer_matrix("Z").astype(int)
    logical = code.logical_matrix("Z").astype(int)
    for weight in range(1, distance):
        chosen = np.array(list(combinations(range(code.data), weight)))
        silent = ~(checks[:, chosen].sum(axis=2) % 2).any(axis=0)
        assert not (logical[:, chosen[silent]].sum(axis=2) % 2).any()


@pytest.mark.parametrize("basis", ["X", "Z"])
@pytest.mark.parametrize(("distance", "rounds"), [(2, 2), (4, 1), (4, 2)])
def test_no_fewer_faults_than_the_distance_are_an_undetected_logical_error(
    distance: int, rounds: int, basis: Basis
) -> None:
    circuit = noise.apply(memory(shyps(distance), rounds, basis), noise.uniform(1e-3))
    assert not undetected(circuit, distance - 1)
    found = circuit.search_for_undetectable_logical_errors(
        dont_explore_detection_event_sets_with_size_above=4,
        dont_explore_edges_with_degree_above=4,
        dont_explore_edges_increasing_symptom_degree=False,
    )
    assert len(found) == distance


@pytest.mark.slow
def test_a_search_finds_no_shorter_error_than_eight_faults_in_the_code_of_distance_eight() -> None:
    """A search, not a proof: exhaustion is out of reach for weight seven."""
    circuit = noise.apply(memory(shyps(8), 2, "Z"), noise.uniform(1e-3))
    found = circuit.search_for_undetectable_logical_errors(
        dont_explore_detection_event_sets_with_size_above=4,
        dont_explore_edges_with_degree_above=4,
        dont_explore_edges_increasing_symptom_degree=False,
    )
    assert len(found) == 8


def undetected(circuit: stim.Circuit, faults_max: int) -> bool:
    """Whether at most three mechanisms of the model flip observables and no detector. Exhaustive.

    Each detector and each observable has a random 64-bit word; sets of flips are XORs of them. Two
    different sets are taken for equal with probability 2^-64, which can only make this say True.
    """
    assert faults_max <= 3
    words = np.random.default_rng(5).integers(1, 2**63, 1 << 16, dtype=np.int64)
    detected, flipped = [], []
    for instruction in circuit.detector_error_model().flattened():
        if instruction.type != "error":
            continue
        mark = flip = np.int64(0)
        for target in instruction.targets_copy():
            if target.is_relative_detector_id():
                mark ^= words[target.val]
            elif target.is_logical_observable_id():
                flip ^= words[-1 - target.val]
        detected.append(mark)
        flipped.append(flip)
    marks, flips = np.array(detected), np.array(flipped)
    order = np.argsort(marks, kind="stable")
    marks, flips = marks[order], flips[order]
    if (flips[marks == 0] != 0).any():
        return True
    if faults_max >= 2 and ((np.diff(marks) == 0) & (np.diff(flips) != 0)).any():
        return True
    if faults_max < 3:
        return False
    for i in range(len(marks)):
        pairs = marks[i] ^ marks[i + 1 :]
        at = np.searchsorted(marks, pairs)
        at[at == len(marks)] = 0
        same = marks[at] == pairs
        if (flips[at[same]] != flips[i] ^ flips[i + 1 :][same]).any():
            return True
    return False


def test_what_counts_faults_finds_the_short_errors_of_a_code_that_is_too_small() -> None:
    def circuit(code: Code) -> stim.Circuit:
        return noise.apply(memory(code, 2, "Z"), noise.uniform(1e-3))

    assert undetected(circuit(shyps(2)), 2)
    assert not undetected(circuit(shyps(2)), 1)
