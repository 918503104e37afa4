"""Qiskit circuits in: `QuantumCircuit` objects and QPY files.

Gates outside the gate table are taken apart by the definitions that Qiskit gives them, with their
global phases. Control flow over classical bits is carried over; loops with a known range are
unrolled. Parameters must be bound.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Final

from runtime.jit.angles import ZERO, Angle, angle, turn
from runtime.jit.circuit import NOWHERE, Circuit, Condition, Unsupported
from runtime.jit.frontends.building import Builder, Truth, Word, known, word_of
from runtime.jit.gates import GATES

HALF: Final = turn(Fraction(1, 2))
DEPTH_MAX: Final = 64
"""How deep definitions may nest."""

_RENAMED: Final[dict[str, Callable[..., tuple[str, tuple[Angle, ...]]]]] = {
    "u1": lambda a: ("p", (a,)),
    "cu1": lambda a: ("cp", (a,)),
    "u2": lambda phi, lam: ("u", (HALF, phi, lam)),
    "u3": lambda theta, phi, lam: ("u", (theta, phi, lam)),
    "cu3": lambda theta, phi, lam: ("cu", (theta, phi, lam, ZERO)),
}
_COMPARISONS: Final = {
    "EQUAL": "==",
    "NOT_EQUAL": "!=",
    "LESS": "<",
    "LESS_EQUAL": "<=",
    "GREATER": ">",
    "GREATER_EQUAL": ">=",
}


def load(source: Any, *, file: str = "") -> Circuit:
    """Read a `QuantumCircuit`, or the bytes of a QPY file that holds one. Raises Unsupported."""
    if isinstance(source, bytes):
        from qiskit import qpy

        try:
            circuits = qpy.load(io.BytesIO(source))
        except Exception as error:  # the library raises whatever its decoding meets
            raise Unsupported(0, 0, "", f"it is no QPY file: {error}", file=file) from error
        if len(circuits) != 1:
            why = f"it holds {len(circuits)} circuits; one is read"
            raise Unsupported(0, 0, "", why, file=file)
        (source,) = circuits
    return _Reader(source, file).run()


class _Reader:
    """One circuit as it is being read."""

    def __init__(self, circuit: Any, file: str) -> None:
        self.source = circuit
        self.build = Builder(file)

    def run(self) -> Circuit:
        source = self.source
        if source.parameters:
            names = ", ".join(sorted(each.name for each in source.parameters)[:4])
            raise Unsupported(0, 0, names, "parameters must be bound", file=self.build.at.file)
        _declare(source.qubits, source.qregs, "q", self.build.qubits)
        _declare(source.clbits, source.cregs, "c", self.build.bits)
        qubits = {bit: at for at, bit in enumerate(source.qubits)}
        bits = {bit: at for at, bit in enumerate(source.clbits)}
        try:
            self.block(source, qubits, bits, 0)
        except ValueError as error:  # of an angle that is no number
            raise self.build.unsupported(str(error)) from error
        return self.build.circuit(source.name or "")

    def block(self, source: Any, qubits: dict[Any, int], bits: dict[Any, int], depth: int) -> None:
        """A circuit's operations, its bits standing for those that are given."""
        from qiskit.circuit import Barrier, Measure, Reset

        build = self.build
        if depth > DEPTH_MAX:
            raise build.unsupported(f"definitions nest deeper than {DEPTH_MAX}")
        build.turn(_angle(source.global_phase))
        outer = build.at
        for each in source.data:
            name = each.name
            if depth == 0:
                build.at = NOWHERE._replace(file=outer.file, construct=name)
            wires = tuple([qubits[bit] for bit in each.qubits])
            if each.is_standard_gate():
                self.standard(each, name, wires, depth)
                continue
            # A gate of the user's own may bear any name, so the type decides what is not standard.
            operation = each.operation
            if isinstance(operation, Measure):
                build.add("measure", wires, (), (bits[each.clbits[0]],))
            elif isinstance(operation, Reset | Barrier):
                build.add("reset" if isinstance(operation, Reset) else "barrier", wires)
            else:
                self.other(operation, wires, tuple([bits[bit] for bit in each.clbits]), depth)
        build.at = outer

    def standard(self, each: Any, name: str, wires: tuple[int, ...], depth: int) -> None:
        """A gate of Qiskit's own library; its name says all."""
        build = self.build
        if name in GATES:
            build.add(name, wires, tuple([_angle(value) for value in each.params]))
        elif name in _RENAMED:
            name, angles = _RENAMED[name](*(_angle(value) for value in each.params))
            build.add(name, wires, angles)
        elif name == "global_phase":
            build.turn(_angle(each.params[0]))
        else:
            self.definition(each.operation, wires, (), depth)

    def other(
        self, operation: Any, wires: tuple[int, ...], bits: tuple[int, ...], depth: int
    ) -> None:
        """Whatever is no gate of the library: control flow, stores, composite instructions."""
        from qiskit.circuit import ForLoopOp, IfElseOp, SwitchCaseOp

        if isinstance(operation, IfElseOp):
            self.branch(operation, wires, bits, depth)
        elif isinstance(operation, SwitchCaseOp):
            self.switch(operation, wires, bits, depth)
        elif isinstance(operation, ForLoopOp):
            self.loop(operation, wires, bits, depth)
        elif (why := _refusal(operation)) is not None:
            raise self.build.unsupported(why)
        else:
            self.definition(operation, wires, bits, depth)

    def definition(
        self, operation: Any, wires: tuple[int, ...], bits: tuple[int, ...], depth: int
    ) -> None:
        inner = getattr(operation, "definition", None)
        if inner is None:
            inner = _synthesised(operation)
        if inner is None:
            raise self.build.unsupported(f"{operation.name} has no definition")
        self.inside(inner, wires, bits, depth)

    def inside(self, inner: Any, wires: Sequence[int], bits: Sequence[int], depth: int) -> None:
        self.block(
            inner,
            dict(zip(inner.qubits, wires, strict=True)),
            dict(zip(inner.clbits, bits, strict=True)),
            depth + 1,
        )

    # --- control flow -----------------------------------------------------------------------------

    def branch(
        self, operation: Any, wires: tuple[int, ...], bits: tuple[int, ...], depth: int
    ) -> None:
        where = self.test(operation.condition)
        if not all(_steady(body) for body in operation.blocks):
            # The `else` asks what held before the other branch wrote its bits.
            where = self.build.fixed(where)
        for wanted, body in zip((True, False), operation.blocks, strict=False):
            truth = where if wanted else self.build.negation(where)
            self.guarded(truth, body, wires, bits, depth)

    def guarded(
        self, truth: Truth, body: Any, wires: tuple[int, ...], bits: tuple[int, ...], depth: int
    ) -> None:
        if truth is False:
            return
        if truth is True:
            self.inside(body, wires, bits, depth)
            return
        with self.build.where(truth, steady=_steady(body)):
            self.inside(body, wires, bits, depth)

    def switch(
        self, operation: Any, wires: tuple[int, ...], bits: tuple[int, ...], depth: int
    ) -> None:
        from qiskit.circuit import CASE_DEFAULT

        build = self.build
        target = self.value(operation.target)
        target = [build.fixed(each) for each in target]
        left: Truth = True
        for values, body in operation.cases_specifier():
            matches = [
                True
                if value is CASE_DEFAULT
                else build.equal(target, word_of(int(value), len(target)))
                for value in values
            ]
            here = build.join("or", matches)
            self.guarded(build.join("and", (left, here)), body, wires, bits, depth)
            left = build.join("and", (left, build.negation(here)))

    def loop(
        self, operation: Any, wires: tuple[int, ...], bits: tuple[int, ...], depth: int
    ) -> None:
        indices, parameter, body = operation.params
        for index in indices:
            turn_ = body if parameter is None else body.assign_parameters({parameter: index})
            self.inside(turn_, wires, bits, depth)

    # --- values of classical bits -----------------------------------------------------------------

    def test(self, condition: Any) -> Truth:
        """An old-style (bits, value) pair, or an expression."""
        if isinstance(condition, tuple):
            target, value = condition
            word = self.value(target)
            if not 0 <= int(value) < 1 << len(word):
                return False
            return self.build.equal(word, word_of(int(value), len(word)))
        word = self.value(condition)
        return self.build.join("or", word)

    def value(self, node: Any) -> Word:
        """Bits of an expression, the lowest first; one for a Boolean."""
        from qiskit.circuit import ClassicalRegister, Clbit
        from qiskit.circuit.classical import expr, types

        build = self.build
        if isinstance(node, Clbit):
            return [self._bit(node)]
        if isinstance(node, ClassicalRegister):
            return [self._bit(each) for each in node]
        if isinstance(node, expr.Var):
            return self.value(node.var)
        if isinstance(node, expr.Value) and isinstance(node.type, types.Bool | types.Uint):
            width = 1 if isinstance(node.type, types.Bool) else node.type.width
            return word_of(int(node.value), width)
        if isinstance(node, expr.Cast):
            inner = self.value(node.operand)
            if isinstance(node.type, types.Bool):
                return [build.join("or", inner)]
            if isinstance(node.type, types.Uint):
                return (inner + [False] * node.type.width)[: node.type.width]
        if isinstance(node, expr.Unary):
            inner = self.value(node.operand)
            if node.op is expr.Unary.Op.BIT_NOT:
                return [build.negation(each) for each in inner]
            return [build.negation(build.join("or", inner))]
        if isinstance(node, expr.Index):
            at = known(self.value(node.index))
            if at is not None:
                return [self.value(node.target)[at]]
        if isinstance(node, expr.Binary):
            return self.binary(node)
        raise build.unsupported(f"the expression {node!r} is not known at compile time")

    def _bit(self, bit: Any) -> Truth:
        return Condition("and", ((self.source.find_bit(bit).index, 1),))

    def binary(self, node: Any) -> Word:
        build, op = self.build, node.op.name
        left, right = self.value(node.left), self.value(node.right)
        if op in ("SHIFT_LEFT", "SHIFT_RIGHT"):
            by = known(right)
            if by is None:
                raise build.unsupported("it shifts by a number that is measured")
            width = len(left)
            zeros: Word = [False] * by
            return (zeros + left)[:width] if op == "SHIFT_LEFT" else (left + zeros)[by:][:width]
        width = max(len(left), len(right))
        left += [False] * (width - len(left))
        right += [False] * (width - len(right))
        if op in ("BIT_AND", "BIT_OR", "BIT_XOR"):
            how = op.removeprefix("BIT_").lower()
            return [build.join(how, pair) for pair in zip(left, right, strict=True)]
        if op in ("LOGIC_AND", "LOGIC_OR"):
            pair = (build.join("or", left), build.join("or", right))
            return [build.join(op.removeprefix("LOGIC_").lower(), pair)]
        if op in ("ADD", "SUB", "MUL"):
            how_ = {"ADD": build.sum, "SUB": build.difference, "MUL": build.product}[op]
            return how_(left, right)
        if op not in _COMPARISONS:
            raise build.unsupported(f"{op} of values that are measured")
        return [build.compared(_COMPARISONS[op], left, right, signed=False)]


