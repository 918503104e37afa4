"""Series out of counts and figures: their names, units, labels and what they mean.

Labels are bounded: tenants by `metrics_tenants`, methods, codes, states, modes and parts by what
there is of them. Only exemplars name jobs. Every family here stands in docs/monitoring.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import sqrt
from typing import Final

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar

from qmkd.core.figures import Figures, TenantFigures
from qmkd.shell.metrics.counting import BOUNDS_NS, OTHERS, Counts, Times, Work
from syscalls.errors import KernelError
from syscalls.fault import DegradedMode

Labels = Mapping[str, str]
Z_95: Final = 1.959964  # of the normal distribution, two-sided
LES: Final = (*(format(bound / 1e9, ".6g") for bound in BOUNDS_NS), "+Inf")


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """What neither counts nor figures know. scrape_s: what the last one took of the loop. spans:
    told of traces, by what became of them; None where none are."""

    versions: Mapping[str, str]
    connections: int
    store_backlog_bytes: int
    store_bytes: int
    scrapes: int
    scrape_s: float
    started_s: float
    spans: Mapping[str, int] | None = None


def families(counts: Counts, now: Figures, outside: Outside) -> Iterator[Metric]:
    """All series, family by family."""
    yield _info("qmkd_build", "What this build is and computes with.", outside.versions)
    yield _gauge(
        "qmkd_start_time_seconds", "When the daemon began to serve, Unix time.", outside.started_s
    )
    yield from _machine(now)
    yield from _calls(counts)
    yield from _tenants(_labelled(counts, now.tenants))
    yield from _work(counts.work)
    yield from _decoding(counts.work)
    yield from _workers(counts, now)
    yield from _store(counts, now, outside)
    yield _gauge("qmkd_connections", "Connections of clients.", outside.connections)
    yield _gauge("qmkd_scrapes", "Scrapes answered.", outside.scrapes, total=True)
    if outside.spans is not None:
        yield _family(
            "qmkd_spans",
            "Spans of traces, by what became of them: sent, or dropped where nobody took them.",
            "counter",
            [({"result": result}, count) for result, count in outside.spans.items()],
        )
    yield _gauge(
        "qmkd_scrape_loop_seconds",
        "CPU time that the last scrape took of the loop that serves calls, in many turns.",
        outside.scrape_s,
    )


def wilson(errors: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a probability (E. B. Wilson, J. Am. Stat. Assoc. 22, 209, 1927)."""
    square = Z_95 * Z_95
    share = errors / trials
    middle = share + square / (2 * trials)
    reach = Z_95 * sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    scale = 1 + square / trials
    low = 0.0 if errors == 0 else max(0.0, (middle - reach) / scale)
    return low, 1.0 if errors == trials else min(1.0, (middle + reach) / scale)


# --- the machine --------------------------------------------------------------------------------


def _machine(now: Figures) -> Iterator[Metric]:
    yield _gauge("qmkd_sessions", "Sessions open.", now.sessions)
    yield _family(
        "qmkd_jobs",
        "Jobs that are known, finished ones until they are forgotten, by state.",
        "gauge",
        [({"state": state.value.lower()}, count) for state, count in now.jobs.items()],
    )
    yield _gauge("qmkd_jobs_placed", "Jobs that hold a part of the machine.", now.placed)
    yield _gauge("qmkd_segments", "Pieces of work in the hands of workers.", now.segments)
    yield _gauge("qmkd_epoch", "The machine's epoch, as far as it may be told.", now.epoch)
    yield _gauge("qmkd_cycle_seconds", "What one cycle of the machine takes.", now.cycle_ns / 1e9)
    yield _gauge("qmkd_machine_cycles", "Cycles handed out, in all.", now.cycles, total=True)
    yield _gauge(
        "qmkd_machine_used_qubit_cycles",
        "Physical qubits times the cycles for which jobs held them, since the daemon started.",
        now.used,
        total=True,
    )
    yield _gauge(
        "qmkd_machine_offered_qubit_cycles",
        "All physical qubits times the same cycles. Used over offered is the utilization.",
        now.offered,
        total=True,
    )
    yield _gauge("qmkd_physical_qubits", "Physical qubits of the machine.", now.physical_total)
    yield _gauge("qmkd_physical_qubits_used", "Those that are held.", now.physical)
    yield _gauge("qmkd_faults", "Faults of the machine that are in force.", now.faults)
    yield _family(
        "qmkd_degraded",
        "Whether a degraded mode is in force: what is done about faults.",
        "gauge",
        [({"mode": mode.value}, int(mode in now.modes)) for mode in DegradedMode],
    )


