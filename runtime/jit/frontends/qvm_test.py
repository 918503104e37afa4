"""From a program to a circuit and back: the same record, and other formats on the way."""

from __future__ import annotations

from typing import Any

import pytest
import stim
from hypothesis import given, settings
from hypothesis import strategies as st

from qvm import examples
from qvm.decode import decode_graph
from qvm.program import Graph, VerifiedProgram
from qvm.reference import distribution
from qvm.verify import verify
from runtime.jit.backends import stim as stim_out
from runtime.jit.circuit import Circuit, Unsupported, check
from runtime.jit.emit import emit
from runtime.jit.emit_test import circuit_of, operations
from runtime.jit.frontends import load
from runtime.jit.frontends.stim_test import circuits as stim_circuits
from runtime.jit.frontends.stim_test import same
from runtime.jit.readout import register_counts


def graph_of(source: Any) -> Graph:
    graph = decode_graph(source) if isinstance(source, bytes) else source
    assert isinstance(graph, Graph), graph
    return graph


def record(graph: Graph) -> dict[str, float]:
    program = verify(graph)
    assert isinstance(program, VerifiedProgram), program
    return distribution(program).probabilities


def registers(circuit: Circuit) -> dict[str, float]:
    graph = emit(circuit)
    return register_counts(graph, record(graph))


@pytest.mark.parametrize("name", examples.names())
def test_a_program_has_the_same_record_as_a_circuit(name: str) -> None:
    """By event: an event that was not measured is a bit that is 0."""
    graph = graph_of(examples.load(name))
    circuit = load(graph)
    check(circuit)
    program = verify(graph)
    assert isinstance(program, VerifiedProgram)
    names = [each.name for each in circuit.bits if not each.hidden]
    wanted: dict[str, float] = {}
    for key, p in record(graph).items():
        words = {
            field.name.partition("[")[0]: f"{max(int(value.replace('-', '0')), 0):0{field.bits}b}"
            for field, value in zip(program.summary.events, key, strict=True)
        }
        word = " ".join(words[each][::-1] for each in names)
        wanted[word] = wanted.get(word, 0.0) + p
    assert registers(circuit) == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(operations(), max_size=10))
def test_a_circuit_comes_back_from_its_program_with_its_registers(listed: list[Any]) -> None:
    first = circuit_of(listed)
    again = load(emit(first))
    check(again)
    assert [e for e in again.bits if not e.hidden] == [e for e in first.bits if not e.hidden]
    assert registers(again) == pytest.approx(registers(first), abs=1e-9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(stim_circuits)
def test_a_stim_circuit_comes_back_through_a_program_with_the_same_flows(
    before: stim.Circuit,
) -> None:
    after, bits = stim_out.export(load(emit(load(before))))
    # A program names the qubits it uses; Stim has one for each number below the largest.
    if after.num_qubits == before.num_qubits:
        assert same(before, after)
    count = before.num_measurements
    assert [parity.records for parity in bits[:count]] == [{n} for n in range(count)]


def test_text_and_json_are_read_and_what_speaks_to_the_kernel_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "a.qvm"
    path.write_text(
        'ALLOC_LQ n=1, profile="logical:Surface(d=3)", a\nAPPLY_H a\nMEASURE_Z a -> m\nFREE_LQ a\n'
    )
    assert str(stim_out.export(load(path)).circuit) == "H 0\nM 0"
    path.write_text("SET_POLICY priority=3\n" + path.read_text())
    with pytest.raises(Unsupported, match=r"a\.qvm: node n1: SET_POLICY: it speaks to the kernel"):
        load(path)
    path.write_text("APPLY_H b\n")
    with pytest.raises(Unsupported, match=r"a\.qvm: "):
        load(path)
    other = tmp_path / "a.qvm.json"
    other.write_text('{"version": 3}')
    with pytest.raises(Unsupported, match=r"a\.qvm\.json: "):
        load(other)
