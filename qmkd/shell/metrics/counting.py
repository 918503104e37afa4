"""Counts what goes into the kernel and what comes out of it, as cheaply as it can be.

`Counts.step` stands in the place of `Kernel.step`: it passes events on, and reads the effects. So
neither the kernel nor the pump knows of it. Calls are counted when they are answered; work, from
the rows that the kernel keeps, which a daemon with `durability = "none"` has none of. A call costs
a look at the clock and a few look-ups; names and labels are made when somebody scrapes. Jobs that
end are told to the log here too, where their tenants are known.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

import msgspec

from qmkd.core import events as ev
from qmkd.core.effects import Effect, Keep, Reply
from qmkd.core.events import Called
from qmkd.core.records import EndRow, GraphRow, JobRow, Recovered, SliceRow
from syscalls.decoding import DecoderFigures
from syscalls.job import JobState

_log = logging.getLogger("qmkd.jobs")

FIRST_BITS: Final = 13
BUCKETS: Final = 13
BOUNDS_NS: Final = tuple(1 << (FIRST_BITS + 2 * place) for place in range(BUCKETS))
"""Upper ends of the buckets of every time, four times as long each: 8.2 us to 137 s."""

OTHERS: Final = "(others)"
"""Stands for the tenants beyond those that have a label of their own."""


class Times:
    """How often something took how long. counts: the last is of those longer than every bound.

    exemplars: for each bucket the last job that fell into it, and its time.
    """

    __slots__ = ("counts", "exemplars", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (BUCKETS + 1)
        self.sum_ns = 0
        self.exemplars: dict[int, tuple[str, int]] = {}

    def add(self, ns: int, job: str = "") -> None:
        # (bits + 1) // 2 of what lies above the first bound: buckets grow by two bits each.
        place = (((ns - 1) >> FIRST_BITS).bit_length() + 1) >> 1 if ns > 0 else 0
        if place > BUCKETS:
            place = BUCKETS
        self.counts[place] += 1
        self.sum_ns += ns
        if job:
            self.exemplars[place] = (job, ns)


class Work:
    """What was done for a tenant in this life of the daemon. ended: jobs by state and error."""

    def __init__(self) -> None:
        self.accepted = 0
        self.ended: Counter[tuple[JobState, str]] = Counter()
        self.queued, self.ran = Times(), Times()
        self.queue_cycles = 0
        self.machine_cycles = 0
        self.cpu_ns = 0
        self.shots = 0
        self.slices = 0
        self.epochs = 0
        self.t_states = 0
        self.pairs = 0
        self.raw_pairs = 0.0
        self.decoder: Counter[str] = Counter()


class _Shot(msgspec.Struct):
    """What one shot of a live job comes to, and who pays."""

    work: Work
    tenant: str
    epochs: int = 0
    t_states: int = 0
    pairs: int = 0
    raw_pairs: float = 0.0


Step = Callable[[int, ev.Event], list[Effect]]


class Counts:
    """All counts of one kernel. `step` is to be called where its own would be.

    tenants_max: how many have a label; the others share one. offset_ns: from the monotonic clock
    to the one that steps are told, known before the first of them.
    """

    def __init__(self, step: Step, tenants_max: int) -> None:
        self.offset_ns = 0
        self._tenants_max = tenants_max
        self.calls: dict[type, dict[type, Times]] = {}  # by call, by answer
        self.work: dict[str, Work] = {}
        self.commits = Times()
        self.keep_failures: Counter[str] = Counter()
        self.segments: Counter[str] = Counter()
        self.workers_ready = self.workers_gone = 0
        self.reloads = 0
        self._late: dict[int, dict[int, tuple[type, int]]] = {}
        self._keeps: deque[tuple[int, int]] = deque()
        self._shots: dict[str, _Shot] = {}
        self._watched: dict[type, Callable[[Any], None]] = {
            ev.ClientGone: self._client_gone,
            ev.Kept: self._kept,
            ev.KeepFailed: lambda event: self.keep_failures.update((event.what,)),
            ev.SegmentDone: lambda event: self.segments.update(("done",)),
            ev.SegmentParked: lambda event: self.segments.update(("parked",)),
            ev.SegmentFailed: lambda event: self.segments.update((event.reason,)),
            ev.WorkerReady: self._worker_ready,
            ev.WorkerGone: self._worker_gone,
            ev.Configured: self._configured,
            Recovered: self._recovered,
        }
        self.step: Final = self._counting(step)

    def _counting(self, step: Step) -> Step:
        """A step that is counted. All that the most common call needs is at hand, in locals."""
        calls, others = self.calls, self._others
        nothing: dict[type, Times] = {}

        def counted(now_ns: int, event: ev.Event) -> list[Effect]:
            effects = step(now_ns, event)
            if type(event) is Called and len(effects) == 1:
                effect = effects[0]
                if type(effect) is Reply and effect.to is event.origin:
                    times = calls.get(type(event.request), nothing).get(type(effect.body))
                    if times is not None:
                        # As `Times.add`, without a call.
                        ns = monotonic_ns() + self.offset_ns - now_ns
                        times.sum_ns += ns
                        place = (((ns - 1) >> FIRST_BITS).bit_length() + 1) >> 1
                        times.counts[place if place < BUCKETS else BUCKETS] += 1
                        return effects
            others(now_ns, event, effects)
            return effects

        return counted

    def _others(self, now_ns: int, event: ev.Event, effects: list[Effect]) -> None:
        if type(event) is Called:
            to = event.origin
            late = self._late.get(to.conn)
            if late is None:
                late = self._late[to.conn] = {}
            late[to.call] = (type(event.request), now_ns)
        elif (watch := self._watched.get(type(event))) is not None:
            watch(event)
        for effect in effects:
            if type(effect) is Reply:
                calls = self._late.get(effect.to.conn)
                call = None if calls is None else calls.pop(effect.to.call, None)
                if call is not None:
                    ns = monotonic_ns() + self.offset_ns - call[1]
                    self._answered(call[0], type(effect.body), ns)
            elif type(effect) is Keep:
                self._keep(effect)

    def _answered(self, call: type, answer: type, ns: int) -> None:
        answers = self.calls.setdefault(call, {})
        times = answers.get(answer)
        if times is None:
            times = answers[answer] = Times()
        times.add(ns)

    def _client_gone(self, event: ev.ClientGone) -> None:
        self._late.pop(event.conn, None)  # it is answered no more

    # --- workers, rules -------------------------------------------------------------------------

    def _worker_ready(self, event: ev.WorkerReady) -> None:
        self.workers_ready += 1

    def _worker_gone(self, event: ev.WorkerGone) -> None:
        self.workers_gone += 1

    def _configured(self, event: ev.Configured) -> None:
        self.reloads += 1

    # --- what is kept ---------------------------------------------------------------------------

    def _keep(self, effect: Keep) -> None:
        self._keeps.append((effect.number, monotonic_ns()))
        for row in effect.rows:
            if type(row) is SliceRow:
                self._slice(row)
            elif type(row) is EndRow:
                self._end(row)
            elif type(row) is JobRow:
                self._accept(row, [graph for graph in effect.rows if type(graph) is GraphRow])
                self._shots[row.id].work.accepted += 1

    def _kept(self, event: ev.Kept) -> None:
        now_ns = monotonic_ns()
        while self._keeps and self._keeps[0][0] <= event.number:
            self.commits.add(now_ns - self._keeps.popleft()[1])

    def _recovered(self, event: Recovered) -> None:
        over = {end.job for end in event.ends}
        graphs = {graph.digest: graph for graph in event.graphs}
        for job in event.jobs:
            if job.id not in over:
                self._accept(job, [graphs[job.graph]])

    def _accept(self, job: JobRow, graphs: list[GraphRow]) -> None:
        summary = next(graph.summary for graph in graphs if graph.digest == job.graph)
        shot = _Shot(self.of_tenant(job.tenant), job.tenant, summary.epochs, summary.t_states)
        for one in job.context.pairs:
            shot.pairs += len(one.nodes)
            shot.raw_pairs += len(one.nodes) * one.terms.raw_pairs
        self._shots[job.id] = shot

    def _slice(self, row: SliceRow) -> None:
        shot = self._shots.get(row.job)
        if shot is None:
            return
        work, report = shot.work, row.report
        work.slices += 1
        work.shots += report.shots
        work.cpu_ns += report.cpu_ns
        work.epochs += shot.epochs * report.shots
        work.t_states += shot.t_states * report.shots
        work.pairs += shot.pairs * report.shots
        work.raw_pairs += shot.raw_pairs * report.shots
        if report.decoder is not None:
            _add_up(work.decoder, report.decoder)

    def _end(self, row: EndRow) -> None:
        shot = self._shots.pop(row.job, None)
        if shot is None:
            return
        work, status = shot.work, row.status
        error = "" if status.error is None else status.error.type
        work.ended[status.state, error] += 1
        _tell(row, shot.tenant)
        told = status.telemetry
        work.queued.add(int(told.queue_time_ms * 1e6), row.job)
        if status.started_at is not None:
            work.ran.add(int(told.execution_time_ms * 1e6), row.job)
        work.queue_cycles += told.queue_cycles
        work.machine_cycles += told.machine_cycles

    def of_tenant(self, name: str) -> Work:
        """Its own, or that of all others once there are many."""
        found = self.work.get(name)
        if found is None:
            if len(self.work) - (OTHERS in self.work) >= self._tenants_max:
                name = OTHERS
            found = self.work.setdefault(name, Work())
        return found


def _tell(row: EndRow, tenant: str) -> None:
    """Into the log: failures always, all others where it is to hold everything."""
    status = row.status
    level, what = logging.DEBUG, "job over"
    if status.error is not None:
        level, what = logging.INFO, "job failed"
    if _log.isEnabledFor(level):
        about = {"job_id": row.job, "tenant": tenant, "state": status.state.value}
        if status.error is not None:
            about |= {"error": status.error.type, "why": status.error.message}
        _log.log(level, what, extra=about)


_ADDED: Final = (
    "histories", "calls", "cycles", "failures", "undecoded", "errors", "busy_ns", "stalled_ns",
    "overloads",
)  # fmt: skip


def _add_up(sums: Counter[str], figures: DecoderFigures) -> None:
    for name in _ADDED:
        sums[name] += getattr(figures, name)
    sums["backlog_most"] = max(sums["backlog_most"], figures.backlog_most)
