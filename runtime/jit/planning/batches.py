"""Shots by a plan, in batches: after each the plan is held against what came out.

Three things refute a plan: the daemon says that the noise is another now; shots take longer than
was said, for want of T states; outcomes are wrong more or less often than the prediction allows
(`profile.judge`, with a bound on false alarms over the whole run). Then what is known of the
machine is changed accordingly, and what is left of the shots is planned anew. Shots of a batch that
showed more errors, or noisier qubits, than its plan had are run again by the next one; they are
told, but not counted. The same seed, on a machine that behaves the same, gives the same plans and
bits.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from qvm.decode import decode_graph
from qvm.program import Graph
from runtime.client.results import Result
from runtime.jit.circuit import Circuit
from runtime.jit.planning.choose import Aims, Considered, NothingFits, Plan, Planner, worse
from runtime.jit.planning.predict import Cost, Excess, predict, truth_of
from runtime.jit.planning.predict import cost as cost_of
from runtime.jit.planning.profile import (
    STANDS,
    Observed,
    Verdict,
    judge,
    known_answer,
    observed,
)
from runtime.jit.planning.rates import CodeRates
from runtime.jit.planning.variants import Built, in_code
from runtime.jit.readout import register_counts

FIRST: Final = 15
"""The first batch is this part of all shots; each next one twice as large."""
BATCH_LEAST: Final = 128
REPLANS_MAX: Final = 8
SLOWER: Final = 1.01
KNOWN_PART: Final = 0.05
"""Of a batch's machine time, what a program with a known answer may take beside it."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One job. number: from 0; its seed follows from it. plan: by which plan of the run, from 0.
    counted: whether its counts are among those of the run. refuted: why its plan was left."""

    number: int
    plan: int
    seed: int
    job_id: str
    counts: dict[str, int]
    observed: Observed
    verdict: Verdict
    counted: bool = True
    refuted: str = ""


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """counts: of all batches that count, by registers of a circuit or by events. plans: in order.
    unfinished: why it ended before all shots were done, where nothing fits any more."""

    counts: dict[str, int]
    shots: int
    seed: int
    plans: list[Considered]
    batches: list[Batch]
    machine_s: float
    unfinished: NothingFits | None = None


def run(
    planner: Planner,
    source: Path | str | bytes | Graph | Circuit,
    aims: Aims,
    *,
    seed: int = 0,
    tell: Callable[[Batch], None] | None = None,
    policy: dict[str, Any] | None = None,
    **reading: Any,
) -> Ran | NothingFits:
    """Plan a program, and run `aims.shots` shots of it by its plan.

    tell: hears of each batch. policy: of the jobs, beside shots and seed. Raises what
    `Planner.plan` and `Job.wait` raise, and NotNoisy.
    """
    choice = planner.plan(source, aims, **reading)
    if isinstance(choice, NothingFits):
        return choice
    going = _Going(planner, choice, aims, seed, policy or {})
    while (left := aims.shots - going.shots) > 0 and going.unfinished is None:
        batch = going.next(left)
        if tell is not None:
            tell(batch)
        if batch.refuted:
            going.replan(source, reading)
    return going.ran()


class _Going:
    """A run under way. looks: at its outcomes, so far. factor: as `Planner.plan` has it."""

    def __init__(
        self, planner: Planner, plan: Plan, aims: Aims, seed: int, policy: dict[str, Any]
    ) -> None:
        self.planner, self.plan, self.aims = planner, plan, aims
        self.seed, self.policy = seed, policy
        self.batches: list[Batch] = []
        self.plans = [plan.chosen]
        self.counts: Counter[str] = Counter()
        self.shots = self.looks = self.among = self.of = 0
        self.factor = 1.0
        self.spent_s = 0.0
        self.size = max(BATCH_LEAST, aims.shots // FIRST)
        self.unfinished: NothingFits | None = None
        self._known: tuple[Built, Excess, Cost] | None = None

    def next(self, left: int) -> Batch:
        """Run one more batch and hold its plan against it."""
        # What would leave less than a batch behind takes it along.
        shots = left if left < self.size + BATCH_LEAST else self.size
        self.size *= 2
        seed = seed_of(self.seed, len(self.batches))
        result = self.planner.client.run(self.plan.program, shots=shots, seed=seed, **self.policy)
        counts = _counts(self.plan, result)
        seen = observed(result, self.plan.chosen.cost, counts, self.plan.excess)
        if self.plan.excess is None:
            seen = self._beside(seen, shots, seed)
        cycle_s = self.planner.machine.hardware.cycle_ns * 1e-9
        self.spent_s += seen.cycles * shots * cycle_s
        verdict, why, counted = self._held(seen)
        if counted:
            self.counts.update(counts)
            self.shots += shots
        batch = Batch(
            number=len(self.batches),
            plan=len(self.plans) - 1,
            seed=seed,
            job_id=result.job_id,
            counts=counts,
            observed=seen,
            verdict=verdict,
            counted=counted,
            refuted=why,
        )
        self.batches.append(batch)
        return batch

    def replan(self, source: Any, reading: dict[str, Any]) -> None:
        """A plan for what is left, with what was learnt."""
        left = self.aims.shots - self.shots
        if left <= 0:
            return
        deadline = self.aims.deadline_s
        if deadline is not None:
            deadline = max(1e-9, deadline - self.spent_s)
        aims = msgspec.structs.replace(self.aims, shots=left, deadline_s=deadline)
        choice = self.planner.plan(source, aims, factor=self.factor, **reading)
        if isinstance(choice, NothingFits):
            self.unfinished = choice
        elif len(self.plans) > REPLANS_MAX:
            self.unfinished = NothingFits(
                nearest=choice.chosen, considered=[], left_out={}, aims=aims, machine=choice.machine
            )
        else:
            self.plan = choice
            self.plans.append(choice.chosen)
            self.among = self.of = 0
            self.size = max(BATCH_LEAST, left // FIRST)
            self._known = None

    def ran(self) -> Ran:
        return Ran(
            counts=dict(sorted(self.counts.items())),
            shots=self.shots,
            seed=self.seed,
            plans=self.plans,
            batches=self.batches,
            machine_s=self.spent_s,
            unfinished=self.unfinished,
        )

    def _held(self, seen: Observed) -> tuple[Verdict, str, bool]:
        """The plan against a batch: the verdict, why the plan is left, whether the batch counts."""
        planner, cost = self.planner, self.plan.chosen.cost
        if (seen.noise, seen.calibration) != _noise(planner):
            why = f"the noise is {seen.noise} now, not {planner.machine.physical_noise}"
            stronger = _strength(seen.noise) > _strength(planner.machine.physical_noise)
            planner.machine = planner.machine.noisier(seen.noise, seen.calibration)
            self.factor = 1.0
            return STANDS, why, not stronger
        verdict = STANDS
        excess = self.plan.excess if self._known is None else self._known[1]
        if excess is not None and seen.among is not None:
            self.among, self.of = self.among + seen.among, self.of + seen.of
            verdict = judge(excess, self.among, self.of, self.looks)
            self.looks += 1
        if verdict.why:
            self.factor = float(f"{self.factor * verdict.factor:.2g}")
            return verdict, verdict.why, verdict.factor < 1
        if seen.cycles > SLOWER * cost.cycles and seen.slowed_by in ("T states", "decoding"):
            why = f"a shot takes {seen.cycles:,.0f} cycles, not {cost.cycles:,}: {seen.slowed_by}"
            if seen.slowed_by == "decoding":
                kept_up = cost.blocks * cost.own_cycles / seen.cycles
                planner.machine = planner.machine.crowded(round(kept_up))
            else:
                planner.machine = planner.machine.slower(seen.cycles / max(1, cost.t_states))
            return verdict, why, True
        return verdict, "", True

    def _beside(self, seen: Observed, shots: int, seed: int) -> Observed:
        """With what a program of known answer shows in the same code."""
        if self._known is None:
            self._known = self._known_in(self.plan.chosen.profile)
        if self._known is None:
            return seen
        program, excess, cost = self._known
        affordable = int(KNOWN_PART * shots * seen.cycles / cost.cycles)
        if affordable < 1:
            return seen
        graph = in_code(program.graph, self.plan.chosen.profile)
        result = self.planner.client.run(graph, shots=affordable, seed=seed, **self.policy)
        among = sum(result.counts.get(key, 0) for key in excess.keys)
        self.spent_s += (
            result.telemetry.machine_cycles * self.planner.machine.hardware.cycle_ns * 1e-9
        )
        return msgspec.structs.replace(seen, among=among, of=affordable)

    def _known_in(self, profile: str) -> tuple[Built, Excess, Cost] | None:
        program = known_answer()
        rates = self.planner.known([profile])[profile]
        hardware = self.planner.machine.hardware
        needs = cost_of(program, profile, hardware)
        if isinstance(needs, str) or not isinstance(rates, CodeRates):
            return None
        scaled = worse(rates, self.factor) if self.factor != 1 else rates
        found = predict(program, {profile: scaled}, hardware, truth_of(program))[profile]
        return None if found.excess is None else (program, found.excess, needs)


def seed_of(seed: int, number: int) -> int:
    """The seed of a batch, from that of the run."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:8], "little")


def _counts(plan: Plan, result: Result) -> dict[str, int]:
    """By registers of a circuit, else by events."""
    if not plan.registers:
        return dict(result.counts)
    graph = decode_graph(plan.program)
    assert isinstance(graph, Graph), "made by us"
    return register_counts(graph, result.counts)


def _noise(planner: Planner) -> tuple[str, str]:
    return planner.machine.physical_noise, planner.machine.calibration


def _strength(noise: str) -> float:
    return float(noise.rpartition(" ")[2])
