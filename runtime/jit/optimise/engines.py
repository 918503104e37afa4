"""The engines: other people's optimisers, each as a function from gates to gates.

Each takes the gates of a stretch (`stretches.py`: Clifford, T, rotations about Z) and its number of
qubits, and gives back gates of the same kinds that do the same up to the global phase, or so it
says; `equivalence.py` looks. Libraries are loaded when they are first needed. Read `portfolio.py`
for who chooses among them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any, Final

from runtime.jit.angles import Angle, angle, turn
from runtime.jit.circuit import Operation
from runtime.jit.gates import by_eighths

Gates = Sequence[Operation]
Engine = Callable[[Gates, int], list[Operation]]

SNAP: Final = 1e-11
"""Radians. Engines that reckon with floats leave multiples of pi/4 less far off than this."""
SEED: Final = 1
TODD_GATES_MAX: Final = 400
TODD_QUBITS_MAX: Final = 12
TKET_GATES_MAX: Final = 600
"""For the passes of tket that take a second for a hundred gates."""


class NotForThis(Exception):
    """The engine does not take such gates; the sentence says why."""


def qiskit_level_3(gates: Gates, width: int) -> list[Operation]:
    """Qiskit's preset passes at level 3, towards the gates that a stretch may hold."""
    from qiskit import transpile

    basis = ["h", "s", "sdg", "t", "tdg", "x", "y", "z", "cx", "cz", "swap", "rz"]
    made = transpile(
        _to_qiskit(gates, width), basis_gates=basis, optimization_level=3, seed_transpiler=SEED
    )
    found = []
    for each in made.data:
        wires = tuple(made.find_bit(bit).index for bit in each.qubits)
        angles = tuple(_near(float(value)) for value in each.operation.params)
        found.append(Operation(each.operation.name, wires, angles))
    if made.layout is not None:
        found += _back(made.layout.final_index_layout())
    return _plain(found)


def _back(places: Sequence[int]) -> list[Operation]:
    """Swaps that bring home what was left at other places: of qubit number i at `places[i]`."""
    at = list(places)
    made = []
    for qubit in range(len(at)):
        if at[qubit] != qubit:
            made.append(Operation("swap", (qubit, at[qubit])))
            at[at.index(qubit)] = at[qubit]
    return made


def _to_qiskit(gates: Gates, width: int) -> Any:
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(width)
    for each in gates:
        getattr(circuit, each.name)(*(value.radians for value in each.angles), *each.qubits)
    return circuit


def zx_teleported(gates: Gates, width: int) -> list[Operation]:
    """Phases merged over the whole stretch, which keeps its shape (Kissinger and van de Wetering,
    arXiv:1903.10477)."""
    import pyzx
    from pyzx.circuit import Circuit

    graph = pyzx.teleport_reduce(to_zx(gates, width).to_graph())
    return zx_read(pyzx.basic_optimization(Circuit.from_graph(graph).to_basic_gates()))


def zx_extracted(gates: Gates, width: int) -> list[Operation]:
    """Reduced as a diagram and written anew (Duncan et al., arXiv:1902.03178)."""
    import pyzx

    graph = to_zx(gates, width).to_graph()
    pyzx.full_reduce(graph)
    return zx_read(pyzx.basic_optimization(pyzx.extract_circuit(graph).to_basic_gates()))


def zx_peephole(gates: Gates, width: int) -> list[Operation]:
    """Cancellation and commutation of neighbours (Nam et al., arXiv:1710.07345)."""
    import pyzx

    return zx_read(pyzx.basic_optimization(to_zx(gates, width).to_basic_gates()))


def zx_todd(gates: Gates, width: int) -> list[Operation]:
    """Third-order duplicate-and-destroy moves on phase polynomials (Heyfron and Campbell,
    arXiv:1712.01557)."""
    import pyzx

    _at_most(TODD_GATES_MAX, gates)
    if width > TODD_QUBITS_MAX:
        raise NotForThis(f"it takes {TODD_QUBITS_MAX} qubits at most")
    if any(each.angles and each.angles[0].eighths is None for each in gates):
        raise NotForThis("it takes Clifford and T gates alone")
    # It shuffles by the process's own generator, which others may rely on.
    state = random.getstate()
    random.seed(SEED)
    try:
        return zx_read(pyzx.full_optimize(to_zx(gates, width)))
    finally:
        random.setstate(state)


def tket_peephole(gates: Gates, width: int) -> list[Operation]:
    """tket's peephole optimisation on up to three qubits."""
    from pytket.passes import FullPeepholeOptimise

    _at_most(TKET_GATES_MAX, gates)
    return _by_tket(gates, width, FullPeepholeOptimise())


def tket_zx(gates: Gates, width: int) -> list[Operation]:
    """tket's reduction of ZX diagrams."""
    from pytket import OpType
    from pytket.passes import AutoRebase, ZXGraphlikeOptimisation

    rebased = AutoRebase({OpType.CX, OpType.CZ, OpType.H, OpType.Rx, OpType.Rz}, True)
    return _by_tket(gates, width, rebased, ZXGraphlikeOptimisation())


def tket_paulis(gates: Gates, width: int) -> list[Operation]:
    """tket's greedy synthesis of Pauli exponentials."""
    from pytket.passes import GreedyPauliSimp

    _at_most(TKET_GATES_MAX, gates)
    return _by_tket(gates, width, GreedyPauliSimp())


