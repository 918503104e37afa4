"""Calibration snapshots, and the part of a machine that a circuit would use.

The mitigation harness describes its backends by the same snapshots. Those of real machines are not
clean: edges with an error of one half or more are dead, coherence times are missing, dates lie
years back. What cannot be vouched for is not used, and `hazards` says so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from policy.api import BackendFeatures
from runtime.scheduler.errors import BadInput

DEAD: Final = 0.5
"""A gate or a readout that errs this often is out of order."""
STALE_S: Final = 30 * 86400
STARTS_MAX: Final = 64
"""Places from which the best part of a machine is looked for."""


class QubitFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One qubit. t1_s, t2_s: None where the snapshot lacks them.

    error: chance that a gate on it leaves one of the three Paulis, alike. read_1_for_0,
    read_0_for_1: wrong outcomes.
    """

    error: float
    t1_s: float | None
    t2_s: float | None
    read_1_for_0: float
    read_0_for_1: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a machine at one time.

    qubits: by number. edges: chance that a two-qubit gate leaves one of the fifteen Paulis, alike,
    by "low-high"; other pairs have no gate, unless `any_pair` says that all have one, with this
    chance. taken_at: ISO 8601; empty where nobody knows. by_distance: chance of an error in a layer
    of gates on a logical qubit, by code distance; slow_by_distance: likewise, of gates that take as
    many rounds as the distance.
    """

    backend: str
    taken_at: str
    qubits: tuple[QubitFigures, ...]
    edges: Mapping[str, float] = {}
    any_pair: float | None = None
    gate_1q_s: float
    gate_2q_s: float
    readout_s: float
    by_distance: Mapping[str, float] = {}
    slow_by_distance: Mapping[str, float] = {}

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the snapshot as canonical JSON."""
        data = msgspec.json.encode(msgspec.to_builtins(self), order="deterministic")
        return hashlib.sha256(data).hexdigest()


class Part(NamedTuple):
    """Qubits of a machine that hang together, and means over them."""

    qubits: tuple[int, ...]
    error_1q: float
    error_2q: float
    readout_error: float
    t1_s: float | None
    t2_s: float | None


def check(calibration: Calibration) -> None:
    """Raises BadInput where a snapshot is empty or holds what is no probability or time."""
    name = calibration.backend
    if not name:
        raise BadInput("A calibration names its backend.")
    if not calibration.qubits:
        raise BadInput(f"{name}: the calibration is empty: it knows no qubit.")
    if calibration.taken_at:
        parse_time(calibration.taken_at)
    for number, qubit in enumerate(calibration.qubits):
        for field in ("error", "read_1_for_0", "read_0_for_1"):
            _probability(getattr(qubit, field), f"{name}: {field} of qubit {number}")
        for field in ("t1_s", "t2_s"):
            value = getattr(qubit, field)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise BadInput(f"{name}: {field} of qubit {number} is no time: {value:g}.")
    for edge, error in calibration.edges.items():
        low, high = _pair(edge, name)
        if not low < high < len(calibration.qubits):
            raise BadInput(f"{name}: the edge {edge} joins no two of its qubits.")
        _probability(error, f"{name}: the error of {edge}")
    if calibration.any_pair is not None:
        _probability(calibration.any_pair, f"{name}: any_pair")
    for field in ("gate_1q_s", "gate_2q_s", "readout_s"):
        value = getattr(calibration, field)
        if not (math.isfinite(value) and value >= 0):
            raise BadInput(f"{name}: {field} is no time: {value:g}.")
    for distance, error in (
        *calibration.by_distance.items(),
        *calibration.slow_by_distance.items(),
    ):
        if not distance.isdigit():
            raise BadInput(f"{name}: by_distance names distances, not {distance!r}.")
        _probability(error, f"{name}: by_distance of {distance}")


def _probability(value: float, what: str) -> None:
    if not 0 <= value <= 1:
        raise BadInput(f"{what} is a probability, 0 to 1, not {value:g}.")


def _pair(edge: str, name: str) -> tuple[int, int]:
    low, _, high = edge.partition("-")
    if not (low.isdigit() and high.isdigit()):
        raise BadInput(f"{name}: an edge is written as 3-7, not {edge!r}.")
    return int(low), int(high)


