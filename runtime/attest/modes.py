"""Crypto modes: which signatures a record is made with, and which it must have to be believed.

The modes stand in an order; where several apply, the strongest does. A record says its own mode
under its signatures, so nobody can weaken it afterwards.

classical: one classical signature. hybrid: a classical and a post-quantum one; who reads it may
say that the classical one is enough for them. pqc-required: both are made, and nobody may do
without the post-quantum one; no bundle with a classical signature alone is made of it.
"""

from __future__ import annotations

from typing import get_args

from runtime.attest.errors import NotMet
from runtime.attest.keys import CLASSICAL, POST_QUANTUM
from syscalls.job import CryptoMode

MODES: tuple[CryptoMode, ...] = get_args(CryptoMode)
DEFAULT: CryptoMode = "hybrid"


def strongest(*modes: CryptoMode | None) -> CryptoMode:
    """Of those that are named; the weakest there is where none is."""
    return max((mode for mode in modes if mode is not None), key=MODES.index, default=MODES[0])


def keys_for(mode: CryptoMode, classical: str, post_quantum: str) -> list[str]:
    """Names of the keys that sign in this mode."""
    return [classical] if mode == "classical" else [classical, post_quantum]


def require(algorithms: set[str], own: CryptoMode, asked: CryptoMode) -> None:
    """Raises NotMet unless verified signatures of these algorithms are enough.

    own: what the record says of itself. asked: by whoever reads it.
    """
    if MODES.index(asked) > MODES.index(own):
        raise NotMet(f"It is signed in mode {own}, and {asked} is asked for.")
    post_quantum = own == "pqc-required" or asked != "classical"
    if post_quantum and not algorithms & POST_QUANTUM:
        raise NotMet("It has no post-quantum signature, which its mode or yours needs.")
    if asked == "hybrid" and not algorithms & CLASSICAL:
        raise NotMet("It has no classical signature, which mode hybrid needs.")


assert MODES == ("classical", "hybrid", "pqc-required"), "from the weakest to the strongest"
