"""The blocks of an LLVM function: where each instruction stands, and where ways meet again.

Of the module itself, not of what it means; `qir.py` carries it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyqir

from runtime.jit.circuit import Position


class Places:
    """Where each instruction stands in the text.

    LLVM tells no positions, but instructions stand in the text in their own order, one in a line:
    a call is in the next line that names the function, any other where it is written out.
    """

    def __init__(self, lines: Sequence[str], file: str) -> None:
        self._lines = [line.strip() for line in lines]
        self._file = file

    def of(self, function: pyqir.Function) -> dict[Any, Position]:
        """The position of each instruction of a function."""
        at = next(
            (
                number
                for number, line in enumerate(self._lines)
                if line.startswith("define") and f"@{function.name}(" in line.replace('"', "")
            ),
            len(self._lines),
        )
        found = {}
        for block in function.basic_blocks:
            for each in block.instructions:
                construct = str(each).strip()
                key = f"@{each.callee.name}(" if isinstance(each, pyqir.Call) else construct
                place = self._next(key, at)
                at = at if place is None else place
                found[each] = Position(
                    self._file, 0 if place is None else place + 1, 0, construct.splitlines()[0]
                )
        return found

    def _next(self, key: str, after: int) -> int | None:
        for number in range(after + 1, len(self._lines)):
            if key in self._lines[number]:
                return number
            if self._lines[number] == "}":
                return None
        return None


class Frame:
    """One function: its blocks' instructions, where ways through it meet, and a call's values."""

    def __init__(self, function: pyqir.Function, places: Places) -> None:
        self.blocks = list(function.basic_blocks)
        self.at = places.of(function)
        self.code = {block: list(block.instructions) for block in self.blocks}
        self.meets = _meets(self.blocks)


def _meets(blocks: Sequence[Any]) -> dict[Any, Any]:
    """Of each block the first that every way from it to the end passes; None for the end itself.

    Immediate postdominators, after Cooper, Harvey and Kennedy, "A Simple, Fast Dominance
    Algorithm", on the blocks backwards.
    """
    order: list[Any] = []
    seen = set()
    stack = [(blocks[0], iter(blocks[0].terminator.successors))]
    seen.add(blocks[0])
    while stack:
        block, rest = stack[-1]
        following = next((each for each in rest if each not in seen), None)
        if following is None:
            order.append(block)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(following.terminator.successors)))
    rank = {block: place for place, block in enumerate(order)} | {None: -1}
    found: dict[Any, Any] = {None: None}

    def meet(one: Any, other: Any) -> Any:
        while one != other:
            while rank[one] > rank[other]:
                one = found[one]
            while rank[other] > rank[one]:
                other = found[other]
        return one

    changed = True
    while changed:
        changed = False
        for block in order:
            ways = block.terminator.successors or [None]
            known = [each for each in ways if each in found]
            if not known:
                continue
            new = known[0]
            for each in known[1:]:
                new = meet(new, each)
            if block not in found or found[block] != new:
                found[block] = new
                changed = True
    return found
