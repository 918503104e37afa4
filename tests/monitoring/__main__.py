"""`python -m tests.monitoring --out FOLDER`: pictures of the dashboard and of `qmkctl top`.

A daemon works for two tenants for a while, under a real Prometheus. Each panel of the dashboard is
then drawn from what that Prometheus answers to the panel's own queries, by matplotlib and not by
Grafana; `top.svg` is what `qmkctl top` shows at the end.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from harness.pictures.style import SUFFIXES, colours, finish, save
from runtime.ctl.__main__ import main as qmkctl
from tests.daemon import Line, example
from tests.monitoring.watched import ask, chosen, panels, watched

COLUMNS = 3
LINES_MAX = 8  # of a panel, the highest
TENANTS = ("chemistry", "students")
PROGRAMS = ("bell", "teleportation", "t_injection", "repetition_code")
STEP_S = 2.0
WINDOW = "10s"  # of rates
QUBITS = 600  # few enough that jobs wait for them
WARM_S = 20.0  # at the beginning, not shown


def keep_busy(path: Path, tenant: str, noise: str, shots: int, stop: threading.Event) -> None:
    """Submit and wait, a few jobs at a time, until told to stop."""
    with Line(path, seconds=120.0) as line:
        rights = ["CAP_ALLOC", "CAP_MAGIC", "CAP_LINK", "CAP_TELEPORT"]
        session = line.call("q_negotiate_caps", requested=rights, tenant_id=tenant)["session_id"]
        seed = 0
        while not stop.is_set():
            jobs = []
            for name in PROGRAMS:
                seed += 1
                policy = {"shots": shots, "seed": seed, "noise": noise}
                who = {"session_id": session, "graph": example(name), "policy": policy}
                answer = line.ask("q_submit", **who)
                if "result" in answer:
                    jobs.append(answer["result"]["job_id"])
            for job in jobs:
                line.ask("q_status", session_id=session, job_id=job)
                line.ask("q_wait", session_id=session, job_id=job)
            line.ask("q_status", session_id=session, job_id="job_" + "0" * 32)
            stop.wait(0.2)


def draw(address: str, began_s: float, ended_s: float) -> Figure:
    """Every panel, in the order of the dashboard."""
    found = panels()
    rows = math.ceil(len(found) / COLUMNS)
    figure = Figure(figsize=(5.2 * COLUMNS, 2.6 * rows), layout="constrained")
    for place, (title, queries) in enumerate(found.items()):
        axes = figure.add_subplot(rows, COLUMNS, place + 1)
        lines: list[tuple[str, list[float], list[float]]] = []
        for expression, legend in queries:
            answer = ask(
                address, "query_range", query=chosen(expression, WINDOW), start=str(began_s),
                end=str(ended_s), step=str(STEP_S),
            )  # fmt: skip
            lines += [_line(series, legend, began_s) for series in answer["result"]]
        drawn = [line for line in lines if any(map(math.isfinite, line[2]))]
        drawn.sort(key=lambda line: -max(filter(math.isfinite, line[2])))
        named = drawn[:LINES_MAX]
        for (name, at, values), colour in zip(
            named, colours(range(len(named))).values(), strict=True
        ):
            axes.plot(at, values, label=name, color=colour, linewidth=1.3)
        if named:
            axes.legend(fontsize=6, loc="upper left", frameon=False)
        finish(axes, x="", y="", title=title)
        axes.set_ylim(0, 1.5 * axes.get_ylim()[1])  # room for the legend
        axes.tick_params(labelsize=7)
    return figure


def _line(series: Any, legend: str, began_s: float) -> tuple[str, list[float], list[float]]:
    for label, value in series["metric"].items():
        legend = legend.replace("{{" + label + "}}", value)
    at = [moment - began_s for moment, _ in series["values"]]
    return legend, at, [float(value) for _, value in series["values"]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.monitoring", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=90.0)
    asked = parser.parse_args()
    uid = os.getuid()
    more = "".join(f'[[tenant]]\nname = "{name}"\nuids = [{uid}]\n' for name in TENANTS)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        with watched(Path(folder), "1s", more, f"physical_qubits = {QUBITS}\n") as (
            daemon,
            address,
        ):
            stop, began_s = threading.Event(), time.time()
            tenants = [("chemistry", "decoded", 400), ("students", "ideal", 2_000)]
            threads = [
                threading.Thread(target=keep_busy, args=(daemon.socket, *each, stop))
                for each in tenants
            ]
            for thread in threads:
                thread.start()
            time.sleep(asked.seconds)
            svg = ["top", "--svg", str(asked.out / "top.svg"), "--socket", str(daemon.socket)]
            status = qmkctl(svg)
            figure = draw(address, began_s + WARM_S, time.time())
            for suffix in SUFFIXES:
                save(figure, asked.out / f"dashboard{suffix}")
            stop.set()
            for thread in threads:
                thread.join()
    return status


if __name__ == "__main__":
    sys.exit(main())
