"""Holds the random words against Random123's published vectors and a slow Philox of our own."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chisquare

from qmkd.engine import chance
from qmkd.engine.chance import (
    CERTAIN,
    DOMAIN,
    HALF,
    ONE,
    STRIKE_SHOTS,
    Chance,
    fraction,
    pack,
    quantise,
    strikes,
    unpack,
)

WORD = (1 << 64) - 1


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """One block of Philox4x64-10, as the paper writes it (SC'11, section 3.3)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [
            second >> 64 ^ c[1] ^ k[0],
            second & WORD,
            first >> 64 ^ c[3] ^ k[1],
            first & WORD,
        ]
        k = [k[0] + 0x9E3779B97F4A7C15 & WORD, k[1] + 0xBB67AE8584CAA73B & WORD]
    return tuple(c)


# Random123 1.14, tests/kat_vectors, the lines "philox4x64 10": counter, key, result.
KNOWN = (
    """
    0000000000000000 0000000000000000 0000000000000000 0000000000000000
    0000000000000000 0000000000000000
    16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b
    """,
    """
    ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffffffffffff
    ffffffffffffffff ffffffffffffffff
    87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0
    """,
    """
    243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89
    452821e638d01377 be5466cf34e90c6c
    a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6
    """,
)


@pytest.mark.parametrize("text", KNOWN)
def test_philox_gives_the_published_words(text: str) -> None:
    numbers = [int(word, 16) for word in text.split()]
    counter, key, result = numbers[:4], numbers[4:6], numbers[6:]
    assert list(philox(tuple(counter), tuple(key))) == result
    whole = sum(word << 64 * at for at, word in enumerate(counter))
    before = (whole - 1) % (1 << 256)  # NumPy adds one before it makes a block.
    source = np.random.Philox(
        key=np.array(key, dtype=np.uint64),
        counter=np.array([before >> 64 * at & WORD for at in range(4)], dtype=np.uint64),
    )
    assert source.random_raw(4).tolist() == result


