"""Circuits out as Stim's: Clifford gates, measurements, and Paulis conditioned on parities of bits.

Nothing is approximated: a gate that is no Clifford gate, or feedback that is no parity, is refused
where it stands. Stim numbers measurements instead of naming bits, so a comment says which parity of
the record each bit ends as where that is not simply the bit's own number. The way in is
`frontends/stim.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import stim

from runtime.jit.circuit import ORDERS, Circuit, Condition, Operation, Unsupported, defined, labels
from runtime.jit.gates import GATES, PAULIS, by_eighths

_GATES: Final = {
    "id": "I", "x": "X", "y": "Y", "z": "Z", "h": "H", "s": "S", "sdg": "S_DAG", "sx": "SQRT_X",
    "sxdg": "SQRT_X_DAG", "cx": "CX", "cy": "CY", "cz": "CZ", "swap": "SWAP", "iswap": "ISWAP",
    "iswapdg": "ISWAP_DAG",
}  # fmt: skip
_MEASURE: Final = {"measure": "M", "measure_x": "MX", "measure_y": "MY"}
_FEEDBACK: Final = {"x": "CX", "y": "CY", "z": "CZ"}


class Parity(NamedTuple):
    """The XOR of these measurements of the record and of `offset`."""

    records: frozenset[int]
    offset: int


ZERO: Final = Parity(frozenset(), 0)


class Exported(NamedTuple):
    """circuit: Stim's. bits: what each classical bit is at the end, by number."""

    circuit: stim.Circuit
    bits: tuple[Parity, ...]


def export(circuit: Circuit) -> Exported:
    """The same circuit for Stim. Raises `Unsupported`."""
    writer = _Writer(circuit)
    for each in circuit.operations:
        writer.write(each)
    writer.annotate()
    return Exported(writer.made, tuple(writer.bits))


def dump(circuit: Circuit) -> str:
    """The text of a Stim circuit. Raises `Unsupported`."""
    made, bits = export(circuit)
    comments = [
        f"# {name} = {_sentence(parity)}"
        for number, (name, parity) in enumerate(zip(labels(circuit.bits), bits, strict=True))
        if parity != Parity(frozenset({number}), 0)
    ]
    return "\n".join([*comments, str(made), ""])


def _sentence(parity: Parity) -> str:
    terms = [f"rec[{record}]" for record in sorted(parity.records)]
    return " ^ ".join([*terms, "1"] if parity.offset else terms) or "0"


class _Writer:
    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self.made = stim.Circuit()
        self.bits = [ZERO] * circuit.bit_count
        self._measured = 0

    def write(self, each: Operation) -> None:
        """Append one operation."""
        condition = None if each.condition is None else self._parity(each, each.condition)
        if each.name == "assign":
            assert condition is not None
            self.bits[each.bits[0]] = condition
        elif condition is None or condition == Parity(frozenset(), 1):
            self._always(each)
        elif condition != ZERO:
            self._where(condition, each)

    def annotate(self) -> None:
        """What `frontends/stim.py` kept as metadata, at the end."""
        notes = self._circuit.metadata
        numbers = {name: number for number, name in enumerate(labels(self._circuit.bits))}
        qubits = {name: number for number, name in enumerate(labels(self._circuit.qubits))}
        for note in notes.get("detectors", ()):
            targets = self._targets(numbers[name] for name in note["bits"])
            self.made.append("DETECTOR", targets, note.get("coordinates", ()))
        for index, names in notes.get("observables", {}).items():
            targets = self._targets(numbers[name] for name in names)
            self.made.append("OBSERVABLE_INCLUDE", targets, int(index))
        for name, coordinates in notes.get("coordinates", {}).items():
            self.made.append("QUBIT_COORDS", qubits[name], coordinates)

    def _targets(self, bits: Iterable[int]) -> list[stim.GateTarget]:
        records: frozenset[int] = frozenset()
        for bit in bits:
            records ^= self.bits[bit].records
        return [self._record(record) for record in sorted(records)]

    def _record(self, number: int) -> stim.GateTarget:
        return stim.target_rec(number - self._measured)

    def _parity(self, each: Operation, condition: Condition) -> Parity:
        """The condition as a parity of the record."""
        terms = [
            Parity(self.bits[bit].records, self.bits[bit].offset ^ 1 ^ value)
            for bit, value in condition.tests
        ]
        if condition.join != "xor":
            # `and` is settled by one 0, `or` by one 1; what is left over changes nothing.
            settles = int(condition.join == "or")
            if Parity(frozenset(), settles) in terms:
                return Parity(frozenset(), settles)
            terms = list({term for term in terms if term.records}) or [ZERO]
            if len(terms) > 1:
                raise Unsupported.at(
                    each.at, "Stim's feedback is a parity of measurements, this is none"
                )
            if not terms[0].records:
                return Parity(frozenset(), 1 - settles)
        records: frozenset[int] = frozenset()
        offset = 0
        for term in terms:
            records ^= term.records
            offset ^= term.offset
        return Parity(records, offset)

    def _always(self, each: Operation) -> None:
        if each.name in _MEASURE:
            self.made.append(_MEASURE[each.name], each.qubits)
            self.bits[each.bits[0]] = Parity(frozenset({self._measured}), 0)
            self._measured += 1
        elif each.name == "reset":
            self.made.append("R", each.qubits)
        elif each.name in ORDERS:
            self.made.append("TICK")
        else:
            for name, qubits in _clifford(each):
                self.made.append(_GATES[name], qubits)

    def _where(self, condition: Parity, each: Operation) -> None:
        """Paulis alone can be conditioned: a product of one per measurement of the parity."""
        if each.name in ORDERS:
            self.made.append("TICK")
            return
        if each.name not in GATES:
            raise Unsupported.at(each.at, f"Stim has no conditioned `{each.name}`")
        for name, qubits in _clifford(each):
            if name == "id":
                continue
            if name not in PAULIS:
                raise Unsupported.at(each.at, f"Stim conditions Paulis alone, not `{name}`")
            for record in sorted(condition.records):
                self.made.append(_FEEDBACK[name], [self._record(record), *qubits])
            if condition.offset:
                self.made.append(_GATES[name], qubits)


def _clifford(each: Operation) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The gate by gates that Stim has, in order, without global phase."""
    if each.name in _GATES:
        yield each.name, each.qubits
        return
    row = GATES[each.name]
    if row.definition is not None:
        for part in defined(each)[0]:
            yield from _clifford(part)
        return
    eighths = each.angles[0].eighths if each.angles else None
    if eighths is None or eighths % 2:
        raise Unsupported.at(each.at, f"`{each.name}` is no Clifford gate, and Stim holds no other")
    for name in by_eighths(each.name, eighths)[0]:
        yield name, each.qubits
