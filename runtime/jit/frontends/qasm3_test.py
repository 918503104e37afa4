"""OpenQASM 3 beside matrices, exact branch distributions and Qiskit's exporter."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.jit.circuit import Circuit, Unsupported, check
from runtime.jit.emit_test import assert_same, measured
from runtime.jit.frontends import load, qasm3
from runtime.jit.gates import GATES
from tests import branches

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'


def read(body: str, **options: Any) -> Circuit:
    found = load(HEAD + body, **options)
    check(found)
    return found


def matrix(body: str) -> NDArray[np.complex128]:
    return branches.unitary(read(body))


def assert_equal(one: NDArray[np.complex128], other: NDArray[np.complex128]) -> None:
    np.testing.assert_allclose(one, other, atol=1e-12)


SAME = {
    "U(0.1, 0.2, 0.3) q;": "u3(0.1, 0.2, 0.3) q; gphase(0.9);",
    "ctrl @ x q[0], q[1];": "cx q[0], q[1];",
    "negctrl @ x q[0], q[1];": "x q[0]; cx q[0], q[1]; x q[0];",
    "ctrl(2) @ x q[0], q[2], q[1];": "ccx q[0], q[2], q[1];",
    "inv @ ctrl @ s q[1], q[0];": "cp(-pi/2) q[1], q[0];",
    "pow(2) @ inv @ t q[0];": "sdg q[0];",
    "pow(1/2) @ z q[0];": "s q[0];",
    "pow(0.5) @ x q[2];": "sx q[2];",
    "ctrl @ gphase(pi/4) q[1];": "t q[1];",
    "pow(0.5) @ gphase(pi);": "gphase(pi/2);",
    "negctrl @ ctrl @ gphase(0.3) q[0], q[1];": "x q[0]; cp(0.3) q[0], q[1]; x q[0];",
    "gate g(a) x_, y_ { rx(a/2) x_; ctrl @ g2(2*a) x_, y_; }\n g(0.4) q[2], q[0];":
        "rx(0.2) q[2]; cp(0.8) q[2], q[0]; gphase(0);",
    "inv @ g2(0.7) q[1]; pow(-3) @ g2(0.1) q[1];": "p(-0.7) q[1]; p(-0.3) q[1];",
    "h q;": "h q[0]; h q[1]; h q[2];",
    "cx q[0:1], q[{1, 2}];": "cx q[0], q[1]; cx q[1], q[2];",
    "cx q[0], q[1:2];": "cx q[0], q[1]; cx q[0], q[2];",
    "let a = q[2:-1:0]; s a[0]; let b = a ++ a[1]; t b[-1];": "s q[2]; t q[1];",
    "for int i in [0:2] { rz(pi / 2 ** i) q[i]; }": "rz(pi) q[0]; rz(pi/2) q[1]; rz(pi/4) q[2];",
    "for int i in {2, 0} { for int j in [i:-1:i-1] { if (j >= 0) { h q[j]; } } }":
        "h q[2]; h q[1]; h q[0];",
    "const int n = 3; const float f = tau / (n + 1); rz(f) q[n - 1];": "rz(pi/2) q[2];",
    "int i = 0; while (i < 3) { i += 1; if (i == 2) continue; x q[i - 1]; }": "x q[0]; x q[2];",
    "for int i in [0:9] { if (i > 1) break; y q[i]; }": "y q[0]; y q[1];",
    "def twice(qubit a, angle t) { rx(t) a; rx(t) a; }\ntwice(q[1], 0.3);": "rx(0.6) q[1];",
    "def size(int n) -> int { return n * n; }\nrz(size(3)) q[0];": "rz(9) q[0];",
    "array[float, 2, 2] a = {{0.1, 0.2}, {0.3, 0.4}};\na[1, 0] = 0.9;\n"
    "rx(a[1][0] + a[0, 1]) q[0];\nrz(sizeof(a)) q[0];": "rx(1.1) q[0]; rz(2) q[0];",
    "switch (2) { case 1, 3 { x q[0]; } case 2 { x q[1]; } default { x q[2]; } }": "x q[1];",
    "const bit[3] s = \"011\"; for int i in [0:2] { if (s[i]) { x q[i]; } }": "x q[0]; x q[1];",
    "rz(sin(pi/6) + sqrt(4.0) - arccos(1)) q[0];": "rz(2.5) q[0];",
    "box { x q[0]; } end; x q[1];": "x q[0];",
    "cphase(0.2) q[0], q[1]; CX q[0], q[1]; phase(0.1) q[0]; id q[0]; u2(0.1, 0.2) q[1];":
        "cp(0.2) q[0], q[1]; cx q[0], q[1]; p(0.1) q[0]; u3(pi/2, 0.1, 0.2) q[1];",
    "cu(0.1, 0.2, 0.3, 0.4) q[0], q[2];":
        "p(0.4 - 0.05) q[0]; ctrl @ U(0.1, 0.2, 0.3) q[0], q[2];",
}  # fmt: skip
G2 = "gate g2(t) a { gphase(t / 2); rz(t) a; }\n"


@pytest.mark.parametrize("body", SAME, ids=lambda body: body.splitlines()[0][:40])
def test_two_ways_to_write_a_unitary_are_one(body: str) -> None:
    head = "qubit[3] q;\n" + G2
    assert_equal(matrix(head + body), matrix(head + SAME[body]))


def test_the_standard_gates_have_the_matrices_of_the_specification() -> None:
    """Built from U as stdgates.inc defines them, phases included."""
    spec = {
        "p(0.7)": "ctrl @ gphase(0.7)", "x": "U(pi, 0, pi) q; gphase(-pi/2);",
        "y": "U(pi, pi/2, pi/2) q; gphase(-pi/2);", "h": "U(pi/2, 0, pi) q; gphase(-pi/4);",
        "rx(0.7)": "U(0.7, -pi/2, pi/2) q; gphase(-0.35);",
        "ry(0.7)": "U(0.7, 0, 0) q; gphase(-0.35);",
        "rz(0.7)": "gphase(-0.35); U(0, 0, 0.7) q;", "sx": "pow(1/2) @ x",
        "u3(0.1, 0.2, 0.3)": "gphase(-0.3); U(0.1, 0.2, 0.3) q;",
    }  # fmt: skip
    for gate, definition in spec.items():
        text = definition if ";" in definition else definition + " q;"
        assert_equal(matrix(f"qubit q; {gate} q;"), matrix(f"qubit q; {text}"))


HOLDS = (
    "uint[4] a = 5; bool b = ~a == 10;",
    "uint[8] a = 255; bool b = a + 1 == 0;",
    "uint[8] a = 0; bool b = a - 1 == 255;",
    "uint[4] a = 9; bool b = a << 1 == 2;",
    "uint[3] a = 6; uint[3] c = 6; bool b = a * c == 4;",
    "uint[4] a; bool b = -(a + 1) == 15;",
    "int[4] a = 7; bool b = a + 1 == -8;",
    "int[4] a = -1; uint[4] c = 15; bool b = !(a < c) && a == c;",
    "int[8] a = -1; uint[4] c = 15; bool b = a < c;",
    "bool b = -7 % 3 == -1 && 7 % -3 == 1 && mod(-7, 3) == -1;",
    "int[8] a = -7; bool b = a % 3 == -1 && a / 3 == -2 && a >> 1 == -4;",
    "uint[8] a = 200; bool b = a / 300 == 0 && a >> 9 == 0 && a << 8 == 0;",
    "uint[8] a = 13; bool b = popcount(a) == 3 && a[2] && !a[1];",
    "angle[4] a = 3*pi/2; bool b = a + pi == pi/2 && a + a == pi && a * 2 == pi && -a == pi/2;",
    "angle[4] a = pi; angle[8] c = a; bool b = c == pi && angle[2](c) == a && c / 4 == pi/4;",
)


@pytest.mark.parametrize("body", HOLDS)
def test_known_numbers_wrap_in_their_width_as_measured_ones_do(body: str) -> None:
    circuit = read("qubit q;\n" + body + "\nif (b) x q;")
    assert [each.name for each in circuit.operations] == ["x"]


TURNS = {
    "angle[4] a = pi; angle[8] b = a; rx(b) q[0];": "rx(pi) q[0];",
    "angle[4] a = 3*pi/2; crx(a + a) q[0], q[1];": "crx(pi) q[0], q[1];",
    "x q[2]; bit[2] m; m[1] = measure q[2]; angle[2] a = m; angle[8] b = a; rx(b) q[0];":
        "x q[2]; bit[2] m; m[1] = measure q[2]; if (m[1]) rx(pi) q[0];",
}  # fmt: skip


@pytest.mark.parametrize("body", TURNS)
def test_an_angle_keeps_its_value_in_another_width_and_stays_below_a_turn(body: str) -> None:
    head, end = "qubit[3] q; h q[1];\n", "\nbit[2] out; h q[1]; out = measure q[0:1];"
    found, wanted = (branches.distribution(read(head + each + end)) for each in (body, TURNS[body]))
    assert {k: v for k, v in found.items() if v > 1e-12} == pytest.approx(
        {k: v for k, v in wanted.items() if v > 1e-12}
    )


DISTRIBUTED = {
    "teleportation": (
        "qubit[3] q; bit a; bit b; bit out;\nry(0.9) q[0]; h q[1]; cx q[1], q[2]; cx q[0], q[1];\n"
        "h q[0]; a = measure q[0]; b = measure q[1];\nif (b) x q[2]; if (a == 1) { z q[2]; }\n"
        "out = measure q[2];",
        {f"{a} {b} {o}": (math.sin if o else math.cos)(0.45) ** 2 / 4
         for a in (0, 1) for b in (0, 1) for o in (0, 1)},
    ),
    "repeat until one, three times": (
        "qubit q; bit c; bit done;\nfor int i in [0:2] {\n  if (!done) { reset q; h q; "
        "c = measure q; done = c; }\n}",
        {"0 0": 1 / 8, "1 1": 7 / 8},
    ),
    "both branches see what the condition was": (
        "qubit[2] q; bit c; bit d;\nh q[0]; c = measure q[0];\n"
        "if (c) { x q[0]; c = measure q[0]; } else { x q[1]; }\nd = measure q[1];",
        {"0 0": 0.5, "0 1": 0.5},
    ),
    "sums and comparisons of measured numbers": (
        "qubit[4] q; bit[4] c; bit more; bit[3] s;\nh q; c = measure q;\n"
        "uint[2] x = uint[2](c[0:1]); uint[2] y = uint[2](c[2:3]);\nmore = x > y;\n"
        "uint[3] z = x; z += y; s = z;",
        {f"{y:02b}{x:02b} {int(x > y)} {x + y:03b}": 1 / 16 for x in range(4) for y in range(4)},
    ),
    "a parity steers a gate": (
        "qubit[4] q; bit[3] c; bit out;\nh q[0:2]; c = measure q[0:2];\n"
        "bit p = c[0] ^ c[1] ^ c[2];\nif (p) { x q[3]; }\nout = measure q[3];",
        {f"{c:03b} {o} {o}": 1 / 8 for c in range(8) for o in [c.bit_count() % 2]},
    ),
    "measured signed and unsigned numbers of one width are compared unsigned": (
        "qubit q; bit c; bit[2] out; x q; c = measure q;\n"
        "int[4] i = 1; uint[4] u = 0; if (c) { u = 15; i = -1; }\n"
        "out[0] = i < u; i = 1; out[1] = i < u;",
        {"1 10": 1.0},
    ),
    "a measured number shifted beyond its width is zero": (
        "qubit q; bit c; bit out; x q; c = measure q;\n"
        "uint[2] u = 0; if (c) { u = 3; }\nu = u >> 5; out = u == 0;",
        {"1 1": 1.0},
    ),
    "a measured switch": (
        "qubit[3] q; bit[2] c; bit out;\nh q[0:1]; c = measure q[0:1];\n"
        "switch (int[4](c)) { case 0 { } case 1, 2 { x q[2]; } default { h q[2]; } }\n"
        "out = measure q[2];",
        {"00 0": 0.25, "01 1": 0.25, "10 1": 0.25, "11 0": 0.125, "11 1": 0.125},
    ),
    "a variable changed where a measurement decides": (
        "qubit q; bit c; bit[2] out;\nint[8] n = 1;\nh q; c = measure q;\n"
        "if (c) { n *= 3; }\nout = bit[2](uint[2](n));",
        {"0 01": 0.5, "1 11": 0.5},
    ),
    "counting and turning measured bits": (
        "qubit[3] q; bit[3] c; bit[2] n;\nh q; c = measure q;\nn = bit[2](uint[2](popcount(c)));\n"
        "c = rotl(c, 1);",
        {f"{(c << 1 | c >> 2) & 7:03b} {c.bit_count():02b}": 1 / 8 for c in range(8)},
    ),
    "a subroutine that measures": (
        "qubit[2] q; bit out;\ndef flip(qubit a) -> bit { h a; return measure a; }\n"
        "if (flip(q[0])) { x q[1]; }\nout = measure q[1];",
        {"0": 0.5, "1": 0.5},
    ),
    "phase estimation by a measured angle": (
        "qubit[2] q; angle[3] c = 0; bit[3] out;\nx q[1];\nfor int i in [0:2] {\n"
        " reset q[0]; h q[0]; ctrl @ pow(2 ** (2 - i)) @ p(2*pi*3/8) q[0], q[1];\n"
        " c >>= 1; p(-c) q[0]; h q[0]; c[2] = measure q[0];\n}\nout = bit[3](c);",
        {"011": 1.0},
    ),
    "outputs are numbers too": (
        "qubit q; output uint[2] n; n = 2; h q; bit c = measure q; if (c) n = 3;",
        {"0 10": 0.5, "1 11": 0.5},
    ),
    "physical qubits": ("bit c; x $3; c = measure $3;", {"1": 1.0}),
}  # fmt: skip


@pytest.mark.parametrize("name", DISTRIBUTED)
def test_feed_forward_measures_what_was_reckoned_by_hand(name: str) -> None:
    body, wanted = DISTRIBUTED[name]
    circuit = read(body)
    found = branches.distribution(circuit)
    assert_same(found, wanted)
    assert_same(measured(circuit), found)


def test_inputs_are_given_with_the_source() -> None:
    body = "input float t; qubit q; rx(t) q;"
    assert_equal(branches.unitary(read(body, inputs={"t": 0.3})), GATES["rx"].matrix(0.3))
    with pytest.raises(Unsupported, match=r"3:1: input/output: input t needs a value"):
        read(body)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", 2.5), ("int", math.inf), ("int", math.nan), ("uint[2]", 9), ("uint[2]", -1),
        ("int[3]", 4), ("int[3]", -5), ("bool", 2), ("bit[2]", 4), ("bit", -1),
    ],
)  # fmt: skip
def test_an_input_that_its_type_cannot_hold_is_refused(kind: str, value: float) -> None:
    with pytest.raises(Unsupported, match="3:1: input/output: input n cannot be"):
        read(f"input {kind} n; qubit q;", inputs={"n": value})


@pytest.mark.parametrize(
    ("kind", "value"), [("int", -3.0), ("uint[2]", 3), ("int[3]", -4), ("bool", 1), ("bit[2]", 3)]
)
def test_an_input_that_its_type_can_hold_is_taken(kind: str, value: float) -> None:
    assert read(f"input {kind} n; qubit q; x q;", inputs={"n": value}).operations


def test_a_value_for_an_input_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Unsupported, match="m: a value is given"):
        read("input int n; qubit q;", inputs={"n": 1, "m": 2})


REFUSED = {
    "qubit q;\ndelay[100ns] q;": (4, 1, "delay"),
    "qubit q; bit c;\nwhile (!c) { c = measure q; }": (4, 1, "while"),
    "qubit q;\n  cal { }": (4, 3, "cal"),
    "qubit q;\nnosuch q;": (4, 1, "nosuch"),
    "qubit q;\nx q;\n\n  x q[1];": (6, 3, "x"),
    "qubit[2] q;\nrx(0.1, 0.2) q[0];": (4, 1, "rx"),
    "qubit[2] q;\ncx q[0], q[0];": (4, 1, "cx"),
    "qubit[2] q; qubit[3] r;\ncx q, r;": (4, 1, "cx"),
    "extern f(int) -> int;\nint x = f(3);": (4, 1, "declaration"),
    "qubit q;\nrx(1/2) q;": (4, 1, "rx"),
    "qubit q;\nx q": (4, 4, "'<EOF>'"),
    "qubit q;\ngate x2 a { x a; }\nx2 @ q;": (5, 4, "'@'"),
    "duration d = 3ns;": (3, 1, "declaration"),
    "qubit[2] q; bit c;\nc = measure q[0];\nint i = 0;\nif (c) { i = 1; }\nx q[i];": (7, 1, "x"),
    "qubit q; bit c;\nc = measure q;\nfor int i in [0:3] {\n  if (c) break;\n}": (6, 10, "break"),
    "const int n = 1;\nn = 2;": (4, 1, "assignment"),
    "gate a q { b q; }\ngate b q { a q; }\nqubit q;\na q;": None,
    'include "nosuch.inc";': (3, 1, "include"),
    "int i = 0;\nwhile (true) { i += 1; }": (4, 1, "while"),
    "pragma something": (3, 1, "pragma"),
    "qubit[2] q;\nint n = popcount(q);": (4, 1, "declaration"),
    "qubit[2] q; bit[2] c; c = measure q;\nangle[2] a = c;\npow(0.5) @ p(a) q[0];": (5, 1, "p"),
    "qubit[2] q; bit[2] c; c = measure q;\nangle[2] a = c;\ncrx(a + a) q[0], q[1];": (5, 1, "crx"),
    "qubit[2] q; bit[2] c; c = measure q;\ngate rzx(t) a, b { rz(t * t) a; }\nangle[2] a = c;\n"
    "rzx(a) q[0], q[1];": (6, 1, "rzx"),
    "angle[4] a = pi/8;\nangle[2] b = a;": (4, 1, "declaration"),
    "uint[4] a = 3;\nbool b = a > -1;": (4, 1, "declaration"),
    "uint[4] a = 3;\na = a << -1;": (4, 1, "assignment"),
    "qubit q;\nrx(1e400) q;": (4, 1, "rx"),
    "gate g a { x a; }\ngate g a { y a; }": (4, 1, "gate"),
    "qubit q;\ngate h a { x a; }": (4, 1, "gate"),
    "gate a q {\n  b q; }\ngate b q { x q; }": (4, 3, "b"),
    "bit m;\nlet n = ~m;": (4, 1, "let"),
    "qubit[2] q; bit c; c = measure q[0];\ndef f(qubit a) -> bit { x a; return measure a; }\n"
    "bool b = c && f(q[1]);": (5, 1, "declaration"),
    "qubit[100000000000] q;": (3, 1, "qubit"),
    "for int i in [0:10**30] { }": (3, 1, "for"),
    "qubit q;\nx q[0:10**12];": (4, 1, "x"),
    "int n = 3;\nlet m = n[0:1];": (4, 1, "let"),
    "bit[900000] c;\nbit[900000] d;": (4, 1, "declaration"),
    "uint[2000000000] n;": (3, 1, "declaration"),
    "array[int[8], 100000, 100000] a;": (3, 1, "declaration"),
    f"int a = {'1' * 5000};": (3, 9, ""),
    "qubit[2] q;\nx q[1e400];": (4, 1, "x"),
    "float f = 1e308;\nint n = f * 10;": (4, 1, "declaration"),
}


@pytest.mark.parametrize("body", [b for b in REFUSED if "true" not in b], ids=lambda b: b[-30:])
def test_what_cannot_be_expressed_is_refused_with_its_place(body: str) -> None:
    with pytest.raises(Unsupported) as refused:
        read(body)
    wanted = REFUSED[body]
    if wanted is not None:
        error = refused.value
        assert (error.line, error.column, error.construct) == wanted, str(error)


@pytest.mark.parametrize(
    "body",
    [
        "for int i in [1:1000] { for int j in [1:1000] { } }",
        "def f(int n) { if (n > 0) { f(n - 1); f(n - 1); } }\nf(40);",
        "gate g0(t) a { x a; }\n"
        + "".join(f"gate g{n + 1}(t) a {{ g{n}(t) a; g{n}(t) a; }}\n" for n in range(30))
        + "qubit q; g30(1) q;",
        "gate g0(t) a { }\n"
        + "".join(f"gate g{n + 1}(t) a {{ g{n}(t) a; g{n}(t + 1) a; }}\n" for n in range(30))
        + "qubit q; ctrl @ g30(1) q, $0;",
    ],
)
def test_work_without_bound_is_refused(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.jit.frontends.qasm3_expressions.STEPS_MAX", 200)
    with pytest.raises(Unsupported, match=r"more than 200") as refused:
        read(body)
    assert refused.value.line


def test_what_nests_too_deep_is_refused_at_its_line() -> None:
    for body in ("qubit q;\nrx(" + "(" * 999 + "1" + ")" * 999 + ") q;\nx q;",):
        with pytest.raises(Unsupported, match="nests too deep") as refused:
            read(body)
        assert refused.value.line == 4


@pytest.mark.parametrize("source", ["", "// nothing\n", "OPENQASM 4.0;\nqubit q;\n"])
def test_what_is_no_program_of_version_three_is_refused(source: str) -> None:
    with pytest.raises(Unsupported):
        qasm3.load(source)


def test_a_wide_register_is_compared_as_a_whole() -> None:
    circuit = read("bit[600] c; qubit q; x q; c[5] = measure q; if (c == 0) x q;")
    assert set(measured(circuit)) == {f"{1 << 5:0600b}"}


def test_a_barrier_in_a_gate_stays_where_it_stands() -> None:
    gate = "gate g a, b { x a; barrier a, b; y b; }\nqubit[3] q; "
    for call, names in {
        "g q[0], q[1];": ["x", "barrier", "y"],
        "inv @ g q[0], q[1];": ["y", "barrier", "x"],
        "ctrl @ g q[2], q[0], q[1];": ["cx", "barrier", "cy"],
    }.items():
        found = read(gate + call).operations
        assert [each.name for each in found] == names
        assert found[1].qubits == (0, 1)


def test_the_right_side_of_and_is_left_out_where_the_left_side_is_known_to_decide() -> None:
    body = "qubit q; def f(qubit a) -> bit { x a; return measure a; }\n"
    assert not read(body + "bool b = false && f(q); bool c = true || f(q);").operations
    assert len(read(body + "bool b = true && f(q);").operations) == 2


def test_a_file_includes_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.inc").write_text("gate twice a { U(0, 0, 0) a; }\nnosuch $0;\n")
    main = tmp_path / "main.qasm"
    main.write_text('OPENQASM 3;\ninclude "mine.inc";\nqubit q;\ntwice q;\n')
    with pytest.raises(Unsupported, match=r"mine\.inc:2:1: nosuch"):
        load(main)
    (tmp_path / "mine.inc").write_text("gate twice a { U(pi, 0, pi) a; U(pi, 0, pi) a; }\n")
    assert [each.name for each in load(main).operations] == ["u", "u"]
