"""A world of queues for schedulers: machines with others' jobs in front, and jobs of our own.

No public trace of a service's queues can be had offline, so arrivals follow a stated law from a
seed, which makes them replayable. On each machine others' jobs arrive by a Poisson process whose
rate changes between calm and busy times (four hours and one, three times the rate; half of the
machines' busy times fall together) and by the hour of the day (a third up and down). They take
lognormal times of two minutes on average (sigma 1), first come, first served. The better a machine,
the more it is wanted: utilisations rise with quality up to the stated load's highest.

Machines start as their snapshots say, drift by a tenth a day (lognormal), and are calibrated every
midnight. What one truly does is not what its calibration says: errors have drifted on since, differ
by a sixth from job to job, a part of the error is not damping at all, and every value has its shot
noise. Schedulers see the last calibration, how many jobs wait and how long jobs take on average;
never the truth.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import numpy as np

from policy.api import Asked, CircuitFeatures
from policy.rules import FOLDS, READOUT_LEFT, damping, depth, variance
from runtime.scheduler.calibrations import DEAD, Snapshot, features
from runtime.scheduler.deciding import Entry
from runtime.scheduler.jobs import Backend, Job, Sla, State

START: Final = datetime(2026, 4, 20, tzinfo=UTC)
OTHERS_S: Final = 120.0
OTHERS_SIGMA: Final = 1.0
BUSY_TIMES: Final = 3.0
CALM_S, BUSY_S = 4 * 3600.0, 3600.0
DAILY: Final = 1 / 3
DRIFT_DAY: Final = 0.10
PER_JOB: Final = 1 / 6
OTHER_ERROR: Final = 0.15
"""Of a bias, what is left that no extrapolation removes, one standard deviation."""
SIGNAL: Final = 0.8
"""What jobs say of the size of their values, which is 0.6 to 1."""
HIGH: Final = 1.645
WINDOW_S: Final = 3600.0

Rng = np.random.Generator


class World(NamedTuple):
    """snapshots: of each day, for each machine. others: for each machine, arrivals and seconds.
    drift: of its errors, by day and machine."""

    snapshots: list[list[Snapshot]]
    others: list[list[tuple[float, float]]]
    drift: np.ndarray
    jobs: list[tuple[float, Job, int]]
    days: float


class Outcome(NamedTuple):
    """What came of a job. seconds: of the machine. kept: fidelity and deadline of its SLA."""

    fidelity: float
    waited_s: float
    seconds: float
    kept: bool
    refused: bool
    method: str


Chooser = Callable[[Job, list[Entry], datetime], tuple[str, str, int] | None]
"""The backend, the method and the shots for a job; None where it runs nowhere."""


def world(
    snapshots: Sequence[Snapshot], seed: int, *, load: float, days: float, jobs_a_day: float
) -> World:
    """load: mean utilisation by others."""
    rng = np.random.Generator(np.random.PCG64([seed, 9]))
    quality = np.argsort(np.argsort([-_error(each) for each in snapshots]))
    spread = min(0.25, (0.97 - load) / 1.0, load * 0.4)
    wanted = load - spread + 2 * spread * quality / max(1, len(snapshots) - 1)
    together = _busy_times(rng, days)
    others = [
        _arrivals(
            rng, float(each), together if rng.random() < 0.5 else _busy_times(rng, days), days
        )
        for each in wanted
    ]
    steps = rng.normal(0, DRIFT_DAY, (math.ceil(days) + 1, len(snapshots)))
    steps[0] = 0
    drift = np.exp(np.cumsum(steps, axis=0))
    made = _jobs(rng, snapshots, days, jobs_a_day)
    daily = [
        [_drifted(each, float(times), day) for each, times in zip(snapshots, row, strict=True)]
        for day, row in enumerate(drift[:-1])
    ]
    return World(daily, others, drift, made, days)


def _drifted(snapshot: Snapshot, times: float, day: int) -> Snapshot:
    """What the calibration of a day says."""
    known = snapshot.calibration
    qubits = tuple(
        msgspec.structs.replace(each, error=min(1.0, each.error * times)) for each in known.qubits
    )
    edges = {
        name: min(1.0, error * times) if error < DEAD else 1.0
        for name, error in known.edges.items()
    }
    taken_at = (START + timedelta(days=day)).isoformat()
    return Snapshot(msgspec.structs.replace(known, qubits=qubits, edges=edges, taken_at=taken_at))


def _error(snapshot: Snapshot) -> float:
    part = snapshot.part(5)
    assert part is not None
    return part.error_2q + part.readout_error


def _busy_times(rng: Rng, days: float) -> list[tuple[float, float]]:
    found, at = [], float(rng.exponential(CALM_S))
    while at < days * 86400:
        length = float(rng.exponential(BUSY_S))
        found.append((at, at + length))
        at += length + float(rng.exponential(CALM_S))
    return found


def _arrivals(
    rng: Rng, utilisation: float, busy: list[tuple[float, float]], days: float
) -> list[tuple[float, float]]:
    """Thinned from the highest rate (Lewis and Shedler, 1979)."""
    share = BUSY_S / (BUSY_S + CALM_S)
    calm = utilisation / OTHERS_S / (1 + share * (BUSY_TIMES - 1))
    most = calm * BUSY_TIMES * (1 + DAILY)
    starts = [start for start, _ in busy]
    mean = math.log(OTHERS_S) - OTHERS_SIGMA**2 / 2
    found, at = [], 0.0
    while (at := at + float(rng.exponential(1 / most))) < days * 86400:
        place = bisect.bisect_right(starts, at) - 1
        times = BUSY_TIMES if place >= 0 and at < busy[place][1] else 1.0
        rate = calm * times * (1 + DAILY * math.sin(2 * math.pi * at / 86400))
        if rng.random() < rate / most:
            found.append((at, float(rng.lognormal(mean, OTHERS_SIGMA))))
    return found


def _jobs(
    rng: Rng, snapshots: Sequence[Snapshot], days: float, a_day: float
) -> list[tuple[float, Job, int]]:
    """Arrivals, jobs, and the seed of what comes of each.

    3 to 12 qubits, 16 to 240 two-qubit gates (log-uniform), 1,024 to 16,384 shots
    and up to four times as many for mitigation. A floor is asked
    for that a machine drawn from all would keep with linear extrapolation as its snapshot stands,
    less a twentieth; the deadline is half an hour to eight hours (log-uniform).
    """
    found, at = [], 0.0
    while (at := at + float(rng.exponential(86400 / a_day))) < days * 86400:
        qubits = int(rng.integers(3, 13))
        gates = round(math.exp(rng.uniform(math.log(16), math.log(240))))
        shots = int(2 ** rng.integers(10, 15))
        circuit = CircuitFeatures(
            qubits=qubits,
            depth=max(1, round(2.5 * gates / qubits)),
            gates_1q=2 * gates,
            gates_2q=gates,
            measurements=qubits,
            signal=SIGNAL,
        )
        name = str(UUID(bytes=rng.bytes(16), version=4))
        job = Job(
            job_id=name,
            tenant="bench",
            circuit=circuit,
            shots=shots,
            shots_max=4 * shots,
            best_effort=True,
        )
        drawn = snapshots[int(rng.integers(len(snapshots)))]
        exponent, readout = _damping(job, drawn)
        read = 1 - READOUT_LEFT * (1 - readout)
        bias = SIGNAL * abs(1 - read * _kept("zne", exponent))
        floor = round(max(0.0, 1 - bias / 2 - 0.05), 4)
        deadline = round(math.exp(rng.uniform(math.log(1800), math.log(8 * 3600))))
        sla = Sla(fidelity_floor=floor, deadline_s=float(deadline))
        job = msgspec.structs.replace(job, sla=sla)
        found.append((at, job, int(rng.integers(2**62))))
    return found


def _damping(job: Job, snapshot: Snapshot) -> tuple[float, float]:
    part = snapshot.part(job.circuit.qubits)
    if part is None:
        return 10.0, 0.0
    told = features(snapshot, part, START, gaps=False)
    return damping(Asked(circuit=job.circuit, backend=told, budget=job.budget))


def _kept(method: str, exponent: float) -> float:
    return math.fsum(c * math.exp(-scale * exponent) for scale, c in FOLDS[method])


def delivered(
    job: Job, snapshot: Snapshot, drift: float, method: str, shots: int, seed: list[int]
) -> float:
    """The fidelity that comes out. drift: of the machine since its calibration. The same job on the
    same machine has the same luck."""
    rng = np.random.Generator(np.random.PCG64(seed))
    exponent, readout = _damping(job, snapshot)
    true = exponent * drift * float(rng.lognormal(0, PER_JOB))
    signal = rng.uniform(SIGNAL - 0.2, SIGNAL + 0.2)
    read = readout if method == "none" else 1 - READOUT_LEFT * (1 - readout)
    bias = signal * (1 - read * _kept(method, true))
    bias += OTHER_ERROR * signal * (1 - readout * math.exp(-true)) * float(rng.standard_normal())
    error = bias + math.sqrt(variance(method, readout) / shots) * float(rng.standard_normal())
    return max(0.0, 1 - min(2.0, abs(error)) / 2)


# --- running it ---------------------------------------------------------------------------------


class _Queue:
    """One machine, first come, first served."""

    def __init__(self) -> None:
        self.ends: deque[tuple[float, float]] = deque()
        self.free_at = 0.0

    def add(self, at: float, seconds: float) -> float:
        """When it begins."""
        begins = max(at, self.free_at)
        self.free_at = begins + seconds
        self.ends.append((begins, self.free_at))
        return begins

    def state(self, at: float) -> State:
        """As a service tells it: by how many jobs wait, and how long jobs take on average."""
        while self.ends and self.ends[0][1] < at - WINDOW_S:
            self.ends.popleft()
        pending = sum(end > at for _, end in self.ends)
        busy = sum(min(end, at) - max(b, at - WINDOW_S) for b, end in self.ends if b < at)
        spread = OTHERS_S * math.sqrt(math.expm1(OTHERS_SIGMA**2))
        mean = pending * OTHERS_S
        return State(
            waiting_s=mean,
            waiting_high_s=mean + (HIGH * spread * math.sqrt(pending)),
            utilisation=min(1.0, max(0.0, busy / WINDOW_S)),
        )


def simulate(found: World, backends: Sequence[Backend], choose: Chooser) -> list[Outcome]:
    """Run all jobs through one chooser."""
    places = {backend.backend_id: place for place, backend in enumerate(backends)}
    queues = [_Queue() for _ in backends]
    arrivals = heapq.merge(
        *([(at, place, seconds) for at, seconds in row] for place, row in enumerate(found.others))
    )
    coming = next(arrivals, None)
    outcomes = []
    for at, job, seed in found.jobs:
        while coming is not None and coming[0] <= at:
            queues[coming[1]].add(coming[0], coming[2])
            coming = next(arrivals, None)
        day = int(at // 86400)
        known = found.snapshots[day]
        entries = [
            Entry(backend, snapshot, queue.state(at))
            for backend, snapshot, queue in zip(backends, known, queues, strict=True)
        ]
        chosen = choose(job, entries, START + timedelta(seconds=at))
        if chosen is None:
            outcomes.append(Outcome(0.0, 0.0, 0.0, False, True, ""))
            continue
        name, method, shots = chosen
        place = places[name]
        seconds = _seconds(job, known[place], backends[place], method, shots)
        waited = queues[place].add(at, seconds) - at
        since = float(found.drift[day + 1, place] / found.drift[day, place])
        drift = since ** (at / 86400 - day)
        fidelity = delivered(job, known[place], drift, method, shots, [seed, place])
        deadline = job.sla.deadline_s or math.inf
        kept = fidelity >= job.sla.fidelity_floor and waited + seconds <= deadline
        outcomes.append(Outcome(fidelity, waited, seconds, kept, False, method))
    return outcomes


def _seconds(job: Job, snapshot: Snapshot, backend: Backend, method: str, shots: int) -> float:
    known = snapshot.calibration
    shot = job.circuit.depth * (known.gate_2q_s + 2 * known.gate_1q_s) + known.readout_s
    overhead = len(FOLDS[method]) * backend.seconds_per_circuit
    return overhead + shots * (backend.seconds_per_shot + shot * depth(method))
