"""The scheduler beside what people do today, on real machines' snapshots and a replayable trace.

The peers see the same queues: `least-busy` takes the shortest, as Qiskit's `least_busy` does,
`best-fidelity` the machine with the highest expected fidelity, and neither mitigates, as they do
not today. The rows "with the same mitigation" give them what the policy engine advises for the
machine that they choose, which shows how much of a gain is the choice of the machine alone. World
and laws are in `queues.py`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from harness.bench.queues import START, Chooser, Outcome, World, simulate, world
from harness.bench.rows import Row, missing, row
from policy.api import Advice, Advise, Asked
from policy.rules import SOURCE, Rules, answer
from runtime.scheduler.book import Book
from runtime.scheduler.calibrations import Calibration, Snapshot
from runtime.scheduler.deciding import Entry, decide_batch
from runtime.scheduler.errors import Missing
from runtime.scheduler.ibm import snapshots
from runtime.scheduler.jobs import Backend, Job, Scoring, Sla, State
from runtime.storage.database import Database

MACHINES: Final = (
    "ibm_algiers", "alt_auckland", "ibm_brisbane", "alt_cairo", "ibm_fez", "ibm_geneva",
    "ibmq_guadalupe", "ibm_hanoi", "ibm_kawasaki", "ibmq_kolkata", "ibm_kyiv", "ibmq_montreal",
    "ibmq_mumbai", "ibm_sherbrooke", "ibm_torino", "ibm_washington",
)  # fmt: skip
OTHERS: Final = (
    "ibm_aachen", "ibm_berlin", "ibm_boston", "ibm_brussels", "ibm_miami", "fake_nighthawk",
    "ibm_pittsburgh", "ibm_strasbourg", "ibm_prague", "ibm_quebec", "ibm_osaka", "ibmq_toronto",
)  # fmt: skip
"""Others. Nothing but the price of waiting was chosen with them in view."""
TRACE_LOAD: Final = 0.94
LOADS: Final = ((0.3, 0.93), (0.6, 0.90), (0.9, 0.87))
SEED: Final = 20260420


def run(quick: bool) -> list[Row]:
    try:
        known = {each.backend: Snapshot(_fresh(each)) for each in snapshots()}
    except Missing as error:
        return [missing("scheduler", str(error))]
    rows: list[Row] = []
    days, a_day = (2.0, 150.0) if quick else (10.0, 200.0)
    for title, names in (("", MACHINES), ("other machines, ", OTHERS)):
        machines = [known[name] for name in names]
        found = world(machines, SEED, load=TRACE_LOAD, days=days, jobs_a_day=a_day)
        rows += _trace_rows(title, found)
    for load, goal in LOADS:
        found = world(
            [known[name] for name in MACHINES], SEED + 1, load=load, days=days, jobs_a_day=a_day
        )
        rows += _load_rows(load, goal, found)
    return rows + _speed_rows([known[name] for name in MACHINES], quick)


def _fresh(calibration: Calibration) -> Calibration:
    """As if taken when the trace begins; snapshots are years apart, and a trace is not."""
    return msgspec.structs.replace(calibration, taken_at=START.isoformat())


def backends_of(found: World) -> list[Backend]:
    return [
        Backend(backend_id=s.calibration.backend, cost_per_second=1.6) for s in found.snapshots[0]
    ]


class Unmitigated(Rules):
    """Never advises mitigation."""

    def recommend(self, asked: Sequence[Asked]) -> list[Advice]:
        return [
            answer(
                none,
                [none],
                because=each.because,
                source=each.source,
                confidence=1.0,
            )
            for each in super().recommend(asked)
            for none in each.alternatives
            if none.method == "none"
        ]


def chooser(name: str, policy: Advise) -> Chooser:
    """What a scorer chooses with a policy engine's advice."""
    scoring = Scoring(name=name)

    def choose(job: Job, entries: list[Entry], now: datetime) -> tuple[str, str, int] | None:
        (decided,) = decide_batch([job], entries, policy, scoring, now)
        chosen = decided.choice.chosen
        return None if chosen is None else (chosen.backend_id, chosen.method, chosen.shots)

    return choose


def _mean(outcomes: Sequence[Outcome], field: str) -> float:
    return statistics.fmean(getattr(each, field) for each in outcomes)


