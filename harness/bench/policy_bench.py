"""The policy engine judged by regret: how much larger errors are than with the best method each
time.

Cases are made by `policy_cases.py` from real calibrations; splits are by circuit, backend and
family, so that nothing of a group is in training and test, and no circuit ever is. Beside the
engine stand the safe rules and every fixed choice. Times are those inside the service's handler.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.bench.policy_cases import METHODS, Cases, cases
from harness.bench.rows import Row, missing, row
from harness.bench.scheduler_bench import MACHINES
from policy.engine import Engine
from policy.models import Model, load, save
from policy.rules import Rules
from policy.service import Service
from policy.training import NEAR, fit, splits
from runtime.scheduler.calibrations import Snapshot
from runtime.scheduler.errors import Missing
from runtime.scheduler.ibm import snapshots

Real = NDArray[np.float64]

SEED: Final = 20260421
CIRCUITS: Final = 700
FOLDS: Final = 5
BINS: Final = 10
GOALS: Final = (("circuit", 0.10, 0.05), ("backend", 0.12, 0.10), ("family", 0.15, 0.10))
"""Groups, the most regret, the most calibration error of the confidence."""


class Judged(NamedTuple):
    """Of every case: the error that was got, the least there was, what was said of it."""

    got: Real
    least: Real
    confidence: Real
    right: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    off: Real
    abstained: NDArray[np.bool_]

    @property
    def regret(self) -> float:
        return float(self.got.mean() / self.least.mean() - 1)


def run(quick: bool) -> list[Row]:
    try:
        known = {each.backend: Snapshot(each) for each in snapshots()}
    except Missing as error:
        return [missing("policy", str(error))]
    found = cases([known[name] for name in MACHINES], SEED, 200 if quick else CIRCUITS)
    rows = [row("cases", len(found.asked), "")]
    for place, method in enumerate(METHODS):
        regret = found.errors[:, place].mean() / found.errors.min(axis=1).mean() - 1
        rows.append(row(f"regret of always {method}", float(regret), ""))
    safe = judge(Rules(), found, np.ones(len(found.asked), bool))
    rows.append(row("regret of the safe rules (no ml-qem)", safe.regret, ""))
    for group, regret_max, ece_max in GOALS:
        rows += _group_rows(group, regret_max, ece_max, found)
    return rows + _speed_rows(_model(found, np.ones(len(found.asked), bool)), found, quick)


def _group_rows(group: str, regret_max: float, ece_max: float, found: Cases) -> list[Row]:
    names: list[str] = getattr(found, group)
    folds = len(set(names)) if group == "family" else FOLDS
    parts = [
        judge(Engine(_model(found, train)), found, test)
        for train, test in splits(names, folds, SEED, apart=found.circuit)
    ]
    whole = Judged(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    what = f"unseen {group}: "
    return [
        row(f"{what}regret", whole.regret, "", at_most=regret_max),
        row(f"{what}calibration error of the confidence", calibration_error(whole), "",
            at_most=ece_max),
        row(f"{what}error of the expected fidelity", float(whole.off.mean()), ""),
        row(f"{what}fidelity above its lower bound", float(whole.inside.mean()), ""),
        row(f"{what}abstained", float(whole.abstained.mean()), ""),
    ]  # fmt: skip


def _speed_rows(model: Model, found: Cases, quick: bool) -> list[Row]:
    """With the model as a file, read again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policy.model")
        save(model, path)
        before = time.process_time()
        read = load(path)
        loaded = time.process_time() - before
        size = path.stat().st_size
    service = Service(Engine(read))
    bodies = [msgspec.json.encode(each) for each in found.asked[: 300 if quick else 3000]]
    for body in bodies[:50]:
        service.predict(body)
    times = []
    for body in bodies:
        before = time.process_time()
        service.predict(body)
        times.append(time.process_time() - before)
    times.sort()
    return [
        row("/predict inside the service, p50, CPU", 1e3 * statistics.median(times), "ms",
            at_most=1.0),
        row("/predict inside the service, p99, CPU", 1e3 * times[int(0.99 * len(times))], "ms"),
        row("a model's file", size / 2**20, "MiB"),
        row("reading it, digest and checks included, CPU", 1e3 * loaded, "ms"),
    ]  # fmt: skip


def _model(found: Cases, train: NDArray[np.bool_]) -> Model:
    places = np.flatnonzero(train)
    return fit(
        [found.asked[each] for each in places],
        found.errors[places],
        METHODS,
        [found.circuit[each] for each in places],
        seed=SEED % 2**31,
        data=found.digest,
        calibrations=found.calibrations,
    )


def judge(engine: Engine | Rules, found: Cases, test: NDArray[np.bool_]) -> Judged:
    """What an engine's advice comes to."""
    places = np.flatnonzero(test)
    advice = engine.recommend([found.asked[each] for each in places])
    errors = found.errors[places]
    chosen = np.array([METHODS.index(each.method) for each in advice])
    got = errors[np.arange(len(places)), chosen]
    least = errors.min(axis=1)
    fidelity = 1 - got / 2
    return Judged(
        got=got,
        least=least,
        confidence=np.array([each.confidence for each in advice]),
        right=got <= least * (1 + NEAR),
        inside=np.array([each.fidelity_low for each in advice]) <= fidelity,
        off=np.abs(np.array([each.expected_fidelity for each in advice]) - fidelity),
        abstained=np.array([each.abstained for each in advice]),
    )


def calibration_error(judged: Judged) -> float:
    """Expected calibration error over bins of equal width (Naeini et al., 2015)."""
    places = np.minimum((judged.confidence * BINS).astype(int), BINS - 1)
    total = 0.0
    for each in range(BINS):
        inside = places == each
        if inside.any():
            gap = judged.confidence[inside].mean() - judged.right[inside].mean()
            total += abs(float(gap)) * int(inside.sum())
    return total / len(places)


def main() -> int:
    """Train on all cases and write a model: `python -m harness.bench.policy_bench FILE`."""
    parser = argparse.ArgumentParser(prog="python -m harness.bench.policy_bench")
    parser.add_argument("file", metavar="FILE", type=Path, help="the model, with FILE.manifest")
    parser.add_argument("--circuits", type=int, default=CIRCUITS)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    try:
        known = {each.backend: Snapshot(each) for each in snapshots()}
    except Missing as error:
        parser.error(str(error))
    found = cases([known[name] for name in MACHINES], options.seed, options.circuits)
    manifest = save(_model(found, np.ones(len(found.asked), bool)), options.file)
    print(
        f"{manifest.about.rows:,} cases of {len(set(found.circuit)):,} circuits: {manifest.sha256}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
