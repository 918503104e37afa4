"""Circuits over several modules: our plans beside filling modules in order, and partitioners beside
each other.

Circuits are those of MQT Bench (Quetschlich et al., arXiv:2204.13719) and of `examples/`, each on
two modules and on four in a ring, with a quarter more places than qubits. A partitioner says which
qubits belong together; what is made of that (exchanging qubits one by one, copies, moves) is the
same for all, so a row tells what the library is worth here. "In order" fills the modules in the
order of qubits and gives every gate between them a pair. Pairs and cycles are what the kernel
reckons.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from harness.bench.rows import Row, missing, row
from qvm.machine import Hardware, Link, Module
from runtime.jit.circuit import Circuit
from runtime.jit.frontends import load
from runtime.jit.placing.partition import Partitioner, adjacency, by_metis
from runtime.jit.placing.planning import Cost, NoPlan, place
from runtime.jit.placing.web import Web

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = ("grover.qasm", "phase_estimation.qasm", "qaoa_ring.qasm", "shor15.qasm")
SIZES: Final = (8,)
SIZES_QUICK: Final = (6,)
OPERATIONS_MAX: Final = 1_000
PROFILE: Final = "logical:ideal"
LINK_CYCLES: Final = 2.0
FIDELITY: Final = 0.99
EXTRA: Final = "pip install 'qmkd[peers-compilers]'"
ORDER: Final = "in order"


def machine(modules: int, width: int) -> Hardware:
    """A ring, or two, with a quarter more places than qubits and one in each to spare."""
    room = math.ceil(width / modules * 1.25) + 1
    names = [f"m{at}" for at in range(modules)]
    ends = list(zip(names, names[1:] + names[:1], strict=True))
    return Hardware(
        name=f"{modules} modules",
        module=tuple(Module(name=name, qubits=room) for name in names),
        link=tuple(
            Link(between=each, cycles=LINK_CYCLES, fidelity=FIDELITY)
            for each in (ends if modules > 2 else ends[:1])
        ),
    )


# --- partitioners ---------------------------------------------------------------------------------


def metis(web: Web, parts: Sequence[int]) -> list[int] | None:
    """One run of METIS."""
    return by_metis(web, parts)


def mt_kahypar(web: Web, parts: Sequence[int]) -> list[int] | None:
    """Connectivity of the hypergraph itself. Its mapping onto links ends the process on some small
    hypergraphs (version 1.7), so parts are what is asked for."""
    import mtkahypar

    qubits = [qubit for qubit, weight in enumerate(web.weights) if weight]
    number = {qubit: at for at, qubit in enumerate(qubits)}
    edges = [([number[pin] for pin in pins], weight) for pins, weight in web.edges]
    if len(qubits) <= len(parts) or not edges:
        return None
    library = _started()
    mtkahypar.set_seed(7)
    context = library.context_from_preset(mtkahypar.PresetType.DEFAULT)
    context.logging = False
    context.set_partitioning_parameters(len(parts), 0.03, mtkahypar.Objective.KM1)
    context.set_individual_target_block_weights(list(parts))
    graph = library.create_hypergraph(
        context, len(qubits), len(edges), [e for e, _ in edges], [1] * len(qubits),
        [w for _, w in edges],
    )  # fmt: skip
    found = graph.partition(context).get_partition()
    row = [0] * len(web.weights)
    for qubit, part in zip(qubits, found, strict=True):
        row[qubit] = part
    return row


_STARTED: list[Any] = []


def _started() -> Any:
    import mtkahypar

    if not _STARTED:
        _STARTED.append(mtkahypar.initialize(1))
    return _STARTED[0]


def networkx_halves(web: Web, parts: Sequence[int]) -> list[int] | None:
    """Kernighan and Lin's bisection of networkx, again and again."""
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(qubit for qubit, weight in enumerate(web.weights) if weight)
    for one, near in enumerate(adjacency(web)):
        graph.add_weighted_edges_from((one, two, weight) for two, weight in near.items())
    row = [0] * len(web.weights)

    def split(qubits: list[int], first: int, number: int) -> None:
        if number == 1 or len(qubits) < 2:
            for qubit in qubits:
                row[qubit] = first
            return
        halves = networkx.community.kernighan_lin_bisection(graph.subgraph(qubits), seed=7)
        for at, half in enumerate(halves):
            split(sorted(half), first + at * (number // 2), number // 2)

    split(sorted(graph), 0, len(parts))
    return row


def scipy_spectral(web: Web, parts: Sequence[int]) -> list[int] | None:
    """Qubits along the Fiedler vector, cut into parts as large as there is room for."""
    from scipy.linalg import eigh

    qubits = [qubit for qubit, weight in enumerate(web.weights) if weight]
    near = adjacency(web)
    laplacian = np.zeros((len(qubits), len(qubits)))
    for at, one in enumerate(qubits):
        for to, two in enumerate(qubits):
            laplacian[at, to] = -near[one].get(two, 0)
        laplacian[at, at] = -laplacian[at].sum()
    _, vectors = eigh(laplacian)
    order = [qubits[at] for at in np.argsort(vectors[:, min(1, len(qubits) - 1)], kind="stable")]
    row = [0] * len(web.weights)
    share = math.ceil(len(qubits) / len(parts))
    for number, qubit in enumerate(order):
        row[qubit] = min(number // share, len(parts) - 1)
    return row


def nobody(web: Web, parts: Sequence[int]) -> list[int] | None:
    """Qubits in order, to be exchanged from there."""
    used = sum(web.weights)
    row, seen = [], 0
    for weight in web.weights:
        row.append(min(seen * len(parts) // max(1, used), len(parts) - 1))
        seen += weight
    return row


PARTITIONERS: Final[dict[str, Partitioner | None]] = {
    "ours": None,
    "METIS once": metis,
    "Mt-KaHyPar": mt_kahypar,
    "networkx": networkx_halves,
    "scipy": scipy_spectral,
    "no library": nobody,
}
NEEDS: Final = {"Mt-KaHyPar": "mtkahypar", "networkx": "networkx"}


# --- the table ------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """costs: by partitioner. in_order: None where filling in order finds no way."""

    name: str
    costs: dict[str, Cost]
    in_order: Cost | None
    cut: int


def run(quick: bool) -> list[Row]:
    try:
        import mqt.bench  # noqa: F401
    except ImportError:
        return [missing("MQT Bench", EXTRA)]
    there = {name: each for name, each in PARTITIONERS.items() if _installed(NEEDS.get(name, ""))}
    seconds = defaultdict[str, float](float)
    judged = []
    for name, circuit, width in circuits(SIZES_QUICK if quick else SIZES):
        for modules in (2, 4):
            if width >= 2 * modules:
                one = judge(name, circuit, machine(modules, width), there, seconds)
                judged += [] if one is None else [one]
    rows = [each for one in judged for each in _rows(one)]
    away = [
        missing(name, f"pip install {NEEDS[name]}") for name in PARTITIONERS if name not in there
    ]
    return [*rows, *_summary(judged, there, seconds), *away]


def _installed(name: str) -> bool:
    try:
        if name:
            __import__(name)
    except ImportError:
        return False
    return True


def circuits(sizes: Sequence[int]) -> Iterator[tuple[str, Circuit, int]]:
    """Name, circuit and width."""
    for file in EXAMPLES:
        circuit = load(ROOT / "examples" / file)
        yield file, circuit, circuit.width
    from mqt.bench import BenchmarkLevel, get_benchmark
    from mqt.bench.benchmarks import get_available_benchmark_names

    for name in get_available_benchmark_names():
        for size in sizes:
            try:
                source: Any = get_benchmark(name, BenchmarkLevel.INDEP, size)
                circuit = load(source)
            except Exception:  # a benchmark says in its own ways that it has no such size
                continue
            if len(circuit.operations) <= OPERATIONS_MAX:
                yield f"{name}({size})", circuit, circuit.width


def judge(
    name: str,
    circuit: Circuit,
    hardware: Hardware,
    partitioners: dict[str, Partitioner | None],
    seconds: dict[str, float] | None = None,
) -> Judged | None:
    """None where all of it fits into one module, or needs no pair in any way."""
    costs: dict[str, Cost] = {}
    naive: Cost | None = None
    cut = 0
    for who, partitioner in partitioners.items():
        start = time.process_time()
        try:
            placed = place(circuit, hardware, profile=PROFILE, partitioner=partitioner)
        except NoPlan:
            return None
        if seconds is not None:
            seconds[who] += time.process_time() - start
        costs[who], naive = placed.report.cost, placed.report.in_order
        cut = costs[who].cut if who == "ours" else cut
    if len({each.pairs for each in costs.values()}) == 1 and not costs["ours"].pairs:
        return None
    return Judged(f"{name} on {hardware.name}", costs, naive, cut)


def _rows(one: Judged) -> Iterator[Row]:
    others = ", ".join(
        f"{who} {each.pairs}/{each.cycles}" for who, each in one.costs.items() if who != "ours"
    )
    naive = "no way" if one.in_order is None else f"{one.in_order.pairs}/{one.in_order.cycles}"
    ours = one.costs["ours"]
    yield row(
        f"{one.name} pairs/cycles: {ORDER} {naive}; {others}; ours {ours.pairs}/{ours.cycles}",
        ours.pairs,
        "pairs",
        at_most=min(each.pairs for who, each in one.costs.items() if who != "ours"),
    )


def _summary(
    judged: Sequence[Judged], there: dict[str, Partitioner | None], seconds: dict[str, float]
) -> Iterator[Row]:
    yield row("circuits on machines", len(judged), "")
    compared = [one for one in judged if one.in_order is not None and one.costs["ours"].pairs]
    for what in ("pairs", "cycles"):
        yield row(
            f"{what}, ours / {ORDER}, geometric mean",
            _mean(
                (getattr(one.costs["ours"], what), getattr(one.in_order, what)) for one in compared
            ),
            "",
            at_most=1,
        )
    for who in there:
        found = [(one.costs[who].pairs, min(_pairs(one))) for one in judged]
        yield row(
            f"{who}: pairs / the fewest of all, geometric mean",
            _mean(each for each in found if each[1]),
            "",
        )
        as_good = sum(pairs == best for pairs, best in found)
        yield row(f"{who}: as few as any", 100 * as_good / max(1, len(found)), "%")
        yield row(f"{who}: CPU time of all plans", seconds[who], "s")


def _pairs(one: Judged) -> Iterator[int]:
    return (each.pairs for each in one.costs.values())


def _mean(ratios: Iterable[tuple[float, float]]) -> float:
    """Geometric, of the first by the second."""
    logs = [math.log(one / other) for one, other in ratios]
    return math.exp(sum(logs) / max(1, len(logs)))
