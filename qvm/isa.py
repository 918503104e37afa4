"""The instruction table: one row per opcode, and nothing else decides what an opcode is.

The verifier, the JSON Schema, the assembler, the reference pages and the tests are all driven by
these rows. The module holds no behaviour. Read `program.py` next (how a graph is held in memory)
and `verify.py` (what makes a graph legal).
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

import msgspec

from syscalls.rights import Right

NODES_MAX: Final = 1_040_000  # a million gates, and what their qubits begin and end with
QUBITS_MAX: Final = 100_000
CHANNELS_MAX: Final = 10_000
EVENTS_MAX: Final = 1_000_000
OPERANDS_MAX: Final = 4096
CONDITIONS_MAX: Final = 64
NAME_CHARS_MAX: Final = 128
TEXT_CHARS_MAX: Final = 256

CORE = "core/1"
CLIFFORD = "clifford/1"
MEASURE = "measure/1"
MAGIC = "magic/1"
ROTATION = "rotation/1"
FAMILIES: Final = (CORE, CLIFFORD, MEASURE, MAGIC, ROTATION)


class Kind(StrEnum):
    """What an opcode does to the machine; decides ordering, lifetimes and reversibility."""

    LIFETIME = "lifetime"
    """Begins or ends the life of qubits."""
    UNITARY = "unitary"
    """A reversible gate on live qubits."""
    PREPARE = "prepare"
    """Discards a qubit's state and puts it in a known one."""
    MEASURE = "measure"
    """Projects qubits and writes events."""
    ORDER = "order"
    """Orders other nodes; touches no state."""
    CHANNEL = "channel"
    """Opens, uses or closes an entanglement channel."""
    ADMIN = "admin"
    """Advice to the kernel."""


class ArgType(StrEnum):
    """How an argument is written in `args`."""

    INT = "int"
    NUMBER = "number"
    ANGLE = "angle"
    """Radians: a number, or a string holding a plain arithmetic expression in `pi`."""
    TEXT = "text"
    PROFILE = "profile"
    """`logical:NAME(d=N)`; see `profiles.py`."""
    PAULI = "pauli"
    """A string over I, X, Y, Z: one letter for every qubit operand, or one per operand."""
    CHOICE = "choice"
    CHANNEL_OPTIONS = "channel_options"
    """An object with `fidelity` and `type`."""


class Arg(msgspec.Struct, frozen=True, kw_only=True):
    """One argument: bounds are inclusive; `group` names arguments of which exactly one is given."""

    name: str
    type: ArgType
    required: bool = True
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: tuple[str, ...] = ()
    group: str = ""
    help: str = ""


class Count(msgspec.Struct, frozen=True):
    """How many operands a list may hold; both ends are allowed."""

    least: int = 0
    most: int = 0


NONE = Count(0, 0)
ONE = Count(1, 1)
TWO = Count(2, 2)
SOME = Count(1, OPERANDS_MAX)
ANY = Count(0, OPERANDS_MAX)

Matrix = tuple[tuple[complex, ...], ...]


class Op(msgspec.Struct, frozen=True, kw_only=True):
    """One opcode.

    vqs, chs, inputs, produces: how many qubit, channel, read-event and written-event operands.
    The operands of one list must differ from one another.
    right: the capability that the op needs, or None.
    inverse: the opcode that undoes it (rotations are undone by the negated angle), or None.
    guardable: a guard may stand on it.
    clifford: maps stabilizer states to stabilizer states.
    matrix: the unitary in the basis |q1 q0> with the *first* operand as the least significant bit,
        or None where the op is not one fixed unitary.
    """

    name: str
    family: str
    kind: Kind
    help: str
    vqs: Count = NONE
    chs: Count = NONE
    inputs: Count = NONE
    produces: Count = NONE
    args: tuple[Arg, ...] = ()
    right: Right | None = None
    inverse: str | None = None
    guardable: bool = True
    clifford: bool = True
    matrix: Matrix | None = None

    @property
    def reversible(self) -> bool:
        """True where a REV segment may hold the op."""
        return self.inverse is not None


_R: Final = math.sqrt(0.5)
_T: Final = complex(_R, _R)
_H: Matrix = ((_R, _R), (_R, -_R))
_CNOT: Matrix = ((1, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0))


def _diagonal(*entries: complex) -> Matrix:
    size = len(entries)
    return tuple(
        tuple(entries[row] if row == column else 0 for column in range(size)) for row in range(size)
    )


def _gate(
    name: str,
    inverse: str,
    matrix: Matrix | None,
    text: str,
    *,
    family: str = CORE,
    vqs: Count = ONE,
    args: tuple[Arg, ...] = (),
    right: Right | None = None,
    clifford: bool = True,
) -> Op:
    return Op(
        name=name,
        family=family,
        kind=Kind.UNITARY,
        help=text,
        vqs=vqs,
        args=args,
        right=right,
        inverse=inverse,
        clifford=clifford,
        matrix=matrix,
    )


