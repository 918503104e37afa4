// Four bits of the phase 1/3 of the gate p(2 pi / 3): 5/16 is nearest, and seen most.
OPENQASM 3;
include "stdgates.inc";

const int n = 4;
qubit[n] count;
qubit one;
bit[n] phase;

x one;
h count;
for int k in [0:n - 1] {
  ctrl @ p(2 * pi / 3 * 2 ** k) count[k], one;
}
// The inverse Fourier transform; its last step, turning the order of the bits, is in the reading.
for int j in [0:n - 1] {
  for int k in [0:j - 1] {
    cp(-pi / 2 ** (j - k)) count[n - 1 - k], count[n - 1 - j];
  }
  h count[n - 1 - j];
}
for int j in [0:n - 1] {
  phase[j] = measure count[n - 1 - j];
}
