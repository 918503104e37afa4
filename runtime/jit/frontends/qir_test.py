"""QIR against distributions known by hand, and against the QIR Alliance's own runner."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.circuit import Unsupported, check
from runtime.jit.frontends.qir import load
from tests import branches

pyqir = pytest.importorskip("pyqir", reason="pyqir reads QIR; the extra `jit` holds it")

DECLARED = """
declare void @__quantum__qis__h__body(ptr)
declare void @__quantum__qis__x__body(ptr)
declare void @__quantum__qis__cnot__body(ptr, ptr)
declare void @__quantum__qis__t__adj(ptr)
declare void @__quantum__qis__rx__body(double, ptr)
declare void @__quantum__qis__mz__body(ptr, ptr writeonly)
declare void @__quantum__qis__mresetz__body(ptr, ptr writeonly)
declare void @__quantum__qis__reset__body(ptr)
declare i1 @__quantum__rt__read_result(ptr)
declare void @__quantum__rt__result_record_output(ptr, ptr)
declare void @__quantum__rt__bool_record_output(i1, ptr)
declare void @__quantum__rt__int_record_output(i64, ptr)
declare void @__quantum__rt__array_record_output(i64, ptr)
declare void @__quantum__rt__tuple_record_output(i64, ptr)
declare void @__quantum__rt__message(ptr)
declare ptr @__quantum__rt__qubit_allocate()
declare void @__quantum__rt__qubit_release(ptr)
declare ptr @__quantum__qis__m__body(ptr)
declare i1 @__quantum__rt__result_equal(ptr, ptr)
declare ptr @__quantum__rt__result_get_one()
attributes #0 = { "entry_point" "required_num_qubits"="4" "required_num_results"="8" }
"""


def number(each: int) -> str:
    return f"ptr inttoptr (i64 {each} to ptr)"


def called(name: str, *arguments: str) -> str:
    return f"  call void @__quantum__qis__{name}({', '.join(arguments)})"


def mz(qubit: int, result: int) -> str:
    return called("mz__body", number(qubit), number(result))


def read(name: str, result: int) -> str:
    return f"  %{name} = call i1 @__quantum__rt__read_result({number(result)})"


def recorded(kind: str, value: str) -> str:
    return f"  call void @__quantum__rt__{kind}_record_output({value}, ptr null)"


def program(*lines: str) -> str:
    body = "\n".join(lines)
    return f"define void @main() #0 {{\nentry:\n{body}\n  ret void\n}}\n{DECLARED}"


def found(source: Any) -> dict[str, float]:
    circuit = load(source)
    check(circuit)
    return branches.by_qvm(circuit)


H0, H1 = called("h__body", number(0)), called("h__body", number(1))


def test_a_bell_pair_of_the_base_profile_is_the_same_as_text_as_bitcode_and_as_module() -> None:
    text = program(
        H0,
        called("cnot__body", number(0), number(1)),
        mz(0, 0),
        mz(1, 1),
        recorded("array", "i64 2"),
        recorded("result", number(0)),
        recorded("result", number(1)),
    )
    module = pyqir.Module.from_ir(pyqir.Context(), text)
    for source in (text, module.bitcode, module):
        assert found(source) == pytest.approx({"00": 0.5, "11": 0.5})


def test_a_loop_of_known_length_is_unrolled_and_its_counter_chooses_qubits() -> None:
    text = program(
        H0,
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
        "  %next = add i64 %i, 1",
        "  %a = inttoptr i64 %i to ptr",
        "  %b = inttoptr i64 %next to ptr",
        called("cnot__body", "ptr %a", "ptr %b"),
        "  %more = icmp ult i64 %next, 3",
        "  br i1 %more, label %loop, label %done",
        "done:",
        *(mz(qubit, qubit) for qubit in range(4)),
        *(recorded("result", number(qubit)) for qubit in range(4)),
    )
    assert found(text) == pytest.approx({"0000": 0.5, "1111": 0.5})


def test_a_branch_on_a_result_is_taken_both_ways_and_its_values_meet_in_phis() -> None:
    text = program(
        H0,
        mz(0, 0),
        read("a", 0),
        "  br i1 %a, label %yes, label %no",
        "yes:",
        called("x__body", number(1)),
        "  br label %met",
        "no:",
        "  br label %met",
        "met:",
        "  %which = phi i64 [ 2, %yes ], [ 3, %no ]",
        "  %angle = phi double [ 0x400921FB54442D18, %yes ], [ 0.0, %no ]",
        "  %qubit = inttoptr i64 %which to ptr",
        called("rx__body", "double %angle", "ptr %qubit"),
        *(mz(qubit, qubit) for qubit in range(1, 4)),
        *(recorded("result", number(qubit)) for qubit in range(4)),
    )
    assert found(text) == pytest.approx({"0000": 0.5, "0111": 0.5})


def test_integers_of_results_are_reckoned_switched_on_and_recorded() -> None:
    text = program(
        H0,
        H1,
        mz(0, 0),
        mz(1, 1),
        read("a", 0),
        read("b", 1),
        "  %x = zext i1 %a to i64",
        "  %y = zext i1 %b to i64",
        "  %y2 = shl i64 %y, 1",
        "  %sum = add i64 %x, %y2",
        "  switch i64 %sum, label %other [ i64 1, label %one",
        "    i64 3, label %one ]",
        "one:",
        called("x__body", number(2)),
        "  br label %other",
        "other:",
        "  %square = mul i64 %sum, %sum",
        "  %both = and i1 %a, %b",
        mz(2, 2),
        recorded("int", "i64 %square"),
        recorded("bool", "i1 %both"),
        recorded("result", number(2)),
    )
    assert found(text) == pytest.approx(
        {"0000 00": 0.25, "0001 10": 0.25, "0100 00": 0.25, "1001 11": 0.25}
    )


def test_a_result_measured_again_on_one_way_keeps_its_value_on_the_other() -> None:
    text = program(
        H0,
        mz(0, 0),
        called("x__body", number(1)),
        mz(1, 1),
        read("a", 0),
        "  br i1 %a, label %yes, label %met",
        "yes:",
        called("mresetz__body", number(0), number(1)),
        called("reset__body", number(1)),
        mz(1, 1),
        "  br label %met",
        "met:",
        mz(0, 2),
        *(recorded("result", number(each)) for each in (0, 1, 2)),
    )
    assert found(text) == pytest.approx({"010": 0.5, "001": 0.5})


def test_a_result_that_was_never_measured_is_0() -> None:
    text = program(
        read("a", 5),
        "  br i1 %a, label %yes, label %met",
        "yes:",
        called("x__body", number(0)),
        "  br label %met",
        "met:",
        mz(0, 0),
        recorded("result", number(0)),
        recorded("result", number(5)),
    )
    assert found(text) == pytest.approx({"00": 1.0})


def test_functions_of_the_program_go_inline_and_qubits_may_be_allocated() -> None:
    text = program(
        "  %q = call ptr @__quantum__rt__qubit_allocate()",
        called("h__body", "ptr %q"),
        "  %r = call ptr @__quantum__qis__m__body(ptr %q)",
        "  %one = call ptr @__quantum__rt__result_get_one()",
        "  %is = call i1 @__quantum__rt__result_equal(ptr %r, ptr %one)",
        f"  %done = call i64 @flip(i1 %is, {number(1)})",
        mz(1, 1),
        recorded("int", "i64 %done"),
        recorded("result", number(1)),
        recorded("result", "ptr %r"),
        "  call void @__quantum__rt__qubit_release(ptr %q)",
    ) + (
        "define i64 @flip(i1 %c, ptr %q) {\nentry:\n  br i1 %c, label %yes, label %no\n"
        "yes:\n  call void @__quantum__qis__x__body(ptr %q)\n  ret i64 6\nno:\n  ret i64 1\n}\n"
    )
    assert found(text) == pytest.approx({"001 00": 0.5, "110 11": 0.5})


def test_variables_in_memory_and_choices_follow_results() -> None:
    text = program(
        "  %cell = alloca i64",
        "  store i64 2, ptr %cell",
        H0,
        mz(0, 0),
        read("a", 0),
        "  br i1 %a, label %yes, label %met",
        "yes:",
        "  store i64 5, ptr %cell",
        "  br label %met",
        "met:",
        "  %v = load i64, ptr %cell",
        "  %turn = select i1 %a, double 0x400921FB54442D18, double 0.0",
        "  %half = fmul double %turn, 5.0e-1",
        "  %whole = fadd double %half, %half",
        called("rx__body", "double %whole", number(1)),
        mz(1, 1),
        recorded("int", "i64 %v"),
        recorded("result", number(1)),
    )
    assert found(text) == pytest.approx({"010 0": 0.5, "101 1": 0.5})


def test_a_program_that_records_nothing_shows_its_results_by_number() -> None:
    circuit = load(program(H0, mz(0, 2)))
    assert [(each.name, each.size) for each in circuit.bits if not each.hidden] == [("r", 3)]
    assert branches.by_qvm(circuit) == pytest.approx({"000": 0.5, "100": 0.5})


def test_labels_name_registers_where_they_can_and_are_kept_where_they_cannot() -> None:
    text = (
        '@a = internal constant [4 x i8] c"out\\00"\n@b = internal constant [4 x i8] c"0_t\\00"\n'
        + program(
            mz(0, 0),
            "  call void @__quantum__rt__tuple_record_output(i64 2, ptr @b)",
            recorded("result", number(0)),
            recorded("result", number(0)),
            f"  call void @__quantum__rt__result_record_output({number(0)}, ptr @a)",
        )
    )
    circuit = load(text)
    assert [(e.name, e.size) for e in circuit.bits if not e.hidden] == [("output0", 2), ("out", 1)]
    assert circuit.metadata == {"labels": {"output0": "0_t"}}


def until_one(*inside: str) -> str:
    """Measure until 1 is seen."""
    return program(
        "  br label %loop",
        "loop:",
        H0,
        *inside,
        mz(0, 0),
        read("a", 0),
        "  br i1 %a, label %done, label %loop",
        "done:",
        recorded("result", number(0)),
    )


@pytest.mark.parametrize("label", ["i64 5", "[2 x i8] zeroinitializer", "[2 x i64] [i64 1, i64 2]"])
def test_a_label_that_is_no_string_is_none(label: str) -> None:
    record = f"  call void @__quantum__rt__result_record_output({number(0)}, ptr @label)"
    circuit = load(f"@label = internal constant {label}\n" + program(mz(0, 0), record))
    assert [(each.name, each.size) for each in circuit.bits][1:] == [("output0", 1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("define void @main() {\n bad\n}", r"^f\.ll: it is no LLVM module: .*expected instr"),
        ("define void @f() {\n ret void\n}", "one entry point and there are 0"),
        (until_one(), r"f\.ll:\d+: .*more than 64 deep"),
        (program(called("h__ctl", number(0))).replace("h__body(ptr)", "h__ctl(ptr)"),
         r"f\.ll:3: call .*h__ctl is not known here"),
        (program("  call void @__quantum__rt__message(ptr null)"), "f.ll:3: .*__message is not"),
        (program(H0, called("cnot__body", number(1), number(1))), "f.ll:4: .*one qubit twice"),
        (program(called("x__body", "ptr undef")), "f.ll:3: .*not defined"),
        (program(called("x__body", "ptr poison")), "f.ll:3: .*not defined"),
        (program(called("x__body", "ptr @main")), "f.ll:3: .*not defined"),
        (program(called("x__body", number(1 << 40))), r"f\.ll:3: .*no qubit below 100,000"),
        (program("  %a = sdiv i64 1, 0", recorded("int", "i64 %a")), "f.ll:4: .*not defined"),
        (program("  br i1 undef, label %a, label %a", "a:"), "f.ll:3: .*branches on a value"),
        (program(mz(0, 0), read("a", 0), "  br i1 %a, label %y, label %n", "y:",
                 recorded("result", number(0)), "  br label %n", "n:"),
         "f.ll:7: .*whether this is recorded depends"),
    ],
)  # fmt: skip
def test_what_cannot_be_held_is_refused_where_it_stands(text: str, said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        load(text, file="f.ll")


# --- beside the runner of the QIR Alliance --------------------------------------------------------

QUBITS, RESULTS, SHOTS = 3, 4, 600


@st.composite
def steps(draw: st.DrawFn, depth: int = 2) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for _ in range(draw(st.integers(1, 4))):
        a, b = draw(st.permutations(range(QUBITS)))[:2]
        kind = draw(st.sampled_from(["one", "one", "two", "turn", "mz", "if"]))
        result = draw(st.integers(0, RESULTS - 1))
        if kind == "one":
            found.append((draw(st.sampled_from(["h", "h", "x", "y", "s_adj", "t", "reset"])), a))
        elif kind == "two":
            found.append((draw(st.sampled_from(["cx", "cz"])), a, b))
        elif kind == "turn":
            found.append((draw(st.sampled_from(["rx", "ry", "rz"])), 0.7, a))
        elif kind == "mz" or not depth:
            found.append(("mz", a, result))
        else:
            yes, no = draw(steps(depth - 1)), draw(st.one_of(st.none(), steps(depth - 1)))
            found += [("mz", b, result), ("if", result, yes, no)]
    return found


def built(listed: list[tuple[Any, ...]]) -> str:
    """The QIR text of some steps, all results recorded, by pyqir."""
    made = pyqir.SimpleModule("made", QUBITS, RESULTS)
    qis = pyqir.BasicQisBuilder(made.builder)

    def write(steps: list[tuple[Any, ...]] | None) -> None:
        for name, *operands in steps or []:
            if name == "if":
                result, yes, no = operands
                qis.if_result(made.results[result], lambda y=yes: write(y), lambda n=no: write(n))
            elif name == "mz":
                qis.mz(made.qubits[operands[0]], made.results[operands[1]])
            else:
                values = [made.qubits[o] if isinstance(o, int) else o for o in operands]
                getattr(qis, name)(*values)

    write(listed)
    label = pyqir.Constant.null(pyqir.PointerType(pyqir.IntType(made.context, 8)))
    runtime = importlib.import_module("pyqir.rt")
    for result in made.results:
        runtime.result_record_output(made.builder, result, label)
    return str(made.ir())


def run_by_the_alliance(text: str, path: Path) -> Counter[str]:
    """Counts of the recorded results, the first one last."""
    runner = pytest.importorskip(
        "qirrunner", reason="the QIR Alliance's runner is no dependency; .ci/run installs it"
    )
    path.write_text(text)
    told: list[Any] = []
    runner.run(str(path), shots=SHOTS, rng_seed=1, output_fn=told.append)
    words = "".join(map(str, told)).split()
    shots = "".join(
        word if word in "01" else " "
        for before, word in pairwise(words)
        if before == "RESULT" or word == "END"
    )
    return Counter(shot[::-1] for shot in shots.split())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(listed=steps())
def test_an_adaptive_program_is_distributed_as_the_alliances_runner_samples_it(
    listed: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Within five standard errors, and nothing is seen that cannot be."""
    # The runner takes result 1 for the constant 1 as long as it is not measured, so all are.
    first = [("mz", 2, result) for result in range(RESULTS)]
    text = built([*first, ("h", 0), ("h", 1), *listed])
    circuit = load(text)
    check(circuit)
    wanted = branches.distribution(circuit)
    assert branches.by_qvm(circuit) == pytest.approx(wanted, abs=1e-9)
    counts = run_by_the_alliance(text, tmp_path_factory.mktemp("qir") / "made.ll")
    assert counts.total() == SHOTS
    assert set(counts) <= {key for key, p in wanted.items() if p > 1e-12}
    for key, p in wanted.items():
        assert abs(counts[key] - SHOTS * p) <= 5 * math.sqrt(SHOTS * p * (1 - p)) + 1e-6, key
