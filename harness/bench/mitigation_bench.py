"""Error mitigation: beside mitiq at equal shots, on logical qubits, and what planning costs.

`MITIQ_PYTHON` names an interpreter that has mitiq; without, its figures are missing. Errors are
shares of an observable's spread, roots of mean squares over circuits and repeats.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from harness.bench import mitigation_learned as learned
from harness.bench import mitigation_logical as logical
from harness.bench.mitigation_peer import (
    HOW,
    INSIDE,
    WAYS,
    Errors,
    Peer,
    gates_of,
    mitiq,
    side_by_side,
)
from harness.bench.rows import Row, missing, row
from harness.em.backends.physical import Physical
from harness.em.circuits.families import make
from harness.em.methods import fits, pec
from harness.em.methods.folding import folded

ROUNDS: Final = 5
FOLD_SCALES: Final = (1.0, 3.0, 5.0)
WIDE: Final = ("mirror", 1, 100, 16)
"""Of 8,348 gates."""
PEC_CIRCUIT: Final = ("mirror", 1, 20, 5)
PEC_SAMPLES: Final = 1000
PEC_SAMPLES_PEER: Final = 10
PEC_ERROR: Final = 0.01
GAP_SHOTS: Final = 40_000
GAP_SHOTS_QUICK: Final = 8_000


def run(quick: bool) -> list[Row]:
    rows: list[Row] = []
    with mitiq() as peer:
        rows += _costs(peer)
        rows += _beside(peer, quick)
    rows += _gaps(GAP_SHOTS_QUICK if quick else GAP_SHOTS)
    rows += _distances(4 if quick else 12)
    rows += learned.rows(quick)
    return rows


def _median_cpu(what: Callable[[], object]) -> float:
    """CPU seconds of what is done, the median of ROUNDS."""
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        what()
        found.append(time.process_time() - start)
    return statistics.median(found)


def _costs(peer: Peer | None) -> Iterator[Row]:
    """Of folding and fitting, and of drawing circuits, nothing being run."""
    circuit = make(*WIDE).circuit
    gates = len(circuit.operations)

    def fold_and_fit() -> None:
        for scale in FOLD_SCALES:
            folded(circuit, scale)
        fits.polynomial(FOLD_SCALES, (0.8, 0.6, 0.5), (0.01, 0.01, 0.01), 2)

    seconds = _median_cpu(fold_and_fit)
    name = f"fold and fit at three scales, 100 qubits, {gates:,} gates"
    yield row(f"{name}: CPU time", 1e3 * seconds, "ms", at_most=50)
    if peer is None:
        yield missing(f"{name}: mitiq", HOW)
    else:
        told = peer.ask("fold", gates=gates_of(circuit), scales=list(FOLD_SCALES), circuits=False)
        yield row(f"{name}: mitiq, folding alone", 1e3 * told["seconds"], "ms")
        yield row(f"{name}: mitiq / ours", told["seconds"] / seconds, "x")
    small = make(*PEC_CIRCUIT).circuit
    known = Physical(20).calibration
    drawn = _median_cpu(lambda: pec.sampled(small, known, PEC_SAMPLES, 1))
    name = f"{PEC_SAMPLES:,} PEC circuits of 20 qubits, {len(small.operations)} gates"
    yield row(f"{name}: CPU time", drawn, "s", at_most=1)
    if peer is None:
        yield missing(f"{name}: mitiq", HOW)
        return
    told = peer.ask("cancel", gates=gates_of(small), error=PEC_ERROR, samples=PEC_SAMPLES_PEER)
    theirs = told["seconds"] * PEC_SAMPLES / PEC_SAMPLES_PEER
    yield row(f"{name}: mitiq, from {PEC_SAMPLES_PEER} of them", theirs, "s")


def _beside(peer: Peer | None, quick: bool) -> Iterator[Row]:
    name = "RMSE at equal shots, readout's calibration included"
    if peer is None:
        yield missing(name, HOW)
        return
    found = {each.name: each for each in side_by_side(peer, quick)}
    plain, ours = found["none"], found["ours"]
    number = len(plain.by_circuit)
    yield row("circuits of all families", number, "", at_least=40)
    for each in found.values():
        yield row(f"{name}: {_title(each, found)}", each.rms, "of spread")
    best = min(found[kind].rms for kind, _, _ in WAYS)
    undone = min(each.rms for each in found.values() if each.name.endswith("undone"))
    yield row("RMSE of ours / of mitiq's best ZNE", ours.rms / best, "x", at_most=0.9)
    yield row("RMSE of ours / of mitiq's best ZNE, readout undone for it", ours.rms / undone, "x")
    for kind in ("", ", readout undone"):
        there = min(found[name + kind].off_bounds().rms for name, _, _ in WAYS)
        label = f"the same on the {len(ours.off_bounds().by_circuit)} off their bounds{kind}"
        yield row(label, ours.off_bounds().rms / there, "x")
    harmed = 100 * ours.harmed(plain) / number
    yield row("circuits on which ours is worse than none beyond noise", harmed, "%", at_most=5)
    theirs = 100 * max(found[kind].harmed(plain) for kind, _, _ in WAYS) / number
    yield row("circuits on which mitiq's worst ZNE is", theirs, "%")


def _title(each: Errors, found: dict[str, Errors]) -> str:
    return each.name if each.name in ("none", "ours") else f"mitiq {each.name}"


def _gaps(shots: int) -> Iterator[Row]:
    same, strong = logical.gaps(shots)
    for label, found, goal in (
        ("calibrated noise", same, 85),
        ("noise 20 % above", strong, 75),
    ):
        for one in found:
            told = f"{one.name}, bias {one.raw:+.4f} to {one.mitigated:+.4f} +- {one.std_err:.4f}"
            yield row(f"gap rescaling, {label}: {told}", 100 * one.removed, "%")
        bias = sum(abs(one.raw) for one in found)
        left = sum(abs(one.mitigated) for one in found)
        share = 100 * (1 - left / bias)
        yield row(f"gap rescaling, {label}: bias removed in all", share, "%", at_least=goal)


def _distances(repeats: int) -> Iterator[Row]:
    offered = []
    for strength in (logical.STRENGTH, logical.WEAK):
        for one in logical.distances(strength, repeats):
            where = f"distances 5 and 7, p = {strength:g}: {one.name}, exact {one.exact:.2f}"
            gain = one.plain / max(one.mitigated, 1e-9)
            if one.declined:
                yield row(f"{where}: declined", gain, "x", at_least=0.9)
                continue
            offered.append(one)
            yield row(f"{where}: RMSE {one.plain:.4f} to {one.mitigated:.4f}", gain, "x")
    yield row("circuits to which scaling by distance is offered", len(offered), "")
    name = "RMSE at equal qubit-time, all at 7 / scaled by distance, where offered"
    inner = [one for one in offered if abs(one.exact) < INSIDE]
    for label, part in ((name, offered), (f"{name} and the value is off its bounds", inner)):
        if part:
            whole = _rms([one.plain for one in part]) / _rms([one.mitigated for one in part])
            yield row(label, whole, "x", at_least=2)


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values))
