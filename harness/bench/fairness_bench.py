"""Eight tenants on one small machine: how evenly they are served, and how little is left idle.

The kernel itself is driven, with workers that only wait on a clock of their own; nothing sleeps.
All jobs are there at the start, most of them one tenant's. What a tenant was served is read from
the slices that were handed out, as intervals on the machine's clock, up to the cycle in which the
first tenant has nothing left. FIFO and priority-only are the same kernel with one tenant in whose
queue all jobs stand, in the order of their arrival or with the priorities that their owners chose.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import defaultdict
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec

from harness.bench.rows import Row, row
from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.kernel import Kernel
from qmkd.core.limits import ENTROPY_BYTES, EPOCH_CYCLES, JOBS_LIVE_MAX, LEAF_BYTES
from qmkd.core.ports import Machine, Plan, Quota, SegmentReport, TenantRule
from qmkd.core.state import Segment
from qmkd.shell import machines
from qvm.blocks import qubits_of
from qvm.cycles import demand
from qvm.machine import MILLION, Hardware
from qvm.program import Summary, VerifiedProgram
from qvm.verify import verify_bytes
from syscalls.ids import SessionId
from syscalls.job import Noise, Policy, Submit, Submitted
from syscalls.results import SHOT_BLOCK
from syscalls.session import NegotiateCaps, Session
from syscalls.syscall import Syscall

MACHINE: Final = "early"
TENANTS: Final = 8
WORKERS: Final = 4
QUBIT_CYCLES_PER_NS: Final = 100  # that a worker simulates
KINDS: Final = ((7, 12), (9, 8), (11, 4), (13, 3), (7, 4), (9, 12), (11, 2), (13, 5))
"""Of each tenant's jobs: the distance of their code, and how many logical qubits, about."""
EPOCHS_EACH: Final = 15  # of the whole machine, that each tenant's jobs come to at least
JAIN_MIN: Final = 0.95
PACKED_MIN: Final = 0.9


class Work(NamedTuple):
    """A job: whose it is, its program, its shots, the priority that its owner asks for."""

    owner: int
    graph: bytes
    shots: int
    priority: int


class Served(NamedTuple):
    """What came of a workload.

    jain: index of what each tenant was served while all had work. used: of the machine's qubits in
    that time. packed: the shortest machine time that any schedule needs, over what it took. waited:
    until every tenant was served at all, as a part of all the time.
    """

    jain: float
    used: float
    packed: float
    waited: float


def run(quick: bool) -> list[Row]:
    rows: list[Row] = []
    for seed in range(1 if quick else 3):
        works = workload(seed)
        for policy in ("fair", "fifo", "priority"):
            rows += _rows(f"workload {seed + 1}, {policy}", serve(works, policy), policy == "fair")
    return rows


def _rows(what: str, served: Served, goal: bool) -> list[Row]:
    used_min = PACKED_MIN if goal else None
    return [
        row(f"{what}: Jain's index", served.jain, "", at_least=JAIN_MIN if goal else None),
        row(f"{what}: qubits in use, of all that can be", served.used, "", at_least=used_min),
        row(f"{what}: shortest machine time over what it took", served.packed, ""),
        row(f"{what}: all tenants are served after", served.waited, "of the time"),
    ]


# --- the workload -------------------------------------------------------------------------------


def program(qubits: int, layers: int, turns: int, distance: int) -> bytes:
    """Layers of CNOTs on a line, `turns` T gates, every qubit measured."""
    names = [f"q{at}" for at in range(qubits)]
    profile = f"logical:Surface(d={distance})"
    nodes: list[dict[str, Any]] = [
        {"op": "ALLOC_LQ", "args": {"n": qubits, "profile": profile}, "vqs": names}
    ]
    for layer in range(layers):
        pairs = zip(names[layer % 2 :: 2], names[layer % 2 + 1 :: 2], strict=False)
        nodes += [{"op": "APPLY_CNOT", "vqs": list(pair)} for pair in pairs]
    nodes += [{"op": "APPLY_T", "vqs": [names[turn % qubits]]} for turn in range(turns)]
    nodes += [{"op": "MEASURE_Z", "vqs": [name], "produces": [f"m{name}"]} for name in names]
    nodes.append({"op": "FREE_LQ", "vqs": names})
    for at, node in enumerate(nodes):
        node["id"] = f"n{at}"
    resources = {"vqs": names, "events": [f"m{name}" for name in names]}
    text = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return json.dumps(text).encode()


