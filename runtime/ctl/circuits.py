"""Circuits of other formats where a subcommand takes a program: told by the file's suffix."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from qvm.angles import parse_angle
from qvm.decode import decode_graph
from qvm.isa import QUBITS_MAX
from qvm.program import Graph
from runtime.client.results import Result
from runtime.ctl.exits import Exit, Trouble
from runtime.jit.circuit import Unsupported
from runtime.jit.compiling import compile_circuit
from runtime.jit.emit import IDEAL
from runtime.jit.frontends import NAMES
from runtime.jit.passes import Wishes
from runtime.jit.readout import register_counts

EPSILON_BELOW: Final = 2
REGISTERS: Final = b'"registers"'
SHOWN_MAX: Final = 64
"""Values of the registers that a person is shown."""


def add_circuit(parser: argparse.ArgumentParser) -> None:
    """How a circuit is read and what it is compiled for."""
    parser.add_argument(
        "--format", choices=NAMES, help="of the circuit (default: told by suffix and content)"
    )
    parser.add_argument(
        "--input",
        metavar="NAME=VALUE",
        type=_input,
        action="append",
        default=[],
        help="of an `input` of an OpenQASM 3 circuit: a number, or arithmetic in pi",
    )
    parser.add_argument(
        "--drop-noise",
        action="store_true",
        help="leave the noise of a Stim circuit out, which is refused otherwise",
    )
    parser.add_argument(
        "--profile",
        metavar="PROFILE",
        default=IDEAL,
        help="of the circuit's qubits, such as 'logical:Surface(d=5)' (default: %(default)s)",
    )
    parser.add_argument(
        "--epsilon",
        metavar="E",
        type=_epsilon,
        help="write the circuit's rotations in Clifford and T gates, to this error over all of "
        "them (default: leave them, which takes the ideal profile)",
    )
    parser.add_argument(
        "--optimise",
        action="store_true",
        help="spare T gates, two-qubit gates and depth, by the best of several optimisers",
    )
    parser.add_argument(
        "--ancillas",
        metavar="N",
        type=int,
        default=0,
        help="qubits that may be added so that measurements spare T gates (default: %(default)s)",
    )
    parser.add_argument(
        "--fence-every",
        metavar="STEPS",
        type=int,
        help="put fences where fewest qubits are held, no more than so many steps apart",
    )


def _epsilon(text: str) -> float:
    """An error in operator norm, for argparse: two unitary matrices are never more than 2 apart."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < value < EPSILON_BELOW:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and below {EPSILON_BELOW}")
    return value


def _input(text: str) -> tuple[str, int | float]:
    """NAME=VALUE, for argparse."""
    name, equals, written = text.partition("=")
    value = parse_angle(written)
    if not (name and equals) or isinstance(value, str):
        why = value if isinstance(value, str) else "write NAME=VALUE"
        raise argparse.ArgumentTypeError(f"{text!r}: {why}")
    return name, int(value) if written.isdecimal() else value


def reading_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the front end is told beside the circuit."""
    told: dict[str, Any] = {"drop_noise": True} if options.drop_noise else {}
    inputs = dict(options.input)
    if len(inputs) < len(options.input):
        names = [name for name, _ in options.input]
        twice = next(name for name in names if names.count(name) > 1)
        raise Trouble(Exit.USAGE, f"--input {twice} is given more than one value.")
    return told | ({"inputs": inputs} if inputs else {})


def wishes_of(options: argparse.Namespace) -> Wishes:
    """The passes that a circuit is to go through. Raises Trouble where a number makes no sense."""
    ancillas, steps = options.ancillas, options.fence_every
    if not 0 <= ancillas <= QUBITS_MAX:
        why = f"--ancillas is a number from 0 to {QUBITS_MAX:,}, not {ancillas}."
        raise Trouble(Exit.USAGE, why)
    if steps is not None and steps < 1:
        raise Trouble(Exit.USAGE, f"--fence-every is a number of steps from 1 on, not {steps}.")
    return Wishes(
        epsilon=options.epsilon,
        optimise=options.optimise,
        ancillas=ancillas,
        fence_every=steps,
    )


def circuit_json(
    source: Path | bytes, name: str, options: argparse.Namespace | None = None
) -> bytes:
    """A circuit as the JSON of a program. name: for messages. Raises Trouble."""
    told = {} if options is None else {
        "format": options.format, "profile": options.profile, "wishes": wishes_of(options),
        **reading_of(options),
    }  # fmt: skip
    with reading(name):
        return msgspec.json.encode(compile_circuit(source, **told))


def registers_of(program: bytes, result: Result) -> dict[str, dict[str, float]]:
    """Counts or probabilities by a compiled circuit's registers, as `registers`; else nothing."""
    graph = decode_graph(program) if REGISTERS in program else None
    if not isinstance(graph, Graph) or "registers" not in (graph.metadata or {}):
        return {}
    exact = result.probabilities
    found = register_counts(graph, result.counts if exact is None else exact)
    return {"registers": dict(sorted(found.items(), key=lambda item: -item[1]))}


def registers_shown(found: Mapping[str, float]) -> list[tuple[str, object]]:
    """The most frequent values of the registers as rows for people, and how many more there are."""
    rows: list[tuple[str, object]] = list(found.items())
    left = sum(list(found.values())[SHOWN_MAX:])
    more = len(rows) - SHOWN_MAX
    return rows if more <= 0 else [*rows[:SHOWN_MAX], (f"{more:,} more, which --json lists", left)]


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what is wrong with a circuit into a sentence and its status."""
    try:
        yield
    except Unsupported as error:
        error.file = error.file or name
        raise Trouble(Exit.INVALID_PROGRAM, str(error)) from error
    except ModuleNotFoundError as error:
        why = f"This needs the package {error.name}: pip install 'qmkd[jit]'."
        raise Trouble(Exit.USAGE, why) from error
    except ValueError as error:
        raise Trouble(Exit.USAGE, f"{error}.") from error
