"""Decoders: from detection events to the observables that probably flipped.

Each takes a `stim.DetectorErrorModel` and then decodes whole batches of packed shots. Matching
(PyMatching) serves codes whose errors are edges, BP+OSD (ldpc) the others, a table tiny ones. A
model that a decoder cannot represent is refused with a count: dropping what does not fit costs
logical errors that nobody sees (PyMatching issue 103). Decoders know neither codes nor noise. Read
`windows.py` for decoding round by round and across gates, `sampling.py` for error rates.

Packed rows are as Stim's `bit_packed=True`: uint8, shape (shots, ceil(bits / 8)), bit i of a shot
at bit i % 8 of byte i // 8.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
import pymatching
import stim
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

Packed = NDArray[np.uint8]
Decoding = Literal["correlated", "matching", "lookup", "bp_osd"]

LOOKUP_BITS_MAX: Final = 22
"""Detectors and observables of a model that still fits a table: 2^22 chances are 32 MiB."""
BP_ITERATIONS: Final = 60
OSD_ORDER: Final = 7
UNDECODABLE_SHOWN: Final = 3


class Undecodable(ValueError):
    """The model has mechanisms that this decoder cannot represent."""


class MissingDecoder(ImportError):
    """The decoder is in an optional extra that is not installed."""


class Decoder(Protocol):
    """Predicts flips. name: how tables call it, with its parameters."""

    @property
    def name(self) -> str: ...

    @property
    def detectors(self) -> int: ...

    @property
    def observables(self) -> int: ...

    def decode(self, detections: Packed) -> Packed:
        """Predicted flips of the observables, packed.

        detections: packed rows, shape (shots, ceil(detectors / 8)).
        Returns packed rows, shape (shots, ceil(observables / 8)).
        """


class Piece(NamedTuple):
    """What one part of a mechanism flips; ascending indices."""

    detectors: tuple[int, ...]
    observables: tuple[int, ...]


class Mechanism(NamedTuple):
    """An error that strikes with `chance`. pieces: as the model decomposes it."""

    chance: float
    pieces: tuple[Piece, ...]

    def whole(self) -> Piece:
        """What the mechanism flips in all; what two pieces flip cancels."""
        return Piece(
            _odd(at for piece in self.pieces for at in piece.detectors),
            _odd(at for piece in self.pieces for at in piece.observables),
        )


class Kind(NamedTuple):
    """Detectors and observables that the same type of Pauli error flips."""

    detectors: frozenset[int]
    observables: frozenset[int]


def _odd(indices: Iterator[int]) -> tuple[int, ...]:
    seen: set[int] = set()
    for at in indices:
        seen ^= {at}
    return tuple(sorted(seen))


def mechanisms(model: stim.DetectorErrorModel) -> Iterator[Mechanism]:
    """The mechanisms of a model in order, those of no chance left out."""
    for instruction in model.flattened():
        if instruction.type != "error":
            continue
        (chance,) = instruction.args_copy()
        if not chance:
            continue
        pieces: list[Piece] = []
        detectors: list[int] = []
        observables: list[int] = []
        for target in [*instruction.targets_copy(), stim.target_separator()]:
            if target.is_separator():
                pieces.append(Piece(_odd(iter(detectors)), _odd(iter(observables))))
                detectors, observables = [], []
            elif target.is_relative_detector_id():
                detectors.append(target.val)
            else:
                observables.append(target.val)
        yield Mechanism(chance, tuple(pieces))


def model_of(circuit: stim.Circuit) -> stim.DetectorErrorModel:
    """The circuit's error model, mechanisms decomposed into edges where all of them can be.

    What is not decomposable is left whole, for decoders that need no edges; `Matching` refuses it.
    Errors of one channel that exclude each other (biased noise) become independent ones of the same
    chances, which differs in second order and only in what the decoder assumes.
    """
    try:
        return circuit.detector_error_model(decompose_errors=True, approximate_disjoint_errors=True)
    except ValueError:
        return circuit.detector_error_model(approximate_disjoint_errors=True)


def error(chance: float, pieces: Sequence[Piece]) -> str:
    """The mechanism as a line of a model: text is parsed far faster than targets are made."""
    parts = (
        " ".join([*(f"D{at}" for at in piece.detectors), *(f"L{at}" for at in piece.observables)])
        for piece in pieces
    )
    return f"error({chance!r}) {' ^ '.join(parts)}"


def of_kind(model: stim.DetectorErrorModel, kind: Kind) -> stim.DetectorErrorModel:
    """What the mechanisms do to one kind; detectors and observables keep their numbers."""
    lines = []
    for mechanism in mechanisms(model):
        detectors, observables = mechanism.whole()
        piece = Piece(
            tuple(each for each in detectors if each in kind.detectors),
            tuple(each for each in observables if each in kind.observables),
        )
        if piece != ((), ()):
            lines.append(error(mechanism.chance, [piece]))
    if model.num_detectors:
        lines.append(f"detector D{model.num_detectors - 1}")
    if model.num_observables:
        lines.append(f"logical_observable L{model.num_observables - 1}")
    return stim.DetectorErrorModel("\n".join(lines))


def packed_bytes(bits: int) -> int:
    return -(-bits // 8)


def _check(detections: Packed, detectors: int) -> None:
    assert detections.dtype == np.uint8
    assert detections.ndim == 2
    assert detections.shape[1] == packed_bytes(detectors), (detections.shape, detectors)


# --- matching -------------------------------------------------------------------------------------


class Matching:
    """Minimum-weight perfect matching, after Sparse Blossom (arXiv:2303.15933).

    correlated: match twice, the second time with edges made likelier by the mechanisms that the
    first time found (arXiv:1310.0863). Two to five times dearer, and for surface codes of d >= 5
    the logical error rate falls to between a third and three quarters.

    Raises Undecodable where a piece of a mechanism flips more than two detectors, or flips an
    observable and no detector.
    """

    def __init__(self, model: stim.DetectorErrorModel, correlated: bool = True) -> None:
        check_graphlike(model)
        self.name = "pymatching correlated" if correlated else "pymatching"
        self.detectors: int = model.num_detectors
        self.observables: int = model.num_observables
        self._correlated = correlated
        self._matching = pymatching.Matching.from_detector_error_model(
            model, enable_correlations=correlated
        )

    def decode(self, detections: Packed) -> Packed:
        _check(detections, self.detectors)
        predicted: Packed = self._matching.decode_batch(
            detections,
            bit_packed_shots=True,
            bit_packed_predictions=True,
            enable_correlations=self._correlated,
        )
        return predicted


def check_graphlike(model: stim.DetectorErrorModel) -> None:
    """Raises Undecodable unless every piece of every mechanism is an edge."""
    if _SUSPECT.search(str(model)) is None:
        return
    wrong = [
        mechanism
        for mechanism in mechanisms(model)
        if any(not _is_edge(piece) for piece in mechanism.pieces)
    ]
    if wrong:
        shown = "; ".join(error(*each) for each in wrong[:UNDECODABLE_SHOWN])
        raise Undecodable(
            f"{len(wrong)} mechanisms are no edges, so matching cannot see them, such as {shown}"
        )


# Three detectors in a row, or an observable that opens a piece: cheap to find in the text.
_SUSPECT: Final = re.compile(r"D\d+ D\d+ D\d+|[)^] L\d+")


def _is_edge(piece: Piece) -> bool:
    return len(piece.detectors) in (1, 2) or piece == ((), ())


class Confidence:
    """Matching for one observable that also says how sure it is.

    The complementary gap (arXiv:2312.04522, section 4): the weight of the best explanation in which
    the observable flips otherwise, less that of the best explanation. Were all explanations of a
    class as likely as its best, the prediction would be wrong with chance 1 / (1 + e^gap).

    Plain matching only: the weights of correlated matching are those after its first pass, which
    differ between the two explanations. About ten times dearer than `Matching`.

    Raises Undecodable as `Matching` does, and where there is not exactly one observable, or its
    flips are not told apart by where an explanation ends on the boundary.
    """

    def __init__(self, model: stim.DetectorErrorModel) -> None:
        check_graphlike(model)
        if model.num_observables != 1:
            raise Undecodable(f"a gap needs one observable; the model has {model.num_observables}")
        self.name = "pymatching gap"
        self.detectors: int = model.num_detectors
        self.observables = 1
        self._side = _sides(model)
        self._matching = pymatching.Matching.from_detector_error_model(_ended(model, self._side))
        padded = np.zeros(8 * packed_bytes(self.detectors), dtype=np.uint8)
        padded[: self.detectors] = self._side
        self._side_packed = np.packbits(padded, bitorder="little")

    def decode(self, detections: Packed) -> Packed:
        return self.gaps(detections)[0]

    def gaps(self, detections: Packed) -> tuple[Packed, NDArray[np.float64]]:
        """Packed predictions, shape (shots, 1), and gaps in nats, shape (shots,), none negative."""
        _check(detections, self.detectors)
        shots = len(detections)
        rows = np.zeros((shots, packed_bytes(self.detectors + 1)), dtype=np.uint8)
        rows[:, : detections.shape[1]] = detections
        byte, bit = self.detectors // 8, np.uint8(1 << self.detectors % 8)
        weights = []
        for _ in range(2):
            _, weight = self._matching.decode_batch(
                rows, bit_packed_shots=True, return_weights=True
            )
            weights.append(weight)
            rows[:, byte] ^= bit
        ends = weights[1] < weights[0]  # an odd number of strings ends where the observable is
        parity = np.bitwise_count(detections & self._side_packed).sum(axis=1) & 1
        flips = (ends ^ parity.astype(bool)).astype(np.uint8)[:, None]
        return flips, np.abs(weights[1] - weights[0])


def _sides(model: stim.DetectorErrorModel) -> NDArray[np.uint8]:
    """A bit per detector such that an edge between two flips the observable iff their bits differ.

    It exists where no closed loop flips the observable, as in a memory of a planar code.
    """
    joined: list[list[tuple[int, int]]] = [[] for _ in range(model.num_detectors)]
    for mechanism in mechanisms(model):
        for piece in mechanism.pieces:
            if len(piece.detectors) == 2:
                one, two = piece.detectors
                flips = len(piece.observables)
                joined[one].append((two, flips))
                joined[two].append((one, flips))
    side = np.full(model.num_detectors, 2, dtype=np.uint8)
    for root in range(model.num_detectors):
        if side[root] != 2:
            continue
        side[root] = 0
        waiting = deque([root])
        while waiting:
            here = waiting.popleft()
            for there, flips in joined[here]:
                if side[there] == 2:
                    side[there] = side[here] ^ flips
                    waiting.append(there)
                elif side[there] != side[here] ^ flips:
                    raise Undecodable("a closed loop of edges flips the observable: no gap")
    return side


def _ended(model: stim.DetectorErrorModel, side: NDArray[np.uint8]) -> stim.DetectorErrorModel:
    """The model with a further detector where strings that flip the observable end."""
    end = model.num_detectors
    changed = [f"detector D{end}"]
    for mechanism in mechanisms(model):
        pieces = []
        for piece in mechanism.pieces:
            flips = len(piece.observables) ^ (int(sum(side[list(piece.detectors)])) & 1)
            assert len(piece.detectors) < 2 or not flips
            pieces.append(Piece((*piece.detectors, end) if flips else piece.detectors, ()))
        changed.append(error(mechanism.chance, pieces))
    return stim.DetectorErrorModel("\n".join(changed))


# --- a table --------------------------------------------------------------------------------------


class Lookup:
    """The likelier observables for every syndrome, from the exact joint distribution.

    It is optimal, so it bounds every other decoder, and `failure` needs no sampling.

    Raises Undecodable above LOOKUP_BITS_MAX detectors and observables together.
    """

    name = "lookup"

    def __init__(self, model: stim.DetectorErrorModel) -> None:
        self.detectors: int = model.num_detectors
        self.observables: int = model.num_observables
        bits = self.detectors + self.observables
        if bits > LOOKUP_BITS_MAX:
            raise Undecodable(
                f"a table of {self.detectors} detectors and {self.observables} observables has "
                f"2^{bits} entries; at most 2^{LOOKUP_BITS_MAX} fit"
            )
        joint = _joint(model).reshape(1 << self.observables, 1 << self.detectors)
        self._best = np.argmax(joint, axis=0)
        self.failure = max(0.0, 1 - float(np.max(joint, axis=0).sum()))
        """Chance that any observable is predicted wrongly."""

    def decode(self, detections: Packed) -> Packed:
        _check(detections, self.detectors)
        place = np.uint64(256) ** np.arange(detections.shape[1], dtype=np.uint64)
        best: NDArray[np.intp] = self._best[detections @ place]
        width = packed_bytes(self.observables)
        return np.asarray(best[:, None] >> (8 * np.arange(width)) & 255, dtype=np.uint8)


def _joint(model: stim.DetectorErrorModel) -> NDArray[np.float64]:
    """Chances of all flips: detectors are the low bits of the index, observables the high ones."""
    size = 1 << (model.num_detectors + model.num_observables)
    index = np.arange(size)
    chances = np.zeros(size)
    chances[0] = 1
    for mechanism in mechanisms(model):
        detectors, observables = mechanism.whole()
        mask = sum(1 << at for at in detectors)
        mask |= sum(1 << (model.num_detectors + at) for at in observables)
        chances = (1 - mechanism.chance) * chances + mechanism.chance * chances[index ^ mask]
    return chances


# --- belief propagation ---------------------------------------------------------------------------


class BpOsd:
    """Belief propagation, then ordered statistics where it does not converge.

    For codes whose errors are no edges. Panteleev and Kalachev (arXiv:1904.02703), Roffe et al.
    (arXiv:2005.07016), by the library ldpc. Shots are decoded one by one: 0.1 to 10 ms each.

    Raises MissingDecoder without the extra `qldpc`.
    """

    def __init__(
        self,
        model: stim.DetectorErrorModel,
        iterations: int = BP_ITERATIONS,
        osd_order: int = OSD_ORDER,
    ) -> None:
        self.name = f"bp+osd min-sum {iterations} combination-sweep {osd_order}"
        self.detectors: int = model.num_detectors
        self.observables: int = model.num_observables
        checks, flips, chances = matrices(model)
        self._flips = flips
        self._decoder = _bp_osd(checks, chances, iterations, osd_order)

    def decode(self, detections: Packed) -> Packed:
        _check(detections, self.detectors)
        predicted = np.zeros((len(detections), self.observables), dtype=np.uint8)
        (struck,) = np.nonzero(detections.any(axis=1))
        syndromes = np.unpackbits(
            detections[struck], axis=1, count=self.detectors, bitorder="little"
        )
        for shot, syndrome in zip(struck, syndromes, strict=True):
            predicted[shot] = self._flips @ self._decoder.decode(syndrome) & 1
        return np.packbits(predicted, axis=1, bitorder="little")


def _bp_osd(
    checks: csc_matrix, chances: NDArray[np.float64], iterations: int, osd_order: int
) -> Any:
    try:
        from ldpc.bposd_decoder import BpOsdDecoder
    except ImportError as missing:
        raise MissingDecoder(
            "BP+OSD needs the library ldpc; install the extra: pip install 'qmkd[qldpc]'"
        ) from missing
    return BpOsdDecoder(
        checks,
        error_channel=chances.tolist(),
        bp_method="minimum_sum",
        ms_scaling_factor=0.625,
        max_iter=iterations,
        schedule="parallel",
        osd_method="osd_cs" if osd_order else "osd_0",
        osd_order=osd_order,
    )


def matrices(
    model: stim.DetectorErrorModel,
) -> tuple[csc_matrix, NDArray[np.uint8], NDArray[np.float64]]:
    """Checks (detectors, mechanisms), flips (observables, mechanisms), chances (mechanisms,).

    Mechanisms that flip the same are one: an odd number of them strikes.
    """
    chances: dict[Piece, float] = {}
    for mechanism in mechanisms(model):
        whole = mechanism.whole()
        before = chances.get(whole, 0.0)
        chances[whole] = before + mechanism.chance - 2 * before * mechanism.chance
    checks = np.zeros((model.num_detectors, len(chances)), dtype=np.uint8)
    flips = np.zeros((model.num_observables, len(chances)), dtype=np.uint8)
    for column, (detectors, observables) in enumerate(chances):
        checks[list(detectors), column] = 1
        flips[list(observables), column] = 1
    return csc_matrix(checks), flips, np.array(list(chances.values()))


def decoder_for(model: stim.DetectorErrorModel, decoding: Decoding) -> Decoder:
    """The decoder of that name for the model. Raises as the decoders do."""
    match decoding:
        case "correlated" | "matching":
            return Matching(model, correlated=decoding == "correlated")
        case "lookup":
            return Lookup(model)
        case "bp_osd":
            return BpOsd(model)


assert math.comb(OSD_ORDER, 2) < 100  # a combination sweep tries pairs among the order's columns
