"""A made-up machine of physical qubits: what it is like, how it drifts, and what it is thought to
be.

The conventions are ours and few. A gate leaves one of the other Paulis, alike, with the chance that
the calibration says (Stim's DEPOLARIZE1 and DEPOLARIZE2); a pulse turns too far, by a fixed angle
about its own axis; whoever waits or is acted on relaxes with T1 and T2; a readout is wrong with a
chance that depends on the outcome. Turns about Z are virtual: they take no time and err by nothing.
`superoperators.py` and `twirled.py` carry this out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import Calibration, QubitFigures, Refused
from harness.em.circuits.tasks import VIRTUAL
from runtime.jit.circuit import Circuit, Operation
from runtime.jit.gates import GATES

Real = NDArray[np.float64]

# Of the middle of IBM's devices of some five to seven qubits, 2020 to 2023.
ERROR_1Q: Final = 3e-4
ERROR_2Q: Final = 8e-3
T1_S: Final = 120e-6
T2_S: Final = 90e-6
READ: Final = (0.01, 0.025)
GATE_1Q_S: Final = 35e-9
GATE_2Q_S: Final = 300e-9
READOUT_S: Final = 1.2e-6
SPREAD: Final = 0.3
"""Of the logarithms of figures from qubit to qubit."""
DRIFT_DAY: Final = 0.12
DRIFT_KEPT: Final = 0.9
"""From day to day logarithms keep this share and take a step of DRIFT_DAY: error rates then change
by 8 % in the median from one day to the next, as those of IBM's devices did in 2022."""
DAYS_MAX: Final = 3650
PAIRS_QUBITS_MAX: Final = 32
"""Wider machines tell one chance for all pairs."""
EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine truly does.

    figures: its true error rates. turn_1q, turn_2q: radians by which a pulse and a two-qubit gate
    turn too far.
    """

    figures: Calibration
    turn_1q: float
    turn_2q: float


def device(
    qubits: int, seed: int, *, day: int = 0, strength: float = 1.0, turn_2q: float = 0.0
) -> Device:
    """The machine of a seed on a day. strength: of gate errors, 1 as usual."""
    if not 0 <= day <= DAYS_MAX:
        raise Refused(f"A day is 0 to {DAYS_MAX}, not {day}.")
    rng = np.random.Generator(np.random.PCG64([seed, qubits]))
    still = np.exp(SPREAD * rng.standard_normal((qubits, 5)))
    drift = np.exp(_drift(rng, day, (qubits, 5)))
    now = still * drift
    found = [
        QubitFigures(
            error=float(min(0.5, ERROR_1Q * strength * row[0])),
            t1_s=float(T1_S / row[1]),
            t2_s=float(min(2 * T1_S / row[1], T2_S / row[2])),
            read_1_for_0=float(min(0.4, READ[0] * row[3])),
            read_0_for_1=float(min(0.4, READ[1] * row[4])),
        )
        for row in now
    ]
    pairs = {}
    for low in range(qubits):
        for high in range(low + 1, qubits):
            both = math.sqrt(now[low, 0] * now[high, 0])
            if qubits <= PAIRS_QUBITS_MAX:
                pairs[f"{low}-{high}"] = min(0.5, ERROR_2Q * strength * both)
    return Device(
        figures=Calibration(
            backend=f"physical-{qubits}-{seed}",
            taken_at=(EPOCH + timedelta(days=day)).isoformat(),
            qubits=tuple(found),
            edges=pairs,
            any_pair=None if pairs else ERROR_2Q * strength,
            gate_1q_s=GATE_1Q_S,
            gate_2q_s=GATE_2Q_S,
            readout_s=READOUT_S,
        ),
        turn_1q=turn_2q / 10,
        turn_2q=turn_2q,
    )


def _drift(rng: np.random.Generator, days: int, shape: tuple[int, int]) -> Real:
    """Logarithms of what has changed by this day: the same path, whatever day is asked for."""
    at = np.zeros(shape)
    for _ in range(days):
        at = DRIFT_KEPT * at + DRIFT_DAY * rng.standard_normal(shape)
    return at


class Gate(NamedTuple):
    """A gate, which takes `seconds` for each of its qubits."""

    operation: Operation
    seconds: float


class Wait(NamedTuple):
    """A qubit does nothing for so long."""

    qubit: int
    seconds: float


def steps(circuit: Circuit, known: Calibration) -> Iterator[Gate | Wait]:
    """The gates in order, each as soon as its qubits are free; all are read out at once."""
    ready = [0.0] * circuit.width
    for each in circuit.operations:
        if each.name == "measure":
            continue
        if each.name not in GATES or each.condition is not None:
            raise Refused(f"These machines run gates and final measurements, no `{each.name}`.")
        if each.name in VIRTUAL:
            yield Gate(each, 0.0)
            continue
        start = max(ready[qubit] for qubit in each.qubits)
        seconds = known.gate_2q_s if len(each.qubits) == 2 else known.gate_1q_s
        for qubit in each.qubits:
            if ready[qubit] < start:
                yield Wait(qubit, start - ready[qubit])
            ready[qubit] = start + seconds
        yield Gate(each, seconds)
    end = max(ready, default=0.0)
    for qubit, at in enumerate(ready):
        if at < end:
            yield Wait(qubit, end - at)


def kept(known: QubitFigures, seconds: float) -> tuple[float, float]:
    """What relaxation leaves of X and Y, and of Z, in this time. No T1 or T2 known: all."""
    transverse = math.exp(-seconds / known.t2_s) if known.t2_s else 1.0
    along = math.exp(-seconds / known.t1_s) if known.t1_s else 1.0
    return transverse, along
