"""Channels against exact Kraus arithmetic, and noisy circuits against ones written by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import stim
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray

from qmkd.qec import noise
from qmkd.qec.decoders import Matching, model_of
from qmkd.qec.sampling import Stop, sample_and_decode

MATRICES = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}
SMALL = noise.NoiseModel(
    name="each rate its own",
    strength=1.0,
    one_qubit=noise.depolarizing1(0.01),
    two_qubit=noise.depolarizing2(0.02),
    reset=0.03,
    measure=0.04,
    measured=noise.depolarizing1(0.05),
    measured_pair=noise.depolarizing2(0.06),
    idle_one=noise.depolarizing1(0.07),
    idle_two=noise.depolarizing1(0.08),
    idle_reset=noise.depolarizing1(0.09),
    idle_measure=noise.depolarizing1(0.1),
)


def applied(text: str, model: noise.NoiseModel | noise.Drift = SMALL) -> stim.Circuit:
    return noise.apply(stim.Circuit(text), model)


def test_each_kind_of_layer_gets_the_noise_of_its_operations_and_of_waiting() -> None:
    clean = """
        QUBIT_COORDS(0, 0) 0
        R 0
        RX 1
        TICK
        H 0
        TICK
        CX 0 1
        S 2
        TICK
        MXX 0 1
        CX rec[-1] 2
        TICK
        M 0
        MRX 1
        DETECTOR rec[-1]
        TICK
        I 0
    """
    expected = """
        QUBIT_COORDS(0, 0) 0
        R 0
        RX 1
        X_ERROR(0.03) 0
        Z_ERROR(0.03) 1
        DEPOLARIZE1(0.09) 2
        TICK
        H 0
        DEPOLARIZE1(0.01) 0
        DEPOLARIZE1(0.07) 1 2
        TICK
        CX 0 1
        S 2
        DEPOLARIZE2(0.02) 0 1
        DEPOLARIZE1(0.01) 2
        TICK
        MXX(0.04) 0 1
        CX rec[-1] 2
        DEPOLARIZE2(0.06) 0 1
        DEPOLARIZE1(0.1) 2
        TICK
        M(0.04) 0
        MRX(0.04) 1
        DETECTOR rec[-1]
        DEPOLARIZE1(0.05) 0
        Z_ERROR(0.03) 1
        DEPOLARIZE1(0.1) 2
        TICK
        I 0
        DEPOLARIZE1(0.07) 0 1 2
    """
    assert applied(clean).approx_equals(stim.Circuit(expected), atol=1e-12)


def test_products_keep_their_order_and_their_signs() -> None:
    noisy = applied("MPP !X0*X1 Z2")
    expected = """
        MPP(0.04) !X0*X1 Z2
        DEPOLARIZE1(0.05) 2
        DEPOLARIZE2(0.06) 0 1
    """
    assert noisy.approx_equals(stim.Circuit(expected), atol=1e-12)


def test_nothing_happens_to_immune_qubits() -> None:
    noisy = noise.apply(stim.Circuit("R 0 1 2\nTICK\nCX 0 1\nTICK\nM 2 1 0"), SMALL, immune=[1])
    expected = """
        R 0
        R 1
        R 2
        X_ERROR(0.03) 0 2
        TICK
        CX 0 1
        DEPOLARIZE1(0.08) 2
        TICK
        M(0.04) 2
        M 1
        M(0.04) 0
        DEPOLARIZE1(0.05) 2 0
    """
    assert noisy.approx_equals(stim.Circuit(str(stim.Circuit(expected))), atol=1e-12)


@pytest.mark.parametrize("task", ["surface_code:rotated_memory_x", "repetition_code:memory"])
def test_without_noise_a_circuit_stays_as_it_is(task: str) -> None:
    clean = stim.Circuit.generated(task, distance=3, rounds=5)
    assert noise.apply(clean, noise.NoiseModel(name="none", strength=0.0)) == clean


def test_uniform_noise_strikes_every_qubit_of_the_system_once_in_every_layer() -> None:
    clean = stim.Circuit.generated("surface_code:rotated_memory_z", distance=3, rounds=4)
    noisy = noise.apply(clean.flattened(), noise.uniform(1e-3))
    system = sorted({int(each) for each in noisy.get_final_qubit_coordinates()})
    layers = str(noisy).split("TICK")
    for layer in layers:
        struck = [
            target.value
            for item in stim.Circuit(layer)
            if item.name in {"X_ERROR", "Z_ERROR", "DEPOLARIZE1", "DEPOLARIZE2"}
            for target in item.targets_copy()
        ]
        assert sorted(struck) == system
    assert len(layers) == 4 * 7 + 1


def test_repeated_and_unrolled_blocks_get_the_same_noise() -> None:
    clean = stim.Circuit(
        "R 0 1\nTICK\nREPEAT 5 {\nCX 0 1\nTICK\nMR 1\nDETECTOR rec[-1]\nTICK\n}\nM 0"
    )
    repeated = noise.apply(clean, noise.si1000(0.01))
    assert repeated.flattened() == noise.apply(clean.flattened(), noise.si1000(0.01))


def test_a_drift_changes_the_strength_from_layer_to_layer() -> None:
    drift = noise.Drift(model=SMALL, knots=((0, 1.0), (2, 2.0)))
    noisy = applied("REPEAT 4 {\nH 0\nTICK\n}", drift)
    rates = [item.gate_args_copy()[0] for item in noisy if item.name == "DEPOLARIZE1"]
    assert rates == pytest.approx([0.01, 0.015, 0.02, 0.02])
    assert drift.at(-5) == SMALL


def test_perfect_instructions_are_copied_and_a_layer_of_them_takes_no_time() -> None:
    clean = "R[perfect] 0 1\nTICK\nMPP[perfect] X0*X1 X1*X2\nTICK\nRX 2\nTICK\nM[perfect] 0 2"
    noisy = clean.replace("RX 2", "RX 2\nZ_ERROR(0.03) 2\nDEPOLARIZE1(0.09) 0 1")
    assert applied(clean) == stim.Circuit(noisy)


def test_layers_without_operations_take_no_time() -> None:
    drift = noise.Drift(model=SMALL, knots=((0, 1.0), (1, 2.0)))
    noisy = applied("TICK\nTICK\nH 0\nTICK\nTICK\nH 0", drift)
    rates = [item.gate_args_copy()[0] for item in noisy if item.name == "DEPOLARIZE1"]
    assert rates == pytest.approx([0.01, 0.02])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("H 0\nH 0", "twice"),
        ("CX 0 1 1 2", "twice"),
        ("X_ERROR(0.1) 0", "noise already"),
        ("M(0.1) 0", "noise already"),
        ("MPP X0*X1*X2", "three"),
        ("SPP X0*X1", "says nothing"),
    ],
)
def test_a_circuit_that_noise_cannot_be_added_to_is_refused(text: str, why: str) -> None:
    with pytest.raises(noise.NoiseError, match=why):
        applied(text)


def test_models_that_are_no_distributions_are_refused() -> None:
    with pytest.raises(noise.NoiseError, match="outside"):
        noise.uniform(0.6)
    with pytest.raises(noise.NoiseError, match="no distribution"):
        noise.NoiseModel(name="sum", strength=1, one_qubit=(0.5, 0.5, 0.5))
    with pytest.raises(noise.NoiseError, match="15"):
        noise.NoiseModel(name="short", strength=1, two_qubit=(0.1, 0.1))
    with pytest.raises(noise.NoiseError, match="outside"):
        noise.Drift(model=noise.si1000(0.05), knots=((0, 1), (1, 3)))
    with pytest.raises(noise.NoiseError, match="ascend"):
        noise.Drift(model=SMALL, knots=((1, 1), (1, 1)))


def kraus_twirl(time: float, t1: float, t2: float) -> list[float]:
    """Probabilities of I, X, Y, Z of the exact twirl of amplitude and pure dephasing damping.

    The diagonal of the process matrix in the Pauli basis: sum over Kraus operators of
    |tr(P K)|^2 / 4.
    """
    decay = -math.expm1(-time / t1)
    keep = math.exp(-time / t2 + time / (2 * t1))  # of the phase, beyond what decay takes
    amplitude = [
        np.array([[1, 0], [0, math.exp(-time / (2 * t1))]]),  # sqrt(1 - decay)
        np.array([[0, math.sqrt(decay)], [0, 0]]),
    ]
    dephasing = [
        math.sqrt((1 + keep) / 2) * MATRICES["I"],
        math.sqrt((1 - keep) / 2) * MATRICES["Z"],
    ]
    both: list[NDArray[np.float64]] = [a @ b for a in amplitude for b in dephasing]
    return [sum(abs(np.trace(MATRICES[p] @ k)) ** 2 / 4 for k in both) for p in noise.PAULIS]


@given(
    time=some.floats(1e-3, 1e3),
    t1=some.floats(1.0, 1e4),
    share=some.floats(0.01, 1.0),
)
def test_the_twirl_is_that_of_the_exact_kraus_operators(
    time: float, t1: float, share: float
) -> None:
    t2 = 2 * t1 * share
    assert noise.twirl(time, t1, t2) == pytest.approx(kraus_twirl(time, t1, t2)[1:], abs=1e-12)


def test_a_phase_that_outlives_twice_the_decay_is_refused() -> None:
    assert noise.twirl(0.1, 100, 200)[2] >= 0
    with pytest.raises(noise.NoiseError, match="exceeds"):
        noise.twirl(1, 100, 200.1)


@given(time=some.floats(1e-3, 10), share=some.floats(0.1, 1.0), bias=some.floats(0.5, 1e4))
def test_independent_errors_give_the_channel_they_stand_for(
    time: float, share: float, bias: float
) -> None:
    for channel in (noise.twirl(time, 10, 20 * share), noise.biased1(0.01, bias)):
        alone = noise.independent1(channel)
        assert alone is not None
        total = noise.NONE1
        for index, chance in enumerate(alone):
            one = [0.0, 0.0, 0.0]
            one[index] = chance
            total = noise.compose1(total, (one[0], one[1], one[2]))
        assert total == pytest.approx(channel, abs=1e-9)


def test_a_channel_without_independent_errors_is_written_as_it_is() -> None:
    assert noise.independent1((0.2, 0.2, 0.0)) is None
    model = noise.NoiseModel(name="xy", strength=1, one_qubit=(0.2, 0.2, 0.0))
    assert applied("H 0", model) == stim.Circuit("H 0\nPAULI_CHANNEL_1(0.2, 0.2, 0) 0")


def test_composition_agrees_with_products_of_matrices() -> None:
    first, second = (0.1, 0.02, 0.05), (0.01, 0.2, 0.03)
    found = dict.fromkeys("XYZ", 0.0)
    for (a, p), (b, q) in itertools.product(
        zip("IXYZ", (1 - sum(first), *first), strict=True),
        zip("IXYZ", (1 - sum(second), *second), strict=True),
    ):
        product = MATRICES[a] @ MATRICES[b]
        same = [c for c in "IXYZ" if abs(np.trace(MATRICES[c] @ product)) > 1]
        if same != ["I"]:
            found[same[0]] += p * q
    assert noise.compose1(first, second) == pytest.approx([found[c] for c in "XYZ"])


@pytest.mark.parametrize("bias", [0.5, 3.0, 100.0])
def test_each_qubit_of_a_biased_pair_sees_the_bias(bias: float) -> None:
    chances = dict(zip(noise.PAIRS, noise.biased2(0.01, bias), strict=True))
    assert sum(chances.values()) == pytest.approx(0.01)
    for side in (0, 1):
        seen = {p: sum(c for pair, c in chances.items() if pair[side] == p) for p in "XYZ"}
        assert seen["Z"] / (seen["X"] + seen["Y"]) == pytest.approx(bias)


def test_without_bias_the_biased_model_is_the_uniform_one() -> None:
    clean = stim.Circuit.generated("surface_code:rotated_memory_x", distance=3, rounds=2)
    flat = noise.apply(clean, noise.biased(0.01, 0.5))
    assert flat.approx_equals(noise.apply(clean, noise.uniform(0.01)), atol=1e-12)


def test_decay_makes_waiting_for_measurement_the_longest() -> None:
    durations = noise.Durations(one_qubit_ns=30, two_qubit_ns=50, reset_ns=200, measure_ns=600)
    model = noise.decaying(noise.uniform(0), durations, 50_000, 70_000)
    assert model.idle_measure == pytest.approx(noise.twirl(600, 50_000, 70_000))
    noisy = applied("H 0\nM 1\nTICK\nI 0 1\nR 2", model)
    assert [item.name for item in noisy if item.name.endswith("_ERROR")] == [
        "X_ERROR",
        "Y_ERROR",
        "Z_ERROR",
    ] * 2


def test_presets_are_known_by_their_names() -> None:
    for name, make in noise.PRESETS.items():
        model = make(1e-3)
        assert (model.name, model.strength) == (name, 1e-3)
        assert make(0.0).scaled(1) == make(0.0)
        assert model.scaled(2).two_qubit == pytest.approx(make(2e-3).two_qubit)


def test_si1000_has_the_rates_of_its_paper() -> None:
    model = noise.si1000(1e-3)
    assert (model.reset, model.measure) == (2e-3, 5e-3)
    assert sum(model.two_qubit) == pytest.approx(1e-3)
    assert sum(model.one_qubit) == pytest.approx(1e-4)
    # Two depolarizing channels, p/10 and 2p: the Bloch vector shrinks by both factors.
    shrink = (1 - 4 / 3 * 1e-4) * (1 - 4 / 3 * 2e-3)
    assert sum(model.idle_measure) == pytest.approx((1 - shrink) * 3 / 4)


def test_biased_noise_can_be_decoded_by_matching() -> None:
    clean = stim.Circuit.generated("surface_code:rotated_memory_x", distance=3, rounds=3)
    noisy = noise.apply(clean, noise.biased(3e-3, 10))
    tally = sample_and_decode(noisy, Matching(model_of(noisy)), Stop(shots=20_000), seed=3)
    # Z errors strike this basis, and at strength 3e-3 distance 3 still corrects most of them.
    assert 0 < tally.errors < 0.05 * tally.shots
