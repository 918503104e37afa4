"""T states as a resource: what they cost, how often they err, and where that is known from.

Two sources. Distillation, 15-to-1: exact closed forms, and a sampler that runs the circuit on state
vectors. Cultivation: counts published by Gidney, Shutty and Jones, not simulated here. Both become
a `MagicSource`, the only thing that others need. The estimator's own factories, with their
first-order formulas, are in `factories.py`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from qmkd.qec.factories import Patch, Unit

INPUTS: Final = 15
QUBITS: Final = 5
CLIFFORD_ERRORS: Final = 7.1
CLIFFORD_REJECTIONS: Final = 356.0
"""First-order weights of a patch's error in a 15-to-1 unit: Beverland et al., arXiv:2211.07629."""


class Distilled(NamedTuple):
    """accept: chance that a round is kept. error: chance of a Z error on the state kept."""

    accept: float
    error: float


def fifteen_to_one(p: float) -> Distilled:
    """15 states with independent Z errors of chance p, distilled by perfect Clifford operations.

    accept = (1 + 15 (1-2p)^8) / 16 and error = (1 - 15 (1-2p)^7 + 15 (1-2p)^8 - (1-2p)^15) /
    (32 accept): Bravyi and Kitaev, arXiv:quant-ph/0403025, equations 35 and 36. For small p the
    error is 35 p^3.
    """
    if not 0 <= p <= 0.5:
        raise ValueError(f"a state errs with a chance of 0 to 1/2, not {p}")
    keep = 1 - 2 * p
    accept = (1 + 15 * keep**8) / 16
    if p < SMALL:
        return Distilled(accept, _undetected(p) / accept)
    return Distilled(accept, (1 - 15 * keep**7 + 15 * keep**8 - keep**15) / (32 * accept))


SMALL: Final = 1e-2
_UNDETECTED: Final = {3: 35, 5: 168, 7: 435, 9: 280, 11: 105, 15: 1}
"""How many sets of so many Z errors pass the checks and leave an error."""


def _undetected(p: float) -> float:
    """Chance of an undetected error, as a sum of positive terms: no digits cancel at small p."""
    return math.fsum(
        number * p**weight * (1 - p) ** (INPUTS - weight) for weight, number in _UNDETECTED.items()
    )


def rotations() -> NDArray[np.int64]:
    """The 15 rotations of the distillation circuit, as masks over its 5 qubits: int64, (15,).

    Each is exp(-i pi/8 P) with P a product of Z; bit 4 is the output qubit, which all of them turn,
    bits 0 to 3 run over all values but 0. Litinski, arXiv:1905.06903, section 2.
    """
    return np.arange(1, INPUTS + 1) | (1 << (QUBITS - 1))


class Sampled(NamedTuple):
    """Of `trials` rounds, how many were kept, and how many of those were wrong."""

    trials: int
    accepted: int
    wrong: int


def sample_fifteen_to_one(p: float, trials: int, seed: int) -> Sampled:
    """Run the circuit on exact state vectors, with Z errors of chance p on the consumed states.

    A Z error on a consumed state applies P after its rotation. Rounds whose errors multiply to the
    same product of Z end in the same state, so each of the 32 products is run once, and rounds are
    drawn; accepting and the test of the output are drawn from that state's own probabilities.
    """
    chance = np.random.Generator(np.random.Philox(seed))
    masks = rotations()
    products = np.zeros(trials, dtype=np.int64)
    for mask in masks:
        products ^= np.where(chance.random(trials) < p, mask, 0)
    accepted = wrong = 0
    for product, number in enumerate(np.bincount(products, minlength=1 << QUBITS)):
        accept, error = _outcome(_distilled_state(masks, product))
        kept = int(chance.binomial(number, accept))
        accepted += kept
        wrong += int(chance.binomial(kept, error))
    return Sampled(trials, accepted, wrong)


def _signs(mask: int) -> NDArray[np.int64]:
    """The diagonal of a product of Z: int64, (32,)."""
    parity = np.array([(basis & mask).bit_count() & 1 for basis in range(1 << QUBITS)])
    return 1 - 2 * parity


def _distilled_state(masks: NDArray[np.int64], product: int) -> NDArray[np.complex128]:
    """|+> on every qubit, all rotations, then an erroneous product of Z."""
    state = np.full(1 << QUBITS, 2 ** (-QUBITS / 2), dtype=np.complex128)
    for mask in masks:
        state *= np.exp(-1j * math.pi / 8 * _signs(int(mask)))
    return state * _signs(product)


def _outcome(state: NDArray[np.complex128]) -> tuple[float, float]:
    """Chance that qubits 0 to 3 are measured as |+>, and then of an output that is no T state.

    Of perfect states the output is exp(+i pi/8 Z)|+>: 15 rotations by pi/8 make one by -pi/8.
    """
    kept = state.reshape(2, -1).sum(axis=1) / 2 ** ((QUBITS - 1) / 2)
    accept = float(np.vdot(kept, kept).real)
    if accept < 1e-12:
        return 0.0, 0.0
    ideal = np.exp(np.array([1j, -1j]) * math.pi / 8) / math.sqrt(2)
    right = abs(np.vdot(ideal, kept)) ** 2 / accept
    return min(1.0, accept), max(0.0, 1 - right)


