"""Methods beside formulas, exact distributions, and machines whose errors are known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from harness.em.backends.backend import (
    GAP_BIN,
    Calibration,
    Capabilities,
    Outcome,
    QubitFigures,
    Refused,
)
from harness.em.backends.device import Device, device
from harness.em.backends.physical import Physical
from harness.em.backends.superoperators import Superoperators
from harness.em.circuits.exact import exact_terms, state_of
from harness.em.circuits.families import FAMILIES, make
from harness.em.circuits.paulis import Basis, Term, bases, measured, observable, pauli
from harness.em.circuits.tasks import VIRTUAL, Gates, Task, figures
from harness.em.methods import cdr, decay, distance, gap, pec, readings
from harness.em.methods.direct import Unmitigated
from harness.em.methods.folding import CannotFold, folded, noisy
from harness.em.methods.plan import Estimate, Known, Method, Plan, Unplannable
from harness.em.methods.registry import ABOUT, method
from harness.em.methods.zne import ZeroNoise, bounded
from harness.em.running import carried_out

METHODS = (
    "none", "readout", "zne", "zne:fit=linear,folding=local", "zne:fit=exponential",
    "zne:fit=polynomial", "richardson:split=equal,readout=no", "pec:samples=20", "cdr",
)  # fmt: skip


def known_of(backend: Physical) -> Known:
    return Known(capabilities=backend.capabilities, calibration=backend.calibration)


def pauli_machine(qubits: int, seed: int) -> Device:
    """Without what is no Pauli channel: no T1, nothing turned too far."""
    machine = device(qubits, seed)
    still = tuple(msgspec.structs.replace(q, t1_s=None) for q in machine.figures.qubits)
    return msgspec.structs.replace(
        machine, figures=msgspec.structs.replace(machine.figures, qubits=still)
    )


class Exactly:
    """A backend without shot noise: counts are probabilities times 10^12, rounded."""

    name, availability, crypto_modes = "exactly", 1.0, ()

    def __init__(self, machine: Device) -> None:
        self.calibration = machine.figures
        self.capabilities = Capabilities(qubits=8)
        self._engine = Superoperators(machine)

    def outcomes(self, plan: Plan) -> list[Outcome]:
        found = []
        for run in plan.runs:
            chances = self._engine.probabilities(run.circuit)
            words = {f"{w:0{run.circuit.width}b}": round(c * 1e12) for w, c in enumerate(chances)}
            found.append(Outcome(counts={w: n for w, n in words.items() if n}))
        return found

    def estimate(self, how: Method, task: Task) -> Estimate:
        plan = how.plan(task, Known(capabilities=self.capabilities, calibration=self.calibration),
                        10_000, 1)  # fmt: skip
        return how.reduce(plan, self.outcomes(plan))


@pytest.mark.parametrize("text", METHODS)
@pytest.mark.parametrize("family", ["vqe-hea", "h2"])
def test_a_plan_uses_exactly_the_shots_it_is_given(text: str, family: str) -> None:
    backend, task = Physical(4, 1), make(family, 1, 4)
    for shots in (2_501, 20_000):
        plan = method(text).plan(task, known_of(backend), shots, 3)
        assert plan.shots == shots
        assert all(run.shots >= 1 for run in plan.runs)
        assert 0 <= plan.shots_beside < shots


@pytest.mark.parametrize("text", METHODS)
def test_a_plan_follows_from_its_seed_and_a_value_from_its_counts(text: str) -> None:
    backend, task = Physical(4, 1), make("vqe-hea", 1, 4)
    first, again = (carried_out(method(text), task, backend, 4_000, 5) for _ in range(2))
    assert first.plan.digest == again.plan.digest
    assert first.estimate == again.estimate == method(text).reduce(first.plan, first.outcomes)


@pytest.mark.parametrize("how", ["global", "local"])
@pytest.mark.parametrize("scale", [1.0, 1.4, 2.0, 3.0, 5.0, 6.5])
def test_a_folded_circuit_is_the_same_unitary_with_so_many_gates(how: str, scale: float) -> None:
    body = make("heisenberg", 1, 3).circuit
    made = folded(body, scale, how, seed=2)
    overlap = np.vdot(state_of(body), state_of(made))
    assert abs(overlap) == pytest.approx(1.0)
    assert noisy(made.operations) == pytest.approx(scale * noisy(body.operations), abs=2)
    assert figures(made).gates_2q >= figures(body).gates_2q


def test_scales_that_cannot_be_had_are_refused() -> None:
    body = make("ghz", 1, 3).circuit
    for scale in (0.5, 100.0):
        with pytest.raises(CannotFold, match="scaled by 1 to"):
            folded(body, scale)
    with pytest.raises(CannotFold, match="global or local"):
        folded(body, 3, "sideways")


def test_turns_of_the_frame_are_not_folded_by_themselves() -> None:
    gates = Gates(1)
    for name in ("h", "s", "h"):
        gates.add(name, 0)
    made = folded(gates.circuit(), 3, "local")
    assert sum(each.name in VIRTUAL for each in made.operations) == 1


def test_a_reading_has_the_means_and_covariance_of_its_shots() -> None:
    basis = Basis(pauli("Z0 Z1"), (Term(1.0, pauli("Z0")), Term(1.0, pauli("Z0 Z1"))))
    found = readings.reading(Outcome(counts={"00": 400, "01": 300, "10": 200, "11": 900}), basis)
    shots = np.array([[1, 1]] * 400 + [[-1, -1]] * 300 + [[1, -1]] * 200 + [[-1, 1]] * 900)
    assert found.means == pytest.approx(shots.mean(axis=0))
    assert found.covariance == pytest.approx(np.cov(shots.T) / len(shots))


def test_readout_errors_are_undone_exactly_where_they_are_known() -> None:
    machine = device(3, 4, strength=0.0)
    exact = Exactly(machine)
    task = make("ghz", 1, 3)
    basis = bases(task.observable)[0]
    known = machine.figures.qubits
    readout = readings.Readout(
        np.array([q.read_1_for_0 for q in known]),
        np.array([q.read_0_for_1 for q in known]),
        np.zeros(3),
        np.zeros(3),
    )
    plan = Unmitigated().plan(task, Known(capabilities=exact.capabilities,
                                          calibration=exact.calibration), 100, 1)  # fmt: skip
    found = readings.reading(exact.outcomes(plan)[0], basis, readout)
    # Relaxation is left; the same machine with perfect readout has it alone.
    perfect = tuple(msgspec.structs.replace(q, read_1_for_0=0.0, read_0_for_1=0.0) for q in known)
    quiet = Exactly(
        msgspec.structs.replace(
            machine, figures=msgspec.structs.replace(machine.figures, qubits=perfect)
        )
    )
    plain = readings.reading(quiet.outcomes(plan)[0], basis)
    assert found.means == pytest.approx(plain.means, abs=1e-9)


@pytest.mark.parametrize("family", ["clifford", "mirror", "ghz"])
def test_rates_of_decay_are_exact_for_clifford_circuits_under_pauli_errors(family: str) -> None:
    machine = pauli_machine(4, 6)
    quiet = tuple(
        msgspec.structs.replace(q, read_1_for_0=0.0, read_0_for_1=0.0)
        for q in machine.figures.qubits
    )
    machine = msgspec.structs.replace(
        machine, figures=msgspec.structs.replace(machine.figures, qubits=quiet)
    )
    task = make(family, 2, 4)
    for basis, outcome in zip(
        bases(task.observable),
        Exactly(machine).outcomes(Unmitigated().plan(task, _known(machine), 100, 1)),
        strict=True,
    ):
        products = [term.product for term in basis.terms]
        circuit = measured(task.circuit, basis.letters)
        body = circuit.with_operations([e for e in circuit.operations if e.name != "measure"])
        turned = [tuple((q, "Z") for q, _ in product) for product in products]
        rates = decay.rates(body, turned, machine.figures)
        ideal, _ = exact_terms(task.circuit, products)
        seen = readings.reading(outcome, basis).means
        assert seen == pytest.approx(np.array(ideal) * np.exp(-rates), abs=1e-9)


def _known(machine: Device) -> Known:
    return Known(capabilities=Capabilities(qubits=8), calibration=machine.figures)


def test_calibrated_extrapolation_is_nearly_exact_where_the_calibration_is() -> None:
    machine = Exactly(pauli_machine(4, 6))
    for family in ("clifford", "vqe-ucc-h2", "qaoa-ring"):
        task = make(family, 2, 4)
        plain = machine.estimate(Unmitigated(), task).value - task.exact
        found = machine.estimate(ZeroNoise(), task).value - task.exact
        assert abs(found) < 0.1 * abs(plain)


def test_inverse_errors_undo_errors() -> None:
    machine = pauli_machine(3, 2)
    body = make("vqe-hea", 1, 3).circuit
    signs = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    for slot in pec.slots(body, machine.figures):
        table = signs if len(slot.qubits) == 1 else np.kron(signs, signs)
        kept = 1 / (table @ slot.quasi)
        assert slot.quasi.sum() == pytest.approx(1.0)
        assert slot.gamma >= 1
        assert (kept <= 1 + 1e-12).all()
        assert (kept > 0.9).all()


def test_error_cancellation_is_unbiased_within_five_standard_errors() -> None:
    machine = pauli_machine(3, 2)
    backend = Physical(3, 2, turn_2q=0.0)
    backend.device = machine
    backend._exact = Superoperators(machine)
    backend.calibration = machine.figures
    task = make("vqe-hea", 4, 3, 4)
    found = carried_out(pec.ErrorCancellation(300), task, backend, 400_000, 3)
    error = found.estimate.value - task.exact
    # Paulis that are put in err themselves, so a little is left.
    assert abs(error) < 5 * found.estimate.std_err + 0.01 * task.observable.spread
    plain = carried_out(method("none"), task, backend, 400_000, 3).estimate
    assert abs(plain.value - task.exact) > 2 * abs(error)


def test_error_cancellation_declines_where_it_would_cost_a_hundredfold() -> None:
    backend = Physical(4, 1, strength=10)
    plan = method("pec").plan(make("heisenberg", 1, 4), known_of(backend), 1000, 1)
    assert "times as many" in plan.note
    assert plan.shots == 1000


def test_near_clifford_circuits_keep_so_many_turns_and_the_rest_is_clifford() -> None:
    task = make("vqe-hea", 1, 4)
    rng = np.random.Generator(np.random.PCG64(1))
    made = cdr.near_clifford(task.circuit, 4, rng)
    assert sum(cdr._free(each) for each in made.operations) == 4
    assert len(made.operations) == len(task.circuit.operations)


def test_a_line_is_found_and_a_slope_of_one_where_data_say_nothing() -> None:
    x = np.array([0.1, 0.3, 0.5, 0.9])
    slope, shift, _ = cdr.line(x, 1.5 * x + 0.1, True)
    assert slope == pytest.approx(1.5)
    assert shift == pytest.approx(0.1)
    assert cdr.line(x, 1.5 * x, False)[0] == pytest.approx(1.5)
    assert cdr.line(np.zeros(4), np.ones(4), False)[0] == 1.0


def logical_known(quick: float, gaps: bool = False) -> Known:
    qubit = QubitFigures(error=quick, t1_s=None, t2_s=None, read_1_for_0=0, read_0_for_1=0)
    return Known(
        capabilities=Capabilities(qubits=8, gaps=gaps, distances=(5, 7)),
        calibration=Calibration(
            backend="x", taken_at="", qubits=(qubit,) * 8, any_pair=quick, gate_1q_s=1e-6,
            gate_2q_s=1e-6, readout_s=0, by_distance={"5": 3 * quick, "7": quick},
            slow_by_distance={"5": 9 * quick, "7": 3 * quick},
        ),
    )  # fmt: skip


def test_scaling_by_distance_is_declined_within_shot_noise_and_planned_beyond() -> None:
    task, how = make("clifford", 1, 4), distance.DistanceScaled()
    weak = how.plan(task, logical_known(1e-7), 10_000, 1)
    assert "within shot noise" in weak.note
    assert {run.distance for run in weak.runs} == {7}
    strong = how.plan(task, logical_known(1e-3), 10_000, 1)
    assert not strong.note
    time = sum(run.shots * distance.qubit_time(run.distance or 7, 7) for run in strong.runs)
    assert time == pytest.approx(10_000, abs=1)


def test_scaling_by_distance_is_exact_where_values_fall_as_calibrated() -> None:
    task, how = make("clifford", 1, 4), distance.DistanceScaled()
    term = task.observable.terms[0]
    alone = observable([(term.product, math.copysign(1, term.weight))])
    plan = how.plan(
        msgspec.structs.replace(task, observable=alone), logical_known(1e-3), 10_000_000, 1
    )
    assert plan.data["ratio"] == pytest.approx(3.0)
    outcomes = [
        with_value(term.product, math.exp(-plan.data["rates"][0] * scale) * alone.terms[0].weight)
        for scale in (1, 3)
    ]
    assert [run.distance for run in plan.runs] == [7, 5]
    assert how.reduce(plan, outcomes).value == pytest.approx(1.0, abs=1e-3)


def with_value(product: tuple[tuple[int, str], ...], value: float) -> Outcome:
    """Counts of four qubits in which the product has this mean."""
    odd = ["0"] * 4
    odd[-1 - product[0][0]] = "1"
    up = round(1e9 * (1 + value) / 2)
    return Outcome(counts={"0000": up, "".join(odd): 10**9 - up})


def test_what_a_backend_lacks_is_refused() -> None:
    known, task = known_of(Physical(4, 1)), make("ghz", 1, 3)
    with pytest.raises(Refused, match="two code distances"):
        method("ds-zne").plan(task, known, 100, 1)
    with pytest.raises(Refused, match="tells them"):
        method("gap").plan(task, known, 100, 1)


def drawn_gaps(curve: gap.Curve, shots: int, seed: int, harder: float = 1.0) -> Outcome:
    """One qubit in |0>, flipped as the curve says; gaps as of a memory."""
    rng = np.random.Generator(np.random.PCG64(seed))
    bins = (rng.gamma(3.0, 2.0 / harder, shots) / GAP_BIN).astype(int)
    wrong = rng.random(shots) < curve.wrong((bins + 0.5) * GAP_BIN)
    gaps: dict[str, dict[int, int]] = {}
    for word, chosen in (("0", ~wrong), ("1", wrong)):
        kinds, number = np.unique(bins[chosen], return_counts=True)
        gaps[word] = dict(zip(kinds.tolist(), number.tolist(), strict=True))
    return Outcome(counts={w: sum(each.values()) for w, each in gaps.items()}, gaps=gaps)


def test_a_fitted_curve_is_the_one_that_flips_were_drawn_from() -> None:
    true = gap.Curve(slope=0.8, offset=-0.4)
    model = gap.fitted([gap.Seen(drawn_gaps(true, 200_000, 1), pauli("Z0"), 1)])
    found = model.curve(pauli("Z0"))
    # Standard errors at this many flips are about 0.01 and 0.03.
    assert found.slope == pytest.approx(true.slope, abs=0.05)
    assert found.offset == pytest.approx(true.offset, abs=0.15)


@pytest.mark.parametrize("harder", [1.0, 1.3])
def test_rescaling_by_gaps_removes_the_bias_also_where_gaps_are_smaller(harder: float) -> None:
    true = gap.Curve(slope=0.8, offset=-0.4)
    model = gap.fitted([gap.Seen(drawn_gaps(true, 200_000, 1), pauli("Z0"), 1)])
    task = msgspec.structs.replace(
        make("ghz", 1, 2), circuit=Gates(1).circuit(), observable=observable([(pauli("Z0"), 1.0)])
    )
    known = logical_known(1e-3, gaps=True)
    plan = gap.GapRescaling(model).plan(task, known, 100_000, 1)
    outcome = drawn_gaps(true, 100_000, 2, harder)
    value, variance, poor = gap.rescaled(plan, [outcome], model)
    raw = Unmitigated().reduce(plan, [outcome]).value
    assert not poor
    assert abs(value - 1) < 5 * math.sqrt(variance) + 0.01
    assert abs(raw - 1) > 0.05


def test_without_flips_or_gaps_there_is_no_curve() -> None:
    with pytest.raises(Unplannable, match="no outcomes"):
        gap.fitted([])
    with pytest.raises(Unplannable, match="no outcomes"):
        gap.fitted([gap.Seen(Outcome(counts={"0": 5}), pauli("Z0"), 1)])


def test_a_value_that_cannot_be_is_cut_and_said_so() -> None:
    task = make("ghz", 1, 2)
    plan = Unmitigated().plan(task, known_of(Physical(2, 1)), 1000, 1)
    wild = [Outcome(counts={"00": 500}) for _ in plan.runs]
    found = ZeroNoise("linear", readout=False)
    whole = found.plan(task, known_of(Physical(2, 1)), 1000, 1)
    half = Outcome(counts={"00": 300, "01": 200})
    estimate = found.reduce(whole, [*wild, *([half] * len(plan.bases))])
    assert estimate.clipped
    assert estimate.value == pytest.approx(1.0)


@pytest.mark.parametrize("text", [*METHODS, "ds-zne:distances=5+7", "gap"])
def test_methods_are_read_from_what_a_person_writes(text: str) -> None:
    assert method(text).name in ABOUT or method(text).name == "zne"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("magic", "No method"),
        ("zne:fit=cubic", "fits linear"),
        ("zne:scales=3+1", "Scales rise"),
        ("zne:fit=linear,scales=1", "takes 2 scales"),
        ("zne:speed=9", "no option speed"),
        ("pec:samples", "name=value"),
        ("zne:readout=maybe", "yes nor no"),
        ("cdr:circuits=2", "three training"),
    ],
)
def test_a_method_that_is_none_is_refused_with_what_there_is(text: str, why: str) -> None:
    with pytest.raises(Unplannable, match=why):
        method(text)


def coverage(texts: Sequence[str], repeats: int) -> dict[str, list[bool]]:
    """Whether intervals hold, over families, on a machine whose calibration is a day old."""
    backend = Physical(6, 31, day=2, age_days=1)
    found: dict[str, list[bool]] = {text: [] for text in texts}
    for family, row in FAMILIES.items():
        task = make(family, 11, max(row.qubits_min, min(4, row.qubits_max)))
        for text in texts:
            for seed in range(repeats):
                one = carried_out(method(text), task, backend, 12_000, seed).estimate
                found[text].append(one.low <= task.exact <= one.high)
    return found


@pytest.mark.slow
def test_intervals_of_extrapolation_hold_the_exact_value_as_often_as_they_should() -> None:
    """Systematic errors are in none of them, so 80 % is asked of 95 %."""
    for text, inside in coverage(["zne", "richardson"], 6).items():
        assert np.mean(inside) > 0.8, text


def test_a_product_of_which_nothing_can_be_told_counts_as_nothing() -> None:
    """X of all 60 qubits of a cat state is gone; that leaves the half that ZZ make up, unsure."""
    backend, task = Physical(60, 2), make("ghz", 1, 60)
    found = carried_out(method("zne"), task, backend, 4_000, 1).estimate
    assert 0.35 < found.value < 0.6
    assert found.std_err <= task.observable.spread
    assert found.low <= task.exact <= found.high


def test_values_near_their_bounds_are_the_likeliest_and_unknown_ones_the_mean() -> None:
    heights = np.array([1.004, 0.3, 40.0, 0.0])
    precision = 1 / np.array([0.01, 0.01, 1000.0, 1000.0]) ** 2
    mean, variance = bounded(heights, precision)
    assert mean == pytest.approx([1.0, 0.3, 0.0, 0.0], abs=1e-3)
    assert variance[2:] == pytest.approx(1 / 3, rel=1e-3)
    assert variance[1] == pytest.approx(1e-4, rel=1e-3)


def test_uncertain_readout_adds_what_moving_its_chances_would() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    task = make("ghz", 1, 3)
    found = bases(task.observable)
    words = [f"{word:03b}" for word in range(8)]
    outcomes = [
        Outcome(counts=dict(zip(words, rng.integers(50, 500, 8).tolist(), strict=True)))
        for _ in found
    ]
    readout = readings.Readout(
        np.array([0.01, 0.02, 0.03]),
        np.array([0.02, 0.01, 0.05]),
        np.full(3, 1e-6),
        np.full(3, 4e-6),
    )

    def value(moved: readings.Readout) -> float:
        each = [readings.reading(o, b, moved) for o, b in zip(outcomes, found, strict=True)]
        return readings.total(task.observable, found, each)[0]

    expected = 0.0
    for qubit in range(3):
        for field, step in (("read_1_for_0", 1e-3), ("read_0_for_1", 2e-3)):
            chances = getattr(readout, field) + step * np.eye(3)[qubit]
            expected += (value(readout._replace(**{field: chances})) - value(readout)) ** 2
    told = readings.variance_of_readout(task.observable, found, outcomes, readout)
    assert told == pytest.approx(expected, rel=1e-9)
