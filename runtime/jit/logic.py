"""Truth functions of measured events, and how QVM's guards say them.

A classical bit of a circuit is a function of the events measured so far. Functions are ordered
binary decision diagrams (Bryant, IEEE Trans. Comput. C-35, 677, 1986) with the newest event at the
top, so that equal functions are equal numbers. An event is true where its measurement ran and gave
1. A guard can only compare: an event that did not run is equal to neither 0 nor 1. `cubes` minds
that. Knows nothing of qubits; read `emit.py` next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

FALSE: Final = 0
TRUE: Final = 1

Cube = tuple[tuple[int, int], ...]
"""Tests (event, value) of which all hold, newest event first."""


class TooRich(Exception):
    """A function takes more comparisons than are allowed."""


class Logic:
    """All functions made so far. A function is a number; FALSE and TRUE are 0 and 1.

    runs: of every event the function that tells whether its measurement is carried out, itself over
    earlier events.
    """

    def __init__(self) -> None:
        self._nodes: list[tuple[int, int, int]] = [(-1, 0, 0), (-1, 1, 1)]
        self._numbers: dict[tuple[int, int, int], int] = {}
        self._chosen: dict[tuple[int, int, int], int] = {}
        self.runs: list[int] = []

    def event(self, runs: int = TRUE) -> int:
        """A new event, measured where `runs` holds: its number."""
        assert runs != FALSE, "a measurement that never runs is left out"
        self.runs.append(runs)
        return len(self.runs) - 1

    def true(self, event: int) -> int:
        """The function of being 1."""
        return self._node(event, FALSE, TRUE)

    def _node(self, event: int, low: int, high: int) -> int:
        if low == high:
            return low
        key = (event, low, high)
        if key not in self._numbers:
            self._numbers[key] = len(self._nodes)
            self._nodes.append(key)
        return self._numbers[key]

    def choose(self, test: int, then: int, otherwise: int) -> int:
        """`then` where `test` holds, else `otherwise`."""
        first = (test, then, otherwise)
        # A stack of its own, for a function of a wide register is deeper than Python recurses.
        open_ = [first]
        while open_:
            key = open_[-1]
            if self._found(key) is not None:
                open_.pop()
                continue
            event = max(self._nodes[each][0] for each in key)
            halves = [self._half(key, event, side) for side in (1, 2)]
            low, high = (self._found(half) for half in halves)
            if low is None or high is None:
                open_ += [half for half in halves if self._found(half) is None]
            else:
                self._chosen[open_.pop()] = self._node(event, low, high)
        found = self._found(first)
        assert found is not None, "the stack ends with it"
        return found

    def _found(self, key: tuple[int, int, int]) -> int | None:
        """What a choice is, where that is known already."""
        test, then, otherwise = key
        if test == TRUE or then == otherwise:
            return then
        if test == FALSE:
            return otherwise
        if (then, otherwise) == (TRUE, FALSE):
            return test
        return self._chosen.get(key)

    def _half(self, key: tuple[int, int, int], event: int, side: int) -> tuple[int, int, int]:
        test, then, otherwise = key
        return (
            self._branch(test, event, side),
            self._branch(then, event, side),
            self._branch(otherwise, event, side),
        )

    def _branch(self, function: int, event: int, side: int) -> int:
        node = self._nodes[function]
        return node[side] if node[0] == event else function

    def negation(self, function: int) -> int:
        return self.choose(function, FALSE, TRUE)

    def both(self, one: int, other: int) -> int:
        return self.choose(one, other, FALSE)

    def join(self, how: str, functions: Sequence[int]) -> int:
        """`and`, `or` or `xor` of them all."""
        whole = TRUE if how == "and" else FALSE
        for each in functions:
            if how == "and":
                whole = self.choose(each, whole, FALSE)
            elif how == "or":
                whole = self.choose(each, TRUE, whole)
            else:
                whole = self.choose(each, self.negation(whole), whole)
        return whole

    def parity(self, function: int) -> tuple[list[int], int] | None:
        """The events whose XOR it is, and what is added to that; None where it is no XOR."""
        events = []
        while function > TRUE:
            event, low, high = self._nodes[function]
            if high != self.negation(low):
                return None
            events.append(event)
            function = low
        return events[::-1], function

    def cubes(self, function: int, most: int) -> list[Cube]:
        """Cubes of which exactly one holds where the function does, and none where it does not.

        Raises TooRich where that takes more than `most`.
        """
        found = []
        for cube in self._cubes(function):
            found.append(cube)
            if len(found) > most:
                raise TooRich
        return found

    def _cubes(self, function: int) -> Iterator[Cube]:
        open_: list[tuple[int, Cube]] = [(function, ())]
        while open_:
            function, tests = open_.pop()
            if function == FALSE:
                continue
            if function == TRUE:
                yield tests
                continue
            event, low, high = self._nodes[function]
            runs = self.runs[event]
            # Where the measurement did not run there is nothing to compare, and it is false.
            open_ += [
                (self.both(high, runs), (*tests, (event, 1))),
                (self.both(low, runs), (*tests, (event, 0))),
                (self.both(low, self.negation(runs)), tests),
            ]

    def any_of(self, function: int) -> Cube | None:
        """Tests of which at least one holds where the function does; None where that is not it."""
        tests: list[tuple[int, int]] = []
        while function > TRUE:
            event, low, high = self._nodes[function]
            if high == TRUE:
                tests.append((event, 1))
                function = low
            elif low == TRUE and self.runs[event] == TRUE:
                tests.append((event, 0))
                function = high
            else:
                return None
        return tuple(tests) if function == FALSE else None