QISKIT: Final[dict[str, Engine]] = {"qiskit level 3": qiskit_level_3}
TKET: Final[dict[str, Engine]] = {
    "tket peephole": tket_peephole,
    "tket zx": tket_zx,
    "tket paulis": tket_paulis,
}
PYZX: Final[dict[str, Engine]] = {
    "pyzx teleport": zx_teleported,
    "pyzx extract": zx_extracted,
    "pyzx peephole": zx_peephole,
    "pyzx todd": zx_todd,
}
ALL: Final[dict[str, Engine]] = {**QISKIT, **TKET, **PYZX}
QUICK: Final = ("qiskit level 3", "pyzx peephole")
"""Linear in gates."""
WIDE: Final = ("pyzx teleport", "pyzx peephole")
"""Whose answers can be proven on any number of qubits: they reckon with exact multiples of pi."""


def _at_most(most: int, gates: Gates) -> None:
    if len(gates) > most:
        raise NotForThis(f"it takes {most} gates at most")


def _near(radians: float) -> Angle:
    """The angle of an engine's float."""
    eighths = round(radians * 4 / math.pi)
    if abs(radians - eighths * math.pi / 4) <= SNAP:
        return turn(Fraction(eighths, 4))
    return angle(radians)


def _plain(gates: Iterable[Operation]) -> list[Operation]:
    """The gates, with rotations by multiples of pi/4 as Clifford and T gates."""
    made = []
    for each in gates:
        if each.name == "rz" and each.angles[0].eighths is not None:
            names, _ = by_eighths("rz", each.angles[0].eighths)
            made += [Operation(name, each.qubits) for name in names]
        else:
            made.append(each)
    return made


_ZX_NAMES: Final = {"cx": "CNOT", "cz": "CZ", "swap": "SWAP", "h": "HAD", "x": "NOT", "z": "Z"}
_ZX_EIGHTHS: Final = {"s": 2, "sdg": -2, "t": 1, "tdg": -1}


def to_zx(gates: Gates, width: int) -> Any:
    from pyzx.circuit import Circuit

    made = Circuit(width)
    for each in gates:
        if each.name == "y":
            made.add_gate("Z", *each.qubits)
            made.add_gate("NOT", *each.qubits)
        elif each.name in _ZX_NAMES:
            made.add_gate(_ZX_NAMES[each.name], *each.qubits)
        elif each.name == "rz":
            made.add_gate("ZPhase", *each.qubits, phase=_multiple(each.angles[0]))
        else:
            phase = Fraction(_ZX_EIGHTHS[each.name], 4)
            made.add_gate("ZPhase", *each.qubits, phase=phase)
    return made


def _multiple(value: Angle) -> Fraction:
    """Of pi. A float is the fraction that it is, so that what is added and taken away cancels."""
    return Fraction(value.radians / math.pi) if value.of_pi is None else value.of_pi


def zx_read(circuit: Any) -> list[Operation]:
    made: list[Operation] = []
    names = {"CNOT": "cx", "CZ": "cz", "SWAP": "swap", "HAD": "h"}
    for each in circuit.to_basic_gates().gates:
        if each.name in names:
            wires = (each.control, each.target) if each.name != "HAD" else (each.target,)
            made.append(Operation(names[each.name], wires))
            continue
        turned = Operation("rz", (each.target,), (turn(Fraction(each.phase)),))
        if each.name in ("XPhase", "NOT"):
            around = Operation("h", (each.target,))
            made += [Operation("x", turned.qubits)] if each.phase == 1 else [around, turned, around]
        else:
            assert hasattr(each, "phase"), f"{each.name} is a gate of pyzx that nobody expected"
            made.append(turned)
    return _plain(made)


def _by_tket(gates: Gates, width: int, *chosen: Any) -> list[Operation]:
    from pytket import Circuit, OpType
    from pytket.passes import AutoRebase, DecomposeBoxes, RemoveRedundancies

    types = {
        "h": OpType.H, "s": OpType.S, "sdg": OpType.Sdg, "t": OpType.T, "tdg": OpType.Tdg,
        "x": OpType.X, "y": OpType.Y, "z": OpType.Z, "cx": OpType.CX, "cz": OpType.CZ,
        "swap": OpType.SWAP, "rz": OpType.Rz,
    }  # fmt: skip
    circuit = Circuit(width)
    for each in gates:
        turns = [value.radians / math.pi for value in each.angles]
        circuit.add_gate(types[each.name], turns, list(each.qubits))
    for one in chosen:
        one.apply(circuit)
    DecomposeBoxes().apply(circuit)
    AutoRebase({OpType.CX, OpType.Rz, OpType.H}, True).apply(circuit)
    RemoveRedundancies().apply(circuit)
    circuit.replace_implicit_wire_swaps()
    back = {kind: name for name, kind in types.items()}
    made = []
    for command in circuit.get_commands():
        wires = tuple(qubit.index[0] for qubit in command.qubits)
        if command.op.type == OpType.SWAP:
            made.append(Operation("swap", wires))
            continue
        angles = tuple(_near(float(value) * math.pi) for value in command.op.params)
        made.append(Operation(back[command.op.type], wires, angles))
    return _plain(made)
