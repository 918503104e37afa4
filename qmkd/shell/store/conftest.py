"""A story told to a store, and what must be found in it after any part of it.

`Story` makes one `Keep` after the other from a seed, and keeps in plain dictionaries what they come
to. Its packed rows follow from the last digits of a job's id, which it has in common with jobs that
go on from it, and its snapshots from their tickets, so nobody has to hold them.
"""

from __future__ import annotations

import os
import random
import select
import struct
from collections.abc import Iterator
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qmkd.core import audit
from qmkd.core.effects import Keep
from qmkd.core.ports import SegmentReport
from qmkd.core.records import (
    AuditRow,
    CapabilityRow,
    ChannelRow,
    CheckpointRow,
    CopyRow,
    EndRow,
    FaultRow,
    Gone,
    GraphRow,
    HandleRow,
    JobRow,
    Recovered,
    Row,
    SessionRow,
    SliceRow,
    SnapshotRow,
)
from qmkd.shell.results import ROWS_HELD_BYTES_MAX
from qmkd.shell.snapshots import READ_AT_ONCE_BYTES_MAX
from qmkd.shell.store import Durability, Store
from qmkd.shell.store.reader import snapshot_pieces
from qvm.program import Summary, VerifiedProgram
from qvm.verify import verify_bytes
from syscalls.capability import Share
from syscalls.channel import ChannelTerms
from syscalls.fault import Fault, FaultKind
from syscalls.findings import Finding
from syscalls.ids import (
    CapabilityId,
    ChannelId,
    CheckpointId,
    HandleId,
    JobId,
    SessionId,
    channel_id,
    handle_id,
)
from syscalls.job import ExecutionContext, JobState, JobStatus, NoiseApplied, Policy
from syscalls.results import SHOT_BLOCK
from syscalls.rights import Right

TENANTS = ("ada", "ben")
SESSIONS_MAX = 4
JOBS_MAX = 12
ROW_BYTES = (0, 3, 90)  # with the last, a slice of 1024 shots is read from its memory file
EXAMPLE = Path(__file__).parents[3] / "qvm" / "examples" / "bell.qvm.json"
ACK = struct.Struct("<Q")
ORIGIN_DIGITS = 8
CHECKPOINTS_MAX = 4

assert max(ROW_BYTES) * SHOT_BLOCK > ROWS_HELD_BYTES_MAX


class MemoryRegion:
    """What `Results.region` gives for large rows; counts how many are not released."""

    open = 0

    def __init__(self, content: bytes) -> None:
        self.content, self.size = content, len(content)
        MemoryRegion.open += 1

    def read(self, at: int, size: int) -> bytes:
        assert 0 <= at <= at + size <= self.size
        return self.content[at : at + size]

    def release(self) -> None:
        MemoryRegion.open -= 1


