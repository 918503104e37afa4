"""pytket circuits in: an object, or the JSON of `Circuit.to_dict`.

Gates of the table are taken as they are, boxes and all other gates through pytket's own passes with
the result compared with the matrix. Conditions, copied and set bits, range predicates and logical
expressions become conditions on bits. Refused: symbols without a value, arithmetic whose width
pytket leaves open, WASM, random numbers, jumps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from pytket.circuit import Circuit as Source
from pytket.circuit import ClBitVar, ClExpr, ClOp, Op, OpType
from pytket.passes import AutoRebase, DecomposeBoxes

from runtime.jit.angles import ZERO, Angle, angle
from runtime.jit.circuit import Circuit, Condition, Position, bit_is
from runtime.jit.frontends.building import Builder, Truth, Word, word_of

CLOSE: Final = 1e-8
"""How far pytket's decomposition of a gate may be from its matrix, in any entry."""
CHECKED_QUBITS_MAX: Final = 6
"""Of gates whose decomposition is compared with their matrix."""
NUMBER_BITS_MAX: Final = 64
"""Of a number in a logical expression."""

_SAME: Final[dict[OpType, str]] = {
    OpType.X: "x", OpType.Y: "y", OpType.Z: "z", OpType.H: "h", OpType.S: "s", OpType.Sdg: "sdg",
    OpType.T: "t", OpType.Tdg: "tdg", OpType.SX: "sx", OpType.SXdg: "sxdg", OpType.noop: "id",
    OpType.Rx: "rx", OpType.Ry: "ry", OpType.Rz: "rz", OpType.U1: "p", OpType.U3: "u",
    OpType.CX: "cx", OpType.CY: "cy", OpType.CZ: "cz", OpType.CH: "ch", OpType.CS: "cs",
    OpType.CSdg: "csdg", OpType.CSX: "csx", OpType.CSXdg: "csxdg", OpType.CRx: "crx",
    OpType.CRy: "cry", OpType.CRz: "crz", OpType.CU1: "cp", OpType.SWAP: "swap",
    OpType.CSWAP: "cswap", OpType.CCX: "ccx", OpType.ISWAPMax: "iswap", OpType.XXPhase: "rxx",
    OpType.YYPhase: "ryy", OpType.ZZPhase: "rzz",
}  # fmt: skip
"""Gates with the table's own angles, in half turns."""

_PREDICATES: Final = {"AND": "and", "OR": "or", "XOR": "xor"}
_BIT_JOINS: Final = {ClOp.BitAnd: "and", ClOp.BitOr: "or", ClOp.BitXor: "xor"}
_WORD_JOINS: Final = {ClOp.RegAnd: "and", ClOp.RegOr: "or", ClOp.RegXor: "xor"}


def load(source: str | Source, *, file: str = "") -> Circuit:
    """Read a pytket circuit. Raises `Unsupported`.

    Registers of qubits and bits keep their names and indices; scratch bits are hidden.
    """
    return _Reader(file).circuit(source)


