"""What is held against the kernel: a ledger of its own, kept from requests and effects.

It knows who owns what because it saw the replies, and it knows what a job yields because
`outcomes.py` says so. It looks into the kernel's state only for `invariants.check`, fingerprints,
and to learn when a job is over.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from enum import Enum
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec

from qmkd.core import effects as fx
from qmkd.core.events import Called, Origin
from qmkd.core.limits import JOB_RETAINED_NS, PROGRESS_NS_MIN, SESSION_IDLE_NS
from qmkd.core.mapping import held_up
from qmkd.core.ports import TenantRule
from qmkd.core.state import State
from qvm.program import VerifiedProgram
from syscalls.channel import ChanClosed, ChanOpened
from syscalls.checkpoint import (
    Checkpoint,
    CheckpointDropped,
    Checkpointed,
    CheckpointsListed,
    DropCheckpoint,
    Migrate,
    Migrated,
    Replay,
    Replayed,
    Restore,
    Restored,
)
from syscalls.errors import (
    AccessDenied,
    AuthFailed,
    Busy,
    CheckpointIncompatible,
    CheckpointNotFound,
    InsufficientCaps,
    JobNotFound,
    KernelError,
    NotAvailable,
    SessionExpired,
    TenantSuspended,
)
from syscalls.events import JobEvent, Subscribe, Subscribed
from syscalls.job import FINAL_STATES, Cancel, JobState, JobStatus, Policy, Submit, Submitted
from syscalls.qubit import Allocated, Released
from syscalls.results import ResultsReply
from syscalls.session import CloseSession, NegotiateCaps, Session, SessionClosed
from tests.simulation import outcomes
from tests.simulation.borders import Borders
from tests.simulation.cast import JOBS_RETAINED, TENANTS, tenant_of, verified
from tests.simulation.disk import Disk
from tests.simulation.ledger import Ledger

_PARKED = object()  # what is known of an answer that comes later
_DROPPED = "the results are no longer kept"


@dataclasses.dataclass
class SeenSession:
    """A session as its replies tell: `closed` when a close was answered, `closing` before."""

    tenant: str
    touched_ns: int
    closing: bool = False
    closed: bool = False
    expired: bool = False


@dataclasses.dataclass
class SeenJob:
    """A job as its submission tells. seq, progress_ns: of its last notification, by connection."""

    session: str
    tenant: str
    request: Submit
    events: int
    final: JobStatus | None = None


@dataclasses.dataclass
class SeenCheckpoint:
    """A checkpoint as its reply tells. job: that it was taken of, by name; seed: that job's.

    unwanted: somebody has asked to drop it, and may have gone before the answer.
    """

    session: str
    job: str
    seed: int
    taken_ns: int
    unwanted: bool = False


@dataclasses.dataclass
class Rows:
    """What the shell would hold of a job's packed rows."""

    sealed: bool = False


