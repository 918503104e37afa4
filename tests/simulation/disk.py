"""The simulated disk: what is durable, what was asked for, and what a crash leaves of it.

It keeps the kernel's rows as `qmkd.core.records` describes them, by rules of its own, so that the
kernel is held against what a store promises: `Keep`s become durable whole and in order; a crash may
come after a write and before the news of it; what was never written is lost.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import msgspec

from qmkd.core import effects as fx
from qmkd.core.records import (
    AuditRow,
    CapabilityRow,
    ChannelRow,
    CheckpointRow,
    CopyRow,
    EndRow,
    FaultRow,
    GraphRow,
    HandleRow,
    JobRow,
    Recovered,
    SessionRow,
    SliceRow,
    SnapshotRow,
)
from syscalls import audit
from syscalls.job import FINAL_STATES

WRONG = ("disk full", "read-only", "locked", "input/output error")


@dataclass
class Tables:
    """What is on the disk."""

    epoch: int = 0
    numbered: int = 0
    cycle: int = 0
    sessions: dict[str, SessionRow] = field(default_factory=dict)
    capabilities: dict[str, CapabilityRow] = field(default_factory=dict)
    handles: dict[str, HandleRow] = field(default_factory=dict)
    channels: dict[str, ChannelRow] = field(default_factory=dict)
    graphs: dict[bytes, GraphRow] = field(default_factory=dict)
    jobs: dict[str, JobRow] = field(default_factory=dict)
    slices: dict[tuple[str, int], SliceRow] = field(default_factory=dict)
    snapshots: dict[int, SnapshotRow] = field(default_factory=dict)
    checkpoints: dict[str, CheckpointRow] = field(default_factory=dict)
    ends: dict[str, EndRow] = field(default_factory=dict)
    faults: dict[str, FaultRow] = field(default_factory=dict)
    audit: list[AuditRow] = field(default_factory=list)


class Disk:
    """Tables, and the `Keep`s not yet in them.

    failing: it says so, and writes nothing. ever: names of all sessions and jobs once written.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tables = Tables()
        self.ever: set[str] = set()
        self.queue: list[fx.Keep] = []
        self.failing = False
        self.last = 0

    def keep(self, effect: fx.Keep) -> None:
        assert effect.number > self.last, "numbers grow"
        self.last = effect.number
        self.queue.append(effect)

    def write(self) -> int:
        """A group commit: some of what waits, oldest first. Returns the last number."""
        assert self.queue
        size = self.rng.randint(1, len(self.queue))
        for effect in self.queue[:size]:
            self._apply(effect)
        number = self.queue[size - 1].number
        del self.queue[:size]
        return number

    def crash(self) -> None:
        """Lose what was not written, after a last commit of which nobody hears."""
        if self.queue and not self.failing and self.rng.random() < 0.5:
            self.write()
        self.queue.clear()
        self.failing = False
        self.last = 0

    def _apply(self, effect: fx.Keep) -> None:
        tables = self.tables
        assert effect.epoch >= tables.epoch, "an epoch number never goes back"
        assert effect.numbered >= tables.numbered
        assert effect.cycle >= tables.cycle, "the machine's clock never goes back"
        tables.epoch, tables.numbered, tables.cycle = effect.epoch, effect.numbered, effect.cycle
        for row in effect.rows:
            match row:
                case SessionRow():
                    assert row.id not in tables.sessions
                    tables.sessions[row.id] = row
                    self.ever.add(row.id)
                case CapabilityRow():
                    assert row.id not in tables.capabilities
                    assert row.giver in tables.sessions
                    assert row.parent is None or row.parent in tables.capabilities
                    tables.capabilities[row.id] = row
                case HandleRow():
                    assert row.id not in tables.handles
                    assert row.session in tables.sessions
                    tables.handles[row.id] = row
                    self.ever.add(row.id)
                case ChannelRow():
                    assert row.id not in tables.channels
                    assert {row.session} <= tables.sessions.keys()
                    assert {*row.ends} <= tables.handles.keys()
                    tables.channels[row.id] = row
                    self.ever.add(row.id)
                case GraphRow():
                    before = tables.graphs.setdefault(row.digest, row)
                    assert before.graph == row.graph
                case JobRow():
                    assert row.id not in tables.jobs, "a job is accepted once"
                    assert row.session in tables.sessions
                    assert row.graph in tables.graphs
                    tables.jobs[row.id] = row
                    self.ever.add(row.id)
                case SliceRow():
                    assert row.job in tables.jobs
                    assert row.job not in tables.ends, "a job that is over does not go on"
                    self._slice(row)
                case CheckpointRow():
                    assert row.id not in tables.checkpoints
                    assert row.job.session in tables.sessions
                    assert row.job.graph in tables.graphs
                    tables.checkpoints[row.id] = row
                    self.ever.add(row.id)
                case SnapshotRow() | CopyRow():
                    pass  # once whose they are is there
                case EndRow():
                    assert row.job in tables.jobs
                    assert row.job not in tables.ends, "a job ends once"
                    assert row.status.state in FINAL_STATES
                    tables.ends[row.job] = row
                case FaultRow():
                    assert row.id not in tables.faults
                    tables.faults[row.id] = row
                case AuditRow():
                    tables.audit.append(row)
        for row in effect.rows:
            if isinstance(row, CopyRow):
                self._copy(row)
            elif isinstance(row, SnapshotRow):
                self._snapshot(row)
        self._let_go(effect)

    def _snapshot(self, row: SnapshotRow) -> None:
        tables = self.tables
        assert row.ticket not in tables.snapshots
        assert row.holder in tables.jobs or row.holder in tables.checkpoints
        assert not row.of or tables.snapshots[row.of].digest == row.digest, "a copy of another"
        tables.snapshots[row.ticket] = row

    def _copy(self, row: CopyRow) -> None:
        tables = self.tables
        assert row.target in tables.jobs or row.target in tables.checkpoints
        theirs = [each for (job, _), each in tables.slices.items() if job == row.source]
        assert theirs, "something is copied"
        assert not any(job == row.target for job, _ in tables.slices)
        for each in theirs:
            self._slice(msgspec.structs.replace(each, job=row.target))

    def _slice(self, row: SliceRow) -> None:
        tables = self.tables
        assert 0 <= row.first < row.first + row.report.shots <= row.shots_total
        for (job, first), other in tables.slices.items():
            if job == row.job:
                apart = (
                    row.first >= first + other.report.shots or first >= row.first + row.report.shots
                )
                assert apart, "no shot is done twice"
        tables.slices[row.job, row.first] = row

    def _let_go(self, effect: fx.Keep) -> None:
        tables, gone = self.tables, effect.gone
        for ticket in gone.snapshots:
            del tables.snapshots[ticket]
        for holder in (*gone.jobs, *gone.checkpoints):
            for ticket in [t for t, row in tables.snapshots.items() if row.holder == holder]:
                del tables.snapshots[ticket]
        for checkpoint in gone.checkpoints:
            del tables.checkpoints[checkpoint]
        for job in (*gone.jobs, *gone.results, *gone.checkpoints):
            for key in [key for key in tables.slices if key[0] == job]:
                del tables.slices[key]
        for job in gone.jobs:
            del tables.jobs[job]
            tables.ends.pop(job, None)
        for capability in gone.capabilities:
            del tables.capabilities[capability]
        for channel in gone.channels:
            del tables.channels[channel]
        for handle in gone.handles:
            del tables.handles[handle]
        for session in gone.sessions:
            del tables.sessions[session]
        for fault in gone.faults:
            del tables.faults[fault]
        named = {row.graph for row in tables.jobs.values()}
        named |= {row.job.graph for row in tables.checkpoints.values()}
        for digest in [digest for digest in tables.graphs if digest not in named]:
            del tables.graphs[digest]

    def load(self) -> Recovered:
        """What a new kernel is told first."""
        tables = self.tables
        assert not self.queue
        broken = audit.verify((row.number, row.body, row.hash) for row in tables.audit)
        assert broken is None, broken
        live = {row.graph for row in tables.jobs.values() if row.id not in tables.ends}
        live |= {row.job.graph for row in tables.checkpoints.values()}
        graphs = (
            row if digest in live else msgspec.structs.replace(row, graph=b"")
            for digest, row in tables.graphs.items()
        )
        return Recovered(
            epoch=tables.epoch,
            numbered=tables.numbered,
            cycle=tables.cycle,
            audited=len(tables.audit),
            audit_head=tables.audit[-1].hash if tables.audit else b"",
            sessions=tuple(tables.sessions.values()),
            capabilities=tuple(tables.capabilities.values()),
            handles=tuple(tables.handles.values()),
            channels=tuple(tables.channels.values()),
            graphs=tuple(graphs),
            jobs=tuple(sorted(tables.jobs.values(), key=lambda row: row.number)),
            slices=tuple(row for _, row in sorted(tables.slices.items())),
            snapshots=tuple(row for _, row in sorted(tables.snapshots.items())),
            checkpoints=tuple(tables.checkpoints.values()),
            ends=tuple(tables.ends.values()),
            faults=tuple(tables.faults.values()),
        )
