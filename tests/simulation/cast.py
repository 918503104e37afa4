"""Who and what the simulated world holds: tenants, callers, programs, a planner, small bounds."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import msgspec

from qmkd.core import (
    admission,
    calibrating,
    delegation,
    faults,
    jobs,
    keeping,
    mapping,
    ports,
    programs,
    reading,
    recovery,
    schedule,
    sessions,
    waiting,
)
from qmkd.core.effects import RunSegment
from qmkd.core.events import Peer
from qmkd.core.limits import SECOND
from qmkd.core.ports import Machine, Plan, Point, Quota, TenantRule
from qvm import cycles
from qvm.machine import Factory, Hardware, Link, Module, plain
from qvm.program import Summary, VerifiedProgram
from qvm.verify import verify_bytes
from syscalls.errors import ProgramTooWide
from syscalls.fault import Fault, FaultKind
from syscalls.findings import Finding
from syscalls.rights import Right
from tests.simulation import invariants, outcomes

WIDTH_MAX = 4
EXACT = "exact"

# --- tenants and callers ------------------------------------------------------------------------

_PLAIN = frozenset(Right) - {Right.ADMIN}
TENANTS = (
    TenantRule(
        name="alice",
        uids=frozenset({1, 6}),
        grantable=_PLAIN,
        quota=Quota(
            logical_qubits=6,
            jobs=8,
            queued_bytes=12_000,
            result_bytes=90_000,
            sessions=8,
            t_states_per_minute=200_000,
            changes_per_minute=900,
            checkpoints=5,
            checkpoint_bytes=40_000,
        ),
    ),
    TenantRule(
        name="bob",
        uids=frozenset({2}),
        gids=frozenset({20}),
        grantable=frozenset({Right.ALLOC}),
        quota=Quota(
            physical_qubits=20, jobs=3, queued_bytes=3_000, result_bytes=30_000, sessions=6
        ),
    ),
    TenantRule(
        name="carol",
        uids=frozenset({3}),
        quota=Quota(jobs=5, sessions=6, cpu_ms_per_minute=20_000),
    ),
    TenantRule(name="mallory", uids=frozenset({4}), suspended=True),
)


def other_rules(rng: random.Random) -> tuple[TenantRule, ...]:
    """Such as an operator may reload: with less of a quota, suspended, weighty, or removed."""
    return tuple(_other(rng, rule) for rule in TENANTS if rng.random() < 0.85)


def _other(rng: random.Random, rule: TenantRule) -> TenantRule:
    names = ("logical_qubits", "physical_qubits", "jobs", "queued_bytes", "result_bytes")
    meters = ("sessions", "t_states_per_minute", "cpu_ms_per_minute", "changes_per_minute")
    less = {
        name: getattr(rule.quota, name) * rng.randint(1, 4) // 4
        for name in names + meters
        if rng.random() < 0.1
    }
    return msgspec.structs.replace(
        rule,
        quota=msgspec.structs.replace(rule.quota, **less),
        suspended=rule.suspended or rng.random() < 0.15,
        weight=rng.choice((1, 1, 3)),
    )


PEERS = (
    Peer(1, 1, 100),
    Peer(6, 1, 101),
    Peer(2, 2, 102),
    Peer(9, 20, 103),
    Peer(3, 3, 104),
    Peer(4, 4, 105),
    Peer(5, 5, 106),
)


def tenant_of(peer: Peer) -> TenantRule | None:
    """Whose calls this peer makes; no peer here makes two tenants' calls."""
    for rule in TENANTS:
        if peer.uid in rule.uids or peer.gid in rule.gids:
            return rule
    return None


OPERATOR = 3
"""The user who may be anything, CAP_ADMIN among it."""


def may_call(peer: Peer) -> bool:
    """Whether this peer can open a session at all."""
    rule = tenant_of(peer)
    return rule is not None and not rule.suspended