class Witness:
    """The ledger. `asked` before a step, `saw` after it."""

    def __init__(self, disk: Disk | None = None) -> None:
        self.disk = disk
        self.ledger = Ledger()
        self.borders = Borders(self.ledger)
        self.open: dict[Origin, Called] = {}
        self.asked_ns: dict[Origin, int] = {}
        self.arrived: Called | None = None  # in the step under way
        self.gone: set[int] = set()
        self.sessions: dict[str, SeenSession] = {}
        self.jobs: dict[str, SeenJob] = {}
        self.repeats: dict[str, str] = {}
        self.targets: dict[str, set[str]] = {}  # of each job, modules that somebody asked for
        self.checkpoints: dict[str, SeenCheckpoint] = {}
        self.rows: dict[str, Rows] = {}
        self.programs: dict[int, bytes] = {}
        self.forgotten: set[int] = set()
        self.subscribed: dict[tuple[int, str | None, str], set[str]] = {}
        self.last_seq: dict[tuple[int, str], int] = {}
        self.last_progress: dict[tuple[int, str], int] = {}
        self.epoch = 0
        self.stuck: set[str] = set()  # sessions that once waited for what sessions hold
        self.busy: set[str] = set()  # sessions that the last step left with something under way
        self.halts = 0
        self.answers: dict[str, int] = {}

    # --- what comes in --------------------------------------------------------------------------

    def asked(self, now_ns: int, event: Called) -> None:
        assert event.origin not in self.open
        self.open[event.origin] = event
        self.asked_ns[event.origin] = now_ns
        self.ledger.asked(event)
        if isinstance(event.request, DropCheckpoint):
            seen = self.checkpoints.get(event.request.checkpoint_id)
            if seen is not None and seen.session == event.request.session_id:
                seen.unwanted = True
        if isinstance(event.request, Migrate):
            self.targets.setdefault(event.request.job_id, set()).add(event.request.target)
        self.arrived = event

    def configured(self, rules: tuple[TenantRule, ...]) -> None:
        """These are the rules from now on; what was handed on may end for it."""
        self.suspended = {rule.name for rule in rules if rule.suspended}
        self.removed = {rule.name for rule in TENANTS} - {rule.name for rule in rules}
        for each in self.ledger.living.values():
            each.asked_back = True

    def client_gone(self, conn: int) -> None:
        self.gone.add(conn)
        self.open = {origin: event for origin, event in self.open.items() if origin.conn != conn}
        for key in [key for key in self.subscribed if key[0] == conn]:
            del self.subscribed[key]

    # --- what comes out -------------------------------------------------------------------------

    def saw(self, state: State, now_ns: int, out: list[fx.Effect], dying: bool = False) -> None:
        """Hold a step's effects against the ledger. dying: nobody is told more than these."""
        self._check_epoch(state)
        if self.arrived is not None:
            self.ledger.arrived(state, self.arrived)
        self.ledger.check(state, now_ns)
        busy: set[str] = {name for name, each in state.sessions.items() if each.live or each.checks}
        for name in busy | self.busy:
            if name in self.sessions:
                self.sessions[name].touched_ns = now_ns
        self.busy = busy
        waiting = [
            each for each in state.sessions.values() if each.live and each.id not in self.stuck
        ]
        self.stuck |= {
            str(each.id) for each in waiting if all(held_up(state, job) for job in each.live)
        }
        for effect in out:
            match effect:
                case fx.Reply():
                    self._reply(state, now_ns, effect)
                case fx.Notify():
                    self._notified(now_ns, effect)
                case fx.RunSegment():
                    self._run(effect)
                    self.ledger.ran(state, effect)
                    self.borders.ran(state, effect)
                case fx.ForgetProgram():
                    self.forgotten.add(effect.program)
                    assert effect.program in self.programs, "workers forget what they were sent"
                case fx.SealResults():
                    self._sealed(state, effect.job_id)
                case fx.DropResults():
                    del self.rows[effect.job_id]
                case fx.CopyResults():
                    assert effect.target not in self.rows
                    assert not self.rows[effect.source].sealed
                    self.rows[effect.target] = Rows()
                case fx.Halt():
                    self.halts += 1
        if self.subscribed and not dying:
            self._check_told(state)
        if self.arrived is not None and self.arrived.origin in self.open:
            self._check_authority(state, now_ns, self.arrived, _PARKED)
        self.arrived = None

    def _check_epoch(self, state: State) -> None:
        """As it is told: after a crash it goes on from what is durable."""
        epoch = state.epoch if self.disk is None else state.epoch_kept
        assert epoch >= self.epoch, "an epoch number never goes back"
        self.epoch = epoch

    # --- restarts -------------------------------------------------------------------------------

    def crashed(self) -> None:
        """The kernel is gone, with all connections and all that lay in memory."""
        self.open, self.arrived, self.asked_ns = {}, None, {}
        self.ledger.crashed()
        assert self.disk is not None
        tables = self.disk.tables
        self.rows = {job: Rows(sealed=job in tables.ends) for job, _ in tables.slices}
        self.programs, self.forgotten = {}, set()
        self.subscribed, self.last_seq, self.last_progress = {}, {}, {}
        self.busy, self.halts = set(), 0

    def recovered(self, before: State, state: State, now_ns: int) -> None:
        """Hold a kernel that has just recovered against the one before it, and what was told."""
        known_rows = {str(job.id) for job in state.jobs.values() if job.rows}
        for tenant in state.tenants.values():
            made = tenant.checkpoints.values()
            known_rows |= {str(one.row.id) for one in made if one.job.shots_done}
        assert known_rows <= self.rows.keys(), "rows are where slices are"
        self.rows = {name: rows for name, rows in self.rows.items() if name in known_rows}
        self._check_standing(state)
        self._check_epoch(state)
        self.ledger.recovered(state)
        self.borders.recovered(before, state)
        for name, seen in self.sessions.items():
            closed = seen.closed and not seen.expired
            assert not (closed and name in state.sessions), "closed is closed"
            if name in before.sessions and not seen.closing:
                assert name in state.sessions, "a session outlives the daemon"
            if name not in before.sessions:
                seen.closing = True  # by a call that the dying daemon did not answer
            if name in state.sessions:
                seen.touched_ns = now_ns  # its time begins anew
                seen.closed = seen.expired = False
        for name, job in self.jobs.items():
            known = state.jobs.get(name)  # type: ignore[call-overload]
            if known is None:
                lost = name in before.jobs and not self.sessions[job.session].closing
                assert self.disk is not None
                kept = len(state.tenants[job.tenant].finished)
                trimmed = name in self.disk.tables.ends and kept == JOBS_RETAINED
                assert not lost or trimmed, "an acknowledged job outlives the daemon"
            elif job.final is not None:
                self._status(known.final)

    def _check_standing(self, state: State) -> None:
        """What stood at a fence goes on from there, unless what computes has changed."""
        assert self.disk is not None
        tables, versions = self.disk.tables, state.machine.versions
        slices = {}
        for job in state.jobs.values():
            then = tables.jobs[job.id].context
            same = then.versions == versions and then.pairs == job.context.pairs
            if job.final is None and job.ending is None and same:
                slices[str(job.id)] = job.again
        for tenant in state.tenants.values():
            slices |= {str(key): made.job.again for key, made in tenant.checkpoints.items()}
        for holder, again in slices.items():
            kept = {row.ticket for row in tables.snapshots.values() if row.holder == holder}
            assert kept == {given.parked.ticket for given in again if given.parked is not None}

    def _check_durable(self, request: Any, body: Any) -> None:
        """What is acknowledged is on the disk."""
        if self.disk is None:
            return
        tables = self.disk.tables
        match body:
            case Session():
                assert body.session_id in self.disk.ever
            case SessionClosed():
                assert request.session_id not in tables.sessions
            case Submitted() | Replayed() | Restored():
                assert body.job_id in self.disk.ever
            case Checkpointed():
                assert body.checkpoint_id in self.disk.ever
            case CheckpointDropped():
                assert body.checkpoint_id not in tables.checkpoints
            case Allocated():
                assert {*body.handles} <= self.disk.ever
            case Released():
                assert not {*body.handles} & tables.handles.keys()
            case ChanOpened():
                assert body.channel_id in self.disk.ever
            case ChanClosed():
                assert body.channel_id not in tables.channels
            case JobStatus() if body.state in FINAL_STATES:
                kept = tables.ends[body.job_id].status
                assert (kept.state, kept.completed_at) == (body.state, body.completed_at)
            case ResultsReply():
                mine = [row for key, row in tables.slices.items() if key[0] == body.job_id]
                shots = sum(row.report.shots for row in mine)
                assert shots == body.shots, "results are on the disk, whole"

    def _run(self, effect: fx.RunSegment) -> None:
        assert effect.program not in self.forgotten
        assert self.programs.setdefault(effect.program, effect.graph) == effect.graph
        rows = self.rows.setdefault(effect.job_id, Rows())
        assert not rows.sealed, "sealed rows are never written again"

    def _sealed(self, state: State, name: str) -> None:
        rows = self.rows[name]
        assert not rows.sealed
        rows.sealed = True
        job = state.jobs.get(name)  # type: ignore[call-overload]
        if job is not None:
            assert job.final is not None
            seen = self.jobs.get(name)
            if seen is not None:  # else its submitter went before the answer
                self._check_result(job.final, seen.events, seen.request.policy)

    def _check_result(self, status: JobStatus, events: int, policy: Policy) -> None:
        """Compare a completed job with what its seed yields, however it was sliced and lost."""
        context = status.execution_context
        assert context is not None
        shots = status.progress.shots_total
        assert status.progress.shots_done == shots
        if policy.exact:
            assert context.results_digest is None
            assert status.counts is None
            kept = status.counts_omitted != _DROPPED
            assert status.probabilities == (outcomes.probabilities(events) if kept else None)
            return
        assert status.probabilities is None
        counts, leaves, row = outcomes.run(context.seed, 0, shots, events)
        assert context.results_digest == sha256(leaves if events else b"").hexdigest()
        if status.counts_omitted == _DROPPED:
            assert status.counts is None
            return
        assert status.events == row
        if policy.counts and len(counts) <= outcomes.COUNTS_KEYS_MAX:
            assert status.counts == counts
            assert status.counts_omitted is None
        else:
            assert status.counts is None
            assert status.counts_omitted

    # --- replies --------------------------------------------------------------------------------

    def _reply(self, state: State, now_ns: int, reply: fx.Reply) -> None:
        event = self.open.pop(reply.to, None)
        assert event is not None, "every request is answered once, and nothing else is"
        body, request = reply.body, event.request
        self._check_durable(request, body)
        asked_ns = self.asked_ns.pop(reply.to)
        kind = body.NAME if isinstance(body, KernelError) else type(body).__name__
        key = f"{request.METHOD} {kind}"
        self.answers[key] = self.answers.get(key, 0) + 1
        if isinstance(body, KernelError):
            assert type(body) in request.ERRORS, f"{request.METHOD} may not answer {kind}"
        else:
            assert type(body) is request.REPLY
        if event is self.arrived:
            self._check_authority(state, now_ns, event, body)
        if isinstance(body, JobStatus) and self._names_held(body.job_id):
            self.ledger.naming.add(body.job_id)
        self.ledger.answered(state, event, body, asked_ns, now=event is self.arrived)
        self.borders.answered(state, event, body, now=event is self.arrived)
        match body:
            case Session():
                rule = tenant_of(event.peer)
                assert rule is not None
                self.sessions[body.session_id] = SeenSession(rule.name, asked_ns)
            case SessionClosed():
                assert isinstance(request, CloseSession)
                self.sessions[request.session_id].closed = True
            case Submitted():
                self._submitted(event, body)
            case Replayed():
                self._replayed(event, body)
            case Checkpointed() | Restored() | Migrated() | CheckpointDropped():
                self._kept_or_moved(state, now_ns, request, body)
            case CheckpointNotFound() if event is self.arrived:
                assert isinstance(request, Restore | DropCheckpoint)
                seen = self.checkpoints.get(request.checkpoint_id)
                mine = seen is not None and seen.session == request.session_id
                if seen is not None and mine and not seen.unwanted:
                    assert now_ns - seen.taken_ns > JOB_RETAINED_NS, "it is there"
            case CheckpointIncompatible():
                known_reasons = ("it is damaged", "x was", "its Bell pairs were", "its noise was")
                assert body.reason.startswith(known_reasons), body.reason
                drifted = body.reason.startswith("its noise was")  # by a fault or a reload
                assert drifted or self.disk is not None, body.reason
            case CheckpointsListed():
                for one in body.checkpoints:
                    known = self.checkpoints.get(one.checkpoint_id)
                    asker = getattr(request, "session_id", None)
                    assert known is None or known.session == asker
                    assert 0 <= one.shots_done <= one.shots_total
            case JobStatus():
                self._status(body)
            case Subscribed():
                assert isinstance(request, Subscribe)
                key2 = (reply.to.conn, request.job_id, request.session_id)
                self.subscribed.setdefault(key2, set())
            case ResultsReply():
                name = reply.attach or reply.inline or body.job_id
                assert name == body.job_id
                assert self.rows[name].sealed, "results travel once they cannot change"

    def _names_held(self, name: str) -> bool:
        """Whether the job needs, or may need, what sessions hold."""
        if name not in self.jobs:
            return True
        program = verified(bytes(self.jobs[name].request.graph))
        assert isinstance(program, VerifiedProgram)
        return bool(program.summary.handles)

    def _submitted(self, event: Called, body: Submitted) -> None:
        request = event.request
        assert isinstance(request, Submit)
        seen = self.jobs.get(body.job_id)
        if body.reused:
            assert seen is None or (
                bytes(seen.request.graph) == bytes(request.graph)
                and seen.request.policy == request.policy
            )
            return
        assert seen is None
        tenant = self.sessions[request.session_id].tenant
        program = verified(bytes(request.graph))
        assert isinstance(program, VerifiedProgram)
        events = len(program.summary.events)
        self.jobs[body.job_id] = SeenJob(request.session_id, tenant, request, events)

    def _replayed(self, event: Called, body: Replayed) -> None:
        """A job like the one it repeats, in the session that asked."""
        request = event.request
        assert isinstance(request, Replay)
        assert body.replay_of == request.job_id
        assert body.job_id not in self.jobs
        first = self.jobs[request.job_id]
        assert first.session == request.session_id
        policy = msgspec.structs.replace(first.request.policy, idempotency_key=None)
        again = msgspec.structs.replace(first.request, policy=policy)
        self.jobs[body.job_id] = SeenJob(first.session, first.tenant, again, first.events)
        self.repeats[body.job_id] = request.job_id

    def _kept_or_moved(self, state: State, now_ns: int, request: Any, body: Any) -> None:
        """Whoever goes on from a checkpoint has its job's seed; who was moved lies there."""
        match body:
            case Checkpointed():
                assert isinstance(request, Checkpoint)
                assert body.checkpoint_id not in self.checkpoints
                job = state.jobs.get(request.job_id)
                made = SeenCheckpoint(request.session_id, request.job_id, 0, now_ns)
                for tenant in state.tenants.values():
                    if one := tenant.checkpoints.get(body.checkpoint_id):
                        made.seed = one.job.seed
                        assert job is None or job.seed == made.seed
                self.checkpoints[body.checkpoint_id] = made
            case Restored():
                assert isinstance(request, Restore)
                assert body.job_id not in self.jobs
                seen = self.checkpoints[request.checkpoint_id]
                assert seen.session == request.session_id
                first = self.jobs[seen.job]
                self.jobs[body.job_id] = SeenJob(
                    first.session, first.tenant, first.request, first.events
                )
                self.repeats[body.job_id] = seen.job
                job = state.jobs.get(body.job_id)
                assert job is None or job.seed == seen.seed
            case Migrated():
                job = state.jobs.get(body.job_id)
                assert isinstance(request, Migrate)
                assert body.placement == request.target
                if job is not None and job.module is not None:
                    # By the time that it is durable, and told, it may have been moved again.
                    name = state.hardware.module[job.module].name
                    assert name in self.targets[body.job_id]
            case CheckpointDropped():
                assert self.checkpoints[body.checkpoint_id].unwanted

    def _check_repeat(self, name: str) -> None:
        """A replay that is over as its original is has the same bits."""
        one, other = self.jobs[name].final, self.jobs[self.repeats[name]].final
        if one is None or other is None or not one.state is other.state is JobState.COMPLETED:
            return
        assert one.execution_context is not None
        assert other.execution_context is not None
        assert one.execution_context.results_digest == other.execution_context.results_digest
        assert one.execution_context.seed == other.execution_context.seed

    def _status(self, body: JobStatus) -> None:
        seen = self.jobs.get(body.job_id)
        if seen is None or body.state not in FINAL_STATES:
            return
        if body.state is JobState.COMPLETED:
            self._check_result(body, seen.events, seen.request.policy)
        before = seen.final
        if before is not None and before != body:
            assert body.counts_omitted == _DROPPED, "a finished job never changes"
            mended = msgspec.structs.replace(
                body,
                counts=before.counts,
                probabilities=before.probabilities,
                counts_omitted=before.counts_omitted,
                events=before.events,
            )
            assert mended == before
        if before is None:
            how = body.state.value if body.error is None else f"{body.state} {body.error.type}"
            self.answers[how] = self.answers.get(how, 0) + 1
        if before is None or body.counts_omitted == _DROPPED:
            seen.final = body
            if body.job_id in self.repeats:
                self._check_repeat(body.job_id)

    def _check_authority(self, state: State, now_ns: int, event: Called, body: Any) -> None:
        """Judge, from the ledger alone, what the caller may have been told at all."""
        request, rule = event.request, tenant_of(event.peer)
        if isinstance(body, Busy):
            return
        if rule is None:
            assert isinstance(body, AuthFailed)
            return
        if rule.name in self.suspended | self.removed:
            named = request.tenant_id if isinstance(request, NegotiateCaps) else None
            known = named in (None, rule.name) and rule.name in state.tenants
            assert isinstance(body, TenantSuspended if known else AuthFailed)
            return
        assert not isinstance(body, TenantSuspended)
        name = getattr(request, "session_id", None)
        if name is None:
            return
        seen = self.sessions.get(name)
        if seen is None or seen.tenant != rule.name or (seen.closed and not seen.expired):
            assert isinstance(body, AuthFailed)
            return
        if isinstance(body, SessionExpired):
            assert now_ns - seen.touched_ns > SESSION_IDLE_NS or name in self.stuck
            seen.closed = seen.expired = True
            return
        if isinstance(body, AuthFailed):
            # Expired long ago, and its name no longer remembered; or closed meanwhile.
            over = seen.closing or seen.closed or seen.expired
            assert now_ns - seen.touched_ns > SESSION_IDLE_NS or over or name in self.stuck
            return
        assert now_ns - seen.touched_ns <= SESSION_IDLE_NS, "an expired session is of no use"
        self._check_job_named(state, seen, request, body)
        if isinstance(request, CloseSession):
            assert body is _PARKED or isinstance(body, SessionClosed)
            seen.closing = True
        seen.touched_ns = now_ns

    def _check_job_named(self, state: State, asker: SeenSession, request: Any, body: Any) -> None:
        if not request.AVAILABLE:
            assert isinstance(body, NotAvailable)
            return
        if isinstance(request, CloseSession | Submit) or getattr(request, "job_id", None) is None:
            return
        job = self.jobs.get(request.job_id)
        if job is None:
            told = self.disk is None
            assert not told or request.job_id not in state.jobs, "who makes a job is told"
            assert isinstance(body, JobNotFound | InsufficientCaps)
        elif "CAP_ADMIN" in self.ledger.rights_of(request.session_id, {*state.capabilities}):
            foreign = request.session_id != job.session
            changes = isinstance(request, Cancel | Checkpoint | Migrate)
            assert not (foreign and changes) or isinstance(
                body, JobNotFound | AccessDenied | InsufficientCaps
            )
        elif job.tenant != asker.tenant:
            assert isinstance(body, JobNotFound | InsufficientCaps), "as if there were no job"
        elif job.session != request.session_id:
            assert isinstance(body, AccessDenied | JobNotFound | InsufficientCaps)
        else:
            assert not isinstance(body, AccessDenied)
            assert not isinstance(body, JobNotFound) or request.job_id not in state.jobs

    # --- notifications --------------------------------------------------------------------------

    def _notified(self, now_ns: int, effect: fx.Notify) -> None:
        body = effect.body
        assert isinstance(body, JobEvent)
        assert effect.conn not in self.gone, "nothing is sent to who has gone"
        told = [
            finals
            for (conn, job, session), finals in self.subscribed.items()
            if conn == effect.conn and self._about(body.job_id, job, session)
        ]
        assert told, "only subscribers are told"
        key = (effect.conn, body.job_id)
        assert body.seq >= self.last_seq.get(key, 0)
        if body.kind == "progress":
            if self.last_seq.get(key) != body.seq:
                since = now_ns - self.last_progress.get(key, -PROGRESS_NS_MIN)
                assert since >= PROGRESS_NS_MIN, "progress is told ten times a second at most"
            self.last_progress[key] = now_ns
        self.last_seq[key] = body.seq
        if body.state in FINAL_STATES:
            for finals in told:
                finals.add(body.job_id)

    def _about(self, name: str, job: str | None, session: str) -> bool:
        if job is not None:
            return job == name
        seen = self.jobs.get(name)
        return seen is None or seen.session == session

    def _check_told(self, state: State) -> None:
        """Whoever subscribed to a job has heard of its end once it is over."""
        for (conn, job, session), finals in list(self.subscribed.items()):
            closed = session not in state.sessions
            if job is not None:
                record = state.jobs.get(job)  # type: ignore[call-overload]
                if record is None or record.final is not None:
                    assert job in finals or closed, "the end is always told"
                    del self.subscribed[conn, job, session]
                    continue
            if closed:
                del self.subscribed[conn, job, session]


