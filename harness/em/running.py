"""Runs a suite: every task on every backend by every method, no mitigation always beside it.

Every random choice follows from the suite's seed and from what it is for, so rows do not depend on
which others are asked for, nor on whether a run was stopped and went on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import msgspec

from harness.em.backends.backend import Backend, Outcome, Refused, seconds_of
from harness.em.backends.registry import open_backend
from harness.em.circuits.exact import TooWide
from harness.em.circuits.families import FAMILIES, NoSuchTask, make
from harness.em.circuits.tasks import Task, digest, figures
from harness.em.methods.folding import CannotFold
from harness.em.methods.plan import Estimate, Known, Method, Plan, Unplannable
from harness.em.methods.registry import method
from harness.em.records.folder import Damaged, Folder
from harness.em.records.rows import Row

SHOTS: Final = 12_000
PLAIN: Final = "none"
HARM_SIGMAS: Final = 2.0
JOB_NAMES: Final = uuid5(NAMESPACE_URL, "urn:qmkd:em")
REFUSALS: Final = (Refused, Unplannable, CannotFold)

Tell = Callable[[int, int, str], None]
"""Rows done, rows in all, and what was done last."""


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """What to run.

    families: as of `families.py`. seeds: of circuits, one circuit of each family for each. qubits,
    depth: wished for; a family takes the nearest that it has, and its usual depth for None.
    methods: as of `methods/registry.py`. backends: as of `backends/registry.py`.
    shots: in all, for each row. repeats: rows of the same, with other seeds.
    """

    families: tuple[str, ...] = tuple(FAMILIES)
    seeds: tuple[int, ...] = (1,)
    qubits: int = 4
    depth: int | None = None
    methods: tuple[str, ...] = ("zne",)
    backends: tuple[str, ...] = ("physical",)
    shots: int = SHOTS
    repeats: int = 1
    seed: int = 1


class Job(NamedTuple):
    """One row to come."""

    task: Task
    backend: str
    method: str
    repeat: int
    seed: int


class Ran(NamedTuple):
    plan: Plan
    outcomes: list[Outcome]
    estimate: Estimate


def tasks(suite: Suite) -> list[Task]:
    """The circuits of a suite, each once: some families take nothing from a seed.

    Raises NoSuchTask or TooWide.
    """
    found: dict[str, Task] = {}
    for family in suite.families:
        row = FAMILIES.get(family)
        width = (
            suite.qubits if row is None else min(max(suite.qubits, row.qubits_min), row.qubits_max)
        )
        for seed in suite.seeds:
            task = make(family, seed, width, suite.depth)
            found.setdefault(task.circuit_id, task)
    return list(found.values())


def jobs(suite: Suite) -> Iterator[Job]:
    """All rows, in the order in which they are kept."""
    for task in tasks(suite):
        for backend in suite.backends:
            for repeat in range(suite.repeats):
                for text in suite.methods:
                    yield Job(
                        task, backend, text, repeat, seed_of(suite, task, backend, text, repeat)
                    )


def seed_of(suite: Suite, task: Task, backend: str, text: str, repeat: int) -> int:
    """Of one row, whatever others there are."""
    words = [suite.seed, task.circuit_id, backend, text, suite.shots, repeat]
    return int(digest(words)[:15], 16)


def run_seed(seed: int, number: int) -> int:
    """Of one circuit of a plan."""
    return int(digest([seed, number])[:12], 16)


def carried_out(how: Method, task: Task, backend: Backend, shots: int, seed: int) -> Ran:
    """Plan, run and reduce. Raises what is in REFUSALS."""
    known = Known(capabilities=backend.capabilities, calibration=backend.calibration)
    plan = how.plan(task, known, shots, seed)
    outcomes = [
        backend.run(run.circuit, run.shots, run_seed(seed, number), run.distance)
        for number, run in enumerate(plan.runs)
    ]
    return Ran(plan, outcomes, how.reduce(plan, outcomes))


def run(suite: Suite, folder: Folder, tell: Tell) -> tuple[list[Row], list[str]]:
    """Run what is not there yet; the rows, and what was refused.

    Raises NoSuchTask, TooWide, Damaged, Unplannable for a method that does not exist, and Refused
    for a backend that cannot be opened.
    """
    wanted = list(jobs(suite))
    for text in suite.methods:
        method(text)
    there = {(row.circuit_id, row.backend, row.method_text, row.repeat): row
             for row in folder.begin(suite)}  # fmt: skip
    rows, refused, seconds = [], [], {}
    backends = {text: open_backend(text) for text in suite.backends}
    plain: dict[tuple[str, str, int], Ran] = {}
    try:
        for number, job in enumerate(wanted):
            backend = backends[job.backend]
            key = (job.task.circuit_id, backend.name, job.method, job.repeat)
            row = there.get(key)
            if row is None:
                start = time.perf_counter()
                try:
                    row = _row(job, backend, suite, folder, plain)
                except REFUSALS as error:
                    refused.append(f"{job.task.name}, {job.backend}, {job.method}: {error}")
                    tell(number + 1, len(wanted), job.task.name)
                    continue
                folder.add(row)
                seconds[row.job_id] = round(time.perf_counter() - start, 4)
            rows.append(row)
            tell(number + 1, len(wanted), job.task.name)
    finally:
        for backend in backends.values():
            backend.close()
    folder.end(rows, refused, seconds)
    return rows, refused


def _row(
    job: Job,
    backend: Backend,
    suite: Suite,
    folder: Folder,
    plain: dict[tuple[str, str, int], Ran],
) -> Row:
    """Run one job, and what it is held against where that was not run yet."""
    beside = (job.task.circuit_id, backend.name, job.repeat)
    if beside not in plain:
        plain.clear()
        seed = seed_of(suite, job.task, job.backend, PLAIN, job.repeat)
        plain[beside] = carried_out(method(PLAIN), job.task, backend, suite.shots, seed)
    ran = plain[beside]
    if job.method != PLAIN:
        ran = carried_out(method(job.method), job.task, backend, suite.shots, job.seed)
    folder.keep_task(job.task)
    folder.keep_calibration(backend.calibration)
    return row_of(job, backend, ran, plain[beside].estimate, folder.keep_outcomes(ran.outcomes))


def row_of(job: Job, backend: Backend, ran: Ran, plain: Estimate, place: str) -> Row:
    """All that is kept of a number."""
    task, plan, found = job.task, ran.plan, ran.estimate
    calibration = backend.calibration
    counted = figures(task.circuit)
    spread = task.observable.spread
    parameters = msgspec.json.encode(plan.parameters, order="deterministic").decode()
    name = digest([plan.digest, backend.name, calibration.digest, job.seed])
    off, off_plain = abs(found.value - task.exact), abs(plain.value - task.exact)
    noise = (found.std_err**2 + plain.std_err**2) ** 0.5
    return Row(
        job_id=str(uuid5(JOB_NAMES, name)),
        circuit_id=task.circuit_id,
        family=task.family,
        shots=plan.shots,
        raw_histogram_path=place,
        unmitigated_fidelity=1 - off_plain / (2 * spread),
        mitigated_fidelity=1 - off / (2 * spread),
        method=plan.method,
        parameters=parameters,
        runtime_seconds=sum(seconds_of(calibration, r.circuit, r.shots) for r in plan.runs)
        + backend.cost.seconds_overhead * len(plan.runs),
        backend=backend.name,
        calibration_digest=calibration.digest,
        task=task.name,
        method_text=job.method,
        repeat=job.repeat,
        seed=job.seed,
        exact=task.exact,
        exact_by=task.exact_by,
        spread=spread,
        value=found.value,
        std_err=found.std_err,
        ci_low=found.low,
        ci_high=found.high,
        clipped=found.clipped,
        unmitigated_value=plain.value,
        unmitigated_std_err=plain.std_err,
        harm=off - off_plain > HARM_SIGMAS * noise,
        note=found.note,
        circuits=len(plan.runs),
        shots_beside=plan.shots_beside,
        qubits=counted.qubits,
        gates_1q=counted.gates_1q,
        gates_2q=counted.gates_2q,
        depth=counted.depth,
        money=backend.cost.money * plan.shots,
        plan_digest=plan.digest,
    )


def reckoned_again(suite: Suite, folder: Folder) -> Sequence[str]:
    """What of a finished run does not follow from its histograms and calibrations; nothing, if all.

    Plans are made again from the seeds, and every value is reduced again, to the last bit.
    """
    wrong = []
    by_key = {(row.circuit_id, row.method_text, row.repeat, row.seed): row for row in folder.rows()}
    capabilities = {text: open_backend(text) for text in suite.backends}
    try:
        for job in jobs(suite):
            row = by_key.get((job.task.circuit_id, job.method, job.repeat, job.seed))
            if row is None:
                continue
            known = Known(
                capabilities=capabilities[job.backend].capabilities,
                calibration=folder.calibration(row.calibration_digest),
            )
            how = method(job.method)
            plan = how.plan(job.task, known, suite.shots, job.seed)
            if plan.digest != row.plan_digest:
                wrong.append(f"{row.task}, {row.method_text}: another plan comes from its seed.")
                continue
            found = how.reduce(plan, folder.outcomes(row.raw_histogram_path))
            if (found.value, found.std_err) != (row.value, row.std_err):
                wrong.append(f"{row.task}, {row.method_text}: another value comes from its counts.")
    finally:
        for backend in capabilities.values():
            backend.close()
    return wrong


__all__ = ["Damaged", "NoSuchTask", "Suite", "TooWide", "jobs", "reckoned_again", "run", "tasks"]
