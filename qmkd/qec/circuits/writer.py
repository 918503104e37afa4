"""Writes experiments on code blocks as noiseless Stim circuits with detectors.

A `Writer` holds the circuit so far and, for every stabilizer, the results whose parity is its
value. A stabilizer that is measured again becomes a detector; so detectors are exactly the results
that the circuit determines, and no experiment lists them by hand. Layers are separated by TICK.
Noise is written in later, by `qmkd/qec/noise.py`. Experiments are in the neighbouring files.

Detectors have coordinates (x, y, round, part): part is 2 * block + (1 if it compares Z checks, else
0), blocks in the order in which they were given to the Writer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Final

import stim

from qmkd.qec.codes.code import MEASURE, OTHER, RESET, Basis, Code, Coord, Layer
from qmkd.qec.noise import PERFECT

Records = frozenset[int]
"""Results, counted from the first of the circuit; what is meant is their parity."""
Operator = tuple[Basis, frozenset[int]]
"""A product of X or of Z on qubits of the circuit."""

NOTHING: Records = frozenset()
ROUNDS_UNFOLDED: Final = 2  # rounds after which every round is written as the one before


class Block:
    """A code placed in a circuit.

    number: which block of the writer. at: qubits of the circuit, by the code's own numbers.
    results: the last result of each gauge. fresh: the basis in which the data was just prepared.
    commuting, first, last: as `Code.commuting` and `Code.order` say. stabilizers: operator, gauges
    and place of each.
    """

    def __init__(self, code: Code, number: int, at: tuple[int, ...]) -> None:
        self.code = code
        self.number = number
        self.at = at
        self.results: dict[int, int] = {}
        self.fresh: Basis | None = None
        self.commuting = code.commuting()
        self.first, self.last = code.order()[0], code.order()[-1]
        self.stabilizers: tuple[tuple[Operator, tuple[int, ...], Coord], ...] = tuple(
            (self.operator(each.basis, code.support(each)), each.gauges, each.at)
            for each in code.stabilizers
        )

    @property
    def data(self) -> tuple[int, ...]:
        return self.at[: self.code.data]

    def operator(self, basis: Basis, support: Iterable[int]) -> Operator:
        return basis, frozenset(self.at[qubit] for qubit in support)

    def logical(self, basis: Basis, number: int) -> frozenset[int]:
        """Qubits of the circuit on which a logical operator acts."""
        return frozenset(self.at[qubit] for qubit in self.code.logical(basis)[number])

    def part(self, basis: Basis) -> int:
        return 2 * self.number + (basis == "Z")


class Writer:
    """A circuit under construction.

    values: for each operator whose value the circuit determines, the results it is the parity of.
    """

    def __init__(self, codes: Sequence[Code]) -> None:
        self.circuit = stim.Circuit()
        self.measured = 0
        self.values: dict[Operator, Records] = {}
        numbers: dict[Coord, int] = {}
        self.blocks: list[Block] = []
        for code in codes:
            assert len(set(code.qubits)) == len(code.qubits), "no two qubits share a place"
            at = tuple(numbers.setdefault(place, len(numbers)) for place in code.qubits)
            self.blocks.append(Block(code, len(self.blocks), at))
        for place, number in numbers.items():
            self.circuit.append("QUBIT_COORDS", [number], place)
        self.numbers = numbers

    # --- layers -----------------------------------------------------------------------------------

    def layer(self, operations: Iterable[tuple[str, Sequence[int]]], tag: str = "") -> range:
        """Operations on qubits of the circuit, at once. Returns the results, oldest first."""
        merged: dict[str, list[int]] = defaultdict(list)
        for gate, qubits in operations:
            merged[gate].extend(qubits)
        first = self.measured
        for gate, qubits in merged.items():
            if qubits:
                self.circuit.append(gate, qubits, tag=tag)
        self.measured = first + sum(
            len(qubits) // (2 if gate in ("MXX", "MZZ") else 1)
            for gate, qubits in merged.items()
            if gate.startswith("M")
        )
        self.circuit.append("TICK")
        return range(first, self.measured)

    def _observe(self, blocks: Sequence[Block], basis: Basis) -> dict[Operator, Records]:
        """Measure all stabilizers of a basis at once and without noise."""
        operators = [
            operator
            for block in blocks
            for operator, _, _ in block.stabilizers
            if operator[0] == basis
        ]
        pauli = {"X": stim.target_x, "Z": stim.target_z}[basis]
        for _, support in operators:
            product = stim.target_combined_paulis([pauli(qubit) for qubit in sorted(support)])
            self.circuit.append("MPP", product, tag=PERFECT)
        self.circuit.append("TICK")
        first = self.measured
        self.measured += len(operators)
        return {operator: frozenset((first + at,)) for at, operator in enumerate(operators)}

    # --- annotations ------------------------------------------------------------------------------

    def detector(self, results: Records, at: Coord, part: int) -> None:
        self.circuit.append("DETECTOR", self._targets(results), (*at, 0, part))

    def observable(self, number: int, results: Records) -> None:
        self.circuit.append("OBSERVABLE_INCLUDE", self._targets(results), number)

    def _targets(self, results: Records) -> list[stim.GateTarget]:
        return [stim.target_rec(result - self.measured) for result in sorted(results)]

    def next_round(self) -> None:
        self.circuit.append("SHIFT_COORDS", [], (0, 0, 1))

    # --- blocks -----------------------------------------------------------------------------------

    def prepare(self, bases: dict[int, Basis]) -> None:
        """Reset the data of blocks (number -> basis)."""
        self.reset_data([(self.blocks[number], basis) for number, basis in bases.items()])

    def prepare_known(self, chosen: Sequence[int], basis: Basis) -> None:
        """Reset the data of blocks and learn every stabilizer, all without noise."""
        blocks = [self.blocks[number] for number in chosen]
        assert all(block.commuting for block in blocks), "their gauges have no values"
        self.layer([(RESET[basis], block.data) for block in blocks], PERFECT)
        for block in blocks:
            for operator, _, _ in block.stabilizers:
                self.values[operator] = NOTHING
        self.values |= self._observe(blocks, OTHER[basis])
        self.layer([each for block in blocks for each in _opening(block)])

    def reset_data(
        self, blocks: Sequence[tuple[Block, Basis]], single: dict[int, Basis] | None = None
    ) -> None:
        """Reset the data of blocks and their first ancillas, but the qubits of `single` apart."""
        apart = single or {}
        operations: list[tuple[str, Sequence[int]]] = []
        for block, basis in blocks:
            block.fresh = None if apart else basis
            bases = {qubit: apart.get(qubit, basis) for qubit in block.data}
            for kind in dict.fromkeys(bases.values()):
                operations.append((RESET[kind], [q for q in block.data if bases[q] == kind]))
            operations += _opening(block)
            for operator, _, _ in block.stabilizers:
                if all(bases[qubit] == operator[0] for qubit in operator[1]):
                    self.values[operator] = NOTHING
        self.layer(operations)

    def gates(
        self,
        before: Sequence[int],
        after: Sequence[int],
        operations: Sequence[tuple[str, Sequence[int]]],
        preimage: Callable[[Operator], tuple[Operator, ...]],
    ) -> None:
        """A layer of Clifford gates on the data of blocks `before`, which makes them `after`.

        preimage: the operators before it whose product becomes a given one; signs do not matter.
        """
        first = [self.blocks[number] for number in after]
        self.layer([*operations, *(each for block in first for each in _opening(block))])
        self._keep(
            after,
            {
                operator: [self.values.get(part) for part in preimage(operator)]
                for block in first
                for operator, _, _ in block.stabilizers
            },
        )

    def merge_or_split(
        self,
        before: Sequence[int],
        after: Sequence[int],
        gained: Basis | None = None,
        lost: Basis | None = None,
    ) -> dict[int, int]:
        """A layer in which blocks `before` become others that cover other qubits.

        Data qubits that are new are reset in basis `gained`, those left out measured in basis
        `lost`. Returns the results of the latter: qubit -> result.
        """
        had = {qubit for number in before for qubit in self.blocks[number].data}
        have = {qubit for number in after for qubit in self.blocks[number].data}
        new, gone = sorted(have - had), sorted(had - have)
        assert bool(new) == (gained is not None)
        assert bool(gone) == (lost is not None)
        first = self.measured
        self.layer(
            [
                *([(RESET[gained], new)] if gained else []),
                *([(MEASURE[lost], gone)] if lost else []),
                *(each for number in after for each in _opening(self.blocks[number])),
            ]
        )
        found = {qubit: first + i for i, qubit in enumerate(gone)}
        self._lose(before, found, lost)
        self._keep(
            after,
            {
                operator: [self._grown(operator, frozenset(new), gained)]
                for number in after
                for operator, _, _ in self.blocks[number].stabilizers
            },
        )
        return found

    def _lose(self, before: Sequence[int], found: dict[int, int], lost: Basis | None) -> None:
        """Cut operators down to the qubits that were not measured; compare what is nothing then."""
        gone = frozenset(found)
        for number in before:
            block = self.blocks[number]
            for operator, _, at in block.stabilizers:
                basis, support = operator
                if support.isdisjoint(gone) or (value := self.values.pop(operator, None)) is None:
                    continue
                if basis == lost:
                    value ^= frozenset(found[qubit] for qubit in support & gone)
                    if support <= gone:
                        self.detector(value, at, block.part(basis))
                    else:
                        self.values[basis, support - gone] = value

    def _grown(
        self, operator: Operator, new: frozenset[int], gained: Basis | None
    ) -> Records | None:
        """The value of an operator, some of whose qubits were just reset."""
        basis, support = operator
        if support.isdisjoint(new):
            return self.values.get(operator)
        if basis != gained:
            return None
        return NOTHING if support <= new else self.values.get((basis, support - new))

    def _keep(self, after: Sequence[int], parts: dict[Operator, list[Records | None]]) -> None:
        """Know of the operators in `parts` what their parts say, and of no other."""
        self.values = {}
        for operator, values in parts.items():
            known = [value for value in values if value is not None]
            if len(known) == len(values):
                self.values[operator] = _sum(known)
        for number in after:
            self.blocks[number].fresh = None

    def rounds(self, chosen: Sequence[int], count: int) -> None:
        """`count` rounds of some blocks in step; what repeats is written once.

        After the last one no ancilla is reset: the layer that follows does that, or ends it all.
        """
        blocks = [self.blocks[number] for number in chosen]
        body = count - 1 - ROUNDS_UNFOLDED
        if body < 2:
            for done in range(count):
                self._round(blocks, done == count - 1)
            return
        for _ in range(ROUNDS_UNFOLDED):
            self._round(blocks, False)
        before, self.circuit = self.circuit, stim.Circuit()
        first = self.measured
        self._round(blocks, False)
        before.append(stim.CircuitRepeatBlock(body, self.circuit))
        self.circuit = before
        self._shift(blocks, first, (self.measured - first) * (body - 1))
        self._round(blocks, True)

    def _shift(self, blocks: Sequence[Block], first: int, by: int) -> None:
        """After a repeated round: move what refers to its results on to the last repetition."""
        self.measured += by
        for block in blocks:
            block.results = {gauge: result + by for gauge, result in block.results.items()}
            for operator, _, _ in block.stabilizers:
                results = self.values[operator]
                assert all(result >= first for result in results), "a round measures every check"
                self.values[operator] = frozenset(result + by for result in results)

    def _round(self, blocks: Sequence[Block], last: bool) -> None:
        cycles = [
            _without_last_resets(block.code.cycle) if last else block.code.cycle for block in blocks
        ]
        for layers in zip_longest(*cycles, fillvalue=()):
            operations: list[tuple[str, Sequence[int]]] = []
            gauges: dict[str, list[tuple[Block, int]]] = defaultdict(list)
            for block, layer in zip(blocks, layers, strict=True):
                operations += _placed(block, layer)
                for operation in layer:
                    gauges[operation.gate] += [(block, gauge) for gauge in operation.gauges]
            if not operations:
                continue
            # A layer joins operations of the same gate, in order of their first appearance.
            results = iter(self.layer(operations))
            for gate in dict.fromkeys(gate for gate, _ in operations):
                for block, gauge in gauges.get(gate, ()):
                    block.results[gauge] = next(results)
        for block in blocks:
            self._compare(block)
        self.next_round()

    def _compare(self, block: Block) -> None:
        """Detectors of a round: each stabilizer with its last value, each relation with nothing."""
        code = block.code
        alone = self._determined_alone(block)
        for basis in ("X", "Z"):
            if basis == alone:
                for number, gauge in enumerate(code.gauges):
                    if gauge.basis == basis:
                        self.detector(_parity(block, (number,)), gauge.at, block.part(basis))
                continue
            for relation in code.relations:
                if code.gauges[relation[0]].basis == basis:
                    at = code.gauges[relation[0]].at
                    self.detector(_parity(block, relation), at, block.part(basis))
        for operator, gauges, at in block.stabilizers:
            now = _parity(block, gauges)
            if operator in self.values and operator[0] != alone:
                self.detector(self.values[operator] ^ now, at, block.part(operator[0]))
            self.values[operator] = now
        block.fresh = None

    def _determined_alone(self, block: Block) -> Basis | None:
        """The basis whose gauges were just measured in the basis of fresh data, before others."""
        return block.first if block.fresh == block.first and not block.commuting else None

    def measure_known(self, chosen: Sequence[int], basis: Basis) -> dict[int, int]:
        """Measure every stabilizer, then the data of blocks, all without noise, and compare."""
        blocks = [self.blocks[number] for number in chosen]
        seen = self._observe(blocks, OTHER[basis])
        for block in blocks:
            for operator, _, at in block.stabilizers:
                if operator in seen:
                    results = seen[operator] ^ self.values[operator]
                    self.detector(results, at, block.part(operator[0]))
        return self.measure(chosen, basis, PERFECT)

    def measure(self, chosen: Sequence[int], basis: Basis, tag: str = "") -> dict[int, int]:
        """Measure the data of blocks in one layer and compare. Returns qubit -> result."""
        blocks = [self.blocks[number] for number in chosen]
        data = [qubit for block in blocks for qubit in block.data]
        found = {qubit: self.measured + i for i, qubit in enumerate(data)}
        self.layer([(MEASURE[basis], data)], tag)
        self.compare_data(blocks, basis, found)
        return found

    def compare_data(self, blocks: Sequence[Block], basis: Basis, found: Mapping[int, int]) -> None:
        """Detectors of data that was measured: qubit -> result."""
        for block in blocks:
            code = block.code
            if not block.commuting and block.last == basis:
                for number in code.generators:
                    gauge = code.gauges[number]
                    if gauge.basis == basis:
                        results = frozenset(found[block.at[qubit]] for qubit in gauge.support)
                        last = _parity(block, (number,))
                        self.detector(results ^ last, gauge.at, block.part(basis))
                continue
            for operator, _, at in block.stabilizers:
                if operator[0] == basis and operator in self.values:
                    results = frozenset(found[qubit] for qubit in operator[1])
                    self.detector(results ^ self.values[operator], at, block.part(basis))


def _placed(block: Block, layer: Layer) -> list[tuple[str, Sequence[int]]]:
    """Operations of a code on qubits of the circuit."""
    return [(each.gate, [block.at[qubit] for qubit in each.qubits]) for each in layer]


def _opening(block: Block) -> list[tuple[str, Sequence[int]]]:
    return _placed(block, block.code.opening)


def _without_last_resets(cycle: tuple[Layer, ...]) -> list[Layer]:
    """A cycle that resets no ancilla which it does not use afterwards."""
    used: set[int] = set()
    kept: list[Layer] = []
    for layer in reversed(cycle):
        layer = tuple(
            each
            for each in layer
            if each.gate not in RESET.values() or not used.isdisjoint(each.qubits)
        )
        used.update(qubit for each in layer for qubit in each.qubits)
        kept.append(layer)
    return kept[::-1]


def _sum(values: Iterable[Records]) -> Records:
    total = NOTHING
    for value in values:
        total ^= value
    return total


def _parity(block: Block, gauges: Iterable[int]) -> Records:
    """The product of some gauges, as their last results say."""
    return _sum(frozenset((block.results[gauge],)) for gauge in gauges)
