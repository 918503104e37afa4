"""The one interface of backends, and what they say of themselves.

A backend runs a measured circuit for some shots from a seed and returns counts; the same again
gives the same counts. A vendor's machine is another class of this kind: what it lacks (seeds,
calibrations) it says in its capabilities, and an option that would do nothing is refused with
`Refused`.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from harness.em.circuits.tasks import VIRTUAL
from runtime.jit.circuit import Circuit
from runtime.scheduler import calibrations
from runtime.scheduler.calibrations import QubitFigures as QubitFigures

SHOTS_MAX: Final = 10_000_000
GAP_BIN: Final = 0.25
"""Nats. Gaps are kept by bins, so that a histogram stays one."""
GAP_BINS_MAX: Final = 200


class Refused(Exception):
    """A backend cannot run what it was asked to; says why and, where it knows, what it could."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend can do.

    qubits: the widest circuit. clifford_only: whether other gates are refused. seeded: whether a
    seed gives the same counts again. gaps: whether it tells how sure decoders were.
    distances: code distances that a run may ask for; empty where there are no codes.
    """

    qubits: int
    clifford_only: bool = False
    seeded: bool = True
    gaps: bool = False
    distances: tuple[int, ...] = ()


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """money: for one shot, in `currency`. seconds_overhead: for each circuit, beside its shots."""

    money: float = 0.0
    currency: str = "EUR"
    seconds_overhead: float = 0.0


class Calibration(calibrations.Calibration, frozen=True, kw_only=True):
    """As schedulers keep it. taken_at is empty where it is taken with the runs themselves."""

    def pair_error(self, one: int, other: int) -> float:
        """Of a two-qubit gate. Raises Refused where there is none between these."""
        low, high = sorted((one, other))
        found = self.edges.get(f"{low}-{high}", self.any_pair)
        if found is None:
            raise Refused(f"{self.backend} has no gate between qubits {low} and {high}.")
        return found


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of one run.

    counts: shots by outcome, bit 0 on the right. gaps: where decoders told how sure they were,
    shots by outcome and by gap in bins of GAP_BIN nats, the last one open.
    """

    counts: dict[str, int]
    gaps: dict[str, dict[int, int]] = {}

    @property
    def shots(self) -> int:
        return sum(self.counts.values())


class Backend(Protocol):
    """Where circuits run."""

    @property
    def name(self) -> str:
        """Stays the same from run to run."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def calibration(self) -> Calibration:
        """What is known of the machine, which need not be what it does."""
        ...

    @property
    def cost(self) -> Cost: ...

    @property
    def availability(self) -> float:
        """The share of time in which it takes jobs, 0 to 1."""
        ...

    @property
    def crypto_modes(self) -> tuple[str, ...]:
        """Of SPEC-001's `crypto_mode`."""
        ...

    def run(self, circuit: Circuit, shots: int, seed: int, distance: int | None = None) -> Outcome:
        """Run a measured circuit. Raises Refused.

        distance: of the code, where `capabilities.distances` offers it.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


def seconds_of(calibration: Calibration, circuit: Circuit, shots: int) -> float:
    """How long a machine with these times is busy, gates on the longest way, readout included."""
    ready = [0.0] * circuit.width
    for each in circuit.operations:
        if len(each.qubits) == 2:
            done = max(ready[q] for q in each.qubits) + calibration.gate_2q_s
            for q in each.qubits:
                ready[q] = done
        elif each.name.startswith("measure"):
            ready[each.qubits[0]] += calibration.readout_s
        elif each.qubits and each.name not in VIRTUAL:
            ready[each.qubits[0]] += calibration.gate_1q_s
    return shots * max(ready, default=0.0)


def check(backend: Backend, circuit: Circuit, shots: int, distance: int | None) -> None:
    """Refuse what no backend of these capabilities runs."""
    offered = backend.capabilities
    if circuit.width > offered.qubits:
        raise Refused(f"{backend.name} has {offered.qubits} qubits, not {circuit.width}.")
    if not 1 <= shots <= SHOTS_MAX:
        raise Refused(f"A run has 1 to {SHOTS_MAX:,} shots, not {shots:,}.")
    if distance is not None and distance not in offered.distances:
        told = ", ".join(map(str, offered.distances)) or "none"
        raise Refused(f"{backend.name} offers these code distances: {told}; not {distance}.")
