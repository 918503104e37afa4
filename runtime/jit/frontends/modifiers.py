"""Gates under `ctrl`, `inv` and `pow`: sequences of gates in, sequences of gates out, exactly.

A sequence is a list of applied gates and the global phase in front of it, which matters as soon as
a control is put on it. Controls that no gate of the table has are built after Barenco et al.
(arXiv:quant-ph/9503016) and, beyond two of them, after the constructions of Qiskit's library.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from runtime.jit.angles import ZERO, Angle, angle, turn
from runtime.jit.gates import GATES, inverted

REPEATS_MAX: Final = 1 << 16


class Applied(NamedTuple):
    """A gate of the table on wires; the first `controls` wires are controls beside its own.

    Or a `barrier`, which no modifier changes.
    """

    name: str
    wires: tuple[int, ...]
    angles: tuple[Angle, ...] = ()
    controls: int = 0


class Gates(NamedTuple):
    gates: list[Applied]
    phase: Angle = ZERO


class NoModifier(Exception):
    """The modifier cannot be expressed; the sentence says why."""


def inverse(what: Gates) -> Gates:
    gates = []
    for each in reversed(what.gates):
        if each.name == "barrier":
            gates.append(each)
            continue
        name, angles = inverted(each.name, each.angles)
        gates.append(Applied(name, each.wires, angles, each.controls))
    return Gates(gates, -what.phase)


def controlled(what: Gates, wire: int, *, on: bool = True) -> Gates:
    """The sequence carried out where the wire is |1> (or |0>)."""
    gates = []
    if what.phase != ZERO:
        gates.append(Applied("p", (wire,), (what.phase,)))
    gates += [
        each
        if each.name == "barrier"
        else Applied(each.name, (wire, *each.wires), each.angles, each.controls + 1)
        for each in what.gates
    ]
    if not on:
        flip = Applied("x", (wire,))
        gates = [flip, *gates, flip]
    return Gates(gates)


def power(what: Gates, exponent: float | Fraction) -> Gates:
    """Whole powers of anything; broken ones of a single gate, by its principal branch.

    Raises NoModifier.
    """
    if not math.isfinite(exponent):
        raise NoModifier(f"there is no power {exponent}")
    whole = round(exponent)
    if exponent == whole:
        if abs(whole) * max(1, len(what.gates)) > REPEATS_MAX:
            raise NoModifier(f"the power {float(whole):g} takes more than {REPEATS_MAX} gates")
        base = inverse(what) if whole < 0 else what
        return Gates(base.gates * abs(whole), what.phase * whole)
    if not what.gates:
        if not -math.pi < what.phase.radians <= math.pi:
            raise NoModifier("a broken power of a phase beyond half a turn")
        return Gates([], what.phase * Fraction(exponent))
    if len(what.gates) != 1 or what.gates[0].name == "barrier":
        raise NoModifier("a broken power of more than one gate is not known exactly")
    (gate,) = what.gates
    if what.phase != ZERO:
        raise NoModifier("a broken power of a gate with a phase of its own")
    return _root(gate, Fraction(exponent))


_PHASES: Final = {"z": 4, "s": 2, "t": 1, "sdg": -2, "tdg": -1}
"""Gates that are p of so many pi/4."""
_ADDITIVE: Final = frozenset({"p", "cp"})
_PRINCIPAL: Final = frozenset({"rx", "ry", "rz", "rxx", "ryy", "rzz", "rzx", "crx", "cry", "crz"})

_CONTROLLED: Final = {"cx": "x", "cy": "y", "cz": "z", "ch": "h", "ccx": "x", "ccz": "z"}


def _root(gate: Applied, exponent: Fraction) -> Gates:
    name, wires, angles, controls = gate
    if name in _CONTROLLED and not angles:
        extra = GATES[name].qubits - 1
        return _root(Applied(_CONTROLLED[name], wires, (), controls + extra), exponent)
    if name in _PHASES:
        name, angles = "p", (turn(Fraction(_PHASES[name], 4)),)
    if name in _ADDITIVE or name in _PRINCIPAL:
        # The eigenvalues are 1 and e^(i a), or e^(+-i a/2); beyond half a turn the principal
        # branch is another one.
        bound = math.pi if name in _ADDITIVE else 2 * math.pi
        if not -bound < angles[0].radians <= bound:
            raise NoModifier(f"a broken power of {name} by more than {bound:.4g} radians")
        return Gates([Applied(name, wires, (angles[0] * exponent,), controls)])
    if GATES[name].qubits != 1:
        raise NoModifier(f"a broken power of {name} is not known exactly")
    found = _one_qubit_root(name, angles, exponent)
    gates = [Applied("u", wires, found[:3], controls)]
    return Gates(_phased(gates, found[3], wires[:controls]), ZERO if controls else found[3])


def _phased(gates: list[Applied], phase: Angle, controls: tuple[int, ...]) -> list[Applied]:
    if not controls or phase == ZERO:
        return gates
    return [*gates, Applied("p", controls, (phase,), len(controls) - 1)]


def _one_qubit_root(
    name: str, angles: tuple[Angle, ...], exponent: Fraction
) -> tuple[Angle, Angle, Angle, Angle]:
    """theta, phi, lambda and the phase of the principal power of a gate on one qubit."""
    matrix = GATES[name].matrix(*(each.radians for each in angles))
    values, vectors = np.linalg.eig(matrix)
    powers = np.diag([cmath.exp(1j * cmath.phase(_on_cut(v)) * float(exponent)) for v in values])
    root = vectors @ powers @ np.linalg.inv(vectors)
    theta = 2 * math.atan2(abs(root[1, 0]), abs(root[0, 0]))
    if abs(root[0, 0]) > 1e-12:
        phase = cmath.phase(root[0, 0])
        phi = cmath.phase(root[1, 0]) - phase if abs(root[1, 0]) > 1e-12 else 0.0
        lam = cmath.phase(root[1, 1]) - phase - phi
    else:
        phase, phi = 0.0, cmath.phase(root[1, 0])
        lam = cmath.phase(-root[0, 1])
    return angle(theta), angle(phi), angle(lam), angle(phase)


def _on_cut(value: complex) -> complex:
    """-1 itself for what is -1 but for rounding, so that its root is +i and not -i."""
    return complex(-1) if abs(value + 1) < 1e-12 else complex(value)


_NAMED: Final[dict[tuple[str, int], str]] = {
    ("x", 1): "cx", ("y", 1): "cy", ("z", 1): "cz", ("h", 1): "ch", ("s", 1): "cs",
    ("sdg", 1): "csdg", ("sx", 1): "csx", ("sxdg", 1): "csxdg", ("p", 1): "cp", ("rx", 1): "crx",
    ("ry", 1): "cry", ("rz", 1): "crz", ("swap", 1): "cswap", ("x", 2): "ccx", ("z", 2): "ccz",
    ("cx", 1): "ccx", ("cz", 1): "ccz",
}  # fmt: skip
_UNFOLDED: Final = {
    "cx": "x", "cy": "y", "cz": "z", "ch": "h", "cs": "s", "csdg": "sdg", "csx": "sx",
    "csxdg": "sxdg", "cp": "p", "crx": "rx", "cry": "ry", "crz": "rz", "cswap": "swap",
    "ccx": "cx", "ccz": "cz",
}  # fmt: skip


def settled(what: Gates) -> Gates:
    """The same without extra controls: every gate as the table has it."""
    gates: list[Applied] = []
    phase = what.phase
    for each in what.gates:
        if each.controls:
            found = _settle(each)
            gates += found.gates
            phase += found.phase
        else:
            gates.append(each)
    return Gates(gates, phase)


def _settle(each: Applied) -> Gates:
    name, wires, angles, controls = each
    if (name, controls) in _NAMED:
        return Gates([Applied(_NAMED[name, controls], wires, angles)])
    if name in _UNFOLDED:
        return _settle(Applied(_UNFOLDED[name], wires, angles, controls + 1))
    if name == "u" and controls == 1:
        return Gates([Applied("cu", wires, (*angles, ZERO))])
    if name == "id":
        return Gates([])
    if name in ("x", "p"):
        return _multiply_controlled(name, wires, angles, controls)
    outer, (target,) = wires[:controls], wires[-1:]
    if name in _PHASES:
        return _settle(Applied("p", wires, (turn(Fraction(_PHASES[name], 4)),), controls))
    if name in ("rz", "ry"):
        half = angles[0] / 2
        flip = Applied("x", (*outer, target), (), controls)
        turned = [Applied(name, (target,), (half,)), flip, Applied(name, (target,), (-half,)), flip]
        return settled(Gates(turned))
    if name in _AROUND:
        parts = [part._replace(wires=tuple(wires[controls + w] for w in part.wires))
                 for part in _around(name, angles)]  # fmt: skip
        # What stands around the middle undoes itself, so the middle alone needs the controls.
        middle = parts[1]
        parts[1] = Applied(middle.name, (*outer, *middle.wires), middle.angles, controls)
        return settled(Gates(parts))
    definition = GATES[name].definition
    assert definition is not None, name
    smaller, phase = definition(*angles)
    found = Gates([Applied(n, tuple(wires[controls + w] for w in ws), a) for n, ws, a in smaller])
    found = found._replace(phase=phase)
    for wire in reversed(outer):
        found = controlled(found, wire)
    return settled(found)


_AROUND: Final = ("h", "y", "rx", "swap")


def _around(name: str, angles: tuple[Angle, ...]) -> list[Applied]:
    """Three gates that make up the gate, of which the first and the last undo each other."""
    eighth = turn(Fraction(1, 4))
    return {
        "h": [Applied("ry", (0,), (-eighth,)), Applied("z", (0,)), Applied("ry", (0,), (eighth,))],
        "y": [Applied("sdg", (0,)), Applied("x", (0,)), Applied("s", (0,))],
        "rx": [Applied("h", (0,)), Applied("rz", (0,), angles), Applied("h", (0,))],
        "swap": [Applied("cx", (1, 0)), Applied("cx", (0, 1)), Applied("cx", (1, 0))],
    }[name]


def _multiply_controlled(
    name: str, wires: Sequence[int], angles: tuple[Angle, ...], controls: int
) -> Gates:
    if name == "x":
        gates, phase = _library_x(controls)
    else:
        gates, phase = _library_p(controls, angles[0].radians)
    return Gates(
        [each._replace(wires=tuple(wires[w] for w in each.wires)) for each in gates], phase
    )


@lru_cache(maxsize=64)
def _library_x(controls: int) -> tuple[tuple[Applied, ...], Angle]:
    from qiskit.circuit.library import MCXGate

    return _from_qiskit(MCXGate(controls), controls + 1)


@lru_cache(maxsize=1024)
def _library_p(controls: int, radians: float) -> tuple[tuple[Applied, ...], Angle]:
    from qiskit.circuit.library import MCPhaseGate

    return _from_qiskit(MCPhaseGate(radians, controls), controls + 1)


def _from_qiskit(gate: object, width: int) -> tuple[tuple[Applied, ...], Angle]:
    from qiskit import QuantumCircuit

    from runtime.jit.frontends import qiskit

    whole = QuantumCircuit(width)
    whole.append(gate, range(width))
    found = qiskit.load(whole)
    gates = tuple(Applied(each.name, each.qubits, each.angles) for each in found.operations)
    return gates, found.phase
