"""`python -m qmkd.engine rates`: how often codes err, for whoever plans. JSON in, JSON out.

The question names profiles and a physical noise; the answer has, of each, what jobs of `calibrated`
noise suffer (`rates.py`), with intervals, or a sentence why it is not known. User mode may not
import this room and asks here (docs/decisions/0011-estimates.md). Points that a daemon has measured
for itself are not in it. Exit status: 0 an answer was given, a refusal included; 2 the command line
is wrong.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec

from qmkd.engine.prepared import Unable
from qmkd.engine.rates import TableRates, distilled
from qmkd.qec.calibration import Answer
from qmkd.qec.data import calibration
from qmkd.qec.reach import Strength, parse_noise
from qvm.isa import OPS, Kind
from qvm.profiles import parse_profile

QUESTION_BYTES_MAX: Final = 1 << 20
PROFILES_MAX: Final = 1024
_TIMED: Final = tuple(
    name
    for name, op in OPS.items()
    if op.kind in (Kind.UNITARY, Kind.PREPARE, Kind.MEASURE) or name in ("ALLOC_LQ", "FREE_LQ")
)


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """physical_noise: as the daemon's configuration has it. times: how many times as strong it is
    now. profiles: such as `Surface(d=5)`."""

    physical_noise: str
    profiles: list[str]
    times: float = 1.0


def answer(raw: bytes) -> dict[str, Any]:
    """The answer to a `Question` in JSON. Never raises on what a user may write."""
    try:
        question = msgspec.json.decode(raw, type=Question)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return {"refused": f"the question cannot be read: {error}"}
    noise = parse_noise(question.physical_noise)
    if isinstance(noise, str):
        return {"refused": noise}
    if len(question.profiles) > PROFILES_MAX:
        return {"refused": f"{len(question.profiles)} profiles are more than {PROFILES_MAX}"}
    if not 0 < noise.p * question.times < 0.5:
        return {"refused": f"no noise is {question.times:g} times {question.physical_noise}"}
    strength = Strength(noise.model, noise.p * question.times)
    return {"profiles": {text: _profile(text, strength) for text in question.profiles}}


def _profile(text: str, noise: Strength) -> dict[str, Any]:
    profile = parse_profile(text)
    if isinstance(profile, str):
        return {"refused": profile}
    if profile.code == "ideal":
        return {"refused": "the ideal profile never errs"}
    rates = TableRates(calibration(), noise.model, noise.p)
    try:
        known = rates.how(profile)
        injected = rates.injected(profile)
    except Unable as unknown:
        return {"refused": str(unknown)}
    return {
        "memory": rates.memory(profile),
        "memory_low": _bounds(known, "low"),
        "memory_high": _bounds(known, "high"),
        "ends": rates.ends(profile),
        "rounds": {op: rates.rounds(profile, op) for op in _TIMED},
        "extra": {op: terms for op in _TIMED if (terms := rates.extra(profile, op))},
        "magic": distilled(*(injected.rate(pauli) for pauli in "XZ")),
        "magic_low": distilled(*_bounds(injected, "low")),
        "magic_high": distilled(*_bounds(injected, "high")),
        "how": known.how,
        "source": known.source,
    }


def _bounds(known: Answer, which: str) -> tuple[float, float]:
    x, z = (
        sum(getattr(term, which) for term in known.terms if term.pauli == pauli) for pauli in "XZ"
    )
    return x, z


def main(arguments: list[str]) -> int:
    if arguments != ["rates"]:
        sys.stderr.write("usage: python -m qmkd.engine rates < QUESTION.json\n")
        return 2
    raw = sys.stdin.buffer.read(QUESTION_BYTES_MAX + 1)
    sys.stdout.buffer.write(msgspec.json.encode(answer(raw)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