def workload(seed: int) -> list[Work]:
    """Jobs in the order of their arrival: each tenant has its own kind, and about as much work."""
    rng = random.Random(seed)
    works: list[Work] = []
    for owner in range(TENANTS):
        distance, wide = KINDS[owner]
        left = float(EPOCHS_EACH)
        while left > 0:
            qubits = max(2, wide + rng.randint(-2, 2))
            turns = 1 if owner % 4 == 3 else 0
            graph = program(
                qubits, rng.randint(8, 16) if turns else rng.randint(2, 6), turns, distance
            )
            need = need_of(graph)
            cycles = rng.uniform(0.5, 3.0) * EPOCH_CYCLES
            shots = max(SHOT_BLOCK, int(cycles / need.cycles))
            left -= shots * need.cycles * need.dominant / EPOCH_CYCLES
            works.append(Work(owner, graph, shots, owner))
    # Two tenants come first with all they have; the others' jobs follow mixed.
    first = [work for work in works if work.owner < 2]
    rest = [work for work in works if work.owner >= 2]
    rng.shuffle(rest)
    return first + rest


@cache
def hardware() -> Hardware:
    found = machines.load(MACHINE)
    assert isinstance(found, Hardware)
    return found


class Need(NamedTuple):
    """What a shot takes of the machine; dominant: its largest part of anything there is."""

    cycles: int
    qubits: int
    t_states: int
    blocks: int
    dominant: float


@cache
def need_of(graph: bytes) -> Need:
    verified = verify_bytes(graph)
    assert isinstance(verified, VerifiedProgram), verified
    summary, machine = verified.summary, hardware()
    wants, qubits = demand(summary, machine), qubits_of(summary.blocks)
    assert machine.t_rate
    assert machine.decoder_blocks
    dominant = max(
        qubits / sum(machine.spare),
        summary.t_states * MILLION / wants.cycles / machine.t_rate,
        wants.blocks / machine.decoder_blocks,
    )
    return Need(wants.cycles, qubits, summary.t_states, wants.blocks, dominant)


# --- serving it ---------------------------------------------------------------------------------


def _plan(summary: Summary, shots: int, noise: str, keeps: bool) -> Plan:
    return Plan(
        engine="none",
        why="nothing is run",
        width=summary.peak_logical,
        ns_fixed=0,
        ns_per_shot=worker_ns(demand(summary, hardware()).cycles, qubits_of(summary.blocks)),
        bytes_peak=0,
    )


