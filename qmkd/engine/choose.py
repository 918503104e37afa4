"""Which engine runs which part of a program, and what that will cost: from the parts' own shapes.

Pure and cheap; the kernel asks at every submission, and asks of nothing but the summary. The costs
are rough CPU times, fitted to measurements on one core; they order jobs and bound memory, and no
result depends on them. `engines.py` has the engines themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from qmkd.core import ports
from qmkd.core.ports import Plan
from qmkd.engine.decoding_cost import with_decoding
from qmkd.engine.limits import (
    CLIFFORD_QUBITS_MAX,
    DENSE_BYTES_MAX,
    DENSE_QUBITS_MAX,
    EXACT_AMPLITUDES_MAX,
    EXACT_QUBITS_MAX,
    GROUPS_BYTES_MAX,
    GROUPS_QUBITS_MAX,
    MAGIC_QUBITS_MAX,
    MAGIC_TURNS_MAX,
    MAGIC_WIDTH_MAX,
)
from qvm.parts import Alike, Shape
from qvm.program import Summary
from syscalls.errors import ProgramTooWide
from syscalls.plan import FIGURE_MAX, PLAN_ROWS_MAX, PlanRow
from syscalls.results import SHOT_BLOCK

TABLEAU: Final = "tableau"
FRAMES: Final = "frames"
GROUPS: Final = "groups"
DENSE: Final = "dense"
MAGIC: Final = "magic"
EXACT: Final = "exact"
"""No engine that runs shots: it works out probabilities."""

TABLEAU_SHOTS_MAX: Final = 4
"""Shots up to which a tableau each is cheaper than frames, on programs of TABLEAU_WIDTH_MAX."""
TABLEAU_WIDTH_MAX: Final = 256

# Nanoseconds of one core, fitted to programs of 2 to 1000 qubits and 14 to 200,000 nodes.
SETUP_NS: Final = 300_000
NODE_NS: Final = 4_000  # verifying and lowering
SHOT_NS: Final = 30.0  # counting and hashing
EVENT_SHOT_NS: Final = 0.7  # and on top of it, for each event

SHOT_TABLEAU_NS: Final = 20_000
OPERATION_TABLEAU_NS: Final = 250
MEASURED_TABLEAU_NS: Final = 3_000
MEASURED_SQUARE_NS: Final = 0.5  # and on top of it, times qubits squared

OPERATION_NS: Final = 12_000  # cutting and compiling
KICK_NS: Final = 900  # a qubit that a random outcome may flip
CODE_SHOT_NS: Final = 0.005  # an operation or a kick, per shot

LANE_NS: Final = 1_000  # a state of its own, and on top of it:
LANE_MEASURED_NS: Final = 4.0  # for each measurement and qubit
MEASURED_SHOT_NS: Final = 2.0
BRANCHING_SHOT_NS: Final = 8.0

OPERATION_DENSE_NS: Final = 15_000  # per batch
AMPLITUDE_NS: Final = 0.3
BRANCHES_GUESSED_MAX: Final = 32
MEASURED_DENSE_NS: Final = 10.0  # per shot
MAGIC_LEAST: Final = 13
"""Qubits from which on a part may be cheaper by few active qubits than by a whole vector."""
PRODUCT_NS: Final = 1_000  # pulling a measurement or turn back through one qubit

NODE_EXACT_NS: Final = 100_000
AMPLITUDE_EXACT_NS: Final = 20.0

SLICE_NS_MOST: Final = 100_000_000  # that shots_least may make a slice take

# Memory, fitted likewise, rounded up.
WORKER_BYTES: Final = 64 << 20
NODE_BYTES: Final = 1500  # verified, lowered, cut and compiled
KICK_BYTES: Final = 110
KICKS_BYTES_MAX: Final = 2 << 30
"""What is counted of a guess at the worst: the host keeps workers within their bound anyway."""
OPERATION_DENSE_BYTES: Final = 3000
BATCH_BYTES_MAX: Final = 640 << 20  # rows of a batch, packed and counted
SHOT_BYTES: Final = 64
BATCH_SHOTS_LEAST: Final = 64
EXACT_COPIES: Final = 6
AMPLITUDE_POWER: Final = 4  # of two, in bytes
VECTOR_QUBITS_LEAST: Final = 3  # for which a vector has room


class Cost(NamedTuple):
    """What parts of one shape cost one engine.

    fixed_ns: once. slice_ns: in every slice of shots again. shot_ns: on top of it, per shot. bytes:
    held for each of these parts. least, most: of states, if shots differ as little or as much as
    they can; all parts of an engine together keep them within POOLS, or to the least.
    """

    fixed_ns: float
    slice_ns: float
    shot_ns: float
    bytes: int
    least: int = 0
    most: int = 0

    def times(self, number: int) -> Cost:
        return Cost(
            number * self.fixed_ns,
            number * self.slice_ns,
            number * self.shot_ns,
            number * self.bytes,
            number * self.least,
            number * self.most,
        )


class Rule(NamedTuple):
    """Which parts an engine runs, why, and at what cost for so many shots."""

    engine: str
    suits: Callable[[Shape], bool]
    why: str
    cost: Callable[[Shape, int], Cost]


def pick(shape: Shape) -> str | None:
    """The engine for a part of that shape; None where no engine here takes it."""
    rule = _rule(shape)
    return None if rule is None else rule.engine


def plan(
    summary: Summary, shots: int, noise: str = "ideal", keeps: bool = False
) -> Plan | ProgramTooWide:
    """How to run `shots` shots of a verified program, or why nothing here can.

    shots: or `ports.EXACT`, for its exact probabilities. noise: as engines know it. keeps: of each
    shot what decoders knew.
    """
    if shots == ports.EXACT:
        return _exact(summary)
    found = _plan(summary, shots)
    if isinstance(found, ProgramTooWide):
        return found
    return with_decoding(found, summary, shots, noise, keeps)


def _plan(summary: Summary, shots: int) -> Plan | ProgramTooWide:
    whole = _tableau(summary, shots)
    chosen: list[tuple[Rule, Alike]] = []
    for alike in summary.parts:
        rule = _rule(alike.shape)
        if rule is None:
            return _too_wide(alike.shape) if whole is None else whole
        chosen.append((rule, alike))
    if whole is not None and _few_shots(summary, shots):
        return whole
    costs = [rule.cost(alike.shape, shots).times(alike.number) for rule, alike in chosen]
    taken = {rule.engine for rule, _ in chosen}
    engine = "+".join(each for each in ENGINES if each in taken) or FRAMES
    total = _sum(costs)
    by_engine = {
        each: [cost for (rule, _), cost in zip(chosen, costs, strict=True) if rule.engine == each]
        for each in taken
    }
    held = sum(_held(*each) for each in by_engine.items())
    ns_per_shot = int(SHOT_NS + EVENT_SHOT_NS * len(summary.events) + total.shot_ns)
    return Plan(
        engine=engine,
        why=f"{_shots(shots)}: " + _told(chosen),
        width=summary.peak_logical,
        ns_fixed=_figure(SETUP_NS + NODE_NS * summary.nodes + total.fixed_ns + total.slice_ns),
        ns_per_shot=_figure(ns_per_shot),
        shots_least=_shots_least(total.slice_ns, ns_per_shot),
        bytes_peak=_figure(_program_bytes(summary) + _batch_bytes(summary, shots) + held),
        rows=_rows(chosen, costs, shots),
    )


def _rule(shape: Shape) -> Rule | None:
    return next((rule for rule in RULES if rule.suits(shape)), None)


def _few_shots(summary: Summary, shots: int) -> bool:
    """Whether a tableau for each shot, of the whole program, is the cheapest way."""
    width = summary.peak_logical
    return shots == 1 or (shots <= TABLEAU_SHOTS_MAX and width <= TABLEAU_WIDTH_MAX)


def _tableau(summary: Summary, shots: int) -> Plan | None:
    """The plan to run the whole program on a tableau, shot by shot; None where that cannot be."""
    if not summary.clifford or summary.peak_logical > CLIFFORD_QUBITS_MAX:
        return None
    shape = Shape(summary.peak_logical, summary.nodes, len(summary.events), 0, 0)
    why = f"Clifford operations, {_shots(shots)}: one tableau per shot"
    shot_ns = SHOT_TABLEAU_NS + _reference_ns(shape)
    row = PlanRow(
        engine=TABLEAU,
        parts=1,
        qubits=summary.peak_logical,
        why=why,
        cpu_ns=_figure(shots * shot_ns),
        bytes=3 * _tableau_bytes(shape.qubits),
    )
    return Plan(
        engine=TABLEAU,
        why=why,
        width=summary.peak_logical,
        ns_fixed=_figure(SETUP_NS + NODE_NS * summary.nodes),
        ns_per_shot=_figure(shot_ns),
        bytes_peak=_figure(_program_bytes(summary) + row.bytes),
        rows=(row,),
    )


def _exact(summary: Summary) -> Plan | ProgramTooWide:
    """The plan to follow the whole program in all its ways."""
    width = summary.peak_logical
    if width > EXACT_QUBITS_MAX:
        return ProgramTooWide(
            width=width,
            width_max=EXACT_QUBITS_MAX,
            why="exact probabilities follow the whole program in all its ways",
        )
    measured = sum(alike.shape.measured * alike.number for alike in summary.parts)
    amplitudes = min(EXACT_AMPLITUDES_MAX, 1 << width + min(measured, 32))
    why = "the policy asks for exact probabilities: all ways are followed"
    row = PlanRow(
        engine=EXACT,
        parts=1,
        qubits=width,
        why=why,
        cpu_ns=_figure(AMPLITUDE_EXACT_NS * (2 * amplitudes + (summary.nodes << width))),
        bytes=EXACT_COPIES * amplitudes << AMPLITUDE_POWER,
    )
    return Plan(
        engine=EXACT,
        why=why,
        width=width,
        ns_fixed=_figure(SETUP_NS + (NODE_NS + NODE_EXACT_NS) * summary.nodes + row.cpu_ns),
        ns_per_shot=1,
        bytes_peak=_figure(_program_bytes(summary) + row.bytes),
        rows=(row,),
    )


# --- the engines --------------------------------------------------------------------------------


def _frames(shape: Shape, shots: int) -> Cost:
    kicks = _kicks(shape)
    return Cost(
        fixed_ns=OPERATION_NS * shape.operations + KICK_NS * kicks + _reference_ns(shape),
        slice_ns=0,
        shot_ns=CODE_SHOT_NS * (shape.operations + kicks),
        bytes=_tableau_bytes(shape.qubits) + min(KICKS_BYTES_MAX, KICK_BYTES * kicks),
    )


def _groups(shape: Shape, shots: int) -> Cost:
    """Groups may turn out to be the same and are merged; that cannot be foreseen."""
    lanes = min(shots, 1 << min(shape.branching, shape.measured, 32))
    lane_ns = LANE_NS + LANE_MEASURED_NS * shape.measured * shape.qubits
    shared = lanes < shots
    shot_ns = MEASURED_SHOT_NS * shape.measured + BRANCHING_SHOT_NS * shape.branching
    group = _tableau_bytes(shape.qubits)
    return Cost(
        fixed_ns=OPERATION_NS * shape.operations,
        slice_ns=lanes * lane_ns if shared else 0,
        shot_ns=CODE_SHOT_NS * shape.operations + shot_ns + (0 if shared else lane_ns),
        bytes=0,
        least=3 * min(lanes, BATCH_SHOTS_LEAST) * group,
        most=3 * lanes * group,
    )


def _dense(shape: Shape, shots: int) -> Cost:
    """How many branches there are cannot be foreseen, but vectors are kept within their bound."""
    branches = min(shots, BRANCHES_GUESSED_MAX, 1 << min(shape.branching, shape.measured, 32))
    amplitudes = shape.operations * (1 << shape.qubits)
    vector = 1 << max(shape.qubits, VECTOR_QUBITS_LEAST) + AMPLITUDE_POWER
    return Cost(
        fixed_ns=OPERATION_NS * shape.operations,
        slice_ns=OPERATION_DENSE_NS * shape.operations + AMPLITUDE_NS * branches * amplitudes,
        shot_ns=MEASURED_DENSE_NS * shape.measured,
        bytes=OPERATION_DENSE_BYTES * shape.operations,
        least=2 * vector,
        most=2 * shots * vector,
    )


def _magic(shape: Shape, shots: int) -> Cost:
    """As dense, on active qubits alone, with products that are pulled back while compiling."""
    active = shape._replace(
        qubits=min(active_max(shape), MAGIC_WIDTH_MAX),
        operations=shape.measured + shape.turns + shape.branching,
    )
    dense = _dense(active, shots)
    pulled = active.operations * (shape.qubits + shape.turns)
    return dense._replace(
        fixed_ns=OPERATION_NS * shape.operations + PRODUCT_NS * pulled,
        bytes=dense.bytes + OPERATION_DENSE_BYTES * shape.operations,
    )


def active_max(shape: Shape) -> int:
    """More qubits than these are never outside the states that Clifford gates make. Far fewer may
    be; only compiling tells."""
    return min(shape.qubits, shape.turns + 2 * shape.branching)


def _few_active(shape: Shape) -> bool:
    """Whether `magic` is sure to run it, at a lower price than `dense`."""
    return (
        shape.qubits >= MAGIC_LEAST
        and active_max(shape) < min(shape.qubits, MAGIC_WIDTH_MAX + 1)
        and shape.turns > 0
        and _perhaps_few_active(shape)
    )


def _perhaps_few_active(shape: Shape) -> bool:
    return 0 < shape.turns <= MAGIC_TURNS_MAX and shape.qubits <= MAGIC_QUBITS_MAX


RULES: Final = (
    Rule(
        FRAMES,
        lambda shape: (
            not shape.turns and not shape.branching and shape.qubits <= CLIFFORD_QUBITS_MAX
        ),
        "Clifford operations, guards on Paulis at most: Pauli frames around one reference",
        _frames,
    ),
    Rule(
        GROUPS,
        lambda shape: not shape.turns and shape.qubits <= GROUPS_QUBITS_MAX,
        "Clifford operations, guards on more than Paulis: references by history",
        _groups,
    ),
    Rule(
        MAGIC,
        _few_active,
        "few operations outside the Clifford group for so many qubits: a state vector of those "
        "that they make active",
        _magic,
    ),
    Rule(
        DENSE,
        lambda shape: shape.turns > 0 and shape.qubits <= DENSE_QUBITS_MAX,
        "operations outside the Clifford group: state vectors",
        _dense,
    ),
    Rule(
        MAGIC,
        _perhaps_few_active,
        "too wide for state vectors of all its qubits: of those that operations outside the "
        f"Clifford group make active, if that are never more than {MAGIC_WIDTH_MAX}",
        _magic,
    ),
)
"""In order of preference."""

ENGINES: Final = (FRAMES, GROUPS, DENSE, MAGIC)
"""The names of those that take part are joined in this order."""

POOLS: Final = {
    GROUPS: 3 * GROUPS_BYTES_MAX,
    DENSE: 2 * DENSE_BYTES_MAX,
    MAGIC: 2 * DENSE_BYTES_MAX,
}
"""Bytes to which the states of all parts of an engine keep, copies under way among them."""


def _sum(costs: Iterable[Cost]) -> Cost:
    return Cost(*map(sum, zip(_NOTHING, *costs, strict=True)))


def _held(engine: str, costs: Iterable[Cost]) -> int:
    """What parts of one engine hold together."""
    total = _sum(costs)
    return total.bytes + max(total.least, min(total.most, POOLS.get(engine, 0)))


_NOTHING: Final = Cost(0, 0, 0, 0)


# --- figures ------------------------------------------------------------------------------------


def _reference_ns(shape: Shape) -> float:
    """Running one shot's worth of operations on one tableau."""
    measured = MEASURED_TABLEAU_NS + MEASURED_SQUARE_NS * shape.qubits**2
    return OPERATION_TABLEAU_NS * shape.operations + measured * shape.measured


