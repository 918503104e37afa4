"""Stim circuits in: Clifford gates, Pauli-product measurements and Pauli feedback; REPEAT unrolled.

Stim's own parser reads every line; this module says what each instruction means as operations.
What the machine cannot be told is refused: noise (the machine has its own; `drop_noise` leaves it
out and counts what was left out), sweep bits, Pauli targets of observables. Detectors, observables
and coordinates become annotations in the circuit's metadata. Meanings after Stim's gate reference,
https://github.com/quantumlib/Stim/blob/main/doc/gates.md. The way back is `backends/stim.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final

import msgspec
import stim

from runtime.jit.circuit import (
    TRUE,
    Circuit,
    Condition,
    Operation,
    Position,
    Register,
    Unsupported,
    bit_is,
)

OPERATIONS_MAX: Final = 4_000_000
"""Operations a circuit may have with its REPEAT blocks unrolled."""

_GATES: Final[dict[str, tuple[str, ...]]] = {
    "I": ("id",), "X": ("x",), "Y": ("y",), "Z": ("z",), "H": ("h",), "S": ("s",),
    "S_DAG": ("sdg",), "SQRT_X": ("sx",), "SQRT_X_DAG": ("sxdg",), "SQRT_Y": ("z", "h"),
    "SQRT_Y_DAG": ("h", "z"), "CX": ("cx",), "CY": ("cy",), "CZ": ("cz",), "SWAP": ("swap",),
    "ISWAP": ("iswap",), "ISWAP_DAG": ("iswapdg",),
}  # fmt: skip
"""Gates that the table has under another name; all other unitary ones go through Stim."""

_PREPARE: Final = {"R": (), "RX": ("h",), "RY": ("h", "s")}
_MEASURE: Final = {"M": "measure", "MX": "measure_x", "MY": "measure_y"}
_MEASURE_RESET: Final = {"MR": ("M", "R"), "MRX": ("MX", "RX"), "MRY": ("MY", "RY")}
_PAIRS: Final = {"MXX": "XX", "MYY": "YY", "MZZ": "ZZ"}
_TO_Z: Final[dict[str, tuple[str, ...]]] = {"X": ("h",), "Y": ("sdg", "h"), "Z": ()}
_FROM_Z: Final[dict[str, tuple[str, ...]]] = {"X": ("h",), "Y": ("h", "s"), "Z": ()}
_FEEDBACK: Final = {
    "CX": ("x", 0), "CY": ("y", 0), "CZ": ("z", 0), "XCZ": ("x", 1), "YCZ": ("y", 1),
}  # fmt: skip
"""Which Pauli a measurement record controls, and which operand the record is."""


class _Line(msgspec.Struct, gc=False):
    """One instruction and where it stands; or a block of such, `count` times."""

    at: Position
    instruction: stim.CircuitInstruction | None = None
    count: int = 1
    body: list[_Line] = []


def load(source: str | stim.Circuit, *, file: str = "", drop_noise: bool = False) -> Circuit:
    """Read a Stim circuit, as text or as an object. Raises `Unsupported`.

    Qubits are the register `q`; bit k of `rec` is measurement k of the record. Positions in an
    object count the lines of its text.
    """
    return _Reader(_parse(str(source), file), file, drop_noise).circuit()


def _parse(text: str, file: str) -> list[_Line]:
    """Lines by Stim's parser, one at a time: a whole text fuses them and forgets where they were.

    A line that is no circuit opens or closes a block: it is one together with the other half.
    """
    stack: list[list[_Line]] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        at = Position(file, number, len(line) - len(line.lstrip()) + 1, line.strip())
        try:
            # Stim 1.16 never returns from a tag that the end of its text cuts off.
            for each in stim.Circuit(line + "\n"):
                stack[-1].append(_Line(at, each))
        except ValueError as error:
            opened = _opens(line)
            if opened is not None:
                block = _Line(at, None, opened, [])
                stack[-1].append(block)
                stack.append(block.body)
            elif len(stack) > 1 and _closes(line):
                stack.pop()
            else:
                raise Unsupported.at(at, str(error).splitlines()[0]) from None
    if len(stack) > 1:
        raise Unsupported.at(stack[-2][-1].at, "the block is not closed")
    return stack[0]


def _opens(line: str) -> int | None:
    try:
        (block,) = stim.Circuit(f"{line}\nTICK\n}}")
    except ValueError:
        return None
    return block.repeat_count if isinstance(block, stim.CircuitRepeatBlock) else None


def _closes(line: str) -> bool:
    try:
        return bool(stim.Circuit(f"REPEAT 2 {{\nTICK\n{line}\n") == _EMPTY_BLOCK)
    except ValueError:
        return False


_EMPTY_BLOCK: Final = stim.Circuit("REPEAT 2 {\nTICK\n}")


@cache
def _decomposed(name: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """A unitary gate as H, S, S^-1, Z and CX on operands 0 and 1, by Stim's decomposition."""
    data = stim.gate_data(name)
    wires = "0 1" if data.is_two_qubit_gate else "0"
    runs: list[list[Any]] = []
    for each in stim.Circuit(f"{name} {wires}").decomposed():
        for group in each.target_groups():
            targets = tuple(target.value for target in group)
            if runs and runs[-1][:2] == [each.name, targets]:
                runs[-1][2] += 1
            else:
                runs.append([each.name, targets, 1])
    made = []
    for what, targets, times in runs:
        if what == "S":
            made += [(step, targets) for step in ((), ("s",), ("z",), ("sdg",))[times % 4]]
        else:
            made += [({"H": "h", "CX": "cx"}[what], targets)] * (times % 2)
    return tuple(made) or tuple(("id", (wire,)) for wire in range(1 + data.is_two_qubit_gate))


