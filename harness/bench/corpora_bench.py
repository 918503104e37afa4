"""Corpora through the front ends: read, lowered, run, and matching an independent simulator.

`run` gives the counts as figures; `python -m harness.bench.corpora_bench` writes the same as a
table in Markdown, and every circuit that was not read with the error that it gives.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from harness.bench.corpora_sources import (
    NODES_MAX,
    QUICK_SIZES,
    SIZES,
    Expected,
    Source,
    sources,
)
from harness.bench.rows import Row, row
from qmkd.engine import engines
from qmkd.engine.prepared import Unable
from qmkd.engine.run import prepare, run_segment
from qvm.program import Graph, VerifiedProgram
from qvm.reference import ReferenceLimit, distribution
from qvm.verify import verify
from runtime.jit.circuit import MEASUREMENTS, Circuit, Operation, Register, Unsupported
from runtime.jit.emit import emit
from runtime.jit.frontends import load
from runtime.jit.readout import register_counts

SHOTS: Final = 8192
CHANCE: Final = 1e-7
"""A circuit counts as wrong where outcomes so far off are rarer than this."""
IMPOSSIBLE: Final = 1e-9
EXACT_NODES_MAX: Final = 3000
EXACT_QUBITS_MAX: Final = 8
EXACT_ERROR_MAX: Final = 1e-9
LUMPS: Final = 16
EXPECTED_MIN: Final = 8.0

STEPS: Final = ("read", "lowered", "run", "matching")


class Fate(NamedTuple):
    """How far a circuit came: of `steps` all that it passed, and why it went no further."""

    source: Source
    steps: frozenset[str]
    why: str


def run(quick: bool) -> list[Row]:
    fates = list(_fates(quick))
    found: list[Row] = []
    for corpus in dict.fromkeys(fate.source.corpus for fate in fates):
        own = [fate for fate in fates if fate.source.corpus == corpus]
        found.append(row(f"{corpus}: circuits", len(own), "circuits"))
        for step in STEPS:
            number = sum(step in fate.steps for fate in own)
            found.append(row(f"{corpus}: {step}", number, "circuits"))
        wrong = sum(fate.why.startswith("wrong") for fate in own)
        found.append(row(f"{corpus}: wrong", wrong, "circuits", at_most=0))
    return found + _growth(quick)


def _growth(quick: bool) -> list[Row]:
    """CPU time from text to graph, and what a gate takes of it in a circuit four times as long."""
    found = []
    for version, gates in (
        (("2", 20_000), ("3", 1_500)) if quick else (("2", 200_000), ("3", 10_000))
    ):
        short, long = (_seconds(version, gates * factor) for factor in (1, 4))
        name = f"OpenQASM {version}, {4 * gates:,} gates, text to graph"
        found.append(row(name, long, "s CPU"))
        found.append(
            row(f"{name}: a gate beside a quarter as many", long / short / 4, "x", at_most=2)
        )
    return found


def _seconds(version: str, gates: int) -> float:
    """CPU time of one random circuit over 50 qubits."""
    draw = random.Random(1)
    q = "q[{}]"
    head = {
        "2": 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[50];\ncreg c[50];',
        "3": 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[50] q;\nbit[50] c;',
    }
    lines = [head[version]]
    for _ in range(gates):
        one, other = (q.format(each) for each in draw.sample(range(50), 2))
        lines.append(draw.choice([f"cx {one},{other};", f"h {one};", f"rz(pi/9) {one};"]))
    text = "\n".join([*lines, "measure q -> c;", ""])
    started = time.process_time()
    emit(load(text))
    return time.process_time() - started


def _fates(quick: bool) -> Iterator[Fate]:
    for source in sources(QUICK_SIZES if quick else SIZES):
        try:
            yield _fate(source)
        except (
            Exception
        ) as error:  # whatever is thrown here is a fault to be listed, not to stop at
            yield Fate(source, frozenset(), f"fault: {type(error).__name__}: {error}")


def _fate(source: Source) -> Fate:
    """Take one circuit as far as it goes."""
    try:
        circuit = load(source.given)
    except Unsupported as error:
        return Fate(source, frozenset(), str(error))
    circuit = _measuring(circuit)
    try:
        graph = emit(circuit)
    except Unsupported as error:
        return Fate(source, frozenset({"read"}), str(error))
    program = verify(graph)
    if not isinstance(program, VerifiedProgram):
        return Fate(source, frozenset({"read"}), f"fault: {program[0].message}")
    passed = frozenset({"read", "lowered"})
    if program.summary.nodes > NODES_MAX:
        return Fate(source, passed, f"{program.summary.nodes} nodes: not run here")
    try:
        counts = _run(graph)
    except Unable as error:
        return Fate(source, passed, f"not run: {error}")
    passed |= {"run"}
    try:
        wanted = source.judged()
    except Exception as error:  # Qiskit's readers and Aer raise many things
        return Fate(source, passed, f"no peer: {str(error).splitlines()[0][:120]}")
    if wanted is None:
        return Fate(source, passed, "no peer: too wide for Aer here")
    why = _differs(counts, wanted) or _differs_exactly(graph, program, wanted)
    return Fate(source, passed if why else passed | {"matching"}, why)


def _measuring(circuit: Circuit) -> Circuit:
    """A circuit that measures nothing, with everything measured at the end, and no other bits."""
    if any(each.name in MEASUREMENTS for each in circuit.operations):
        return circuit
    assert not any(each.bits or each.condition for each in circuit.operations), "no bit is used"
    listed = [Operation("measure", (q,), (), (q,)) for q in range(circuit.width)]
    bits = (Register("meas", circuit.width),)
    return msgspec.structs.replace(circuit, bits=bits, operations=(*circuit.operations, *listed))


def _run(graph: Graph) -> dict[int, int]:
    """Counts by the integer that all bits make up."""
    program = prepare(msgspec.json.encode(graph))
    report, _ = run_segment(program, 1, 0, SHOTS, "+".join(engines.MAKERS))
    assert report.counts is not None, "so few shots have few outcomes"
    return _integers(register_counts(graph, report.counts))


def _integers(found: dict[str, int]) -> dict[int, int]:
    return {int("".join(reversed(key.split())) or "0", 2): n for key, n in found.items()}


def _differs(counts: dict[int, int], wanted: Expected) -> str:
    """Why the counts cannot come from what is expected; "" where they can.

    Outcomes are put into bins: those that are expected often enough each into its own, the others
    spread over a few. Pearson's statistic is compared with its distribution.
    """
    if wanted.exact is not None:
        shares: dict[int, float] = {int(n): wanted.exact[n] for n in np.flatnonzero(wanted.exact)}
        rare = [n for n in counts if shares.get(n, 0.0) < IMPOSSIBLE]
        if rare:
            return f"wrong: {len(rare)} outcomes that cannot be"
        if (chance := _overlap(counts, wanted.exact)) < CHANCE:
            return f"wrong: outcomes so unlikely have probability {chance:.1e}"
        ours, theirs = _binned(counts, shares), _binned(shares, shares)
        statistic = sum(
            (ours[each] - SHOTS * share) ** 2 / (SHOTS * share) for each, share in theirs.items()
        )
    else:
        total = sum(wanted.counts.values())
        shares = {n: number / total for n, number in wanted.counts.items()}
        ours, theirs = _binned(counts, shares), _binned(wanted.counts, shares)
        statistic = 0.0
        for each in ours.keys() | theirs.keys():
            mine, other = ours[each], theirs[each]
            share = (mine + other) / (SHOTS + total)
            for number, size in ((mine, SHOTS), (other, total)):
                statistic += (number - size * share) ** 2 / (size * share)
    freedom = max(1, len(ours.keys() | theirs.keys()) - 1)
    chance = float(chi2.sf(statistic, freedom))
    return "" if chance >= CHANCE else f"wrong: counts so far off have probability {chance:.1e}"


def _overlap(counts: dict[int, int], exact: NDArray[np.float64]) -> float:
    """How rare it is that the mean probability of the outcomes is so far off.

    Linear cross-entropy (Arute et al., Nature 574, 505, 2019): it tells distributions apart that
    are spread over more outcomes than there are shots, where bins see little.
    """
    powers = [float((exact**power).sum()) for power in (2, 3)]
    spread = math.sqrt(max(powers[1] - powers[0] ** 2, 0.0) / SHOTS)
    off = abs(sum(float(exact[n]) * number for n, number in counts.items()) / SHOTS - powers[0])
    if off <= EXACT_ERROR_MAX:
        return 1.0
    return math.erfc(off / spread / math.sqrt(2)) if spread else 0.0


def _binned(numbers: dict[int, int] | dict[int, float], shares: dict[int, float]) -> Counter[int]:
    """Sums over bins: an outcome's own where it is expected often, else one of a few negative."""
    found: Counter[int] = Counter()
    for outcome, number in numbers.items():
        own = shares.get(outcome, 0.0) * SHOTS >= EXPECTED_MIN
        # An odd multiplier spreads neighbours, so that a lump is no run of outcomes.
        found[outcome if own else -1 - (outcome * 0x9E3779B1 >> 7) % LUMPS] += number  # type: ignore[assignment]
    return found


