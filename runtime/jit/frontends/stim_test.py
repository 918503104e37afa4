"""Stim circuits in and out, judged by Stim: by tableaux, by flows, and by exact branches.

The generators of all flows of a stabilizer circuit say all there is to say of it, measurements and
feedback included (`stim.Circuit.flow_generators`).
"""

from __future__ import annotations

import pytest
import stim
from hypothesis import given, settings
from hypothesis import strategies as st

from qvm.program import VerifiedProgram
from qvm.reference import distribution
from qvm.verify import verify
from runtime.jit.backends.stim import dump, export
from runtime.jit.circuit import Unsupported, check
from runtime.jit.emit import emit
from runtime.jit.frontends.stim import OPERATIONS_MAX, load
from runtime.jit.readout import register_counts

QUBITS = 4
UNITARY = sorted({
    row.name
    for row in stim.gate_data().values()
    if row.is_unitary and not row.takes_pauli_targets
})  # fmt: skip
MEASURED = ("M", "MX", "MY", "MR", "MRX", "MRY")
NOISE = sorted(
    row.name
    for row in stim.gate_data().values()
    if row.is_noisy_gate and (not row.produces_measurements or "HERALDED" in row.name)
)


@st.composite
def instructions(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["gate"] * 4 + ["one", "pair", "product", "phase", "back"]))
    a, b, c = draw(st.permutations(range(QUBITS)))[:3]
    sign = draw(st.sampled_from(["", "!"]))
    x, y = draw(st.sampled_from("XYZ")), draw(st.sampled_from("XYZ"))
    if kind == "gate":
        name = draw(st.sampled_from(UNITARY))
        return f"{name} {a} {b}"
    if kind == "one":
        return f"{draw(st.sampled_from([*MEASURED, 'R', 'RX', 'RY']))} {a}"
    if kind == "pair":
        return f"{draw(st.sampled_from(['MXX', 'MYY', 'MZZ']))} {sign}{a} {b}"
    if kind == "product":
        return f"MPP {sign}{x}{a}*{y}{b}*Z{c} {y}{c}"
    if kind == "phase":
        return f"{draw(st.sampled_from(['SPP', 'SPP_DAG']))} {sign}{x}{a}*{y}{b}"
    pauli = draw(st.sampled_from(["CX rec[-1] {}", "CY rec[-2] {}", "CZ {} rec[-1]"]))
    return pauli.format(a)


circuits = st.lists(instructions(), max_size=12).map(
    # Two measurements first, so that feedback has a record to look back on.
    lambda lines: stim.Circuit("\n".join([f"H {QUBITS - 1}", f"M 0 {QUBITS - 1}", *lines]))
)


def apart(circuit: stim.Circuit) -> stim.Circuit:
    """Operand by operand: Stim 1.16 tells wrong flows of `MR 0 0`, whose operands repeat."""
    made = stim.Circuit()
    for each in circuit:
        for group in each.target_groups():
            whole = stim.target_combined_paulis(group) if group[0].pauli_type in "XYZ" else group
            made.append(each.name, whole)
            made.append("TICK")
    return made


def same(one: stim.Circuit, other: stim.Circuit) -> bool:
    one, other = apart(one), apart(other)
    return all(a.has_all_flows(b.flow_generators()) for a, b in ((one, other), (other, one)))


def signs(circuit: stim.Circuit) -> list[list[bool]]:
    """Of every detector, and of every observable, without noise."""
    return [part.tolist() for part in circuit.reference_detector_and_observable_signs()]


@pytest.mark.parametrize("name", UNITARY)
def test_every_unitary_gate_of_stim_comes_back_with_the_same_tableau(name: str) -> None:
    wires = "0 1" if stim.gate_data(name).is_two_qubit_gate else "0"
    before = stim.Circuit(f"{name} {wires}")
    circuit = load(before)
    check(circuit)
    assert stim.Tableau.from_circuit(export(circuit).circuit) == stim.Tableau.from_circuit(before)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(circuits)
