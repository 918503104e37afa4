"""Who is chosen, who is refused and why; reservations, batches, prices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.api import CircuitFeatures
from policy.rules import Rules
from runtime.scheduler.conftest import NOW, calibration, entry, job
from runtime.scheduler.deciding import Choice, Entry, decide, decide_batch, offers
from runtime.scheduler.errors import BadInput
from runtime.scheduler.jobs import Job, Reservation, Scoring, Sla, State

DEFAULT = Scoring()


def choose(entries: Sequence[Entry], one: Job, scoring: Scoring = DEFAULT) -> Choice:
    (row,) = offers([one], entries, Rules(), NOW)
    return decide(one, row, scoring, NOW)


def why(choice: Choice, backend: str, method: str = "") -> str:
    return " ".join(
        sentence
        for each in choice.candidates
        if each.backend_id == backend and (not method or each.method == method)
        for sentence in each.reasons
    )


def test_the_score_is_specs_formula(entries: list[Entry]) -> None:
    choice = choose(entries, job())
    for each in choice.candidates:
        seconds = each.qpu_seconds
        assert each.score == pytest.approx(
            each.expected_fidelity / max(1e-3, seconds) * math.exp(-each.starts_s / 1800.0),
            rel=1e-9,
        )
        assert each.money == pytest.approx(seconds)


def test_a_floor_is_kept_by_the_lower_bound_and_not_by_the_expectation(
    entries: list[Entry],
) -> None:
    expected = {each.backend_id: each for each in choose(entries, job()).candidates}
    best = max(expected.values(), key=lambda each: each.fidelity_low)
    floor = math.nextafter(best.fidelity_low, 1)
    choice = choose(entries, job(sla=Sla(fidelity_floor=floor), methods=(best.method,)))
    assert best.expected_fidelity > floor
    assert choice.chosen is None
    assert "is the floor" in why(choice, best.backend_id)
    kept = choose(entries, job(sla=Sla(fidelity_floor=best.fidelity_low), methods=(best.method,)))
    assert kept.chosen is not None
    assert kept.chosen.backend_id == best.backend_id
    assert kept.sla_kept


def test_a_deadline_is_kept_by_the_bound_on_waiting(entries: list[Entry]) -> None:
    choice = choose(entries, job(sla=Sla(deadline_s=1000.0)))
    assert "the deadline is 1,000 s" in why(choice, "good")
    assert choice.chosen is not None
    assert choice.chosen.backend_id in ("poor", "plain")


def test_a_cost_bound_and_a_budget_of_shots_take_the_expensive_methods_away(
    entries: list[Entry],
) -> None:
    free = choose(entries, job(sla=Sla(fidelity_floor=0.9)))
    assert free.chosen is not None
    bound = choose(entries, job(sla=Sla(cost_max=free.chosen.money / 2)))
    assert bound.chosen is not None
    assert bound.chosen.money <= free.chosen.money / 2
    assert "at most" in why(bound, free.chosen.backend_id, free.chosen.method)
    few = choose(entries, job(shots=100, shots_max=400))
    assert all(each.shots <= 400 for each in few.candidates)


def test_a_crypto_mode_is_a_filter_and_no_weight(entries: list[Entry]) -> None:
    choice = choose(entries, job(crypto_mode="hybrid", sla=Sla(deadline_s=1000.0)))
    assert choice.chosen is not None
    assert choice.chosen.backend_id == "poor"
    assert "no crypto mode hybrid" in why(choice, "plain")
    assert choose(entries, job(crypto_mode="pqc-required")).chosen is None


def test_what_nobody_can_do_is_refused_with_a_reason_for_every_backend(
    entries: list[Entry],
) -> None:
    wide = CircuitFeatures(qubits=9, depth=1, gates_1q=1, gates_2q=9, measurements=9)
    choice = choose([*entries, entry("bare")._replace(snapshot=None)], job(circuit=wide))
    assert choice.chosen is None
    for each in entries:
        assert "hang together" in why(choice, each.backend.backend_id)
    assert "no calibration" in why(choice, "bare")


def test_best_effort_takes_what_breaks_the_least_and_says_so(entries: list[Entry]) -> None:
    one = job(sla=Sla(fidelity_floor=1.0, deadline_s=1000.0), best_effort=True)
    choice = choose(entries, one)
    assert choice.chosen is not None
    assert not choice.sla_kept
    assert choice.chosen.backend_id in ("poor", "plain")
    assert "Nothing keeps the whole SLA" in why(choice, choice.chosen.backend_id)


def test_peers_order_by_what_they_stand_for(entries: list[Entry]) -> None:
    busy = choose(entries, job(), Scoring(name="least-busy")).chosen
    best = choose(entries, job(), Scoring(name="best-fidelity")).chosen
    assert busy is not None
    assert best is not None
    assert busy.starts_s == 0
    assert best.backend_id == "better"
    with pytest.raises(BadInput, match="No scorer"):
        choose(entries, job(), Scoring(name="dice"))


def test_congestion_makes_a_second_dearer_and_availability_lowers_a_score() -> None:
    states = [State(utilisation=each) for each in (0.0, 0.3, 0.99)]
    shown = [entry(f"m{place}")._replace(state=state) for place, state in enumerate(states)]
    choice = choose(shown, job(methods=("none",)))
    by_name = {each.backend_id: each for each in choice.candidates if each.score}
    assert [by_name[f"m{place}"].congestion for place in range(3)] == [
        1.0, pytest.approx(1 / 0.7), 2.0,
    ]  # fmt: skip
    assert choice.chosen is by_name["m0"]
    away = [entry("m0", availability=0.45), entry("m1")]
    scores = [each.score for each in choose(away, job(methods=("none",))).candidates if each.score]
    assert scores[1] == pytest.approx(scores[0] / 2)


def reservation(starts_s: float, ends_s: float, tenant: str) -> Reservation:
    starts, ends = (NOW + timedelta(seconds=each) for each in (starts_s, ends_s))
    return Reservation(
        reservation_id="r",
        backend_id="m",
        tenant=tenant,
        starts_at=starts.isoformat(),
        ends_at=ends.isoformat(),
    )


def test_a_job_runs_around_the_reservations_of_others_and_within_its_own() -> None:
    alone = entry("m", waiting_s=100.0)
    others = alone._replace(reservations=(reservation(50, 100.5, "b"), reservation(101, 5000, "b")))
    own = alone._replace(reservations=(reservation(30, 90, "a"),))
    tight = alone._replace(reservations=(reservation(30, 30.1, "a"),))
    begins = []
    for shown in (alone, others, own, tight):
        choice = choose([shown], job(methods=("none",)))
        assert choice.chosen is not None
        begins.append(choice.chosen.starts_s)
    assert begins == [100.0, 5000.0, 30.0, 100.0]


def test_a_batch_spreads_over_machines_and_the_nearest_deadline_comes_first() -> None:
    shown = [entry("m0"), entry("m1")]
    jobs = [job(number, sla=Sla(deadline_s=1e5 - number), shots=400_000) for number in range(9)]
    done = decide_batch(jobs, shown, Rules(), Scoring(), NOW)
    assert [each.job.sla.deadline_s for each in done] == sorted(1e5 - n for n in range(9))
    used = [each.choice.chosen.backend_id for each in done if each.choice.chosen]
    assert len(used) == 9
    assert set(used) == {"m0", "m1"}
    waits = [each.choice.chosen.starts_s for each in done if each.choice.chosen]
    assert waits[0] == 0
    assert max(waits) > 0
    with pytest.raises(BadInput, match="twice"):
        decide_batch([job(), job()], shown, Rules(), Scoring(), NOW)


def test_a_job_is_the_same_whatever_stands_beside_it_in_the_catalogue(
    entries: list[Entry],
) -> None:
    forth, back = choose(entries, job()), choose(entries[::-1], job())
    assert forth.chosen == back.chosen
    assert set(forth.candidates) == set(back.candidates)


def test_a_bad_job_is_refused_with_the_field() -> None:
    nan = CircuitFeatures(
        qubits=4, depth=1, gates_1q=1, gates_2q=1, measurements=1, mapping_entropy=float("nan")
    )
    for more, word in (
        ({"circuit": nan}, "mapping_entropy"),
        ({"shots": 0}, "budget is zero"),
        ({"shots_max": 1}, "shots_max"),
        ({"sla": Sla(fidelity_floor=1.5)}, "fidelity_floor"),
        ({"sla": Sla(deadline_s=float("nan"))}, "deadline_s"),
        ({"methods": ("magic",)}, "magic"),
    ):
        with pytest.raises(BadInput, match=word):
            choose([entry("m")], job(**more))
    with pytest.raises(BadInput, match="UUID"):
        choose([entry("m")], msgspec.structs.replace(job(), job_id="7"))
    with pytest.raises(BadInput, match="waiting_s"):
        choose([entry("m")._replace(state=State(waiting_s=float("nan")))], job())


def test_a_calibration_from_the_future_is_answered_by_wider_bounds_and_said() -> None:
    fresh = choose([entry("m")], job(methods=("none",))).chosen
    later = offers([job()], [entry("m")], Rules(), NOW - timedelta(days=2))[0]
    choice = decide(job(methods=("none",)), later, Scoring(), NOW - timedelta(days=2))
    assert fresh is not None
    assert choice.chosen is not None
    assert choice.chosen.fidelity_low < fresh.fidelity_low
    assert "future" in " ".join(later[0].notes)
    assert "unknown" in " ".join(later[0].because)


@given(
    st.lists(st.floats(0, 5000), min_size=1, max_size=5),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 10_000)),
)
def test_what_is_chosen_keeps_the_sla_and_no_other_that_does_has_a_better_score(
    waits: list[float], floor: float, deadline: float | None
) -> None:
    shown = [
        entry(f"m{place}", 0.002 * (place + 1), waiting_s=wait) for place, wait in enumerate(waits)
    ]
    one = job(sla=Sla(fidelity_floor=floor, deadline_s=deadline))
    choice = choose(shown, one)
    possible = [each for each in choice.candidates if each.verdict != "refused"]
    for each in possible:
        assert each.fidelity_low >= floor
        assert deadline is None or each.ends_s <= deadline
    if choice.chosen is None:
        assert not possible
        return
    assert choice.sla_kept
    rivals = [each for each in possible if each.method == choice.chosen.method]
    assert choice.chosen.score == max(each.score or 0.0 for each in rivals)


def test_the_harness_and_the_scheduler_know_a_snapshot_by_the_same_digest() -> None:
    from harness.em.backends import backend as harness

    ours = calibration("m")
    theirs = msgspec.convert(msgspec.to_builtins(ours), harness.Calibration)
    assert theirs.digest == ours.digest