def worker_ns(cycles: int, qubits: int) -> int:
    """How long a worker takes."""
    return -(-cycles * qubits // QUBIT_CYCLES_PER_NS)


class Floor:
    """A kernel, its workers, and what was handed out: owner -> intervals on the machine's clock."""

    def __init__(self, tenants: int) -> None:
        rules = tuple(
            TenantRule(name=f"t{at}", uids=frozenset({at}), quota=Quota(jobs=JOBS_LIVE_MAX))
            for at in range(tenants)
        )
        machine = Machine(hardware=hardware(), tenants=rules, workers=WORKERS)
        self.kernel = Kernel(machine, _plan)
        self.now_ns = self.calls = 0
        self.free_ns = [0] * WORKERS
        self.held: list[tuple[int, int, fx.RunSegment]] = []
        self.owners: dict[str, int] = {}
        self.served: dict[int, list[tuple[int, int, Need]]] = defaultdict(list)
        self.sessions = [self._open(at) for at in range(tenants)]

    def step(self, event: ev.Event) -> list[fx.Effect]:
        out = self.kernel.step(self.now_ns, event)
        runs = [effect for effect in out if isinstance(effect, fx.RunSegment)]
        for run in runs:
            need, worker = need_of(bytes(run.graph)), self.kernel.state.workers[run.worker]
            segment = worker.held[run.ticket]
            assert isinstance(segment, Segment)
            end = segment.cycle
            self.served[self.owners[run.job_id]].append((end - run.shots * need.cycles, end, need))
            self._take(run, need)
        return out

    def _take(self, run: fx.RunSegment, need: Need) -> None:
        start = max(self.now_ns, self.free_ns[run.worker])
        self.free_ns[run.worker] = start + run.shots * worker_ns(need.cycles, need.qubits)
        heapq.heappush(self.held, (self.free_ns[run.worker], run.ticket, run))

    def call(self, uid: int, request: Syscall) -> object:
        self.calls += 1
        origin = ev.Origin(1, self.calls)
        entropy = self.calls.to_bytes(ENTROPY_BYTES // 2, "big") + bytes(ENTROPY_BYTES // 2)
        out = self.step(ev.Called(origin, ev.Peer(uid, uid, 1), request, entropy))
        return next(one.body for one in out if isinstance(one, fx.Reply) and one.to == origin)

    def _open(self, uid: int) -> SessionId:
        reply = self.call(uid, NegotiateCaps(requested=["CAP_ALLOC", "CAP_MAGIC"]))
        assert isinstance(reply, Session), reply
        return reply.session_id

    def submit(self, work: Work, tenant: int, priority: int) -> None:
        request = Submit(
            session_id=self.sessions[tenant],
            graph=msgspec.Raw(work.graph),
            policy=Policy(
                noise=Noise.IDEAL, shots=work.shots, priority=priority, seed=1, counts=False
            ),
        )
        reply = self.call(tenant, request)
        assert isinstance(reply, Submitted), reply
        self.owners[reply.job_id] = work.owner

    def run_all(self) -> None:
        for number in range(WORKERS):
            self.step(ev.WorkerReady(number))
        while self.held:
            self.now_ns, _, run = heapq.heappop(self.held)
            need = need_of(bytes(run.graph))
            report = SegmentReport(
                shots=run.shots,
                counts=None,
                first_row={},
                leaves=bytes(LEAF_BYTES * -(-run.shots // SHOT_BLOCK)),
                engine=run.engine,
                cpu_ns=run.shots * worker_ns(need.cycles, need.qubits),
                notes={},
            )
            self.step(ev.SegmentDone(run.worker, run.ticket, report))
        assert self.kernel.state.live == 0, "all jobs are over"


def serve(works: list[Work], policy: str) -> Served:
    """policy: `fair`, one tenant for each owner; `fifo` and `priority`, one for all."""
    floor = Floor(TENANTS if policy == "fair" else 1)
    for work in works:
        tenant = work.owner if policy == "fair" else 0
        floor.submit(work, tenant, work.priority if policy == "priority" else 0)
    floor.run_all()
    ends = [max(end for _, end, _ in floor.served[owner]) for owner in range(TENANTS)]
    window = min(ends)
    check_feasible([each for owner in range(TENANTS) for each in floor.served[owner]])
    had = [
        sum(
            max(0, min(end, window) - began) * need.dominant
            for began, end, need in floor.served[owner]
        )
        for owner in range(TENANTS)
    ]
    firsts = [min(began for began, _, _ in floor.served[owner]) for owner in range(TENANTS)]
    return Served(
        jain=sum(had) ** 2 / (TENANTS * sum(each * each for each in had)),
        used=sum(
            max(0, min(end, window) - began) * need.qubits
            for owner in range(TENANTS)
            for began, end, need in floor.served[owner]
        )
        / (sum(hardware().spare) * window),
        packed=shortest(works) / max(ends),
        waited=max(firsts) / max(ends),
    )


def check_feasible(served: list[tuple[int, int, Need]]) -> None:
    """Assert that at no cycle more runs than the machine has qubits, T states and decoding for."""
    machine = hardware()
    assert machine.t_rate
    assert machine.decoder_blocks
    changes = [(began, 1, need) for began, _, need in served]
    changes += [(end, -1, need) for _, end, need in served]
    qubits = blocks = 0
    rate = 0.0
    for _, sign, need in sorted(changes, key=lambda change: change[:2]):
        qubits += sign * need.qubits
        blocks += sign * need.blocks
        rate += sign * need.t_states * MILLION / need.cycles
        assert qubits <= sum(machine.spare)
        assert blocks <= machine.decoder_blocks
        assert rate <= machine.t_rate * (1 + 1e-9)


def shortest(works: list[Work]) -> float:
    """Cycles that no schedule can do without: of the busiest resource, or of the longest job."""
    machine = hardware()
    assert machine.t_rate
    assert machine.decoder_blocks
    cycles = [work.shots * need_of(work.graph).cycles for work in works]
    needs = [need_of(work.graph) for work in works]
    total = [(each, need) for each, need in zip(cycles, needs, strict=True)]
    shots = [work.shots for work in works]
    return max(
        sum(each * need.qubits for each, need in total) / sum(machine.spare),
        sum(each * need.blocks for each, need in total) / machine.decoder_blocks,
        sum(many * need.t_states for many, need in zip(shots, needs, strict=True))
        * MILLION
        / machine.t_rate,
        max(cycles),
    )
