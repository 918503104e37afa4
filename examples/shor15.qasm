// Shor's algorithm for 15: the period of 7^x modulo 15, which is 4, so that 7^2 +- 1 share 3 and 5
// with 15. Of the three bits of phase, 0, 2, 4 and 6 eighths are seen, a quarter of the time each.
// `python examples/answers.py shor15` makes factors of the counts.
OPENQASM 3;
include "stdgates.inc";

qubit[3] count;
qubit[4] work;
bit[3] phase;

x work[0];
h count;
// Times 7: the bits move up by three places and are all inverted, as 7 is 8 - 15 ... = -8.
cswap count[0], work[2], work[3];
cswap count[0], work[1], work[2];
cswap count[0], work[0], work[1];
for int i in [0:3] { cx count[0], work[i]; }
// Times 7^2 = 49 = 4: the bits move by two places. Times 7^4 = 16^2 = 1: nothing.
cswap count[1], work[0], work[2];
cswap count[1], work[1], work[3];

// The inverse Fourier transform, its bits read in turned order.
h count[2];
cp(-pi / 2) count[2], count[1];
h count[1];
cp(-pi / 4) count[2], count[0];
cp(-pi / 2) count[1], count[0];
h count[0];
phase[0] = measure count[2];
phase[1] = measure count[1];
phase[2] = measure count[0];
