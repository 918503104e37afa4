"""The report: one HTML file with its pictures in it, no script and nothing from elsewhere.

What is wrong stands first, in words; then a chart for each machine. The same nights give the same
bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from harness.em.nightly.drift import judge

if TYPE_CHECKING:
    from harness.em.nightly.night import Machine, Night
    from harness.em.nightly.promotion import Verdict

NIGHTS_SHOWN: Final = 90
WIDTH: Final = 640
HEIGHT: Final = 160
EDGE: Final = 44
STYLE: Final = """
body{font:15px/1.45 sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.4em}h2{font-size:1.05em;margin-top:2em}
.bad{background:#fbe3e0;padding:.6em}.good{background:#e4f2e4;padding:.6em}
table{border-collapse:collapse}td,th{padding:.15em .9em .15em 0;text-align:right}
td:first-child,th:first-child{text-align:left}
.note{color:#666;font-size:.88em}
"""
COLOURS: Final = {"drift": "#c0281c", "suspect": "#d98a00", "steady": "#2b62a8",
                  "learning": "#8a8a8a"}  # fmt: skip


def drawn(nights: Sequence[Night], backends: Sequence[str]) -> str:
    """backends: as the configuration names them, in the order of each night's machines."""
    last = nights[-1]
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>Night {last.night}</title><style>{STYLE}</style>",
        f"<h1>Error mitigation, night {last.night}</h1>",
        _head(last),
    ]
    for at, backend in enumerate(backends):
        parts += [f"<h2>{escape(backend)}</h2>", *_machine(nights, at)]
    parts += [_models(nights)]
    parts.append(
        "<p class='note'>A point: by what share error rates seem above the calibration, readout "
        "undone. The band is the median of up to 30 nights and 2 deviations; two nights in a row "
        "beyond it, on one side, are drift. Grey: still learning. Orange: beyond once.</p></html>\n"
    )
    return "\n".join(parts)


def _head(last: Night) -> str:
    troubles = [f"{m.backend}: {m.trouble}" for m in last.machines if m.trouble]
    said = [*last.alerts, *troubles]
    if said:
        return "".join(f"<p class='bad'>{escape(each)}</p>" for each in said)
    learning = sum(m.judged is None or m.judged.state == "learning" for m in last.machines)
    if learning:
        return f"<p class='good'>No alert. {learning} of {len(last.machines)} still learning.</p>"
    return "<p class='good'>No alert. All machines are as their calibrations say.</p>"


def _machine(nights: Sequence[Night], at: int) -> list[str]:
    machine = nights[-1].machines[at]
    found = [_chart(nights, at)]
    if machine.lines:
        found.append(_table(machine))
    if machine.refused:
        found.append(f"<p class='note'>{len(machine.refused)} rows were refused.</p>")
    return found


def _table(machine: Machine) -> str:
    rows = "".join(
        f"<tr><td>{escape(each.method)}</td><td>{each.rows}</td><td>{each.rmse:.4f}</td>"
        f"<td>{each.gain:.2f}</td><td>{100 * each.harm:.1f} %</td></tr>"
        for each in machine.lines
    )
    head = "<tr><th>method</th><th>rows</th><th>RMSE</th><th>gain</th><th>harm</th></tr>"
    return f"<table>{head}{rows}</table>"


def _chart(nights: Sequence[Night], at: int) -> str:
    known = [(n.night, r.value) for n in nights if (r := n.machines[at].residual) is not None]
    if not known:
        return "<p class='note'>No residuals yet.</p>"
    # Judged from the first night on, whatever is shown.
    shown = list(zip(known, judge([value for _, value in known]), strict=True))[-NIGHTS_SHOWN:]
    values = [value for (_, value), _ in shown]
    values += [edge for _, j in shown if j.low is not None and j.high is not None
               for edge in (j.low, j.high)]  # fmt: skip
    low, high = min(values) - 0.05, max(values) + 0.05
    first, last = shown[0][0][0], max(shown[-1][0][0], shown[0][0][0] + 1)

    def x(night: float) -> str:
        return f"{EDGE + (WIDTH - EDGE - 8) * (night - first) / (last - first):.1f}"

    def y(value: float) -> str:
        return f"{HEIGHT - 20 - (HEIGHT - 28) * (value - low) / (high - low):.1f}"

    bands = [(night, j.low, j.high) for (night, _), j in shown
             if j.low is not None and j.high is not None]  # fmt: skip
    edge = [f"{x(n)},{y(h)}" for n, _, h in bands] + [f"{x(n)},{y(v)}" for n, v, _ in bands[::-1]]
    points = "".join(
        f"<circle cx='{x(night)}' cy='{y(value)}' r='3' fill='{COLOURS[j.state]}'/>"
        for (night, value), j in shown
    )
    marks = "".join(
        f"<text x='2' y='{y(value)}' font-size='11'>{100 * value:+.0f} %</text>"
        for value in (low + 0.05, high - 0.05)
    )
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='residuals by night'>"
        f"<polygon points='{' '.join(edge)}' fill='#dce6f3'/>{points}{marks}"
        f"<text x='{EDGE}' y='{HEIGHT - 4}' font-size='11'>night {first}</text>"
        f"<text x='{WIDTH - 8}' y='{HEIGHT - 4}' font-size='11' text-anchor='end'>"
        f"{shown[-1][0][0]}</text></svg>"
    )


def _models(nights: Sequence[Night]) -> str:
    last = nights[-1]
    serving = f"from night {last.model_night}" if last.model_night else "none"
    said = f"<h2>Models</h2><p>Serving: {serving}.</p>"
    tried = [(night.night, night.verdict) for night in nights if night.verdict]
    return said + "".join(_verdict(number, verdict) for number, verdict in tried[-3:])


def _verdict(number: int, verdict: Verdict) -> str:
    outcome = "promoted" if verdict.promoted else "not promoted"
    rows = "".join(
        f"<tr><td>unseen {name}</td><td>{each.candidate:.4f}</td><td>{each.serving:.4f}</td></tr>"
        for name, each in verdict.by.items()
    )
    table = f"<table><tr><th>error</th><th>candidate</th><th>serving</th></tr>{rows}</table>"
    return f"<p>Night {number}: {outcome}. {escape(verdict.because)}</p>{table if rows else ''}"
