"""The gate table: one row per gate a circuit may hold, and nothing else decides what a gate is.

A row has the gate's matrix and, where QVM has no opcode for it, its exact definition by smaller
gates with the global phase it leaves. Front ends, lowering, back ends and tests are driven by it.
Definitions after Barenco et al., arXiv:quant-ph/9503016, and the OpenQASM 3 specification
(stdgates.inc). It holds no circuit; read `circuit.py` next.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.jit.angles import ZERO, Angle, turn

Matrix = NDArray[np.complex128]
Part = tuple[str, tuple[int, ...], tuple[Angle, ...]]
"""A gate of a definition: its name, which of the operands it acts on, its angles."""
Definition = tuple[tuple[Part, ...], Angle]
"""The parts in order, and the global phase in front of them."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One gate.

    qubits, angles: how many. opcode: of QVM, or None. inverse: the name of the gate that undoes it,
        with every angle negated, or None where `inverted` below says how.
    matrix: from the angles in radians; the first operand is the least significant bit.
    definition: smaller gates that it equals, from the angles; None where there is an opcode.
    """

    name: str
    qubits: int
    angles: int
    opcode: str | None
    inverse: str | None
    matrix: Callable[..., Matrix]
    definition: Callable[..., Definition] | None


def _array(rows: Sequence[Sequence[complex]]) -> Matrix:
    return np.array(rows, dtype=np.complex128)


def _diagonal(*entries: complex) -> Matrix:
    return np.diag(np.array(entries, dtype=np.complex128))


def _phase(angle: float) -> complex:
    return cmath.exp(1j * angle)


def _u(theta: float, phi: float, lam: float) -> Matrix:
    c, s = math.cos(theta / 2), math.sin(theta / 2)
    return _array([[c, -_phase(lam) * s], [_phase(phi) * s, _phase(phi + lam) * c]])


def _controlled(inner: Matrix) -> Matrix:
    """The first operand is the control."""
    size = len(inner)
    whole = np.eye(2 * size, dtype=np.complex128)
    whole[1::2, 1::2] = inner
    return whole


def _rotation(generator: Matrix) -> Callable[[float], Matrix]:
    """exp(-i angle generator / 2), of a generator whose square is one."""
    one = np.eye(len(generator), dtype=np.complex128)
    return lambda angle: np.asarray(
        math.cos(angle / 2) * one - 1j * math.sin(angle / 2) * generator
    )


def _both(second: Matrix, first: Matrix) -> Matrix:
    return np.asarray(np.kron(second, first), dtype=np.complex128)


_X: Final = _array([[0, 1], [1, 0]])
_Y: Final = _array([[0, -1j], [1j, 0]])
_Z: Final = _diagonal(1, -1)
_H: Final = (_X + _Z) / math.sqrt(2)
_SX: Final = _array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2
_SWAP: Final = _array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
_ISWAP: Final = _array([[1, 0, 0, 0], [0, 0, 1j, 0], [0, 1j, 0, 0], [0, 0, 0, 1]])


def _fixed(matrix: Matrix) -> Callable[[], Matrix]:
    return lambda: matrix


def _by(*parts: tuple[object, ...], phase: Angle = ZERO) -> Definition:
    """Parts written as (name, angle, ..., wire, ...)."""
    made = []
    for name, *rest in parts:
        wires = tuple(each for each in rest if isinstance(each, int))
        angles = tuple(each for each in rest if isinstance(each, Angle))
        made.append((str(name), wires, angles))
    return tuple(made), phase


def _crz(angle: Angle) -> Definition:
    half = angle / 2
    return _by(("rz", half, 1), ("cx", 0, 1), ("rz", -half, 1), ("cx", 0, 1))


def _cry(angle: Angle) -> Definition:
    half = angle / 2
    return _by(("ry", half, 1), ("cx", 0, 1), ("ry", -half, 1), ("cx", 0, 1))


def _cp(angle: Angle) -> Definition:
    half = angle / 2
    return _by(("p", half, 0), ("cx", 0, 1), ("p", -half, 1), ("cx", 0, 1), ("p", half, 1))


def _cu(theta: Angle, phi: Angle, lam: Angle, gamma: Angle) -> Definition:
    middle = (phi + lam) / 2
    return _by(
        ("p", gamma + middle, 0),
        ("p", (lam - phi) / 2, 1),
        ("cx", 0, 1),
        ("u", -(theta / 2), ZERO, -middle, 1),
        ("cx", 0, 1),
        ("u", theta / 2, phi, ZERO, 1),
    )


def _ccx() -> Definition:
    return _by(
        ("h", 2), ("cx", 1, 2), ("tdg", 2), ("cx", 0, 2), ("t", 2), ("cx", 1, 2), ("tdg", 2),
        ("cx", 0, 2), ("t", 1), ("t", 2), ("h", 2), ("cx", 0, 1), ("t", 0), ("tdg", 1),
        ("cx", 0, 1),
    )  # fmt: skip


def _native(name: str, opcode: str, inverse: str, matrix: Matrix, qubits: int = 1) -> Gate:
    return Gate(
        name=name,
        qubits=qubits,
        angles=0,
        opcode=opcode,
        inverse=inverse,
        matrix=_fixed(matrix),
        definition=None,
    )


def _turning(name: str, opcode: str, generator: Matrix) -> Gate:
    return Gate(
        name=name,
        qubits=1,
        angles=1,
        opcode=opcode,
        inverse=name,
        matrix=_rotation(generator),
        definition=None,
    )


def _defined(
    name: str,
    qubits: int,
    inverse: str | None,
    matrix: Callable[..., Matrix],
    definition: Callable[..., Definition],
    angles: int = 0,
) -> Gate:
    return Gate(
        name=name,
        qubits=qubits,
        angles=angles,
        opcode=None,
        inverse=inverse,
        matrix=matrix,
        definition=definition,
    )


def _about(name: str, generator: Matrix, definition: Callable[..., Definition]) -> Gate:
    """A rotation of two qubits by one angle, undone by its negative."""
    return _defined(name, 2, name, _rotation(generator), definition, angles=1)


_CS: Final = turn(Fraction(1, 2))
"""cs is cp of this."""

TABLE: Final[tuple[Gate, ...]] = (
    _native("x", "APPLY_X", "x", _X),
    _native("y", "APPLY_Y", "y", _Y),
    _native("z", "APPLY_Z", "z", _Z),
    _native("h", "APPLY_H", "h", _H),
    _native("s", "APPLY_S", "sdg", _diagonal(1, 1j)),
    _native("sdg", "APPLY_SDG", "s", _diagonal(1, -1j)),
    _native("t", "APPLY_T", "tdg", _diagonal(1, _phase(math.pi / 4))),
    _native("tdg", "APPLY_TDG", "t", _diagonal(1, _phase(-math.pi / 4))),
    _native("cx", "APPLY_CNOT", "cx", _controlled(_X), 2),
    _native("cz", "APPLY_CZ", "cz", _controlled(_Z), 2),
    _native("swap", "APPLY_SWAP", "swap", _SWAP, 2),
    _turning("rx", "APPLY_RX", _X),
    _turning("ry", "APPLY_RY", _Y),
    _turning("rz", "APPLY_RZ", _Z),
    _defined("id", 1, "id", _fixed(np.eye(2, dtype=np.complex128)), _by),
    _defined("sx", 1, "sxdg", _fixed(_SX), lambda: _by(("h", 0), ("s", 0), ("h", 0))),
    _defined("sxdg", 1, "sx", _fixed(_SX.conj().T), lambda: _by(("h", 0), ("sdg", 0), ("h", 0))),
    _defined(
        "p",
        1,
        "p",
        lambda a: _diagonal(1, _phase(a)),
        lambda a: _by(("rz", a, 0), phase=a / 2),
        angles=1,
    ),
    _defined(
        "u",
        1,
        None,
        _u,
        lambda theta, phi, lam: _by(
            ("rz", lam, 0), ("ry", theta, 0), ("rz", phi, 0), phase=(phi + lam) / 2
        ),
        angles=3,
    ),
    _defined(
        "cy", 2, "cy", _fixed(_controlled(_Y)), lambda: _by(("sdg", 1), ("cx", 0, 1), ("s", 1))
    ),
    _defined(
        "ch",
        2,
        "ch",
        _fixed(_controlled(_H)),
        lambda: _by(("s", 1), ("h", 1), ("t", 1), ("cx", 0, 1), ("tdg", 1), ("h", 1), ("sdg", 1)),
    ),
    _defined(
        "cs", 2, "csdg", _fixed(_controlled(_diagonal(1, 1j))), lambda: _by(("cp", _CS, 0, 1))
    ),
    _defined(
        "csdg", 2, "cs", _fixed(_controlled(_diagonal(1, -1j))), lambda: _by(("cp", -_CS, 0, 1))
    ),
    _defined(
        "csx",
        2,
        "csxdg",
        _fixed(_controlled(_SX)),
        lambda: _by(("h", 1), ("cp", _CS, 0, 1), ("h", 1)),
    ),
    _defined(
        "csxdg",
        2,
        "csx",
        _fixed(_controlled(_SX.conj().T)),
        lambda: _by(("h", 1), ("cp", -_CS, 0, 1), ("h", 1)),
    ),
    _defined("cp", 2, "cp", lambda a: _diagonal(1, 1, 1, _phase(a)), _cp, angles=1),
    _defined(
        "crx",
        2,
        "crx",
        lambda a: _controlled(_rotation(_X)(a)),
        lambda a: _by(("h", 1), ("crz", a, 0, 1), ("h", 1)),
        angles=1,
    ),
    _defined("cry", 2, "cry", lambda a: _controlled(_rotation(_Y)(a)), _cry, angles=1),
    _defined("crz", 2, "crz", lambda a: _controlled(_rotation(_Z)(a)), _crz, angles=1),
    _defined(
        "cu",
        2,
        None,
        lambda theta, phi, lam, gamma: _controlled(_phase(gamma) * _u(theta, phi, lam)),
        _cu,
        angles=4,
    ),
    _defined(
        "iswap",
        2,
        "iswapdg",
        _fixed(_ISWAP),
        lambda: _by(("swap", 0, 1), ("s", 0), ("s", 1), ("cz", 0, 1)),
    ),
    _defined(
        "iswapdg",
        2,
        "iswap",
        _fixed(_ISWAP.conj().T),
        lambda: _by(("swap", 0, 1), ("sdg", 0), ("sdg", 1), ("cz", 0, 1)),
    ),
    _about("rzz", _both(_Z, _Z), lambda a: _by(("cx", 0, 1), ("rz", a, 1), ("cx", 0, 1))),
    _about(
        "rxx",
        _both(_X, _X),
        lambda a: _by(("h", 0), ("h", 1), ("rzz", a, 0, 1), ("h", 0), ("h", 1)),
    ),
    _about(
        "ryy",
        _both(_Y, _Y),
        lambda a: _by(("sdg", 0), ("sdg", 1), ("rxx", a, 0, 1), ("s", 0), ("s", 1)),
    ),
    _about("rzx", _both(_X, _Z), lambda a: _by(("h", 1), ("rzz", a, 0, 1), ("h", 1))),
    _defined("ccx", 3, "ccx", _fixed(_controlled(_controlled(_X))), _ccx),
    _defined(
        "ccz",
        3,
        "ccz",
        _fixed(_controlled(_controlled(_Z))),
        lambda: _by(("h", 2), ("ccx", 0, 1, 2), ("h", 2)),
    ),
    _defined(
        "cswap",
        3,
        "cswap",
        _fixed(_controlled(_SWAP)),
        lambda: _by(("cx", 2, 1), ("ccx", 0, 1, 2), ("cx", 2, 1)),
    ),
)

GATES: Final[dict[str, Gate]] = {row.name: row for row in TABLE}

PAULIS: Final = frozenset({"x", "y", "z"})

assert len(GATES) == len(TABLE), "gate names are unique"
assert all(row.inverse is None or row.inverse in GATES for row in TABLE)
assert all((row.opcode is None) != (row.definition is None) for row in TABLE)

_TURNS: Final[dict[int, tuple[str, ...]]] = {
    0: (), 1: ("t",), 2: ("s",), 3: ("s", "t"), 4: ("z",), 5: ("z", "t"), 6: ("sdg",), 7: ("tdg",),
}  # fmt: skip
FRAMES: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "rz": ((), ()), "rx": (("h",), ("h",)), "ry": (("sdg", "h"), ("h", "s")),
}  # fmt: skip
"""Gates before and after a rotation about Z that make it one about the axis."""
_SHORT: Final[dict[tuple[str, int], tuple[str, ...]]] = {
    ("ry", 2): ("z", "h"), ("ry", 6): ("h", "z"), ("ry", 4): ("y",), ("rx", 4): ("x",),
}  # fmt: skip


def by_eighths(name: str, eighths: int) -> tuple[tuple[str, ...], Angle]:
    """rx, ry or rz by this many pi/4 as Clifford and T gates on one qubit, and the global phase.

    At most one of them is a T gate.
    """
    steps = eighths % 8
    # diag(1, e^ia) is e^(ia/2) RZ(a), and the axes differ by conjugation, which is exact.
    phase = turn(Fraction(-eighths, 8))
    if (name, steps) in _SHORT:
        # RY(pi/2) is H Z and RY(-pi/2) is Z H, both exactly; 2 pi more is a factor of -1.
        exact = {2: turn((eighths - 2) // 8), 6: turn((eighths + 2) // 8)}
        return _SHORT[name, steps], exact.get(steps, phase)
    before, after = FRAMES[name]
    middle = _TURNS[steps]
    return (before + middle + after if middle else ()), phase


def inverted(name: str, angles: tuple[Angle, ...]) -> tuple[str, tuple[Angle, ...]]:
    """The gate that undoes this one."""
    row = GATES[name]
    if row.inverse is not None:
        return row.inverse, tuple(-each for each in angles)
    theta, phi, lam, *gamma = angles
    return name, (-theta, -lam, -phi, *(-each for each in gamma))