def _trace_rows(title: str, found: World) -> list[Row]:
    """Nobody asks for a floor or a deadline here, so that what is traded is the scorer's own
    choice."""
    free = [(at, msgspec.structs.replace(job, sla=Sla()), seed) for at, job, seed in found.jobs]
    found, backends = found._replace(jobs=free), backends_of(found)
    outcomes = {
        title: simulate(found, backends, chooser(name, policy))
        for title, name, policy in (
            ("qmkd", "spec-001", Rules()),
            ("least-busy", "least-busy", Unmitigated()),
            ("best-fidelity", "best-fidelity", Unmitigated()),
            ("least-busy with the same mitigation", "least-busy", Rules()),
            ("best-fidelity with the same mitigation", "best-fidelity", Rules()),
        )
    }
    rows = [row(f"{title}jobs in the trace", len(free), "")]
    for name, came in outcomes.items():
        rows.append(row(f"{title}{name}: mean fidelity", _mean(came, "fidelity"), ""))
        rows.append(row(f"{title}{name}: mean waiting", _mean(came, "waited_s") / 60, "min"))
    for peer, more in (("least-busy", 1.1), ("best-fidelity", 0.95)):
        for name in (peer, f"{peer} with the same mitigation"):
            judged = name == peer
            fidelity = _mean(outcomes["qmkd"], "fidelity") / _mean(outcomes[name], "fidelity")
            waiting = _mean(outcomes["qmkd"], "waited_s") / _mean(outcomes[name], "waited_s")
            most = 1.15 if peer == "least-busy" else 0.12
            what = f"{title}qmkd over {name}: "
            rows.append(row(f"{what}fidelity", fidelity, "x", at_least=more if judged else None))
            rows.append(row(f"{what}waiting", waiting, "x", at_most=most if judged else None))
    return rows


def _load_rows(load: float, goal: float, found: World) -> list[Row]:
    backends = backends_of(found)
    ours = simulate(found, backends, chooser("spec-001", Rules()))
    busy = simulate(found, backends, chooser("least-busy", Rules()))
    ends = sorted(each.waited_s + each.seconds for each in ours)
    what = f"load {load:g}: "
    return [
        row(f"{what}SLA met", _mean(ours, "kept"), "", at_least=goal),
        row(f"{what}SLA met by least-busy with the same mitigation", _mean(busy, "kept"), ""),
        row(f"{what}95 % of jobs end within", ends[int(0.95 * len(ends))] / 60, "min"),
    ]


def _speed_rows(machines: list[Snapshot], quick: bool) -> list[Row]:
    found = world(machines, SEED, load=0.5, days=2.0, jobs_a_day=100)
    jobs = [job for _, job, _ in found.jobs][:100]
    backends = backends_of(found)
    entries = [
        Entry(backend, snapshot, State(waiting_s=60.0 * place, waiting_high_s=120.0 * place))
        for place, (backend, snapshot) in enumerate(zip(backends, machines, strict=True))
    ]
    times = []
    for _ in range(3 if quick else 9):
        before = time.process_time()
        decide_batch(jobs, entries, Rules(), Scoring(), START)
        times.append(time.process_time() - before)
    rows = [row("100 jobs, 16 machines: decided, CPU", statistics.median(times), "s", at_most=0.5)]
    with tempfile.TemporaryDirectory() as folder, Database(f"{folder}/bench.db") as database:
        book = Book(database, Path(folder) / "decisions")
        for backend, snapshot in zip(backends, machines, strict=True):
            book.catalogue.put(backend, snapshot.calibration)
        before, cpu = time.perf_counter(), time.process_time()
        kept = book.decide(jobs, {}, Rules(), Scoring(), START)
        elapsed, cpu = time.perf_counter() - before, time.process_time() - cpu
        policies: dict[str, Advise] = {SOURCE: Rules()}
        same = sum(book.replay(each.decision, policies).digest == each.digest for each in kept)
    rows.append(row("the same, kept in SQLite and as files, CPU", cpu, "s", at_most=0.5))
    rows.append(row("the same, elapsed", elapsed, "s"))
    rows.append(row("decisions that replay bit for bit", same / len(kept), "", at_least=1.0))
    return rows
