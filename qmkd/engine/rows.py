"""Code for the row machine: what happens to rows of bits, one bit per shot, without any branch.

A batch of shots is a matrix of rows, uint64, shape (rows, words); shot i of the batch is bit
i % 64 of word i // 64 of a row, and bits past the last shot stay 0. `Code` collects instructions,
`Block` is what `native/_rows.c` runs. Everything that frames do to shots is said in these:

    ZERO d           d = 0                      AND d a b        d = a & b
    COPY d a         d = a                      AND_NOT d a b    d = a & ~b
    XOR d a          d ^= a                     OR d a b         d = a | b
    XOR_AND d a b    d ^= a & b                 COIN d           d = coins of a draw
    STRIKE           where noise strikes, among the shots of a mask, turn the bits of some rows
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmkd.engine.chance import STRIKE_SHOTS, Strikes, Words
from qmkd.engine.native import _rows

ZERO, COPY, XOR, AND, AND_NOT, OR, XOR_AND, COIN, STRIKE = range(9)
FULL: Final = 0
"""The row that has every shot of the batch."""
FLIP: Final = ((0,),)
"""The kinds of a strike that turns one row."""

TILE_WORDS: Final = STRIKE_SHOTS // 64
WORDS_AT_A_TIME: Final = 1 << 27
"""Words that instructions change between two polls: some 20 ms."""
PRUNED_AT_A_TIME: Final = 4 << 10
"""Numbers of code between two polls."""


class Where(NamedTuple):
    """Chance address of a draw, without seed and shot."""

    epoch: int
    node: int
    draw: int


class Block(NamedTuple):
    """Instructions as `native/_rows.c` takes them: all arrays flat, int32 or uint64."""

    code: NDArray[np.int32]
    addresses: Words
    noises: NDArray[np.int32]
    gaps: Words
    bounds: Words
    pool: NDArray[np.int32]

    def run(self, rows: Words, seed: int, shot_first: int, poll: Callable[[], None]) -> None:
        """Change `rows`, whose first shot is number shot_first, a multiple of 64.

        Calls `poll` every now and then; what it raises leaves the rows half changed.
        """
        words = rows.shape[1]
        per_tile = max(1, len(self.code) // 4 * TILE_WORDS)
        step = max(1, WORDS_AT_A_TIME // per_tile) * TILE_WORDS
        for at in range(0, words, step):
            _rows.run(
                self.code, rows, words, self.addresses, self.noises, self.gaps, self.bounds,
                self.pool, seed, shot_first, at, min(words, at + step),
            )  # fmt: skip
            poll()


class Code:
    """Instructions under way. Rows are named by number; row FULL is only read."""

    def __init__(self) -> None:
        self._code: list[int] = []
        self._addresses: list[int] = []
        self._noises: list[int] = []
        self._gaps: dict[int, tuple[int, Words]] = {}
        self._bounds: dict[int, tuple[int, Words]] = {}
        self._bounds_length = 0
        self._pool: list[int] = []
        self._patterns: dict[tuple[tuple[int, ...], ...], int] = {}

    def __bool__(self) -> bool:
        return bool(self._code)

    def zero(self, into: int) -> None:
        self._code += (ZERO, into, 0, 0)

    def copy(self, into: int, one: int) -> None:
        self._code += (COPY, into, one, 0)

    def xor(self, into: int, one: int) -> None:
        self._code += (XOR, into, one, 0)

    def both(self, into: int, one: int, two: int) -> None:
        self._code += (AND, into, one, two)

    def but_not(self, into: int, one: int, two: int) -> None:
        self._code += (AND_NOT, into, one, two)

    def either(self, into: int, one: int, two: int) -> None:
        self._code += (OR, into, one, two)

    def xor_both(self, into: int, one: int, two: int) -> None:
        self._code += (XOR_AND, into, one, two)

    def coin(self, into: int, at: Where) -> None:
        self._code += (COIN, into, self._address(at), 0)

    def strike(
        self,
        rows: Sequence[int],
        kinds: Sequence[Sequence[int]],
        of: Strikes,
        at: Where,
        mask: int = FULL,
    ) -> None:
        """Turn bits in the struck shots of `mask`: of each kind those of the rows that it names, by
        their place in `rows`. FULL there stands for a row that does not matter."""
        assert len(kinds) == len(of.bounds) + 1
        table, _ = self._gaps.setdefault(id(of.gaps), (len(self._gaps), of.gaps))
        bounds = self._bounds.get(id(of.bounds))
        if bounds is None:
            bounds = self._bounds[id(of.bounds)] = (self._bounds_length, of.bounds)
            self._bounds_length += len(of.bounds)
        self._code += (STRIKE, len(self._noises) // 5, self._address(at), mask)
        self._noises += (table, bounds[0], len(kinds), self._pattern(kinds), len(self._pool))
        self._pool += rows

    def _pattern(self, kinds: Sequence[Sequence[int]]) -> int:
        """Where the kinds stand in the pool: kinds + 1 ends, then the places that each names."""
        key = tuple(map(tuple, kinds))
        found = self._patterns.get(key)
        if found is None:
            found = self._patterns[key] = len(self._pool)
            first = found + len(key) + 1
            ends = [first, *(first + end for end in itertools.accumulate(map(len, key)))]
            self._pool += [*ends, *itertools.chain.from_iterable(key)]
        return found

    def prune(self, live: set[int], poll: Callable[[], None]) -> None:
        """Leave out what no row of `live` depends on; afterwards `live` holds what this reads."""
        kept: list[tuple[int, int, int, int]] = []
        for at in range(len(self._code) - 4, -1, -4):
            if at % PRUNED_AT_A_TIME == 0:
                poll()
            op, into, one, two = self._code[at : at + 4]
            if op == STRIKE:
                if not self._strike_is_live(into, live):
                    continue
                live.add(two)
            elif into not in live:
                continue
            else:
                if op not in (XOR, XOR_AND):
                    live.discard(into)
                if op not in (ZERO, COIN):
                    live.add(one)
                if op in (AND, AND_NOT, OR, XOR_AND):
                    live.add(two)
            kept.append((op, into, one, two))
        self._code = [number for each in reversed(kept) for number in each]

    def _strike_is_live(self, noise: int, live: set[int]) -> bool:
        """Whether it turns bits that matter; those that do not it is left not to turn."""
        _, _, kinds, pattern, first = self._noises[5 * noise : 5 * noise + 5]
        size = 1 + max(self._pool[self._pool[pattern] : self._pool[pattern + kinds]], default=-1)
        rows = [row if row in live else FULL for row in self._pool[first : first + size]]
        self._pool[first : first + size] = rows
        return any(rows)

    def block(self) -> Block:
        """What `native/_rows.c` runs."""
        return Block(
            np.array(self._code, dtype=np.int32),
            np.array(self._addresses, dtype=np.uint64),
            np.array(self._noises, dtype=np.int32),
            _joined([gaps for _, gaps in self._gaps.values()]),
            _joined([bounds for _, bounds in self._bounds.values()]),
            np.array(self._pool, dtype=np.int32),
        )

    def _address(self, at: Where) -> int:
        self._addresses += at
        return len(self._addresses) // 3 - 1


def _joined(parts: list[Words]) -> Words:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)
