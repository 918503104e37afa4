"""Truth functions beside their tables, and as deep as registers are wide."""

from __future__ import annotations

from runtime.jit.logic import FALSE, TRUE, Logic

WIDE = 3000


def test_functions_of_very_many_events_are_reckoned_without_recursion() -> None:
    logic = Logic()
    events = [logic.event() for _ in range(WIDE)]
    bits = [logic.true(event) for event in events]
    some = logic.join("or", bits)
    none = logic.negation(some)
    assert none == logic.join("and", [logic.negation(bit) for bit in bits])
    assert logic.cubes(none, 1) == [tuple((event, 0) for event in reversed(events))]
    assert logic.join("or", (some, none)) == TRUE
    assert logic.both(some, none) == FALSE
    odd = logic.join("xor", bits[:400])
    assert logic.parity(odd) == (events[:400], 0)


def test_cubes_cover_a_function_once_also_where_measurements_did_not_run() -> None:
    logic = Logic()
    first = logic.true(logic.event())
    second = logic.true(logic.event(runs=first))
    same = logic.choose(first, second, logic.negation(second))
    covers = logic.cubes(same, 4)
    for one in (0, 1):
        for other in (0, 1) if one else (None,):
            held = [all({0: one, 1: other}[e] == v for e, v in cube) for cube in covers]
            assert sum(held) == int(one == bool(other))