def _measure(
    name: str,
    text: str,
    *,
    family: str = CORE,
    vqs: Count = ONE,
    produces: Count = ONE,
    args: tuple[Arg, ...] = (),
    clifford: bool = True,
) -> Op:
    return Op(
        name=name,
        family=family,
        kind=Kind.MEASURE,
        help=text,
        vqs=vqs,
        produces=produces,
        args=args,
        clifford=clifford,
    )


def _rotation(axis: str) -> Op:
    return _gate(
        f"APPLY_R{axis}",
        f"APPLY_R{axis}",
        None,
        f"exp(-i theta {axis}/2). User mode lowers it; only the `ideal` device runs it as it is.",
        family=ROTATION,
        args=(Arg(name="theta", type=ArgType.ANGLE, help="radians"),),
        clifford=False,
    )


CHANNEL_OPTIONS: Final = (
    Arg(
        name="fidelity",
        type=ArgType.NUMBER,
        required=False,
        minimum=0.5,
        maximum=1.0,
        help="of a pair when it is consumed, at the least",
    ),
    Arg(
        name="type",
        type=ArgType.TEXT,
        required=False,
        help="`BBPSSW` or `DEJMPS`: the protocol that purifies; any other text is a remark",
    ),
)
"""What OPEN_CHAN may be told, as arguments or inside `opts`."""

_PAULI_HELP = "one letter of I, X, Y, Z for all operands, or one letter per operand"

