"""How a plan is shown: which engine runs which parts, what that should cost, and what it did."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from syscalls.job import JobTelemetry
from syscalls.plan import JobPlan, PairsRow

UNITS = (("s", 1e9), ("ms", 1e6), ("us", 1e3))
SPENT_ON = {
    "read": "reading the program",
    "compile": "compiling it for the engines",
    "rows": "rows of bits that engines share",
    "results": "packing and counting results",
}
"""What a run's time goes to beside engines; `syscalls.job.JobTelemetry.spent_ns`."""


def plan_tables(plan: JobPlan, spent: JobTelemetry | None = None) -> list[RenderableType]:
    """spent: of the job that ran by this plan."""
    tables: list[RenderableType] = [_parts(plan), *dict.fromkeys(_reasons(plan))]
    tables += [pairs_table(plan.pairs, plan.raw_pairs)] if plan.pairs else []
    return [*tables, _costs(plan, spent)]


def _parts(plan: JobPlan) -> Table:
    table = Table(title=f"engine {plan.engine}", title_justify="left")
    table.add_column("engine", no_wrap=True)
    for name in ("parts", "qubits each", "CPU time predicted", "memory predicted"):
        table.add_column(name, justify="right")
    for row in plan.rows:
        table.add_row(
            row.engine, str(row.parts), str(row.qubits), time_text(row.cpu_ns), size_text(row.bytes)
        )
    return table


def pairs_table(rows: Sequence[PairsRow], raw_pairs: float) -> Table:
    """raw_pairs: mean number of them in a shot."""
    title = f"Bell pairs between modules: {raw_pairs:.4g} raw ones a shot"
    table = Table(title=title, title_justify="left")
    table.min_width = len(title)
    for name in ("nodes", "asked", "made by", "raw pairs each", "cycles each", "age", "fidelity"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        terms = row.terms
        table.add_row(
            str(row.uses),
            f"{row.asked:g}" if row.asked else "",
            f"{terms.protocol} x {terms.rounds}" if terms.rounds else terms.protocol,
            f"{terms.raw_pairs:.3g}",
            f"{terms.cycles:.3g}",
            str(terms.age),
            f"{terms.fidelity:.6g}",
        )
    return table


def _reasons(plan: JobPlan) -> list[str]:
    return [f"{row.engine}: {row.why}." for row in plan.rows]


def _costs(plan: JobPlan, spent: JobTelemetry | None) -> Table:
    table = Table(title="whole run, reading and results included", title_justify="left")
    table.min_width = len(str(table.title))
    table.add_column("")
    table.add_column("CPU time", justify="right")
    table.add_column("memory", justify="right")
    table.add_row("predicted", time_text(plan.cpu_ns), size_text(plan.bytes))
    if spent is not None:
        table.add_row("real", time_text(spent.cpu_ns), "")
        for what in sorted(spent.spent_ns, key=_place):
            table.add_row(f"  {SPENT_ON.get(what, what)}", time_text(spent.spent_ns[what]), "")
    return table


def _place(what: str) -> int:
    """In the order in which it is done, engines in the middle."""
    order = list(SPENT_ON)
    return order.index(what) if what in SPENT_ON else order.index("rows")


def time_text(ns: int) -> str:
    for unit, size in UNITS:
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 1000 * size else f"{ns / size:.0f} {unit}"
    return f"{ns} ns"


def size_text(size: int) -> str:
    if size < 1 << 20:
        return f"{-(-size // 1024)} KiB"
    return f"{size / (1 << 20):.0f} MiB"
