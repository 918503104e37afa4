"""The optimiser beside Qiskit, tket and pyzx on circuits of MQT Bench (Quetschlich et al.,
arXiv:2204.13719), read by our front end.

A peer is the best of its own passes (one run of each) whose answer is shown to equal the circuit.
T gates count each rotation as the T gates that it will take, with an error of 1e-6 for all of the
circuit's rotations together. Better is fewer T gates, then fewer two-qubit gates and steps of depth
together, for all alike. Circuits with decisions within the shot are no unitaries and left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from harness.bench.rows import Row, missing, row
from runtime.jit.circuit import Circuit, Operation, Register, expanded
from runtime.jit.costs import Counts, counts
from runtime.jit.frontends import load
from runtime.jit.gates import GATES
from runtime.jit.optimise.engines import PYZX, QISKIT, TKET, Engine
from runtime.jit.optimise.equivalence import Twin
from runtime.jit.optimise.portfolio import optimised
from runtime.jit.optimise.stretches import about_z

EPSILON: Final = 1e-6
SIZES: Final = (3, 4, 5, 6, 8)
SIZES_QUICK: Final = (3, 4)
GATES_MAX: Final = 350
EXTRA: Final = "pip install 'qmkd[peers-compilers]'"
PEERS: Final[dict[str, Mapping[str, Engine]]] = {"Qiskit": QISKIT, "tket": TKET, "pyzx": PYZX}


class Judged(NamedTuple):
    """source, ours, theirs: what the circuit costs. equal: ours was shown to equal it."""

    name: str
    source: Counts
    ours: Counts
    theirs: dict[str, Counts]
    equal: bool

    @property
    def best(self) -> Counts:
        return min(self.theirs.values(), key=lambda each: each.key(EPSILON))


def run(quick: bool) -> list[Row]:
    try:
        circuits = list(_circuits(SIZES_QUICK if quick else SIZES))
    except ImportError:
        return [missing("MQT Bench", EXTRA)]
    start = time.process_time()
    judged = [_judged(name, gates, width) for name, gates, width in circuits]
    seconds = time.process_time() - start
    rows = [each for one in judged for each in _rows(one)]
    return [*rows, *_shares(judged), row("CPU time of all of it", seconds, "s")]


def _circuits(sizes: tuple[int, ...]) -> Iterator[tuple[str, list[Operation], int]]:
    """Name, gates and width of every benchmark that is one unitary of a size that it has."""
    from mqt.bench import BenchmarkLevel, get_benchmark
    from mqt.bench.benchmarks import get_available_benchmark_names

    for name in get_available_benchmark_names():
        for size in sizes:
            try:
                source: Any = get_benchmark(name, BenchmarkLevel.INDEP, size)
            except ValueError:
                continue  # a benchmark may want an even number of qubits, or one of a list
            circuit = load(source)
            gates = _unitary(circuit)
            if gates is not None and len(gates) <= GATES_MAX:
                yield f"{name}({size})", gates, circuit.width


def _unitary(circuit: Circuit) -> list[Operation] | None:
    """The gates before the final measurements; None where there is more to it."""
    small = list(about_z(expanded(circuit.operations)))
    if any(each.condition is not None or each.name in ("reset", "assign") for each in small):
        return None
    return [each for each in small if each.name in GATES]


def _judged(name: str, gates: list[Operation], width: int) -> Judged:
    twin = Twin(gates, width)
    source = counts(gates)
    theirs = {peer: _best(engines, twin, source) for peer, engines in PEERS.items()}
    circuit = Circuit(qubits=(Register("q", width),), bits=(), operations=tuple(gates))
    made = optimised(circuit, epsilon=EPSILON)
    equal = twin.witness(made.circuit.operations) is not None
    return Judged(name, source, counts(made.circuit.operations), theirs, equal)


def _best(engines: Mapping[str, Engine], twin: Twin, source: Counts) -> Counts:
    found = [source]
    for engine in engines.values():
        try:
            gates = engine(twin.gates, twin.width)
        except Exception:  # what a peer cannot do is no answer
            continue
        if twin.witness(gates) is not None:
            found.append(counts(gates))
    return min(found, key=lambda each: each.key(EPSILON))


def _rows(one: Judged) -> Iterator[Row]:
    """T gates beside the best peer; the name of the row tells two-qubit gates and depth as well."""
    others = ", ".join(f"{peer} {_told(each)}" for peer, each in one.theirs.items())
    yield row(
        f"{one.name} T, 2q, depth: was {_told(one.source)}; {others}; ours {_told(one.ours)}",
        one.ours.t_states(EPSILON),
        "T gates",
        at_most=one.best.t_states(EPSILON),
    )


def _told(found: Counts) -> str:
    return f"{found.t_states(EPSILON):.0f} {found.two_qubit} {found.depth}"


def _shares(judged: list[Judged]) -> Iterator[Row]:
    def share(holds: Callable[[Judged], bool]) -> float:
        return 100 * sum(holds(one) for one in judged) / len(judged)

    yield row("circuits", len(judged), "")
    yield row("ours shown to be equal", share(lambda one: one.equal), "%", at_least=100)
    yield row(
        "ours at least the best of the three",
        share(lambda one: one.ours.key(EPSILON) <= one.best.key(EPSILON)),
        "%",
        at_least=90,
    )
    yield row(
        "ours with fewer T gates than any of the three",
        share(lambda one: one.ours.t_states(EPSILON) < min(
            each.t_states(EPSILON) for each in one.theirs.values())),
        "%",
    )  # fmt: skip
    yield row(
        "ours no deeper than the best of the three",
        share(lambda one: one.ours.depth <= one.best.depth),
        "%",
        at_least=90,
    )
    yield row(
        "ours no deeper than any of the three",
        share(lambda one: one.ours.depth <= min(each.depth for each in one.theirs.values())),
        "%",
    )