def _kicks(shape: Shape) -> int:
    """Qubits that random outcomes may flip: at each measurement those that it can have met."""
    meetings = shape.operations // (2 * shape.qubits)  # of each qubit, if every other gate is one
    return shape.measured * min(shape.qubits, 1 << min(meetings, 32))


def _tableau_bytes(qubits: int) -> int:
    return 32 * qubits * -(-qubits // 64)


def _batch_bytes(summary: Summary, shots: int) -> int:
    """Rows for frames and events, packed events, and what counting them takes."""
    bits = 2 * summary.peak_logical + 4 * len(summary.events)
    return min(BATCH_BYTES_MAX, shots * (SHOT_BYTES + bits // 2))


def _program_bytes(summary: Summary) -> int:
    return WORKER_BYTES + NODE_BYTES * summary.nodes


def _shots_least(slice_ns: float, ns_per_shot: int) -> int:
    """Shots for which a slice pays no more for what each slice pays again than for the rest, as
    long as that keeps it within SLICE_NS_MOST."""
    amortised = int(max(0, min(slice_ns, SLICE_NS_MOST - slice_ns)) // ns_per_shot)
    return max(1, amortised // SHOT_BLOCK) * SHOT_BLOCK


def _figure(value: float) -> int:
    return int(min(value, FIGURE_MAX))


# --- words --------------------------------------------------------------------------------------


def _shots(shots: int) -> str:
    return "1 shot" if shots == 1 else f"{shots} shots"


def _told(chosen: list[tuple[Rule, Alike]]) -> str:
    """What the engines are for, each once."""
    reasons = [rule.why for rule in RULES if any(rule is other for other, _ in chosen)]
    return "; ".join(reasons) or "nothing is done to any qubit"


def _too_wide(shape: Shape) -> ProgramTooWide:
    if not shape.turns:
        need = f"a stabilizer tableau of so many takes {_tableau_bytes(shape.qubits) >> 20} MiB"
        if shape.branching:
            need += ", and guards on more than Paulis need one for each history"
        most = GROUPS_QUBITS_MAX if shape.branching else CLIFFORD_QUBITS_MAX
        return ProgramTooWide(width=shape.qubits, width_max=most, why=need)
    return ProgramTooWide(
        width=shape.qubits,
        width_max=DENSE_QUBITS_MAX,
        why=f"among them are {shape.turns} operations outside the Clifford group; beyond "
        f"{MAGIC_TURNS_MAX} of these or {MAGIC_QUBITS_MAX} qubits that takes a state vector of "
        f"2^{shape.qubits} amplitudes, {_power(shape.qubits + AMPLITUDE_POWER)}",
    )


def _power(exponent: int) -> str:
    """2^exponent bytes in words."""
    steps, rest = divmod(exponent, 10)
    return f"{1 << rest} {_UNITS[steps]}" if steps < len(_UNITS) else f"2^{exponent} bytes"


def _rows(chosen: list[tuple[Rule, Alike]], costs: list[Cost], shots: int) -> tuple[PlanRow, ...]:
    """What is planned for which parts, the dearest first; the cheapest taken together by engine."""
    ns = [cost.fixed_ns + cost.slice_ns + shots * cost.shot_ns for cost in costs]
    order = sorted(range(len(costs)), key=lambda at: -ns[at])
    apart = len(order) if len(order) <= PLAN_ROWS_MAX else PLAN_ROWS_MAX - len(ENGINES)
    groups: dict[int | str, list[int]] = {}
    for place, at in enumerate(order):
        groups.setdefault(place if place < apart else chosen[at][0].engine, []).append(at)
    return tuple(
        PlanRow(
            engine=chosen[group[0]][0].engine,
            parts=sum(chosen[at][1].number for at in group),
            qubits=max(chosen[at][1].shape.qubits for at in group),
            why=chosen[group[0]][0].why,
            cpu_ns=_figure(sum(ns[at] for at in group)),
            bytes=_figure(_held(chosen[group[0]][0].engine, [costs[at] for at in group])),
        )
        for group in groups.values()
    )


_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")

assert {rule.engine for rule in RULES} == set(ENGINES)
assert len(ENGINES) < PLAN_ROWS_MAX
