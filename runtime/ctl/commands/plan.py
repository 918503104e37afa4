"""`qmkctl plan`: in which code, and compiled how, a program keeps an error budget at least cost.

`qmkctl run --error-budget` runs by it, in batches, with `run_planned` here. What is weighed is
`runtime/jit/planning`; here it is asked and shown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from runtime.client import Client
from runtime.client.programs import from_text
from runtime.ctl import options as common
from runtime.ctl.circuits import reading, reading_of, registers_shown
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.machine_file import machine_of
from runtime.ctl.output import console, pairs, print_json
from runtime.ctl.pareto import draw_choice, front
from runtime.jit.emit import IDEAL
from runtime.jit.frontends import load
from runtime.jit.planning.batches import Batch, Ran, run
from runtime.jit.planning.cache import Cache
from runtime.jit.planning.choose import Aims, Choice, Considered, NothingFits, Planner
from runtime.jit.planning.machine import NotNoisy
from runtime.jit.planning.predict import HOWS
from runtime.jit.planning.rates import NoRates
from runtime.jit.planning.variants import NotPlannable

HELP = "choose code, distance and way of compiling for a program under an error budget"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_program(parser)
    parser.add_argument(
        "--plot", metavar="OUT.svg", type=Path, help="draw error against machine time (.svg, .png)"
    )
    parser.add_argument("--all", action="store_true", help="show every variant, not the best alone")
    add_wishes(parser, needed=True)
    common.add_json(parser)
    common.add_connection(parser)


def add_wishes(parser: argparse._ActionsContainer, *, needed: bool = False) -> None:
    """What a plan has to keep to."""
    parser.add_argument(
        "--error-budget",
        metavar="E",
        type=_chance,
        required=needed,
        help="how far probabilities of outcomes may be off, all together (total variation)",
    )
    parser.add_argument(
        "--deadline", metavar="SECONDS", type=common.seconds, help="of machine time, for all shots"
    )
    parser.add_argument(
        "--qubits", metavar="N", type=common.integer(1, 2**40), help="physical qubits, at most"
    )
    parser.add_argument(
        "--unfenced",
        metavar="CYCLES",
        type=common.integer(1, 2**53),
        help="machine cycles between two fences, at most",
    )
    parser.add_argument(
        "--machine",
        metavar="FILE.toml",
        type=Path,
        help="the machine's description (default: what a probe of the daemon tells)",
    )
    parser.add_argument(
        "--placed",
        action="store_true",
        help="lay a circuit over the modules of --machine, with Bell pairs between them",
    )
    parser.add_argument(
        "--no-plan-cache", action="store_true", help="neither look for a plan nor keep one"
    )


def _chance(text: str) -> float:
    """A number between 0 and 1, for argparse."""
    value = common.number(text, 0, 1)
    if value == 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and below 1")
    return value


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client, planning():
        aims = aims_of(options)
        planner = planner_of(options, client)
        with reading(options.file):
            choice = planner.plan(source_of(options), aims)
    if options.json:
        print_json(_told(choice, planner))
    else:
        _show(choice, planner, every=options.all)
    if options.plot is not None:
        draw_choice(choice, options.plot)
    return Exit.REFUSED if isinstance(choice, NothingFits) else Exit.OK


@contextmanager
def planning() -> Iterator[None]:
    """Turn what planning fails with into a sentence and its status."""
    try:
        yield
    except (NotPlannable, NotNoisy) as error:
        raise Trouble(Exit.USAGE, f"There is no plan: {error}") from error
    except NoRates as error:
        raise Trouble(Exit.UNREACHABLE, str(error)) from error


def aims_of(options: argparse.Namespace) -> Aims:
    """What `add_wishes` and `add_program` were told. Raises Trouble."""
    chosen = [
        name
        for name, given in (
            ("--epsilon", options.epsilon is not None),
            ("--optimise", options.optimise),
            ("--ancillas", options.ancillas),
            ("--fence-every", options.fence_every is not None),
            ("--exact", options.exact),
            ("--raise-distance", options.raise_distance),
            ("--noise ideal", options.noise == "ideal"),
        )
        if given
    ]
    if chosen:
        raise Trouble(Exit.USAGE, f"{chosen[0]} cannot go with --error-budget: the plan chooses.")
    if options.placed and options.machine is None:
        raise Trouble(Exit.USAGE, "--placed needs --machine, whose modules nobody else tells.")
    return Aims(
        error_budget=options.error_budget,
        shots=options.shots or common.SHOTS,
        deadline_s=options.deadline,
        physical_qubits=options.qubits,
        unfenced=options.unfenced,
        placed=options.placed,
        codes=() if options.profile == IDEAL else (options.profile,),
    )


def planner_of(options: argparse.Namespace, client: Client) -> Planner:
    cache = None if options.no_plan_cache else Cache()
    hardware = None if options.machine is None else machine_of(options.machine)
    return Planner(client, hardware=hardware, cache=cache)


def source_of(options: argparse.Namespace) -> Any:
    """The program: a file, which a plan in the cache spares us reading as a circuit, else text."""
    told = reading_of(options)
    if options.file == "-":
        raw = sys.stdin.buffer.read()
        if options.format is not None:
            return load(raw, options.format, **told)
        return from_text(raw.decode("utf-8-sig"), file="standard input", folder=Path())
    if options.format is not None or told:
        return load(Path(options.file), options.format, **told)
    return Path(options.file)


def run_planned(options: argparse.Namespace) -> Exit:
    """What `qmkctl run --error-budget` does."""
    policy: dict[str, Any] = {"priority": options.priority}
    if options.noise is not None:
        policy["noise"] = options.noise
    if options.timeout is not None:
        policy["timeout_ms"] = max(1, round(options.timeout * 1000))
    with common.client_of(options) as client, planning():
        aims = aims_of(options)
        planner = planner_of(options, client)
        with reading(options.file):
            source = source_of(options)
            seed = options.seed or 0
            ran = run(planner, source, aims, seed=seed, tell=_warn, policy=policy)
    if isinstance(ran, NothingFits):
        if options.json:
            print_json(_told(ran, planner))
        else:
            _show(ran, planner, every=False)
        return Exit.REFUSED
    if options.json:
        print_json(ran)
    else:
        _show_run(ran)
    if ran.unfinished is not None:
        sys.stderr.write(f"qmkctl: {ran.shots:,} of {aims.shots:,} shots: {ran.unfinished}\n")
        return Exit.REFUSED
    return Exit.OK


def _warn(batch: Batch) -> None:
    if batch.refuted:
        sys.stderr.write(f"qmkctl: batch {batch.number}: planned anew: {batch.refuted}\n")


def _told(choice: Choice, planner: Planner) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(choice)
    told.pop("program", None)
    told["machine"] = {
        "name": planner.machine.hardware.name,
        "stated": planner.machine.stated,
        "physical_noise": planner.machine.physical_noise,
        "calibration": planner.machine.calibration,
        "digest": planner.machine.digest,
    }
    return told


def _show(choice: Choice, planner: Planner, *, every: bool) -> None:
    screen = console()
    machine = planner.machine
    taken = None if isinstance(choice, NothingFits) else choice.chosen
    shown = [
        each
        for each in choice.considered
        if every or each == taken or any(each is best for best in front(choice.considered))
    ]
    title = f"{machine.hardware.name} {machine.stated}, {machine.physical_noise} noise, "
    screen.print(_table(f"{title}{choice.aims.shots:,} shots", shown))
    if len(shown) < len(choice.considered):
        screen.print(
            f"{len(choice.considered)} variants weighed; above those that no other beats in both "
            "error and time (--all shows all)"
        )
    if taken is None:
        screen.print(str(choice))


def _table(title: str, rows: list[Considered]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("code", no_wrap=True)
    table.add_column("compiled", overflow="fold")
    for name in ("error", "up to", "machine time", "cycles", "T states", "qubits"):
        table.add_column(name, justify="right")
    table.add_column("not taken because", overflow="fold")
    for each in rows:
        about, cost = each.prediction, each.cost
        table.add_row(
            "" if each.why_not else "*",
            each.profile,
            each.way,
            f"{HOWS[about.how]}{about.error:.2g}",
            f"{about.high:.2g}",
            f"{each.machine_s:.3g} s",
            f"{cost.cycles:,}" + (f" ({cost.slowed})" if cost.slowed else ""),
            f"{cost.t_states:,}",
            f"{cost.physical:,}",
            each.why_not,
        )
    return table


def _show_run(ran: Ran) -> None:
    screen = console()
    rows: list[tuple[str, object]] = registers_shown(
        dict(sorted(ran.counts.items(), key=lambda item: -item[1]))
    )
    screen.print(pairs(f"{ran.shots:,} shots, seed {ran.seed}", rows))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("batch", "shots", "code", "compiled", "error", "cycles a shot", ""):
        table.add_column(name, overflow="fold")
    for batch in ran.batches:
        plan = ran.plans[batch.plan]
        table.add_row(
            str(batch.number),
            f"{batch.observed.shots:,}",
            plan.profile,
            plan.way,
            f"{HOWS[plan.prediction.how]}{plan.prediction.error:.2g}",
            f"{batch.observed.cycles:,.0f}",
            batch.refuted if batch.counted else f"not counted: {batch.refuted}",
        )
    screen.print(table)
    screen.print(f"{ran.machine_s:.3g} s of machine time")
