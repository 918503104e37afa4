"""The circuit over blocks: every gate inside a module, but for what consumes a pair.

A block is a place for one logical qubit in a module. What crosses modules in the circuit that comes
out is of two kinds only: a `cx`, by which a copy is made or a gate done directly, and a `swap`, by
which a qubit moves to a block that holds nothing; `channels.py` gives both a channel. The circuit
does what it did, bit for bit of its registers. Where a module has no place for one more copy, the
one that is needed last is measured away, and made again later.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from runtime.jit.circuit import Circuit, Operation, Register, bit_is
from runtime.jit.gates import PAULIS
from runtime.jit.placing.flow import Flow, X, Z
from runtime.jit.placing.homes import Homes, Option
from runtime.jit.placing.packets import Run, Serving
from runtime.jit.placing.room import FAR, Room

_ECHOED: Final = {Z: ("x", "y"), X: ("z", "y")}
_ECHO: Final = {Z: "x", X: "z"}
"""What a copy in this basis does where its qubit undergoes one of those."""


class NoRoom(Exception):
    """There is no place for what has to be in a module at one time."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """circuit: over blocks. modules: of each of its qubits, by number. copies, direct, moved: pairs
    that go into copies, into gates without any, and into moves."""

    circuit: Circuit
    modules: tuple[int, ...]
    copies: int
    direct: int
    moved: int

    @property
    def pairs(self) -> int:
        return self.copies + self.direct + self.moved


class _Copy(NamedTuple):
    """block: that holds it. parent: the module of what it was copied from."""

    block: int
    parent: int


def write(flow: Flow, homes: Homes, served: Serving, room: Room) -> Written:
    """The circuit with these homes and copies. Raises NoRoom."""
    return _Writer(flow, homes, served, room).run()


class _Writer:
    """where: of each qubit its block. module: of each block. spare: blocks that hold nothing.
    copies: that there are, by module. uses: gates that each copy is still to serve."""

    def __init__(self, flow: Flow, homes: Homes, served: Serving, room: Room) -> None:
        self.flow, self.homes, self.served, self.room = flow, homes, served, room
        self.width = flow.circuit.width
        self.where = list(range(self.width))
        self.module = list(homes.rows[0])
        used = {qubit for each in flow.circuit.operations for qubit in each.qubits}
        self.held = Counter(self.module[qubit] for qubit in used)
        self.active = used
        for module, number in self.held.items():
            if number > room.slots[module]:
                raise NoRoom(f"{number} qubits in {room.names[module]}")
        self.spare = defaultdict[int, list[int]](list)
        self.dirty: set[int] = set()
        self.copies = defaultdict[Run, dict[int, _Copy]](dict)
        self.open_of = defaultdict[int, set[Run]](set)
        self.in_module = defaultdict[int, set[Run]](set)
        self.uses: dict[Run, dict[int, deque[int]]] = {}
        for at in sorted(served):
            each = served[at]
            of_key = self.uses.setdefault((each.end, each.stay), {})
            of_key.setdefault(each.module, deque()).append(at)
        self.made: list[Operation] = []
        self.bits = 0
        self.pairs = Counter[str]()

    def run(self) -> Written:
        row = 0
        for at, each in enumerate(self.flow.circuit.operations):
            while row + 1 < len(self.homes.rows) and self.homes.starts[row + 1] <= at:
                row += 1
                self._move(self.homes.rows[row])
            if at in self.served:
                self._between(at, each, self.served[at])
            else:
                self._add(each, *(self.where[qubit] for qubit in each.qubits))
                if each.name in PAULIS:
                    self._echo(each)
        assert not any(self.copies.values()), "every copy is measured away after its last use"
        return self._written()

    def _add(self, each: Operation, *blocks: int) -> None:
        self.made.append(
            Operation(each.name, blocks, each.angles, each.bits, each.condition, each.at)
        )

    def _gate(self, name: str, *blocks: int) -> None:
        self.made.append(Operation(name, blocks))

    # --- gates between modules --------------------------------------------------------------------

    def _between(self, at: int, each: Operation, option: Option) -> None:
        """One gate, by a copy of the end that serves it, or directly."""
        key = (option.end, option.stay)
        uses = self.uses[key][option.module]
        place = each.qubits.index(option.end.qubit)
        other = self.where[each.qubits[1 - place]]
        assert self.module[other] == option.module, "the copy is where the other end is"
        there = option.module in self.copies[key]
        if not there and len(uses) > 1:
            there = self._shared(key, option.module)
        assert uses.popleft() == at
        if there:
            copy = self.copies[key][option.module].block
            self._add(each, *((copy, other) if place == 0 else (other, copy)))
        else:
            self._directly(each, key, option.module, place, other)
        self._prune(key)

    def _directly(self, each: Operation, key: Run, module: int, place: int, other: int) -> None:
        """By a pair of its own, from the last module before the one where the other end is."""
        path = self.room.path([self._home(key), *self.copies[key]], module)
        if len(path) > 1 and not self._shared(key, path[-2]):
            raise NoRoom(f"no place for a copy in {self.room.names[path[-2]]}")
        near = self._block(key, self._closest(key, module))
        condition = each.condition
        self.pairs["direct"] += 1
        if each.name == "cz":
            self._gate("h", other)
            self.made.append(Operation("cx", (near, other), (), (), condition, each.at))
            self._gate("h", other)
        else:
            ends = (near, other) if place == 0 else (other, near)
            self.made.append(Operation("cx", ends, (), (), condition, each.at))

    def _home(self, key: Run) -> int:
        return self.module[self.where[key[0].qubit]]

    def _closest(self, key: Run, module: int) -> int:
        return min(
            [self._home(key), *self.copies[key]], key=lambda m: (self.room.hops[m][module], m)
        )

    def _block(self, key: Run, module: int) -> int:
        """Of the copy in the module, or of the qubit itself where that is its home."""
        if module == self._home(key):
            return self.where[key[0].qubit]
        return self.copies[key][module].block

    def _shared(self, key: Run, module: int) -> bool:
        """Have a copy in the module, by way of those between; whether there is a place for all."""
        here = self._closest(key, module)
        for there in self.room.path([here], module):
            block = self._take(there, key)
            if block is None:
                return False
            self._copy(key, here, there, block)
            here = there
        return True

    def _copy(self, key: Run, here: int, there: int, block: int) -> None:
        source = self._block(key, here)
        if block in self.dirty:
            self._gate("reset", block)
        self.dirty.add(block)
        if key[0].basis == Z:
            self._gate("cx", source, block)
        else:
            self._gate("h", block)
            self._gate("cx", block, source)
        self.pairs["copies"] += 1
        self.copies[key][there] = _Copy(block, here)
        self.open_of[key[0].qubit].add(key)
        self.in_module[there].add(key)

    def _echo(self, each: Operation) -> None:
        (qubit,) = each.qubits
        for key in sorted(self.open_of[qubit]):
            basis = key[0].basis
            if each.name in _ECHOED[basis]:
                for _, copy in sorted(self.copies[key].items()):
                    self.made.append(
                        Operation(_ECHO[basis], (copy.block,), (), (), each.condition, each.at)
                    )

    # --- places -----------------------------------------------------------------------------------

    def _take(self, module: int, busy: Run | None) -> int | None:
        """A block of the module that holds nothing; None where there is none to be had."""
        if not self.spare[module] and self.held[module] >= self.room.slots[module]:
            self._evict(module, busy)
        if self.spare[module]:
            return self.spare[module].pop()
        if self.held[module] >= self.room.slots[module]:
            return None
        self.held[module] += 1
        self.module.append(module)
        return len(self.module) - 1

    def _evict(self, module: int, busy: Run | None) -> None:
        """Measure away the copy there whose next use is the farthest, if any can be."""
        idle = [
            key
            for key in self.in_module[module]
            if key != busy and all(each.parent != module for each in self.copies[key].values())
        ]
        if idle:
            self._measure_away(max(idle, key=lambda key: (self._next(key, module), key)), module)

    def _next(self, key: Run, module: int) -> int:
        uses = self.uses[key].get(module)
        return uses[0] if uses else len(self.flow.circuit.operations)

    def _prune(self, key: Run) -> None:
        """Measure away what serves nothing any more, leaves first."""
        copies = self.copies[key]
        while True:
            parents = {each.parent for each in copies.values()}
            done = [m for m in copies if m not in parents and not self.uses[key].get(m)]
            if not done:
                return
            for module in sorted(done):
                self._measure_away(key, module)

    def _measure_away(self, key: Run, module: int) -> None:
        copy = self.copies[key].pop(module)
        self.in_module[module].discard(key)
        if not self.copies[key]:
            self.open_of[key[0].qubit].discard(key)
        measure, correction = ("measure_x", "z") if key[0].basis == Z else ("measure", "x")
        bit = self.flow.circuit.bit_count + self.bits
        self.bits += 1
        self.made.append(Operation(measure, (copy.block,), (), (bit,)))
        qubit = self.where[key[0].qubit]
        self.made.append(Operation(correction, (qubit,), (), (), bit_is(bit)))
        # What was copied from a measured copy's sisters is not touched: the correction of one
        # qubit of a cat state serves them all.
        self.spare[module].append(copy.block)

    def _move(self, row: Iterable[int]) -> None:
        """Have every qubit where the row says, those first that find a place."""
        waiting = {
            qubit: end
            for qubit, end in enumerate(row)
            if qubit in self.active and self.module[self.where[qubit]] != end
        }
        while waiting:
            moved = [qubit for qubit, end in waiting.items() if self._step(qubit, end)]
            if not moved:
                raise NoRoom("qubits that change places leave none free for the first")
            for qubit in moved:
                if self.module[self.where[qubit]] == waiting[qubit]:
                    del waiting[qubit]

    def _step(self, qubit: int, end: int) -> bool:
        """Move it over one link; whether there was a place."""
        source = self.where[qubit]
        here = self.module[source]
        if self.room.hops[here][end] >= FAR:
            return False
        there = self.room.onward[here][end]
        block = self._take(there, None)
        if block is None:
            return False
        self._gate("swap", source, block)
        self.pairs["moved"] += 1
        self.dirty |= {source, block}
        self.where[qubit] = block
        self.spare[here].append(source)
        return True

    # --- the whole --------------------------------------------------------------------------------

    def _written(self) -> Written:
        """Spare blocks in a register for each module, behind the qubits of the source."""
        source = self.flow.circuit
        added = range(self.width, len(self.module))
        by_module = sorted(added, key=lambda block: (self.module[block], block))
        number = {block: self.width + at for at, block in enumerate(by_module)}
        number |= {qubit: qubit for qubit in range(self.width)}
        taken = {each.name for each in (*source.qubits, *source.bits)}
        sizes = Counter(self.module[block] for block in by_module)
        spares = []
        for module, size in sorted(sizes.items()):
            name = _unlike(f"spare_{self.room.names[module]}", taken)
            taken.add(name)
            spares.append(Register(name, size))
        hidden = [Register(_unlike("copies", taken), self.bits, hidden=True)] if self.bits else []
        operations = [
            msgspec.structs.replace(each, qubits=tuple(number[block] for block in each.qubits))
            for each in self.made
        ]
        return Written(
            circuit=msgspec.structs.replace(
                source.with_operations(operations),
                qubits=(*source.qubits, *spares),
                bits=(*source.bits, *hidden),
            ),
            modules=(*self.module[: self.width], *(self.module[block] for block in by_module)),
            copies=self.pairs["copies"],
            direct=self.pairs["direct"],
            moved=self.pairs["moved"],
        )


def _unlike(name: str, taken: Iterable[str]) -> str:
    while name in taken:
        name += "_"
    return name
