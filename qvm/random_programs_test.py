"""Holds the verifier against programs that chance made valid, and against 10,000 damaged ones."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from qvm.findings import RULES
from qvm.isa import OPS, TABLE
from qvm.lower import lower
from qvm.program import VerifiedProgram
from qvm.random_programs import CODES, IDEAL, random_program
from qvm.verify import verify_bytes
from syscalls.findings import FINDINGS_MAX, Finding
from syscalls.rights import Right

Json = dict[str, Any]

MUTATIONS = 10_000
BYTE_MUTATIONS = 2_000
VALID = 1_000

_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[([0-9]+)\]|\[(\"(?:[^\"\\]|\\.)*\")\]")


def a_program(seed: int) -> Json:
    rng = random.Random(seed)
    return random_program(rng, magic=seed % 2 == 0, angles=seed % 3 == 0, channels=seed % 5 == 0)


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def resolve(document: Any, path: str) -> Any:
    """What stands at a finding's path; raises LookupError where nothing does."""
    assert path.startswith("$")
    at = 1
    while at < len(path):
        step = _STEP.match(path, at)
        assert step is not None, path
        word, number, quoted = step.groups()
        if number is not None:
            assert isinstance(document, list), path
            document = document[int(number)]
        else:
            assert isinstance(document, dict), path
            document = document[word if word is not None else json.loads(quoted)]
        at = step.end()
    return document


def check_findings(raw: bytes, found: list[Finding]) -> None:
    """Every finding names a rule, a node that exists or none, and a place that exists."""
    assert 1 <= len(found) <= FINDINGS_MAX <= max(found.total, FINDINGS_MAX)  # type: ignore[attr-defined]
    assert any(each.severity == "error" for each in found)
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        assert [each.rule for each in found] == ["structure.json"]
        return
    for each in found:
        assert each.rule in RULES
        assert each.message
        resolve(document, each.path)
        if each.node is not None:
            start = re.match(r"\$\.program\.nodes\[([0-9]+)\]", each.path)
            assert start is not None
            assert document["program"]["nodes"][int(start[1])]["id"] == each.node


# --- damage ---------------------------------------------------------------------------------------

JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 2, 2.0, 0.5, 10**30, "", "q0", "m0", "n0", "c0", "zz", "X", "XYZ",
    "pi/", "logical:ideal", "\u0000", "é", [], ["q0"], ["m0", "m0"], {}, [[[[]]]],
    {"event": "m0", "equals": 1}, {"type": "and", "conditions": []},
]  # fmt: skip
FIELDS = ("id", "op", "args", "vqs", "chs", "inputs", "produces", "caps", "guard", "metadata", "x")


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    found: list[tuple[Any, Any]] = []
    stack = [document]
    while stack:
        each = stack.pop()
        keys = list(each) if isinstance(each, dict) else range(len(each))
        for key in keys:
            found.append((each, key))
            if isinstance(each[key], dict | list):
                stack.append(each[key])
    return found


def replace(rng: random.Random, document: Json) -> None:
    place, key = rng.choice(places(document))
    place[key] = copy.deepcopy(rng.choice(JUNK))


def remove(rng: random.Random, document: Json) -> None:
    place, key = rng.choice(places(document))
    del place[key]


def exchange(rng: random.Random, document: Json) -> None:
    (one, at), (other, to) = rng.sample(places(document), k=2)
    one[at], other[to] = copy.deepcopy(other[to]), copy.deepcopy(one[at])


def insert(rng: random.Random, document: Json) -> None:
    place, key = rng.choice(places(document))
    value = copy.deepcopy(rng.choice(JUNK))
    if isinstance(place, list):
        place.insert(key, value)
    else:
        place[rng.choice(FIELDS)] = value


def repeat(rng: random.Random, document: Json) -> None:
    lists = [(place, key) for place, key in places(document) if isinstance(place, list)]
    place, key = rng.choice(lists)
    place.insert(rng.randrange(len(place) + 1), copy.deepcopy(place[key]))


def a_node(rng: random.Random, document: Json) -> Json:
    node: Json = rng.choice(document["program"]["nodes"])
    return node


def change_op(rng: random.Random, document: Json) -> None:
    a_node(rng, document)["op"] = rng.choice(TABLE).name


def change_name(rng: random.Random, document: Json) -> None:
    strings = [(place, key) for place, key in places(document) if isinstance(place[key], str)]
    place, key = rng.choice(strings)
    other, at = rng.choice(strings)
    place[key] = other[at]


def move_node(rng: random.Random, document: Json) -> None:
    nodes = document["program"]["nodes"]
    nodes.insert(rng.randrange(len(nodes)), nodes.pop(rng.randrange(len(nodes))))


def change_guard(rng: random.Random, document: Json) -> None:
    events = [*document["resources"]["events"], "nowhere"]
    conditions = [
        {"event": rng.choice(events), rng.choice(("equals", "value")): rng.randrange(-1, 5)}
        for _ in range(rng.randrange(3))
    ]
    a_node(rng, document)["guard"] = {"type": rng.choice(("and", "or")), "conditions": conditions}


def change_profile(rng: random.Random, document: Json) -> None:
    args = {"n": rng.randrange(4), "profile": rng.choice((*CODES, IDEAL, "logical:SHYPS(d=17)"))}
    a_node(rng, document)["args"] = args


def change_caps(rng: random.Random, document: Json) -> None:
    caps = [rng.choice([*Right, "CAP_NONE"]) for _ in range(rng.randrange(3))]
    rng.choice([document, a_node(rng, document)])["caps"] = caps


