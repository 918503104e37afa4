"""What a QIR program records, as registers."""

from __future__ import annotations

from typing import Any

from runtime.jit.circuit import Condition


class Outputs:
    """What was recorded, as registers: their labels and the conditions of their bits.

    The results and truth values of one array or tuple that follow one another are one register, as
    are those that stand outside of any and follow one another.
    """

    def __init__(self) -> None:
        self.found: list[tuple[str, list[Condition]]] = []
        self._containers: list[
            list[Any]
        ] = []  # items still to come, label, joins the last register
        self._outside = False

    def open(self, label: str, items: int) -> None:
        if items:
            self._containers.append([items, label, False])
        self._closed()

    def item(self, label: str, bits: list[Condition] | None, *, together: bool = False) -> None:
        """One item of the innermost container; `bits` is None where it is a container itself."""
        inside = self._containers[-1] if self._containers else None
        joins = inside[2] if inside else self._outside
        if bits is not None and together and joins:
            self.found[-1][1].extend(bits)
        elif bits is not None:
            self.found.append(((inside[1] if inside and together else "") or label, bits))
        if inside:
            inside[0] -= 1
            inside[2] = together
        else:
            self._outside = together
        if bits is not None:
            self._closed()

    def _closed(self) -> None:
        while self._containers and not self._containers[-1][0]:
            self._containers.pop()

    def registers(self) -> list[tuple[str, list[Condition]]]:
        """By names that differ: the label where it is an identifier, else `output` and a number."""
        names: list[str] = []
        for number, (label, _) in enumerate(self.found):
            plain = label.isidentifier() and label.isascii() and label not in ("m", *names)
            names.append(label if plain else f"output{number}")
        return [(name, bits) for name, (_, bits) in zip(names, self.found, strict=True)]