def _calls(counts: Counts) -> Iterator[Metric]:
    answered: list[tuple[Labels, float]] = []
    refused: Counter[str] = Counter()
    by_method: dict[str, Times] = {}
    for call, answers in sorted(counts.calls.items(), key=_named):
        method = call.METHOD  # type: ignore[attr-defined]
        merged = by_method[method] = Times()
        for answer, times in sorted(answers.items(), key=_named):
            number = sum(times.counts)
            code = answer.NAME if issubclass(answer, KernelError) else "OK"
            if code != "OK":
                refused[code] += number
            answered.append(({"method": method, "code": code}, number))
            merged.counts = [a + b for a, b in zip(merged.counts, times.counts, strict=True)]
            merged.sum_ns += times.sum_ns
    yield _family("qmkd_syscalls", "Calls answered, by what came of them.", "counter", answered)
    yield _family(
        "qmkd_refusals",
        "Calls refused, by reason; what is not even a call is not among them.",
        "counter",
        [({"reason": reason}, count) for reason, count in sorted(refused.items())],
    )
    yield _histogram(
        "qmkd_syscall_duration_seconds",
        "From the kernel's first sight of a call to its answer, waiting included.",
        [({"method": method}, times) for method, times in by_method.items()],
    )


def _named(item: tuple[type, object]) -> str:
    return item[0].__name__


# --- tenants ------------------------------------------------------------------------------------


def _labelled(counts: Counts, tenants: Iterable[TenantFigures]) -> dict[str, list[TenantFigures]]:
    found: dict[str, list[TenantFigures]] = {}
    for each in tenants:
        label = each.name if counts.of_tenant(each.name) is counts.work.get(each.name) else OTHERS
        found.setdefault(label, []).append(each)
    return found


def _tenants(tenants: dict[str, list[TenantFigures]]) -> Iterator[Metric]:
    for field, name, text in (
        ("sessions", "sessions", "Sessions of a tenant."),
        ("live", "jobs_live", "Jobs of a tenant that are not over."),
        ("waiting", "jobs_waiting", "Of these, those that wait for the machine."),
        ("checking", "checks", "Submissions of a tenant that are being verified."),
        ("parked", "requests_waiting", "Calls of a tenant that are answered later."),
        ("logical", "logical_qubits", "Logical qubits that a tenant's jobs and sessions hold."),
        ("physical", "physical_qubits", "Physical qubits of the same."),
        ("result_bytes", "result_bytes", "Results of a tenant's finished jobs."),
    ):
        yield _family(
            f"qmkd_tenant_{name}",
            text,
            "gauge",
            [
                ({"tenant": tenant}, sum(getattr(each, field) for each in those))
                for tenant, those in tenants.items()
            ],
        )


def _work(work: dict[str, Work]) -> Iterator[Metric]:
    yield _family(
        "qmkd_jobs_ended",
        "Jobs that are over, by state, and by error where there was one.",
        "counter",
        [
            ({"tenant": tenant, "state": state.value.lower(), "error": error}, count)
            for tenant, each in work.items()
            for (state, error), count in sorted(each.ended.items())
        ],
    )
    for name, text, of in _SUMS:
        rows = [({"tenant": tenant}, of(each)) for tenant, each in work.items()]
        yield _family(f"qmkd_{name}", text, "counter", rows)
    yield _histogram(
        "qmkd_job_queue_seconds",
        "From a job's acceptance to its start, of jobs that are over.",
        [({"tenant": tenant}, each.queued) for tenant, each in work.items()],
    )
    yield _histogram(
        "qmkd_job_run_seconds",
        "From a job's start to its end, of jobs that are over and had started.",
        [({"tenant": tenant}, each.ran) for tenant, each in work.items()],
    )


_SUMS: Final[tuple[tuple[str, str, Callable[[Work], float]], ...]] = (
    ("jobs_accepted", "Jobs accepted.", lambda work: work.accepted),
    (
        "job_queue_cycles",
        "Machine cycles that jobs waited for their place, counted when they end.",
        lambda work: work.queue_cycles,
    ),
    (
        "job_machine_cycles",
        "Machine cycles that jobs held their place, counted when they end.",
        lambda work: work.machine_cycles,
    ),
    ("job_cpu_seconds", "CPU time of workers.", lambda work: work.cpu_ns / 1e9),
    ("shots", "Shots done.", lambda work: work.shots),
    ("slices", "Slices of shots done.", lambda work: work.slices),
    ("program_epochs", "Epochs of programs, over all shots done.", lambda work: work.epochs),
    ("t_states", "T states of the shots done, if every guard held.", lambda work: work.t_states),
    ("link_pairs", "Bell pairs between modules of the same.", lambda work: work.pairs),
    (
        "link_raw_pairs",
        "Raw Bell pairs that these took of links, in the mean.",
        lambda work: work.raw_pairs,
    ),
)


