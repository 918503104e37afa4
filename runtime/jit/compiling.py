"""From a circuit in any format to a QVM graph: the whole way in one call.

Reads through `frontends/`, optimises and lowers as far as asked (`passes.py`), emits. Nothing here
decides what a format means or what QVM can hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qvm.program import Graph
from runtime.jit.circuit import Circuit, Unsupported
from runtime.jit.emit import IDEAL, emit
from runtime.jit.frontends import load
from runtime.jit.lower.synthesis import Unreachable
from runtime.jit.passes import NOTHING, Passed, Wishes, passed


def compile_circuit(
    source: Path | str | bytes | Any,
    *,
    format: str | None = None,
    profile: str = IDEAL,
    wishes: Wishes = NOTHING,
    **reading: Any,
) -> Graph:
    """The graph of a circuit: `load`, `through`, `emit` in a row, and what these raise.

    wishes: the passes to go through. reading: options of the front end.
    """
    circuit = source if isinstance(source, Circuit) else load(source, format, **reading)
    return emit(through(circuit, wishes).circuit, profile=profile)


def through(circuit: Circuit, wishes: Wishes) -> Passed:
    """The circuit after the passes asked for (`passes.passed`). Raises Unsupported."""
    try:
        return passed(circuit, wishes)
    except Unreachable as error:
        raise Unsupported(0, 0, "", str(error)) from error