class _Reader:
    """Walks the lines once, in the order in which they are carried out."""

    def __init__(self, lines: Sequence[_Line], file: str, drop_noise: bool) -> None:
        self._lines = lines
        self._file = file
        self._drop_noise = drop_noise
        self._operations: list[Operation] = []
        self._at = Position(file, 0, 0, "")
        self._measured = 0
        self._width = 0
        self._shift: list[float] = []
        self._detectors: list[dict[str, Any]] = []
        self._observables: dict[int, set[int]] = {}
        self._coordinates: dict[str, list[float]] = {}
        self._dropped: Counter[str] = Counter()

    def circuit(self) -> Circuit:
        for line in self._walk(self._lines):
            self._at = line.at
            assert line.instruction is not None
            self._instruction(line.instruction)
        return Circuit(
            qubits=(Register("q", self._width),),
            bits=(Register("rec", self._measured),),
            operations=tuple(self._operations),
            metadata=self._metadata(),
        )

    def _walk(self, lines: Sequence[_Line]) -> Iterator[_Line]:
        for line in lines:
            if line.instruction is not None:
                yield line
                continue
            if _unrolled(line.body) * line.count > OPERATIONS_MAX:
                raise Unsupported.at(
                    line.at, f"unrolled it has more than {OPERATIONS_MAX} operations"
                )
            for _ in range(line.count):
                yield from self._walk(line.body)

    def _metadata(self) -> dict[str, Any]:
        notes: dict[str, Any] = {}
        if self._detectors:
            notes["detectors"] = self._detectors
        if self._observables:
            notes["observables"] = {
                str(index): _labels(bits) for index, bits in sorted(self._observables.items())
            }
        if self._coordinates:
            notes["coordinates"] = self._coordinates
        if self._dropped:
            notes["dropped"] = dict(sorted(self._dropped.items()))
        return notes

    def _refuse(self, why: str) -> Unsupported:
        return Unsupported.at(self._at, why)

    def _add(
        self,
        name: str,
        *qubits: int,
        bits: tuple[int, ...] = (),
        condition: Condition | None = None,
    ) -> None:
        self._operations.append(Operation(name, qubits, (), bits, condition, self._at))

    def _each(self, names: Sequence[str], qubit: int) -> None:
        for name in names:
            self._add(name, qubit)

    def _bit(self) -> int:
        self._measured += 1
        return self._measured - 1

    def _instruction(self, each: stim.CircuitInstruction) -> None:
        name, groups = each.name, each.target_groups()
        data = stim.gate_data(name)
        for group in groups:
            for target in group:
                if target.is_sweep_bit_target:
                    raise self._refuse("sweep bits are values that no program holds")
                if target.qubit_value is not None and name != "MPAD":
                    self._width = max(self._width, target.qubit_value + 1)
        if data.is_noisy_gate and not self._noiseless(each, data):
            return
        if data.is_unitary or name in ("SPP", "SPP_DAG"):
            self._unitary(name, groups)
        elif data.produces_measurements or name in _PREPARE:
            self._project(name, groups)
        else:
            self._annotation(each, groups)

    def _noiseless(self, each: stim.CircuitInstruction, data: stim.GateData) -> bool:
        """Whether something is left of an instruction that may be noisy, once its noise is gone."""
        projects = data.produces_measurements and not each.name.startswith("HERALDED_")
        if projects and not any(each.gate_args_copy()):
            return True
        if not self._drop_noise:
            raise self._refuse(
                "the machine has its own noise and can be told none; "
                "`--drop-noise` reads the circuit without"
            )
        what = f"noise of {each.name}" if projects else each.name
        self._dropped[what] += len(each.target_groups())
        if not projects:
            # A herald that never rings: its bit stays 0.
            self._measured += each.num_measurements
        return projects

    def _unitary(self, name: str, groups: Sequence[Sequence[stim.GateTarget]]) -> None:
        for group in groups:
            if name in ("SPP", "SPP_DAG"):
                self._phase(group, adjoint=name == "SPP_DAG")
            elif any(target.is_measurement_record_target for target in group):
                self._feedback(name, group)
            elif name in _GATES:
                for step in _GATES[name]:
                    self._add(step, *(target.value for target in group))
            else:
                for step, wires in _decomposed(name):
                    self._add(step, *(group[wire].value for wire in wires))

    def _feedback(self, name: str, group: Sequence[stim.GateTarget]) -> None:
        pauli, place = _FEEDBACK[name]
        if name == "CZ" and not group[0].is_measurement_record_target:
            place = 1
        record, qubit = group[place], group[1 - place]
        if qubit.is_measurement_record_target:
            return  # CZ of two records: a phase that nobody sees.
        condition = bit_is(self._record(record))
        self._add(pauli, qubit.value, condition=condition)

    def _record(self, target: stim.GateTarget) -> int:
        bit = self._measured + target.value
        if bit < 0:
            raise self._refuse(f"rec[{target.value}] is before the first measurement")
        return int(bit)

    def _project(self, name: str, groups: Sequence[Sequence[stim.GateTarget]]) -> None:
        if name == "MPAD":
            for (pad,) in groups:
                self._constant(pad.value)
        elif name == "MPP" or name in _PAIRS:
            for group in groups:
                self._product(group, _PAIRS.get(name))
        else:
            measure, prepare = _MEASURE_RESET.get(name, (name, name))
            for (target,) in groups:
                if measure in _MEASURE:
                    self._one(_MEASURE[measure], target)
                if prepare in _PREPARE:
                    self._add("reset", target.value)
                    self._each(_PREPARE[prepare], target.value)

    def _constant(self, value: int) -> None:
        bit = self._bit()
        if value:
            self._add("assign", bits=(bit,), condition=TRUE)

    def _one(self, name: str, target: stim.GateTarget) -> None:
        flip = ("z",) if name == "measure_x" else ("x",)
        flips = flip if target.is_inverted_result_target else ()
        self._each(flips, target.value)
        self._add(name, target.value, bits=(self._bit(),))
        self._each(flips, target.value)

    def _product(self, group: Sequence[stim.GateTarget], letters: str | None) -> None:
        """Fold the product onto one qubit, measure that one, unfold."""
        pauli = _multiplied(group, letters)
        if isinstance(pauli, str):
            raise self._refuse(pauli)
        sign, product = pauli
        if not product:
            self._constant(sign < 0)
            return
        last = product[-1][0]
        flips = ("x",) if sign < 0 else ()
        self._fold(product)
        self._each(flips, last)
        self._add("measure", last, bits=(self._bit(),))
        self._each(flips, last)
        self._unfold(product)

    def _phase(self, group: Sequence[stim.GateTarget], *, adjoint: bool) -> None:
        """diag(1, i) in the eigenbasis of the product, i for its -1."""
        pauli = _multiplied(group, None)
        if isinstance(pauli, str):
            raise self._refuse(pauli)
        sign, product = pauli
        if product:
            self._fold(product)
            self._add("sdg" if adjoint == (sign > 0) else "s", product[-1][0])
            self._unfold(product)

    def _fold(self, product: Sequence[tuple[int, str]]) -> None:
        for qubit, letter in product:
            self._each(_TO_Z[letter], qubit)
        for qubit, _ in product[:-1]:
            self._add("cx", qubit, product[-1][0])

    def _unfold(self, product: Sequence[tuple[int, str]]) -> None:
        for qubit, _ in reversed(product[:-1]):
            self._add("cx", qubit, product[-1][0])
        for qubit, letter in product:
            self._each(_FROM_Z[letter], qubit)

    def _annotation(
        self, each: stim.CircuitInstruction, groups: Sequence[Sequence[stim.GateTarget]]
    ) -> None:
        arguments = each.gate_args_copy()
        targets = [target for group in groups for target in group]
        if each.name == "TICK":
            self._add("barrier")
        elif each.name == "SHIFT_COORDS":
            longer = max(arguments, self._shift, key=len)
            self._shift = self._shifted([*arguments, *[0.0] * (len(longer) - len(arguments))])
        elif each.name == "QUBIT_COORDS":
            for target in targets:
                self._coordinates[f"q[{target.value}]"] = self._shifted(arguments)
        elif each.name == "DETECTOR":
            note: dict[str, Any] = {"bits": _labels(self._parity(targets))}
            if arguments:
                note["coordinates"] = self._shifted(arguments)
            self._detectors.append(note)
        elif each.name == "OBSERVABLE_INCLUDE":
            if not all(target.is_measurement_record_target for target in targets):
                raise self._refuse("an observable is kept as measured bits, not as a Pauli product")
            known = self._observables.setdefault(int(arguments[0]), set())
            known ^= self._parity(targets)
        else:
            raise self._refuse(f"{each.name} is not known here")

    def _parity(self, targets: Sequence[stim.GateTarget]) -> set[int]:
        """The bits whose XOR it is: those named an odd number of times."""
        counts = Counter(map(self._record, targets))
        return {bit for bit, times in counts.items() if times % 2}

    def _shifted(self, arguments: Sequence[float]) -> list[float]:
        shift = [*self._shift, *[0.0] * len(arguments)]
        return [value + by for value, by in zip(arguments, shift, strict=False)]


def _unrolled(lines: Sequence[_Line]) -> int:
    """How many operands the lines have, at the least one each."""
    return sum(
        line.count * _unrolled(line.body)
        if line.instruction is None
        else 1 + len(line.instruction.targets_copy())
        for line in lines
    )


def _labels(bits: Iterable[int]) -> list[str]:
    return [f"rec[{bit}]" for bit in sorted(bits)]


def _multiplied(
    group: Sequence[stim.GateTarget], letters: str | None
) -> tuple[int, list[tuple[int, str]]] | str:
    """Sign and non-identity letters of a product of Pauli targets, or why there is none."""
    factors = [target for target in group if not target.is_combiner]
    width = 1 + max(target.value for target in factors)
    product = stim.PauliString(width)
    for place, target in enumerate(factors):
        one = stim.PauliString(width)
        one[target.value] = letters[place] if letters else target.pauli_type
        product *= -one if target.is_inverted_result_target else one
    if product.sign not in (1, -1):
        return "the product is not Hermitian"
    return int(product.sign.real), [
        (qubit, "IXYZ"[product[qubit]]) for qubit in product.pauli_indices()
    ]