def packed(job: str, first_byte: int, size: int) -> bytes:
    """The rows of a job or checkpoint, as if a worker had made them."""
    pattern = sha256(job[-ORIGIN_DIGITS:].encode()).digest() * 8
    start = first_byte % len(pattern)
    return (pattern * (size // len(pattern) + 2))[start : start + size]


def rows_of(job: str, first_byte: int, size: int) -> bytes | MemoryRegion:
    content = packed(job, first_byte, size)
    return content if size <= ROWS_HELD_BYTES_MAX else MemoryRegion(content)


def parked(ticket: int) -> bytes:
    """A snapshot, small or of several pieces, as if a worker had made it."""
    return sha256(b"%d" % ticket).digest() * (40_000 if ticket % 16 == 5 else 40)


def snapshot_of(ticket: int) -> bytes | MemoryRegion:
    content = parked(ticket)
    return content if len(content) <= READ_AT_ONCE_BYTES_MAX else MemoryRegion(content)


def a_summary() -> Summary:
    program = verify_bytes(EXAMPLE.read_bytes())
    assert isinstance(program, VerifiedProgram)
    return program.summary


SUMMARY = a_summary()


class Story:
    """Keeps, one after the other. told: how many; the same in `numbered` of each."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.told = 0
        self.run_told = 0
        self.epoch = 0
        self.sessions: dict[SessionId, SessionRow] = {}
        self.capabilities: dict[CapabilityId, CapabilityRow] = {}
        self.handles: dict[HandleId, HandleRow] = {}
        self.channels: dict[ChannelId, ChannelRow] = {}
        self.graphs: dict[bytes, GraphRow] = {}
        self.jobs: dict[JobId, JobRow] = {}
        self.jobs_ever = 0
        self.shots: dict[JobId, tuple[int, int]] = {}
        self.slices: dict[JobId, list[SliceRow]] = {}
        self.ends: dict[JobId, EndRow] = {}
        self.checkpoints: dict[CheckpointId, CheckpointRow] = {}
        self.copies: dict[CheckpointId, list[SliceRow]] = {}
        self.snapshots: dict[int, SnapshotRow] = {}
        self.tickets = 0
        self.faults: dict[str, FaultRow] = {}
        self.audit: list[AuditRow] = []

    def new_run(self) -> None:
        """The daemon starts again, and counts its Keeps anew."""
        self.run_told = 0

    def next(self) -> Keep:
        """Go on by one."""
        self.told += 1
        self.run_told += 1
        self.epoch += self.rng.randint(0, 2)
        rows: list[Row] = []
        gone: dict[str, tuple[Any, ...]] = {}
        others = [self._end, self._end, self._forget, self._drop, self._close, self._revoke]
        others += [self._hold, self._release, self._unpark, self._forget_checkpoint]
        happenings = [
            self._open,
            self._lend,
            self._break,
            self._submit,
            self._submit,
            self._run,
            self._run,
            self._run,
            self._park,
            self._checkpoint,
            self._restore,
        ]
        for happening in (*happenings, *others):
            if self.rng.random() < 0.25:
                found, lost = happening()
                rows += found
                for kind, names in lost.items():
                    gone[kind] = gone.get(kind, ()) + names
        rows.append(self._note())
        return Keep(
            number=self.run_told,
            epoch=self.epoch,
            numbered=self.told,
            cycle=1000 * self.told,
            rows=tuple(rows),
            gone=Gone(**gone),
        )

    def recovered(self) -> Recovered:
        """What a store holds after all that was told. Graphs are in the order of their digests."""
        kept = {each.job.graph for each in self.checkpoints.values()}
        live = kept | {job.graph for name, job in self.jobs.items() if name not in self.ends}
        used = kept | {job.graph for job in self.jobs.values()}
        return Recovered(
            epoch=self.epoch,
            numbered=self.told,
            cycle=1000 * self.told,
            audited=len(self.audit),
            audit_head=self.audit[-1].hash if self.audit else b"",
            sessions=tuple(self.sessions[name] for name in sorted(self.sessions)),
            capabilities=tuple(self.capabilities[name] for name in sorted(self.capabilities)),
            handles=tuple(self.handles[name] for name in sorted(self.handles)),
            channels=tuple(self.channels[name] for name in sorted(self.channels)),
            graphs=tuple(
                graph if digest in live else msgspec.structs.replace(graph, graph=b"")
                for digest, graph in sorted(self.graphs.items())
                if digest in used
            ),
            jobs=tuple(self.jobs.values()),
            slices=tuple(
                row
                for rows in (
                    *(self.slices.get(name, ()) for name in self.jobs),
                    *(self.copies[name] for name in self.checkpoints),
                )
                for row in rows
            ),
            snapshots=tuple(self.snapshots[ticket] for ticket in sorted(self.snapshots)),
            checkpoints=tuple(self.checkpoints.values()),
            ends=tuple(self.ends[name] for name in self.jobs if name in self.ends),
            faults=tuple(self.faults[name] for name in sorted(self.faults)),
        )

    # --- what can happen ------------------------------------------------------------------------

    Happened = tuple[list[Row], dict[str, tuple[Any, ...]]]

    def _open(self) -> Happened:
        if len(self.sessions) == SESSIONS_MAX:
            return [], {}
        name = SessionId(f"sess_{self.rng.randbytes(16).hex()}")
        tenant = self.rng.choice(TENANTS)
        row = SessionRow(id=name, tenant=tenant, granted=("CAP_ALLOC",), opened_ns=self.told)
        self.sessions[name] = row
        return [row], {}

    def _lend(self) -> Happened:
        if not self.sessions:
            return [], {}
        name = CapabilityId(f"cap_{self.rng.randbytes(16).hex()}")
        self.capabilities[name] = row = CapabilityRow(
            id=name,
            number=self.told,
            giver=self.rng.choice(list(self.sessions)),
            parent=self.rng.choice([None, *self.capabilities]),
            depth=1,
            tenant=self.rng.choice(TENANTS),
            rights=frozenset({Right.ALLOC, Right.MAGIC}),
            share=Share(jobs=self.rng.randint(1, 9)),
            expires_ns=self.rng.getrandbits(62),
        )
        return [row], {}

    def _revoke(self) -> Happened:
        earlier = [each.id for each in self.capabilities.values() if each.number != self.told]
        for name in earlier[:2]:
            del self.capabilities[name]
        return [], {"capabilities": tuple(earlier[:2])}

    def _hold(self) -> Happened:
        """A session holds two qubits and a channel between them."""
        if not self.sessions:
            return [], {}
        session = self.rng.choice(list(self.sessions))
        one, two = (
            HandleRow(
                id=handle_id(self.rng.randbytes(16)),
                number=self.told,
                session=session,
                profile="logical:Surface(d=3)",
                module=at,
                first=17 * at,
            )
            for at in range(2)
        )
        channel = ChannelRow(
            id=channel_id(self.rng.randbytes(16)),
            number=self.told,
            session=session,
            ends=(one.id, two.id),
            consent=None,
            lent=(),
            asked=0.9,
            terms=ChannelTerms(raw_pairs=self.rng.random()),
        )
        self.handles |= {one.id: one, two.id: two}
        self.channels[channel.id] = channel
        return [one, two, channel], {}

    def _release(self) -> Happened:
        earlier = [each for each in self.channels.values() if each.number != self.told][:1]
        for each in earlier:
            del self.channels[each.id], self.handles[each.ends[0]], self.handles[each.ends[1]]
        handles = tuple(name for each in earlier for name in each.ends)
        return [], {"channels": tuple(each.id for each in earlier), "handles": handles}

    def _break(self) -> Happened:
        """A part of the machine fails; of two that failed before, one works again."""
        earlier = sorted(self.faults)[:-1][:1]
        for name in earlier:
            del self.faults[name]
        fault = Fault(kind=FaultKind.DECODER, strength=2.5, from_cycle=self.told)
        row = FaultRow(id=f"fault_{self.told:06}", fault=fault)
        self.faults[row.id] = row
        return [row], {"faults": tuple(earlier)}

    def _submit(self) -> Happened:
        if not self.sessions or len(self.jobs) >= JOBS_MAX:
            return [], {}
        session = self.sessions[self.rng.choice(list(self.sessions))]
        content = b"graph %d" % self.rng.randint(1, 4) * 300
        graph = GraphRow(
            digest=sha256(content).digest(),
            graph=content,
            summary=msgspec.structs.replace(SUMMARY, digest=content[:8].decode()),
            warnings=(Finding(rule="r", severity="warning", node=None, path="$", message="m"),),
        )
        self.jobs_ever += 1
        name = JobId(f"job_{self.jobs_ever:024x}{self.jobs_ever:08x}")
        noise = NoiseApplied(requested="ideal", applied="ideal")
        job = JobRow(
            id=name,
            number=self.jobs_ever,
            session=session.id,
            tenant=session.tenant,
            graph=graph.digest,
            policy=Policy(shots=4 * SHOT_BLOCK),
            seed=self.rng.getrandbits(64),
            context=ExecutionContext(
                engine="fake", why="test", width=1, seed=1, program_digest="d", noise=noise
            ),
            created_ns=self.told,
            checked_ns=self.told,
        )
        self.graphs[graph.digest], self.jobs[name] = graph, job
        self.shots[name] = (0, self.rng.choice(ROW_BYTES))
        return [graph, job], {}

    def _park(self) -> Happened:
        live = self._live()
        if not live:
            return [], {}
        self.tickets += 1
        content = parked(self.tickets)
        row = SnapshotRow(
            ticket=self.tickets,
            holder=self.rng.choice(live),
            first=0,
            shots=SHOT_BLOCK,
            epoch=1,
            size=len(content),
            digest=sha256(content).digest(),
        )
        self.snapshots[row.ticket] = row
        return [row], {}

    def _copied(self, source: str, target: JobId | CheckpointId) -> list[Row]:
        """What comes to the target of what the source has."""
        rows: list[Row] = [CopyRow(source=JobId(source), target=target)]
        for row in list(self.snapshots.values()):
            if row.holder == source:
                self.tickets += 1
                rows.append(
                    msgspec.structs.replace(row, ticket=self.tickets, holder=target, of=row.ticket)
                )
                self.snapshots[self.tickets] = rows[-1]  # type: ignore[assignment]
        return rows

    def _checkpoint(self) -> Happened:
        live = self._live()
        if not live or len(self.checkpoints) >= CHECKPOINTS_MAX:
            return [], {}
        job = self.jobs[self.rng.choice(live)]
        self.jobs_ever += 1
        name = CheckpointId(f"ckpt_{self.jobs_ever:024x}{job.id[-ORIGIN_DIGITS:]}")
        self.checkpoints[name] = row = CheckpointRow(
            id=name,
            number=self.jobs_ever,
            tenant=job.tenant,
            job=job,
            epoch=1,
            created_ns=self.told,
        )
        self.copies[name] = [
            msgspec.structs.replace(each, job=name) for each in self.slices.get(job.id, ())
        ]
        return [row, *self._copied(job.id, name)], {}

    def _restore(self) -> Happened:
        able = [
            name
            for name, each in self.checkpoints.items()
            if each.job.session in self.sessions and each.created_ns != self.told
        ]
        if not able or len(self.jobs) >= JOBS_MAX:
            return [], {}
        checkpoint = self.checkpoints[self.rng.choice(able)]
        self.jobs_ever += 1
        name = JobId(f"job_{self.jobs_ever:024x}{checkpoint.id[-ORIGIN_DIGITS:]}")
        row = msgspec.structs.replace(
            checkpoint.job, id=name, number=self.jobs_ever, created_ns=self.told
        )
        self.jobs[name] = row
        slices = self.copies[checkpoint.id]
        self.slices[name] = [msgspec.structs.replace(each, job=name) for each in slices]
        row_bytes = slices[0].row_bytes if slices else 3
        done = sum(-(-each.report.shots // SHOT_BLOCK) * SHOT_BLOCK for each in slices)
        self.shots[name] = (done, row_bytes)
        return [row, *self._copied(checkpoint.id, name)], {}

    def _unpark(self) -> Happened:
        """Nobody goes on from what was parked some time ago."""
        earlier = [ticket for ticket in self.snapshots if ticket + 20 < self.tickets][:2]
        for ticket in earlier:
            del self.snapshots[ticket]
        return [], {"snapshots": tuple(earlier)}

    def _forget_checkpoint(self) -> Happened:
        earlier = [each for each in self.checkpoints.values() if each.created_ns != self.told]
        if not earlier:
            return [], {}
        name = self.rng.choice(earlier).id
        del self.checkpoints[name], self.copies[name]
        self._drop_snapshots(name)
        return [], {"checkpoints": (name,)}

    def _drop_snapshots(self, holder: str) -> None:
        for ticket in [each.ticket for each in self.snapshots.values() if each.holder == holder]:
            del self.snapshots[ticket]

    def _live(self) -> list[JobId]:
        return [name for name in self.jobs if name not in self.ends]

    def _run(self) -> Happened:
        live = [name for name in self._live() if self.shots[name][0] < 4 * SHOT_BLOCK]
        if not live:
            return [], {}
        name = self.rng.choice(live)
        first, row_bytes = self.shots[name]
        shots = SHOT_BLOCK if first < 3 * SHOT_BLOCK else self.rng.randint(1, SHOT_BLOCK)
        rows = packed(name, first * row_bytes, shots * row_bytes)
        row = SliceRow(
            job=name,
            first=first,
            shots_total=4 * SHOT_BLOCK,
            row_bytes=row_bytes,
            report=SegmentReport(
                shots=shots,
                counts={"0": shots},
                first_row={"m": 0},
                leaves=sha256(rows).digest(),
                engine="fake",
                cpu_ns=self.told,
                notes={},
            ),
        )
        self.shots[name] = (first + SHOT_BLOCK, row_bytes)
        self.slices.setdefault(name, []).append(row)
        return [row], {}

    def _end(self) -> Happened:
        live = self._live()
        if not live:
            return [], {}
        name = self.rng.choice(live)
        status = JobStatus(
            job_id=name,
            session_id=self.jobs[name].session,
            state=JobState.COMPLETED,
            created_at="2026-01-01T00:00:00.000Z",
        )
        self.ends[name] = row = EndRow(job=name, status=status, completed_ns=self.told)
        return [row], {}

    def _forget(self) -> Happened:
        if not self.ends:
            return [], {}
        name = self.rng.choice(list(self.ends))
        self.slices.pop(name, None)
        self._drop_snapshots(name)
        del self.ends[name], self.jobs[name], self.shots[name]
        return [], {"jobs": (name,)}

    def _drop(self) -> Happened:
        """Results go; those of a live job only to be run anew."""
        if not self.slices:
            return [], {}
        name = self.rng.choice(list(self.slices))
        if any(row.report.cpu_ns == self.told for row in self.slices[name]):
            return [], {}  # what comes and goes in one Keep is nothing that the kernel asks for
        del self.slices[name]
        self.shots[name] = (0, self.shots[name][1])
        return [], {"results": (name,)}

    def _close(self) -> Happened:
        empty = [
            name
            for name in self.sessions
            if all(job.session != name for job in self.jobs.values())
            and self.sessions[name].opened_ns != self.told
        ]
        if not empty:
            return [], {}
        del self.sessions[empty[0]]
        return [], {"sessions": (empty[0],)}

    def _note(self) -> AuditRow:
        row = audit.entry(
            number=len(self.audit) + 1,
            previous=self.audit[-1].hash if self.audit else b"",
            epoch=self.epoch,
            at_ns=self.told,
            kind="told",
            fields={"told": self.told},
        )
        self.audit.append(row)
        return row


class Keeper:
    """A store with what it said. said: numbers and reasons, in the order told."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.said: list[int | str] = []
        self.store = Store(path, kept=self.said.append, failed=self.said.append, **options)

    @property
    def kept(self) -> int:
        return max((one for one in self.said if isinstance(one, int)), default=0)

    def wait(self, what: int | str, seconds: float = 60.0) -> None:
        """Collect until it has said so."""
        while what not in self.said if isinstance(what, str) else self.kept < what:
            ready, _, _ = select.select([self.store], [], [], seconds)
            assert ready, f"never heard {what}: {self.said}"
            self.store.collect()

    def tell(self, story: Story, count: int) -> None:
        for _ in range(count):
            self.store.keep(story.next(), rows_of, snapshot_of)


def assert_holds(store: Store, story: Story) -> None:
    """The store holds exactly what was told."""
    found = store.load()
    by_digest = tuple(sorted(found.graphs, key=lambda row: row.digest))
    assert msgspec.structs.replace(found, graphs=by_digest) == story.recovered()
    for name in (*story.jobs, *story.checkpoints):
        at = 0
        pieces = list(store.rows(name))  # none counts before the last is there
        for first_byte, piece in pieces:
            assert first_byte >= at
            assert piece == packed(name, first_byte, len(piece))
            at = first_byte + len(piece)
        slices = [*story.slices.get(JobId(name), ()), *story.copies.get(CheckpointId(name), ())]
        wanted = sum(row.report.shots * row.row_bytes for row in slices)
        assert wanted == sum(len(piece) for _, piece in pieces)
    for ticket, row in story.snapshots.items():
        content = b"".join(snapshot_pieces(store._reading, ticket))
        assert (len(content), sha256(content).digest()) == (row.size, row.digest)


def tell_until_killed(
    path: Path, story: Story, acks: Connection, durability: Durability = "power"
) -> None:
    """In a process of its own: tell the story, and say over the pipe what was acknowledged."""

    def kept(number: int) -> None:
        os.write(acks.fileno(), ACK.pack(number))

    def failed(what: str) -> None:
        os._exit(1)

    store = Store(path, durability, kept=kept, failed=failed)
    story.new_run()
    chance = random.Random(story.told)
    while True:
        for _ in range(chance.randint(1, 8)):
            store.keep(story.next(), rows_of, snapshot_of)
        while store.backlog_bytes > 500_000:
            select.select([store], [], [])
            store.collect()
        if select.select([store], [], [], 0)[0]:
            store.collect()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "qmkd.db"


@pytest.fixture
def keeper(path: Path) -> Iterator[Keeper]:
    keeper = Keeper(path)
    yield keeper
    keeper.store.close()
