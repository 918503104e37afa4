"""What one program of the demonstration was, what it should give and what it gave."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from harness.demo.judge import Verdict, distance, judge
from qvm import examples
from qvm.program import VerifiedProgram
from qvm.reference import distribution
from qvm.verify import verify_bytes
from runtime.client import Client
from runtime.client.operations import Progress
from runtime.client.results import Result
from syscalls.events import JobEvent
from syscalls.ids import JobId
from syscalls.job import JobStatus, Noise


class Program(Struct, frozen=True, kw_only=True):
    """An example and what it is distributed as, exactly."""

    name: str
    source: bytes
    description: str
    exact: dict[str, float]


class Noisy(Struct, frozen=True, kw_only=True):
    """The same program with the errors of its codes.

    distance: total variation distance between the counts and the exact distribution without errors.
    impossible: shots whose outcome cannot occur without errors.
    """

    status: JobStatus
    counts: dict[str, int]
    distance: float
    impossible: int

    @property
    def noise(self) -> str:
        """The errors that were applied."""
        assert self.status.execution_context is not None, "a completed job says how it ran"
        return self.status.execution_context.noise.applied


class Run(Struct, frozen=True, kw_only=True):
    """A program that ran without errors, and with those of its codes.

    events: what the daemon told about the former job, in order.
    """

    program: Program
    status: JobStatus
    counts: dict[str, int]
    verdict: Verdict
    events: list[JobEvent]
    noisy: Noisy

    @property
    def engine(self) -> str:
        """The engine that ran it."""
        assert self.status.execution_context is not None, "a completed job says how it ran"
        return self.status.execution_context.engine

    def times(self) -> tuple[datetime, datetime, datetime]:
        """When the job was created, started and completed."""
        started, completed = self.status.started_at, self.status.completed_at
        assert started is not None, "a completed job was started"
        assert completed is not None, "a completed job says when"
        created, begun, ended = map(
            datetime.fromisoformat, (self.status.created_at, started, completed)
        )
        return created, begun, ended


def all_programs() -> list[Program]:
    """Every example, verified, with its exact distribution."""
    found = []
    for name in examples.names():
        source = examples.load(name)
        program = verify_bytes(source)
        assert isinstance(program, VerifiedProgram), f"example {name} is valid"
        text = program.graph.description
        found.append(
            Program(
                name=name,
                source=source,
                description=text if isinstance(text, str) else "",
                exact=distribution(program).probabilities,
            )
        )
    return found


def run_all(
    client: Client, programs: Sequence[Program], shots: int, seed: int, tell: Progress
) -> list[Run]:
    """Submit all programs at once, each without and with errors; wait, fetch and judge.

    tell: called with each of the daemon's notifications, before anything is returned.
    """
    heard: dict[JobId, list[JobEvent]] = {}

    def listen(event: JobEvent) -> None:
        heard.setdefault(event.job_id, []).append(event)
        tell(event)

    client.subscribe(listen)
    sources = [each.source for each in programs]
    jobs = client.submit_all(sources, shots=shots, seed=seed, noise=Noise.IDEAL)
    noisy_jobs = client.submit_all(sources, shots=shots, seed=seed)
    runs = []
    for program, job, noisy_job in zip(programs, jobs, noisy_jobs, strict=True):
        result = job.wait()
        runs.append(
            Run(
                program=program,
                status=result.status,
                counts=_checked_counts(result, shots),
                verdict=judge(result.counts, program.exact),
                events=heard.get(job.job_id, []),
                noisy=_noisy(program, noisy_job.wait(), shots),
            )
        )
    return runs


def _noisy(program: Program, result: Result, shots: int) -> Noisy:
    counts = _checked_counts(result, shots)
    return Noisy(
        status=result.status,
        counts=counts,
        distance=distance(counts, program.exact),
        impossible=sum(seen for key, seen in counts.items() if not program.exact.get(key)),
    )


def _checked_counts(result: Result, shots: int) -> dict[str, int]:
    """The kernel's counts, which its packed rows, checked against their digest, must confirm."""
    assert sum(result.counts.values()) == shots, "every shot is counted"
    assert result.packed.counts() == result.counts, "rows and counts agree"
    return result.counts


def summary(runs: Sequence[Run], shots: int, seed: int, seconds: float) -> dict[str, Any]:
    """All of it as plain data, for `demo.json`."""
    return {
        "shots": shots,
        "seed": seed,
        "seconds": round(seconds, 3),
        "inside": all(run.verdict.inside for run in runs),
        "programs": [
            {
                "name": run.program.name,
                "counts": run.counts,
                "exact": run.program.exact,
                "inside": run.verdict.inside,
                "verdict": msgspec.to_builtins(run.verdict),
                "status": msgspec.to_builtins(run.status),
                "noisy": msgspec.to_builtins(run.noisy),
            }
            for run in runs
        ],
    }
