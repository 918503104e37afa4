"""Plans are equivalent to what they are made from, and cost what they say.

Outcomes are compared branch by branch with two simulators that share nothing with the planner: one
for circuits (`tests/branches.py`), and the kernel's exact engine for the programs with channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qmkd.engine.exact import exact
from qmkd.engine.noise import IDEAL as NOISELESS
from qmkd.engine.run import prepare
from qvm.channels import Brokered, broker
from qvm.cycles import demand
from qvm.homes import homes as homes_of
from qvm.machine import Factory, Hardware, Link, Module
from qvm.profiles import Profile, parse_profile
from qvm.program import VerifiedProgram
from qvm.verify import verify
from runtime.jit.angles import angle
from runtime.jit.circuit import Circuit, Operation, Register, bit_is, check
from runtime.jit.placing.flow import flow
from runtime.jit.placing.homes import Homes, options
from runtime.jit.placing.links import Wanted, waits
from runtime.jit.placing.packets import serving, shared
from runtime.jit.placing.planning import NoPlan, Placed, Wishes, place
from runtime.jit.placing.room import FAR, room
from runtime.jit.placing.writing import NoRoom, write
from runtime.jit.readout import register_counts
from tests.branches import distribution as of_circuit

pytest.importorskip("pymetis", reason="partitions")

IDEAL = "logical:ideal"


def machine(
    *qubits: int, ring: bool = True, cycles: float = 10, lifetime: float | None = None
) -> Hardware:
    """Modules of so many qubits in a ring or a line."""
    names = [f"m{at}" for at in range(len(qubits))]
    ends = list(pairwise(names))
    if ring and len(names) > 2:
        ends.append((names[-1], names[0]))
    return Hardware(
        name="made",
        module=tuple(Module(name=n, qubits=q) for n, q in zip(names, qubits, strict=True)),
        link=tuple(
            Link(between=each, cycles=cycles, fidelity=0.97, lifetime=lifetime) for each in ends
        ),
    )


def circuit(operations: Sequence[Operation], width: int, bits: int = 0) -> Circuit:
    """With every qubit measured at the end, behind the `bits` that operations write."""
    read = [Operation("measure", (q,), (), (bits + q,)) for q in range(width)]
    registers = (Register("early", bits), Register("c", width)) if bits else (Register("c", width),)
    made = Circuit(qubits=(Register("q", width),), bits=registers, operations=(*operations, *read))
    check(made)
    return made


def profile_of(text: str) -> Profile:
    found = parse_profile(text)
    assert isinstance(found, Profile)
    return found


def cx(one: int, two: int) -> Operation:
    return Operation("cx", (one, two))


def verified(placed: Placed) -> VerifiedProgram:
    found = verify(placed.graph)
    assert isinstance(found, VerifiedProgram), found
    return found


def agree(one: dict[str, float], other: dict[str, float]) -> None:
    keys = {key for each in (one, other) for key, chance in each.items() if chance > 1e-9}
    for key in keys:
        assert one.get(key, 0.0) == pytest.approx(other.get(key, 0.0), abs=1e-9), key


def followed(made: Circuit) -> bool:
    """Whether it is quickly followed branch by branch."""
    return sum(each.name in ("measure", "measure_x", "reset") for each in made.operations) <= 11


def same(source: Circuit, placed: Placed) -> None:
    """The circuit, the one over blocks and the program do the same."""
    expected = of_circuit(source)
    if followed(placed.circuit):
        agree(expected, of_circuit(placed.circuit))
    program = prepare(msgspec.json.encode(placed.graph))
    agree(expected, register_counts(placed.graph, exact(program, NOISELESS).probabilities))


def inside(placed: Placed, hardware: Hardware) -> None:
    """Every operation but those of channels stays in a module, and modules hold what they can."""
    metadata = placed.graph.metadata
    assert isinstance(metadata, dict)
    if "placed" not in metadata:
        return
    lies = {vq: name for name, vqs in metadata["placed"].items() for vq in vqs}
    links = {frozenset(each.between) for each in hardware.link}
    for node in placed.graph.program.nodes:
        modules = {lies[vq] for vq in node.vqs or ()}
        if node.op in ("OPEN_CHAN", "USE_CHAN"):
            assert frozenset(modules) in links
        elif node.op not in ("FENCE_EPOCH", "BAR_REGION"):
            assert len(modules) <= 1, node
    sizes = {each.name: each.qubits for each in hardware.module}
    assert all(len(vqs) <= sizes[name] for name, vqs in metadata["placed"].items())


NAMES = ("h", "t", "s", "x", "y", "z", "rx", "rz", "cx", "cz", "swap", "ccx", "measure", "reset")
SIZES = {"cx": 2, "cz": 2, "swap": 2, "ccx": 3}


@st.composite
def circuits(draw: st.DrawFn, width: int = 4) -> Circuit:
    """Small ones with measurements on the way, and conditions on what was measured."""
    made: list[Operation] = []
    bits = 0
    for _ in range(draw(st.integers(1, 14))):
        name = draw(st.sampled_from(NAMES))
        order = draw(st.permutations(range(width)))
        qubits = tuple(order[: SIZES.get(name, 1)])
        condition = None
        if bits and name not in ("measure", "swap") and draw(st.booleans()):
            condition = bit_is(draw(st.integers(0, bits - 1)), draw(st.integers(0, 1)))
        if name == "measure":
            if bits < 2:
                made.append(Operation(name, qubits, (), (bits,)))
                bits += 1
            continue
        angles = (angle(0.7),) if name.startswith("r") and name != "reset" else ()
        made.append(Operation(name, qubits, angles, (), condition))
    return circuit(made, width, bits)


MACHINES = (machine(3, 3), machine(2, 2, 2), machine(2, 3, 2, ring=False), machine(4, 2))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(circuits(), st.sampled_from(MACHINES))
def test_a_plan_does_what_the_circuit_does(source: Circuit, hardware: Hardware) -> None:
    try:
        placed = place(source, hardware, profile=IDEAL)
    except NoPlan as error:
        # Modules that are full and not linked leave no way between them.
        assert "no place for a copy" in str(error)  # noqa: PT017
        return
    same(source, placed)
    inside(placed, hardware)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(circuits(width=3), st.data())
def test_any_homes_and_any_changes_of_them_do_what_the_circuit_does(
    source: Circuit, data: st.DataObject
) -> None:
    hardware = machine(3, 3, 3, ring=False)
    seen = flow(source)
    module = st.tuples(*[st.integers(0, 2)] * 3)
    count = len(seen.circuit.operations)
    starts = sorted({0, *data.draw(st.lists(st.integers(1, count), max_size=3))})
    homes = Homes(tuple(data.draw(module) for _ in starts), tuple(starts))
    space = room(hardware, profile_of(IDEAL))
    try:
        made = write(seen, homes, serving(seen, homes), space)
    except NoRoom:  # three qubits in a module of three leave no place for what passes through
        return
    assume(followed(made.circuit))
    agree(of_circuit(source), of_circuit(made.circuit))
    lies = made.modules
    crossing = sum(
        len({lies[q] for q in each.qubits}) > 1
        for each in made.circuit.operations
        if each.name in ("cx", "swap")
    )
    assert crossing == made.pairs


def h(qubit: int) -> Operation:
    return Operation("h", (qubit,))


FAN = [h(0), cx(0, 2), Operation("t", (2,)), cx(0, 3), cx(0, 2), Operation("t", (0,)), cx(0, 3)]
"""One qubit controls others, with nothing between that a copy of it would not stand."""


def test_gates_that_one_qubit_controls_share_a_pair() -> None:
    # Two pairs of qubits that are joined closely, so that the fan lies between modules.
    close = [cx(0, 1), h(1), cx(0, 1), h(0)] * 3 + [cx(2, 3), h(3), cx(2, 3), h(2)] * 3
    source = circuit([*close, *FAN], 4)
    hardware = machine(3, 3)
    placed = place(source, hardware, profile=IDEAL)
    cost = placed.report.cost
    assert (cost.pairs, cost.copies, cost.cut) == (1, 1, 4)
    assert placed.report.in_order is not None
    # In order, the third qubit lies beside the first two.
    assert placed.report.in_order.pairs == 8
    same(source, placed)
    inside(placed, hardware)


def test_gates_with_one_target_share_a_pair_too_and_paulis_act_on_copies() -> None:
    back = [cx(2, 0), Operation("z", (0,)), cx(3, 0), Operation("y", (0,)), cx(2, 0)]
    source = circuit([h(0), h(2), h(3), Operation("t", (0,)), *back, h(0)], 4)
    seen = flow(source)
    homes = Homes(((0, 0, 1, 1),))
    made = write(seen, homes, serving(seen, homes), room(machine(3, 3), profile_of(IDEAL)))
    assert (made.pairs, made.copies) == (1, 1)
    agree(of_circuit(source), of_circuit(made.circuit))


def test_without_a_place_for_copies_every_gate_takes_a_pair() -> None:
    source = circuit([h(0), *FAN], 4)
    seen = flow(source)
    homes = Homes(((0, 0, 1, 1),))
    made = write(seen, homes, serving(seen, homes), room(machine(2, 2), profile_of(IDEAL)))
    assert (made.copies, made.direct) == (0, 4)
    agree(of_circuit(source), of_circuit(made.circuit))


def test_fewest_copies_touch_all_gates() -> None:
    # A star from each side: two copies, however the gates are told apart by length.
    gates = [Operation("cz", (0, q)) for q in (3, 4, 5)] + [
        Operation("cz", (q, 3)) for q in (0, 1, 2)
    ]
    seen = flow(circuit(gates, 6))
    found = serving(seen, Homes(((0, 0, 0, 1, 1, 1),)))
    assert {each.end.qubit for each in found.values()} == {0, 3}
    assert len(found) == len(options(seen, Homes(((0, 0, 0, 1, 1, 1),)))) == 6


def test_a_pauli_breaks_no_run_and_a_hadamard_does() -> None:
    def runs(*between: str) -> int:
        inner = [Operation(name, (0,)) for name in between]
        return len(
            {gate.ends[0].run for gate in flow(circuit([cx(0, 1), *inner, cx(0, 2)], 3)).gates}
        )

    assert runs() == runs("x", "y", "t", "z") == 1
    assert runs("h") == runs("x", "h", "t") == 2


def test_a_swap_only_renames_qubits() -> None:
    close = [cx(0, 1), h(1), cx(0, 1)] * 3 + [cx(2, 3), h(3), cx(2, 3)] * 3
    swap = Operation("swap", (0, 2))
    last = circuit([h(0), h(2), *close, swap], 4)
    placed = place(last, machine(2, 2), profile=IDEAL)
    assert placed.report.cost.pairs == 0
    same(last, placed)
    # What comes after meets the other module, where copies of both controls serve it.
    source = circuit([h(0), h(2), *close, swap, *close], 4)
    placed = place(source, machine(3, 3), profile=IDEAL)
    assert placed.report.cost.pairs == placed.report.cost.copies == 2
    same(source, placed)


def braided(first: Sequence[tuple[int, int]], then: Sequence[tuple[int, int]]) -> Circuit:
    """Pairs of qubits that meet often, and later other pairs that do."""
    made = [Operation("ry", (q,), (angle(0.3 + q),)) for q in range(4)]
    for pairs in (first, then):
        for one, two in [*pairs] * 6:
            made += [cx(one, two), h(one), Operation("t", (two,)), h(two)]
    return circuit(made, 4)


def test_qubits_move_where_others_want_them_later() -> None:
    source = braided([(0, 1), (2, 3)], [(0, 2), (1, 3)])
    hardware = machine(3, 3)
    placed = place(source, hardware, profile=IDEAL)
    still = place(source, hardware, profile=IDEAL, wishes=Wishes(moves=False))
    assert placed.report.cost.pairs == placed.report.cost.moved == 2
    assert still.report.cost.pairs == 12
    same(source, placed)
    inside(placed, hardware)


def test_a_way_over_another_module_takes_a_pair_for_each_link() -> None:
    hardware = machine(3, 3, 3, ring=False)
    space = room(hardware, profile_of(IDEAL))
    assert space.hops[0] == (0, 1, 2)
    assert space.path([0], 2) == [1, 2]
    assert space.reach(0, [1, 2]) == 2
    source = circuit([h(0), cx(0, 1), cx(0, 2), Operation("t", (0,)), cx(0, 1)], 3)
    seen = flow(source)
    homes = Homes(((0, 2, 1),))
    made = write(seen, homes, shared(serving(seen, homes), seen, homes, space), space)
    # One copy serves the module in between, and is where the next one is copied from.
    assert made.pairs == 2
    agree(of_circuit(source), of_circuit(made.circuit))


def test_a_machine_without_the_links_or_the_room_is_refused_with_numbers() -> None:
    source = circuit([h(0), *FAN], 4)
    apart = msgspec.structs.replace(machine(2, 2), link=())
    with pytest.raises(NoPlan, match="no set of linked modules"):
        place(source, apart, profile=IDEAL)
    with pytest.raises(NoPlan, match=r"4 qubits .* are more than the 3"):
        place(source, machine(2, 1), profile=IDEAL)
    poor = machine(2, 2)
    link = msgspec.structs.replace(poor.link[0], fidelity=0.6)
    poor = msgspec.structs.replace(poor, link=(link,))
    with pytest.raises(NoPlan, match=r"the links reach 0\.9"):
        place(source, poor, profile=IDEAL, wishes=Wishes(pair_error=1e-12))


def test_what_fits_in_one_module_takes_no_pair() -> None:
    placed = place(circuit([h(0), *FAN], 4), machine(2, 4), profile=IDEAL)
    assert placed.report.cost.pairs == 0
    assert placed.report.modules == {"m1": 4}


def test_costs_are_those_that_the_kernel_reckons() -> None:
    hardware = machine(600, 600, cycles=300)
    source = circuit([h(0), *FAN, *(cx(a, b) for a, b in ((0, 1), (2, 3)) for _ in range(5))], 4)
    placed = place(source, hardware, profile="logical:Surface(d=11)")
    program = verified(placed)
    brokered = broker(program.summary, hardware)
    assert isinstance(brokered, Brokered)
    cost = placed.report.cost
    assert sum(len(each.nodes) for each in brokered.terms) == cost.pairs > 0
    assert cost.raw_pairs == brokered.raw_pairs
    wants = demand(program.summary, hardware, brokered.loads)
    assert (cost.cycles, cost.slowed) == (wants.cycles, wants.slowed) == (cost.cycles, "links")
    assert cost.waited > 0


def test_an_error_of_all_pairs_is_shared_among_them() -> None:
    hardware = machine(2, 2)
    source = circuit([h(0), *FAN], 4)
    usual = place(source, hardware, profile=IDEAL)
    placed = place(source, hardware, profile=IDEAL, wishes=Wishes(pair_error=1e-5))
    assert placed.report.cost.pair_error <= 1e-5 < usual.report.cost.pair_error
    assert placed.report.cost.raw_pairs > usual.report.cost.raw_pairs
    assert placed.report.asked == 1 - 1e-5 / usual.report.cost.pairs


@pytest.mark.parametrize(("lifetime", "opened"), [(None, 1), (50.0, 4)])
def test_a_channel_serves_all_gates_unless_its_pair_would_age(
    lifetime: float | None, opened: int
) -> None:
    far = [each for at in range(4) for each in (h(0), h(1), cx(0, 1), *[h(0)] * 5)]
    source = circuit(far, 2)
    placed = place(source, machine(1, 1, lifetime=lifetime), profile=IDEAL)
    ops = [node.op for node in placed.graph.program.nodes]
    assert (ops.count("OPEN_CHAN"), ops.count("USE_CHAN")) == (opened, 4)
    assert ops.count("CLOSE_CHAN") == opened


def test_qubits_of_one_module_fill_whole_blocks() -> None:
    source = circuit([h(0), *(cx(at, at + 1) for at in range(23))], 24)
    profile = "logical:SHYPS(d=4)"
    block = profile_of(profile).block
    hardware = machine(*[profile_of(profile).block_physical * 2] * 2)
    placed = place(source, hardware, profile=profile)
    program = verified(placed)
    lies = homes_of(program)
    metadata = placed.graph.metadata
    assert isinstance(metadata, dict)
    modules_of: dict[object, set[str]] = {}
    for name, vqs in metadata["placed"].items():
        assert len(vqs) % block == 0
        for vq in vqs:
            modules_of.setdefault(lies[vq], set()).add(name)
    assert all(len(modules) == 1 for modules in modules_of.values())
    assert placed.report.cost.pairs >= 1


def test_links_make_one_pair_after_the_other_and_keep_one() -> None:
    line = (0, 1)
    wanted = [Wanted(0, line, 10.0), Wanted(0, line, 10.0), Wanted(100, line, 10.0)]
    assert waits(wanted) == {line: 20.0}
    # Two links work side by side, and what one delays gives the other time.
    both = [Wanted(0, line, 10.0), Wanted(0, (1, 2), 15.0)]
    assert waits(both) == {line: 10.0, (1, 2): 5.0}
    assert waits([Wanted(40, line, 10.0)] * 4) == {line: 30.0}
    assert waits([Wanted(40, line, 10.0)] * 4, kept=4) == {line: 0.0}


def test_modules_of_factories_have_less_room_and_far_ones_are_far() -> None:
    hardware = msgspec.structs.replace(
        machine(100, 100), factory=(Factory(module="m0", qubits=60, cycles=5),), link=()
    )
    space = room(hardware, profile_of("logical:Surface(d=3)"))
    assert space.slots == (40 // 17, 100 // 17)
    assert space.hops[0][1] == FAR
