"""A million steps of the simulated world in every run of the tests, ten million in long ones."""

from __future__ import annotations

import pytest

from syscalls.errors import (
    AccessDenied,
    AlreadyCompleted,
    AuthFailed,
    Busy,
    CapabilityNotFound,
    ChannelNotFound,
    CheckpointIncompatible,
    CheckpointNotFound,
    DeadlineUnreachable,
    FaultNotFound,
    HandleNotFound,
    IdempotencyConflict,
    InsufficientCaps,
    InternalError,
    InvalidGraph,
    InvalidParams,
    JobNotFound,
    NoFence,
    NotAvailable,
    NotBrokered,
    NotCompleted,
    ProgramTooWide,
    QuotaExceeded,
    ResourceExhausted,
    ResultsDropped,
    ResultsTooLarge,
    SessionExpired,
    TenantSuspended,
    Timeout,
    WorkerLost,
)
from tests.simulation.world import run

SEEDS = 20
SEEDS_LONG = 200
STEPS = 50_000
CHANNELS_MIN = 30  # opened in a run of so many steps; 50 to 250 usually

assert SEEDS * STEPS >= 1_000_000

# What the kernel can refuse in this build, and what can become of a job.
REFUSALS = (
    AccessDenied, AlreadyCompleted, AuthFailed, Busy, CapabilityNotFound, ChannelNotFound,
    CheckpointIncompatible, CheckpointNotFound, DeadlineUnreachable, FaultNotFound, HandleNotFound,
    IdempotencyConflict, InsufficientCaps, InternalError, InvalidGraph, InvalidParams, JobNotFound,
    NoFence, NotAvailable, NotBrokered, NotCompleted, ProgramTooWide, QuotaExceeded,
    ResourceExhausted, ResultsDropped, ResultsTooLarge, SessionExpired, TenantSuspended, Timeout,
)  # fmt: skip
FAILURES = (
    InsufficientCaps, InternalError, NotAvailable, ResourceExhausted, Timeout, WorkerLost,
)  # fmt: skip
SELDOM = (NotBrokered, QuotaExceeded)
"""After a restart on another machine, which has not what a job named or would have held; or where
the far side of a channel gives its qubit back."""


def replay(seed: int, steps: int) -> dict[str, int]:
    try:
        return run(seed, steps)
    except BaseException as error:
        command = f"python -m tests.simulation --seed {seed} --steps {steps}"
        raise AssertionError(f"replay with: {command}") from error


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_invariant_holds_in_every_step_of_the_world(seed: int) -> None:
    replay(seed, STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS, SEEDS + SEEDS_LONG))
def test_every_invariant_holds_in_many_more_worlds(seed: int) -> None:
    replay(seed, STEPS)


def test_the_world_meets_every_refusal_and_every_end_of_a_job() -> None:
    met = replay(SEEDS + SEEDS_LONG, STEPS)
    refused = {kind.split()[1] for kind in met if kind.startswith("q_")}
    assert {error.NAME for error in REFUSALS} <= refused
    assert met["q_open_chan ChanOpened"] >= CHANNELS_MIN
    ends = {kind for kind in met if not kind.startswith("q_")}
    always = {"COMPLETED", "CANCELLED", *(f"FAILED {error.NAME}" for error in FAILURES)}
    assert always <= ends <= always | {f"FAILED {error.NAME}" for error in SELDOM}


def test_the_same_seed_makes_the_same_world() -> None:
    assert replay(5, 3_000) == replay(5, 3_000)
