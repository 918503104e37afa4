"""Stabilizers that all groups of `frames.py` have in common, up to sign.

Groups come from one state and part ways only at guarded operations, each of which takes a
stabilizer or two from what they share. What is left answers two questions without looking at any
group: which Pauli leads from one outcome of a random measurement to the other, in every group
alike; and whether groups may have become the same again. It never knows signs, nor all that groups
share. Generators are columns: bit g of `x[slot]` and `z[slot]`, Python ints, is generator g.
"""

from __future__ import annotations

from typing import Any, Final

import stim

Moves = tuple[tuple[str, int, int], ...]
Support = tuple[tuple[int, ...], tuple[int, ...]]
"""Where a Pauli has an X part, and where a Z part."""

PAIRS: Final = frozenset({"CX", "CZ", "SWAP"})


def carry(x: list[Any], z: list[Any], moves: Moves) -> None:
    """Carry rows of Paulis, `x[slot]` and `z[slot]`, through gates, up to sign.

    A row is bits, one per Pauli, or None for zeros. Rows are never changed in place.
    """
    for gate, one, two in moves:
        if gate == "CX":
            if (row := x[one]) is not None:
                old = x[two]
                x[two] = row if old is None else old ^ row
            if (row := z[two]) is not None:
                old = z[one]
                z[one] = row if old is None else old ^ row
        elif gate == "H":
            x[one], z[one] = z[one], x[one]
        elif gate == "S":
            if (row := x[one]) is not None:
                old = z[one]
                z[one] = row if old is None else old ^ row
        elif gate == "CZ":
            if (row := x[one]) is not None:
                old = z[two]
                z[two] = row if old is None else old ^ row
            if (row := x[two]) is not None:
                old = z[one]
                z[one] = row if old is None else old ^ row
        elif gate == "H_YZ":
            if (row := z[one]) is not None:
                old = x[one]
                x[one] = row if old is None else old ^ row
        else:
            assert gate == "SWAP", gate
            x[one], x[two] = x[two], x[one]
            z[one], z[two] = z[two], z[one]


class Common:
    """A subgroup of the stabilizers of every group."""

    def __init__(self, sim: stim.TableauSimulator) -> None:
        """All stabilizers of the one group that there is."""
        # Row s of the inverse's z2x is column s of the tableau's own; its x2x, of the z2z.
        x2x, _, z2x, _, _, _ = sim.current_inverse_tableau().to_numpy(bit_packed=True)
        self.x = [int.from_bytes(row.tobytes(), "little") for row in z2x]
        self.z = [int.from_bytes(row.tobytes(), "little") for row in x2x]
        self._free = 0

    def move(self, moves: Moves) -> None:
        """All groups go through these gates."""
        carry(self.x, self.z, moves)

    def kick(self, qubit: int) -> Support | None:
        """A common stabilizer that anticommutes with Z of `qubit`; then no group is certain of it.

        None where there is none, which says nothing about the groups.
        """
        there = self.x[qubit]
        there &= -there
        if not there:
            return None
        xs = tuple(slot for slot, row in enumerate(self.x) if row & there)
        return xs, tuple(slot for slot, row in enumerate(self.z) if row & there)

    def project(self, qubit: int, everywhere: bool) -> None:
        """Z of `qubit` was measured in some groups, or in every group."""
        self._keep(self.x[qubit])
        new = self._free & -self._free
        if everywhere and new:
            self._free ^= new
            self.z[qubit] |= new

    def restrict(self, gate: str, one: int, two: int) -> bool:
        """Some groups, not all, go through this gate. Returns whether there is less in common."""
        least = self._free
        if gate == "H":  # leaves I and Y
            self._keep(self.x[one] ^ self.z[one])
        elif gate == "S":  # leaves I and Z
            self._keep(self.x[one])
        elif gate == "CX":
            self._keep(self.x[one])
            self._keep(self.z[two])
        elif gate == "CZ":
            self._keep(self.x[one])
            self._keep(self.x[two])
        else:
            assert gate == "SWAP", gate
            self._keep(self.x[one] ^ self.x[two])
            self._keep(self.z[one] ^ self.z[two])
        return self._free != least

    def _keep(self, against: int) -> None:
        """Keep products of an even number of the generators in `against`."""
        if not against:
            return
        pivot = against & -against
        for rows in (self.x, self.z):
            for slot, row in enumerate(rows):
                if row & pivot:
                    rows[slot] = row ^ against
        self._free |= pivot
