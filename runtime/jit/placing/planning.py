"""The best of several plans for a circuit over a machine's modules, as a program.

Tries sets of linked modules and rooms left for copies, each with one assignment for the whole
circuit and with some that change on the way, writes each plan out, and asks the kernel's own
arithmetic (`qvm/channels.py`, `qvm/cycles.py`) what it costs. The one of fewest pairs is taken, of
those the one of fewest cycles. Nothing here talks to a daemon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from qvm.channels import Brokered, broker, settled
from qvm.cycles import demand
from qvm.machine import Hardware
from qvm.profiles import Profile, parse_profile
from qvm.program import Graph, VerifiedProgram
from qvm.verify import verify
from runtime.jit.circuit import Circuit
from runtime.jit.emit import emit
from runtime.jit.factories.schedule import earliest
from runtime.jit.placing.channels import channelled
from runtime.jit.placing.flow import Flow, flow
from runtime.jit.placing.homes import Homes, in_order, options
from runtime.jit.placing.links import Wanted, waits
from runtime.jit.placing.packets import Serving, pairs_of, serving, shared
from runtime.jit.placing.partition import Partitioner, assignments
from runtime.jit.placing.polish import GATES_MAX, polished
from runtime.jit.placing.room import FAR, Room, clusters, room
from runtime.jit.placing.web import web
from runtime.jit.placing.writing import NoRoom, Written, write

RESERVES: Final = (0, 1, 2, 4)
"""Places that are left for copies in each module."""
SLICES: Final = (2, 4, 8)
"""Into how many parts of alike many gates a circuit is cut, for assignments that change."""
POLISHED_MAX: Final = 1
"""Of these, how many are made better step by step before."""
SLICED_MAX: Final = 2
"""Assignments of the whole that changing ones are tried after."""
SLICED_GATES_MAX: Final = 20_000
CLUSTERS_MAX: Final = 6
ASKED_MAX: Final = 5
"""Fidelities of pairs that are tried for one wish."""
WRITTEN_MAX: Final = 4
"""Plans that are written out for each number of places left for copies, the most promising."""


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """pair_error: the chance that any pair of a shot errs is to be no more; None leaves the
    fidelity of pairs to the kernel. moves: whether qubits may change modules on the way."""

    pair_error: float | None = None
    moves: bool = True


NO_WISHES: Final = Wishes()


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Of one shot, if every guard holds.

    cut: gates on two qubits whose ends lie in different modules. pairs: purified ones consumed;
    copies, direct, moved: what for. raw_pairs: in the mean. pair_error: chance that any of them
    errs, to first order. cycles: as the kernel reckons them; slowed: what made them more than
    operations take, or "". waited: cycles for which a shot stands still for pairs, each link making
    one after the other and keeping one.
    """

    cut: int
    pairs: int
    copies: int
    direct: int
    moved: int
    raw_pairs: float
    pair_error: float
    cycles: int
    slowed: str
    waited: float

    @property
    def key(self) -> tuple[int, int, float]:
        """Smaller is better."""
        return (self.pairs, self.cycles, self.raw_pairs)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """modules: that hold a qubit, with how many. cost: of the plan. in_order: of the naive one,
    which fills modules in the order of qubits and gives every gate between them a pair; None where
    that has no room, finds no links, or is more than the kernel takes. waits: cycles for each link,
    by name. tried: plans that were looked at. asked: fidelity of pairs, 0 for the usual one."""

    modules: dict[str, int]
    cost: Cost
    in_order: Cost | None
    waits: dict[str, float]
    tried: int
    asked: float = 0.0


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """graph: the program. circuit: the same over blocks, without channels. modules: of each of its
    qubits the name of the module."""

    graph: Graph
    circuit: Circuit
    modules: tuple[str, ...]
    report: Report


class NoPlan(ValueError):
    """The circuit cannot be placed on the machine; the sentence says why."""


def place(
    circuit: Circuit,
    hardware: Hardware,
    *,
    profile: str,
    wishes: Wishes = NO_WISHES,
    partitioner: Partitioner | None = None,
) -> Placed:
    """The circuit on the machine. profile: of every qubit. partitioner: who assigns qubits, for
    those who compare. Raises NoPlan, and what `emit` raises."""
    kind = parse_profile(profile)
    if not isinstance(kind, Profile):
        raise NoPlan(kind)
    seen, asked, wanted = flow(circuit), 0.0, wishes.pair_error
    for _ in range(ASKED_MAX):
        space = room(hardware, kind, asked)
        found = _Planner(seen, hardware, space, profile, partitioner, wishes.moves, asked).best()
        cost = found.report.cost
        # Better pairs may want another plan, and that more of them.
        if wanted is None or not cost.pairs or (asked and cost.pair_error <= wanted * (1 + 1e-9)):
            return found
        asked = _asked(wanted, cost.pairs, hardware)
    raise NoPlan(f"no plan was found whose pairs err with {wanted:g} together")