def _decoding(work: dict[str, Work]) -> Iterator[Metric]:
    seen = {tenant: each.decoder for tenant, each in work.items() if each.decoder["histories"]}
    for field, name, text, per in (
        ("histories", "histories", "Lives of logical qubits that were decoded.", 1),
        ("calls", "calls", "Windows that decoders were given.", 1),
        ("cycles", "rounds", "Rounds of syndrome that were decoded.", 1),
        ("failures", "failures", "Windows heavier than a decoder takes.", 1),
        ("undecoded", "undecoded", "Histories left undecoded.", 1),
        ("errors", "logical_errors", "Histories wrong after decoding.", 1),
        ("busy_ns", "busy_seconds", "Time in which decoders worked, of the machine.", 1e9),
        ("stalled_ns", "stalled_seconds", "Time by which rounds were held back for them.", 1e9),
        ("overloads", "overloads", "How often rounds were held back.", 1),
    ):
        rows: list[tuple[Labels, float]] = [
            ({"tenant": tenant}, sums[field] / per if per > 1 else sums[field])
            for tenant, sums in seen.items()
        ]
        yield _family(f"qmkd_decoder_{name}", text, "counter", rows)
    yield _family(
        "qmkd_decoder_backlog_windows_max",
        "The most windows that one decoder had before it at once.",
        "gauge",
        [({"tenant": tenant}, sums["backlog_most"]) for tenant, sums in seen.items()],
    )
    estimates: list[tuple[Labels, float]] = []
    for tenant, sums in seen.items():
        low, high = wilson(sums["errors"], sums["histories"])
        estimate = sums["errors"] / sums["histories"]
        for bound, value in (("estimate", estimate), ("low", low), ("high", high)):
            estimates.append(({"tenant": tenant, "bound": bound}, value))
    yield _family(
        "qmkd_logical_error_ratio",
        "Logical errors per history since the daemon started, with its 95 % interval.",
        "gauge",
        estimates,
    )


# --- workers, the store -------------------------------------------------------------------------


def _workers(counts: Counts, now: Figures) -> Iterator[Metric]:
    states = {"ready": now.workers_ready, "starting": now.workers - now.workers_ready}
    rows = [({"state": state}, count) for state, count in states.items()]
    yield _family("qmkd_workers", "Worker processes, by state.", "gauge", rows)
    yield _gauge("qmkd_worker_starts", "Workers that got ready.", counts.workers_ready, total=True)
    yield _gauge("qmkd_worker_ends", "Ready workers that ended.", counts.workers_gone, total=True)
    yield _family(
        "qmkd_worker_sandbox",
        "Ready workers that are held in by this part of the sandbox.",
        "gauge",
        [({"part": part}, count) for part, count in sorted(now.sandboxed.items())],
    )
    yield _family(
        "qmkd_segments_answered",
        "Segments that workers answered, by how they ended.",
        "counter",
        [({"result": result}, count) for result, count in sorted(counts.segments.items())],
    )


def _store(counts: Counts, now: Figures, outside: Outside) -> Iterator[Metric]:
    yield _gauge("qmkd_keeps_pending", "Changes that wait to be durable.", now.pending)
    yield _histogram(
        "qmkd_commit_seconds",
        "From a change to its being durable, shared flushes included.",
        [({}, counts.commits)],
    )
    yield _family(
        "qmkd_keep_failures",
        "Times that the store could not write, by reason.",
        "counter",
        [({"reason": reason}, count) for reason, count in sorted(counts.keep_failures.items())],
    )
    yield _gauge("qmkd_store_failing", "Whether it cannot write now.", int(now.keep_failed))
    yield _gauge("qmkd_store_backlog_bytes", "Bytes to be written.", outside.store_backlog_bytes)
    yield _gauge("qmkd_store_bytes", "Bytes of the database and its log.", outside.store_bytes)
    yield _gauge("qmkd_audit_entries", "Entries of the audit chain.", now.audited)
    yield _gauge("qmkd_reloads", "Configurations put in force.", counts.reloads, total=True)


# --- families -----------------------------------------------------------------------------------


def _gauge(name: str, text: str, value: float, *, total: bool = False) -> Metric:
    return _family(name, text, "counter" if total else "gauge", [({}, value)])


def _info(name: str, text: str, labels: Labels) -> Metric:
    made = Metric(name, text, "info")
    made.add_sample(f"{name}_info", dict(labels), 1)
    return made


def _family(name: str, text: str, kind: str, rows: Iterable[tuple[Labels, float]]) -> Metric:
    made = Metric(name, text, kind)
    sample = f"{name}_total" if kind == "counter" else name
    for labels, value in rows:
        made.add_sample(sample, dict(labels), value)
    return made


def _histogram(name: str, text: str, rows: Iterable[tuple[Labels, Times]]) -> Metric:
    made = Metric(name, text, "histogram")
    for labels, times in rows:
        below = 0
        for place, (le, count) in enumerate(zip(LES, times.counts, strict=True)):
            below += count
            job = times.exemplars.get(place)
            exemplar = None if job is None else Exemplar({"job_id": job[0]}, job[1] / 1e9)
            made.add_sample(f"{name}_bucket", {**labels, "le": le}, below, None, exemplar)
        made.add_sample(f"{name}_count", dict(labels), below)
        made.add_sample(f"{name}_sum", dict(labels), times.sum_ns / 1e9)
    return made
