// Grover's search among eight for 101, two rounds: found with probability 121/128.
OPENQASM 3;
include "stdgates.inc";

gate flip_all a, b, c { h c; ccx a, b, c; h c; }  // turns the sign of 111

qubit[3] q;
bit[3] found;

h q;
for int round in [1:2] {
  x q[1];
  flip_all q[0], q[1], q[2];
  x q[1];
  h q;
  x q;
  flip_all q[0], q[1], q[2];
  x q;
  h q;
}
found = measure q;
