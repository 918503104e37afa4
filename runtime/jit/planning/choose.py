"""Which variant a program is run as: the one of least machine time that keeps the user's wishes.

`Planner` makes the variants, has them weighed and takes one; what it took and why not another is
part of its answer, and so is that nothing fits, with what comes nearest. Plans are kept
(`cache.py`). Running by one is `batches.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from qvm.machine import Hardware
from qvm.program import Graph
from runtime.client import Client, errors
from runtime.jit.circuit import Circuit
from runtime.jit.planning import rates as numerics
from runtime.jit.planning.cache import Cache
from runtime.jit.planning.machine import Machine, look
from runtime.jit.planning.predict import (
    Cost,
    Excess,
    Predicted,
    Prediction,
    cost,
    enough,
    predict,
    truth_of,
)
from runtime.jit.planning.rates import CodeRates
from runtime.jit.planning.variants import (
    LARGE,
    OTHERS,
    SURFACE,
    Built,
    NotPlannable,
    Source,
    Way,
    built,
    ideal,
    in_code,
    raw_of,
    read,
    rounded,
    ways,
)

CODES_MAX: Final = 6
"""Distances of the surface code that are looked at for each way of compiling."""
PAIRS_SHARE: Final = 0.2
"""Of the error budget, what Bell pairs may take, where circuits are placed."""
FENCES: Final = (256, 64, 16)
"""Steps between fences that are tried where somebody wants fences."""
FORMAT: Final = 1
NS: Final = 1e-9


class Aims(msgspec.Struct, frozen=True, kw_only=True):
    """What the user wants. error_budget: total variation, at most. shots. deadline_s: of machine
    time, for all shots. physical_qubits, logical_qubits: at most, beside the session's quota.
    unfenced: cycles between two fences, at most. placed: circuits are laid over the machine's
    modules so that all between them goes through Bell pairs. codes: that may be used, such as
    `Surface(d=5)`; empty for all that are known."""

    error_budget: float
    shots: int = 1024
    deadline_s: float | None = None
    physical_qubits: int | None = None
    logical_qubits: int | None = None
    unfenced: int | None = None
    placed: bool = False
    codes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.error_budget < 1:
            raise ValueError(f"an error budget is between 0 and 1, not {self.error_budget}")
        if self.shots < 1:
            raise ValueError(f"there is one shot at least, not {self.shots}")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise ValueError(f"a deadline is some seconds away, not {self.deadline_s}")


class Considered(msgspec.Struct, frozen=True, kw_only=True):
    """A variant, and why it was not taken; empty for the one that was. machine_s: all shots."""

    way: str
    profile: str
    prediction: Prediction
    cost: Cost
    machine_s: float
    why_not: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True, tag="plan"):
    """program: the chosen variant as JSON. registers: whether it tells registers of a circuit.
    excess: what shots are held against, where the program was followed. left_out: codes that were
    not weighed, with the reason. machine: names what was known of it."""

    chosen: Considered
    program: bytes
    registers: bool
    excess: Excess | None
    considered: list[Considered]
    left_out: dict[str, str]
    aims: Aims
    machine: str
    digest: str


class NothingFits(msgspec.Struct, frozen=True, kw_only=True, tag="nothing_fits"):
    """No variant keeps all wishes. nearest: the one that misses them by the least factor; None
    where no code can be used at all."""

    nearest: Considered | None
    considered: list[Considered]
    left_out: dict[str, str]
    aims: Aims
    machine: str

    def __str__(self) -> str:
        if self.nearest is None:
            reasons = "; ".join(f"{code}: {why}" for code, why in list(self.left_out.items())[:3])
            return f"No code can be used: {reasons}."
        near = self.nearest
        return f"Nothing keeps all wishes. Nearest is {near.profile}, {near.way}: {near.why_not}."


Choice = Plan | NothingFits


_Weighed = tuple[Considered, Built, Predicted]


class Planner:
    """Plans programs for one machine, over one client.

    hardware: of the machine, where it is known; else a probe tells what it can. machine: in place
    of any look at the daemon. cache: None keeps nothing. factor: by how many times more errors are
    seen than are predicted, as re-planning found (`batches.py`).

    What was compiled is kept for as long as the planner lives.
    """

    def __init__(
        self,
        client: Client,
        *,
        hardware: Hardware | None = None,
        machine: Machine | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.client = client
        self.machine = look(client, hardware) if machine is None else machine
        self.cache = cache
        self._built: dict[tuple[bytes, Way], Built] = {}
        self._truth: dict[bytes, dict[str, float] | None] = {}
        self._rates: dict[str, numerics.Known] = {}

    def plan(
        self,
        source: Path | str | bytes | Graph | Circuit,
        aims: Aims,
        *,
        factor: float = 1.0,
        **reading: Any,
    ) -> Choice:
        """The plan for a program, from the cache where it was made before.

        factor: all errors of codes count so many times. reading: options of the front end. Raises
        Unsupported, NotPlannable, NoRates, QmkError and OSError.
        """
        key = plan_key(source, aims, self.machine, factor, reading)
        kept: Choice | None = None if self.cache is None else self.cache.get(key)
        if kept is not None:
            return kept
        choice = self._made(read(source, **reading), aims, factor, key)
        if self.cache is not None:
            self.cache.put(key, choice)
        return choice

    def weigh(
        self, source: Source, way: Way, codes: Sequence[str], aims: Aims
    ) -> dict[str, Considered]:
        """A program made in one way, in each of these codes, whatever it errs; by code. What cannot
        run at all is left out."""
        known = self.known(codes)
        rates = {name: found for name in codes if isinstance(found := known[name], CodeRates)}
        made = self._compiled(source, way)
        weighed = self._weighed(source, made, list(rates), aims, rates, {})
        return {each.profile: each for each, _, _ in weighed}

    def known(self, profiles: Iterable[str]) -> numerics.Known:
        """What is known of codes under the machine's noise, asked once."""
        noise = self.machine.physical_noise
        have = dict(self._rates.get(noise, {}))
        missing = [each for each in profiles if each not in have]
        if missing:
            have |= numerics.ask(missing, noise)
            self._rates[noise] = have
        return have

    def _made(self, source: Source, aims: Aims, factor: float, key: str) -> Choice:
        asked = aims.codes or (*SURFACE, *OTHERS)
        known = self.known(asked)
        left_out = {name: why for name in asked if isinstance(why := known[name], str)}
        codes = {
            name: found if factor == 1 else worse(found, factor)
            for name in asked
            if isinstance(found := known[name], CodeRates)
        }
        weighed: list[_Weighed] = []
        fences = (None,) if aims.unfenced is None else (None, *FENCES)
        for way in ways(source, aims.error_budget, fences):
            of_way = self._of_placed if aims.placed and source.circuit else self._of_way
            weighed += of_way(source, way, aims, codes, left_out)
        return self._chosen(weighed, aims, left_out, key)

    def _of_placed(
        self,
        source: Source,
        way: Way,
        aims: Aims,
        codes: Mapping[str, CodeRates],
        left_out: dict[str, str],
    ) -> list[_Weighed]:
        """The same over the modules of the machine, anew for each distance."""
        made = self._compiled(source, way)
        surface = [name for name in codes if aims.codes or name in SURFACE]
        if surface and not aims.codes:
            end = enough(made, surface, codes, aims.error_budget / 2) + 1
            surface = surface[max(0, end - CODES_MAX) : end]
        found = []
        for name in surface:
            pair_error = rounded(aims.error_budget * PAIRS_SHARE)
            there = msgspec.structs.replace(way, placed=name, pair_error=pair_error)
            try:
                placed = self._compiled(source, there)
            except NotPlannable as error:
                left_out[f"{name}, {there}"] = str(error)
            else:
                found += self._weighed(source, placed, [name], aims, codes, left_out)
        return found

    def _of_way(
        self,
        source: Source,
        way: Way,
        aims: Aims,
        codes: Mapping[str, CodeRates],
        left_out: dict[str, str],
    ) -> list[_Weighed]:
        made = self._compiled(source, way)
        surface = [name for name in codes if name in SURFACE]
        others = [name for name in codes if name not in SURFACE]
        if not surface or aims.codes:
            return self._weighed(source, made, (*surface, *others), aims, codes, left_out)
        end = enough(made, surface, codes, aims.error_budget / 2) + 1
        if len(made.lowered.steps) > LARGE:
            return self._weighed(source, made, surface[end - 1 : end + 1], aims, codes, left_out)
        start = max(0, end - CODES_MAX)
        few = (*surface[start:end], *others)
        found = self._weighed(source, made, few, aims, codes, left_out)
        # What is likely may be far below what a light cone says: look further down while all fit.
        while start and found and not self._against(found[0][0], aims):
            start, end = max(0, start - CODES_MAX), start
            found = self._weighed(source, made, surface[start:end], aims, codes, left_out) + found
        return found

    def _weighed(
        self,
        source: Source,
        made: Built,
        names: Sequence[str],
        aims: Aims,
        codes: Mapping[str, CodeRates],
        left_out: dict[str, str],
    ) -> list[_Weighed]:
        """The program in each of these codes; what cannot be is left out."""
        costs: dict[str, Cost] = {}
        for name in names:
            needs = cost(made, name, self.machine.hardware)
            if isinstance(needs, str):
                left_out[f"{name}, {made.way}"] = needs
            else:
                costs[name] = needs
        chosen = {name: codes[name] for name in costs}
        weighed = predict(made, chosen, self.machine.hardware, self._right(source))
        seconds = self.machine.hardware.cycle_ns * NS * aims.shots
        return [
            (
                Considered(
                    way=str(made.way),
                    profile=name,
                    prediction=found.prediction,
                    cost=costs[name],
                    machine_s=costs[name].cycles * seconds,
                ),
                made,
                found,
            )
            for name, found in weighed.items()
        ]

    def _chosen(
        self,
        found: Sequence[_Weighed],
        aims: Aims,
        left_out: dict[str, str],
        key: str,
    ) -> Choice:
        ranked = sorted(found, key=lambda each: _rank(each[0]))
        told: list[Considered] = []
        taken: _Weighed | None = None
        for each, made, predicted in ranked:
            why = self._against(each, aims)
            if not why and taken is None:
                why = self._refused(made, each.profile)
                if not why:
                    taken = each, made, predicted
            elif not why and taken is not None:
                why = _dearer(each, taken[0])
            told.append(msgspec.structs.replace(each, why_not=why))
        if taken is None:
            near = min(told, key=lambda each: self._miss(each, aims), default=None)
            return NothingFits(
                nearest=near,
                considered=told,
                left_out=left_out,
                aims=aims,
                machine=self.machine.digest,
            )
        each, made, predicted = taken
        return Plan(
            chosen=each,
            program=msgspec.json.encode(in_code(made.graph, each.profile)),
            registers=made.registers,
            excess=predicted.excess,
            considered=told,
            left_out=left_out,
            aims=aims,
            machine=self.machine.digest,
            digest=key,
        )

    def _limits(self, each: Considered, aims: Aims) -> list[tuple[str, float, float]]:
        """What is bounded: in words, how much there is, and the most there may be."""
        quota, cost = self.machine.quota, each.cost
        spare = sum(self.machine.hardware.spare)
        physical = min(quota.max_physical_qubits, spare, aims.physical_qubits or spare)
        logical = min(quota.max_logical_qubits, aims.logical_qubits or quota.max_logical_qubits)
        found = [
            ("an error of up to {:.2g} above the budget of {:.2g}", each.prediction.high,
             aims.error_budget),
            ("{:,.0f} physical qubits of {:,.0f} there are", cost.physical, physical),
            ("{:,.0f} logical qubits of {:,.0f} allowed", cost.logical, logical),
        ]  # fmt: skip
        if aims.deadline_s is not None:
            text = "{:.3g} s of machine time after the deadline of {:.3g} s"
            found.append((text, each.machine_s, aims.deadline_s))
        if aims.unfenced is not None:
            text = "{:,.0f} cycles between fences, more than {:,.0f}"
            found.append((text, cost.unfenced, aims.unfenced))
        return found

    def _against(self, each: Considered, aims: Aims) -> str:
        """Which wishes a variant breaks; empty where it keeps all."""
        broken = [
            text.format(has, most) for text, has, most in self._limits(each, aims) if has > most
        ]
        return "; ".join(broken)

    def _miss(self, each: Considered, aims: Aims) -> float:
        """By which factor a variant misses what it misses most."""
        return max(has / most for _, has, most in self._limits(each, aims))

    def _refused(self, made: Built, profile: str) -> str:
        """What the kernel has against it; it knows more of the machine than anybody else."""
        try:
            self.client.plan(in_code(made.graph, profile))
        except errors.Refused as refusal:
            return f"the kernel refuses it: {refusal}".rstrip(".")
        return ""

    def _compiled(self, source: Source, way: Way) -> Built:
        key = (source.key, way)
        if key not in self._built:
            self._built[key] = built(source, way, self.machine.hardware)
        return self._built[key]

    def _right(self, source: Source) -> dict[str, float] | None:
        """What the program should give."""
        if source.key not in self._truth:
            self._truth[source.key] = truth_of(ideal(source))
        return self._truth[source.key]


