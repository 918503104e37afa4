"""A store that one source fills at a steady pace and a program empties as it goes.

The recursion is Lindley's (Proc. Camb. Phil. Soc. 48, 277 (1952)) with a bound on what is stored.
It knows neither factories nor links: `model.py` and `runtime/jit/placing/links.py` say what the
items are.
"""

from __future__ import annotations

from collections.abc import Sequence


def taken(due: Sequence[float], interval: float, store: int | None = None) -> list[float]:
    """When each item is taken by a program that takes them in order and stands still till it can.

    due: ascending, when each would be taken if all were there. interval: between two items of the
    source, which begins with an empty store at 0. store: items that are ready or being made at one
    time; None for any number. What is waited for one item delays all later ones.
    """
    assert interval >= 0
    assert store is None or store >= 1
    found: list[float] = []
    ready = delay = 0.0
    for at, when in enumerate(due):
        room = found[at - store] if store is not None and at >= store else 0.0
        ready = max(ready, room) + interval
        now = max(when + delay, ready)
        delay = now - when
        found.append(now)
    return found


def waited(due: Sequence[float], interval: float, store: int | None = None) -> float:
    """How much longer the program takes than if all items were there."""
    return taken(due, interval, store)[-1] - due[-1] if due else 0.0