def parse_time(text: str) -> datetime:
    """A time as ISO 8601 with its offset. Raises BadInput."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text[:80]!r} is no time; one is 2026-04-17T12:00:00Z.") from None
    if found.tzinfo is None:
        raise BadInput(f"{text!r} says no offset; write a Z behind it for UTC.")
    return found.astimezone(UTC)


def age_s(calibration: Calibration, now: datetime) -> float | None:
    """Seconds since it was taken; None where nobody knows, or where that lies in the future."""
    if not calibration.taken_at:
        return None
    seconds = (now - parse_time(calibration.taken_at)).total_seconds()
    return seconds if seconds >= 0 else None


def usable(calibration: Calibration) -> frozenset[int]:
    """Qubits with both coherence times known, and neither gate nor readout dead."""
    return frozenset(
        number
        for number, qubit in enumerate(calibration.qubits)
        if qubit.t1_s
        and qubit.t2_s
        and qubit.error < DEAD
        and (qubit.read_1_for_0 + qubit.read_0_for_1) / 2 < DEAD
    )


def hazards(calibration: Calibration, now: datetime) -> list[str]:
    """What is wrong with a snapshot, a sentence each."""
    found = []
    lacking = sum(not (each.t1_s and each.t2_s) for each in calibration.qubits)
    if lacking:
        found.append(f"{lacking} qubits lack T1 or T2 and are not used")
    dead = sum(error >= DEAD for error in calibration.edges.values())
    if dead:
        found.append(f"{dead} of {len(calibration.edges)} edges are dead and not used")
    age = age_s(calibration, now)
    if age is None:
        when = "in the future" if calibration.taken_at else "nobody knows when"
        found.append(f"it was taken {when}, so its age counts as unknown")
    elif age > STALE_S:
        found.append(f"it is {age / 86400:,.0f} days old")
    return found


class Snapshot:
    """A checked calibration with its digest, and the parts that were looked for so far."""

    def __init__(self, calibration: Calibration) -> None:
        """Raises BadInput."""
        check(calibration)
        self.calibration = calibration
        self.digest = calibration.digest
        self._parts: dict[int, Part | None] = {}
        self._ways: dict[int, dict[int, float]] | None = None

    def part(self, qubits: int) -> Part | None:
        """The best connected part of so many qubits; None if there is none.

        Grown from each of the best edges by the qubit whose edge and readout err least. Which part
        is best is decided by the mean error of its edges and readouts; the first found wins.
        """
        if qubits not in self._parts:
            self._parts[qubits] = self._best(qubits)
        return self._parts[qubits]

    def _best(self, qubits: int) -> Part | None:
        if self._ways is None:
            self._ways = _ways(self.calibration, usable(self.calibration))
        if len(self._ways) < qubits:
            return None
        found = None
        for grown in _grown(self.calibration, self._ways, qubits):
            part = _part(self.calibration, self._ways, grown)
            cost = part.error_2q + part.readout_error
            if found is None or cost < found[0]:
                found = (cost, part)
        return None if found is None else found[1]


def _ways(calibration: Calibration, fit: frozenset[int]) -> dict[int, dict[int, float]]:
    ways: dict[int, dict[int, float]] = {number: {} for number in sorted(fit)}
    if calibration.any_pair is not None and calibration.any_pair < DEAD:
        for low in ways:
            ways[low] = {high: calibration.any_pair for high in ways if high != low}
    for edge, error in calibration.edges.items():
        low, high = _pair(edge, calibration.backend)
        if low in fit and high in fit:
            ways[low].pop(high, None)
            ways[high].pop(low, None)
            if error < DEAD:
                ways[low][high] = ways[high][low] = error
    return ways


def _grown(
    calibration: Calibration, ways: dict[int, dict[int, float]], qubits: int
) -> Iterator[tuple[int, ...]]:
    if qubits == 1:
        yield from ((number,) for number in ways)
        return
    edges = sorted((e, a, b) for a, near in ways.items() for b, e in near.items() if a < b)
    for _, low, high in edges[:STARTS_MAX]:
        grown = [low, high]
        while len(grown) < qubits:
            near = [
                (error + _read(calibration, other), other)
                for number in grown
                for other, error in ways[number].items()
                if other not in grown
            ]
            if not near:
                break
            grown.append(min(near)[1])
        if len(grown) == qubits:
            yield tuple(sorted(grown))


def _read(calibration: Calibration, number: int) -> float:
    qubit = calibration.qubits[number]
    return (qubit.read_1_for_0 + qubit.read_0_for_1) / 2


def _part(
    calibration: Calibration, ways: dict[int, dict[int, float]], qubits: tuple[int, ...]
) -> Part:
    inside = set(qubits)
    errors = [e for a in qubits for b, e in ways[a].items() if b in inside and a < b]
    figures = [calibration.qubits[number] for number in qubits]
    return Part(
        qubits=qubits,
        error_1q=_mean([each.error for each in figures]),
        error_2q=_mean(errors),
        readout_error=_mean([_read(calibration, number) for number in qubits]),
        t1_s=_mean([each.t1_s or 0.0 for each in figures]),
        t2_s=_mean([each.t2_s or 0.0 for each in figures]),
    )


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def features(snapshot: Snapshot, part: Part, now: datetime, *, gaps: bool) -> BackendFeatures:
    """What the policy engine is told of the part that a circuit would use."""
    calibration = snapshot.calibration
    return BackendFeatures(
        error_1q=part.error_1q,
        error_2q=part.error_2q,
        readout_error=part.readout_error,
        t1_s=part.t1_s,
        t2_s=part.t2_s,
        layer_s=calibration.gate_2q_s,
        calibration=snapshot.digest,
        calibration_age_s=age_s(calibration, now),
        gaps=gaps,
        by_distance=dict(calibration.by_distance),
    )
