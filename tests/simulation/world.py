"""The simulated world: clients, workers, timers and a clock around one kernel, all from a seed.

A step is one event. A life is one kernel from its start to its halt; a run is as many lives as
its steps allow. In some lives all work ends before the kernel is shut down, and then every counter
must be where it started; in others the shutdown comes in the middle.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core import faults, quotas
from qmkd.core.kernel import Kernel
from qmkd.core.limits import ENTROPY_BYTES, MS, SECOND, SESSION_IDLE_NS
from qmkd.core.mapping import HELD, IN_USE, blocked, over_quota
from qmkd.core.ports import Point, SegmentReport
from qvm.blocks import Inventory
from qvm.findings import Findings
from qvm.machine import Hardware
from qvm.program import VerifiedProgram
from syscalls.capability import Delegate, Delegated, Revoke, Share
from syscalls.checkpoint import (
    Checkpoint,
    Checkpointed,
    DropCheckpoint,
    ListCheckpoints,
    Migrate,
    Replay,
    Replayed,
    Restore,
    Restored,
)
from syscalls.errors import AuthFailed, KernelError, SessionExpired
from syscalls.events import Subscribe
from syscalls.fault import ClearFault, FaultInjected, FaultKind, InjectFault
from syscalls.ids import CapabilityId, CheckpointId, JobId, SessionId, TenantId
from syscalls.job import (
    FINAL_STATES,
    Cancel,
    Noise,
    PlanJob,
    Policy,
    Status,
    Submit,
    Submitted,
    Wait,
)
from syscalls.results import Results
from syscalls.rights import Right
from syscalls.session import CloseSession, NegotiateCaps, Session
from syscalls.telemetry import GetMapping, GetTelemetry
from tests.simulation import cast, invariants, outcomes
from tests.simulation.disk import WRONG, Disk
from tests.simulation.parking import Snapshots, parked
from tests.simulation.witness import Witness, fingerprint

LIFE_STEPS = 2500
START_NS = 1_700_000_000 * SECOND
FINGERPRINT_EVERY = 100
POISON = 666  # a seed over which every worker dies
ENDING_STEPS_MAX = 20_000


class Client:
    """A caller: whose it is, its connection, and what it has been told."""

    def __init__(self, number: int, peer: ev.Peer, kind: str) -> None:
        self.peer, self.kind, self.conn, self.calls = peer, kind, number, 0
        self.sessions: list[SessionId] = []
        self.jobs: list[JobId] = []
        self.checkpoints: list[CheckpointId] = []


class Process:
    """A worker process: what it holds, what it was asked to stop, for good or to go on from there,
    whether it is being killed."""

    def __init__(self) -> None:
        self.up = False
        self.doomed = False
        self.held: dict[int, fx.RunSegment | fx.CheckProgram | fx.Calibrate] = {}
        self.stopping: set[int] = set()
        self.parking: set[int] = set()


class Life:
    """One kernel from start to halt."""

    def __init__(self, rng: random.Random, now_ns: int, before: Life | None, durable: bool) -> None:
        self.rng, self.now_ns = rng, now_ns
        self.disk: Disk | None = before.disk if before else Disk(rng) if durable else None
        version = rng.choice(("1", "1", "1", "2"))
        self.tables: dict[str, frozenset[Point]] = before.tables if before else {"": frozenset()}
        table = max(self.tables, key=lambda name: len(self.tables[name]))
        self.hardware: Hardware = rng.choice(cast.HARDWARE)
        if before is not None and rng.random() < 0.6:
            self.hardware = before.hardware
        machine = cast.machine(
            rng.randint(1, 3), self.disk is not None, version, self.hardware, table
        )
        self.kernel = Kernel(machine, cast.planner)
        self.witness: Witness = before.witness if before else Witness(self.disk)
        self.witness.configured(cast.TENANTS)
        self.processes = [Process() for _ in self.kernel.state.workers]
        self.timers: dict[int, int] = {}
        self.fired: list[int] = []
        self.loads: list[fx.LoadGraph | fx.VerifyCheckpoint] = []
        self.snapshots = Snapshots(self.disk)
        self.told: list[ev.Event] = []
        self.conns: int = before.conns if before else 0
        self.clients = [self._client(peer) for peer in cast.PEERS]
        if before is not None:
            for client, earlier in zip(self.clients, before.clients, strict=True):
                client.sessions, client.jobs = earlier.sessions, earlier.jobs
                client.checkpoints = earlier.checkpoints
        self.given: list[CapabilityId] = before.given if before else []
        self.faults: list[str] = before.faults if before else []
        self.busy = [client for client in self.clients if cast.may_call(client.peer)]
        self.halted = False
        self.steps = 0
        self.unlucky = rng.choice((0.0, 0.02, 0.1))  # how often workers do badly
        self.reloads = rng.choice((0.0, 0.0, 0.02))  # how often the rules are changed
        self.asking = rng.choice((0.4, 0.6, 0.8))  # how much of what happens is calls

    def _client(self, peer: ev.Peer) -> Client:
        self.conns += 1
        kind = self.rng.choice(("normal", "normal", "hostile", "vanishing"))
        return Client(self.conns, peer, kind)

    # --- a step ---------------------------------------------------------------------------------

    def step(self, event: ev.Event) -> list[fx.Effect]:
        """Hand one event to the kernel, perform its effects, check everything."""
        self.steps += 1
        kernel, before = self.kernel, None
        if isinstance(event, ev.Called):
            self.witness.asked(self.now_ns, event)
            if self.steps % FINGERPRINT_EVERY == 0 and not self._rights_end():
                before = fingerprint(kernel.state)
        elif isinstance(event, ev.ClientGone):
            self.witness.client_gone(event.conn)
        elif isinstance(event, ev.Configured):
            self.witness.configured(event.tenants)
        out = kernel.step(self.now_ns, event)
        if before is not None:
            assert isinstance(event, ev.Called)
            mine = [one for one in out if isinstance(one, fx.Reply) and one.to == event.origin]
            if mine and isinstance(mine[0].body, KernelError):
                assert len(out) == 1, "a refusal has no effects"
                assert before == fingerprint(kernel.state), "a refused request changes nothing"
        self.witness.saw(kernel.state, self.now_ns, out)
        for effect in out:
            self._perform(effect)
        invariants.check(kernel.state)
        return out

    def _rights_end(self) -> bool:
        """Whether the next step begins with rights that end, whatever it is about."""
        state = self.kernel.state
        due = bool(state.expiries) and state.expiries[0][0] <= self.now_ns
        return due or bool(state.lapsed)

    def _perform(self, effect: fx.Effect) -> None:
        self.snapshots.perform(effect)
        match effect:
            case fx.RunSegment() | fx.CheckProgram() | fx.Calibrate():
                process = self.processes[effect.worker]
                assert process.up, "work goes only to workers that are there"
                process.held[effect.ticket] = effect
            case fx.StopSegment():
                process = self.processes[effect.worker]
                assert effect.ticket in process.held
                assert effect.ticket not in process.stopping
                if effect.keep:
                    assert effect.ticket not in process.parking, "asked once"
                    process.parking.add(effect.ticket)
                else:
                    process.parking.discard(effect.ticket)
                    process.stopping.add(effect.ticket)
            case fx.KillWorker():
                assert not self.processes[effect.worker].doomed
                self.processes[effect.worker].doomed = True
            case fx.SetTimer():
                assert effect.at_ns >= self.now_ns
                self.timers[effect.token] = effect.at_ns
            case fx.CancelTimer():
                del self.timers[effect.token]
                self.fired.append(effect.token)
            case fx.Keep():
                assert self.disk is not None
                self.disk.keep(effect)
            case fx.LoadGraph() | fx.VerifyCheckpoint():
                self.loads.append(effect)
            case fx.Halt():
                self.halted = True

    def random_step(self) -> None:
        """Whatever happens next."""
        self._let_time_pass()
        if self.rng.random() < self.reloads:
            usual = self.rng.random() < 0.5
            self.step(ev.Configured(cast.TENANTS if usual else cast.other_rules(self.rng)))
        event = self._due_timer() if self.rng.random() < 0.6 else None
        if event is None:
            works = self.rng.random() >= self.asking and self._something_to_do()
            event = (self._disk_event() or self._work()) if works else self._call()
        self.learn(event, self.step(event))

    def _something_to_do(self) -> bool:
        """Whether a worker would say more than that it is there; now and then it says just that."""
        idle = all(process.up and not process.held for process in self.processes)
        idle = idle and not (self.disk and self.disk.queue) and not self.loads
        return not idle or self.rng.random() < 0.1

    def _let_time_pass(self) -> None:
        chance = self.rng.random()
        if chance < 0.0004:
            self.now_ns += SESSION_IDLE_NS + self.rng.randrange(SECOND)
        elif chance < 0.01:
            self.now_ns += self.rng.randrange(2 * SECOND)
        elif chance < 0.1:
            self.now_ns += self.rng.randrange(40 * MS)
        else:
            self.now_ns += self.rng.randrange(200_000)

    def _due_timer(self) -> ev.Event | None:
        for token, at_ns in self.timers.items():
            if at_ns <= self.now_ns:
                del self.timers[token]
                self.fired.append(token)
                return ev.TimerFired(token)
        return None

    # --- the disk and the end of a life ---------------------------------------------------------

    def recover(self, before: Life | None) -> None:
        """The first step of a kernel that keeps anything."""
        assert self.disk is not None
        self.step(self.disk.load())
        if before is not None:
            self.witness.recovered(before.kernel.state, self.kernel.state, self.now_ns)

    def crash(self) -> None:
        """The host dies, between two steps or in the middle of performing what one asked for."""
        assert self.disk is not None
        if self.rng.random() < 0.7:
            works = self.rng.random() < 0.5
            event = self._disk_event() or (self._work() if works else self._call())
            if isinstance(event, ev.Called):
                self.witness.asked(self.now_ns, event)
            elif isinstance(event, ev.ClientGone):
                self.witness.client_gone(event.conn)
            out = self.kernel.step(self.now_ns, event)
            done = out[: self.rng.randint(0, len(out))]
            self.witness.arrived, self.witness.subscribed = None, {}
            told = [effect for effect in done if isinstance(effect, fx.Reply)]
            self.witness.saw(self.kernel.state, self.now_ns, list(told), dying=True)
            self.witness.subscribed = {}
            for effect in done:
                if isinstance(effect, fx.Keep):
                    self.disk.keep(effect)
            self.learn(event, done)
        self.disk.crash()
        self.witness.crashed()

    def _disk_event(self, calm: bool = False) -> ev.Event | None:
        """The disk has written something, or cannot."""
        disk = self.disk
        if disk is None:
            return None
        if self.loads:
            return self._loaded(disk)
        if not disk.queue:
            return None
        chance = 0.9 if calm else self.rng.random()
        if disk.failing:
            disk.failing = not calm and chance < 0.8
            return ev.KeepFailed(self.rng.choice(WRONG)) if disk.failing else self._written()
        if chance < 0.02:
            disk.failing = True
            return ev.KeepFailed(self.rng.choice(WRONG))
        return self._written() if chance > 0.3 else None

    def _loaded(self, disk: Disk) -> ev.Event:
        """A program is read, unless its job was forgotten meanwhile or the disk is damaged; or a
        checkpoint."""
        asked = self.loads.pop(0)
        if isinstance(asked, fx.VerifyCheckpoint):
            whole = asked.checkpoint in disk.tables.checkpoints
            for ticket in asked.snapshots if whole else ():
                assert disk.tables.snapshots[ticket].holder == asked.checkpoint
            damaged = not whole or self.rng.random() < 0.1
            return ev.CheckpointVerified(asked.ticket, "a bit of it flipped" if damaged else "")
        row = disk.tables.jobs.get(asked.job_id)
        known = row is not None and self.rng.random() < 0.9
        graph = disk.tables.graphs[row.graph].graph if row is not None and known else b""
        return ev.GraphLoaded(asked.ticket, graph)

    def _written(self) -> ev.Event:
        assert self.disk is not None
        return ev.Kept(self.disk.write())

    # --- workers --------------------------------------------------------------------------------

    def _work(self, unlucky: float | None = None) -> ev.Event:
        """A worker says something; or a timer that was cancelled, or is not due, fires."""
        unlucky = self.unlucky if unlucky is None else unlucky
        rng = self.rng
        number = rng.randrange(len(self.processes))
        process = self.processes[number]
        if not process.up:
            process.up = True
            return ev.WorkerReady(number)
        dies = rng.random() < unlucky / 4
        if dies or (process.doomed and rng.random() < 0.5):
            self.processes[number] = Process()
            return ev.WorkerGone(number)
        if unlucky and rng.random() < 0.01:
            return self._nonsense()
        if not process.held:
            return ev.WorkerReady(number)
        ticket = rng.choice(list(process.held))
        unit = process.held[ticket]
        if (
            isinstance(unit, fx.RunSegment)
            and unit.seed == POISON
            and ticket not in process.stopping
        ):
            self.processes[number] = Process()
            return ev.WorkerGone(number)
        keep = ticket in process.parking
        event = self._said(unit, keep or ticket in process.stopping, unlucky, keep)
        if event is None:
            return ev.WorkerReady(number)
        del process.held[ticket]
        process.stopping.discard(ticket)
        process.parking.discard(ticket)
        if isinstance(event, ev.SegmentParked):
            self.snapshots.hold(event)
        self.told = [*self.told[-4:], event]
        return event

    def _nonsense(self) -> ev.Event:
        if self.told and self.rng.random() < 0.5:
            return self.rng.choice(self.told)  # told twice
        if self.fired and self.rng.random() < 0.7:
            return ev.TimerFired(self.rng.choice(self.fired[-5:]))
        return ev.TimerFired(self.rng.choice(list(self.timers) or [0]))

    def _said(
        self,
        unit: fx.RunSegment | fx.CheckProgram | fx.Calibrate,
        stopping: bool,
        unlucky: float,
        keep: bool,
    ) -> ev.Event | None:
        if isinstance(unit, fx.CheckProgram):
            return self._checked(unit, unlucky)
        if isinstance(unit, fx.Calibrate):
            return self._calibrated(unit)
        chance = self.rng.random()
        if stopping and chance < (0.4 if keep else 0.9):
            if chance < 0.3:
                return None  # late
            epoch = self.rng.randrange(3)
            return ev.SegmentFailed(unit.worker, unit.ticket, "stopped", "", epoch)
        lacking = cast.lacking(unit, self.tables[unit.setting.table])
        if lacking is not None:
            why = (unit.worker, unit.ticket, "uncalibrated", "no table has it")
            return ev.SegmentFailed(*why, point=lacking)
        if unit.resume and self.rng.random() < unlucky:
            return ev.SegmentFailed(unit.worker, unit.ticket, "unfit", "its digest is another")
        # A segment stops by itself after a while.
        if chance < 0.8 if keep else chance < 0.05 and unit.park_ns:
            stood = int(self.snapshots.find(unit.resume).split()[-1]) if unit.resume else 0
            event = parked(self.rng, unit, lambda part: self._report(part, 0.0), stood)
            if event is not None:
                return event
        if self.rng.random() < unlucky / 2:
            reason = self.rng.choice(("refused", "memory", "internal", "stopped"))
            return ev.SegmentFailed(unit.worker, unit.ticket, reason, "it did", 1)
        return ev.SegmentDone(unit.worker, unit.ticket, self._report(unit, unlucky))

    def _calibrated(self, unit: fx.Calibrate) -> ev.Event | None:
        """Now and then it takes long, for ever, or comes to nothing."""
        if unit.point == cast.NEVER_MEASURED or self.rng.random() < 0.5:
            return None
        if unit.point == cast.UNMEASURABLE:
            return ev.Calibrated(unit.worker, unit.ticket, "", "there is too little of it")
        name = f"table {len(self.tables)}"
        assert unit.point not in self.tables[unit.table], "nothing is measured twice"
        self.tables[name] = self.tables[unit.table] | {unit.point}
        return ev.Calibrated(unit.worker, unit.ticket, name)

    def _checked(self, unit: fx.CheckProgram, unlucky: float) -> ev.Event:
        if self.rng.random() < unlucky / 2:
            return ev.ProgramChecked(unit.ticket, None)
        found = cast.verified(unit.graph)
        if isinstance(found, VerifiedProgram):
            return ev.ProgramChecked(unit.ticket, found.summary, warnings=found.warnings)
        assert isinstance(found, Findings)
        return ev.ProgramChecked(unit.ticket, None, tuple(found), found.total)

    def _report(self, unit: fx.RunSegment, unlucky: float) -> SegmentReport:
        events = len(cast.verified(unit.graph).summary.events)  # type: ignore[union-attr]
        if unit.engine == cast.EXACT:
            found = outcomes.probabilities(events)
            if self.rng.random() < unlucky / 8:
                found = {key: 0.9 * each for key, each in found.items()}
            return SegmentReport(
                shots=1,
                counts=None,
                first_row={},
                leaves=outcomes.NO_ROWS,
                engine=unit.engine,
                cpu_ns=800,
                notes={},
                probabilities=found,
            )
        counts, leaves, row = outcomes.run(unit.seed, unit.shot_first, unit.shots, events)
        shots = unit.shots
        if self.rng.random() < unlucky / 8:
            shots, leaves = self.rng.choice(((shots + 1, leaves), (shots, leaves + b"x")))
        known = unit.counts and len(counts) <= outcomes.COUNTS_KEYS_MAX
        return SegmentReport(
            shots=shots,
            counts=counts if known else None,
            first_row=row,
            leaves=leaves,
            engine=unit.engine,
            cpu_ns=self.rng.choice((50, 800, 30_000)) * unit.shots,
            notes={},
            decoder_leaves=leaves if unit.setting.decoder_data else b"",
        )

    # --- clients --------------------------------------------------------------------------------

    def _call(self) -> ev.Event:
        client = self.rng.choice(self.busy if self.rng.random() < 0.97 else self.clients)
        vanishes = 0.08 if client.kind == "vanishing" else 0.004
        if self.rng.random() < vanishes:
            conn = client.conn
            self.conns += 1
            client.conn = self.conns
            return ev.ClientGone(conn)
        return self.called(client, self._request(client))

    def called(self, client: Client, request: Any) -> ev.Called:
        """A client's request, as it arrives."""
        client.calls += 1
        entropy = self.rng.randbytes(ENTROPY_BYTES) if request.CHANCE else b""
        return ev.Called(ev.Origin(client.conn, client.calls), client.peer, request, entropy)

    def _known(self, client: Client) -> tuple[SessionId, JobId]:
        """A session and a job to name: mostly one's own, for the hostile mostly another's."""
        rng, whose = self.rng, client
        if rng.random() < (0.6 if client.kind == "hostile" else 0.03):
            whose = rng.choice(self.clients)
        session = rng.choice(whose.sessions) if whose.sessions else SessionId("sess_none")
        if client.kind == "hostile" and client.sessions and rng.random() < 0.7:
            session = rng.choice(client.sessions)  # another's job through one's own session
        recent = whose.jobs[-rng.choice((1, 2, 12)) :]
        job = rng.choice(recent) if recent else JobId("job_none")
        return session, job

    def _request(self, client: Client) -> Any:
        rng = self.rng
        session, job = self._known(client)
        if rng.random() < (0.04 if client.sessions else 0.4):
            if len(client.sessions) > 2 and rng.random() < 0.5:
                return CloseSession(session_id=client.sessions[0])
            return self._negotiate(client)
        if rng.random() < 0.06:
            return self._hand_on(client, session)
        if rng.random() < 0.07:
            return self._keep_or_move(client, session, job)
        if rng.random() < 0.18:
            return self.witness.borders.request(rng, client, session, self.kernel.state)
        if rng.random() < (0.1 if client.peer.uid == cast.OPERATOR else 0.003):
            return self._break_or_mend(session)
        match rng.choices(range(9), (30, 20, 16, 9, 6, 5, 6, 1, 4))[0]:
            case 0:
                submission = self._submit(session)
                if rng.random() < 0.06:
                    return PlanJob(**msgspec.structs.asdict(submission))
                return submission
            case 1:
                return Status(session_id=session, job_id=job)
            case 2:
                limit = rng.choice((None, 0, 1, 20, 500))
                return Wait(session_id=session, job_id=job, timeout_ms=limit)
            case 3:
                return Cancel(session_id=session, job_id=job)
            case 4:
                form = rng.choice(("packed", "counts", "order", "decoder", "decoder"))
                way = rng.choice(("inline", "fd"))
                return Results(session_id=session, job_id=job, format=form, transport=way)  # type: ignore[arg-type]
            case 5:
                return Subscribe(session_id=session, job_id=rng.choice((job, None)))
            case 6:
                machine, listed = rng.random() < 0.2, rng.random() < 0.5
                named = rng.choice((job, None))
                return GetTelemetry(
                    session_id=session, job_id=named, machine=machine, list_jobs=listed
                )
            case 7:
                return CloseSession(session_id=session)
        if rng.random() < 0.5:
            return GetMapping(session_id=session, job_id=job)
        if rng.random() < 0.6:
            return Replay(session_id=session, job_id=job)
        return self.witness.borders.request(rng, client, session, self.kernel.state)

    def _keep_or_move(self, client: Client, session: SessionId, job: JobId) -> Any:
        """Take a checkpoint, go on from one, or move a job."""
        rng, seen = self.rng, self.witness
        whose = rng.choice(self.clients) if rng.random() < 0.1 else client
        name = rng.choice(whose.checkpoints or [CheckpointId("ckpt_none")])
        if rng.random() < 0.8:  # through the session that has it
            live = [
                one for one in client.jobs[-6:] if one in seen.jobs and not seen.jobs[one].final
            ]
            job = rng.choice(live or [job])
            session = SessionId(seen.jobs[job].session) if live else session
        match rng.choices(range(5), (10, 10, 2, 2, 4))[0]:
            case 0:
                return Checkpoint(
                    session_id=session, job_id=job, how=rng.choice(("forward", "rollback"))
                )
            case 1:
                if name in seen.checkpoints and rng.random() < 0.8:
                    session = SessionId(seen.checkpoints[name].session)
                return Restore(session_id=session, checkpoint_id=name)
            case 2:
                return ListCheckpoints(session_id=session)
            case 3:
                return DropCheckpoint(session_id=session, checkpoint_id=name)
        module = rng.choice(("m0", "m1", "m2", "main", "elsewhere"))
        return Migrate(session_id=session, job_id=job, target=module)

    def _break_or_mend(self, session: SessionId) -> InjectFault | ClearFault:
        """Something of the machine fails, or is asked to; or what did works again."""
        rng = self.rng
        if self.faults and rng.random() < 0.4:
            return ClearFault(session_id=session, fault_id=rng.choice(self.faults[-6:]))
        kind = rng.choice(list(FaultKind))
        modules = [each.name for each in self.kernel.state.hardware.module]
        number = {FaultKind.MODULE: 1, FaultKind.FACTORY: 1, FaultKind.LINK: 2}.get(kind, 0)
        strength = None if number else rng.choice((1.5, 2.0, 9.0))
        if kind is FaultKind.LINK:
            strength = rng.choice((None, 3.0))
        return InjectFault(
            session_id=session,
            kind=kind,
            what=rng.choices(modules, k=number) if rng.random() < 0.9 else ["nowhere"],
            strength=strength if rng.random() < 0.95 else 700.0,
            after_cycles=rng.choice((0, 0, 3_000, 60_000)),
            for_cycles=rng.choice((None, 1, 8_000, 50_000, 400_000)),
        )

    def _hand_on(self, client: Client, session: SessionId) -> Delegate | Revoke:
        """Delegate a few rights, mostly those that programs need; or take something back."""
        rng = self.rng
        if self.given and rng.random() < 0.3:
            living = self.witness.ledger.living
            own = [name for name, each in living.items() if each.session in client.sessions]
            if own and rng.random() < 0.6:
                name = CapabilityId(rng.choice(own))
                giver = SessionId(living[name].session)
                return Revoke(session_id=giver, capability_id=name)
            return Revoke(session_id=session, capability_id=rng.choice(self.given[-12:]))
        often = ((Right.MAGIC, 4), (Right.LINK, 5), (Right.DELEGATE, 3), (Right.ALLOC, 2))
        likely = [right for right, times in often for _ in range(times)] + [Right.ADMIN]
        rights = {rng.choice(likely) for _ in range(rng.randint(1, 4))}
        share = Share()
        if rng.random() < 0.3:
            share = Share(
                jobs=rng.choice((None, 0, 1, 2)),
                logical_qubits=rng.choice((None, 1, 3)),
                t_states_per_minute=rng.choice((None, 20_000)),
                channels=rng.choice((None, None, 0, 1)),
            )
        return Delegate(
            session_id=session,
            rights=sorted(rights),
            tenant_id=TenantId(rng.choice(("alice", "bob", "bob", "carol", "nobody"))),
            share=share,
            expires_after_ms=rng.choice((None, None, None, 1, 200, 5_000)),
        )

    def _negotiate(self, client: Client) -> NegotiateCaps:
        rng = self.rng
        rights = [right.value for right in Right if rng.random() < 0.9]
        rule = cast.tenant_of(client.peer)
        living = self.witness.ledger.living
        mine = [name for name, each in living.items() if rule is None or each.tenant == rule.name]
        rights += mine[-rng.randint(0, 3) :]
        if rng.random() < 0.1 and self.given:
            rights.append(rng.choice(self.given))  # whosever it is, or was
        tenant = rng.choice((None, None, TenantId("alice"), TenantId("mallory")))
        return NegotiateCaps(
            requested=[*rights, "CAP_FLY"] if rng.random() < 0.3 else rights,
            tenant_id=tenant if client.kind == "hostile" else None,
        )

    def _submit(self, session: SessionId) -> Submit:
        rng = self.rng
        usual = rng.random() < 0.85
        number = rng.randrange(cast.SEEN_OFTEN if usual else len(cast.PROGRAMS))
        if rng.random() < 0.2:
            number = cast.MAGIC
        elif rng.random() < 0.1:
            number = rng.choice((cast.TELEPORTING, *cast.CROSSING))
        most = rng.choice((1, 100, 1024, 5_000, 20_000, 60_000))
        exact = rng.random() < 0.03
        noise = rng.choice((Noise.PROFILE,) * 8 + tuple(Noise))
        keeps = rng.random() < (0.5 if noise is Noise.DECODED else 0.01)
        if keeps and rng.random() < 0.8:
            number = rng.choice(cast.CODED)
        policy = Policy(
            exact=exact,
            noise=noise,
            decoder_data=keeps,
            shots=1 if exact else 77 if rng.random() < 0.04 else rng.randint(1, most),
            seed=POISON if rng.random() < 0.02 else rng.choice((None, rng.randrange(2**64))),
            priority=rng.choice((0, 0, 0, 1, -1)),
            deadline_epochs=rng.choice((None, None, None, None, None, 2)),
            timeout_ms=rng.choice((None, None, 30, 1_000)),
            counts=rng.random() < 0.8,
            debug=rng.random() < 0.02,
            raise_distance=rng.random() < 0.5,
            idempotency_key=rng.choice((None,) * 12 + ("k1", "k2", "k3")),
        )
        return Submit(session_id=session, graph=cast.raw(cast.PROGRAMS[number]), policy=policy)

    def learn(self, event: ev.Event, out: list[fx.Effect]) -> None:
        """Clients remember the names they are given; most drop sessions that are no more."""
        if not out:
            return
        by_conn = {client.conn: client for client in self.clients}
        for effect in out:
            if isinstance(effect, fx.Reply) and effect.to.conn in by_conn:
                client = by_conn[effect.to.conn]
                if isinstance(effect.body, Session):
                    client.sessions = [*client.sessions[-2:], effect.body.session_id]
                elif isinstance(effect.body, FaultInjected):
                    self.faults.append(effect.body.fault_id)
                elif isinstance(effect.body, Delegated):
                    self.given.append(effect.body.capability_id)
                elif isinstance(effect.body, Checkpointed):
                    client.checkpoints = [*client.checkpoints[-5:], effect.body.checkpoint_id]
                elif isinstance(effect.body, Submitted | Replayed | Restored):
                    client.jobs = [*client.jobs[-20:], effect.body.job_id]
                elif isinstance(effect.body, AuthFailed | SessionExpired):
                    gone = getattr(getattr(event, "request", None), "session_id", None)
                    if gone in client.sessions and self.rng.random() < 0.7:
                        client.sessions.remove(gone)

    # --- endings --------------------------------------------------------------------------------

    def quiet_events(self) -> Iterator[ev.Event]:
        """Nobody calls; workers do well; time passes until nothing is under way."""
        state = self.kernel.state
        yield ev.Configured(cast.TENANTS)
        for _ in range(ENDING_STEPS_MAX):
            busy = state.checks or state.pending or state.wanted or self._injected()
            if not (busy or state.live or state.parked) or (not busy and self._given_away()):
                return
            self.now_ns += self.rng.randrange(20 * MS)
            mended = self._mend() if self.rng.random() < 0.1 else None
            calm = self._due_timer() or mended or self._disk_event(calm=True)
            yield calm or self._work(unlucky=0.0)
        waits = {str(blocked(state, job)) for job in state.jobs.values() if job.final is None}
        raise AssertionError(f"work ends when all workers do well: {waits}")

    def _injected(self) -> list[str]:
        return [name for name in self.kernel.state.faults if name.startswith(faults.INJECTED)]

    def _mend(self) -> ev.Called | None:
        """The operator clears an injected fault, if there is one."""
        state = self.kernel.state
        left = self._injected()
        operator = next(client for client in self.clients if client.peer.uid == cast.OPERATOR)
        mine = (state.sessions.get(name) for name in operator.sessions)
        able = [each.id for each in mine if each and Right.ADMIN in each.granted]
        if not left:
            return None
        if not able:
            return self.called(operator, NegotiateCaps(requested=[Right.ADMIN.value]))
        return self.called(operator, ClearFault(session_id=able[0], fault_id=left[0]))

    def _given_away(self) -> bool:
        """Whether all live jobs wait for what their tenant has handed on, or for what is held."""
        live = [job for job in self.kernel.state.jobs.values() if job.final is None]
        idle = all(job.place is None and not job.segments for job in live)
        taken = (HELD, IN_USE)
        waits = [over_quota(job) or blocked(self.kernel.state, job) in taken for job in live]
        return bool(live) and idle and all(waits)

    def closing_events(self) -> Iterator[ev.Event]:
        """Every session is closed by whoever opened it, or grows too old."""
        state = self.kernel.state
        while self.rng.random() < 0.9:
            known = [one for name, one in state.sessions.items() if name in self.witness.sessions]
            if not known:
                break
            session = known[0]
            rule = session.tenant.rule
            owner = next(c for c in self.clients if cast.tenant_of(c.peer) == rule)
            yield self.called(owner, CloseSession(session_id=session.id))
        for client in self.clients:
            yield ev.ClientGone(client.conn)
        while state.sessions:
            self.now_ns += SESSION_IDLE_NS
            due = self._due_timer() if self.rng.random() < 0.7 else None  # others have turns too
            yield due or self._disk_event(calm=True) or self._work(unlucky=0.0)

    def check_as_at_the_start(self) -> None:
        """Nothing is left of all that was."""
        state = self.kernel.state
        for left in (state.jobs, state.sessions, state.connections, state.checks, state.wanted):
            assert not left
        for ended in (state.capabilities, state.expiries, state.lapsed):
            assert not ended
        for given_back in (state.handles, state.held, state.channels):
            assert not given_back
        for inventory in (state.inventory, state.fixed):
            holes = [inventory.closed.get(at, each) for at, each in enumerate(inventory.holes)]
            assert holes == Inventory(state.hardware).holes
        assert state.live == state.parked == state.physical == 0
        assert not any(state.tally.values())
        for tenant in state.tenants.values():
            assert tenant.sessions == tenant.live == tenant.checking == tenant.parked == 0
            assert tenant.held_bytes == tenant.logical == tenant.physical == tenant.channels == 0
            assert tenant.rows_live == tenant.kept_bytes == 0
            assert not tenant.keys
            assert not tenant.finished
            assert not tenant.checkpoints
            assert not tenant.checkpoint_bytes
            assert tenant.quota == tenant.rule.quota
            for meter in (tenant.t_states, tenant.cpu, tenant.changes):
                assert quotas.level(meter, self.now_ns + quotas.MINUTE) == 0
        assert not self.witness.rows, "no rows are kept for nobody"
        assert not self.snapshots.held, "nor snapshots"
        assert set(state.timers) <= {state.sweep, state.lapse}
        if self.disk is not None:
            tables = self.disk.tables
            assert not tables.faults
            for rows in (tables.sessions, tables.graphs, tables.jobs, tables.slices, tables.ends):
                assert not rows, "nothing is kept of what nobody may read"
            assert not tables.handles
            assert not tables.channels
            assert not tables.snapshots
            assert not tables.checkpoints

    def shutdown_events(self) -> Iterator[ev.Event]:
        """A shutdown in the middle of things; clients go on calling until the halt."""
        yield ev.ShutDown(50 * MS)
        for _ in range(ENDING_STEPS_MAX):
            if self.halted:
                return
            self._let_time_pass()
            if self.rng.random() < 0.3:
                yield self._call()
            else:
                yield self._due_timer() or self._disk_event() or self._work()
        raise AssertionError("a shutdown comes to its end")

    def check_halted(self) -> None:
        """Everything was stopped and answered."""
        assert self.witness.halts == 1
        assert not self.witness.open, "every request was answered"
        if self.disk is None:
            assert all(job.state in FINAL_STATES for job in self.kernel.state.jobs.values())
        else:
            assert not self.disk.queue, "all is durable when it ends"
            self.disk.crash()
            self.witness.crashed()


