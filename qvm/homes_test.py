"""Every virtual qubit has a place in a block of its kind, and no place is two qubits' at once."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from qvm.blocks import Inventory, Run
from qvm.homes import entries, homes, physical
from qvm.machine import plain
from qvm.program import VerifiedProgram
from qvm.verify import verify_bytes


def verified(*listed: dict[str, Any]) -> VerifiedProgram:
    nodes = [{"id": f"n{at}", **node} for at, node in enumerate(listed)]
    names = list(dict.fromkeys(name for node in listed for name in node["vqs"]))
    resources = {"vqs": names, "events": []}
    text = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    found = verify_bytes(json.dumps(text).encode())
    assert isinstance(found, VerifiedProgram), found
    return found


def alloc(profile: str, *names: str) -> dict[str, Any]:
    args = {"n": len(names), "profile": f"logical:{profile}"}
    return {"op": "ALLOC_LQ", "args": args, "vqs": list(names)}


def free(*names: str) -> dict[str, Any]:
    return {"op": "FREE_LQ", "vqs": list(names)}


def test_a_block_of_shyps_holds_nine_and_the_tenth_opens_another() -> None:
    names = [f"q{at}" for at in range(10)]
    found = homes(verified(alloc("SHYPS(d=4)", *names)))
    assert [found[name] for name in names] == [(0, 0)] * 9 + [(0, 1)]


def test_what_is_freed_is_filled_again_and_kinds_stay_apart() -> None:
    program = verified(
        alloc("Surface(d=3)", "a", "b"), free("a"), alloc("Surface(d=3)", "c"),
        alloc("Surface(d=5)", "d"),
    )  # fmt: skip
    assert homes(program) == {"a": (1, 0), "b": (1, 1), "c": (1, 0), "d": (0, 0)}


def test_blocks_are_numbered_through_the_runs_of_their_kind() -> None:
    place = (Run(0, 0, 100, 17, 2), Run(1, 1, 500, 5, 1), Run(1, 0, 300, 17, 1))
    assert physical(place, 0, 1) == range(117, 134)
    assert physical(place, 0, 2) == range(300, 317)
    assert physical(place, 1, 0) == range(500, 505)
    with pytest.raises(AssertionError):
        physical(place, 1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_no_place_is_two_qubits_at_once_and_the_blocks_counted_are_enough(seed: int) -> None:
    rng = random.Random(seed)
    kinds = {"Surface(d=3)": 1, "SHYPS(d=4)": 9, "ideal": 1}
    live: dict[str, str] = {}
    listed, made = [], 0
    steps: list[dict[str, str]] = []
    for _ in range(60):
        if live and rng.random() < 0.45:
            name = rng.choice(list(live))
            del live[name]
            listed.append(free(name))
        else:
            profile = rng.choice(list(kinds))
            names = [f"q{made + at}" for at in range(rng.randint(1, 6))]
            made += len(names)
            live |= dict.fromkeys(names, profile)
            listed.append(alloc(profile, *names))
        steps.append(dict(live))
    program = verified(*listed)
    found = homes(program)
    blocks = program.summary.blocks
    place = Inventory(plain(100_000)).find(blocks)
    assert place is not None
    for alive in steps:
        filled: dict[tuple[int, int], int] = {}
        for name, profile in alive.items():
            kind, block = found[name]
            assert blocks[kind].logical == kinds[profile]
            assert block < blocks[kind].number
            assert len(physical(place, kind, block)) == blocks[kind].physical
            filled[kind, block] = filled.get((kind, block), 0) + 1
        assert all(number <= blocks[kind].logical for (kind, _), number in filled.items())
    assert entries(program.summary) >= max(
        sum(len(physical(place, *found[name])) for name in alive) for alive in steps
    )
