"""OpenQASM 3 in: parsed by the reference parser of the language, unrolled here.

The subset and its limits stand in docs/frontends.md. Loops and calls are carried out while the
source is read, so that only gates, measurements, resets and conditions over measured bits are left.
What needs time, pulses, unbounded loops or foreign functions is refused with its line. The text is
parsed in `qasm3_syntax.py`, expressions are in `qasm3_expressions.py`, gates in `qasm3_gates.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from openqasm3 import ast

from runtime.jit.circuit import Circuit, Unsupported
from runtime.jit.frontends.building import Truth, Word
from runtime.jit.frontends.modifiers import NoModifier
from runtime.jit.frontends.qasm3_expressions import TURNS_MAX, Variable
from runtime.jit.frontends.qasm3_gates import CALLS_MAX, INCLUDES, STDGATES, GateReader
from runtime.jit.frontends.qasm3_syntax import construct_of, parse
from runtime.jit.frontends.qasm3_values import (
    FUNCTIONS,
    BadValue,
    Bits,
    Qubits,
    Type,
    Value,
    fits,
    plain,
    register,
)

_BUILT_IN: Final = {**FUNCTIONS, "popcount": None, "rotl": None, "rotr": None}


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _End(Exception):
    pass


class _Return(Exception):
    def __init__(self, value: Value) -> None:
        self.value = value


def load(source: str, *, file: str = "", inputs: dict[str, Any] | None = None) -> Circuit:
    """Read OpenQASM 3 text; includes are looked for beside the file. Raises Unsupported.

    inputs: a value for every `input` that the source declares.
    """
    reader = _Reader(file, inputs or {})
    try:
        return reader.run(source)
    except RecursionError as error:
        raise reader.refuse("it nests too deep") from error


class _Reader(GateReader):
    """Carries out the statements of a program."""

    def __init__(self, file: str, inputs: dict[str, Any]) -> None:
        super().__init__(file)
        self.inputs = inputs
        self.asked: set[str] = set()
        self.routines: dict[str, ast.SubroutineDefinition] = {}
        self.outputs: list[str] = []
        self.loop_frames: list[int] = []
        self.call_frames: list[int] = []

    def run(self, source: str) -> Circuit:
        program = parse(source, self.file)
        if (program.version or "3").partition(".")[0] != "3":
            raise self.refuse(f"it states version {program.version}, and this reads version 3")
        with suppress(_End):
            self.statements(program.statements)
        if unknown := sorted(self.inputs.keys() - self.asked):
            why = "a value is given, but the circuit has no input of this name"
            raise Unsupported(0, 0, unknown[0], why, file=self.file)
        for name in self.outputs:
            self._write_output(name)
        return self.build.circuit(Path(self.file).stem)

    def _write_output(self, name: str) -> None:
        variable = self.scopes[0][name]
        if variable.bits:
            return
        if variable.value is None or variable.type.kind not in ("int", "uint", "bool", "bit"):
            raise self.build.unsupported(f"output {name} is no value made of bits")
        word = self.reckon.word(variable.value, variable.type.word)
        for bit, truth in zip(self.build.bits(name, len(word)), word, strict=True):
            self.build.assign(bit, truth)

    def statements(self, listed: Sequence[ast.Statement | ast.Pragma]) -> None:
        for node in listed:
            kind = type(node)
            self._stand_at(node, construct_of(node))
            self._step()
            visit = _VISITS.get(kind)
            if visit is None:
                raise self.refuse(_REFUSED.get(kind, "it cannot be expressed in QVM"))
            try:
                visit(self, node)
            except (BadValue, NoModifier) as error:
                raise self.refuse(str(error)) from error

    @property
    def globally(self) -> bool:
        return len(self.scopes) == 1 and not self.call_frames

    # --- qubits -----------------------------------------------------------------------------------

    def qubit_declaration(self, node: ast.QubitDeclaration) -> None:
        if not self.globally:
            raise self.refuse("qubits are declared globally")
        size = 1 if node.size is None else self.integer(node.size)
        if size < 1:
            raise self.refuse(f"a register of {size} qubits")
        numbers = tuple(self.build.qubits(node.qubit.name, size))
        self.declare(node.qubit.name, Qubits(numbers, node.size is None))

    def alias(self, node: ast.AliasStatement) -> None:
        name = node.target.name
        found = self.value(node.value)
        if isinstance(found, Qubits):
            self.declare(name, found)
            return
        bits = self._bit_places(node.value) if _is_place(node.value) else None
        if bits is None:
            raise self.refuse("an alias of what is no register")
        self.declare(name, Variable(Type("bit", len(bits)), None, 0, bits))

    def _bit_places(self, node: Any) -> tuple[int, ...] | None:
        """The bits of the circuit that an alias names."""
        found = self.value(node)
        if not isinstance(found, Bits):
            return None
        tests = [each.tests for each in found.word if not isinstance(each, bool)]
        bits = tuple(of[0][0] for of in tests)
        own = len(bits) == len(found.word) and self.build.declared(bits)
        return (
            bits
            if own and all(of == ((bit, 1),) for of, bit in zip(tests, bits, strict=True))
            else None
        )

    # --- measurement, reset, barrier --------------------------------------------------------------

    def measurement(self, node: ast.QuantumMeasurementStatement) -> None:
        if node.target is None:
            self.measured(node.measure)
            return
        variable, places = self._target(node.target)
        qubits = self.operand(node.measure.qubit).numbers
        if variable.bits:
            bits = [variable.bits[each] for each in places]
            if len(bits) != len(qubits):
                raise self.refuse(f"{len(qubits)} qubits are measured into {len(bits)} bits")
            for qubit, bit in zip(qubits, bits, strict=True):
                self.build.add("measure", (qubit,), (), (bit,))
        else:
            self.store(node.target, self.measured(node.measure))

    def measured(self, node: ast.QuantumMeasurement) -> Bits:
        """Measure into hidden bits."""
        word: Word = []
        for qubit in self.operand(node.qubit).numbers:
            bit = self.build.hidden()
            self.build.add("measure", (qubit,), (), (bit,))
            word += register((bit,)).word
        return Bits(word)

    def reset(self, node: ast.QuantumReset) -> None:
        for qubit in self.operand(node.qubits).numbers:
            self.build.add("reset", (qubit,))

    def barrier(self, node: ast.QuantumBarrier) -> None:
        numbers = dict.fromkeys(n for each in node.qubits for n in self.operand(each).numbers)
        self.build.add("barrier", tuple(numbers))

    # --- classical statements ---------------------------------------------------------------------

    def declaration(self, node: ast.ClassicalDeclaration) -> None:
        type_, name = self.type_of(node.type), node.identifier.name
        start = node.init_expression
        if type_.kind == "bit" and not type_.dims and self.globally:
            bits = tuple(self.build.bits(name, type_.word))
            self.declare(name, Variable(type_, None, 0, bits))
            if isinstance(start, ast.QuantumMeasurement):
                target = ast.Identifier(name)
                self.measurement(ast.QuantumMeasurementStatement(start, target))
            elif start is not None:
                self.store(ast.Identifier(name), self.value(start))
            return
        # What states no value begins as 0, as the language's own examples take for granted.
        value = _empty(type_)
        if start is not None:
            value = self.reckon.steady(self.reckon.coerced(self.value(start), type_))
        self.declare(name, Variable(type_, value, self.build.depth))

    def constant(self, node: ast.ConstantDeclaration) -> None:
        type_ = self.type_of(node.type)
        value = self.reckon.coerced(self.value(node.init_expression), type_)
        plain(value)
        self.declare(node.identifier.name, Variable(type_, value, 0, const=True))

    def in_out(self, node: ast.IODeclaration) -> None:
        name, type_ = node.identifier.name, self.type_of(node.type)
        if node.io_identifier is ast.IOKeyword.output:
            self.outputs.append(name)
            bits = tuple(self.build.bits(name, type_.word)) if type_.kind == "bit" else ()
            self.declare(name, Variable(type_, _empty(type_), 0, bits))
            return
        if name not in self.inputs:
            raise self.refuse(f"input {name} needs a value")
        given = self.inputs[name]
        if not fits(given, type_):
            raise self.refuse(f"input {name} cannot be {given!r}")
        self.asked.add(name)
        value = self.reckon.coerced(given, type_)
        self.declare(name, Variable(type_, value, 0))

    def _target(self, node: ast.Identifier | ast.IndexedIdentifier) -> tuple[Variable, list[int]]:
        """A variable, and which of its bits are written."""
        name = node.name.name if isinstance(node, ast.IndexedIdentifier) else node.name
        variable = self.find(name)
        if not isinstance(variable, Variable) or variable.const:
            raise self.refuse(f"{name} is no variable")
        places = list(range(len(variable.bits) or variable.type.word))
        for index in node.indices if isinstance(node, ast.IndexedIdentifier) else ():
            for each in [index] if isinstance(index, ast.DiscreteSet) else index:
                found = self._places(each, len(places))
                places = [places[n] for n in ([found] if isinstance(found, int) else found)]
        return variable, places

    def assignment(self, node: ast.ClassicalAssignment) -> None:
        value = self.value(node.rvalue)
        if node.op.name != "=":
            value = self.reckon.binary(node.op.name[:-1], self._read(node.lvalue), value)
        self.store(node.lvalue, value)

    def _read(self, node: ast.Identifier | ast.IndexedIdentifier) -> Value:
        if isinstance(node, ast.Identifier):
            return self._named_value(node.name)
        value = self._named_value(node.name.name)
        for index in node.indices:
            value = self._indexed(value, index)
        return value

    def store(self, node: ast.Identifier | ast.IndexedIdentifier, value: Value) -> None:
        """Assign to a variable or a part of it, under the conditions that hold here."""
        reckon, build = self.reckon, self.build
        name = node.name.name if isinstance(node, ast.IndexedIdentifier) else node.name
        variable = self.find(name)
        if isinstance(variable, Variable) and variable.type.dims:
            self._store_in_array(node, variable, value)
            return
        variable, places = self._target(node)
        part = isinstance(node, ast.IndexedIdentifier)
        if variable.bits:
            word = reckon.steady(reckon.coerced(value, Type("bit", len(places)))).word
            for place, truth in zip(places, word, strict=True):
                build.assign(variable.bits[place], truth)
            return
        if part:
            word = reckon.coerced(value, Type("bit", len(places))).word
            old = _empty(variable.type) if variable.value is None else variable.value
            changed = list(reckon.word(old, variable.type.word))
            for place, truth in zip(places, word, strict=True):
                changed[place] = truth
            value = Bits(changed, variable.type.kind)
        new = reckon.coerced(value, variable.type)
        variable.value = reckon.steady(self._merged(variable, new))

    def _merged(self, variable: Variable, new: Value) -> Value:
        """The new value where the conditions hold, else the old one."""
        build = self.build
        if build.depth <= variable.depth or variable.value is None:
            return new
        kind, width = variable.type.kind, variable.type.word
        if kind in ("float", "complex") or (kind == "angle" and variable.type.width is None):
            raise self.refuse(f"a {kind} that depends on a measurement")
        old = variable.value
        words = (self.reckon.word(new, width), self.reckon.word(old, width))
        return self.reckon.coerced(Bits(build.chosen(build.here(), *words), kind), variable.type)

    def _store_in_array(self, node: Any, variable: Variable, value: Value) -> None:
        if self.build.depth > variable.depth:
            raise self.refuse("an array is written where a measurement decides")
        indices = [
            each
            for index in (node.indices if isinstance(node, ast.IndexedIdentifier) else ())
            for each in ([index] if isinstance(index, ast.DiscreteSet) else index)
        ]
        inner = variable.type._replace(dims=variable.type.dims[len(indices) :])
        new = self.reckon.steady(self.reckon.coerced(value, inner))
        if not indices:
            variable.value = new
            return
        target = variable.value
        for each in indices[:-1]:
            target = target[self._place(each, len(target))]
        target[self._place(indices[-1], len(target))] = new

    def expression(self, node: ast.ExpressionStatement) -> None:
        self.value(node.expression)

    # --- control flow -----------------------------------------------------------------------------

    def block(self, listed: Sequence[ast.Statement]) -> None:
        with self.scope():
            self.statements(listed)

    def branch(self, node: ast.BranchingStatement) -> None:
        truth = self.reckon.truth(self.value(node.condition))
        steady = all(type(each) in _STEADY for each in (*node.if_block, *node.else_block))
        if not steady:
            truth = self.build.fixed(truth)
        self.under(truth, lambda: self.block(node.if_block), steady=steady)
        if node.else_block:
            other = self.build.negation(truth)
            self.under(other, lambda: self.block(node.else_block), steady=steady)

    def switch(self, node: ast.SwitchStatement) -> None:
        target = self.reckon.steady(self.value(node.target))
        left: Truth = True
        for values, body in node.cases:
            same = [
                self.reckon.truth(self.reckon.binary("==", target, self.value(each)))
                for each in values
            ]
            here = self.build.join("or", same)
            both = self.build.fixed(self.build.join("and", (left, here)))
            left = self.build.fixed(self.build.join("and", (left, self.build.negation(here))))
            self.under(both, partial(self.block, body.statements))
        if node.default is not None:
            self.under(left, partial(self.block, node.default.statements))

    def loop(self, node: ast.ForInLoop) -> None:
        type_ = self.type_of(node.type)
        for value in self._loop_values(node):
            with self.scope() as names:
                held = self.reckon.coerced(value, type_)
                names[node.identifier.name] = Variable(type_, held, self.build.depth)
                if not self._turn(node.block):
                    return

    def _turn(self, listed: Sequence[ast.Statement]) -> bool:
        """One turn of a loop; False where it was the last."""
        self._step()
        self.loop_frames.append(self.build.depth)
        try:
            self.statements(listed)
        except _Continue:
            pass
        except _Break:
            return False
        finally:
            self.loop_frames.pop()
        return True

    def while_loop(self, node: ast.WhileLoop) -> None:
        turns = 0
        while True:
            self._stand_at(node, "while")
            truth = self.reckon.truth(self.value(node.while_condition))
            if not isinstance(truth, bool):
                why = "how often it turns is known only when it runs, and QVM has no loops"
                raise self.refuse(why)
            if not truth:
                return
            turns += 1
            if turns > TURNS_MAX:
                raise self.refuse(f"it turns more than {TURNS_MAX:,} times")
            with self.scope():
                if not self._turn(node.block):
                    return

    def leave(self, node: ast.BreakStatement | ast.ContinueStatement) -> None:
        if self.build.depth > self.loop_frames[-1]:
            raise self.refuse("a measurement decides whether the loop goes on")
        raise _Break if isinstance(node, ast.BreakStatement) else _Continue

    def end(self, node: ast.EndStatement) -> None:
        if self.build.conditional:
            raise self.refuse("a measurement decides whether the program ends")
        raise _End

    def compound(self, node: ast.CompoundStatement) -> None:
        self.block(node.statements)

    def box(self, node: ast.Box) -> None:
        if node.duration is not None:
            raise self.refuse("QVM has no time for a box to take")
        self.build.add("barrier")
        self.block(node.body)
        self._stand_at(node, "box")
        self.build.add("barrier")

    # --- subroutines ------------------------------------------------------------------------------

    def routine(self, node: ast.SubroutineDefinition) -> None:
        self.routines[node.name.name] = node

    def nothing(self, node: Any) -> None:
        """Declarations that matter only where they are used."""

    def called(self, node: ast.FunctionCall) -> Value:
        name = node.name.name
        if name not in self.routines:
            values = [self.value(each) for each in node.arguments]
            if name in _BUILT_IN:
                return self.reckon.call(name, values)
            raise BadValue(f"{name} is no function that can be carried out here")
        routine = self.routines[name]
        if len(node.arguments) != len(routine.arguments):
            raise BadValue(f"{name} takes {len(routine.arguments)} arguments")
        if self.calls >= CALLS_MAX:
            raise BadValue(f"subroutines call one another more than {CALLS_MAX} deep")
        given = [
            self._argument(*pair) for pair in zip(routine.arguments, node.arguments, strict=True)
        ]
        at = self.build.at
        self.calls += 1
        self.call_frames.append(self.build.depth)
        try:
            with self.scope(fresh=True) as names:
                names.update(given)
                self.statements(routine.body)
        except _Return as returned:
            if routine.return_type is None or returned.value is None:
                return None
            return self.reckon.coerced(returned.value, self.type_of(routine.return_type))
        finally:
            self.call_frames.pop()
            self.calls -= 1
            self.build.at = at
        return None

    def _argument(self, wanted: Any, node: ast.Expression) -> tuple[str, Any]:
        if isinstance(wanted, ast.QuantumArgument):
            found = self.operand(node)
            if wanted.size is not None and self.integer(wanted.size) != len(found.numbers):
                raise BadValue(f"{wanted.name.name} takes {self.integer(wanted.size)} qubits")
            return wanted.name.name, found
        value = self.value(node)
        if isinstance(wanted.type, ast.ArrayReferenceType):
            if wanted.access is ast.AccessControl.mutable:
                raise BadValue("a subroutine that changes an array of its caller")
            return wanted.name.name, Variable(Type("array"), value, 0, const=True)
        type_ = self.type_of(wanted.type)
        held = self.reckon.steady(self.reckon.coerced(value, type_))
        return wanted.name.name, Variable(type_, held, self.build.depth)

    def returned(self, node: ast.ReturnStatement) -> None:
        if not self.call_frames:
            raise self.refuse("a return outside of a subroutine")
        if self.build.depth > self.call_frames[-1]:
            raise self.refuse("a measurement decides whether the subroutine returns here")
        value = None if node.expression is None else self.value(node.expression)
        raise _Return(self.reckon.steady(value))

    def include(self, node: ast.Include) -> None:
        known = INCLUDES.get(node.filename)
        if known is not None:
            if twice := sorted(self.defined & set(known) & set(STDGATES)):
                raise self.refuse(f"the gate {twice[0]} is defined already")
            self.gates.update(known)
            return
        path = Path(self.file).parent / node.filename
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self.refuse(f"cannot read {node.filename}: {error}") from error
        outer, self.file = self.file, str(path)
        self.calls += 1
        if self.calls > CALLS_MAX:
            raise self.refuse(f"files include one another more than {CALLS_MAX} deep")
        self.statements(parse(text, self.file).statements)
        self.calls -= 1
        self.file = outer


def _is_place(node: Any) -> bool:
    """Whether the expression names bits, and reckons nothing."""
    if isinstance(node, ast.Concatenation):
        return _is_place(node.lhs) and _is_place(node.rhs)
    if isinstance(node, ast.IndexExpression):
        return _is_place(node.collection)
    return isinstance(node, ast.Identifier)


def _empty(type_: Type) -> Value:
    if type_.dims:
        inner = type_._replace(dims=type_.dims[1:])
        return [_empty(inner) for _ in range(type_.dims[0])]
    if type_.kind in ("float", "complex") or (type_.kind == "angle" and type_.width is None):
        return 0.0
    return False if type_.kind == "bool" else Bits([False] * type_.word, type_.kind)


_STEADY: Final = frozenset(
    {ast.QuantumGate, ast.QuantumPhase, ast.QuantumReset, ast.QuantumBarrier}
)
"""Statements that surely write no classical bit."""
_VISITS: Final[dict[type, Callable[[_Reader, Any], None]]] = {
    ast.QubitDeclaration: _Reader.qubit_declaration,
    ast.AliasStatement: _Reader.alias,
    ast.QuantumGateDefinition: _Reader.gate_definition,
    ast.QuantumGate: _Reader.gate,
    ast.QuantumPhase: _Reader.phase,
    ast.QuantumMeasurementStatement: _Reader.measurement,
    ast.QuantumReset: _Reader.reset,
    ast.QuantumBarrier: _Reader.barrier,
    ast.ClassicalDeclaration: _Reader.declaration,
    ast.ConstantDeclaration: _Reader.constant,
    ast.IODeclaration: _Reader.in_out,
    ast.ClassicalAssignment: _Reader.assignment,
    ast.ExpressionStatement: _Reader.expression,
    ast.BranchingStatement: _Reader.branch,
    ast.SwitchStatement: _Reader.switch,
    ast.ForInLoop: _Reader.loop,
    ast.WhileLoop: _Reader.while_loop,
    ast.BreakStatement: _Reader.leave,
    ast.ContinueStatement: _Reader.leave,
    ast.EndStatement: _Reader.end,
    ast.CompoundStatement: _Reader.compound,
    ast.Box: _Reader.box,
    ast.SubroutineDefinition: _Reader.routine,
    ast.ReturnStatement: _Reader.returned,
    ast.ExternDeclaration: _Reader.nothing,
    ast.Include: _Reader.include,
}
_REFUSED: Final = {
    ast.DelayInstruction: "QVM has no time to wait for",
    ast.CalibrationStatement: "QVM has logical qubits, which have no pulses",
    ast.CalibrationDefinition: "QVM has logical qubits, which have no pulses",
    ast.CalibrationGrammarDeclaration: "QVM has logical qubits, which have no pulses",
    ast.Pragma: "what it asks for is not known here",
}
