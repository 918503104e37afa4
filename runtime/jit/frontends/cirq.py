"""Cirq circuits in: an object, or the JSON that `cirq.to_json` writes.

Gates of the table are taken as they are, all other unitary ones through Cirq's own decomposition,
which keeps the global phase. Loops of circuit operations are unrolled; conditions on measurement
keys become conditions on bits by asking Cirq for each outcome. Refused: noise, qudits, parameters
without a value, waiting, confusion maps, repetition until something is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from typing import Final

import cirq
import numpy as np

from runtime.jit.angles import Angle, angle
from runtime.jit.circuit import Circuit, Condition, Position, bit_is
from runtime.jit.frontends.building import Builder
from runtime.jit.frontends.tables import TooManyBits, combine, condition, of_bit

CLOSE: Final = 1e-8
"""How far Cirq's decomposition of a gate may be from its matrix, in any entry."""
CHECKED_QUBITS_MAX: Final = 6
"""Of gates whose decomposition is compared with their matrix."""

_ROTATIONS: Final[dict[type, str]] = {
    cirq.XPowGate: "rx", cirq.YPowGate: "ry", cirq.ZPowGate: "rz", cirq.XXPowGate: "rxx",
    cirq.YYPowGate: "ryy", cirq.ZZPowGate: "rzz",
}  # fmt: skip
"""Gates G^t that are e^(i pi t (shift + 1/2)) times the rotation about G by pi t."""
_WHOLE: Final[dict[type, dict[float, str]]] = {
    cirq.XPowGate: {1: "x", 0.5: "sx", -0.5: "sxdg"},
    cirq.YPowGate: {1: "y"},
    cirq.ZPowGate: {1: "z", 0.5: "s", -0.5: "sdg", 0.25: "t", -0.25: "tdg"},
    cirq.HPowGate: {1: "h"},
    cirq.CXPowGate: {1: "cx"},
    cirq.CZPowGate: {1: "cz"},
    cirq.SwapPowGate: {1: "swap"},
    cirq.ISwapPowGate: {1: "iswap", -1: "iswapdg"},
    cirq.CCXPowGate: {1: "ccx"},
    cirq.CCZPowGate: {1: "ccz"},
}
"""Gates G^t without a shift that the table has."""


def load(source: str | cirq.AbstractCircuit, *, file: str = "") -> Circuit:
    """Read a Cirq circuit. Raises `Unsupported`.

    Qubits are the register `q`, in Cirq's order. Each measurement is a register of its key's name
    (a key that is measured again, of that name and a number); bit i is the i-th qubit measured.
    """
    return _Reader(file).circuit(source)


