"""All chance of the engines: raw words of Philox4x64-10, each with a fixed address.

`word(seed, epoch, node, draw, shot)` is word number `shot % 4` of the Philox4x64-10 block with

    key     = (seed, DOMAIN)
    counter = (shot // 4 + 1, draw, node, epoch)      least significant 64-bit word first.

The `+ 1` is because NumPy's Philox adds one to its counter before it makes a block, so the state
that is handed to it holds `shot // 4` itself. Philox4x64-10 is that of Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3" (SC'11). Only raw words are taken from NumPy, never a
distribution function, because those may change between versions.

A random outcome with probability P(1) is 1 if and only if `word >> 24 < quantise(P(1))`. P is
rounded to a multiple of 2^-40 there, so two engines whose floating point differs in the last place
agree. Where P(1) is 1/2 this is `word < 2**63`.

Draw numbers within a node. A measurement, RESET and INJECT_T_STATE (which resets first) draw 0;
MEASURE_BELL draws 0 for m0 (XX) and 1 for m1 (ZZ); FREE_LQ draws by operand position. Noise draws
count from NOISE_DRAW_FIRST. A node that lowers to several steps shifts the numbers of step i by i
times OWN_DRAWS or NOISE_DRAWS. An outcome that is certain draws nothing.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qvm.isa import OPERANDS_MAX

Words = NDArray[np.uint64]

DOMAIN: Final = 0x716D6B64_00000001  # "qmkd", and the version of this numbering
PROBABILITY_BITS: Final = 40
ONE: Final = 1 << PROBABILITY_BITS
HALF: Final = ONE >> 1
CERTAIN: Final = 1e-9  # a probability this near to 0 or 1 is exactly that

STEPS_PER_NODE_MAX: Final = 4
OWN_DRAWS: Final = OPERANDS_MAX
NOISE_DRAW_FIRST: Final = 1 << 16
NOISE_DRAWS: Final = 1 << 20

assert OWN_DRAWS * STEPS_PER_NODE_MAX <= NOISE_DRAW_FIRST, "own draws and noise draws are apart"
assert NOISE_DRAW_FIRST + NOISE_DRAWS * STEPS_PER_NODE_MAX < 1 << 64

_SHIFT: Final = np.uint64(64 - PROBABILITY_BITS)
_TOP: Final = np.uint64(1 << 63)


class Chance:
    """The random words of one seed. Holds no position: the same address gives the same word."""

    def __init__(self, seed: int) -> None:
        assert 0 <= seed < 1 << 64, seed
        self.seed = seed
        self._source = np.random.Philox(key=np.array([seed, DOMAIN], dtype=np.uint64), counter=0)
        self._state: Any = self._source.state
        self._counter = self._state["state"]["counter"]

    def words(self, epoch: int, node: int, draw: int, shot_first: int, shots: int) -> Words:
        """The words of shots [shot_first, shot_first + shots): uint64, shape (shots,)."""
        skipped = self._seek(epoch, node, draw, shot_first)
        found: Words = self._source.random_raw(skipped + shots)
        return found[skipped:] if skipped else found

    def word(self, epoch: int, node: int, draw: int, shot: int) -> int:
        """The word of one shot."""
        skipped = self._seek(epoch, node, draw, shot)
        return int(
            self._source.random_raw(skipped + 1)[-1] if skipped else self._source.random_raw()
        )

    def coin(self, epoch: int, node: int, draw: int, shot: int) -> int:
        """The outcome of one shot where P(1) = 1/2."""
        return self.word(epoch, node, draw, shot) >> 63 ^ 1

    def coins(self, epoch: int, node: int, draw: int, shot_first: int, shots: int) -> Words:
        """The outcomes of shots where P(1) = 1/2, as `pack` packs them."""
        return pack(self.words(epoch, node, draw, shot_first, shots) < _TOP)

    def _seek(self, epoch: int, node: int, draw: int, shot: int) -> int:
        """Go to the block of `shot`; returns how many of its words come before."""
        counter = self._counter
        counter[0] = shot >> 2
        counter[1] = draw
        counter[2] = node
        counter[3] = epoch
        self._source.state = self._state
        return shot & 3


def pack(bits: NDArray[np.bool_]) -> Words:
    """bool, shape (shots,) -> uint64, shape (ceil(shots / 64),): shot i is bit i % 64 of word
    i // 64, and bits past the end are 0."""
    packed = np.zeros(-(-len(bits) // 64), dtype="<u8")
    packed.view(np.uint8)[: -(-len(bits) // 8)] = np.packbits(bits, bitorder="little")
    return packed


def unpack(packed: Words, shots: int) -> NDArray[np.uint8]:
    """The inverse of `pack`: uint8 of 0 and 1, shape (shots,)."""
    return np.unpackbits(packed.view(np.uint8), count=shots, bitorder="little")


def quantise(probability: NDArray[np.float64]) -> Words:
    """Probabilities in units of 2^-40, rounded half to even; those within CERTAIN of 0 or 1 are it.

    An outcome is 1 where `fraction(word) < quantise(P(1))`.
    """
    whole = np.rint(np.clip(probability, 0.0, 1.0) * ONE)
    whole[probability <= CERTAIN] = 0
    whole[probability >= 1 - CERTAIN] = ONE
    return whole.astype(np.uint64)


def fraction(words: Words) -> Words:
    """The leading 40 bits of each word: what is compared with a quantised probability."""
    return words >> _SHIFT
