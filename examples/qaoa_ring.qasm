// QAOA for the largest cut of a ring of six nodes, one layer at its best angles: three quarters of the
// edges are cut on average (Farhi, Goldstone and Gutmann, arXiv:1411.4028, section IV), 4.5 of 6.
OPENQASM 3;
include "stdgates.inc";

const int n = 6;
const float gamma = pi / 4;
const float beta = pi / 8;
qubit[n] q;
bit[n] side;

h q;
for int i in [0:n - 1] {
  cx q[i], q[(i + 1) % n];
  rz(-gamma) q[(i + 1) % n];
  cx q[i], q[(i + 1) % n];
}
rx(2 * beta) q;
side = measure q;
