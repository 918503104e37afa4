"""All chance of the engines: words of Philox4x64-10, each with a fixed address.

A draw stands at (seed, epoch, node, draw), and each shot has its own 64 bits there. The block of
four words at position n of the draw is that of

    key     = (seed, DOMAIN + purpose)
    counter = (n, draw, node, epoch)      least significant 64-bit word first.

Philox4x64-10 is that of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC'11).

A random outcome with probability P(1) is 1 if and only if the shot's word is below P(1) * 2^64,
where P is rounded to a multiple of 2^-40, so that two engines whose floating point differs in the
last place agree. Most outcomes are fair, and for those the leading bit says it all; so leading bits
are kept apart, 64 shots to a word of the stream (purpose 0), and the other 63 bits (purpose 1) are
made only where a probability asks for them: `native/philox.h` has the layout. Noise is rare, and is
drawn by the distance from one struck shot to the next (purpose 2, `native/strikes.h`).

Draw numbers within a node. A measurement, RESET and INJECT_T_STATE (which resets first) draw 0;
MEASURE_BELL draws 0 for m0 (XX) and 1 for m1 (ZZ); FREE_LQ draws by operand position. Noise draws
count from NOISE_DRAW_FIRST. A node that lowers to several steps shifts the numbers of step i by i
times OWN_DRAWS, NOISE_DRAWS or HISTORY_DRAWS, for what is drawn of the histories that begin there
(`decoded.py`), which count from HISTORY_DRAW_FIRST. An outcome that is certain draws nothing.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmkd.engine.native import _chance
from qvm.isa import OPERANDS_MAX

Words = NDArray[np.uint64]

DOMAIN: Final = 0x716D6B64_00000200  # "qmkd", the version of this numbering, and the purpose
VERSION: Final = DOMAIN >> 8 & 0xFF
PROBABILITY_BITS: Final = 40
ONE: Final = 1 << PROBABILITY_BITS
HALF: Final = ONE >> 1
CERTAIN: Final = 1e-9  # a probability this near to 0 or 1 is exactly that

STEPS_PER_NODE_MAX: Final = 4
OWN_DRAWS: Final = OPERANDS_MAX
NOISE_DRAW_FIRST: Final = 1 << 16
NOISE_DRAWS: Final = 1 << 20
HISTORY_DRAW_FIRST: Final = 1 << 32
HISTORY_DRAWS: Final = 1 << 32

STRIKE_SHOTS: Final = 4096  # shots whose strikes are drawn together; `native/strikes.h` has it too
GAPS_WORDS: Final = STRIKE_SHOTS + 257
GAPS_KEPT: Final = 256  # tables of different probabilities, 34 kB each

assert OWN_DRAWS * STEPS_PER_NODE_MAX <= NOISE_DRAW_FIRST, "own draws and noise draws are apart"
assert NOISE_DRAW_FIRST + NOISE_DRAWS * STEPS_PER_NODE_MAX <= HISTORY_DRAW_FIRST
assert HISTORY_DRAW_FIRST + HISTORY_DRAWS * STEPS_PER_NODE_MAX < 1 << 64

_SHIFT: Final = np.uint64(64 - PROBABILITY_BITS)


class Strikes(NamedTuple):
    """Something rare that happens to a shot, of which there may be several kinds.

    gaps: uint64, shape (GAPS_WORDS,): the table of `native/strikes.h` for the whole probability.
    bounds: uint64, shape (kinds - 1,): the kind of a strike is the first whose bound exceeds its
    word, or the last.
    """

    gaps: Words
    bounds: Words


@lru_cache(maxsize=GAPS_KEPT)
def strikes(probabilities: tuple[float, ...]) -> Strikes | None:
    """Strikes of kinds with these probabilities per shot, together at most 1.

    They are exact up to 2^-64 each; where they come to less than that, it is None. Made of
    integers only, so the same on every machine.
    """
    exact = [Fraction(each) for each in probabilities]
    whole = sum(exact, Fraction(0))
    assert all(each >= 0 for each in exact), probabilities
    assert whole <= 1 + Fraction(1, 1 << 40), probabilities
    chance = int(min(whole, Fraction(1)) * (1 << 64))
    if not chance:
        return None
    bounds = [
        min((1 << 64) - 1, int(total / whole * (1 << 64)))
        for total in itertools.accumulate(exact[:-1])
    ]
    return Strikes(_gaps(chance), np.array(bounds, dtype=np.uint64))


@lru_cache(maxsize=GAPS_KEPT)
def _gaps(chance: int) -> Words:
    table = np.empty(GAPS_WORDS, dtype=np.uint64)
    _chance.gaps(chance & (1 << 64) - 1, table)
    table.flags.writeable = False
    return table


class Chance:
    """The random words of one seed. Holds no position: the same address gives the same word."""

    def __init__(self, seed: int) -> None:
        assert 0 <= seed < 1 << 64, seed
        self.seed = seed

    def coins(self, epoch: int, node: int, draw: int, shot_first: int, shots: int) -> Words:
        """The outcomes of shots where P(1) = 1/2, as `pack` packs them.

        shot_first is a multiple of 64.
        """
        found: Words = np.empty(-(-shots // 64), dtype=np.uint64)
        _chance.coins(self.seed, epoch, node, draw, shot_first, found)
        if shots % 64:
            found[-1] &= np.uint64((1 << shots % 64) - 1)
        return found

    def coin(self, epoch: int, node: int, draw: int, shot: int) -> int:
        """The outcome of one shot where P(1) = 1/2."""
        return _chance.coin(self.seed, epoch, node, draw, shot)

    def words(self, epoch: int, node: int, draw: int, shot_first: int, shots: int) -> Words:
        """The words of shots [shot_first, shot_first + shots): uint64, shape (shots,)."""
        found: Words = np.empty(shots, dtype=np.uint64)
        _chance.words(self.seed, epoch, node, draw, shot_first, found)
        return found

    def word(self, epoch: int, node: int, draw: int, shot: int) -> int:
        """The word of one shot."""
        return int(self.words(epoch, node, draw, shot, 1)[0])

    def strikes(
        self, epoch: int, node: int, draw: int, shot_first: int, shots: int, of: Strikes
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Which of the shots are struck, counted from shot_first and ascending, and by what."""
        room = 64
        while True:
            hit, kind = np.empty(room, dtype=np.uint32), np.empty(room, dtype=np.uint32)
            found = _chance.strikes(
                self.seed, epoch, node, draw, shot_first, shots, of.gaps, of.bounds, hit, kind
            )
            if found <= room:
                return hit[:found], kind[:found]
            room = found

    def strike(self, epoch: int, node: int, draw: int, shot: int, of: Strikes) -> int | None:
        """By what one shot is struck; None where it is not."""
        _, kind = self.strikes(epoch, node, draw, shot, 1, of)
        return int(kind[0]) if len(kind) else None


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