class _Reader:
    def __init__(self, file: str) -> None:
        self._build = Builder(file)
        self._file = file
        self._numbers: dict[Any, int] = {}

    def circuit(self, source: str | Source) -> Circuit:
        whole = self._parsed(source) if isinstance(source, str) else source.copy()
        self._refuse_boxes_that_write_what_they_ask(whole)
        DecomposeBoxes().apply(whole)
        whole.replace_implicit_wire_swaps()
        self._registers(whole.qubits, self._build.qubits)
        self._registers(whole.bits, self._bits)
        for number, command in enumerate(whole.get_commands()):
            self._build.at = Position(self._file, 0, 0, f"command {number}: {command}")
            self._operation(command.op, command.args)
        self._build.turn(self._angle(whole.phase))
        return self._build.circuit(whole.name or "")

    def _parsed(self, text: str) -> Source:
        try:
            return Source.from_dict(json.loads(text))
        except (ValueError, TypeError, RuntimeError, KeyError) as error:
            raise self._build.unsupported(f"it is no JSON of pytket: {error}") from None

    def _refuse_boxes_that_write_what_they_ask(self, whole: Source) -> None:
        """pytket puts the condition on each operation of the box, where it is asked anew after the
        box wrote its bits, or ends the process."""
        for command in whole.get_commands():
            op: Any = command.op
            units = command.args
            asked: set[Any] = set()
            while op.type == OpType.Conditional:
                asked |= set(units[: op.width])
                op, units = op.op, units[op.width :]
            if op.type != OpType.CircBox:
                continue
            inner = op.get_circuit()
            written = dict(zip([*inner.qubits, *inner.bits], units, strict=True))
            if asked & {written[unit] for unit in _written(inner)}:
                self._build.at = Position(self._file, 0, 0, str(command))
                raise self._build.unsupported("the box writes a bit that its own condition asks")
            self._refuse_boxes_that_write_what_they_ask(inner)

    def _registers(self, units: Sequence[Any], make: Any) -> None:
        """Number the units of each name by their indices."""
        sizes: dict[str, int] = {}
        for unit in units:
            if len(unit.index) != 1:
                raise self._build.unsupported(f"{unit} has not one index but {len(unit.index)}")
            sizes[unit.reg_name] = max(sizes.get(unit.reg_name, 0), unit.index[0] + 1)
        numbers = {name: make(name, size) for name, size in sizes.items()}
        for unit in units:
            self._numbers[unit] = numbers[unit.reg_name][unit.index[0]]

    def _bits(self, name: str, size: int) -> range:
        return self._build.bits(name, size, hidden=name == "tk_SCRATCH_BIT")

    def _on(self, units: Sequence[Any]) -> tuple[int, ...]:
        return tuple(self._numbers[unit] for unit in units)

    def _angle(self, half_turns: Any) -> Angle:
        try:
            return angle(float(half_turns) * np.pi)
        except TypeError:
            raise self._build.unsupported(f"{half_turns} has no value") from None
        except ValueError as error:
            raise self._build.unsupported(str(error)) from error

    def _operation(self, op: Any, units: Sequence[Any]) -> None:
        if op.type == OpType.Conditional:
            bits = self._on(units[: op.width])
            tests = tuple((bit, (op.value >> place) & 1) for place, bit in enumerate(bits))
            with self._build.where(Condition("and", tests)):
                self._operation(op.op, units[op.width :])
        elif op.type == OpType.Measure:
            qubit, bit = self._on(units)
            self._build.add("measure", (qubit,), bits=(bit,))
        elif op.type == OpType.Collapse:
            self._build.add("measure", self._on(units), bits=(self._build.hidden(),))
        elif op.type == OpType.Reset:
            self._build.add("reset", self._on(units))
        elif op.type == OpType.Barrier:
            qubits = [unit for unit in units if unit.type.name == "qubit"]
            self._build.add("barrier", self._on(qubits))
        elif op.type == OpType.Phase:
            self._build.turn(self._angle(op.params[0]))
        elif op.is_gate():
            self._gate(op, self._on(units))
        else:
            self._classical(op, self._on(units))

    # --- gates ------------------------------------------------------------------------------------

    def _gate(self, op: Op, qubits: tuple[int, ...]) -> None:
        angles = tuple(self._angle(each) for each in op.params)
        if op.type in _SAME:
            self._build.add(_SAME[op.type], qubits, angles)
            return
        parts = self._defined(op, angles)
        if parts is None:
            self._decomposed(op, qubits)
            return
        for name, *turns in parts:
            self._build.add(name, qubits, tuple(turns))

    def _defined(self, op: Op, angles: tuple[Angle, ...]) -> Sequence[tuple[Any, ...]] | None:
        """Gates that are a few of the table on the same qubits, in order."""
        quarter = angle(np.pi / 2)
        match op.type, angles:
            case OpType.V, _:
                return [("rx", quarter)]
            case OpType.Vdg, _:
                return [("rx", -quarter)]
            case OpType.CV, _:
                return [("crx", quarter)]
            case OpType.CVdg, _:
                return [("crx", -quarter)]
            case OpType.ZZMax, _:
                return [("rzz", quarter)]
            case OpType.U2, (phi, lam):
                return [("u", quarter, phi, lam)]
            case OpType.CU3, (theta, phi, lam):
                return [("cu", theta, phi, lam, ZERO)]
            case OpType.TK1, (alpha, beta, gamma):
                return [("rz", gamma), ("rx", beta), ("rz", alpha)]
            case OpType.PhasedX, (alpha, beta):
                return [("rz", -beta), ("rx", alpha), ("rz", beta)]
            case OpType.TK2, (x, y, z):
                return [("rxx", x), ("ryy", y), ("rzz", z)]
        return None

    def _decomposed(self, op: Op, qubits: tuple[int, ...]) -> None:
        """By pytket's own rebase to CX and TK1."""
        alone = Source(len(qubits)).add_gate(op, list(range(len(qubits))))
        wanted = alone.get_unitary() if len(qubits) <= CHECKED_QUBITS_MAX else None
        AutoRebase({OpType.CX, OpType.TK1}).apply(alone)
        alone.replace_implicit_wire_swaps()
        if wanted is not None and np.abs(alone.get_unitary() - wanted).max() > CLOSE:
            raise self._build.unsupported("pytket's decomposition of it is not exact")
        for command in alone.get_commands():
            inner = tuple(qubits[qubit.index[0]] for qubit in command.qubits)
            if command.op.type not in (*_SAME, OpType.TK1):
                raise self._build.unsupported(f"pytket does not take {command.op} apart")
            self._gate(command.op, inner)
        self._build.turn(self._angle(alone.phase))

    # --- classical --------------------------------------------------------------------------------

    def _classical(self, op: Any, bits: tuple[int, ...]) -> None:
        if op.type == OpType.SetBits:
            values: list[Truth] = [bool(value) for value in op.values]
            self._assign(bits, values)
        elif op.type == OpType.CopyBits:
            half = len(bits) // 2
            self._assign(bits[half:], [bit_is(bit) for bit in bits[:half]])
        elif op.type == OpType.RangePredicate:
            self._assign(bits[-1:], [self._in_range(bits[:-1], op.lower, op.upper)])
        elif op.type == OpType.ExplicitPredicate and str(op) in _PREDICATES:
            truths = [bit_is(bit) for bit in bits[:-1]]
            self._assign(bits[-1:], [self._build.join(_PREDICATES[str(op)], truths)])
        elif op.type == OpType.ExplicitPredicate and str(op) == "NOT":
            self._assign(bits[-1:], [bit_is(bits[0], 0)])
        elif op.type == OpType.ClExpr:
            self._expression(op.expr, bits)
        else:
            raise self._build.unsupported(f"the classical operation {op} is not known here")

    def _assign(self, bits: Sequence[int], truths: Sequence[Truth]) -> None:
        """All at once: what is written first may be read by what is written next."""
        settled = [self._build.fixed(truth) for truth in truths]
        for bit, truth in zip(bits, settled, strict=True):
            self._build.assign(bit, truth)

    def _in_range(self, bits: Sequence[int], lower: int, upper: int) -> Truth:
        word: Word = [bit_is(bit) for bit in bits]
        most = (1 << len(word)) - 1
        if lower > most:
            return False
        under = self._build.below(word, word_of(lower, len(word)), signed=False)
        over = self._build.below(word_of(min(upper, most), len(word)), word, signed=False)
        return self._build.negation(self._build.join("or", (under, over)))

    def _expression(self, wired: Any, bits: Sequence[int]) -> None:
        one_bit: dict[int, Truth] = {}
        words: dict[int, Word] = {}
        for place, at in wired.bit_posn.items():
            one_bit[place] = bit_is(bits[at])
        for place, places in wired.reg_posn.items():
            words[place] = [bit_is(bits[at]) for at in places]
        found = self._value(wired.expr, one_bit, words)
        word = found if isinstance(found, list) else [found]
        outputs = [bits[at] for at in wired.output_posn]
        padded = [*word, *[False] * len(outputs)][: len(outputs)]
        self._assign(outputs, padded)

    def _value(self, term: Any, one_bit: dict[int, Truth], words: dict[int, Word]) -> Truth | Word:
        """A bit, or a number without sign of as many bits as it may take."""
        if isinstance(term, int):
            return word_of(term, NUMBER_BITS_MAX)
        if not isinstance(term, ClExpr):
            return one_bit[term.index] if isinstance(term, ClBitVar) else words[term.index]
        arguments = [self._value(each, one_bit, words) for each in term.args]
        build = self._build
        if term.op in _BIT_JOINS:
            return build.join(_BIT_JOINS[term.op], _truths(arguments))
        if term.op in (ClOp.BitNot, ClOp.BitEq, ClOp.BitNeq):
            odd = build.join("xor", _truths(arguments))
            return odd if term.op == ClOp.BitNeq else build.negation(odd)
        if term.op in (ClOp.BitZero, ClOp.BitOne):
            return bool(term.op == ClOp.BitOne)
        return self._number(term.op, [_word(each) for each in arguments])

    def _number(self, op: ClOp, words: list[Word]) -> Truth | Word:
        build = self._build
        width = max(map(len, words), default=0)
        if op in _WORD_JOINS:
            return [
                build.join(_WORD_JOINS[op], row) for row in zip(*_padded(words, width), strict=True)
            ]
        if op == ClOp.RegAdd:
            one, other = _padded(words, min(width + 1, NUMBER_BITS_MAX))
            return build.sum(one, other)
        if op in (ClOp.RegEq, ClOp.RegNeq):
            equal = build.equal(*_padded(words, width))
            return equal if op == ClOp.RegEq else build.negation(equal)
        if op in (ClOp.RegLt, ClOp.RegGeq, ClOp.RegGt, ClOp.RegLeq):
            one, other = _padded(words, width)
            if op in (ClOp.RegGt, ClOp.RegLeq):
                one, other = other, one
            less = build.below(one, other, signed=False)
            return less if op in (ClOp.RegLt, ClOp.RegGt) else build.negation(less)
        raise build.unsupported(f"how wide a result of {op.name} is, pytket leaves open")


def _written(source: Source) -> Iterator[Any]:
    """The bits that a circuit may write."""
    for command in source.get_commands():
        op: Any = command.op
        units = command.args
        while op.type == OpType.Conditional:
            op, units = op.op, units[op.width :]
        if op.type == OpType.CircBox:
            inner = op.get_circuit()
            outer = dict(zip([*inner.qubits, *inner.bits], units, strict=True))
            yield from (outer[unit] for unit in _written(inner))
        elif op.type != OpType.Barrier:
            yield from (unit for unit in units if unit.type.name == "bit")


def _truths(values: Sequence[Truth | Word]) -> list[Truth]:
    """Bits; a literal among them is written as a number."""
    return [bool(each[0]) if isinstance(each, list) else each for each in values]


def _word(value: Truth | Word) -> Word:
    return value if isinstance(value, list) else [value]


def _padded(words: Sequence[Word], width: int) -> list[Word]:
    return [[*word, *[False] * (width - len(word))] for word in words]
