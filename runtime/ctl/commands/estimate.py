"""`qmkctl estimate`: what a program would cost, by closed forms and by measured rates.

No daemon is asked. The numbers come from `python -m qmkd.qec`, a program of its own: user mode may
not import the kernel's rooms (docs/decisions/0011-estimates.md). Here the question is put together
and the answer is shown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from qvm.channels import Brokered, broker, pairs_shown
from qvm.cycles import demand
from qvm.isa import OPS
from qvm.program import Summary, VerifiedProgram
from qvm.verify import verify_bytes
from runtime.client.errors import line
from runtime.ctl import options as common
from runtime.ctl.circuits import add_circuit, reading, reading_of, wishes_of
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.machine_file import machine_of
from runtime.ctl.output import console, pairs, print_json
from runtime.ctl.picture import draw_frontier
from runtime.ctl.plans import pairs_table
from runtime.jit.frontends import SUFFIXES
from runtime.jit.logical_counts import logical_counts
from syscalls.findings import Finding
from syscalls.plan import PairsRow

HELP = "estimate qubits, time and failure of a program; or the distance for an error rate"
ANSWER_S_MAX = 120

COUNTED = {
    "numQubits": "qubits",
    "tCount": "T gates",
    "rotationCount": "rotations",
    "rotationDepth": "layers of them",
    "cczCount": "Toffolis",
    "ccixCount": "doubly controlled iX",
    "measurementCount": "measurements",
}
ROWS = (
    ("physical qubits", "physical_qubits"),
    ("  for the program", "qubits_for_program"),
    ("  for T states", "qubits_for_magic"),
    ("seconds", "seconds"),
    ("logical cycles", "cycles"),
    ("T states", "t_states"),
    ("  for a rotation", "t_states_per_rotation"),
    ("code distance", "distance"),
    ("error per qubit and cycle", "error_per_cycle"),
    ("  known from", "error_source"),
    ("T states from", "magic"),
    ("  copies", "magic_copies"),
    ("  error each", "magic_error"),
    ("failure of the program", "failure"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="*.qvm.json, *.qvm assembly, or a circuit"
    )
    parser.add_argument(
        "--counts",
        metavar="JSON",
        help='instead of FILE: {"numQubits": 100, "tCount": 1000, ...} as Azure counts them',
    )
    parser.add_argument(
        "--failure", metavar="P", type=float, default=1e-3, help="allowed to the whole program"
    )
    parser.add_argument("--qubit", metavar="NAME", help="Azure's name (default: qubit_gate_ns_e3)")
    parser.add_argument("--scheme", metavar="NAME", help="surface_code or floquet_code")
    parser.add_argument("--code", metavar="NAME", help="whose rates count (default: Surface)")
    parser.add_argument("--p", metavar="P", type=float, help="circuit noise (default: the qubit's)")
    parser.add_argument(
        "--round-ns", metavar="NS", type=float, help="one syndrome round (default: the qubit's)"
    )
    parser.add_argument(
        "--settings",
        metavar="FILE",
        type=Path,
        help="qec_scheme, error_budget and decoder, in place of the five above",
    )
    parser.add_argument(
        "--machine",
        metavar="FILE.toml",
        type=Path,
        help="also what the program's channels cost on the machine that it describes",
    )
    parser.add_argument(
        "--error-wanted",
        metavar="P",
        type=float,
        help="also the smallest distance that errs no more in d rounds; needs no program",
    )
    parser.add_argument(
        "--distance", metavar="D", type=int, help="with --error-wanted: the strongest noise"
    )
    parser.add_argument(
        "--distances",
        metavar="D,D,...",
        type=_distances,
        help="for the table of several distances (default: those around the two answers)",
    )
    parser.add_argument("--frontier", action="store_true", help="also qubits against time")
    parser.add_argument(
        "--plot", metavar="OUT.svg", type=Path, help="draw the frontier (.svg or .png)"
    )
    add_circuit(parser)
    common.add_json(parser)


def _distances(text: str) -> list[int]:
    """Whole numbers and commas, for argparse."""
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of distances, as 9,11,13") from None


def execute(options: argparse.Namespace) -> Exit:
    channels = channels_of(options)
    asked = question(options)
    found = ask(asked) | channels
    if "findings" in found:
        findings = msgspec.convert(found["findings"], list[Finding])
        raise Trouble(Exit.USAGE, "\n".join([f"{options.settings}:", *map(line, findings)]))
    if "refused" in found:
        raise Trouble(Exit.USAGE, f"There is no estimate: {found['refused']}.")
    if "counts" in asked:
        found["counts"] = asked["counts"]
    if options.json:
        print_json(found)
    else:
        show(found, frontier=options.frontier)
    if options.plot is not None:
        draw_frontier(found["frontier"], options.plot)
    return Exit.OK


def channels_of(options: argparse.Namespace) -> dict[str, Any]:
    """The Bell pairs of the program on the machine that is named, as `channels`; or nothing.

    Raises Trouble.
    """
    if options.machine is None:
        return {}
    if options.file is None:
        raise Trouble(Exit.USAGE, "--machine needs a program whose channels it could carry.")
    hardware = machine_of(options.machine)
    summary = _summary(options)
    if summary.handles:
        raise Trouble(Exit.USAGE, "The program names qubits of a session; ask with qmkctl explain.")
    brokered = broker(summary, hardware)
    if not isinstance(brokered, Brokered):
        raise Trouble(Exit.USAGE, f"There is no estimate: {brokered}.")
    wants = demand(summary, hardware, brokered.loads)
    return {
        "channels": {
            "modules": len(brokered.groups) or 1,
            "raw_pairs": brokered.raw_pairs,
            "cycles": wants.cycles,
            "slowed_by": wants.slowed,
            "pairs": msgspec.to_builtins(pairs_shown(brokered)),
        }
    }


def question(options: argparse.Namespace) -> dict[str, Any]:
    """The request that the options stand for. Raises Trouble."""
    asked: dict[str, Any] = {
        "failure": options.failure,
        "frontier": options.frontier or options.plot is not None,
    }
    for name in ("qubit", "scheme", "code", "p", "round_ns", "error_wanted", "distance"):
        if getattr(options, name) is not None:
            asked[name] = getattr(options, name)
    if options.file is not None and options.counts is not None:
        raise Trouble(Exit.USAGE, "A program or --counts, not both.")
    if options.file is not None:
        asked["counts"] = _counts(options)
    elif options.counts is not None:
        asked["counts"] = _json(options.counts.encode(), "--counts")
    elif options.plot is not None:
        raise Trouble(Exit.USAGE, "--plot draws a program's frontier: name a program or --counts.")
    elif options.error_wanted is None:
        raise Trouble(Exit.USAGE, "Name a program, or give --counts or --error-wanted.")
    if "counts" in asked:
        asked["distances"] = options.distances or []
    elif options.distances:
        raise Trouble(Exit.USAGE, "--distances are a program's: name one or --counts.")
    if options.settings is not None:
        replaced = [n for n in ("qubit", "scheme", "code", "p", "round_ns") if n in asked]
        if replaced:
            name = replaced[0].replace("_", "-")
            raise Trouble(Exit.USAGE, f"--settings says what --{name} says: give one of them.")
        asked["settings"] = _json(options.settings.read_bytes(), str(options.settings))
    return asked


def _json(raw: bytes, what: str) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Trouble(Exit.USAGE, f"{what} is not JSON: {error}.") from error


def _summary(options: argparse.Namespace) -> Summary:
    found = verify_bytes(common.file_json(options.file, options))
    if not isinstance(found, VerifiedProgram):
        raise Trouble(Exit.INVALID_PROGRAM, "\n".join([f"{options.file}:", *map(line, found)]))
    return found.summary


def _counts(options: argparse.Namespace) -> dict[str, int]:
    """Of the program in FILE: a circuit's behind the passes that were asked for. Raises Trouble."""
    path = Path(options.file)
    if options.format is None and path.suffix.lower() not in SUFFIXES:
        return counts_of(_summary(options))
    from runtime.jit.compiling import through
    from runtime.jit.frontends import load

    with reading(options.file):
        circuit = load(path, options.format, **reading_of(options))
        made = through(circuit, wishes_of(options)).circuit
    found: dict[str, int] = msgspec.to_builtins(logical_counts(made))
    return found


