"""`qmkctl compile`: a circuit of another format as a QVM program, or as another format again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from qvm.program import VerifiedProgram
from qvm.verify import verify
from runtime.client.errors import line
from runtime.ctl import options as common
from runtime.ctl.circuits import add_circuit, reading, reading_of, wishes_of
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.machine_file import machine_of
from runtime.ctl.output import print_json
from runtime.jit.backends import qasm3
from runtime.jit.circuit import Circuit
from runtime.jit.compiling import through
from runtime.jit.emit import IDEAL, emit
from runtime.jit.frontends import load
from runtime.jit.passes import Report
from runtime.jit.placing import planning as placing
from runtime.jit.placing.planning import Placed

HELP = (
    "turn a circuit (OpenQASM, QIR, Stim, QPY, JSON of Cirq or pytket) into a QVM program, or into "
    "another format"
)

TEXTS = (".qasm", ".qasm3", ".stim")
"""Suffixes of OUT that ask for text of another format."""
PROGRAM = ".json"
"""Suffix of OUT that asks for a program."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="IN", type=Path, help="the circuit")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=Path,
        help="*.qvm.json, or *.qasm, *.qasm3, *.stim (default: a program on standard output)",
    )
    add_circuit(parser)
    parser.add_argument(
        "--machine",
        metavar="FILE.toml",
        type=Path,
        help="place the circuit over the modules of the machine that it describes",
    )
    parser.add_argument(
        "--pair-error",
        metavar="E",
        type=lambda text: common.number(text, 0, 1),
        help="with --machine: the chance that any Bell pair of a shot errs is to be no more",
    )
    parser.add_argument(
        "--no-moves",
        action="store_true",
        help="with --machine: every qubit stays in the module where it begins",
    )
    common.add_json(parser)


def execute(options: argparse.Namespace) -> Exit:
    if options.json and options.output is None:
        raise Trouble(Exit.USAGE, "--json writes about the program, so the program needs -o OUT.")
    suffix = _suffix(options)
    with reading(str(options.file)):
        source = load(options.file, options.format, **reading_of(options))
        made = through(source, wishes_of(options))
        circuit = made.circuit
        if suffix in TEXTS:
            if suffix == ".stim":
                from runtime.jit.backends import stim

                text = stim.dump(circuit)
            else:
                text = qasm3.dump(circuit)
            options.output.write_text(text, encoding="utf-8")
            stim_out = suffix == ".stim"
            helpers = [] if stim_out else qasm3.helpers(circuit)
            left_out = {} if stim_out else qasm3.left_out(circuit)
            if options.json:
                print_json({
                    "output": str(options.output),
                    "operations": len(circuit.operations),
                    "helpers": helpers,
                    "left_out": left_out,
                    "passes": made.report,
                    "dropped": circuit.metadata.get("dropped", {}),
                })  # fmt: skip
                return Exit.OK
            if helpers:
                print(f"{options.output}: bits of the compiler's own are in {', '.join(helpers)}")
            for name, number in left_out.items():
                print(f"left out, since OpenQASM 3 has no words for it: {name}, {number} x")
            _print_dropped(circuit)
            return Exit.OK
        if options.machine is None:
            placed, graph = None, emit(circuit, profile=options.profile)
        else:
            placed = _placed(circuit, options)
            graph = placed.graph
    found = verify(graph)
    if not isinstance(found, VerifiedProgram):
        # The profile is the caller's; all else is ours to get right.
        raise Trouble(Exit.INVALID_PROGRAM, "\n".join([f"{options.file}:", *map(line, found)]))
    raw = msgspec.json.encode(graph) + b"\n"
    if options.output is None:
        sys.stdout.buffer.write(raw)
        return Exit.OK
    options.output.write_bytes(raw)
    summary = found.summary
    if options.json:
        told = {"output": str(options.output), "summary": summary, "passes": made.report}
        told["placing"] = None if placed is None else placed.report
        print_json(told | {"dropped": circuit.metadata.get("dropped", {})})
    else:
        print(
            f"{options.output}: {summary.nodes} nodes, {summary.peak_logical} qubits, "
            f"{len(summary.events)} measurements, {summary.t_states} T states"
        )
        for sentence in _sentences(made.report):
            print(sentence)
        for sentence in () if placed is None else _placing(placed.report):
            print(sentence)
        _print_dropped(circuit)
    return Exit.OK


