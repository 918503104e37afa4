"""The engines by name, and how a program is compiled for a choice of them.

`choose.py` says which engines suit which parts, and costs no numerics; here are the makers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from qmkd.engine import dense, frames, groups, magic
from qmkd.engine.batch import Builder, Form, Maker
from qmkd.engine.choose import DENSE, FRAMES, GROUPS, MAGIC, TABLEAU, pick
from qmkd.engine.prepared import Compiler, Unable
from qvm.parts import Shape

__all__ = ["MAGIC", "MAKERS", "TABLEAU", "compiler"]

Suits = Callable[[Shape], bool]
Make = Callable[[Builder, Shape, int], Maker]

MAKERS: Final[dict[str, tuple[Suits, Make]]] = {
    FRAMES: (frames.suits, frames.Maker),
    GROUPS: (groups.suits, groups.Maker),
    DENSE: (dense.suits, dense.Maker),
    MAGIC: (magic.suits, magic.Maker),
}
"""Which parts an engine can run, and its maker; in order of preference."""


@lru_cache(maxsize=64)
def compiler(engine: str) -> Compiler[Form]:
    """What compiles for one engine, or for several joined by "+": each part for the one that the
    planner picks if it is among them, else for the first of MAKERS among them that suits it.

    Raises `Unable` where there is no such engine.
    """
    names = engine.split("+")
    for name in names:
        if name not in MAKERS:
            raise Unable(f"there is no engine {name!r}; there are {', '.join((TABLEAU, *MAKERS))}")

    def choose(shape: Shape) -> Make:
        for name in (pick(shape), *MAKERS):
            if name in names:
                suits, make = MAKERS[name]
                if suits(shape):
                    return make
        raise Unable(f"{engine} cannot run a part of {shape.qubits} qubits: {shape}")

    return lambda program, noise, poll: Form(program, noise, choose, poll)
