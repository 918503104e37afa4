"""QIR in, as text or bitcode: the base profile, and of the adaptive one what can be unrolled.

pyqir (LLVM) parses; this module carries out the entry point. What is known before anything is
measured is computed, so loops are unrolled and calls go inline; a value that depends on results is
a `Table` over measured bits, and a branch on one is taken both ways, each operation on the way
under the condition of its path, until the ways meet again. Refused, each where it stands: loops
that results end, arrays and callables of the full profile, output of floats and messages, and every
function that is not named here. Meanings after the QIR specification,
https://github.com/qir-alliance/qir-spec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import pyqir

from runtime.jit.angles import angle
from runtime.jit.circuit import TRUE, Circuit, Condition, Operation, Position, Register, Unsupported
from runtime.jit.frontends import llvm_arithmetic as arithmetic
from runtime.jit.frontends.llvm_blocks import Frame, Places
from runtime.jit.frontends.qir_outputs import Outputs
from runtime.jit.frontends.tables import (
    Table,
    TooManyBits,
    combine,
    condition,
    constant,
    of_bit,
)
from runtime.jit.gates import GATES, inverted

STEPS_MAX: Final = 2_000_000
"""Instructions that the entry point may take."""
DEPTH_MAX: Final = 64
"""Calls and branches on results that may stand inside one another."""
QUBITS_MAX: Final = 100_000
PATH_BITS_MAX: Final = 6
"""A condition of more bits is kept in a bit of its own from there on."""

_QIS: Final = "__quantum__qis__"
_RT: Final = "__quantum__rt__"
_NAMES: Final = {"cnot": "cx", "ccnot": "ccx", "toffoli": "ccx", "i": "id"}
_QIS_GATES: Final = frozenset({
    "x", "y", "z", "h", "s", "t", "sx", "id", "cx", "cy", "cz", "swap", "ccx", "rx", "ry", "rz",
    "rxx", "ryy", "rzz",
})  # fmt: skip
_MEASURES: Final = {"mz": "measure", "m": "measure", "mresetz": "measure", "mx": "measure_x"}
_SILENT: Final = frozenset({"initialize", "qubit_release", "result_update_reference_count"})
"""Of the runtime: nothing of them is left once qubits and results are numbered."""

TRUTH: Final = constant(1)
_UNDEFINED: Final = constant(None)


class _Arrival(NamedTuple):
    """A way into a block: the block it comes from, and where it is taken."""

    source: Any
    path: Table


def load(
    source: str | bytes | pyqir.Module, *, file: str = "", entry: str | None = None
) -> Circuit:
    """Read a QIR program: LLVM text, LLVM bitcode, or a module of pyqir.

    entry: the function to carry out, where several are marked as entry points.
    Qubits are the register `q`, by their numbers. Recorded results are registers, one per array or
    tuple of results and otherwise one per value, in the order of the records; a program that
    records none has `r`, the results by their numbers. Raises `Unsupported`.
    """
    module = _module(source, file)
    function = _entry(module, entry, file)
    lines = source.splitlines() if isinstance(source, str) else str(module).splitlines()
    return _Machine(Places(lines, file), function).circuit()


def _module(source: str | bytes | pyqir.Module, file: str) -> pyqir.Module:
    if isinstance(source, pyqir.Module):
        return source
    try:
        if isinstance(source, bytes):
            module = pyqir.Module.from_bitcode(pyqir.Context(), source, file)
        else:
            module = pyqir.Module.from_ir(pyqir.Context(), source, file)
    except ValueError as error:
        raise Unsupported(0, 0, "", f"it is no LLVM module: {error}".strip(), file=file) from None
    wrong = module.verify()
    if wrong is not None:
        raise Unsupported(0, 0, "", f"LLVM finds the module wrong: {wrong}".strip(), file=file)
    return module


def _entry(module: pyqir.Module, name: str | None, file: str) -> pyqir.Function:
    found = [
        each
        for each in module.functions
        if (each.name == name if name else pyqir.is_entry_point(each))
    ]
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        why = f"it takes one entry point and there are {len(found)} ({names}); name one"
        raise Unsupported(0, 0, name or "", why, file=file)
    if found[0].params:
        raise Unsupported(0, 0, found[0].name, "an entry point takes no arguments", file=file)
    return found[0]


class _Call(NamedTuple):
    """One call of a function: what its values are by now, and what it returns on which path."""

    frame: Frame
    values: dict[Any, Table]
    returned: list[tuple[Table, Table]]


class _Machine:
    """Carries out the entry point once, on tables."""

    def __init__(self, places: Places, entry: pyqir.Function) -> None:
        self._places = places
        self._entry = entry
        self._frames: dict[Any, Frame] = {}
        self._operations: list[Operation] = []
        self._results: dict[Any, Table] = {"zero": constant(0), "one": TRUTH}
        self._outputs = Outputs()
        self._bits = 0
        self._width = 0
        self._allocated = pyqir.required_num_qubits(entry) or 0
        self._cells: dict[int, Table] = {}
        self._steps = 0
        self._depth = 0
        self._at = Position("", 0, 0, entry.name)

    def circuit(self) -> Circuit:
        self._call(self._entry, [], TRUTH)
        recorded = self._outputs.registers() or [("r", self._numbered())]
        operations = self._operations
        registers = [Register("m", self._bits, hidden=True)]
        first = self._bits
        for name, bits in recorded:
            registers.append(Register(name, len(bits)))
            for bit, truth in enumerate(bits, first):
                operations.append(Operation("assign", bits=(bit,), condition=truth, at=self._at))
            first += len(bits)
        labels = {
            name: label
            for (name, _), (label, _) in zip(recorded, self._outputs.found, strict=False)
            if label not in ("", name)
        }
        return Circuit(
            qubits=(Register("q", self._width),),
            bits=tuple(registers),
            operations=tuple(operations),
            name=self._entry.name,
            metadata={"labels": labels} if labels else {},
        )

    def _numbered(self) -> list[Condition]:
        """All results by their numbers, of a program that records none."""
        numbers = [key for key in self._results if isinstance(key, int)]
        return [
            self._condition(self._results.get(number, constant(0)))
            for number in range(max(numbers, default=-1) + 1)
        ]

    # --- control ----------------------------------------------------------------------------------

    def _refuse(self, why: str) -> Unsupported:
        return Unsupported.at(self._at, why)

    def _call(self, function: pyqir.Function, arguments: Sequence[Table], path: Table) -> Table:
        """Carry out a function; what it returns."""
        frame = self._frames.get(function)
        if frame is None:
            frame = self._frames[function] = Frame(function, self._places)
        values = dict(zip(function.params, arguments, strict=True))
        call = _Call(frame, values, [])
        self._way(call, frame.blocks[0], [], None, path)
        return self._chosen(call.returned)

    def _way(
        self, call: _Call, block: Any, arrivals: list[_Arrival], stop: Any, path: Table
    ) -> list[_Arrival]:
        """From the top of a block until `stop`, or the function's end where that is None."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            why = f"calls and branches on results stand more than {DEPTH_MAX} deep in one another"
            raise self._refuse(why)
        left = self._follow(call, block, arrivals, stop, path)
        self._depth -= 1
        return left

    def _follow(
        self, call: _Call, block: Any, arrivals: list[_Arrival], stop: Any, path: Table
    ) -> list[_Arrival]:
        """`_way` without minding the depth."""
        frame, values = call.frame, call.values
        while block != stop:
            self._phis(frame.code[block], values, arrivals)
            for each in frame.code[block]:
                self._steps += 1
                self._at = frame.at[each]
                if self._steps > STEPS_MAX:
                    raise self._refuse(f"the program takes more than {STEPS_MAX:,} instructions")
                if isinstance(each, pyqir.Phi) or each.opcode in _TERMINATORS:
                    continue
                values[each] = self._value(each, values, path)
            last = frame.code[block][-1]
            if last.opcode == pyqir.Opcode.RET:
                value = self._operand(last.operands[0], values) if last.operands else _UNDEFINED
                call.returned.append((path, value))
                return []
            ways = self._branches(last, values, path)
            if len(ways) == 1:
                arrivals, block = [_Arrival(block, path)], ways[0][0]
                continue
            meet, arrivals = frame.meets[block], []
            for target, where in ways:
                arrivals += self._way(call, target, [_Arrival(block, where)], meet, where)
            if meet is None:
                return []
            block = meet
        return arrivals

    def _branches(
        self, last: Any, values: dict[Any, Table], path: Table
    ) -> list[tuple[Any, Table]]:
        """The blocks that may come next, each with the condition of going there."""
        if last.opcode == pyqir.Opcode.BR and len(last.successors) == 1:
            return [(last.successors[0], path)]
        if isinstance(last, pyqir.Switch):
            tested = self._operand(last.cond, values)
            cases = [(each.value, target) for each, target in last.cases]
            targets = [*dict.fromkeys([*(target for _, target in cases), last.default])]
            by_value = dict(cases)
            taken = self._combine(
                lambda value: targets.index(by_value.get(value, last.default)), tested
            )
        elif last.opcode == pyqir.Opcode.BR:
            tested = self._operand(last.operands[0], values)
            # LLVM keeps the successors of a conditional branch last first.
            targets = list(reversed(last.successors))
            taken = self._combine(lambda value: 0 if value else 1, tested)
        else:
            raise self._refuse("the program may come here, and it is not defined what then happens")
        if None in tested.rows and None in self._where(path, tested).rows:
            raise self._refuse("it branches on a value that is not defined")
        found = []
        for number, target in enumerate(targets):
            where = self._combine(
                lambda run, way, number=number: int(bool(run) and way == number), path, taken
            )
            if where.rows != (0,):
                found.append((target, where))
        if len(found) > 1:
            return [(target, self._kept(where)) for target, where in found]
        return [(found[0][0], path)]

    def _where(self, path: Table, table: Table) -> Table:
        """The table with a harmless value where the path is not taken."""
        return self._combine(lambda run, value: value if run else 0, path, table)

    def _kept(self, path: Table) -> Table:
        """The same truth, from a bit of its own where it depends on many."""
        if len(path.bits) <= PATH_BITS_MAX:
            return path
        return of_bit(self._assigned(self._condition(path)))

    def _phis(
        self, code: Sequence[Any], values: dict[Any, Table], arrivals: Sequence[_Arrival]
    ) -> None:
        """All at once, from the values before any of them."""
        new = {}
        for each in code:
            if not isinstance(each, pyqir.Phi):
                break
            incoming = {source: value for value, source in each.incoming}
            options = [(path, self._operand(incoming[source], values)) for source, path in arrivals]
            new[each] = self._chosen(options)
        values.update(new)

    # --- values -----------------------------------------------------------------------------------

    def _combine(self, function: Callable[..., Any], *tables: Table) -> Table:
        try:
            return combine(function, *tables)
        except TooManyBits as error:
            raise self._refuse(str(error)) from None

    def _chosen(self, options: Sequence[tuple[Table, Table]]) -> Table:
        """The value of that option whose condition holds; one does."""
        if not options:
            return _UNDEFINED
        *others, (_, found) = options
        for where, value in others:
            found = self._combine(_picked, where, value, found)
        return found

    def _operand(self, value: Any, values: dict[Any, Table]) -> Table:
        if isinstance(value, (pyqir.IntConstant, pyqir.FloatConstant)):
            return constant(value.value)
        if isinstance(value, pyqir.GlobalVariable):
            # pyqir 0.12 crashes on what is no string.
            text = pyqir.extract_byte_string(value) if ' x i8] c"' in str(value) else None
            return _UNDEFINED if text is None else constant(text)
        if isinstance(value, pyqir.Function):
            return _UNDEFINED
        if isinstance(value, pyqir.Constant):
            if value.is_null:
                return constant(0)
            # pyqir 0.12 reads memory that is not its own for the number of any other constant.
            words = str(value).split()
            numbered = words[1:2] == ["inttoptr"] and len(words) == 6 and words[3].isdecimal()
            return constant(pyqir.ptr_id(value) if numbered else None)
        found = values.get(value)
        assert found is not None, f"a value is computed before it is used: {value}"
        return found

    def _value(self, each: Any, values: dict[Any, Table], path: Table) -> Table:
        """What an instruction computes; its effects on the way."""
        if isinstance(each, pyqir.Call):
            return self._called(each, values, path)
        name = _member(each.opcode)
        width = getattr(each.type, "width", 64)
        if name == "ALLOCA":
            self._cells[len(self._cells)] = _UNDEFINED
            return constant(("cell", len(self._cells) - 1))
        operands = [self._operand(operand, values) for operand in each.operands]
        if name == "SELECT":
            return self._combine(lambda test, a, b: _picked(test, a, b), *operands)
        if name in ("LOAD", "STORE"):
            return self._memory(name, operands, path)
        inner = getattr(each.operands[0].type, "width", 64)
        predicate = _member(each.predicate) if name in ("ICMP", "FCMP") else ""
        function = arithmetic.function(name, predicate, inner, width)
        if function is None:
            raise self._refuse(f"{name.lower()} is not known here")
        return self._combine(_strict(function), *operands)

    def _memory(self, name: str, operands: Sequence[Table], path: Table) -> Table:
        address = operands[-1]
        if not address.constant or not isinstance(address.value, tuple):
            raise self._refuse("only a variable of the function itself can be loaded and stored")
        cell = address.value[1]
        if name == "LOAD":
            return self._cells[cell]
        self._cells[cell] = self._combine(_picked, path, operands[0], self._cells[cell])
        return _UNDEFINED

    def _called(self, call: pyqir.Call, values: dict[Any, Table], path: Table) -> Table:
        name = call.callee.name
        if isinstance(call.callee, pyqir.Function) and call.callee.basic_blocks:
            arguments = [self._operand(each, values) for each in call.args]
            return self._call(call.callee, arguments, path)
        if name.startswith(_RT):
            return self._runtime(name.removeprefix(_RT), call, values, path)
        if not name.startswith(_QIS):
            raise self._refuse(f"the function {name} is not known here")
        arguments = [self._operand(each, values) for each in call.args]
        what, _, kind = name.removeprefix(_QIS).partition("__")
        if what == "read_result":
            return self._result(arguments[0])
        if what in _MEASURES and kind == "body":
            return self._measure(what, arguments, path)
        self._quantum(what, kind, arguments, path)
        return _UNDEFINED

    def _runtime(self, name: str, call: pyqir.Call, values: dict[Any, Table], path: Table) -> Table:
        if name in _SILENT:
            return _UNDEFINED
        if name in ("result_get_zero", "result_get_one"):
            return constant(name.rpartition("_")[2])
        if name == "qubit_allocate":
            self._allocated += 1
            return constant(self._allocated - 1)
        arguments = [self._operand(each, values) for each in call.args]
        if name == "read_result":
            return self._result(arguments[0])
        if name == "result_equal":
            one, other = map(self._result, arguments)
            return self._combine(lambda a, b: int(a == b), one, other)
        if name.endswith("_record_output"):
            self._record(name.removesuffix("_record_output"), arguments, path)
            return _UNDEFINED
        raise self._refuse(f"{_RT}{name} is not known here")

    def _result(self, pointer: Table) -> Table:
        """The value of a result; one that was not measured is 0."""
        if None in pointer.rows:
            raise self._refuse("it is not known which result this is")
        parts = [
            (self._equal(pointer, key), self._results.get(key, constant(0)))
            for key in dict.fromkeys(pointer.rows)
        ]
        return self._chosen(parts)

    def _equal(self, table: Table, value: Any) -> Table:
        return self._combine(lambda each: int(each == value), table)

    # --- quantum ----------------------------------------------------------------------------------

    def _condition(self, table: Table) -> Condition:
        return condition(table, self._assigned)

    def _assigned(self, truth: Condition) -> int:
        bit = self._bit()
        self._operations.append(Operation("assign", bits=(bit,), condition=truth, at=self._at))
        return bit

    def _bit(self) -> int:
        self._bits += 1
        return self._bits - 1

    def _cases(
        self, arguments: Sequence[Table], path: Table
    ) -> list[tuple[tuple[Any, ...], Condition | None]]:
        """Each list of values that the arguments may have, and where they have it."""
        if path.constant and all(each.constant for each in arguments):
            cases = [(tuple(each.value for each in arguments), TRUTH)]
        else:
            joint = self._combine(lambda run, *row: row if run else None, path, *arguments)
            rows = [row for row in dict.fromkeys(joint.rows) if row is not None]
            cases = [(row, self._equal(joint, row)) for row in rows]
        found = []
        for row, where in cases:
            if None in row:
                raise self._refuse("an argument is not defined, or not known here")
            truth = None if where.constant else self._condition(where)
            found.append((row, None if truth == TRUE else truth))
        return found

    def _qubits(self, numbers: Sequence[Any]) -> tuple[int, ...]:
        for number in numbers:
            if not isinstance(number, int) or not 0 <= number < QUBITS_MAX:
                raise self._refuse(f"{number!r} is no qubit below {QUBITS_MAX:,}")
            self._width = max(self._width, number + 1)
        if len(set(numbers)) != len(numbers):
            raise self._refuse("it names one qubit twice")
        return tuple(numbers)

    def _quantum(self, what: str, kind: str, arguments: Sequence[Table], path: Table) -> None:
        name = _NAMES.get(what, what)
        if name == "barrier" and kind == "body":
            for row, truth in self._cases(arguments, path):
                self._add("barrier", self._qubits(row), truth=truth)
            return
        if name == "reset" and kind == "body":
            for row, truth in self._cases(arguments, path):
                self._add("reset", self._qubits(row), truth=truth)
            return
        shape = GATES[name] if name in _QIS_GATES else None
        if shape is None or kind not in ("body", "adj"):
            raise self._refuse(f"the gate {what}__{kind} is not known here")
        if len(arguments) != shape.angles + shape.qubits:
            raise self._refuse(
                f"{what} takes {shape.angles} angles and {shape.qubits} qubits, "
                f"{len(arguments)} are given"
            )
        for row, truth in self._cases(arguments, path):
            try:
                angles = tuple(angle(float(each)) for each in row[: shape.angles])
            except ValueError as error:
                raise self._refuse(str(error)) from None
            gate, angles = (name, angles) if kind == "body" else inverted(name, angles)
            self._add(gate, self._qubits(row[shape.angles :]), angles, truth=truth)

    def _add(
        self,
        name: str,
        qubits: tuple[int, ...],
        angles: tuple[Any, ...] = (),
        bits: tuple[int, ...] = (),
        *,
        truth: Condition | None,
    ) -> None:
        self._operations.append(Operation(name, qubits, angles, bits, truth, self._at))

    def _measure(self, what: str, arguments: Sequence[Table], path: Table) -> Table:
        """Into a new bit, which from now on is the result's value where the path is taken."""
        bit = self._bit()
        for row, truth in self._cases(arguments[:1], path):
            qubits = self._qubits(row)
            self._add(_MEASURES[what], qubits, bits=(bit,), truth=truth)
            if what == "mresetz":
                self._add("reset", qubits, truth=truth)
        if len(arguments) == 1:
            name = f"result {bit}"
            self._results[name] = of_bit(bit)
            return constant(name)
        for (key,), _ in self._cases(arguments[1:], path):
            there = self._combine(
                lambda run, each, key=key: int(bool(run) and each == key), path, arguments[1]
            )
            old = self._results.get(key, constant(0))
            new = self._combine(_picked, there, of_bit(bit), old)
            self._results[key] = self._kept(new)
        return _UNDEFINED

    # --- output -----------------------------------------------------------------------------------

    def _record(self, what: str, arguments: Sequence[Table], path: Table) -> None:
        if path != TRUTH:
            raise self._refuse("whether this is recorded depends on results")
        label = arguments[-1].value if arguments[-1].constant else None
        name = label.rstrip(b"\0").decode("utf-8", "replace") if isinstance(label, bytes) else ""
        if what in ("array", "tuple"):
            items = arguments[0].value if arguments[0].constant else None
            if items is None:
                raise self._refuse("how much is recorded depends on results")
            self._outputs.item(name, None)
            self._outputs.open(name, items)
        elif what in ("result", "bool"):
            value = self._result(arguments[0]) if what == "result" else arguments[0]
            self._outputs.item(name, [self._condition(self._defined(value))], together=True)
        elif what in ("int", "integer"):
            value = self._defined(arguments[0])
            width = max(1, *(row.bit_length() for row in value.rows))
            bits = [
                self._combine(lambda each, place=place: (each >> place) & 1, value)
                for place in range(width)
            ]
            self._outputs.item(name, [self._condition(each) for each in bits])
        else:
            raise self._refuse(f"a program's events hold no {what}")

    def _defined(self, value: Table) -> Table:
        if None in value.rows:
            raise self._refuse("what is recorded is not defined")
        return value


def _picked(test: Any, then: Any, otherwise: Any) -> Any:
    return then if test else otherwise


def _strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """Undefined where an argument is."""
    return lambda *values: None if None in values else function(*values)


def _member(value: Any) -> str:
    """The name of a member of one of pyqir's enumerations."""
    return str(value).rpartition(".")[2]


_TERMINATORS: Final = frozenset({
    pyqir.Opcode.BR, pyqir.Opcode.SWITCH, pyqir.Opcode.RET, pyqir.Opcode.UNREACHABLE,
})  # fmt: skip
