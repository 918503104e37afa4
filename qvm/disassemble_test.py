"""Text and graph say the same: examples, random programs, and hand-made oddities."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvm import examples
from qvm.assemble import assemble
from qvm.disassemble import disassemble
from qvm.isa import OPS
from qvm.program import Graph
from qvm.random_programs import random_program


def graph(**fields: Any) -> Graph:
    plain = {"version": "0.1", "program": {"nodes": []}, "resources": {"vqs": [], "events": []}}
    return msgspec.convert({**plain, **fields}, Graph)


@pytest.mark.parametrize("name", examples.names())
def test_example_survives_the_way_to_text_and_back(name: str) -> None:
    original = msgspec.json.decode(examples.load(name), type=Graph)
    assert assemble(disassemble(original)) == original


@given(st.integers(0, 2**32))
def test_random_program_survives_the_way_to_text_and_back(seed: int) -> None:
    plain = random_program(random.Random(seed), magic=True, angles=True, channels=True)
    original = msgspec.convert(plain, Graph)
    assert assemble(disassemble(original)) == original


NAMES = st.text(min_size=1, max_size=6) | st.sampled_from(
    ["q0", "if", "a.b", "{x}", "a;b", '"', "é"]
)
LISTS = st.lists(NAMES, max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
CONDITIONS = st.fixed_dictionaries(
    {"event": NAMES}, optional={"equals": st.integers(-1, 3), "value": st.integers(0, 2**70)}
)
GUARDS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "event": NAMES,
        "equals": st.integers(0, 3),
        "type": st.sampled_from(["and", "or", "nand"]),
        "conditions": st.lists(CONDITIONS, max_size=3),
    },
)
ARGS = st.dictionaries(
    st.sampled_from(["n", "profile", "tag", "angle", "theta", "pauli", "opts", "fidelity", "x"]),
    JSON,
    max_size=3,
)
NODES = st.fixed_dictionaries(
    {"op": st.sampled_from(sorted(OPS))},
    optional={
        "args": ARGS,
        "vqs": LISTS,
        "chs": LISTS,
        "inputs": LISTS,
        "produces": LISTS,
        "caps": LISTS,
        "guard": GUARDS,
        "metadata": st.dictionaries(st.text(max_size=4), JSON, max_size=2),
    },
)


@given(
    st.lists(NODES, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "caps": st.lists(NAMES, max_size=3),
            "metadata": st.dictionaries(st.text(max_size=4), JSON, max_size=2),
            "description": st.text(max_size=10),
        },
    ),
    NAMES,
)
def test_fields_of_any_shape_survive_the_way_to_text_and_back(
    nodes: list[dict[str, Any]], head: dict[str, Any], version: str
) -> None:
    vqs: dict[str, None] = {}
    chs: dict[str, None] = {}
    events: dict[str, None] = {}
    for at, node in enumerate(nodes):
        node["id"] = f"{version}{at}"
        if node["op"] == "ALLOC_LQ":
            node["args"] = {"n": 1, **node.get("args", {})}
        vqs |= dict.fromkeys(node.get("vqs", ()))
        chs |= dict.fromkeys(node.get("chs", ()))
        events |= dict.fromkeys([*node.get("inputs", ()), *node.get("produces", ())])
        guard = node.get("guard") or {}
        events |= dict.fromkeys(guard[key] for key in ["event"] if key in guard)
        events |= dict.fromkeys(each["event"] for each in guard.get("conditions", ()))
    resources = {"vqs": list(vqs), "chs": list(chs), "events": list(events)}
    fields = {"program": {"nodes": nodes}, "resources": resources, "version": version, **head}
    original = graph(**fields)
    assert assemble(disassemble(original)) == original


def test_plain_program_reads_plainly() -> None:
    text = """\
.version 0.1
.vqs q0 q1
.events m

alloc: ALLOC_LQ n=2, profile=logical:Surface(d=3), q0, q1
n2: APPLY_H q0
n3: FENCE_EPOCH

look: MEASURE_Z q0 -> m
fix: APPLY_X q1 if m==1
n6: COND_PAULI pauli=Z, q1 <- m
free: FREE_LQ q0, q1
"""
    assert disassemble(assemble(text)) == text


def test_long_declarations_are_broken_into_lines() -> None:
    original = graph(resources={"vqs": [f"qubit{i}" for i in range(50)], "events": []})
    text = disassemble(original)
    assert max(map(len, text.splitlines())) <= 101
    assert assemble(text) == original