class Cultivated(msgspec.Struct, frozen=True):
    """Published counts for cultivation from injection to idling at distance 15.

    fault_distance: of the colour code that the state is checked in. p: uniform circuit noise.
    gap: complementary gap, in decibels, below which a state is thrown away. errors: of `shots` less
    `discards`; the authors count S states and take twice as many for T. volume: mean qubit-rounds
    per state kept. qubits: of one attempt.
    """

    fault_distance: int
    p: float
    gap: int
    shots: int
    errors: int
    discards: int
    volume: float
    qubits: int

    @property
    def kept(self) -> int:
        return self.shots - self.discards

    @property
    def error(self) -> float:
        """Of a state kept."""
        return self.errors / self.kept


def _grown(
    fault_distance: int, p: float, shots: int, qubits: int, rows: tuple[tuple[int, ...], ...]
) -> tuple[Cultivated, ...]:
    """Rows of gap, errors, discards, qubit-rounds per state kept."""
    return tuple(
        Cultivated(fault_distance, p, gap, shots, errors, discards, volume, qubits)
        for gap, errors, discards, volume in rows
    )


CULTIVATION_SOURCE: Final = (
    "Gidney, Shutty, Jones, arXiv:2409.17595; github.com/Strilanc/magic-state-cultivation, "
    "assets/emulated-historical-stats.csv"
)
CULTIVATED: Final = (
    *_grown(3, 5e-4, 10**9, 454, (
        (77, 152, 492886958, 4434),
        (70, 224, 432679751, 3963),
        (55, 520, 369237796, 3564),
        (44, 9082, 297348970, 3200),
    )),
    *_grown(3, 1e-3, 10**9, 454, (
        (69, 598, 774580093, 8071),
        (63, 972, 710495744, 6284),
        (58, 1354, 673497707, 5572),
        (51, 2502, 632356989, 4948),
        (45, 12426, 576032831, 4291),
        (40, 30274, 528845363, 3861),
        (21, 338020, 475243842, 3467),
    )),
    *_grown(3, 2e-3, 10**9, 454, (
        (60, 800, 967885597, 37284),
        (55, 1842, 946153251, 22236),
        (49, 5014, 917591804, 14530),
        (44, 11390, 892588003, 11147),
        (37, 66302, 834825846, 7249),
        (25, 517022, 762205462, 5035),
    )),
    *_grown(5, 5e-4, 1134463380480, 463, (
        (131, 4, 1041982591001, 18963),
        (117, 8, 1000599069245, 13101),
        (107, 84, 966217962419, 10424),
        (96, 2450, 920957972907, 8214),
        (82, 7596, 896690332369, 7376),
    )),
    *_grown(5, 1e-3, 10**12, 463, (
        (116, 4, 994927205665, 127164),
        (109, 14, 991471154697, 75635),
        (104, 24, 988696105654, 57067),
        (99, 86, 985490604628, 44459),
        (96, 170, 982943141342, 37819),
        (94, 260, 980143644819, 32487),
        (89, 1710, 975106704669, 25914),
        (84, 4420, 968844004785, 20705),
        (79, 7172, 965200450286, 18537),
        (69, 30178, 956021371382, 14668),
        (53, 176490, 950923234956, 13144),
    )),
)  # fmt: skip
"""A part of the published points, by fault distance and noise, best states first."""


class MagicSource(msgspec.Struct, frozen=True, kw_only=True):
    """One device that makes T states, one after the other.

    error: per state. qubits: physical, while it runs. rounds_per_state: mean syndrome rounds from
    one state to the next, rejections included. origin: where the error is known from.
    """

    name: str
    error: float
    qubits: int
    rounds_per_state: float
    origin: str


def distillery(unit: Unit, patch: Patch, input_error: float) -> MagicSource:
    """15-to-1 on patches: the exact closed form for the states, first order for the patches.

    patch.error: of one patch in one logical cycle of `patch.distance` rounds.
    Raises ValueError where the patches err so often that no round would be kept.
    """
    accept, error = fifteen_to_one(input_error)
    accept *= 1 - CLIFFORD_REJECTIONS * patch.error
    if accept <= 0:
        raise ValueError(f"patches that err with {patch.error:.3g} a cycle distil nothing")
    return MagicSource(
        name=f"{unit.name}, d={patch.distance}",
        error=error + CLIFFORD_ERRORS * patch.error,
        qubits=unit.qubits_coded * patch.physical_qubits,
        rounds_per_state=unit.cycles_coded * patch.distance / accept,
        origin="closed form of 15-to-1; patches to first order (arXiv:2211.07629)",
    )


def cultivation(p: float, error_wanted: float) -> MagicSource | None:
    """The cheapest published cultivation whose states err no more than wanted; None without one.

    Points of the smallest published noise that is not below p serve, so p may be weaker than them.
    """
    strengths = [row.p for row in CULTIVATED if row.p >= p]
    if not strengths:
        return None
    fit = [row for row in CULTIVATED if row.p == min(strengths) and row.error <= error_wanted]
    if not fit:
        return None
    best = min(fit, key=lambda row: row.volume)
    return MagicSource(
        name=f"cultivation, fault distance {best.fault_distance}, gap {best.gap} dB",
        error=best.error,
        qubits=best.qubits,
        rounds_per_state=best.volume / best.qubits,
        origin=f"published at p={best.p:g}: {CULTIVATION_SOURCE}",
    )
