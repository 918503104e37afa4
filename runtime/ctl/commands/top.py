"""`qmkctl top`: the machine and its tenants, looked at again and again. Needs CAP_ADMIN."""

from __future__ import annotations

import argparse
import io
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from runtime.client import Client
from runtime.ctl import options as common
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, print_json
from syscalls.job import JobState

HELP = "show the machine and its tenants, live (needs CAP_ADMIN)"
INTERVAL_S = 2.0
BAR_CHARS = 30
SVG_COLUMNS = 100
FULL, EMPTY = "█", "░"
COLUMNS = (
    ("sessions", "sessions"),
    ("live", "jobs"),
    ("waiting", "waiting"),
    ("logical", "logical"),
    ("physical", "physical"),
    ("parked", "waits"),
    ("result_bytes", "results"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--interval", metavar="SECONDS", type=common.seconds, default=INTERVAL_S, help="default: 2"
    )
    parser.add_argument("--once", action="store_true", help="look once, and end")
    parser.add_argument("--svg", metavar="FILE", type=Path, help="look once, and draw it there")
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        if options.json:
            print_json(look(client))
        elif options.svg is not None:
            draw(options.svg, view(_looked_twice(client, options.interval)))
        elif options.once or not console().is_terminal:
            console().print(view(_looked_twice(client, 0.0)))
        else:
            _live(client, options.interval)
    return Exit.OK


def look(client: Client) -> dict[str, Any]:
    """The machine's figures now. at_s: when, on a clock of this process alone."""
    machine = client.telemetry(machine=True).machine
    assert machine is not None, "it was asked for"
    return {**machine, "at_s": time.monotonic()}


def _looked_twice(client: Client, apart_s: float) -> list[dict[str, Any]]:
    first = look(client)
    if not apart_s:
        return [first]
    time.sleep(apart_s)
    return [first, look(client)]


def _live(client: Client, interval_s: float) -> None:
    looks = [look(client)]
    with Live(view(looks), console=console(), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval_s)
            looks = [looks[-1], look(client)]
            live.update(view(looks), refresh=True)


def draw(path: Path, shown: RenderableType) -> None:
    """The view as an SVG, as a terminal would show it. Raises Trouble."""
    if path.suffix != ".svg":
        raise Trouble(Exit.USAGE, f"{path}: the picture is an SVG, so call it *.svg.")
    drawing = Console(record=True, width=SVG_COLUMNS, file=io.StringIO(), force_terminal=True)
    drawing.print(shown)
    # Without the fonts that whoever looks at it would fetch from somewhere.
    plain = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    drawing.save_svg(str(path), title="qmkctl top", code_format=plain, unique_id="top")


def view(looks: list[dict[str, Any]]) -> RenderableType:
    """What one screen shows. looks: one, or the last two, for what happens in a second."""
    now = looks[-1]
    parts: list[RenderableType] = [_machine(now, _rates(looks)), Text(), _tenants(now["tenants"])]
    for mode in now["degraded"]:
        said = f"{mode['mode']} since cycle {mode['since_cycle']}: {mode['cause']}"
        parts.append(Text(said, style="yellow"))
    return Group(*parts)


def _rates(looks: list[dict[str, Any]]) -> dict[str, float]:
    """Per second, between two looks; a daemon that began anew in between shows nothing."""
    if len(looks) < 2:
        return {}
    before, now = looks
    apart_s = max(1e-3, now["at_s"] - before["at_s"])
    found = {name: (now[name] - before[name]) / apart_s for name in ("epoch", "cycles")}
    return {name: rate for name, rate in found.items() if rate >= 0}


def _machine(now: dict[str, Any], rates: Mapping[str, float]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    epochs, cycles = (f"{rates[name]:,.0f} a second" if name in rates else "" for name in
                      ("epoch", "cycles"))  # fmt: skip
    workers = f"{now['workers_ready']} of {now['workers_total']} ready"
    states = {JobState(name): count for name, count in now["jobs"].items()}
    jobs = ", ".join(f"{count} {state.value.lower()}" for state, count in states.items() if count)
    held = f"{now['physical_qubits_used']:,} of {now['physical_qubits_total']:,}"
    table.add_row("machine", f"{now['machine']}, {now['cycle_ns']:,} ns a cycle")
    table.add_row("epoch", f"{now['epoch']:,} {epochs}".strip())
    table.add_row("cycles", f"{now['cycles']:,} {cycles}".strip())
    table.add_row("qubits", _bar(now["utilization"], f"{held} held"))
    table.add_row("used so far", _bar(now["cycles_utilization"], "of the qubit cycles offered"))
    if len(now["modules"]) > 1:
        for module in now["modules"]:
            busy = 1 - module["free"] / module["qubits"] if module["qubits"] else 0.0
            table.add_row(f"  {module['name']}", _bar(busy, f"{module['free']:,} free"))
    table.add_row("workers", f"{workers}, {now['segments_running']} pieces of work with them")
    table.add_row("jobs", jobs or "none")
    table.add_row("waiting", f"{now['jobs_waiting']} jobs, {now['requests_waiting']} calls")
    return table


def _bar(share: float, text: str) -> Text:
    full = round(min(1.0, max(0.0, share)) * BAR_CHARS)
    style = "green" if share < 0.8 else "yellow" if share < 0.95 else "red"
    bar = Text(FULL * full, style=style)
    bar.append(EMPTY * (BAR_CHARS - full), style="dim")
    return bar.append(f" {share:6.1%} {text}", style="default")


def _tenants(tenants: list[dict[str, Any]]) -> Table:
    """Who has most live jobs, first."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("tenant", overflow="ellipsis", no_wrap=True, max_width=32)
    for _, title in COLUMNS:
        table.add_column(title, justify="right")
    for each in sorted(tenants, key=lambda one: (-one["live"], -one["sessions"], one["name"])):
        table.add_row(each["name"], *(f"{each[name]:,}" for name, _ in COLUMNS))
    return table