def run(seed: int, steps: int) -> dict[str, int]:
    """Run `steps` steps or a few more, from a seed. Returns how often each answer was given."""
    rng = random.Random(seed)
    answers: dict[str, int] = {}
    done, now_ns, before = 0, START_NS, None
    with cast.small_bounds():
        while done < steps:
            life = Life(rng, now_ns, before, durable=rng.random() < 0.6)
            if life.disk is not None:
                life.recover(before)
            goes_on = _live(life, rng.randint(1, min(LIFE_STEPS, steps - done)))
            done += life.steps
            now_ns = life.now_ns
            if goes_on:
                before = life
                continue
            before = None
            _add(answers, life.witness.answers)
    if before is not None:
        _add(answers, before.witness.answers)
    return answers


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for kind, count in more.items():
        total[kind] = total.get(kind, 0) + count


def _live(life: Life, steps: int) -> bool:
    """One life, to a halt or a crash. Returns whether another goes on where it ended."""
    rng = life.rng
    for _ in range(steps):
        life.random_step()
    if life.disk is not None and rng.random() < 0.6:
        life.crash()
        return True
    if rng.random() < 0.6:
        _play(life, life.quiet_events())
        _play(life, life.closing_events())
        _play(life, life.quiet_events())
        life.check_as_at_the_start()
    _play(life, life.shutdown_events())
    life.check_halted()
    return life.disk is not None and rng.random() < 0.6


def _play(life: Life, events: Iterator[ev.Event]) -> None:
    for event in events:
        life.learn(event, life.step(event))
