"""From a circuit in any format to a QVM graph: the whole way in one call.

Reads through `frontends/`, lowers rotations where a precision is named, emits. Nothing here decides
what a format means or what QVM can hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qvm.program import Graph
from runtime.jit.circuit import Circuit, Unsupported
from runtime.jit.emit import IDEAL, emit
from runtime.jit.frontends import load


def compile_circuit(
    source: Path | str | bytes | Any,
    *,
    format: str | None = None,
    profile: str = IDEAL,
    epsilon: float | None = None,
) -> Graph:
    """The graph of a circuit: `load`, `lowered`, `emit` in a row, and what these raise."""
    circuit = source if isinstance(source, Circuit) else load(source, format)
    return emit(lowered(circuit, epsilon), profile=profile)


def lowered(circuit: Circuit, epsilon: float | None) -> Circuit:
    """The circuit with its rotations in Clifford and T gates, to this error in operator norm over
    all of them together; as it is where no error is allowed. Raises Unsupported."""
    if epsilon is None:
        return circuit
    from runtime.jit.lower.clifford_t import to_clifford_t
    from runtime.jit.lower.synthesis import Unreachable

    try:
        return to_clifford_t(circuit, epsilon).circuit
    except (Unreachable, ValueError) as error:
        raise Unsupported(0, 0, "", str(error)) from error