DAMAGE: list[Callable[[random.Random, Json], None]] = [
    replace, remove, exchange, insert, repeat, change_op, change_name, move_node, change_guard,
    change_profile, change_caps,
]  # fmt: skip


# --- tests ----------------------------------------------------------------------------------------


def test_programs_that_chance_makes_valid_are_valid_and_use_every_opcode() -> None:
    used: set[str] = set()
    for seed in range(VALID):
        program = verify_bytes(encoded(a_program(seed)))
        assert isinstance(program, VerifiedProgram), (seed, program)
        used |= set(program.summary.ops)
    assert used == set(OPS)


def test_the_same_chance_makes_the_same_program() -> None:
    assert [a_program(seed) for seed in range(20)] == [a_program(seed) for seed in range(20)]


def test_damaged_programs_are_refused_with_located_findings_or_run() -> None:
    broken: set[str] = set()
    accepted = 0
    for seed in range(MUTATIONS):
        rng = random.Random(f"damage {seed}")
        document = a_program(rng.randrange(500))
        for _ in range(rng.choice((1, 1, 1, 2))):
            try:
                rng.choice(DAMAGE)(rng, document)
            except (LookupError, TypeError, AttributeError, ValueError):
                break  # Damage upon damage: the place it looks for is gone.
        raw = encoded(document)
        answer = verify_bytes(raw)
        if isinstance(answer, VerifiedProgram):
            accepted += 1
            check_accepted(answer)
        else:
            check_findings(raw, answer)
            broken |= {each.rule for each in answer}
    assert 0.02 * MUTATIONS < accepted < 0.5 * MUTATIONS
    # Chance alone finds most rules; the table in `verify_test.py` breaks all of them.
    assert len(broken) >= 35, sorted(set(RULES) - broken)


def check_accepted(program: VerifiedProgram) -> None:
    """What engines rely on, looked at from the lowered side."""
    lowered = lower(program)
    live: set[int] = set()
    written: set[int] = set()
    for step in lowered.steps:
        guard = {event for event, _ in step.guard.tests} if step.guard else set()
        assert guard | set(step.xor) <= written
        assert not written & set(step.events)
        written |= set(step.events)
        if step.op == "ALLOC_LQ":
            assert not live & set(step.qubits)
            live |= set(step.qubits)
        assert set(step.qubits) <= live
        assert len(set(step.qubits)) == len(step.qubits)
        if step.op == "FREE_LQ":
            live -= set(step.qubits)
    epochs = [step.epoch for step in lowered.steps]
    assert epochs == sorted(epochs)


def test_damaged_bytes_are_refused_with_located_findings_or_run() -> None:
    for seed in range(BYTE_MUTATIONS):
        rng = random.Random(f"bytes {seed}")
        raw = bytearray(encoded(a_program(rng.randrange(500))))
        for _ in range(rng.choice((1, 1, 4))):
            at = rng.randrange(len(raw))
            match rng.randrange(4):
                case 0:
                    raw[at] = rng.randrange(256)
                case 1:
                    del raw[at : at + rng.randrange(1, 20)]
                case 2:
                    raw[at:at] = rng.choice(
                        (b'"', b"{", b"]", b"\xff", b"1e400", b"\\ud800", b"[[[")
                    )
                case _:
                    del raw[max(at, 1) :]
        answer = verify_bytes(bytes(raw))
        if isinstance(answer, list):
            check_findings(bytes(raw), answer)


@pytest.mark.parametrize("seed", range(200))
def test_execution_order_is_the_least_that_every_pairwise_rule_allows(seed: int) -> None:
    rng = random.Random(f"order {seed}")
    document = a_program(rng.randrange(500))
    nodes = document["program"]["nodes"]
    for _ in range(4):
        at = rng.randrange(1, len(nodes) + 1) - 1
        nodes.insert(rng.randrange(at + 1), nodes.pop(at))
    answer = verify_bytes(encoded(document))
    expected = least_order(nodes)
    if isinstance(answer, VerifiedProgram):
        assert list(answer.order) == expected
    else:
        rules = {each.rule for each in answer}
        assert ("dag.cycle" in rules) == (expected is None)


def least_order(nodes: list[Json]) -> list[int] | None:
    """The slow way: of the nodes that wait for none, always the one listed first."""

    def before(one: int, two: int) -> bool:
        if set(nodes[one].get("produces", ())) & events_read(nodes[two]):
            return True
        if one >= two:
            return False
        handles = [
            {
                *(("q", name) for name in each.get("vqs", ())),
                *(("c", name) for name in each.get("chs", ())),
            }
            for each in (nodes[one], nodes[two])
        ]
        return bool(handles[0] & handles[1]) or any(
            each["op"] == "FENCE_EPOCH" or (each["op"] == "BAR_REGION" and not each.get("vqs"))
            for each in (nodes[one], nodes[two])
        )

    waits = {
        two: {one for one in range(len(nodes)) if before(one, two)} for two in range(len(nodes))
    }
    order: list[int] = []
    while waits:
        ready = [index for index, others in waits.items() if not others]
        if not ready:
            return None
        order.append(min(ready))
        del waits[order[-1]]
        for others in waits.values():
            others.discard(order[-1])
    return order


def events_read(node: Json) -> set[str]:
    guard = node.get("guard") or {}
    conditions = guard.get("conditions") or ([guard] if guard else [])
    return {each["event"] for each in conditions} | set(node.get("inputs", ()))