def _modules(*qubits: int) -> tuple[Module, ...]:
    return tuple(Module(name=f"m{at}", qubits=each) for at, each in enumerate(qubits))


HARDWARE: tuple[Hardware, ...] = (
    plain(40),
    Hardware(name="apart", module=_modules(36, 30), decoder_blocks=1),
    Hardware(
        name="chain",
        module=_modules(20, 20, 30),
        link=tuple(
            Link(between=ends, cycles=10.0, fidelity=0.9) for ends in (("m0", "m1"), ("m1", "m2"))
        ),
        factory=(Factory(module="m2", qubits=10, cycles=7.0),),
        decoder_blocks=2,
    ),
)
HARDWARE += (
    msgspec.structs.replace(
        HARDWARE[2],
        name="ailing",
        fault=(
            Fault(kind=FaultKind.FACTORY, what=["m2"], to_cycle=40_000),
            Fault(kind=FaultKind.MODULE, what=["m1"], from_cycle=30_000, to_cycle=90_000),
            Fault(kind=FaultKind.DECODER, strength=2, from_cycle=10_000, to_cycle=200_000),
            Fault(kind=FaultKind.LINK, what=["m1", "m0"], from_cycle=80_000, to_cycle=300_000),
            Fault(kind=FaultKind.CALIBRATION, strength=2, from_cycle=50_000, to_cycle=400_000),
            Fault(kind=FaultKind.MODULE, what=["m2"], from_cycle=600_000, to_cycle=700_000),
        ),
    ),
)
"""Machines on which two coded programs do not fit at once; one of which often fails."""


def calibrated(noise: str) -> dict[str, frozenset[int]]:
    """What is known of errors, of which more is known once they are twice as frequent."""
    return {"Surface": frozenset({9, 5, 13} if noise == "uniform 0.002" else {9})}


def machine(
    workers: int,
    durable: bool = False,
    version: str = "1",
    hardware: Hardware = HARDWARE[0],
    table: str = "",
) -> Machine:
    """One of these, and the daemon's other settings."""
    return Machine(
        physical_qubits=hardware.qubits,
        hardware=hardware,
        calibrated=calibrated("uniform 0.001"),
        calibrated_at=calibrated,
        measurable={"Surface": 3, "BaconShor": 2},
        workers=workers,
        worker_bytes=1_000,
        workers_apart=hardware is HARDWARE[1],
        tenants=TENANTS,
        versions={"x": version},
        durable=durable,
        calibration="shipped",
        table=table,
    )


# --- programs -----------------------------------------------------------------------------------