def slow_word(seed: int, epoch: int, node: int, draw: int, shot: int) -> int:
    """As `native/philox.h` says: the leading bit from one stream, the others from another."""
    coins = philox((shot // 256, draw, node, epoch), (seed, DOMAIN))[shot // 64 % 4]
    low = philox((shot // 4, draw, node, epoch), (seed, DOMAIN + 1))[shot % 4]
    return (coins >> shot % 64 & 1 ^ 1) << 63 | low >> 1


def test_every_word_is_the_one_at_its_address() -> None:
    rng = random.Random(7)
    for _ in range(300):
        seed, epoch, node = (rng.randrange(1 << rng.randrange(1, 65)) for _ in range(3))
        draw, first = rng.randrange(1 << 20), rng.randrange(1 << 40)
        shots = rng.randrange(1, 200)
        source = Chance(seed)
        expected = [slow_word(seed, epoch, node, draw, first + at) for at in range(shots)]
        assert source.words(epoch, node, draw, first, shots).tolist() == expected
        assert source.word(epoch, node, draw, first) == expected[0]
        assert source.coin(epoch, node, draw, first) == int(expected[0] < 1 << 63)


def test_a_coin_is_whether_the_word_is_below_a_half() -> None:
    source = Chance(12)
    for first, shots in ((0, 1), (64, 64), (192, 1000), (1 << 20, 257)):
        coins = unpack(source.coins(3, 1, 4, first, shots), shots)
        words = source.words(3, 1, 4, first, shots)
        assert coins.tolist() == (words < np.uint64(1 << 63)).tolist()


def test_words_do_not_depend_on_how_shots_are_cut() -> None:
    source = Chance(99)
    whole = source.words(1, 2, 3, 5, 1000)
    cut = [source.words(1, 2, 3, 5 + at, min(37, 1000 - at)) for at in range(0, 1000, 37)]
    assert (np.concatenate(cut) == whole).all()


def slow_strikes(
    seed: int, at: tuple[int, int, int], block: int, probabilities: tuple[float, ...]
) -> list[tuple[int, int]]:
    """(shot, kind) within a block of STRIKE_SHOTS, by exact fractions and no table."""
    epoch, node, draw = at
    whole = sum(map(Fraction, probabilities))
    spared = (1 << 64) - int(whole * (1 << 64))
    found: list[tuple[int, int]] = []
    shot, drawn = -1, 0
    while True:
        counter = (block * STRIKE_SHOTS + drawn // 2, draw, node, epoch)
        words = philox(counter, (seed, DOMAIN + 2))[drawn % 2 * 2 :][:2]
        drawn, gap, beyond = drawn + 1, 0, spared
        while words[0] < beyond and gap < STRIKE_SHOTS:
            gap, beyond = gap + 1, beyond * spared >> 64
        shot += 1 + gap
        if shot >= STRIKE_SHOTS:
            return found
        shares = itertools.accumulate(map(Fraction, probabilities))
        kinds = [words[1] < int(share / whole * (1 << 64)) for share in shares]
        found.append((shot, kinds.index(True) if any(kinds) else len(kinds) - 1))


@pytest.mark.parametrize(
    "probabilities",
    [(1.0,), (0.5,), (0.999, 0.001), (1e-3,) * 15, (1e-12,), (2**-60,), (0.1, 0.0, 0.2)],
)
def test_strikes_are_those_that_exact_arithmetic_gives(probabilities: tuple[float, ...]) -> None:
    of = strikes(probabilities)
    assert of is not None
    for seed in range(3):
        source = Chance(seed)
        for block in (0, 3):
            first = block * STRIKE_SHOTS
            hit, kind = source.strikes(7, 8, 9, first, STRIKE_SHOTS, of)
            expected = slow_strikes(seed, (7, 8, 9), block, probabilities)
            assert list(zip(hit.tolist(), kind.tolist(), strict=True)) == expected


def test_strikes_do_not_depend_on_how_shots_are_cut() -> None:
    source, of = Chance(4), strikes((0.01, 0.02))
    assert of is not None
    hit, kind = source.strikes(1, 2, 3, 1000, 10_000, of)
    assert len(hit) > 200
    there = dict(zip((hit + 1000).tolist(), kind.tolist(), strict=True))
    cut: dict[int, int] = {}
    for first, last in itertools.pairwise([1000, 1001, 4095, 4097, 8192, 9000, 11_000]):
        some, kinds = source.strikes(1, 2, 3, first, last - first, of)
        cut |= dict(zip((some + first).tolist(), kinds.tolist(), strict=True))
    assert cut == there
    assert all(source.strike(1, 2, 3, shot, of) == there.get(shot) for shot in range(1000, 1300))


def test_strikes_come_as_often_as_they_should() -> None:
    shots, rates = 1 << 22, (0.001, 0.0, 0.003, 1e-5)
    of = strikes(rates)
    assert of is not None
    _, kind = Chance(77).strikes(1, 1, 1, 0, shots, of)
    for seen, rate in zip(np.bincount(kind, minlength=4).tolist(), rates, strict=True):
        assert abs(seen - shots * rate) <= 5 * math.sqrt(shots * rate * (1 - rate))


def test_what_never_strikes_is_none() -> None:
    assert strikes((0.0, 0.0)) is None
    assert strikes(()) is None
    assert strikes((2.0**-65,)) is None


def test_gaps_between_strikes_are_geometric() -> None:
    rate, shots = 0.05, 1 << 20
    of = strikes((rate,))
    assert of is not None
    hit, _ = Chance(8).strikes(0, 0, 0, 0, shots, of)
    gaps = np.diff(hit.astype(np.int64)) - 1
    seen = np.bincount(np.minimum(gaps, 100), minlength=101)
    exact = rate * (1 - rate) ** np.arange(101)
    exact[100] = (1 - rate) ** 100
    assert chisquare(seen, exact * len(gaps)).pvalue > 1e-6


def test_packing_puts_shot_i_at_bit_i_and_zeros_behind() -> None:
    bits = np.random.default_rng(1).random(131) < 0.5
    packed = pack(bits)
    assert packed.shape == (3,)
    whole = sum(int(word) << 64 * at for at, word in enumerate(packed))
    assert whole == sum(1 << at for at in range(131) if bits[at])
    assert (unpack(packed, 131) == bits).all()


def test_half_is_the_top_bit_and_certainty_is_certain() -> None:
    last = math.nextafter(0.5, 1)
    thresholds = quantise(np.array([0.5, last, 0.0, CERTAIN, 1 - CERTAIN, 1.0, 1 + 1e-12, -1e-12]))
    assert thresholds.tolist() == [HALF, HALF, 0, 0, ONE, ONE, ONE, 0]
    extremes = np.array([0, (1 << 63) - 1, 1 << 63, WORD], dtype=np.uint64)
    assert (fraction(extremes) < np.uint64(HALF)).tolist() == [True, True, False, False]
    assert (fraction(extremes) < np.uint64(ONE)).all()


def test_words_of_neighbouring_addresses_look_independent() -> None:
    source, shots = Chance(5), 1 << 16
    addresses = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, chance.NOISE_DRAW_FIRST)]
    bits = np.array([source.words(*each, 0, shots) < 1 << 63 for each in addresses])
    bound = 5 * math.sqrt(shots) / 2
    assert (abs(bits.sum(axis=1) - shots / 2) < bound).all()
    for one in range(len(addresses)):
        for two in range(one):
            assert abs((bits[one] ^ bits[two]).sum() - shots / 2) < bound
