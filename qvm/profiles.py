"""Logical-qubit profiles: the names a program may ask for, and what they cost.

A profile is written `logical:NAME(d=N)`. Names are case-insensitive. A code that has no such
distance takes the next one it has. Footprints count data and ancilla qubits; the codes themselves
live in the kernel's numerics, not here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

DISTANCE_MAX: Final = 99
PROFILE_CHARS_MAX: Final = 64
PROFILES_CACHED_MAX: Final = 1024
SHYPS_DISTANCES: Final = (2, 4, 8, 16)
"""SHYPS exists at d = 2^(r-1) for r >= 2, with parameters [[(2^r-1)^2, r^2, 2^(r-1)]].

Malcolm et al., arXiv:2502.07150, section 2: (2^r-1)^2 physical and r^2 logical qubits a block.
"""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A profile that exists.

    asked: the text of the program. code: canonical name. asked_distance and distance: 0 for ideal.
    block: logical qubits that one block holds. block_physical: physical qubits of one block.
    """

    asked: str
    code: str
    asked_distance: int
    distance: int
    block: int
    block_physical: int

    def physical(self, logical: int) -> int:
        """Physical qubits that `logical` qubits of this profile occupy, by whole blocks."""
        return -(-logical // self.block) * self.block_physical


def with_distance(text: str, distance: int) -> str:
    """The same profile at this distance, where it is of a code and names none."""
    match = _TEXT.fullmatch(text.strip())
    coded = match is not None and _NAMES.get(match[1].lower(), "ideal") != "ideal"
    if match is None or not coded or (match[2] or "").strip():
        return text
    return f"{text.partition('(')[0].strip()}(d={distance})"


_TEXT = re.compile(r"(?:logical:)?([A-Za-z][A-Za-z_]*)(?:\(([^()]*)\))?")
_NAMES: Final = {
    "ideal": "ideal",
    "surface": "Surface",
    "surface_code": "Surface",
    "shyps": "SHYPS",
    "baconshor": "BaconShor",
    "bacon_shor": "BaconShor",
}
NAMES: Final = ("Surface", "surface_code", "SHYPS", "BaconShor", "bacon_shor", "ideal")


def parse_profile(text: str) -> Profile | str:
    """The profile that `text` names, or one sentence saying why there is none."""
    if len(text) > PROFILE_CHARS_MAX:
        return f"a profile has at most {PROFILE_CHARS_MAX} characters"
    return _parse(text)


# Bounded: tenants choose the texts.
@lru_cache(maxsize=PROFILES_CACHED_MAX)
def _parse(text: str) -> Profile | str:
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        return "a profile is written logical:NAME(d=N)"
    code = _NAMES.get(match[1].lower())
    if code is None:
        return f"no code is named {match[1]!r}; there are {', '.join(NAMES)}"
    options = _options(match[2])
    if isinstance(options, str):
        return options
    if code == "ideal":
        if options:
            return "the ideal profile has no options"
        return Profile(
            asked=text, code=code, asked_distance=0, distance=0, block=1, block_physical=1
        )
    asked = options.get("d")
    if asked is None:
        return f"{code} needs a code distance, as in logical:{code}(d=9)"
    if not 2 <= asked <= DISTANCE_MAX:
        return f"code distance {asked} is outside 2..{DISTANCE_MAX}"
    return _sized(text, code, asked)


def _options(text: str | None) -> dict[str, int] | str:
    found: dict[str, int] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        name, value = name.strip().lower(), value.strip()
        if name != "d" or not equals:
            return f"unknown profile option {part.strip()!r}; there is d=N"
        if name in found:
            return "d is given twice"
        if not (value.isascii() and value.isdigit() and len(value) <= 4):
            return f"d={value} is not a whole number"
        found[name] = int(value)
    return found


def at_distance(profile: Profile, distance: int) -> Profile:
    """The profile of the same text as if it named this distance, which its code has."""
    sized = _sized(profile.asked, profile.code, distance)
    assert isinstance(sized, Profile)
    return sized


def _sized(text: str, code: str, asked: int) -> Profile | str:
    distance, block = asked, 1
    if code == "SHYPS":
        larger = [d for d in SHYPS_DISTANCES if d >= asked]
        if not larger:
            return f"SHYPS has no distance of {asked} or more; the largest is {SHYPS_DISTANCES[-1]}"
        distance = larger[0]
        rank = distance.bit_length()
        block, data = rank**2, (2**rank - 1) ** 2
        physical = 3 * data  # Data, one ancilla per X gauge and one per Z gauge.
    elif code == "Surface":
        physical = 2 * distance**2 - 1  # Data d^2, and d^2 - 1 ancillas (rotated code).
    else:
        physical = distance**2 + 2 * distance * (distance - 1)  # Data, one ancilla per gauge pair.
    return Profile(
        asked=text,
        code=code,
        asked_distance=asked,
        distance=distance,
        block=block,
        block_physical=physical,
    )
