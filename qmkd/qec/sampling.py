"""Logical error rates by sampling and decoding: loops with a seed, when to stop, intervals.

Nothing here reads a clock; whoever wants to stop early passes `keep_going`. The shots of a seed are
those of Stim's sampler: the same for the same circuit, seed, Stim version and machine word size,
and a longer run begins with the shots of a shorter one. Read `calibration.py` for tables of what is
measured here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import numpy as np
import stim
from numpy.typing import NDArray
from scipy.stats import beta

from qmkd.qec.decoders import Decoder, Packed
from qmkd.qec.flips import from_log as from_log
from qmkd.qec.flips import to_log as to_log

CHUNK_SHOTS: Final = 4096
"""Shots decoded at a time. Larger chunks leave the cache and are slower; 256 divides it, so that
the bits are the same for 128- and 256-bit builds of Stim."""
CONFIDENCE: Final = 0.95
INTERVAL: Final = "Clopper-Pearson 95 %"

assert CHUNK_SHOTS % 256 == 0


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """When to stop, whichever comes first; looked at after every chunk.

    errors: failures that are enough; the relative standard error is then 1 / sqrt(errors).
    """

    shots: int
    errors: int | None = None


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What came of decoding. errors: shots in which any observable was predicted wrongly.

    patterns: how often which observables were wrong together, as (bits, shots), bit i of `bits` for
    observable i; shots without error are left out.
    """

    shots: int
    errors: int
    patterns: tuple[tuple[int, int], ...] = ()

    def wrong(self, observable: int) -> int:
        """Shots in which this observable was predicted wrongly."""
        return sum(count for bits, count in self.patterns if bits >> observable & 1)


def sample_and_decode(
    circuit: stim.Circuit,
    decoder: Decoder,
    stop: Stop,
    seed: int,
    keep_going: Callable[[int, int], bool] = lambda shots, errors: True,
    chunk: int = CHUNK_SHOTS,
) -> Tally:
    """Sample the circuit's detectors, decode, count what was predicted wrongly.

    chunk: shots at a time, a multiple of 256; fewer than usual serve slow decoders.
    keep_going: asked with (shots, errors) after every chunk; false ends the run.
    """
    assert (decoder.detectors, decoder.observables) == (
        circuit.num_detectors,
        circuit.num_observables,
    )
    shots = errors = 0
    patterns: Counter[int] = Counter()
    for wrong in residuals(circuit, decoder, stop.shots, seed, chunk):
        failed = wrong[wrong.any(axis=1)]
        shots += len(wrong)
        errors += len(failed)
        patterns.update(int.from_bytes(row.tobytes(), "little") for row in failed)
        if (stop.errors is not None and errors >= stop.errors) or not keep_going(shots, errors):
            break
    return Tally(shots=shots, errors=errors, patterns=tuple(sorted(patterns.items())))


def residuals(
    circuit: stim.Circuit, decoder: Decoder, shots: int, seed: int, chunk: int = CHUNK_SHOTS
) -> Iterator[Packed]:
    """Chunks of packed rows of observables: what remains flipped after correction."""
    assert chunk % 256 == 0
    sampler = circuit.compile_detector_sampler(seed=seed)
    for start in range(0, shots, chunk):
        # Always whole chunks: Stim's bits would change with the number of shots asked for.
        detections, observables = sampler.sample(chunk, separate_observables=True, bit_packed=True)
        kept = slice(0, min(chunk, shots - start))
        yield decoder.decode(detections[kept]) ^ observables[kept]


def clopper_pearson(errors: int, shots: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval that holds the true rate with this confidence or more (Biometrika 26, 404)."""
    assert 0 <= errors <= shots
    assert shots > 0
    tail = (1 - confidence) / 2
    low = 0.0 if errors == 0 else float(beta.ppf(tail, errors, shots - errors + 1))
    high = 1.0 if errors == shots else float(beta.ppf(1 - tail, errors + 1, shots - errors))
    return low, high


def piece_rate(chance: float, pieces: float) -> float:
    """Flip chance of one part, where `pieces` independent ones flip an odd number of times so."""
    return from_log(to_log(chance) / pieces)


def syndrome_weights(packed: Packed) -> NDArray[np.int64]:
    """Detection events of each shot: int64, shape (shots,)."""
    return np.asarray(np.bitwise_count(packed).sum(axis=1, dtype=np.int64))