def _asked(pair_error: float, pairs: int, hardware: Hardware) -> float:
    """The fidelity of each of so many pairs that keeps all within the error. Raises NoPlan."""
    asked = 1 - pair_error / pairs
    reached = [settled(asked, "", 0, link) for link in hardware.link]
    if all(made is None for made, _ in reached):
        most = max((reachable for _, reachable in reached), default=0.0)
        raise NoPlan(
            f"{pairs} pairs that err with {pair_error:g} together are of fidelity {asked:.9g} "
            f"each, and the links reach {most:.9g}"
        )
    return max(asked, 0.5)


class _Planner:
    def __init__(
        self,
        seen: Flow,
        hardware: Hardware,
        space: Room,
        profile: str,
        partitioner: Partitioner | None,
        moves: bool,
        asked: float = 0.0,
    ) -> None:
        self.flow, self.hardware, self.room = seen, hardware, space
        self.profile, self.partitioner, self.moves, self.asked = profile, partitioner, moves, asked
        self.web = web(seen)
        self.used = sum(self.web.weights)
        self.tried = 0

    def best(self) -> Placed:
        """The plan of least cost. Raises NoPlan."""
        if self.used <= max(self.room.slots):
            return self._in_one()
        if self.used > sum(self.room.slots):
            raise NoPlan(
                f"{self.used} qubits of {self.profile} are more than the {sum(self.room.slots)} "
                f"that {self.hardware.name} has room for"
            )
        written: list[Placed] = []
        refused: list[str] = []
        times = Counter[int]()
        for _, reserve, homes in sorted(self._candidates(), key=lambda each: each[:2]):
            if times[reserve] < WRITTEN_MAX:
                try:
                    if times[reserve] < POLISHED_MAX:
                        homes = self._polished(homes, reserve)
                    written.append(self._written(homes))
                    times[reserve] += 1
                except (NoRoom, NoPlan) as error:
                    refused.append(str(error))
        if not written:
            why = refused[0] if refused else "no set of linked modules has room for all of them"
            raise NoPlan(f"{self.used} qubits of {self.profile}: {why}")
        best = min(written, key=lambda each: each.report.cost.key)
        report = msgspec.structs.replace(
            best.report, in_order=self._naive(), tried=self.tried, asked=self.asked
        )
        return msgspec.structs.replace(best, report=report)

    def _in_one(self) -> Placed:
        """Where one module has room for everything, nothing takes a pair."""
        module = max(range(len(self.room.slots)), key=lambda at: self.room.slots[at])
        row = (module,) * self.flow.circuit.width
        graph = emit(self.flow.circuit, profile=self.profile)
        program = verify(graph)
        assert isinstance(program, VerifiedProgram), program
        wants = demand(program.summary, self.hardware)
        cost = Cost(
            cut=0, pairs=0, copies=0, direct=0, moved=0, raw_pairs=0.0, pair_error=0.0,
            cycles=wants.cycles, slowed=wants.slowed, waited=0.0,
        )  # fmt: skip
        name = self.room.names[module]
        report = Report(
            modules={name: self.used}, cost=cost, in_order=cost, waits={}, tried=1,
            asked=self.asked,
        )  # fmt: skip
        modules = tuple(self.room.names[each] for each in row)
        return Placed(graph=graph, circuit=self.flow.circuit, modules=modules, report=report)

    def _candidates(self) -> Iterator[tuple[int, int, Homes]]:
        """Homes, each with the pairs that it would take if there were places for all copies, and
        how many places there are in each module at the least."""
        seen: set[Homes] = set()
        for reserve, homes in self._homes():
            self.tried += 1
            if homes not in seen:
                seen.add(homes)
                yield self._pairs(homes), reserve, homes

    def _homes(self) -> Iterator[tuple[int, Homes]]:
        for modules in clusters(self.room, self.used)[:CLUSTERS_MAX]:
            spare = sum(self.room.slots[at] for at in modules) - self.used
            for reserve in RESERVES:
                if reserve * len(modules) > spare:
                    continue
                slots = [max(0, self.room.slots[at] - reserve) for at in modules]
                rows = assignments(
                    self.web, self.room, modules, slots, partitioner=self.partitioner
                )
                for row in rows:
                    yield reserve, Homes((row,))
                if self.moves and len(self.flow.gates) <= SLICED_GATES_MAX:
                    for row in rows[:SLICED_MAX]:
                        for homes in self._sliced(row, modules, slots):
                            yield reserve, homes

    def _sliced(
        self, row: tuple[int, ...], modules: Sequence[int], slots: Sequence[int]
    ) -> Iterator[Homes]:
        """Assignments that begin with this one and change where the gates to come want it."""
        gates = self.flow.gates
        for number in SLICES:
            if len(gates) < 2 * number:
                return
            cuts = [len(gates) * at // number for at in range(number)]
            starts = [0, *(gates[cut].at for cut in cuts[1:])]
            rows: list[tuple[int, ...]] = []
            for at, cut in enumerate(cuts):
                until = cuts[at + 1] if at + 1 < number else len(gates)
                near = rows[-1] if rows else row
                part = web(self.flow, gates[cut:until])
                # The first part is free to begin anywhere: nothing moves before it.
                found = assignments(
                    part,
                    self.room,
                    modules,
                    slots,
                    partitioner=self.partitioner,
                    near=near if rows else None,
                )
                rows.append(found[0])
            yield _joined(rows, starts)

    def _pairs(self, homes: Homes) -> int:
        return pairs_of(self._served(homes), homes, self.room)

    def _polished(self, homes: Homes, reserve: int) -> Homes:
        """With the modules that it uses, for a circuit that is not too large."""
        if len(self.flow.gates) > GATES_MAX:
            return homes
        used = {module for row in homes.rows for module in row}
        slots = {module: self.room.slots[module] - reserve for module in sorted(used)}
        return polished(homes, self.web.weights, slots, self._pairs)

    def _served(self, homes: Homes) -> Serving:
        return shared(serving(self.flow, homes), self.flow, homes, self.room)

    def _written(self, homes: Homes) -> Placed:
        """The plan written out, with its cost. Raises NoRoom, NoPlan."""
        served = self._served(homes)
        made = write(self.flow, homes, served, self.room)
        return self._judged(made, cut=len(served))

    def _judged(self, made: Written, cut: int) -> Placed:
        for patient in (True, False):
            graph = channelled(
                made.circuit,
                made.modules,
                self.hardware,
                self.room,
                profile=self.profile,
                asked=self.asked,
                patient=patient,
            )
            program = verify(graph)
            assert isinstance(program, VerifiedProgram), program
            brokered = broker(program.summary, self.hardware)
            if isinstance(brokered, Brokered):
                break
        else:
            raise NoPlan(str(brokered))
        wants = demand(program.summary, self.hardware, brokered.loads)
        per_link = self._waits(program, brokered, made)
        cost = Cost(
            cut=cut,
            pairs=sum(len(each.nodes) for each in brokered.terms),
            copies=made.copies,
            direct=made.direct,
            moved=made.moved,
            raw_pairs=brokered.raw_pairs,
            pair_error=sum(len(each.nodes) * (1 - each.fidelity) for each in brokered.terms),
            cycles=wants.cycles,
            slowed=wants.slowed,
            waited=sum(per_link.values()),
        )
        names = self.room.names
        metadata = graph.metadata
        assert isinstance(metadata, dict)
        report = Report(
            modules={name: len(vqs) for name, vqs in metadata["placed"].items()},
            cost=cost,
            in_order=None,
            waits={f"{names[one]}-{names[two]}": wait for (one, two), wait in per_link.items()},
            tried=self.tried,
        )
        return Placed(
            graph=graph,
            circuit=made.circuit,
            modules=tuple(names[each] for each in made.modules),
            report=report,
        )

    def _waits(
        self, program: VerifiedProgram, brokered: Brokered, made: Written
    ) -> dict[tuple[int, int], float]:
        """What a shot waits for pairs, by the modules of the plan."""
        begins = earliest(program).begins
        nodes = program.graph.program.nodes
        placed = program.graph.metadata
        assert isinstance(placed, dict)
        at = {name: number for number, name in enumerate(self.room.names)}
        lies = {vq: at[name] for name, vqs in placed["placed"].items() for vq in vqs}
        wanted = []
        for terms in brokered.terms:
            for index in terms.nodes:
                one, two = sorted(lies[vq] for vq in nodes[index].vqs or ())
                due = begins[index] * self.room.distance
                wanted.append((index, Wanted(due, (one, two), terms.cycles)))
        return waits([each for _, each in sorted(wanted)])

    def _naive(self) -> Cost | None:
        """What it costs without a plan: modules filled in order, a pair for every gate."""
        for reserve in RESERVES:  # on the way between modules that no link joins, copies are held
            slots = [max(0, each - reserve) for each in self.room.slots]
            if sum(slots) < self.used:
                return None
            homes = Homes((in_order(self.web.weights, slots),))
            found = options(self.flow, homes)
            if any(self.room.reach(two.module, [one.module]) >= FAR for _, one, two in found):
                return None
            # A run for each gate: no copy serves two.
            alone = {
                gate.at: msgspec.structs.replace(one, end=one.end._replace(run=-1 - gate.at))
                for gate, one, _ in found
            }
            try:
                made = write(self.flow, homes, alone, self.room)
                return self._judged(made, cut=len(found)).report.cost
            except (NoRoom, NoPlan):
                continue
        return None


def _joined(rows: Sequence[tuple[int, ...]], starts: Sequence[int]) -> Homes:
    """Rows that are alike in one."""
    kept = [at for at in range(len(rows)) if at == 0 or rows[at] != rows[at - 1]]
    return Homes(tuple(rows[at] for at in kept), tuple(starts[at] for at in kept))