def test_a_circuit_comes_back_from_its_text_with_the_same_flows(before: stim.Circuit) -> None:
    circuit = load(before)
    check(circuit)
    assert circuit.bit_count == before.num_measurements
    after, bits = export(circuit)
    assert [parity.records for parity in bits] == [{number} for number in range(len(bits))]
    assert same(before, after)
    assert stim.Circuit(dump(circuit)) == after


FLIP = {"X": "Z", "Y": "X", "Z": "X"}


def steps_of(circuit: stim.Circuit) -> list[tuple[str, list[stim.GateTarget]]]:
    return [(each.name, group) for each in circuit for group in each.target_groups()]


def observable(name: str, group: list[stim.GateTarget]) -> stim.PauliString:
    """What a measurement or a reset measures."""
    product = stim.PauliString(QUBITS)
    for target in group:
        if target.is_combiner:
            continue
        letter = target.pauli_type if name == "MPP" else name.lstrip("MR")[:1] or "Z"
        one = stim.PauliString(QUBITS)
        one[target.value] = letter
        product *= -one if target.is_inverted_result_target else one
    return product


def branches_of(circuit: stim.Circuit) -> dict[str, float]:
    """The exact distribution of the record, by following both outcomes in a tableau simulator."""
    found: dict[str, float] = {}
    steps = steps_of(circuit)
    stack = [(stim.TableauSimulator(), 0, "", 1.0)]
    while stack:
        simulator, at, record, weight = stack.pop()
        simulator.set_num_qubits(QUBITS)
        while at < len(steps) and (steps[at][0] in UNITARY or "SPP" in steps[at][0]):
            name, group = steps[at]
            records = [target for target in group if target.is_measurement_record_target]
            if not records:
                whole = stim.target_combined_paulis(group) if "SPP" in name else group
                simulator.do(stim.CircuitInstruction(name, whole))
            elif record[records[0].value] == "1":
                (qubit,) = (each for each in group if not each.is_measurement_record_target)
                simulator.do(stim.CircuitInstruction(name[1], [qubit]))
            at += 1
        if at == len(steps):
            found[record] = found.get(record, 0.0) + weight
            continue
        name, group = steps[at]
        measured = observable(name, group)
        known = simulator.peek_observable_expectation(measured)
        for outcome in (0, 1) if known == 0 else (int(known < 0),):
            branch = simulator.copy()
            branch.postselect_observable(measured, desired_value=bool(outcome))
            if "R" in name and outcome ^ group[0].is_inverted_result_target:
                flip = FLIP[name.lstrip("MR")[:1] or "Z"]
                branch.do(stim.CircuitInstruction(flip, [group[0].value]))
            told = str(outcome) if "M" in name else ""
            stack.append((branch, at + 1, record + told, weight / (1 if known else 2)))
    return found


@settings(max_examples=40, deadline=None, derandomize=True)
@given(circuits.filter(lambda c: c.num_measurements <= 10))
def test_the_graph_of_a_circuit_has_the_exact_record_of_stims_simulator(
    circuit: stim.Circuit,
) -> None:
    graph = emit(load(circuit))
    program = verify(graph)
    assert isinstance(program, VerifiedProgram), program
    found = register_counts(graph, distribution(program).probabilities)
    wanted = {key[::-1]: weight for key, weight in branches_of(circuit).items()}
    assert found == pytest.approx(wanted, abs=1e-9)


def test_pads_are_constant_bits_without_a_qubit() -> None:
    circuit = load("MPAD 0 1 1\nH 0\nM 0\nCX rec[-2] 1\nM 1")
    after, bits = export(circuit)
    assert [parity.offset for parity in bits] == [0, 1, 1, 0, 0]
    assert str(after) == "H 0\nM 0\nX 1\nM 1"
    assert dump(circuit).splitlines()[:2] == ["# rec[0] = 0", "# rec[1] = 1"]


