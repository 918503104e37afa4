"""The ways in which one program could be run: how it is compiled, and in which code.

A `Way` is a way of compiling; `built` makes a program of it once, and `in_code` puts that into any
code. Rewriting never changes what a program means; how well it does is `predict.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from qvm.decode import decode_graph
from qvm.isa import OPS
from qvm.lower import lower
from qvm.machine import Hardware
from qvm.profiles import parse_profile
from qvm.program import Graph, Lowered, Node, Summary, VerifiedProgram
from qvm.verify import verify
from runtime.client.programs import graph_json
from runtime.jit.circuit import Circuit, Unsupported
from runtime.jit.compiling import through
from runtime.jit.emit import IDEAL, emit
from runtime.jit.fences import fenced
from runtime.jit.frontends import SUFFIXES, load
from runtime.jit.passes import Passed, Wishes
from runtime.jit.placing.planning import NoPlan, place
from runtime.jit.placing.planning import Wishes as PlacingWishes

PLACEHOLDER: Final = "logical:Surface(d=3)"
"""What a circuit is emitted for before a code is chosen."""
PASSED_MAX: Final = 16
SHARES: Final = (4.0, 1.0, 0.2, 0.03)
"""Of the error budget, what rotations may take. Their error in operator norm is often far above
what it changes of probabilities, so more than all of it is worth a try."""
SHARE_LARGE: Final = 0.2
EPSILON_MOST: Final = 0.3
OPTIMISED_MAX: Final = 2_000
"""Operations of a circuit up to which the optimiser is asked; beyond it takes minutes."""
LARGE: Final = 20_000
"""Operations of a circuit, or steps of a program, beyond which fewer variants are looked at."""
STEPS_PER_DECADE: Final = 4
DISTANCES: Final = (*range(2, 16), 17, 19, 21, 25, 29, 33)
OTHERS: Final = ("BaconShor(d=3)", "BaconShor(d=5)", "BaconShor(d=7)", "SHYPS(d=2)", "SHYPS(d=4)")
SURFACE: Final = tuple(f"Surface(d={distance})" for distance in DISTANCES)


class NotPlannable(Exception):
    """A program that no plan can be made for; the sentence says why."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """epsilon: of all rotations together; None where there are none, or for a QVM program.
    optimise: by `optimise/`. ancillas: for temporary ANDs, the other way to a Toffoli's T states.
    fence_every: steps. local: `TELEPORT_CNOT` is written as a CNOT within one module. placed: laid
    over the machine's modules in this code, so that all between them goes through Bell pairs;
    pair_error: of these in a shot, at most, where links can."""

    epsilon: float | None = None
    optimise: bool = False
    ancillas: int = 0
    fence_every: int | None = None
    local: bool = False
    placed: str | None = None
    pair_error: float | None = None

    def __str__(self) -> str:
        parts = [
            "optimised" if self.optimise else "as written",
            "" if self.epsilon is None else f"rotations {self.epsilon:.1e}",
            f"ANDs on {self.ancillas}" if self.ancillas else "",
            f"fence every {self.fence_every}" if self.fence_every else "",
            "CNOTs local" if self.local else "",
            "placed" if self.placed else "",
        ]
        return ", ".join(filter(None, parts))


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A program made in one way. synthesis: bounds what its rotations change of all probabilities.
    registers: whether it tells registers of a circuit (`readout.py`)."""

    way: Way
    graph: Graph
    program: VerifiedProgram
    lowered: Lowered
    synthesis: float
    registers: bool

    @property
    def summary(self) -> Summary:
        return self.program.summary


