"""What a program measured, as the registers of the circuit it was made from.

`emit.py` writes into a graph's metadata how each classical bit follows from events. Here counts by
event become counts by register. Nothing is drawn or rounded: the sums are those of the counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from qvm.program import Graph

Number = TypeVar("Number", int, float)


def register_counts(graph: Graph, counts: Mapping[str, Number]) -> dict[str, Number]:
    """Counts (or probabilities) by the registers' bits.

    counts: keyed as on the wire, one character per declared event, `-` where it did not run.
    Returns keys with one word per register, the first register first, and in each word bit 0 last,
    so that it reads as a binary number; sorted.
    """
    assert isinstance(graph.metadata, dict), "emitted"
    registers = graph.metadata["registers"]
    columns = {name: at for at, name in enumerate(graph.resources.events)}
    found: dict[str, Number] = {}
    for key, number in counts.items():
        words = " ".join(_word(register, key, columns) for register in registers)
        found[words] = found[words] + number if words in found else number
    return dict(sorted(found.items()))


def _word(register: Mapping[str, Any], key: str, columns: Mapping[str, int]) -> str:
    odd = register.get("bits", {})
    letters = []
    for index in reversed(range(register["size"])):
        told = odd.get(str(index))
        if told is None:
            value = key[columns[f"{register['name']}[{index}]"]] == "1"
        elif "xor" in told:
            value = bool((_ones(told["xor"], key, columns) + told["plus"]) % 2)
        else:
            value = any(
                all(key[columns[event]] == str(wanted) for event, wanted in cube)
                for cube in told["any"]
            )
        letters.append("01"[value])
    return "".join(letters)


def _ones(events: Sequence[str], key: str, columns: Mapping[str, int]) -> int:
    return sum(key[columns[event]] == "1" for event in events)
