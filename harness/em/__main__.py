"""`python -m harness.em run|compare|report|nightly|list`: what `qmkctl em` starts, with options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from harness.em import summary
from harness.em.backends import registry as backends
from harness.em.backends.backend import Refused
from harness.em.circuits.exact import TooWide
from harness.em.circuits.families import FAMILIES, NoSuchTask
from harness.em.methods import registry as methods
from harness.em.methods.plan import Unplannable
from harness.em.nightly import night
from harness.em.records.folder import Damaged, Folder
from harness.em.running import Suite, Tell, reckoned_again, run
from runtime.ctl.commands import em
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, pairs, print_error, print_json, stderr_console

CHANGES_SHOWN = 20
EXTRA = "pip install 'qmkd[em]'"
WRONG: dict[type[Exception], Exit] = {
    NoSuchTask: Exit.USAGE,
    TooWide: Exit.USAGE,
    Unplannable: Exit.USAGE,
    Refused: Exit.REFUSED,
    Damaged: Exit.DAMAGED,
    night.BadConfiguration: Exit.USAGE,
}

EXPECTED: tuple[type[Exception], ...] = (*WRONG, OSError)


def main(arguments: Sequence[str]) -> int:
    """Do what was asked. Returns the exit status."""
    options = _options(arguments)
    try:
        return _ACTIONS[options.action](options)
    except ModuleNotFoundError as error:
        if error.name not in ("pyarrow", "sklearn"):
            raise
        trouble = Trouble(Exit.USAGE, f"Records take {error.name}, which is not here: {EXTRA}.")
        print_error(trouble, as_json=options.json)
        return Exit.USAGE
    except EXPECTED as error:
        print_error(error, as_json=options.json)
        return WRONG.get(type(error), Exit.USAGE)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    if arguments[:1] == ["--asked"]:
        given = msgspec.json.decode(arguments[1])
        names = ("out", "folder", "other", "state", "config")
        paths = {name: Path(given[name]) for name in names if given.get(name)}
        return argparse.Namespace(**given | paths)
    parser = argparse.ArgumentParser(prog="python -m harness.em", description=em.HELP)
    em.add_arguments(parser)
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> Exit:
    suite = Suite(
        families=tuple(options.family or FAMILIES),
        seeds=tuple(range(options.first_seed, options.first_seed + options.circuits)),
        qubits=options.qubits,
        depth=options.depth,
        methods=tuple(options.method or ("none", "zne")),
        backends=tuple(options.backend or ("physical",)),
        shots=options.shots,
        repeats=options.repeats,
        seed=options.seed,
    )
    with _progress() as tell:
        rows, refused = run(suite, Folder(options.out), tell)
    lines = summary.lines(rows)
    manifest = Folder(options.out).manifest()
    if options.json:
        print_json(
            {"rows": len(rows), "sha256": manifest["rows_sha256"], "refused": refused,
             "methods": lines}
        )  # fmt: skip
        return Exit.OK
    screen = console()
    if lines:
        screen.print(_lines(lines))
    for sentence in refused:
        screen.print(f"refused: {sentence}")
    screen.print(f"{len(rows)} rows in {options.out}/rows.parquet, {manifest['rows_sha256']}")
    return Exit.OK


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar on standard error, where somebody looks."""
    screen = stderr_console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("rows", total=None)

        def tell(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        yield tell


def _compare(options: argparse.Namespace) -> Exit:
    rows = Folder(options.folder).rows()
    if options.other is None:
        lines = summary.lines(rows, by_family=options.by_family)
        print_json({"methods": lines}) if options.json else console().print(_lines(lines))
        return Exit.OK
    others = Folder(options.other).rows()
    found = summary.changes(rows, others)
    both = {"first": summary.lines(rows), "second": summary.lines(others)}
    if options.json:
        print_json({**both, "changes": found})
        return Exit.OK
    screen = console()
    for name, lines in both.items():
        screen.print(_lines(lines, title=f"{name}: {getattr(options, _FOLDERS[name])}"))
    screen.print(_changes(found))
    return Exit.OK


_FOLDERS = {"first": "folder", "second": "other"}


def _report(options: argparse.Namespace) -> Exit:
    folder = Folder(options.folder)
    manifest, rows = folder.manifest(), folder.rows()
    wrong: Sequence[str] | None = None
    if options.verify:
        wrong = reckoned_again(msgspec.convert(manifest["suite"], Suite), folder)
    lines = summary.lines(rows, by_family=True)
    if options.json:
        print_json({**manifest, "methods": lines, "wrong": wrong})
    else:
        _show_report(manifest, lines, wrong)
    return Exit.DAMAGED if wrong else Exit.OK


def _show_report(
    manifest: dict[str, Any], lines: Sequence[summary.Line], wrong: Sequence[str] | None
) -> None:
    screen = console()
    suite = manifest["suite"]
    facts = [
        ("rows", manifest["rows"]),
        ("SHA-256", manifest["rows_sha256"]),
        ("code", manifest["code"]),
        ("versions", manifest["versions"]),
        ("backends", suite["backends"]),
        ("methods", suite["methods"]),
        ("shots, each row", suite["shots"]),
        ("seed", suite["seed"]),
        ("refused", manifest["refused"] or None),
    ]
    screen.print(pairs("", facts))
    screen.print(_lines(lines))
    if wrong is not None:
        for sentence in wrong:
            screen.print(sentence)
        screen.print("All numbers follow from their histograms." if not wrong else "Damaged.")


def _nightly(options: argparse.Namespace) -> Exit:
    config = night.configuration(options.config)
    found = []
    with _progress() as tell:
        for _ in range(options.nights):
            found.append(night.run(config, options.state, tell, options.processes))
    if options.json:
        print_json({"nights": found, "report": str(options.state / "report.html")})
        return Exit.OK
    screen = console()
    for each in found:
        states = ", ".join(m.judged.state if m.judged else "no residual" for m in each.machines)
        screen.print(f"night {each.night}: {states}")
        for sentence in [*each.alerts, *(m.trouble for m in each.machines if m.trouble)]:
            screen.print(f"  {sentence}")
        if each.verdict:
            screen.print(f"  {'promoted' if each.verdict.promoted else 'not promoted'}: "
                         f"{each.verdict.because}")  # fmt: skip
    screen.print(f"{options.state}/report.html")
    return Exit.OK


def _list(options: argparse.Namespace) -> Exit:
    families = {
        name: f"{row.about}; {row.qubits_min} to {row.qubits_max} qubits, depth {row.depth}"
        for name, row in FAMILIES.items()
    }
    found = {"families": families, "methods": methods.ABOUT, "backends": backends.ABOUT}
    if options.json:
        print_json(found)
        return Exit.OK
    for title, rows in found.items():
        console().print(pairs(title, list(rows.items())))
    return Exit.OK


def _lines(lines: Sequence[summary.Line], title: str = "") -> Table:
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False,
                  padding=(0, 2, 0, 0))  # fmt: skip
    by_family = any(line.family for line in lines)
    for name in ("method", *(("family",) if by_family else ())):
        table.add_column(name)
    for name in ("rows", "RMSE", "without", "gain", "95 %", "p95", "harm", "cut", "covered"):
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(
            line.method,
            *((line.family,) if by_family else ()),
            str(line.rows),
            f"{line.rmse:.4f}",
            f"{line.rmse_none:.4f}",
            f"{line.gain:.2f}",
            f"{line.gain_low:.2f} to {line.gain_high:.2f}",
            f"{line.error_p95:.4f}",
            f"{100 * line.harm:.1f} %",
            str(line.clipped),
            f"{100 * line.covered:.0f} %",
        )
    return table


def _changes(found: Sequence[summary.Change]) -> Table:
    table = Table(
        title=f"{len(found)} rows differ; got worse first", title_justify="left", box=None
    )
    for name in ("task", "backend", "method", "error", "now", "standard errors"):
        table.add_column(name)
    for each in found[:CHANGES_SHOWN]:
        table.add_row(
            each.task,
            each.backend,
            each.method,
            f"{each.first:.4f}",
            f"{each.second:.4f}",
            f"{each.sigmas:+.1f}",
        )
    return table


_ACTIONS = {"run": _run, "compare": _compare, "report": _report, "nightly": _nightly, "list": _list}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