def counts_of(summary: Summary) -> dict[str, int]:
    """A program in Azure's counts, as if every guard held.

    Every rotation counts as one by an arbitrary angle, in a layer of its own; a measurement at an
    angle is such a rotation and a measurement.
    """
    ops = summary.ops
    turned = sum(number for name, number in ops.items() if OPS[name].family == "rotation/1")
    rotations = turned + ops.get("MEASURE_ANGLE", 0)
    measured = sum(ops.get(f"MEASURE_{kind}", 0) for kind in ("X", "Y", "Z", "ANGLE"))
    return {
        "numQubits": max(1, summary.peak_logical),
        "tCount": summary.t_states,
        "rotationCount": rotations,
        "rotationDepth": rotations,
        "measurementCount": measured + 2 * ops.get("MEASURE_BELL", 0),
    }


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """Put the question to the numerics. Raises Trouble where they cannot be run."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "qmkd.qec", "estimate"],
            input=msgspec.json.encode(request),
            capture_output=True,
            timeout=ANSWER_S_MAX,
        )
    except subprocess.TimeoutExpired as error:
        raise Trouble(Exit.TIMEOUT, f"No estimate within {ANSWER_S_MAX} seconds.") from error
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        reason = told[-1] if told else f"exit status {done.returncode}"
        raise Trouble(Exit.UNREACHABLE, f"The numerics (python -m qmkd.qec) failed: {reason}")
    return msgspec.json.decode(done.stdout, type=dict[str, Any])


def show(found: dict[str, Any], *, frontier: bool) -> None:
    """Tables for people."""
    screen = console()
    machine = found["machine"]
    about = f"{machine['code']}, p = {machine['p']:g}, rounds of {machine['round_ns']:g} ns"
    if "counts" in found:
        screen.print(
            ", ".join(
                f"{number:,} {COUNTED.get(name, name)}"
                for name, number in found["counts"].items()
                if number
            )
        )
    if "azure" in found:
        screen.print(_side_by_side(found, about))
        if found["optimism"] is not None:
            screen.print(
                f"At the distance of the closed form, a logical qubit errs "
                f"{found['optimism']:.1f} times as often as that form says."
            )
    if found.get("distances"):
        screen.print(_by_distance(found["distances"]))
    if "channels" in found:
        _show_channels(found["channels"])
    if "inverse" in found:
        screen.print(pairs(about, [(k.replace("_", " "), v) for k, v in found["inverse"].items()]))
    if frontier and "frontier" in found:
        for name, points in found["frontier"].items():
            screen.print(_points(name, points))
    for path, text in found["notes"]:
        screen.print(f"note: {path}: {text}")
    for warning in msgspec.convert(found["warnings"], list[Finding]):
        screen.print(line(warning))


def _show_channels(told: dict[str, Any]) -> None:
    rows = msgspec.convert(told["pairs"], list[PairsRow])
    console().print(pairs_table(rows, told["raw_pairs"]))
    slowed = f", slowed by {told['slowed_by']}" if told["slowed_by"] else ""
    console().print(f"{told['modules']} modules, {told['cycles']:,} cycles a shot{slowed}")


def _side_by_side(found: dict[str, Any], about: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("closed form (Azure)", overflow="fold")
    table.add_column(f"rates ({about})", overflow="fold")
    sides = [found["azure"], found["measured"]]
    if any("refused" in side for side in sides):
        table.add_row("refused", *(side.get("refused", "") for side in sides))
    for title, key in ROWS:
        if any(side.get(key) is not None for side in sides):
            table.add_row(title, *(_written(side, key) for side in sides))
    return table


def _by_distance(found: dict[str, list[dict[str, Any]]]) -> Table:
    """Both ways of estimating at several distances."""
    table = Table(title="at several distances", title_justify="left", box=None, pad_edge=False)
    table.add_column("d", justify="right")
    for side in ("closed form", "rates"):
        for title in ("qubits", "seconds", "failure"):
            table.add_column(f"{side}: {title}", justify="right")
    rows: dict[int, list[str]] = {}
    for place, name in enumerate(("azure", "measured")):
        for each in found.get(name, []):
            cells = rows.setdefault(each["distance"], [""] * 6)
            cells[3 * place : 3 * place + 3] = [
                f"{each['physical_qubits']:,}",
                f"{each['seconds']:.4g}",
                f"{each['failure']:.3g}",
            ]
    for distance, cells in sorted(rows.items()):
        table.add_row(str(distance), *cells)
    return table


def _written(side: dict[str, Any], key: str) -> str:
    value = side.get(key)
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        text = f"{value:.4g}"
        if key == "error_per_cycle" and "error_low" in side:
            text += f" ({side['error_low']:.2g} to {side['error_high']:.2g}"
            text += f", {side['error_how']})"
        return text
    return str(value)


def _points(name: str, points: list[dict[str, Any]]) -> Table:
    table = Table(title=name, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("physical qubits", "seconds", "distance", "copies"):
        table.add_column(title, justify="right")
    for point in points:
        table.add_row(
            f"{point['physical_qubits']:,}",
            f"{point['seconds']:.4g}",
            str(point["distance"]),
            str(point["magic_copies"]),
        )
    return table