def _differs_exactly(graph: Graph, program: VerifiedProgram, wanted: Expected) -> str:
    """The same by the reference interpreter's exact probabilities, where it is small enough."""
    small = program.summary.peak_logical <= EXACT_QUBITS_MAX
    if wanted.exact is None or not small or program.summary.nodes > EXACT_NODES_MAX:
        return ""
    try:
        found = register_counts(graph, distribution(program).probabilities)
    except ReferenceLimit:
        return ""
    ours = np.zeros_like(wanted.exact)
    for key, share in found.items():
        ours[int("".join(reversed(key.split())), 2)] += share
    error = float(np.abs(ours - wanted.exact).max())
    return "" if error <= EXACT_ERROR_MAX else f"wrong: a probability is off by {error:.1e}"


def markdown(fates: list[Fate]) -> Iterator[str]:
    """The counts as a table, then whatever did not come all the way."""
    yield f"| corpus | circuits | {' | '.join(STEPS)} |"
    yield f"|---|{'---:|' * (1 + len(STEPS))}"
    for corpus in dict.fromkeys(fate.source.corpus for fate in fates):
        own = [fate for fate in fates if fate.source.corpus == corpus]
        numbers = [str(sum(step in fate.steps for fate in own)) for step in STEPS]
        yield f"| {corpus} | {len(own)} | {' | '.join(numbers)} |"
    yield ""
    for fate in fates:
        if fate.why:
            yield f"- {fate.source.corpus}, {fate.source.name}: {fate.why}"


def _told(fates: Iterator[Fate]) -> Iterator[Fate]:
    """The same, each named on standard error as soon as it is known."""
    for fate in fates:
        sys.stderr.write(f"{fate.source.corpus}, {fate.source.name}: {fate.why or 'matching'}\n")
        yield fate


if __name__ == "__main__":
    print("\n".join(markdown(list(_told(_fates("--quick" in sys.argv))))))
