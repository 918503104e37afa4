"""Gates that nobody can see: on qubits whose value is known, and phases before measurements.

All qubits begin in |0>, so a gate controlled by one that is still known to be 0 does nothing; and
what is diagonal has no effect on what is measured in Z right behind it, nor on what is left of the
state but for a phase. One pass forwards and one backwards, exact, linear in gates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from runtime.jit.circuit import ORDERS, Operation
from runtime.jit.gates import GATES

CONTROLLED: Final = {
    "cx": "x", "cy": "y", "cz": "z", "ch": "h", "cs": "s", "csdg": "sdg", "csx": "sx",
    "csxdg": "sxdg", "cp": "p", "crx": "rx", "cry": "ry", "crz": "rz", "ccx": "cx", "ccz": "cz",
    "cswap": "swap",
}  # fmt: skip
"""What each gate does to the others where its first qubit is 1."""
DIAGONAL: Final = frozenset({
    "id", "z", "s", "sdg", "t", "tdg", "rz", "p", "cz", "cs", "csdg", "cp", "crz", "rzz", "ccz",
})  # fmt: skip
PERMUTING: Final = frozenset({"x", "y", "cx", "cy", "swap", "iswap", "iswapdg", "ccx", "cswap"})
"""They take basis states to basis states, but for phases."""
_EVEN: Final = {"ccx": 2, "cz": 2, "cs": 2, "csdg": 2, "cp": 2, "ccz": 3}
"""How many of the first qubits may change places with one another."""

assert {*CONTROLLED, *DIAGONAL, *PERMUTING, *_EVEN} <= set(GATES)


def without_unseen(operations: Sequence[Operation]) -> list[Operation]:
    """The operations without the gates whose effect no measurement can tell.

    They begin a circuit: every qubit is in |0>. Up to a global phase in every branch.
    """
    made = list(_forwards(operations))
    return list(reversed(list(_backwards(made))))


def _forwards(operations: Sequence[Operation]) -> Iterator[Operation]:
    """The operations, simplified by what is known of each qubit: 0, 1 or None for nothing."""
    known: dict[int, int | None] = {}
    for given in operations:
        each = _simpler(given, known)
        if each is None:
            continue
        yield each
        if each.name not in GATES:
            if each.name == "reset" and each.condition is None:
                known[each.qubits[0]] = 0
            elif each.name != "measure" and each.name not in ORDERS:
                known.update(dict.fromkeys(each.qubits))
        elif each.name in ("x", "y") and each.condition is None:
            value = known.get(each.qubits[0], 0)
            known[each.qubits[0]] = None if value is None else 1 - value
        elif each.name == "swap" and each.condition is None:
            one, other = each.qubits
            known[one], known[other] = known.get(other, 0), known.get(one, 0)
        elif each.name == "cx":
            known[each.qubits[1]] = None
        elif each.name not in DIAGONAL:
            known.update(dict.fromkeys(each.qubits))


def _simpler(each: Operation, known: dict[int, int | None]) -> Operation | None:
    """The operation without controls whose value is known; None where nothing is left of it."""
    while each.name in CONTROLLED:
        even = _EVEN.get(each.name, 1)
        found = next((q for q in each.qubits[:even] if known.get(q, 0) is not None), None)
        if found is None:
            return each
        if known.get(found, 0) == 0:
            return None
        rest = tuple(q for q in each.qubits if q != found)
        each = msgspec.structs.replace(each, name=CONTROLLED[each.name], qubits=rest)
    if each.name in DIAGONAL and all(known.get(q, 0) is not None for q in each.qubits):
        return None
    return each


def _backwards(operations: Sequence[Operation]) -> Iterator[Operation]:
    """The operations, last first, without what is diagonal and then measured in Z or reset."""
    # Qubits of which only the value in Z counts from here on.
    plain: set[int] = set()
    for each in reversed(operations):
        if each.name in DIAGONAL:
            if plain.issuperset(each.qubits):
                continue
        elif each.name in ("measure", "reset"):
            if each.condition is None:
                plain.update(each.qubits)
            else:
                plain.difference_update(each.qubits)
        elif each.name == "cx" and not plain.issuperset(each.qubits):
            plain.discard(each.qubits[1])
        elif each.name in ORDERS or (each.name in PERMUTING and plain.issuperset(each.qubits)):
            pass
        else:
            plain.difference_update(each.qubits)
        yield each
