"""How often codes err, as `python -m qmkd.engine rates` tells it: a process of its own.

User mode may import nothing of the kernel's numerics (docs/decisions/0011-estimates.md), and a copy
of the table would go stale. What becomes of the rates in a program is `timeline.py`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

ANSWER_S_MAX: Final = 120

Flips = tuple[float, float]
"""Probabilities of a logical X error and of a logical Z error."""


class NoRates(Exception):
    """The numerics could not be run, or refuse the question; the sentence says why."""


class CodeRates(msgspec.Struct, frozen=True, kw_only=True):
    """What one profile suffers under the machine's noise.

    memory: each logical qubit, each round; low and high are of a 95 % interval. ends: in the first
    round of a life, and in the last. rounds: that an operation takes, by opcode. extra: by opcode,
    Paulis on the operands and their chances beyond the rounds. magic: chance of Z on a T state that
    is consumed, with its own interval. how, source: where the rates of the memory come from.
    """

    memory: Flips
    memory_low: Flips
    memory_high: Flips
    ends: Flips
    rounds: dict[str, int]
    extra: dict[str, list[tuple[str, float]]]
    magic: float
    magic_low: float
    magic_high: float
    how: str
    source: str

    @property
    def at_most(self) -> CodeRates:
        """With all rates at the high ends of their intervals; what has none of its own grows as
        memory does."""
        mid, high = sum(self.memory), sum(self.memory_high)
        more = high / mid if mid else 1.0
        return msgspec.structs.replace(
            self,
            memory=self.memory_high,
            ends=(min(0.5, self.ends[0] * more), min(0.5, self.ends[1] * more)),
            extra={
                op: [(pauli, min(0.05, rate * more)) for pauli, rate in terms]
                for op, terms in self.extra.items()
            },
            magic=self.magic_high,
        )


Known = Mapping[str, CodeRates | str]
"""By profile; a sentence where the rates are not known."""


def ask(profiles: Iterable[str], physical_noise: str, times: float = 1.0) -> Known:
    """The rates of these profiles. times: how many times as strong the noise is as it says.

    Raises NoRates.
    """
    asked = sorted(set(profiles))
    request = {"physical_noise": physical_noise, "profiles": asked, "times": times}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "qmkd.engine", "rates"],
            input=msgspec.json.encode(request),
            capture_output=True,
            timeout=ANSWER_S_MAX,
        )
    except subprocess.TimeoutExpired as error:
        raise NoRates(f"No rates within {ANSWER_S_MAX} seconds.") from error
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        reason = told[-1] if told else f"exit status {done.returncode}"
        raise NoRates(f"The numerics (python -m qmkd.engine) failed: {reason}")
    found = msgspec.json.decode(done.stdout, type=dict[str, Any])
    if "refused" in found:
        raise NoRates(f"There are no rates: {found['refused']}.")
    return {text: _read(answer) for text, answer in found["profiles"].items()}


def _read(answer: dict[str, Any]) -> CodeRates | str:
    if "refused" in answer:
        return str(answer["refused"])
    return msgspec.convert(answer, CodeRates)