_REFUSED: Final = {
    "WhileLoopOp": "how often it turns is known only when it runs; QVM has no loops",
    "BreakLoopOp": "loops are unrolled, and a break in them is not",
    "ContinueLoopOp": "loops are unrolled, and a continue in them is not",
    "BoxOp": "QVM has no timing boxes",
    "Store": "variables other than bits are not carried over",
    "Delay": "QVM has no time to wait for",
}
"""By types of `qiskit.circuit`; older Qiskit has no boxes."""


def _refusal(operation: Any) -> str | None:
    """Why an operation cannot be carried over; None where its definition may be asked."""
    from qiskit import circuit
    from qiskit.circuit.library import PauliEvolutionGate

    for kind, why in _REFUSED.items():
        if hasattr(circuit, kind) and isinstance(operation, getattr(circuit, kind)):
            return why
    while (
        inner := getattr(operation, "base_gate", getattr(operation, "base_op", None))
    ) is not None:
        operation = inner
    if isinstance(operation, PauliEvolutionGate) and not _is_exact(operation):
        return "its terms do not commute, so that Qiskit's definition of it is an approximation"
    return None


def _is_exact(evolution: Any) -> bool:
    """Whether the evolution is what Qiskit takes it apart into."""
    from qiskit.quantum_info import SparseObservable, SparsePauliOp
    from qiskit.synthesis import MatrixExponential

    if isinstance(evolution.synthesis, MatrixExponential):
        return True
    found = evolution.operator
    terms = SparsePauliOp.sum([
        SparsePauliOp.from_sparse_observable(each)
        if isinstance(each, SparseObservable)
        else SparsePauliOp(each)
        for each in (found if isinstance(found, list) else [found])
    ]).paulis  # fmt: skip
    return all(bool(terms[at + 1 :].commutes(terms[at]).all()) for at in range(len(terms) - 1))


def _synthesised(operation: Any) -> Any:
    """What Qiskit makes of an operation without a definition, such as a permutation; or None."""
    from qiskit import QuantumCircuit
    from qiskit.transpiler.passes import HighLevelSynthesis

    whole = QuantumCircuit(operation.num_qubits, operation.num_clbits)
    whole.append(operation, whole.qubits, whole.clbits)
    made = HighLevelSynthesis()(whole)
    return None if any(each.name == operation.name for each in made.data) else made


def _steady(body: Any) -> bool:
    """Whether the block surely writes no classical bit."""
    return not any(each.clbits for each in body.data)


def _declare(
    bits: Sequence[Any], registers: Sequence[Any], name: str, declare: Callable[[str, int], range]
) -> None:
    """Registers where they cover the bits one after another; else one register for all."""
    if [bit for register in registers for bit in register] == list(bits):
        for register in registers:
            declare(register.name, len(register))
    elif bits:
        declare(name, len(bits))


def _angle(value: Any) -> Angle:
    return angle(float(value))
