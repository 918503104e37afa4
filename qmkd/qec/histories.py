"""The whole history of one memory, decoded at once, and told stretch by stretch.

A decoder says at the end whether a logical qubit came out flipped. A program wants to know when:
what flips before a gate is changed by the gate. So at the end of every stretch of rounds the
history is asked what an ideal recovery would leave at that moment: of all errors up to then, and of
what the decoder, who has seen everything, takes them to be, there remain syndromes on the data;
these are closed by the fewest data errors, and the parity of the logical operator with them says
whether the qubit is flipped. A stretch flipped it where that differs between its two ends. The last
stretch ends in the measurement of all data, so over the whole memory the flips add up, shot by
shot, to exactly what the decoder got wrong.

Chains of errors that are harmless in the end may, halfway, stand for a flip that comes and goes; so
flips of single stretches add up to somewhat more. Of a surface code under uniform noise of 3e-3, as
-ln(1 - 2 chance) / 2: 1 % more with stretches of 2 d rounds, 4 % with d, 12 % (d = 3) to 19 %
(d = 5) where every round is a stretch. Where flips of different stretches do not cancel, as around
H, that is how much more often they err.

Where two ways to close are equally short, as half-way across a patch of even distance, matching
takes either, and the same one whenever it sees the same checks; had it taken the other, a flip
would be told one stretch sooner or later.

Nothing here draws. `qmkd/engine/decoded.py` does, for programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise

import numpy as np
import stim
from numpy.typing import NDArray

from qmkd.qec import noise
from qmkd.qec.circuits import memory
from qmkd.qec.codes.code import Basis, Code
from qmkd.qec.decoders import (
    Confidence,
    Matching,
    Packed,
    Piece,
    Undecodable,
    error,
    mechanisms,
    model_of,
    packed_bytes,
)
from qmkd.qec.measuring import decoder_of_memory
from qmkd.qec.windows import rounds_of

Struck = tuple[float, tuple[int, ...], tuple[int, ...]]
"""Chance of a mechanism, and the detectors and the bits that it flips."""


class History:
    """A memory of one logical qubit, prepared and measured in `basis`, and its decoder.

    ends: the rounds in which stretches end, ascending; the last is the length of the memory.
    found: how many stretches. bits: how many bits per shot say what truly flipped, for `flips`;
    only some of them are used.
    mechanisms: what may strike, each independently. rounds: of each detector.

    Raises CodeError as `memory` does, Undecodable where the code is not matchable.
    """

    def __init__(
        self, code: Code, model: noise.NoiseModel, basis: Basis, ends: tuple[int, ...]
    ) -> None:
        assert code.k == 1, "of a block of several, flips come together"
        assert ends[0] >= 1
        assert all(early < late for early, late in pairwise(ends)), ends
        self.ends = ends
        self.found = len(ends)
        operators = _operators(code, basis)
        self._check_bytes = packed_bytes(len(operators) - 1)
        self._bytes = self._check_bytes + 1  # of one end: its checks, then the logical operator
        circuit = self._asked(noise.apply(memory(code, ends[-1], basis), model), operators, basis)
        errors = model_of(circuit)
        self.detectors: int = errors.num_detectors
        self.rounds = rounds_of(errors)
        self.bits: int = errors.num_observables
        self.mechanisms: tuple[Struck, ...] = tuple(
            (each.chance, *each.whole()) for each in mechanisms(errors)
        )
        self._decoder = decoder_of_memory(code, circuit, basis)
        self._plainly = (code, model, basis)
        assert self.bits == 8 * self._bytes * (len(ends) - 1) + 1
        self._closing = _closing(code, operators)

    @property
    def decoder(self) -> str:
        return self._decoder.name

    def flips(
        self, detections: Packed, truly: Packed, undecoded: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint8]:
        """In which shots which stretch flipped the logical qubit.

        detections: packed rows of the detectors. truly: packed rows of `bits`, as `mechanisms` flip
        them. undecoded: shots in which nothing is taken for an error, whatever was seen.
        Returns uint8 of 0 and 1, shape (shots, stretches).
        """
        shots, inner = len(detections), len(self.ends) - 1
        left = self._decoder.decode(detections)
        if undecoded is not None:
            left[undecoded] = 0
        left ^= truly
        standing = np.zeros((shots, inner + 2), dtype=np.uint8)
        standing[:, -1] = left[:, -1] & 1
        if inner:
            # Bits say what was added since the end before.
            found = left[:, :-1].reshape(shots, inner, self._bytes)
            found = np.bitwise_xor.accumulate(found, axis=1)
            checks, flipped = found[:, :, :-1], found[:, :, -1]
            open_ = checks.any(axis=2)
            flipped[open_] ^= self._closing.decode(np.ascontiguousarray(checks[open_]))[:, 0]
            standing[:, 1:-1] = flipped
        return standing[:, 1:] ^ standing[:, :-1]

    def gaps(self, detections: Packed) -> NDArray[np.float64]:
        """How sure a decoder is of the memory as a whole: complementary gaps in nats, by plain
        matching, which is made when first asked for; not a number where matching has none."""
        if self._confidence is None:
            return np.full(len(detections), np.nan)
        return self._confidence.gaps(detections)[1]

    @cached_property
    def _confidence(self) -> Confidence | None:
        code, model, basis = self._plainly
        circuit = noise.apply(memory(code, self.ends[-1], basis), model)
        try:
            confidence = Confidence(model_of(circuit))
        except Undecodable:
            return None
        assert confidence.detectors == self.detectors
        return confidence

    def _asked(
        self, circuit: stim.Circuit, operators: list[tuple[int, ...]], basis: Basis
    ) -> stim.Circuit:
        """The circuit with every operator's value at every end but the last as a bit, compared with
        the one before; the observable of the memory comes last. Asking disturbs nothing."""
        pauli = stim.target_z if basis == "Z" else stim.target_x
        targets = [[pauli(qubit) for qubit in support] for support in operators]
        places = [*range(len(operators) - 1), 8 * self._check_bytes]
        last = 8 * self._bytes * (len(self.ends) - 1)
        asked = {end: number for number, end in enumerate(self.ends[:-1])}
        out, done = stim.Circuit(), 0
        for each in _unrolled(circuit):
            if each.name == "OBSERVABLE_INCLUDE":
                out.append("OBSERVABLE_INCLUDE", each.targets_copy(), last)
                continue
            out.append(each)
            done += each.name == "SHIFT_COORDS"  # as every round ends
            number = asked.get(done) if each.name == "SHIFT_COORDS" else None
            if number is not None:
                first = 8 * self._bytes * number
                for place, target in zip(places, targets, strict=True):
                    out.append("OBSERVABLE_INCLUDE", target, first + place)
                    if number + 2 < len(self.ends):
                        out.append("OBSERVABLE_INCLUDE", target, first + 8 * self._bytes + place)
        assert done == self.ends[-1]
        return out


def _operators(code: Code, basis: Basis) -> list[tuple[int, ...]]:
    """Supports of the stabilizers of one basis, then that of the logical operator."""
    checks = [code.support(each) for each in code.stabilizers if each.basis == basis]
    return [*checks, code.logical(basis)[0]]


def _closing(code: Code, operators: list[tuple[int, ...]]) -> Matching:
    """Finds the fewest data errors for values of the checks, and what they do to the operator."""
    *checks, logical = operators
    lines = [f"detector D{len(checks) - 1}", "logical_observable L0"]
    for qubit in range(code.data):
        seen = tuple(number for number, support in enumerate(checks) if qubit in support)
        piece = Piece(seen, (0,) if qubit in logical else ())
        if piece != ((), ()):
            lines.append(error(0.01, [piece]))
    return Matching(stim.DetectorErrorModel("\n".join(lines)), correlated=False)


def _unrolled(circuit: stim.Circuit) -> Iterator[stim.CircuitInstruction]:
    for each in circuit:
        if isinstance(each, stim.CircuitRepeatBlock):
            for _ in range(each.repeat_count):
                yield from _unrolled(each.body_copy())
        else:
            yield each
