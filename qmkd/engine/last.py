"""What the last measurements of a program have to do with one another, in many states at once.

Z of several qubits, measured in order: an outcome is either free, or a parity of free ones before
it. Which, depends on the state; where nothing comes afterwards, that is all there is to know, and
no state has to be collapsed. Found by elimination, for all states together.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import stim
from numpy.typing import NDArray

from qmkd.engine.chance import Words

LAST_MAX: Final = 63
"""Measurements at a time: one bit each in a word, and one for the constant."""
CONSTANT: Final = 63
ELIMINATION_BYTES: Final = 1 << 20  # at a time: what fits the caches

assert LAST_MAX <= CONSTANT <= 63

_Bits = NDArray[np.bool_]


def relations(sims: list[stim.TableauSimulator], qubits: tuple[int, ...]) -> tuple[_Bits, Words]:
    """certain: shape (qubits, states): in which states an outcome follows from those before it.

    parities: uint64, same shape: bit i says that outcome i has a part in it, bit CONSTANT that 1 is
    to be added; meaningless where the outcome is free.
    """
    assert len(set(qubits)) == len(qubits) <= LAST_MAX
    slots = sims[0].num_qubits
    size = max(1, ELIMINATION_BYTES // (len(qubits) * (-(-slots // 64) * 16 + 16)))
    parts = [
        _eliminate(*_observables(sims[at : at + size], qubits)) for at in range(0, len(sims), size)
    ]
    certain, parities = zip(*parts, strict=True)
    return np.concatenate(certain, axis=1), np.concatenate(parities, axis=1)


def _observables(
    sims: list[stim.TableauSimulator], qubits: tuple[int, ...]
) -> tuple[Words, Words, Words]:
    """Z of each qubit before the gates that made the state of |0>: i^phase X^x Z^z.

    x, z: shape (qubits, states, words). phase: shape (qubits, states), modulo 4.
    """
    slots = sims[0].num_qubits
    shape = (len(qubits), len(sims), -(-slots // 64) * 8)
    x, z = np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
    signs = np.empty(shape[:2], dtype=np.uint64)
    chosen = list(qubits)
    for at, sim in enumerate(sims):
        _, _, z2x, z2z, _, z_signs = sim.current_inverse_tableau().to_numpy(bit_packed=True)
        x[:, at, : z2x.shape[1]] = z2x[chosen]
        z[:, at, : z2z.shape[1]] = z2z[chosen]
        signs[:, at] = np.unpackbits(z_signs, bitorder="little")[chosen]
    xs, zs = x.view("<u8"), z.view("<u8")
    return xs, zs, 2 * signs + np.bitwise_count(xs & zs).sum(axis=2, dtype=np.uint64)


def _eliminate(x: Words, z: Words, phase: Words) -> tuple[_Bits, Words]:
    """Multiply every observable by earlier ones, so that as many as can be have no X part."""
    count, states, _ = x.shape
    each = np.arange(states)
    own = np.uint64(1) << np.arange(count, dtype=np.uint64)[:, None]
    parities = np.repeat(own, states, axis=1)
    for at in range(count - 1):
        mine = x[at]
        word = (mine != 0).argmax(axis=1)
        pivot = mine[each, word]
        pivot &= ~pivot + np.uint64(1)
        hit = (x[at + 1 :, each, word] & pivot != 0).astype(np.uint64)
        crossed = np.bitwise_count(z[at + 1 :] & mine).sum(axis=2, dtype=np.uint64)
        phase[at + 1 :] += hit * (phase[at] + 2 * crossed)
        parities[at + 1 :] ^= hit * parities[at]
        x[at + 1 :] ^= hit[:, :, None] * mine
        z[at + 1 :] ^= hit[:, :, None] * z[at]
    parities ^= own
    parities |= (phase >> np.uint64(1) & np.uint64(1)) << np.uint64(CONSTANT)
    return np.logical_not(x.any(axis=2)), parities
