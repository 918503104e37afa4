"""Plans beside fixed profiles on the shipped programs, and what they say beside what is measured.

A case is a program of `examples/` or `qvm/examples/` and an error budget. Its plan is held against
every fixed profile: one distance of the surface code, one precision of rotations, with the
optimiser, for all cases alike. The best of these is the one of least machine time that keeps as
many budgets as is asked of plans, by the same predictions, without their interval.

What a plan errs is measured by shots of the real daemon: how much more often than in an ideal run
there is an outcome that the prediction names (`predict.Excess`). The ideal run has the same seed,
and so the same random outcomes but for errors, which leaves little chance in the difference; what
an ideal run should give is exact. Total variation is the largest such difference over all sets of
outcomes; that these are the right ones is part of what is measured.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.bench.rows import Row, row
from harness.bench.tools import daemon, scratch
from qvm.decode import decode_graph
from qvm.program import Graph
from runtime.client import Client
from runtime.client.results import Packed
from runtime.jit.planning.cache import Cache
from runtime.jit.planning.choose import Aims, Considered, NothingFits, Plan, Planner
from runtime.jit.planning.predict import Excess
from runtime.jit.planning.variants import Source, Way, read
from runtime.jit.readout import register_counts

ROOT: Final = Path(__file__).parents[2]
BUDGETS: Final = (0.1, 0.03, 0.01, 0.003, 0.001)
BUDGETS_QUICK: Final = (0.1, 0.01)
EPSILONS: Final = (0.2, 0.1, 0.03, 1e-2, 1e-3, 1e-4)
DISTANCES: Final = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)
SHARE_MIN: Final = 0.95
TIME_MAX: Final = 0.8
FACTOR_MAX: Final = 1.5
HIT_MS_MAX: Final = 1.0
SHOTS_FIRST: Final = 20_000
SHOTS_NAMING: Final = 200_000
SHOTS_MOST: Final = 2_000_000
CPU_S_MAX: Final = 6.0
"""Of workers, for the shots of one case."""
SEEN_WANTED: Final = 1000
"""Shots that come out otherwise than in the ideal run."""
HITS: Final = 200
DECODED: Final = (
    ("ghz.qvm.json", 0.03),
    ("teleportation.qvm.json", 0.03),
    ("repetition_code.qvm.json", 0.1),
    ("reversible_segment.qvm.json", 0.03),
)
"""Programs and budgets that are also measured with syndromes drawn and decoded."""
SHOTS_DECODED: Final = 40_000
SURE: Final = 0.15
"""Relative standard error up to which a measured figure is held against its prediction."""


class Measured(NamedTuple):
    """error: total variation, as measured. spread: its standard error."""

    error: float
    spread: float
    shots: int
    cycles: float


class Case(NamedTuple):
    program: str
    budget: float
    plan: Plan
    measured: Measured

    @property
    def factor(self) -> float:
        """By how much prediction and measurement differ, from 1 on."""
        predicted, seen = self.plan.chosen.prediction.error, self.measured.error
        return max(predicted / seen, seen / predicted) if seen > 0 else math.inf

    @property
    def sure(self) -> bool:
        """Whether enough was seen to say that factor."""
        return 0 < self.measured.spread <= SURE * self.measured.error

    @property
    def followed(self) -> bool:
        """Whether the prediction is one, and no bound."""
        return self.plan.chosen.prediction.how == "exact"


class Fixed(NamedTuple):
    """A profile for all cases. kept: share of budgets. cycles: of a shot of each case."""

    name: str
    kept: float
    cycles: list[int]


def run(quick: bool) -> list[Row]:
    budgets = BUDGETS_QUICK if quick else BUDGETS
    with scratch() as folder, daemon(folder) as socket, Client(socket) as client:
        planner = Planner(client)
        cases, refused = [], []
        for path in programs():
            for budget in budgets:
                choice = planner.plan(path, Aims(error_budget=budget))
                if isinstance(choice, NothingFits):
                    refused.append((path, budget))
                else:
                    seen = measure(client, choice, SHOTS_MOST // (10 if quick else 1))
                    cases.append(Case(path.name, budget, choice, seen))
        fixed = fixed_profiles(planner, cases)
        decoded = decoded_cases(client, planner, SHOTS_DECODED // (4 if quick else 1))
        hits = hit_ms(client, folder)
    _keep(cases)
    return [
        *_shares(cases, refused),
        *_times(cases, fixed),
        *_predictions(cases),
        *_decoded(decoded),
        *_hits(*hits),
    ]


def programs() -> list[Path]:
    """All that are shipped."""
    examples = [*(ROOT / "examples").glob("*.q*"), *(ROOT / "qvm" / "examples").glob("*.json")]
    return sorted(examples, key=lambda path: path.name)


# --- what is measured -----------------------------------------------------------------------------


def measure(client: Client, plan: Plan, shots_most: int, seed: int = 1) -> Measured:
    """What the plan's program errs. Where the prediction names no outcomes that should show it, a
    first run does, of which nothing is counted: then it is what is seen at the least."""
    excess = plan.excess
    if excess is None:
        named = _named(client, plan, SHOTS_NAMING, seed + 2)
        excess = Excess(keys=named, ideal=0, quiet=0, predicted=0, low=0, high=1)
        plan = msgspec.structs.replace(plan, excess=excess)
    first = _differences(client, plan, SHOTS_FIRST, seed)
    each = first.cpu_s / SHOTS_FIRST
    rate = max(first.seen / SHOTS_FIRST, 1 / SHOTS_FIRST, plan.chosen.prediction.noise / 2)
    shots = min(shots_most, int(SEEN_WANTED / rate), int(CPU_S_MAX / each))
    found = first if shots <= SHOTS_FIRST else _differences(client, plan, shots, seed + 1)
    mean = found.more / found.shots
    spread = math.sqrt(max(found.seen, 1) / found.shots - mean**2) / math.sqrt(found.shots)
    # Beside errors of codes, what rotations that are approximated change, which is exact.
    error = mean + excess.quiet - excess.ideal
    return Measured(error, spread, found.shots, found.cycles)


def _named(client: Client, plan: Plan, shots: int, seed: int) -> list[str]:
    """Outcomes that come more often than in the ideal run."""
    noisy = client.run(plan.program, shots=shots, seed=seed).counts
    quiet = client.run(plan.program, shots=shots, seed=seed, noise="ideal").counts
    return [key for key, number in noisy.items() if number > quiet.get(key, 0)]


class _Differences(NamedTuple):
    """Of shots: how many more are among the outcomes named than in the ideal run, and how many are
    in one run and not in the other."""

    shots: int
    more: int
    seen: int
    cpu_s: float
    cycles: float


def decoded_cases(client: Client, planner: Planner, shots: int) -> list[Case]:
    """Plans whose shots decode syndromes: errors that no table of rates has a part in."""
    found = []
    for name, budget in DECODED:
        plan = planner.plan(ROOT / "qvm" / "examples" / name, Aims(error_budget=budget))
        assert isinstance(plan, Plan)
        seen = _differences(client, plan, shots, seed=4, noise="decoded")
        spread = math.sqrt(max(seen.seen, 1)) / shots
        found.append(Case(name, budget, plan, Measured(seen.more / shots, spread, shots, 0)))
    return found


def _differences(
    client: Client, plan: Plan, shots: int, seed: int, noise: str = "calibrated"
) -> _Differences:
    assert plan.excess is not None
    named = set(plan.excess.keys)
    noisy = client.run(
        plan.program, shots=shots, seed=seed, noise=noise, counts=False, samples=True
    )
    quiet = client.run(
        plan.program, shots=shots, seed=seed, noise="ideal", counts=False, samples=True
    )
    one, two = (_among(plan, result.packed, named) for result in (noisy, quiet))
    cpu_ns = noisy.telemetry.cpu_ns - noisy.telemetry.spent_ns.get("compile", 0)
    return _Differences(
        shots=shots,
        more=int(one.sum()) - int(two.sum()),
        seen=int((one != two).sum()),
        cpu_s=cpu_ns * 1e-9,
        cycles=noisy.telemetry.machine_cycles / shots,
    )


def _among(plan: Plan, packed: Packed, named: set[str]) -> NDArray[np.bool_]:
    """Of each shot whether it is among the outcomes named."""
    kind = np.dtype((np.void, packed.rows.shape[1]))
    rows, place = np.unique(np.ascontiguousarray(packed.rows).view(kind), return_inverse=True)
    different = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), -1)
    letters = np.frombuffer(b"0123" + b"?" * 251 + b"-", np.uint8)
    whole = Packed(order=packed.order, values_bytes=packed.values_bytes, rows=different)
    keys = [bytes(each).decode() for each in letters[whole.unpack()]]
    inside = np.array([_keyed(plan, key) in named for key in keys])
    return inside[place.reshape(-1)]


def _keyed(plan: Plan, key: str) -> str:
    if not plan.registers:
        return key
    (word,) = register_counts(_graph(plan.program), {key: 1})
    return word


_graphs: dict[bytes, Graph] = {}


def _graph(program: bytes) -> Graph:
    if program not in _graphs:
        found = decode_graph(program)
        assert isinstance(found, Graph)
        _graphs.clear()
        _graphs[program] = found
    return _graphs[program]


# --- fixed profiles -------------------------------------------------------------------------------


def fixed_profiles(planner: Planner, cases: Sequence[Case]) -> list[Fixed]:
    """Every distance with every precision, over all cases."""
    weighed: dict[tuple[str, float], dict[str, Considered]] = {}
    sources = {path.name: read(path) for path in programs()}
    codes = [f"Surface(d={distance})" for distance in DISTANCES]
    aims = Aims(error_budget=0.5)
    for name in {case.program for case in cases}:
        for epsilon in EPSILONS:
            way = _way(sources[name], epsilon)
            weighed[name, epsilon] = planner.weigh(sources[name], way, codes, aims)
    found = []
    for code in codes:
        for epsilon in EPSILONS:
            rows = [weighed[case.program, epsilon][code] for case in cases]
            kept = [
                each.prediction.error <= case.budget for each, case in zip(rows, cases, strict=True)
            ]
            cycles = [each.cost.cycles for each in rows]
            found.append(Fixed(f"{code}, {epsilon:.0e}", statistics.fmean(kept), cycles))
    return found


def _way(source: Source, epsilon: float) -> Way:
    if source.circuit is None:
        return Way()
    return Way(epsilon=epsilon, optimise=True)


# --- the cache ------------------------------------------------------------------------------------


def hit_ms(client: Client, folder: Path) -> tuple[list[float], list[float]]:
    """Milliseconds, and of CPU time, of plans that were made before, of all programs in turns."""
    cache = Cache(Path(tempfile.mkdtemp(dir=folder)))
    planner = Planner(client, cache=cache)
    quick = [path for path in programs() if path.suffix != ".qasm"] + [
        ROOT / "examples" / "vqe_h2.qasm"
    ]
    aims = Aims(error_budget=0.01)
    for path in quick:
        planner.plan(path, aims)
    found, cpu = [], []
    for _ in range(-(-HITS // len(quick))):
        for path in quick:
            start, busy = time.perf_counter(), time.process_time()
            planner.plan(path, aims)
            cpu.append((time.process_time() - busy) * 1e3)
            found.append((time.perf_counter() - start) * 1e3)
    return found, cpu


# --- rows -----------------------------------------------------------------------------------------


def _shares(cases: Sequence[Case], refused: Sequence[object]) -> list[Row]:
    kept = [case.measured.error <= case.budget for case in cases]
    surely = [case.measured.error + 2 * case.measured.spread <= case.budget for case in cases]
    return [
        row("cases with a plan", len(cases), "cases"),
        row("cases in which nothing fits", len(refused), "cases"),
        row("budget kept, as measured", 100 * statistics.fmean(kept), "% of cases",
            at_least=100 * SHARE_MIN),
        row("budget kept by two standard errors", 100 * statistics.fmean(surely), "% of cases"),
    ]  # fmt: skip


def _times(cases: Sequence[Case], fixed: Sequence[Fixed]) -> list[Row]:
    ours = [case.plan.chosen.cost.cycles for case in cases]
    good = [each for each in fixed if each.kept >= SHARE_MIN]
    if not good:
        return [row("fixed profiles that keep as many budgets", 0, "profiles")]
    best = min(good, key=lambda each: sum(each.cycles))
    gentle = min(good, key=lambda each: statistics.fmean(map(math.log, each.cycles)))
    ratios = [one / other for one, other in zip(ours, gentle.cycles, strict=True)]
    rows = [
        row(f"machine time, all cases together, over that of {best.name}",
            sum(ours) / sum(best.cycles), "", at_most=TIME_MAX),
        row(f"the same as the geometric mean over cases, over {gentle.name}",
            math.exp(statistics.fmean(map(math.log, ratios))), "", at_most=TIME_MAX),
        row(f"budgets that {best.name} keeps", 100 * best.kept, "% of cases"),
        row("fixed profiles looked at", len(fixed), "profiles"),
    ]  # fmt: skip
    for budget in sorted({case.budget for case in cases}, reverse=True):
        at = [place for place, case in enumerate(cases) if case.budget == budget]
        ratio = sum(ours[place] for place in at) / sum(best.cycles[place] for place in at)
        rows.append(row(f"  at a budget of {budget:g}", ratio, ""))
    billed = [case.measured.cycles / case.plan.chosen.cost.cycles for case in cases]
    off = max(abs(math.log(each)) for each in billed)
    return [*rows, row("machine time billed over predicted, farthest from 1", math.exp(off), "")]


def _predictions(cases: Sequence[Case]) -> list[Row]:
    sure = [case for case in cases if case.sure and case.followed]
    bounded = [case for case in cases if case.sure and not case.followed]
    factors = [case.factor for case in sure]
    worst = max(sure, key=lambda case: case.factor)
    apart = [
        abs(case.measured.error - case.plan.chosen.prediction.error) / case.measured.spread
        for case in sure
    ]
    return [
        row(f"followed, and measured to {100 * SURE:.0f} % or better", len(sure), "cases"),
        row(f"predicted / measured, farthest from 1 ({worst.program}, {worst.budget:g})",
            max(factors), "", at_most=FACTOR_MAX),
        row("  in the median", statistics.median(factors), ""),
        row("  apart by standard errors of measurement, root mean square",
            math.sqrt(statistics.fmean(each**2 for each in apart)), ""),
        row("not followed: bounds over what is seen, at most",
            max((case.factor for case in bounded), default=math.nan), ""),
    ]  # fmt: skip


def _decoded(cases: Sequence[Case]) -> list[Row]:
    worst = max(cases, key=lambda case: case.factor)
    spread = worst.measured.spread / worst.measured.error
    title = f"the same where syndromes are decoded ({worst.program}, {worst.budget:g})"
    return [
        row(title, worst.factor, "", at_most=FACTOR_MAX),
        row("  its standard error", spread, ""),
        row("  cases", len(cases), "cases"),
    ]


def _hits(hits: Sequence[float], cpu: Sequence[float]) -> Iterator[Row]:
    yield row("plan from the cache, median", statistics.median(hits), "ms", at_most=HIT_MS_MAX)
    yield row("  99 of 100, CPU time", sorted(cpu)[int(0.99 * len(cpu))], "ms")


def _keep(cases: Sequence[Case]) -> None:
    """Every case on its own, as out/jit.json."""
    told = [
        {
            "program": case.program,
            "budget": case.budget,
            "profile": case.plan.chosen.profile,
            "way": case.plan.chosen.way,
            "cycles": case.plan.chosen.cost.cycles,
            "predicted": msgspec.to_builtins(case.plan.chosen.prediction),
            "measured": case.measured._asdict(),
        }
        for case in cases
    ]
    Path("out").mkdir(exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(told), indent=2)
    (Path("out") / "jit.json").write_bytes(encoded + b"\n")