TABLE: Final[tuple[Op, ...]] = (
    Op(
        name="ALLOC_LQ",
        family=CORE,
        kind=Kind.LIFETIME,
        help="Begin the life of `n` logical qubits in |0>, encoded as the profile says.",
        vqs=SOME,
        args=(
            Arg(name="n", type=ArgType.INT, minimum=1, maximum=OPERANDS_MAX),
            Arg(name="profile", type=ArgType.PROFILE),
        ),
        right=Right.ALLOC,
        guardable=False,
        inverse="FREE_LQ",
    ),
    Op(
        name="FREE_LQ",
        family=CORE,
        kind=Kind.LIFETIME,
        help="End the life of the qubits; whatever they hold is measured away and lost.",
        vqs=SOME,
        guardable=False,
    ),
    Op(
        name="FENCE_EPOCH",
        family=CORE,
        kind=Kind.ORDER,
        help="Finish everything before it, correct, open the next epoch. A guard changes nothing.",
        vqs=ANY,
    ),
    Op(
        name="BAR_REGION",
        family=CORE,
        kind=Kind.ORDER,
        help="Keep what stands before it before what stands after it, without a new epoch.",
        vqs=ANY,
        args=(Arg(name="tag", type=ArgType.TEXT, help="the region's name"),),
    ),
    _gate("APPLY_H", "APPLY_H", _H, "Hadamard."),
    _gate("APPLY_S", "APPLY_SDG", _diagonal(1, 1j), "Phase gate, diag(1, i)."),
    _gate("APPLY_X", "APPLY_X", ((0, 1), (1, 0)), "Pauli X."),
    _gate("APPLY_Y", "APPLY_Y", ((0, -1j), (1j, 0)), "Pauli Y."),
    _gate("APPLY_Z", "APPLY_Z", _diagonal(1, -1), "Pauli Z."),
    _gate(
        "APPLY_CNOT",
        "APPLY_CNOT",
        _CNOT,
        "Controlled X: the first operand is the control, the second the target.",
        vqs=TWO,
    ),
    Op(
        name="RESET",
        family=CORE,
        kind=Kind.PREPARE,
        help="Put the qubit in |0>, whatever it held.",
        vqs=ONE,
    ),
    _gate("APPLY_SDG", "APPLY_S", _diagonal(1, -1j), "Inverse phase gate.", family=CLIFFORD),
    _gate(
        "APPLY_CZ",
        "APPLY_CZ",
        _diagonal(1, 1, 1, -1),
        "Controlled Z.",
        family=CLIFFORD,
        vqs=TWO,
    ),
    _gate(
        "APPLY_SWAP",
        "APPLY_SWAP",
        ((1, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0), (0, 0, 0, 1)),
        "Exchange two qubits.",
        family=CLIFFORD,
        vqs=TWO,
    ),
    _measure("MEASURE_Z", "Measure Z: the event is 0 for |0> and 1 for |1>."),
    _measure("MEASURE_X", "Measure X: the event is 0 for |+> and 1 for |->."),
    _measure("MEASURE_Y", "Measure Y: the event is 0 for |+i> and 1 for |-i>.", family=MEASURE),
    _measure(
        "MEASURE_ANGLE",
        "Measure cos(angle) Z + sin(angle) X: the event is 0 for its +1 eigenstate.",
        family=MEASURE,
        args=(Arg(name="angle", type=ArgType.ANGLE, help="radians; 0 is Z, pi/2 is X"),),
        clifford=False,
    ),
    _measure(
        "MEASURE_BELL",
        "Bell measurement: m0 is XX (0 for +1), m1 is ZZ. Two events hold m0 and m1; one holds "
        "2*m0 + m1.",
        family=MEASURE,
        vqs=TWO,
        produces=Count(1, 2),
    ),
    Op(
        name="TELEPORT_CNOT",
        family=CORE,
        kind=Kind.UNITARY,
        help=(
            "Controlled X, control first, through a Bell pair that is consumed where the qubits "
            "lie in different modules."
        ),
        vqs=TWO,
        right=Right.TELEPORT,
        matrix=_CNOT,
    ),
    Op(
        name="INJECT_T_STATE",
        family=CORE,
        kind=Kind.PREPARE,
        help="Put a fresh qubit in |T> = (|0> + exp(i pi/4)|1>)/sqrt(2), consuming one T state.",
        vqs=ONE,
        right=Right.MAGIC,
        clifford=False,
    ),
    Op(
        name="OPEN_CHAN",
        family=CORE,
        kind=Kind.CHANNEL,
        help="Ask the kernel for a purified Bell pair between two qubits' modules.",
        vqs=TWO,
        chs=ONE,
        args=(
            Arg(name="opts", type=ArgType.CHANNEL_OPTIONS, required=False),
            *CHANNEL_OPTIONS,
        ),
        right=Right.LINK,
        guardable=False,
    ),
    Op(
        name="USE_CHAN",
        family=CORE,
        kind=Kind.CHANNEL,
        help=(
            "Consume one pair of the open channel. `teleport_cnot` is a controlled X, control "
            "first. `teleport_state` with two qubits moves the state of the first to the second, "
            "whose own state is lost, and leaves the first in |0>; with one qubit, the qubit "
            "changes module and keeps handle and state."
        ),
        vqs=Count(1, 2),
        chs=ONE,
        args=(
            Arg(name="semantic", type=ArgType.CHOICE, choices=("teleport_state", "teleport_cnot")),
        ),
    ),
    Op(
        name="CLOSE_CHAN",
        family=CORE,
        kind=Kind.CHANNEL,
        help="Give the channel back.",
        chs=ONE,
        guardable=False,
    ),
    _gate(
        "APPLY_T",
        "APPLY_TDG",
        _diagonal(1, _T),
        "T gate, diag(1, exp(i pi/4)); consumes one T state.",
        family=MAGIC,
        right=Right.MAGIC,
        clifford=False,
    ),
    _gate(
        "APPLY_TDG",
        "APPLY_T",
        _diagonal(1, _T.conjugate()),
        "Inverse T gate; consumes one T state.",
        family=MAGIC,
        right=Right.MAGIC,
        clifford=False,
    ),
    _rotation("X"),
    _rotation("Y"),
    _rotation("Z"),
    Op(
        name="COND_PAULI",
        family=CORE,
        kind=Kind.UNITARY,
        help=(
            "Apply Paulis where the XOR of `inputs` is 1 (an absent event counts as 0) and the "
            "guard, if there is one, holds."
        ),
        vqs=SOME,
        inputs=ANY,
        args=(
            Arg(name="pauli", type=ArgType.PAULI, required=False, group="pauli", help=_PAULI_HELP),
            Arg(name="mask", type=ArgType.PAULI, required=False, group="pauli", help=_PAULI_HELP),
        ),
        inverse="COND_PAULI",
    ),
    Op(
        name="SET_POLICY",
        family=CORE,
        kind=Kind.ADMIN,
        help=(
            "Ask for a priority and a deadline of the whole job, `deadline` epochs from here; a "
            "submission that names its own has that, and of several the highest and the soonest "
            "count. Behind it in the list, ALLOC_LQ of a code without a distance has "
            "`code_distance`."
        ),
        guardable=False,
        args=(
            Arg(name="priority", type=ArgType.INT, required=False, minimum=-100, maximum=100),
            Arg(name="deadline", type=ArgType.INT, required=False, minimum=1),
            Arg(name="code_distance", type=ArgType.INT, required=False, minimum=2, maximum=99),
        ),
    ),
)

OPS: Final[dict[str, Op]] = {row.name: row for row in TABLE}

assert len(OPS) == len(TABLE), "opcode names are unique"
assert all(row.inverse is None or row.inverse in OPS for row in TABLE)
assert all(row.family in FAMILIES for row in TABLE)
