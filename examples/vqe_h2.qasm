// VQE of the hydrogen molecule at 0.735 angstrom: two qubits, one angle, two settings of measurement.
//   H = -1.05237325 + 0.39793742 (Z0 - Z1) - 0.01128010 Z0 Z1 + 0.18093120 X0 X1   (hartree)
// is the STO-3G Hamiltonian after parity mapping (coefficients of Qiskit Nature's tutorials). At
// theta = -0.22353 the ansatz is the ground state. `python examples/answers.py vqe_h2` makes energy
// of the counts.
OPENQASM 3;
include "stdgates.inc";

gate ansatz(theta) a, b { x a; ry(theta) b; cx b, a; }

qubit[2] q;
bit[2] zz;
bit[2] xx;

ansatz(-0.2235369983) q[0], q[1];
zz = measure q;

reset q;
ansatz(-0.2235369983) q[0], q[1];
h q;
xx = measure q;