# --- fingerprints -------------------------------------------------------------------------------

# `version` only serves the kernel's own assertion about direct refusals; a request that is parked
# and refused within one step leaves nothing but its count.
_UNSEEN = {
    "now_ns", "out", "notices", "peers", "touched_ns", "stirred", "planner", "machine", "brokered",
    "version",
}  # fmt: skip


def fingerprint(state: State) -> list[Any]:
    """Everything the kernel knows, as plain values; times of last use and caches left out."""
    numbers: dict[int, int] = {}
    flat: list[Any] = []
    queue: deque[Any] = deque([state])
    while queue:
        value = queue.popleft()
        if isinstance(value, Enum) or not dataclasses.is_dataclass(value):
            if isinstance(value, dict):
                flat.append(len(value))
                for key, each in value.items():
                    queue.append(key)
                    queue.append(each)
            elif isinstance(value, list | tuple | deque):
                flat.append(len(value))
                queue.extend(value)
            else:
                flat.append(value if not isinstance(value, bytearray | set) else repr(value))
            continue
        number = numbers.get(id(value))
        if number is not None:
            flat.append(("again", number))
            continue
        numbers[id(value)] = len(numbers)
        queue.extend(getattr(value, name) for name in _seen(value.__class__))
    return flat


@cache
def _seen(kind: type) -> tuple[str, ...]:
    return tuple(each.name for each in dataclasses.fields(kind) if each.name not in _UNSEEN)
