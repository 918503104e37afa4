"""State injection: one physical qubit in any state becomes the logical qubit of a surface patch.

The qubit is the corner where the logical row and column cross. The rest of the row, and what lies
on its side of the diagonal, starts in |0>, the rest of the column and its side in |+>; so some
checks are known at once and the first round fixes the others (Li, arXiv:1410.7808). A fault of the
corner is a logical fault: the distance is one, whatever the patch, and only throwing away shots by
the detectors of the first rounds helps.
"""

from __future__ import annotations

import stim

from qmkd.qec.circuits.memories import check_experiment
from qmkd.qec.circuits.writer import Writer
from qmkd.qec.codes.code import Basis
from qmkd.qec.codes.surface import surface


def injection(distance: int, rounds: int, basis: Basis) -> stim.Circuit:
    """Inject the +1 state of `basis`, keep it for `rounds` rounds, measure it in that basis.

    In X the observable flips with Z and Y errors of the output, in Z with X and Y errors; the
    circuit is the same for every injected state but for the corner's own reset.
    """
    code = surface(distance)
    check_experiment(code, rounds, basis)
    writer = Writer([code])
    block = writer.blocks[0]
    single: dict[int, Basis] = {
        qubit: "X" if y > x else "Z"
        for qubit, (x, y) in zip(block.data, code.qubits[: code.data], strict=True)
    }
    single[block.data[0]] = basis
    writer.reset_data([(block, basis)], single)
    writer.rounds([0], rounds)
    found = writer.measure([0], basis)
    writer.observable(0, frozenset(found[qubit] for qubit in block.logical(basis, 0)))
    return writer.circuit