def worse(found: CodeRates, factor: float) -> CodeRates:
    """Rates that are so many times as large."""

    def times(pair: tuple[float, float]) -> tuple[float, float]:
        x, z = (min(0.5, each * factor) for each in pair)
        return x, z

    return msgspec.structs.replace(
        found,
        memory=times(found.memory),
        memory_low=times(found.memory_low),
        memory_high=times(found.memory_high),
        ends=times(found.ends),
        extra={
            op: [(pauli, min(0.25, rate * factor)) for pauli, rate in terms]
            for op, terms in found.extra.items()
        },
        magic=min(0.5, found.magic * factor),
        magic_high=min(0.5, found.magic_high * factor),
    )


def plan_key(
    source: Path | str | bytes | Graph | Circuit,
    aims: Aims,
    machine: Machine,
    factor: float,
    reading: Mapping[str, Any],
) -> str:
    """Names a plan by all that it follows from."""
    name = (
        Path(source).suffix if isinstance(source, (str, Path)) and "\n" not in str(source) else ""
    )
    told = (FORMAT, name, aims, machine.digest, factor, sorted(reading.items(), key=str))
    digest = hashlib.sha256(msgspec.json.encode(told, enc_hook=repr))
    digest.update(hashlib.sha256(raw_of(source)).digest())
    return digest.hexdigest()


def _rank(each: Considered) -> tuple[float, int, float]:
    """Least machine time first; then fewest qubits, then least error."""
    return (each.machine_s, each.cost.physical, each.prediction.error)


def _dearer(each: Considered, taken: Considered) -> str:
    if each.machine_s > taken.machine_s:
        return f"{each.machine_s / taken.machine_s:.2f} times the machine time"
    if each.cost.physical > taken.cost.physical:
        return f"as long, on {each.cost.physical / taken.cost.physical:.2f} times the qubits"
    return "as long, on as many qubits, with more errors"


__all__ = ["Aims", "Choice", "Considered", "NotPlannable", "NothingFits", "Plan", "Planner"]
