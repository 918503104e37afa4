// A rotation by arccos(3/5) of Clifford and Toffoli gates, repeated until it succeeds (Nielsen and
// Chuang, exercise 4.41): each try succeeds with probability 5/8 and otherwise does Z, which is
// undone. After three tries at most, |+> is turned with probability 485/512, and then found in |->
// one time in five.
OPENQASM 3;
include "stdgates.inc";

qubit[2] help;
qubit data;
bit[2] seen;
bit done;
bit minus;

h data;
for int attempt in [1:3] {
  if (!done) {
    h help;
    ccx help[0], help[1], data;
    s data;
    ccx help[0], help[1], data;
    h help;
    seen = measure help;
    if (seen == 0) { done = true; } else { z data; }
    reset help;
  }
}
h data;
minus = measure data;
