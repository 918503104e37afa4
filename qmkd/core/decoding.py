"""What decoders did for the slices of a job, put together: the same for any cut into slices."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Final

from syscalls.decoding import DecoderFigures

MOST: Final = "_most"
"""Ends the names of figures of which the most counts; the others add up."""


def decoders_together(
    one: DecoderFigures | None, other: DecoderFigures | None
) -> DecoderFigures | None:
    """The figures of both; None where there are none."""
    if one is None or other is None:
        return one or other
    together: dict[str, Any] = {}
    for name in DecoderFigures.__struct_fields__:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, list):
            together[name] = [x + y for x, y in zip_longest(a, b, fillvalue=0)]
        else:
            together[name] = max(a, b) if name.endswith(MOST) else a + b
    return DecoderFigures(**together)
