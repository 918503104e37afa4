"""A story told to a store, and what must be found in it after any part of it.

`Story` makes one `Keep` after the other from a seed, and keeps in plain dictionaries what they come
to. Its packed rows follow from the job's number, so nobody has to hold them.
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
)
from qmkd.shell.results import ROWS_HELD_BYTES_MAX
from qmkd.shell.store import Durability, Store
from qvm.program import Summary, VerifiedProgram
from qvm.verify import verify_bytes
from syscalls.capability import Share
from syscalls.channel import ChannelTerms
from syscalls.fault import Fault, FaultKind
from syscalls.findings import Finding
from syscalls.ids import CapabilityId, ChannelId, HandleId, JobId, SessionId, channel_id, handle_id
from syscalls.job import ExecutionContext, JobState, JobStatus, NoiseApplied, Policy
from syscalls.results import SHOT_BLOCK
from syscalls.rights import Right

TENANTS = ("ada", "ben")
SESSIONS_MAX = 4
JOBS_MAX = 12
ROW_BYTES = (0, 3, 90)  # with the last, a slice of 1024 shots is read from its memory file
EXAMPLE = Path(__file__).parents[3] / "qvm" / "examples" / "bell.qvm.json"
ACK = struct.Struct("<Q")

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
    """The rows of a job, as if a worker had made them."""
    pattern = sha256(job.encode()).digest() * 8
    start = first_byte % len(pattern)
    return (pattern * (size // len(pattern) + 2))[start : start + size]


def rows_of(job: str, first_byte: int, size: int) -> bytes | MemoryRegion:
    content = packed(job, first_byte, size)
    return content if size <= ROWS_HELD_BYTES_MAX else MemoryRegion(content)


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
        others += [self._hold, self._release]
        happenings = [
            self._open,
            self._lend,
            self._break,
            self._submit,
            self._submit,
            self._run,
            self._run,
            self._run,
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
        live = {job.graph for name, job in self.jobs.items() if name not in self.ends}
        used = {job.graph for job in self.jobs.values()}
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
            slices=tuple(row for name in self.jobs for row in self.slices.get(name, ())),
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
        name = JobId(f"job_{self.jobs_ever:032x}")
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
            self.store.keep(story.next(), rows_of)


def assert_holds(store: Store, story: Story) -> None:
    """The store holds exactly what was told."""
    found = store.load()
    by_digest = tuple(sorted(found.graphs, key=lambda row: row.digest))
    assert msgspec.structs.replace(found, graphs=by_digest) == story.recovered()
    for name in story.jobs:
        at = 0
        pieces = list(store.rows(name))  # none counts before the last is there
        for first_byte, piece in pieces:
            assert first_byte >= at
            assert piece == packed(name, first_byte, len(piece))
            at = first_byte + len(piece)
        wanted = sum(row.report.shots * row.row_bytes for row in story.slices.get(name, ()))
        assert wanted == sum(len(piece) for _, piece in pieces)


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
            store.keep(story.next(), rows_of)
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
