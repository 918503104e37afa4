"""Which qubits can be entangled with which: a program falls into parts that never touch.

A qubit's life begins where it is fresh, |0> and entangled with nothing (ALLOC_LQ, an unguarded
RESET or INJECT_T_STATE), and ends where the next begins. Lives that some operation on several
qubits brings together belong to one part. Parts share nothing but classical events, so each may be
run by the engine that suits it.
"""

from __future__ import annotations


class Lives:
    """Union-find over lives, numbered in the order in which they begin."""

    def __init__(self) -> None:
        self._parent: list[int] = []

    def __len__(self) -> int:
        return len(self._parent)

    def begin(self) -> int:
        """A new life, by itself."""
        self._parent.append(len(self._parent))
        return len(self._parent) - 1

    def root(self, life: int) -> int:
        """The representative of its part so far."""
        parent = self._parent
        while parent[life] != life:
            parent[life] = parent[parent[life]]
            life = parent[life]
        return life

    def join(self, one: int, two: int) -> None:
        """Both are of one part from the start. The older representative stays."""
        one, two = self.root(one), self.root(two)
        if one != two:
            self._parent[max(one, two)] = min(one, two)