class Source(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A program as its user brings it: a circuit, or a QVM program. key: names it by content."""

    key: bytes
    circuit: Circuit | None = None
    graph: Graph | None = None


def raw_of(source: Path | str | bytes | Graph | Circuit | Any) -> bytes:
    """What names a source by content, without reading it."""
    if isinstance(source, bytes):
        return source
    if isinstance(source, (str, Path)) and not (isinstance(source, str) and "\n" in source):
        return Path(source).read_bytes()
    if isinstance(source, str):
        return source.encode()
    return msgspec.json.encode(source, enc_hook=repr)


def read(source: Path | str | bytes | Graph | Circuit, **reading: Any) -> Source:
    """Read a program of any format. Raises Unsupported, QmkError, OSError and NotPlannable."""
    key = raw_of(source)
    if isinstance(source, Circuit):
        return Source(key=key, circuit=source)
    if isinstance(source, str) and "\n" not in source:
        source = Path(source)
    if isinstance(source, Graph):
        graph = source
    elif isinstance(source, Path) and source.suffix.lower() not in SUFFIXES:
        graph = _graph(graph_json(source))
    elif isinstance(source, bytes) and source.lstrip().startswith(b"{"):
        graph = _graph(source)
    else:
        return Source(key=key, circuit=load(source, **reading))
    if any(OPS[node.op].family == "rotation/1" for node in graph.program.nodes if node.op in OPS):
        return Source(key=key, circuit=load(graph, "qvm"))
    return Source(key=key, graph=graph)


def _graph(raw: bytes) -> Graph:
    found = decode_graph(raw)
    if isinstance(found, Graph):
        return found
    raise Unsupported(0, 0, found[0].path, found[0].message)


def ways(source: Source, budget: float, fences: Sequence[int | None] = (None,)) -> list[Way]:
    """The ways worth trying. fences: how dense, of circuits."""
    if source.graph is not None:
        teleports = any(node.op == "TELEPORT_CNOT" for node in source.graph.program.nodes)
        return [Way(), *([Way(local=True)] if teleports else [])]
    assert source.circuit is not None
    plain = _passed(source)
    turned = plain.report.after.rotations > 0
    large = len(source.circuit.operations) > LARGE
    shares = (SHARE_LARGE,) if large else SHARES
    tried = {rounded(min(EPSILON_MOST, budget * share)) for share in shares}
    epsilons = sorted(tried) if turned else [None]
    optimised = len(source.circuit.operations) <= OPTIMISED_MAX
    found = []
    for every in fences:
        if optimised:
            found += [Way(epsilon=each, optimise=True, fence_every=every) for each in epsilons]
        middle = epsilons[len(epsilons) // 2]
        found.append(Way(epsilon=middle, fence_every=every))
        if not large and _passed(source, ancillas=1).report.ands:
            ands = Way(epsilon=middle, optimise=optimised, ancillas=1, fence_every=every)
            found.append(ands)
    return found


def rounded(epsilon: float) -> float:
    """Down to a grid, so that budgets that are nearly alike share what is compiled."""
    step = math.floor(STEPS_PER_DECADE * math.log10(epsilon) + 1e-9)
    return float(f"{10 ** (step / STEPS_PER_DECADE):.6g}")


def built(source: Source, way: Way, hardware: Hardware | None = None) -> Built:
    """The program made in that way. hardware: over which it is placed. Raises Unsupported and
    NotPlannable."""
    if source.graph is not None:
        return _built_graph(source.graph, way)
    assert source.circuit is not None
    done = _passed(source, epsilon=way.epsilon, optimise=way.optimise, ancillas=way.ancillas)
    circuit = done.circuit if way.fence_every is None else fenced(done.circuit, way.fence_every)
    if way.placed is None:
        graph = emit(circuit, profile=PLACEHOLDER)
    else:
        assert hardware is not None
        graph = _placed(circuit, hardware, way.placed, way.pair_error)
    lowered = done.report.lowered
    return _verified(graph, way, 0.0 if lowered is None else lowered.error, registers=True)


def _placed(circuit: Circuit, hardware: Hardware, code: str, pair_error: float | None) -> Graph:
    """Over the modules, with pairs as good as wanted, else as good as is usual."""
    for wanted in dict.fromkeys((pair_error, None)):
        try:
            return place(
                circuit, hardware, profile=code, wishes=PlacingWishes(pair_error=wanted)
            ).graph
        except NoPlan as error:
            refused = error
    raise NotPlannable(str(refused)) from refused


def ideal(source: Source) -> Built:
    """The program without codes, with its rotations as they are: what it should do."""
    if source.circuit is None:
        assert source.graph is not None
        return _verified(source.graph, Way(), 0.0, registers=False)
    return _verified(emit(source.circuit, profile=IDEAL), Way(), 0.0, registers=True)


@lru_cache(maxsize=PASSED_MAX)
def _passed(
    source: Source, *, epsilon: float | None = None, optimise: bool = False, ancillas: int = 0
) -> Passed:
    """The circuit before fences; ways that differ in these alone share it."""
    assert source.circuit is not None
    return through(source.circuit, Wishes(epsilon=epsilon, optimise=optimise, ancillas=ancillas))


def _built_graph(graph: Graph, way: Way) -> Built:
    nodes = list(_rewritten(graph.program.nodes, local=way.local))
    made = msgspec.structs.replace(graph, program=type(graph.program)(nodes=nodes))
    return _verified(made, way, 0.0, registers=False)


def _rewritten(nodes: Sequence[Node], *, local: bool) -> Iterator[Node]:
    for node in nodes:
        if local and node.op == "TELEPORT_CNOT":
            yield msgspec.structs.replace(node, op="APPLY_CNOT")
        else:
            yield node


def _verified(graph: Graph, way: Way, synthesis: float, *, registers: bool) -> Built:
    program = verify(graph)
    if not isinstance(program, VerifiedProgram):
        first = program[0]
        raise Unsupported(0, 0, first.path, first.message)
    if program.summary.handles or program.summary.brokered:
        raise NotPlannable("The program names qubits or channels of a session, which have codes.")
    return Built(
        way=way,
        graph=graph,
        program=program,
        lowered=lower(program),
        synthesis=synthesis,
        registers=registers,
    )


def coded(graph: Graph) -> set[str]:
    """The profiles of the program that a plan replaces: those of a code; all, where none is."""
    profiles = {node.args["profile"] for node in _allocating(graph)}
    named = {each for each in profiles if not _is_ideal(each)}
    return named or profiles


def _is_ideal(text: str) -> bool:
    found = parse_profile(text)
    return not isinstance(found, str) and found.code == "ideal"


def _allocating(graph: Graph) -> Iterator[Any]:
    for node in graph.program.nodes:
        if node.op == "ALLOC_LQ":
            assert isinstance(node.args, dict), "verified"
            yield node


def in_code(graph: Graph, profile: str) -> Graph:
    """The program with its codes replaced by this one."""
    replaced = coded(graph)
    nodes = list(graph.program.nodes)
    for at, node in enumerate(nodes):
        if node.op == "ALLOC_LQ" and isinstance(node.args, dict):
            args = node.args | {"profile": profile}
            if node.args["profile"] in replaced:
                nodes[at] = msgspec.structs.replace(node, args=args)
    return msgspec.structs.replace(graph, program=type(graph.program)(nodes=nodes))
