"""Families beside Qiskit's state vectors, Stim's samples, and energies known from elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.em.circuits.exact import TABLEAU, TooWide, exact
from harness.em.circuits.families import FAMILIES, NoSuchTask, make
from harness.em.circuits.molecules import NAMES, molecule
from harness.em.circuits.paulis import bases, measured, observable, pauli, text_of
from harness.em.circuits.tasks import Gates, Task, figures
from runtime.jit.backends.stim import export

qiskit = pytest.importorskip("qiskit")


def small(family: str, seed: int = 3) -> Task:
    row = FAMILIES[family]
    return make(family, seed, max(row.qubits_min, min(4, row.qubits_max)))


def by_qiskit(task: Task) -> float:
    from qiskit.quantum_info import SparsePauliOp, Statevector

    circuit = qiskit.QuantumCircuit(task.circuit.width)
    for each in task.circuit.operations:
        getattr(circuit, each.name)(*(a.radians for a in each.angles), *each.qubits)
    terms = [
        ("".join(letter for _, letter in t.product), [q for q, _ in t.product], t.weight)
        for t in task.observable.terms
    ]
    wanted = SparsePauliOp.from_sparse_list(terms, num_qubits=task.circuit.width)
    return float(Statevector(circuit).expectation_value(wanted).real)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_exact_value_is_that_of_qiskits_state_vector(family: str) -> None:
    task = small(family)
    assert task.exact == pytest.approx(by_qiskit(task), abs=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_makes_the_same_circuit_again(family: str) -> None:
    assert small(family).circuit_id == small(family).circuit_id
    assert figures(small(family).circuit).gates_2q > 0


@pytest.mark.parametrize("family", ["random", "clifford", "qaoa-cubic", "vqe-ucc-h2", "lih"])
def test_another_seed_makes_another_circuit(family: str) -> None:
    assert small(family, 1).circuit_id != small(family, 2).circuit_id


@pytest.mark.parametrize("family", ["mirror", "clifford", "ghz"])
def test_wide_clifford_circuits_have_exact_values_that_stim_samples(family: str) -> None:
    task = make(family, 7, 110)
    assert task.exact == pytest.approx(1.0)
    for basis in bases(task.observable):
        bits = export(measured(task.circuit, basis.letters)).circuit.compile_sampler(seed=1)
        drawn = 1 - 2.0 * bits.sample(200)
        for term in basis.terms:
            value = drawn[:, [q for q, _ in term.product]].prod(axis=1).mean()
            assert value * term.weight == pytest.approx(abs(term.weight))


@pytest.mark.parametrize("name", NAMES)
def test_a_molecules_lowest_energy_is_that_of_its_diagonalised_hamiltonian(name: str) -> None:
    found = molecule(name)
    matrix = np.zeros((2**found.qubits,) * 2, dtype=complex)
    letters = {
        "X": np.array([[0, 1], [1, 0]]),
        "Y": np.array([[0, -1j], [1j, 0]]),
        "Z": np.array([[1, 0], [0, -1]]),
    }
    for term in found.hamiltonian.terms:
        product: Any = np.eye(1)
        by_qubit = dict(term.product)
        for qubit in range(found.qubits):
            product = np.kron(letters.get(by_qubit.get(qubit, ""), np.eye(2)), product)
        matrix = matrix + term.weight * product
    assert np.linalg.eigvalsh(matrix)[0] == pytest.approx(found.ground, abs=1e-9)
    filled = Gates(found.qubits)
    for qubit in range(found.electrons):
        filled.add("x", qubit)
    energy, _ = exact(filled.circuit(), found.hamiltonian)
    assert energy == pytest.approx(found.hartree_fock, abs=1e-6)


def test_hydrogens_energy_is_the_published_one() -> None:
    """-1.1373 hartree at 0.7414 A in STO-3G (O'Malley et al., arXiv:1512.06860, figure 3)."""
    assert molecule("h2").ground == pytest.approx(-1.1373, abs=1e-4)


@pytest.mark.parametrize("family", ["lih", "h2", "vqe-hea", "clifford", "ghz"])
def test_each_term_is_measured_once_in_a_basis_that_has_its_letters(family: str) -> None:
    task = small(family)
    seen = []
    for basis in bases(task.observable):
        letters = dict(basis.letters)
        for term in basis.terms:
            assert all(letters[qubit] == letter for qubit, letter in term.product)
            seen.append(term)
    assert sorted(seen, key=lambda t: t.product) == sorted(
        task.observable.moving, key=lambda t: t.product
    )


def test_measuring_in_a_basis_gives_the_products_value() -> None:
    gates = Gates(2)
    gates.add("h", 0)
    gates.add("s", 0)
    circuit = measured(gates.circuit(), pauli("Y0"))
    sampler = export(circuit).circuit.compile_sampler(seed=2)
    assert not sampler.sample(50)[:, 0].any()


def test_products_are_written_as_they_are_read() -> None:
    assert text_of(pauli("Z3 X0")) == "X0 Z3"
    assert pauli("") == ()
    for text in ("X", "Q1", "X0 Z0", "X-1"):
        with pytest.raises(ValueError, match="no product"):
            pauli(text)


def test_equal_products_are_added_and_bounds_follow() -> None:
    found = observable([(pauli("Z0"), 0.5), (pauli("Z0"), -0.25), ((), 2.0), (pauli("X1"), 0.0)])
    assert (found.constant, found.spread, len(found.moving)) == (2.0, 0.25, 1)


def test_what_a_family_cannot_do_is_refused_with_what_it_can() -> None:
    with pytest.raises(NoSuchTask, match="there are random, mirror"):
        make("nothing", 1, 4)
    with pytest.raises(NoSuchTask, match="4 to 4 qubits"):
        make("h2", 1, 5)
    with pytest.raises(NoSuchTask, match="depth"):
        make("ising", 1, 4, 0)
    wide = Gates(40)
    wide.add("rx", 0, angles=(0.3,))
    with pytest.raises(TooWide, match="no Clifford circuit"):
        exact(wide.circuit(), observable([(pauli("Z0"), 1.0)]))


def test_clifford_values_need_no_state_vector() -> None:
    assert make("clifford", 1, 30).exact_by == TABLEAU