def test_blocks_are_unrolled_and_annotations_shifted_as_stim_flattens_them() -> None:
    text = """
        QUBIT_COORDS(1, 2) 0
        REPEAT 3 {
            REPEAT 2 {
                H 0
                M 0
                DETECTOR(1, 0) rec[-1]
                SHIFT_COORDS(0, 1)
            }
            TICK
        }
        OBSERVABLE_INCLUDE(2) rec[-1] rec[-2]
        OBSERVABLE_INCLUDE(2) rec[-1]
    """
    circuit = load(text)
    after = export(circuit).circuit
    before = stim.Circuit(text).flattened()
    assert circuit.metadata["observables"] == {"2": ["rec[4]"]}
    assert after.get_detector_coordinates() == before.get_detector_coordinates()
    assert after.num_observables == before.num_observables
    assert after.get_final_qubit_coordinates() == before.get_final_qubit_coordinates()
    assert str(after).count("TICK") == 3
    assert signs(after) == signs(before)


@pytest.mark.parametrize("code", ["repetition_code:memory", "surface_code:rotated_memory_z"])
def test_stims_own_code_circuits_come_back_equal_but_for_order_of_annotations(code: str) -> None:
    before = stim.Circuit.generated(code, distance=3, rounds=3)
    after = export(load(before)).circuit
    assert after.num_detectors == before.num_detectors
    assert same(
        *(
            stim.Circuit("\n".join(str(i) for i in each.flattened() if i.name not in LOOK))
            for each in (before, after)
        )
    )
    assert signs(after) == signs(before)


LOOK = ("DETECTOR", "OBSERVABLE_INCLUDE", "QUBIT_COORDS", "SHIFT_COORDS")


@pytest.mark.parametrize("name", NOISE)
def test_noise_is_refused_with_its_line_and_dropped_only_when_asked(name: str) -> None:
    sizes = {"PAULI_CHANNEL_1": 3, "PAULI_CHANNEL_2": 15, "HERALDED_PAULI_CHANNEL_1": 4}
    arguments = ", ".join(["0.01"] * sizes.get(name, 1))
    targets = "X0 Z1" if name == "E" or "CORRELATED" in name else "0 1"
    first = "E(0.1) X0\n" if name.startswith("ELSE") else "TICK\n"
    text = f"H 0\n{first}  {name}({arguments}) {targets}\nM 0"
    if name != "I_ERROR":
        with pytest.raises(Unsupported, match=rf"^f\.stim:{3 - (first[0] == 'E')}:"):
            load(text, file="f.stim")
    circuit = load(text, drop_noise=True)
    check(circuit)
    assert name in circuit.metadata["dropped"]
    assert circuit.bit_count == stim.Circuit(text).num_measurements
    assert [each.name for each in circuit.operations if each.name != "barrier"] == ["h", "measure"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("H 0\nFOO 1", r"2:1: FOO 1: .*FOO"),
        ("H 0\n  M(0.01) 0", r"2:3: M\(0\.01\) 0: the machine has its own noise"),
        ("CX sweep[0] 1", r"1:1: .*sweep bits"),
        ("M 0\nCX rec[-2] 1", r"2:1: .*rec\[-2\] is before the first"),
        ("OBSERVABLE_INCLUDE(0) X1", r"1:1: .*not as a Pauli product"),
        ("TICK\nREPEAT 5 {\nH 0\n", r"2:1: REPEAT 5 \{: the block is not closed"),
        ("H 0\n}", r"2:1: \}: "),
        ("H[cut off", r"1:1: H\[cut off: A tag wasn't closed"),
        (f"REPEAT {OPERATIONS_MAX} {{\nH 0\n}}", r"1:1: .*unrolled it has more than"),
        ("REPEAT 1000000000000 {\nSHIFT_COORDS(1)\n}", r"1:1: .*unrolled it has more than"),
    ],
)
def test_what_cannot_be_held_is_refused_where_it_stands(text: str, said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        load(text)
