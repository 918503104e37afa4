"""Asks a running policy engine; answers by the safe rules where it does not, and says so."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from policy import rules
from policy.api import METHODS, Advice, Asked, BadFeatures, check
from policy.protocol import (
    ASKED_MAX,
    BAD_PARAMETERS,
    LINE_BYTES_MAX,
    Explain,
    Explained,
    Fault,
    Recommend,
    Status,
)

TIMEOUT_S: Final = 10.0
T = TypeVar("T")


class Unanswered(Exception):
    """The engine does not answer, or not what was asked; says why."""


class _Answer(msgspec.Struct, frozen=True):
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Fault | None = None


class PolicyClient:
    """An `Advise` over a socket; a connection for each call, so it holds nothing."""

    def __init__(self, path: Path, *, timeout: float = TIMEOUT_S) -> None:
        self.path = path
        self.timeout = timeout

    def recommend(self, asked: Sequence[Asked]) -> list[Advice]:
        """Raises BadFeatures. Where the engine does not answer sensibly, the rules do."""
        for each in asked:
            check(each)
        found: list[Advice] = []
        for start in range(0, len(asked), ASKED_MAX):
            some = list(asked[start : start + ASKED_MAX])
            try:
                found += self._recommended(some)
            except Unanswered as error:
                found += [_fallen_back(each, str(error)) for each in some]
        return found

    def _recommended(self, asked: list[Asked]) -> list[Advice]:
        advice = self.call("recommend", Recommend(asked=asked), list[Advice])
        if len(advice) != len(asked):
            raise Unanswered("The policy engine answered another number of questions.")
        for each in advice:
            _sensible(each)
        return advice

    def explain(self, asked: Asked) -> Explained:
        """Raises Unanswered."""
        return self.call("explain", Explain(asked=asked), Explained)

    def status(self) -> Status:
        """Raises Unanswered."""
        return self.call("status", {}, Status)

    def call(self, method: str, params: Any, kind: type[T]) -> T:
        """Raises Unanswered, and BadFeatures where the engine says that the question is bad."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            data = self._exchanged(msgspec.json.encode(request) + b"\n")
            answer = msgspec.json.decode(data, type=_Answer)
            if answer.error is None:
                return msgspec.json.decode(answer.result, type=kind)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unanswered(
                f"The policy engine at {self.path} does not answer: {error}."
            ) from error
        if answer.error.code == BAD_PARAMETERS:
            raise BadFeatures(answer.error.message)
        raise Unanswered(f"The policy engine refuses: {answer.error.message}")

    def _exchanged(self, line: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(self.timeout)
            link.connect(os.fspath(self.path))
            link.sendall(line)
            with link.makefile("rb") as file:
                data = file.readline(LINE_BYTES_MAX)
        if not data.endswith(b"\n"):
            raise ConnectionError("the connection ended")
        return data


def _fallen_back(asked: Asked, why: str) -> Advice:
    safe = rules.advise(asked)
    because = (*safe.because, f"{why} The safe rules answer.")
    return msgspec.structs.replace(safe, because=because, abstained=True, source=rules.INSTEAD)


def _sensible(advice: Advice) -> None:
    """Whoever listens there may answer anything: numbers that cannot be are not believed."""
    for each in advice.alternatives:
        good = (
            each.method in METHODS
            and 0 <= each.fidelity_low <= each.expected_fidelity <= 1
            and each.shots >= 1
            and each.circuits >= 1
            and each.shot_multiplier > 0
            and each.depth > 0
        )
        if not good:
            raise Unanswered(f"The policy engine answers nonsense about {each.method[:40]}.")
    if advice.method not in {each.method for each in advice.alternatives}:
        raise Unanswered("The policy engine advises what is none of its alternatives.")
