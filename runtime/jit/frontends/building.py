"""What front ends build a circuit with: operations under conditions, and reckoning with bits.

Values that are known only when the program runs are made of truths. A truth is True, False, or a
condition over bits; what takes more than one condition is assigned to a hidden bit first, which
costs no operation of the machine. Hidden bits are written once, so they can be read at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from runtime.jit.angles import ZERO, Angle
from runtime.jit.circuit import (
    FALSE,
    NOWHERE,
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
"""That a source may unfold to."""

QUBITS_MAX: Final = 1_000_000
BITS_MAX: Final = 1_000_000
COMPARISONS: Final = ("==", "!=", "<", ">=", ">", "<=")
"""Declared by a source, all registers together."""

Truth = bool | Condition
Word = list[Truth]
"""A number of fixed width, the lowest bit first."""


class Builder:
    """The operations so far. `at` is the place of the source that is being read."""

    def __init__(self, file: str) -> None:
        self.operations: list[Operation] = []
        self.at: Position = NOWHERE._replace(file=file)
        self.phase = ZERO
        self._bits = self._declared = 0
        self._registers: list[Register] = []
        self._qubits: list[Register] = []
        self._hidden: set[int] = set()
        self._frames: list[Condition] = []

    # --- registers --------------------------------------------------------------------------------

    def qubits(self, name: str, size: int) -> range:
        """The numbers of a new register of qubits."""
        first = sum(each.size for each in self._qubits)
        if first + size > QUBITS_MAX:
            raise self.unsupported(f"it declares more than {QUBITS_MAX:,} qubits")
        self._qubits.append(Register(name, size))
        return range(first, first + size)

    def bits(self, name: str, size: int, *, hidden: bool = False) -> range:
        """The numbers of a new register of bits."""
        self._declared += size
        if self._declared > BITS_MAX:
            raise self.unsupported(f"it declares more than {BITS_MAX:,} bits")
        self._registers.append(Register(name, size, hidden))
        self._bits += size
        return range(self._bits - size, self._bits)

    def hidden(self) -> int:
        """A new bit that is read by nobody but the program, and written once."""
        if self._registers and self._registers[-1].name.startswith("~"):
            last = self._registers[-1]
            self._registers[-1] = Register(last.name, last.size + 1, True)
        else:
            self._registers.append(Register(f"~{len(self._registers)}", 1, True))
        self._hidden.add(self._bits)
        self._bits += 1
        return self._bits - 1

    def declared(self, bits: Sequence[int]) -> bool:
        """Whether none of them is hidden."""
        return self._hidden.isdisjoint(bits)

    def circuit(self, name: str = "") -> Circuit:
        """What was built."""
        return Circuit(
            qubits=tuple(self._qubits),
            bits=tuple(self._registers),
            operations=tuple(self.operations),
            phase=self.phase,
            name=name,
        )

    def unsupported(self, why: str) -> Unsupported:
        """The error that names the present place."""
        return Unsupported.at(self.at, why)

    # --- operations -------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        qubits: tuple[int, ...] = (),
        angles: tuple[Angle, ...] = (),
        bits: tuple[int, ...] = (),
    ) -> None:
        """An operation under the conditions that hold here. Operands must differ."""
        if len(qubits) > 1 and len(set(qubits)) != len(qubits):
            raise self.unsupported(f"{name} names a qubit twice")
        condition = self._condition() if self._frames else None
        self._append(Operation(name, qubits, angles, bits, condition, self.at))

    def _append(self, each: Operation) -> None:
        if len(self.operations) >= OPERATIONS_MAX:
            raise self.unsupported(f"it unfolds to more than {OPERATIONS_MAX:,} operations")
        self.operations.append(each)

    def turn(self, phase: Angle) -> None:
        """A global phase. Under a condition that no qubit takes part in, nobody can see it."""
        if not self._frames:
            self.phase += phase

    def assign(self, bit: int, truth: Truth) -> None:
        """Write a bit, under the conditions that hold here."""
        if self._frames:
            here = self._fixed(self._condition())
            truth = self.choose(here, truth, bit_is(bit))
        condition = truth if isinstance(truth, Condition) else (TRUE if truth else FALSE)
        self._append(Operation("assign", bits=(bit,), condition=condition, at=self.at))

    # --- conditions -------------------------------------------------------------------------------

    @property
    def conditional(self) -> bool:
        """Whether what is added now is carried out in some shots only."""
        return bool(self._frames)

    @property
    def depth(self) -> int:
        """How many conditions hold here at once."""
        return len(self._frames)

    @contextmanager
    def where(self, truth: Condition, *, steady: bool = False) -> Iterator[None]:
        """Everything added inside is carried out only where `truth` holds now.

        steady: nothing inside writes the bits that it reads.
        """
        self._frames.append(truth if steady else self._fixed(truth))
        try:
            yield
        finally:
            self._frames.pop()

    def _condition(self) -> Condition:
        if len(self._frames) == 1:
            return self._frames[0]
        whole = self.join("and", self._frames)
        assert isinstance(whole, Condition), "frames are no constants"
        return whole

    def here(self) -> Truth:
        """Whether what is added now would be carried out."""
        return self._fixed(self._condition()) if self._frames else True

    def fixed(self, truth: Truth) -> Truth:
        """The same truth by bits that nobody writes again."""
        return truth if isinstance(truth, bool) else self._fixed(truth)

    def _fixed(self, truth: Condition) -> Condition:
        if all(bit in self._hidden for bit, _ in truth.tests):
            return truth
        return bit_is(self._stored(truth))

    def _stored(self, truth: Condition) -> int:
        bit = self.hidden()
        self._append(Operation("assign", bits=(bit,), condition=truth, at=self.at))
        return bit

    def _test(self, truth: Condition) -> tuple[int, int]:
        """The truth as one bit and the value it then has."""
        if len(truth.tests) == 1:
            ((bit, value),) = truth.tests
            return bit, value
        return self._stored(truth), 1

    # --- reckoning --------------------------------------------------------------------------------

    def negation(self, truth: Truth) -> Truth:
        if isinstance(truth, bool):
            return not truth
        turned = tuple((bit, 1 - value) for bit, value in truth.tests)
        if truth.join == "xor":
            ((bit, value), *rest) = truth.tests
            return Condition("xor", ((bit, 1 - value), *rest))
        return Condition({"and": "or", "or": "and"}[truth.join], turned)

    def join(self, how: str, truths: Sequence[Truth]) -> Truth:
        """`and`, `or` or `xor` of them all."""
        known = [each for each in truths if isinstance(each, bool)]
        open_ = [each for each in truths if not isinstance(each, bool)]
        if how == "xor":
            whole = self._joined(how, open_) if open_ else False
            return self.negation(whole) if sum(known) % 2 else whole
        settling = how == "or"
        if settling in known:
            return settling
        return self._joined(how, open_) if open_ else not settling

    def _joined(self, how: str, truths: Sequence[Condition]) -> Truth:
        tests: dict[int, int] = {}
        odd: list[tuple[int, int]] = []
        for each in truths:
            single = len(each.tests) == 1
            for bit, value in each.tests if single or each.join == how else (self._test(each),):
                if how == "xor":
                    odd.append((bit, value))
                elif tests.setdefault(bit, value) != value:
                    return how == "or"
        if how != "xor":
            return Condition(how, tuple(tests.items()))
        return self._odd(odd)

    def _odd(self, listed: Sequence[tuple[int, int]]) -> Truth:
        flips, bits = 0, dict[int, None]()
        for bit, value in listed:
            flips ^= 1 - value
            if bit in bits:
                del bits[bit]
            else:
                bits[bit] = None
        if not bits:
            return bool(flips)
        first, *rest = bits
        return Condition("xor", ((first, 1 - flips), *((bit, 1) for bit in rest)))

    def choose(self, test: Truth, then: Truth, otherwise: Truth) -> Truth:
        """`then` where `test` holds, else `otherwise`."""
        if isinstance(test, bool):
            return then if test else otherwise
        if then == otherwise:
            return then
        yes = self.join("and", (test, then))
        no = self.join("and", (self.negation(test), otherwise))
        return self.join("or", (yes, no))

    # --- numbers ----------------------------------------------------------------------------------

    def chosen(self, test: Truth, then: Word, otherwise: Word) -> Word:
        return [self.choose(test, a, b) for a, b in zip(then, otherwise, strict=True)]

    def sum(self, one: Word, other: Word, carry: Truth = False) -> Word:
        """Modulo 2^width."""
        found = []
        for a, b in zip(one, other, strict=True):
            half = self.join("xor", (a, b))
            found.append(self.join("xor", (half, carry)))
            carry = self.join("or", (self.join("and", (a, b)), self.join("and", (half, carry))))
        return found

    def difference(self, one: Word, other: Word) -> Word:
        """Modulo 2^width."""
        return self.sum(one, [self.negation(each) for each in other], True)

    def product(self, one: Word, other: Word) -> Word:
        """Modulo 2^width."""
        found: Word = [False for _ in one]
        for place, bit in enumerate(other):
            row: Word = [False for _ in range(place)]
            row += [self.join("and", (bit, each)) for each in one[: len(one) - place]]
            found = self.sum(found, row)
        return found

    def equal(self, one: Word, other: Word) -> Truth:
        alike = [self.negation(self.join("xor", (a, b))) for a, b in zip(one, other, strict=True)]
        return self.join("and", alike)

    def below(self, one: Word, other: Word, *, signed: bool) -> Truth:
        """Whether `one` is less."""
        less: Truth = False
        top = len(one) - 1
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            # Of signed numbers the highest bit counts the other way round.
            low, high = (b, a) if signed and place == top else (a, b)
            less = self.choose(
                self.join("xor", (a, b)), self.join("and", (self.negation(low), high)), less
            )
        return less

    def compared(self, how: str, one: Word, other: Word, *, signed: bool) -> Truth:
        """Whether it is so; `how` is one of COMPARISONS."""
        if how in ("==", "!="):
            found = self.equal(one, other)
        elif how in ("<", ">="):
            found = self.below(one, other, signed=signed)
        else:
            found = self.below(other, one, signed=signed)
        return self.negation(found) if how in ("!=", ">=", "<=") else found


def word_of(value: int, width: int) -> Word:
    """A known number, in two's complement."""
    return [bool(value >> place & 1) for place in range(width)]


def known(word: Sequence[Truth], *, signed: bool = False) -> int | None:
    """The number, where no bit waits for a measurement."""
    if not all(isinstance(each, bool) for each in word):
        return None
    value = sum(1 << place for place, each in enumerate(word) if each)
    return value - (1 << len(word)) if signed and word and word[-1] is True else value