class _Reader:
    def __init__(self, file: str) -> None:
        self._build = Builder(file)
        self._file = file
        self._records: dict[str, list[range]] = {}
        self._numbers: dict[cirq.Qid, int] = {}
        self._taken: set[str] = set()

    def circuit(self, source: str | cirq.AbstractCircuit) -> Circuit:
        whole = self._parsed(source) if isinstance(source, str) else source
        self._taken = set(cirq.measurement_key_names(whole))
        qubits = sorted(whole.all_qubits())
        odd = next((each for each in qubits if each.dimension != 2), None)
        if odd is not None:
            raise self._build.unsupported(f"{odd!r} has {odd.dimension} levels; QVM has qubits")
        self._numbers = dict(zip(qubits, self._build.qubits("q", len(qubits)), strict=True))
        for number, moment in enumerate(whole):
            for each in moment:
                self._build.at = Position(self._file, 0, 0, f"moment {number}: {_words(each)}")
                self._operation(each)
        return self._build.circuit()

    def _parsed(self, text: str) -> cirq.AbstractCircuit:
        try:
            found = cirq.read_json(json_text=text)
        except Exception as error:  # Cirq asserts as well as refuses what it reads.
            raise self._build.unsupported(f"it is no JSON of Cirq: {error!r}") from None
        if not isinstance(found, cirq.AbstractCircuit):
            raise self._build.unsupported(f"it is a {type(found).__name__}, not a circuit")
        return found

    def _operation(self, each: cirq.Operation) -> None:
        if cirq.is_parameterized(each):
            names = ", ".join(sorted(cirq.parameter_names(each)))
            raise self._build.unsupported(f"the parameters {names} have no value")
        each = each.untagged
        if isinstance(each, cirq.CircuitOperation):
            if each.repeat_until is not None:
                raise self._build.unsupported("how often it is repeated depends on measurements")
            for inner in each.mapped_circuit(deep=False).all_operations():
                self._operation(inner)
        elif each.classical_controls:
            self._conditional(each)
        elif isinstance(each.gate, cirq.MeasurementGate):
            self._measure(each, each.gate)
        elif isinstance(each.gate, cirq.PauliMeasurementGate):
            for inner in cirq.decompose_once(each):
                self._operation(inner)
        elif isinstance(each.gate, cirq.ResetChannel):
            self._build.add("reset", self._on(each))
        elif isinstance(each.gate, cirq.WaitGate):
            raise self._build.unsupported("a program says no times")
        elif not cirq.has_unitary(each):
            raise self._build.unsupported("it is no unitary gate; the machine has its own noise")
        else:
            self._unitary(each)

    def _on(self, each: cirq.Operation) -> tuple[int, ...]:
        return tuple(self._numbers[qubit] for qubit in each.qubits)

    # --- gates ------------------------------------------------------------------------------------

    def _unitary(self, each: cirq.Operation) -> None:
        if self._native(each):
            return
        parts = cirq.decompose(each, keep=_is_native, on_stuck_raise=None)
        stuck = [part for part in parts if not _is_native(part)]
        if stuck:
            raise self._build.unsupported(f"Cirq does not take apart {stuck[0]}")
        if len(each.qubits) <= CHECKED_QUBITS_MAX and _distance(each, parts) > CLOSE:
            raise self._build.unsupported("Cirq's decomposition of it is not exact")
        for part in parts:
            self._native(part)

    def _native(self, each: cirq.Operation) -> bool:
        """Add an operation that the table has; False where it has none."""
        gate, qubits = each.gate, self._on(each)
        name = _named(gate)
        if name is not None:
            self._build.add(name, qubits)
        elif isinstance(gate, cirq.IdentityGate):
            for qubit in qubits:
                self._build.add("id", (qubit,))
        elif isinstance(gate, cirq.GlobalPhaseGate):
            self._build.turn(angle(math.atan2(gate.coefficient.imag, gate.coefficient.real)))
        elif isinstance(gate, cirq.CZPowGate):
            self._build.add("cp", qubits, (_half_turns(gate.exponent),))
            self._build.turn(_half_turns(gate.exponent * gate.global_shift))
        elif (name := _rotation(gate)) is not None:
            assert isinstance(gate, cirq.EigenGate)
            self._build.add(name, qubits, (_half_turns(gate.exponent),))
            self._build.turn(_half_turns(gate.exponent * (gate.global_shift + 0.5)))
        else:
            return False
        return True

    # --- measurements and conditions --------------------------------------------------------------

    def _measure(self, each: cirq.Operation, gate: cirq.MeasurementGate) -> None:
        if gate.confusion_map:
            raise self._build.unsupported("a confusion map is noise; the machine has its own")
        key = str(gate.mkey)
        records = self._records.setdefault(key, [])
        bits = self._build.bits(self._name(key, len(records)), len(each.qubits))
        records.append(bits)
        inverted = gate.full_invert_mask()
        for qubit, bit, flip in zip(self._on(each), bits, inverted, strict=True):
            self._build.add("measure", (qubit,), bits=(bit,))
            if flip:
                self._build.assign(bit, bit_is(bit, 0))

    def _name(self, key: str, number: int) -> str:
        """Of the register of a key's record: the key, or the key and a number, free of all keys."""
        if not number:
            return key
        name = next(name for at in count(number) if (name := f"{key}_{at}") not in self._taken)
        self._taken.add(name)
        return name

    def _conditional(self, each: cirq.Operation) -> None:
        inner = each.without_classical_controls()
        assert not cirq.is_measurement(inner), "Cirq makes no measurement conditional"
        tests = [self._condition(test) for test in each.classical_controls]
        whole = self._build.join("and", tests)
        if whole is True:
            self._operation(inner)
        elif isinstance(whole, Condition):
            with self._build.where(whole):
                self._operation(inner)

    def _condition(self, test: cirq.Condition) -> Condition:
        for key in test.keys:
            if str(key) not in self._records:
                raise self._build.unsupported(f"the key {key} is not measured before it is read")
        if isinstance(test, cirq.KeyCondition):
            return Condition("or", tuple((bit, 1) for bit in self._record(test)))
        keys = list(dict.fromkeys(test.keys))
        records = [record for key in keys for record in self._records[str(key)]]
        bits = [bit for record in records for bit in record]

        def holds(*values: int) -> int:
            left = iter(values)
            data = cirq.ClassicalDataDictionaryStore(
                _records={
                    key: [tuple(next(left) for _ in record) for record in self._records[str(key)]]
                    for key in keys
                }
            )
            return int(test.resolve(data))

        try:
            table = combine(holds, *map(of_bit, bits))
        except TooManyBits as error:
            raise self._build.unsupported(str(error)) from None
        return condition(table, self._helper)

    def _record(self, test: cirq.KeyCondition) -> range:
        records = self._records[str(test.key)]
        if not -len(records) <= test.index < len(records):
            raise self._build.unsupported(f"{test} is not measured so often")
        return records[test.index]

    def _helper(self, truth: Condition) -> int:
        bit = self._build.hidden()
        self._build.assign(bit, truth)
        return bit


def _words(each: cirq.Operation) -> str:
    text = " ".join(str(each).split())
    return text if len(text) <= 80 else text[:77] + "..."


def _half_turns(number: float) -> Angle:
    return angle(float(number) * math.pi)


def _named(gate: cirq.Gate | None) -> str | None:
    """The gate's name in the table where it stands there with this exponent."""
    if isinstance(gate, cirq.CSwapGate):
        return "cswap"
    for kind, names in _WHOLE.items():
        # Subclasses of these, such as `cirq.Rx`, differ from them by their shift alone.
        if isinstance(gate, kind):
            assert isinstance(gate, cirq.EigenGate)
            return None if gate.global_shift else names.get(gate.exponent)
    return None


def _rotation(gate: cirq.Gate | None) -> str | None:
    return next((name for kind, name in _ROTATIONS.items() if isinstance(gate, kind)), None)


def _is_native(each: cirq.Operation) -> bool:
    gate = each.gate
    return (
        isinstance(gate, (cirq.IdentityGate, cirq.GlobalPhaseGate, cirq.CZPowGate))
        or _named(gate) is not None
        or _rotation(gate) is not None
    )


def _distance(each: cirq.Operation, parts: Sequence[cirq.Operation]) -> float:
    """The largest difference of an entry between a gate's matrix and that of its parts."""
    made = cirq.Circuit(cirq.I.on_each(*each.qubits), parts)
    found = made.unitary(qubit_order=each.qubits, qubits_that_should_be_present=each.qubits)
    return float(np.abs(found - cirq.unitary(each)).max())
