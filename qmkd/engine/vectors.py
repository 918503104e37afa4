"""State vectors of many branches, and circuits on them: what dense engines do to amplitudes.

A `Circuit` is gates as `native/_dense.c` runs them: gates on one qubit that follow one another are
one, and gates are put into passes, each over as few qubits as fit the near caches together, so that
a wide vector is gone through once for many gates. `Vectors` holds the amplitudes. Nothing here
knows of shots or chance; `dense.py` does.

A qubit is its place in the vector: bit p of an amplitude's index. Its layout is in
`native/amplitudes.h`.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmkd.engine.native import _dense

Floats = NDArray[np.float64]
Matrix = tuple[complex, complex, complex, complex]
"""Of a gate on one qubit: by rows."""

LANE_BITS: Final = 3
WHOLE_BITS: Final = 14  # vectors up to this wide are one tile
TILE_BITS: Final = 14  # 256 KiB
TILE_LOW_BITS: Final = 5  # lowest qubits that every tile has, so that its parts are whole lines
ALIGNMENT: Final = 64
RUN_AMPLITUDES: Final = 1 << 28  # times gates, between two questions whether to stop
PASS_GATES_LEAST: Final = 32
NONE: Final = 1e-15  # what is smaller than this in a product of matrices is 0

GENERAL, REAL, PHASE, FLIP, CX, CZ = range(6)
DROP, STAY, CLEAR = range(3)
"""What becomes of a measured qubit: it leaves the vector; it stays; it stays and is put to 0."""
ZERO, ONE, BOTH = range(3)
"""What is kept of a branch."""

_R: Final = math.sqrt(0.5)
_EIGHTH: Final = complex(_R, _R)
MATRICES: Final[dict[str, Matrix]] = {
    "H": (_R, _R, _R, -_R),
    "H_YZ": (_R, -_R * 1j, _R * 1j, -_R),
    "S": (1, 0, 0, 1j),
    "S_DAG": (1, 0, 0, -1j),
    "X": (0, 1, 1, 0),
    "Y": (0, -1j, 1j, 0),
    "Z": (1, 0, 0, -1),
    "T": (1, 0, 0, _EIGHTH),
    "T_DAG": (1, 0, 0, _EIGHTH.conjugate()),
}


def rotation(axis: str, angle: float) -> Matrix:
    """exp(-i angle/2 P), P being X, Y or Z."""
    cos, sin = math.cos(angle / 2), math.sin(angle / 2)
    a, b, c, d = MATRICES[axis]
    return (cos - 1j * sin * a, -1j * sin * b, -1j * sin * c, cos - 1j * sin * d)


def adjoint(matrix: Matrix) -> Matrix:
    a, b, c, d = (complex(each).conjugate() for each in matrix)
    return (a, c, b, d)


class Gate(NamedTuple):
    """On one qubit, by its matrix, or CX or CZ on two.

    control: it happens only where that bit of the branch's pattern is `value`; -1 for everywhere.
    """

    kind: int
    one: int
    two: int = 0
    matrix: Matrix = (1, 0, 0, 1)
    control: int = -1
    value: int = 1


class Pass(NamedTuple):
    """Gates on the qubits of `tile`, as `native/_dense.c` takes them."""

    gates: NDArray[np.int32]
    matrices: Floats
    tile: NDArray[np.int32]


class Circuit(NamedTuple):
    """width: qubits."""

    width: int
    passes: tuple[Pass, ...]


def compiled(gates: Iterable[Gate], width: int) -> Circuit:
    """The gates on a vector of `width` qubits, up to a phase."""
    at_once = max(PASS_GATES_LEAST, RUN_AMPLITUDES >> width)
    passes = []
    for tile, inside in passed(list(fused(gates)), max(width, LANE_BITS)):
        place = {qubit: at for at, qubit in enumerate(tile)}
        for first in range(0, len(inside), at_once):
            some = inside[first : first + at_once]
            codes = [(each.kind, place[each.one], place[each.two], *each[4:]) for each in some]
            matrices = np.array([each.matrix for each in some], dtype=np.complex128)
            passes.append(
                Pass(
                    np.array(codes, dtype=np.int32),
                    matrices.view(np.float64),
                    np.array(tile, dtype=np.int32),
                )
            )
    return Circuit(width, tuple(passes))


# --- fusing ---------------------------------------------------------------------------------------


def fused(gates: Iterable[Gate]) -> Iterator[Gate]:
    """The same circuit up to a phase: gates on one qubit are put off and joined until one comes
    that they do not commute with."""
    held: dict[int, Matrix] = {}

    def let_go(qubit: int) -> Iterator[Gate]:
        if qubit in held:
            yield from single(qubit, held.pop(qubit))

    for gate in gates:
        pair = gate.kind in (CX, CZ)
        if not pair and gate.control < 0:
            held[gate.one] = product(gate.matrix, held.get(gate.one, (1, 0, 0, 1)))
            continue
        if not (pair and is_diagonal(held.get(gate.one))):
            yield from let_go(gate.one)
        if pair and not (
            is_diagonal(held.get(gate.two)) if gate.kind == CZ else is_even(held.get(gate.two))
        ):
            yield from let_go(gate.two)
        if pair:
            yield gate
        else:
            yield from single(gate.one, gate.matrix, gate.control, gate.value)
    for qubit in sorted(held):
        yield from single(qubit, held[qubit])


def single(qubit: int, matrix: Matrix, control: int = -1, value: int = 1) -> Iterator[Gate]:
    """The gate of a matrix, up to a phase, by its simplest kind; none where it does nothing."""
    a, b, c, d = matrix
    if b == 0 and c == 0:
        kind, matrix = PHASE, (1, 0, 0, d / a)
        if matrix[3] == 1:
            return
    elif a == 0 and d == 0:
        kind, matrix = FLIP, (0, 1, c / b, 0)
    else:
        turn = cmath.rect(1, -cmath.phase(a))
        a, b, c, d = matrix = _clean((abs(a), b * turn, c * turn, d * turn))
        kind = GENERAL if any(complex(each).imag for each in matrix) else REAL
    yield Gate(kind, qubit, qubit, matrix, control, value)


def product(left: Matrix, right: Matrix) -> Matrix:
    a, b, c, d = left
    e, f, g, h = right
    return _clean((a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h))


def _clean(matrix: Matrix) -> Matrix:
    """Without what is there by rounding only."""
    a, b, c, d = (
        complex(
            each.real if abs(each.real) > NONE else 0, each.imag if abs(each.imag) > NONE else 0
        )
        for each in map(complex, matrix)
    )
    return (a, b, c, d)


def is_diagonal(matrix: Matrix | None) -> bool:
    return matrix is None or (matrix[1] == 0 and matrix[2] == 0)


def is_even(matrix: Matrix | None) -> bool:
    """Whether it is made of 1 and X, and so commutes with being the target of a CX."""
    return matrix is None or (matrix[0] == matrix[3] and matrix[1] == matrix[2])


# --- passes ---------------------------------------------------------------------------------------


def passed(gates: list[Gate], width: int) -> Iterator[tuple[list[int], list[Gate]]]:
    """The gates in passes: of each the qubits of its tiles, ascending, and its gates.

    A gate goes into the first pass that has its qubits and all gates before it on them.
    """
    if width <= WHOLE_BITS:
        if gates:
            yield list(range(width)), gates
        return
    coming, waiting = iter(gates), list[Gate]()
    while True:
        tile = set(range(TILE_LOW_BITS))
        blocked: set[int] = set()
        inside: list[Gate] = []
        left: list[Gate] = []
        ahead = iter(waiting)
        while len(blocked) < width:
            gate = next(ahead, None) or next(coming, None)
            if gate is None:
                break
            qubits = {gate.one, gate.two}
            if qubits & blocked or len(tile | qubits) > TILE_BITS:
                blocked |= qubits
                left.append(gate)
            else:
                tile |= qubits
                inside.append(gate)
        waiting = left + list(ahead)
        if not inside:
            return
        free = (qubit for qubit in range(width) if qubit not in tile)
        while len(tile) < min(TILE_BITS, width):
            tile.add(next(free))
        yield sorted(tile), inside


# --- amplitudes -----------------------------------------------------------------------------------


def doubles(width: int) -> int:
    """Of one vector."""
    return 2 << max(width, LANE_BITS)


def bytes_of(width: int) -> int:
    """Of one vector."""
    return 8 * doubles(width)


def aligned(rows: int, columns: int) -> Floats:
    """Not filled."""
    whole = np.empty(rows * columns + ALIGNMENT // 8, dtype=np.float64)
    skip = -whole.ctypes.data % ALIGNMENT // 8
    return whole[skip : skip + rows * columns].reshape(rows, columns)


class Vectors:
    """One vector per branch, each of norm 1 up to rounding.

    psi: float64, shape (branches, doubles(width)).
    """

    def __init__(self) -> None:
        self.width = 0
        self.psi = aligned(1, doubles(0))
        self.psi[:] = 0
        self.psi[0, 0] = 1

    def __len__(self) -> int:
        return len(self.psi)

    def widen(self, width: int) -> None:
        """With more qubits in |0>, behind the others."""
        assert width >= self.width
        before = self.psi.shape[1]
        self.width = width
        if doubles(width) != before:
            psi = aligned(len(self.psi), doubles(width))
            psi[:, :before] = self.psi
            psi[:, before:] = 0
            self.psi = psi

    def take(self, branches: Sequence[int] | NDArray[np.intp]) -> None:
        """These branches instead of those that there are."""
        psi = aligned(len(branches), self.psi.shape[1])
        np.take(self.psi, branches, axis=0, out=psi, mode="clip")  # unlike "raise", unbuffered
        self.psi = psi

    def run(
        self,
        circuit: Circuit,
        patterns: NDArray[np.uint64],
        poll: Callable[[], None] = lambda: None,
    ) -> None:
        """patterns: of each branch, which bits guarded gates see. Calls `poll` now and then."""
        assert circuit.width == self.width
        for each in circuit.passes:
            at_once = max(1, RUN_AMPLITUDES // (len(each.gates) << self.width))
            for first in range(0, len(self.psi), at_once):
                some = slice(first, first + at_once)
                _dense.run(self.psi[some], self.width, *each, patterns[some])
                poll()

    def weights(self, qubit: int) -> Floats:
        """shape (branches, 2): of each branch, of its amplitudes with the qubit 0 and 1."""
        assert 0 <= qubit < self.width
        found: Floats = np.empty((len(self.psi), 2))
        _dense.weights(self.psi, self.width, qubit, found)
        return found

    def project(
        self,
        qubit: int,
        mode: int,
        sources: NDArray[np.int32],
        outcomes: NDArray[np.uint8],
        factors: Floats,
    ) -> None:
        """For each of `sources`, what its outcome leaves of that branch, times a factor."""
        psi = aligned(len(sources), doubles(self.width - (mode == DROP)))
        _dense.project(self.psi, self.width, qubit, mode, sources, outcomes, factors, psi)
        self.psi = psi
        self.width -= mode == DROP

    def same(self) -> NDArray[np.int32] | None:
        """Of each branch one that holds the same state up to phase; None where all differ."""
        prints: Floats = np.empty(len(self.psi))
        _dense.prints(self.psi, self.width, prints)
        order = np.argsort(prints, kind="stable").astype(np.int32)
        same = np.empty(len(self.psi), dtype=np.int32)
        _dense.join(self.psi, self.width, order, prints, same)
        return None if (same == np.arange(len(same))).all() else same