def graph(qubits: int, events: int, *ops: dict[str, Any], profile: str = "logical:ideal") -> bytes:
    """A program that allocates, runs `ops`, measures and frees."""
    names = [f"q{i}" for i in range(qubits)]
    nodes: list[dict[str, Any]] = [
        {"id": "a", "op": "ALLOC_LQ", "args": {"n": qubits, "profile": profile}, "vqs": names},
        *({"id": f"o{i}", **op} for i, op in enumerate(ops)),
        *(
            {"id": f"m{i}", "op": "MEASURE_Z", "vqs": [names[i % qubits]], "produces": [f"m{i}"]}
            for i in range(events)
        ),
        {"id": "f", "op": "FREE_LQ", "vqs": names},
    ]
    resources = {"vqs": names, "chs": [], "events": [f"m{i}" for i in range(events)]}
    return json.dumps(
        {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    ).encode()


def named(profiles: dict[str, str], ops: list[dict[str, Any]], channels: list[str]) -> bytes:
    """A program of qubits by these names, each of its profile, and of these channels."""
    names = list(profiles)
    nodes: list[dict[str, Any]] = [
        *(
            {"op": "ALLOC_LQ", "args": {"n": 1, "profile": profile}, "vqs": [name]}
            for name, profile in profiles.items()
        ),
        *ops,
        {"op": "MEASURE_Z", "vqs": names[:1], "produces": ["m0"]},
        {"op": "FREE_LQ", "vqs": names},
    ]
    nodes = [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]
    resources = {"vqs": names, "chs": channels, "events": ["m0"]}
    return json.dumps(
        {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    ).encode()


def crossing(profile: str) -> bytes:
    """A program with a channel of its own."""
    ends = {"vqs": ["q0", "q1"], "chs": ["c"]}
    ops: list[dict[str, Any]] = [
        {"op": "OPEN_CHAN", "args": {"fidelity": 0.6}, **ends},
        {"op": "USE_CHAN", "args": {"semantic": "teleport_cnot"}, **ends},
        {"op": "FENCE_EPOCH"},
    ]
    return named({"q0": profile, "q1": profile}, ops, ["c"])


_FENCE = {"op": "FENCE_EPOCH"}
PLAIN = graph(1, 1)
PROGRAMS: tuple[bytes, ...] = (
    PLAIN,
    graph(2, 2, _FENCE, {"op": "APPLY_H", "vqs": ["q0"]}),
    graph(2, 3, _FENCE, _FENCE, profile="logical:Surface(d=3)"),
    graph(1, 1, profile="logical:Surface(d=3)"),
    graph(1, 0),
    PLAIN + b" " * 700,
    graph(1, 2, _FENCE) + b" " * 900,
    graph(3, 3) + b"\n" * 1_500,
    PLAIN + b" " * 4_000,
    # Two that are looked up by the same key: alike in length, beginning and end.
    graph(1, 1, {"op": "APPLY_X", "vqs": ["q0"]}),
    graph(1, 1, {"op": "APPLY_Y", "vqs": ["q0"]}),
    graph(1, 1, {"op": "APPLY_T", "vqs": ["q0"]}, profile="logical:Surface(d=3)"),
    graph(WIDTH_MAX + 1, 1),
    graph(2, 1, profile="logical:Surface(d=9)"),
    graph(1, 1, {"op": "SET_POLICY", "args": {"priority": 1}}),
    b"{}",
    b"[" * 300,
    PLAIN[:-1] + b" " * 700,
    PLAIN.replace(b"MEASURE_Z", b"MEASURE_W") + b" " * 700,
    graph(1, 1, profile="logical:Surface(d=2)"),
    graph(1, 1, profile="logical:BaconShor(d=2)"),
    graph(
        2, 2, {"op": "TELEPORT_CNOT", "vqs": ["q0", "q1"]}, _FENCE, profile="logical:Surface(d=3)"
    ),
    crossing("logical:ideal"),
    crossing("logical:Surface(d=3)"),
)
TELEPORTING = len(PROGRAMS) - 3
CROSSING = (TELEPORTING + 1, TELEPORTING + 2)  # of PROGRAMS, those with channels
MAGIC = 11  # needs a right that not every tenant has
CODED = (2, 3)  # of PROGRAMS, two whose qubits are
SEEN_OFTEN = 11  # of PROGRAMS, the first so many are valid and usual


UNMEASURABLE = Point("Surface", 2, "uniform", 0.001)
NEVER_MEASURED = Point("BaconShor", 2, "uniform", 0.001)


def lacking(unit: RunSegment, known: frozenset[Point]) -> Point | None:
    """The first point that the noise of a run lacks, as its worker finds out."""
    mode, _, noise = unit.noise.partition(" ")
    if mode != "calibrated":
        return None
    made = verified(unit.graph)
    assert isinstance(made, VerifiedProgram)
    model, _, strength = noise.partition(" ")
    for profile in made.summary.profiles:
        larger = {(each.code, each.distance): each.to for each in unit.setting.raised}
        distance = larger.get((profile.code, profile.distance), profile.distance)
        point = Point(profile.code, distance, model, float(strength))
        if distance and distance not in calibrated(noise)["Surface"] and point not in known:
            return point
    return None


@lru_cache(maxsize=1024)
def verified(raw: bytes) -> VerifiedProgram | list[Finding]:
    """`verify_bytes`, remembered: it is pure, and the world submits few programs often."""
    return verify_bytes(raw)


def planner(summary: Summary, shots: int, noise: str, keeps: bool) -> Plan | ProgramTooWide:
    """Slow and fast programs, a bound on width, one program that needs too much memory."""
    if summary.peak_logical > WIDTH_MAX:
        return ProgramTooWide(width=summary.peak_logical, width_max=WIDTH_MAX, why="the world's")
    return Plan(
        engine=EXACT if shots == ports.EXACT else "fake",
        why="there is one",
        width=summary.peak_logical,
        ns_fixed=100_000,
        ns_per_shot=(200, 3_000, 20_000)[summary.nodes % 3],
        bytes_peak=2_000 if shots == 77 else 100,
    )


# --- bounds -------------------------------------------------------------------------------------

JOBS_RETAINED = 7
_BOUNDS: tuple[tuple[tuple[Any, ...], str, Any], ...] = (
    ((admission,), "INLINE_GRAPH_BYTES_MAX", 640),
    ((admission,), "verify_bytes", verified),
    ((jobs, invariants), "JOBS_RETAINED_MAX", JOBS_RETAINED),
    ((jobs,), "EVENTS_FREE_MAX", 1),
    ((waiting, invariants), "PARKED_MAX", 9),
    ((waiting, invariants), "SUBSCRIPTIONS_MAX", 3),
    ((sessions, invariants), "SESSIONS_EXPIRED_MAX", 3),
    ((sessions, invariants), "PEERS_CACHED_MAX", 3),
    ((sessions, recovery), "SWEEP_EFFECTS_MAX", 4),
    ((delegation, invariants), "CAPABILITIES_MAX", 4),
    ((delegation, invariants), "DELEGATIONS_MAX", 3),
    ((delegation,), "SWEEP_EFFECTS_MAX", 0),
    ((keeping,), "PENDING_MAX", 40),
    ((recovery,), "SLICE_SHOTS_UNMEASURED_MAX", 4096),
    ((programs, invariants), "PROGRAMS_CACHED_MAX", 4),
    ((programs, invariants), "PROGRAM_BYTES_CACHED_MAX", 6_000),
    ((schedule, calibrating), "POINT_NS_MAX", SECOND),
    ((mapping,), "EPOCH_CYCLES", 9_000),
    ((schedule,), "SLICE_CYCLES_CROWDED", 5_000),
    ((schedule,), "SLICE_CYCLES_DRIFTED", 5_000),
    ((faults,), "FAULTS_MAX", 4),
    ((mapping, invariants), "OVERTAKEN_MAX", 3),
    ((mapping,), "BACKFILL_MAX", 3),
    ((cycles,), "SPANS_MAX", 3),
    ((reading,), "MAPPING_QUBITS_MAX", 30),
    ((schedule,), "COUNTS_KEYS_MAX", outcomes.COUNTS_KEYS_MAX),
    ((schedule,), "SLICE_SHOTS_UNMEASURED_MAX", 4096),
    ((schedule,), "SLICE_SHOTS_MAX", 8192),
    ((reading,), "RESULTS_INLINE_BYTES_MAX", 1_500),
)


@contextmanager
def small_bounds() -> Iterator[None]:
    """The kernel's bounds made so small that the world meets them often."""
    before = [(each, name, getattr(each, name)) for rooms, name, _ in _BOUNDS for each in rooms]
    for rooms, name, value in _BOUNDS:
        for each in rooms:
            setattr(each, name, value)
    try:
        yield
    finally:
        for each, name, value in before:
            setattr(each, name, value)


def raw(program: bytes) -> msgspec.Raw:
    """A program as it stands in a request."""
    return msgspec.Raw(program)