def _placed(circuit: Circuit, options: argparse.Namespace) -> Placed:
    """The circuit on the machine of the options. Raises Trouble, ValueError."""
    wishes = placing.Wishes(pair_error=options.pair_error, moves=not options.no_moves)
    hardware = machine_of(options.machine)
    return placing.place(circuit, hardware, profile=options.profile, wishes=wishes)


def _placing(report: placing.Report) -> Iterator[str]:
    """Where qubits lie and what that costs, for people."""
    where = ", ".join(f"{number} in {name}" for name, number in report.modules.items())
    cost, naive = report.cost, report.in_order
    if not cost.pairs:
        yield f"placed: {where}; no Bell pairs"
        return
    kinds = f"{cost.copies} for copies, {cost.direct} for single gates, {cost.moved} for moves"
    yield (
        f"placed: {where}; {cost.cut} gates between modules take {cost.pairs} Bell pairs ({kinds})"
    )
    slowed = f", slowed by {cost.slowed}" if cost.slowed else ""
    yield (
        f"  {cost.raw_pairs:.6g} raw pairs, {cost.cycles:,} cycles a shot{slowed}; any pair errs "
        f"with {cost.pair_error:.2g}; waits for pairs made one by one: {cost.waited:,.0f} cycles"
    )
    if naive is not None:
        yield f"  in the order of qubits: {naive.pairs} pairs, {naive.cycles:,} cycles"


def _print_dropped(circuit: Circuit) -> None:
    for name, times in circuit.metadata.get("dropped", {}).items():
        print(f"left out as asked: {name}, {times} x")


def _suffix(options: argparse.Namespace) -> str:
    """How OUT ends, in small letters; "" for standard output. Raises Trouble."""
    out = options.output
    if options.machine is None and (options.pair_error is not None or options.no_moves):
        raise Trouble(Exit.USAGE, "--pair-error and --no-moves say how --machine places a circuit.")
    if out is None:
        return ""
    suffix: str = out.suffix.lower()
    if suffix not in (*TEXTS, PROGRAM):
        ends = ", ".join((PROGRAM, *TEXTS))
        raise Trouble(Exit.USAGE, f"-o writes what ends in one of {ends}, not {out}.")
    if suffix in TEXTS and options.machine is not None:
        raise Trouble(Exit.USAGE, f"--machine places a program's qubits, and {out} is no program.")
    if suffix in TEXTS and options.profile != IDEAL:
        why = f"--profile is of a program's qubits, and {out} is no program: leave it out."
        raise Trouble(Exit.USAGE, why)
    if out.exists() and options.file.exists() and out.samefile(options.file):
        raise Trouble(Exit.USAGE, f"-o {out} would overwrite the circuit that is read.")
    return suffix


def _sentences(report: Report) -> Iterator[str]:
    """What the passes did, for people."""
    if (lowered := report.lowered) is not None and lowered.rotations:
        yield (
            f"{lowered.rotations} rotations take {lowered.t_rotations} T gates and err by "
            f"{lowered.error:.2g} in all, {lowered.epsilon:g} allowed"
        )
    if (optimised := report.optimised) is None:
        return
    source, made = report.before, report.between
    rows = [
        f"{before} -> {after} {what}"
        for what, before, after in (
            ("T gates", source.t, made.t),
            ("rotations", source.rotations, made.rotations),
            ("two-qubit gates", source.two_qubit, made.two_qubit),
            ("deep", source.depth, made.depth),
        )
    ]
    ands = ", with temporary ANDs" if report.ands else ""
    yield f"optimised{ands}: {', '.join(rows)}"
    for reason, times in sorted(optimised.refused.items()):
        yield f"  not taken {times} times: {reason}"
