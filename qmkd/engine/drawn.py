"""Mechanisms of a detector error model, drawn shot by shot, and what decoding leaves of them.

All draws are ours (`chance.py`), one per mechanism, so the bits depend on the version of Stim that
finds the mechanisms and on that of the decoder, and on nothing else. What the mechanisms are of,
the errors themselves say: `qmkd/qec/histories.py`, `qmkd/qec/whole_decoding.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from qmkd.engine.chance import STRIKE_SHOTS, Words, strikes, unpack
from qmkd.engine.layout import pack_bits
from qmkd.engine.noise import Figures
from qmkd.engine.prepared import Unable
from qmkd.engine.rows import FULL, Block, Code, Where
from qmkd.engine.shot_data import ShotData, add, nothing
from qmkd.engine.tally import Tally
from qmkd.qec import noise
from qmkd.qec.decoders import Packed
from qmkd.qec.histories import Struck
from qmkd.qec.sampling import syndrome_weights
from qmkd.qec.streams import cut
from syscalls.decoding import DecoderSpeed

DIGITS: Final = 12
"""Of a mechanism's chance: what Stim computes may differ in the last place between machines."""

TILE_WORDS: Final = STRIKE_SHOTS // 64


def check_model(model: str) -> None:
    """Raises `Unable` where there is no physical noise of that name."""
    if model not in noise.PRESETS:
        known = ", ".join(noise.PRESETS)
        raise Unable(f"there is no physical noise {model!r}; there are {known}")


def described(name: str, speed: DecoderSpeed, keeps: bool) -> str:
    """The name of a noise model whose bits depend on decoders, and on whether data is kept."""
    kept = ", data kept" if keeps else ""
    return f"{name}, decoders {msgspec.json.encode(speed).decode()}{kept}"


class Errors(Protocol):
    """What may strike, and what decoding leaves of it.

    rounds: of each detector, the first being 0; the last is the last there is. bits: per shot, that
    mechanisms flip beside detectors. found: per shot, that decoding makes of them.
    """

    @property
    def detectors(self) -> int: ...

    @property
    def rounds(self) -> NDArray[np.float64]: ...

    @property
    def bits(self) -> int: ...

    @property
    def found(self) -> int: ...

    @property
    def mechanisms(self) -> tuple[Struck, ...]: ...

    def flips(
        self, detections: Packed, truly: Packed, undecoded: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint8]:
        """uint8 of 0 and 1, shape (shots, found), from packed rows of detectors and of bits.

        undecoded: shots in which nothing is taken for an error, whatever was seen.
        """


class Drawn:
    """Errors of many shots. Satisfies `Histories`.

    bits: those found. draws: one per mechanism. length: in rounds. distance: by which decoders are
    given windows.
    """

    def __init__(self, errors: Errors, length: int, distance: int, speed: DecoderSpeed) -> None:
        self.bits = errors.found
        self.draws = len(errors.mechanisms)
        self.detectors = errors.detectors
        self._errors = errors
        self._length = length
        self._speed = speed
        self._windows = cut(errors.rounds, distance)
        self._block, self._truly = _code(errors)
        self._rows = 1 + errors.detectors + sum(row is not None for row in self._truly)
        self._seen = list(range(1, 1 + errors.detectors))

    def find(
        self,
        seed: int,
        at: Where,
        shot_first: int,
        wanted: Words,
        poll: Callable[[], None],
        into: ShotData | None = None,
    ) -> tuple[Words, Figures]:
        """As `Histories.find`."""
        block = self._block._replace(
            addresses=(self._block.addresses.reshape(-1, 3) + np.array(at, np.uint64)).reshape(-1)
        )
        found: Words = np.zeros((self.bits, len(wanted)), dtype=np.uint64)
        tally = Tally(self._speed, self._windows, self._length)
        start = 0
        while start < len(wanted):
            # Tiles are those in which strikes are drawn.
            end = min(len(wanted), start + TILE_WORDS - (shot_first // 64 + start) % TILE_WORDS)
            first, here = shot_first + 64 * start, slice(start, end)
            records = None if into is None else into[64 * start : 64 * end]
            found[:, here] = self._tile(block, seed, first, wanted[here], tally, poll, records)
            start = end
        return found, tally.figures

    def judged(self, flips: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Flips of which an odd number in a shot is a failure of its decoder."""
        return flips

    def gaps(self, detections: Packed) -> NDArray[np.float64]:
        """How sure decoding is of each shot, as `shot_data` has it; not a number where nobody
        knows."""
        return np.full(len(detections), np.nan)

    def _tile(
        self, block: Block, seed: int, shot_first: int, wanted: Words, tally: Tally,
        poll: Callable[[], None], into: ShotData | None,
    ) -> Words:  # fmt: skip
        shots = 64 * len(wanted)
        rows: Words = np.zeros((self._rows, len(wanted)), dtype=np.uint64)
        rows[FULL] = wanted
        block.run(rows, seed, shot_first, poll)
        (chosen,) = np.nonzero(unpack(wanted, shots))
        detections = pack_bits(rows, self._seen, (), shots)[chosen]
        truly = pack_bits(rows, self._truly, (), shots)[chosen]
        flips = np.zeros((shots, self.bits), dtype=np.uint8)
        undecoded = tally.weigh(detections)
        flips[chosen] = self._errors.flips(detections, truly, undecoded)
        judged = self.judged(flips)
        tally.judge(judged)
        if into is not None:
            more = nothing(len(chosen))
            more["weight"] = syndrome_weights(detections)
            more["flips"] = np.bitwise_xor.reduce(judged[chosen], axis=1)
            more["undecoded"] = undecoded
            more["gap"] = np.where(undecoded, 0.0, self.gaps(detections))
            known = into[chosen]
            add(known, more)
            into[chosen] = known
        poll()
        packed = np.packbits(flips, axis=0, bitorder="little")
        return np.ascontiguousarray(packed.T).view("<u8").astype(np.uint64)


def _code(errors: Errors) -> tuple[Block, list[int | None]]:
    """What draws all mechanisms: detectors into rows from 1 on, bits into the rows behind them.

    Second, the row of each bit, None for those that nothing flips. Draws are numbered from 0, at
    epoch 0 and node 0.
    """
    used = sorted({bit for _, _, bits in errors.mechanisms for bit in bits})
    row_of = {bit: 1 + errors.detectors + at for at, bit in enumerate(used)}
    code = Code()
    for draw, (chance, detectors, bits) in enumerate(errors.mechanisms):
        of = strikes((float(f"{chance:.{DIGITS}g}"),))
        if of is not None:
            rows = [*(1 + each for each in detectors), *(row_of[bit] for bit in bits)]
            code.strike(rows, (tuple(range(len(rows))),), of, Where(0, 0, draw))
    return code.block(), [row_of.get(bit) for bit in range(errors.bits)]
