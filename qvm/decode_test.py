from __future__ import annotations

import gc
import json
import sys
from typing import Any

import msgspec
import pytest

from qvm.decode import decode_graph
from qvm.program import Graph
from syscalls.findings import FINDINGS_MAX

Json = dict[str, Any]


def graph(*nodes: Any) -> Json:
    return {
        "version": "0.1",
        "program": {"nodes": list(nodes)},
        "resources": {"vqs": [], "events": []},
    }


def rules(raw: bytes) -> list[str]:
    found = decode_graph(raw)
    assert isinstance(found, list)
    return [each.rule for each in found]


def test_a_sound_document_is_a_graph_with_nothing_added_or_lost() -> None:
    node: Json = {"id": "n", "op": "X", "guard": None, "args": {"a": [1, {"b": 2.5}]}, "vqs": []}
    document = {**graph(node), "description": "d", "metadata": {"k": None}, "caps": []}
    decoded = decode_graph(json.dumps(document).encode())
    assert isinstance(decoded, Graph)
    document["resources"] = {**document["resources"], "chs": []}
    assert json.loads(msgspec.json.encode(decoded)) == document


def test_all_structural_faults_are_reported_at_once_in_document_order() -> None:
    document = {
        **graph(
            {"id": 1, "op": "X"},
            {"id": "b", "op": "X", "vqs": ["q", None], "guard": {"equals": "1", "else": 0}},
            7,
            {"id": "d"},
        ),
        "caps": "CAP_ALLOC",
    }
    found = decode_graph(json.dumps(document).encode())
    assert isinstance(found, list)
    at = "$.program.nodes"
    assert [(each.rule, each.path, each.node) for each in found] == [
        ("structure.type", f"{at}[0].id", None),
        ("structure.type", f"{at}[1].vqs[1]", "b"),
        ("structure.type", f"{at}[1].guard.equals", "b"),
        ("structure.unknown_field", f"{at}[1].guard.else", "b"),
        ("structure.type", f"{at}[2]", None),
        ("structure.missing", f"{at}[3]", "d"),
        ("structure.type", "$.caps", None),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"{", b"nul", b"{}{}", b'{"a":1,}', b"\xef\xbb\xbf{}", b"\x00", b"\xff\xfe",
        b'"\xc3"', b'"\\ud800"', b'"\\udc00\\ud800"', b"NaN", b"-Infinity", b"[1e400]", b"01",
        b'"\x01"', b"9" * 5000, b"[" + b"9" * 5000 + b"]", b"{'a': 1}", b"// x\n{}",
    ],
)  # fmt: skip
def test_what_is_no_json_is_one_finding(raw: bytes) -> None:
    assert rules(raw) == ["structure.json"]


@pytest.mark.parametrize("opening", [b"[", b'{"program":', b'{"metadata":{"a":', b'[{"a":'])
def test_nesting_without_end_is_a_finding(opening: bytes) -> None:
    assert rules(opening * 200_000) == ["bounds.depth"]
    if opening == b"[":
        assert rules(opening * 200_000 + b"]" * 200_000) == ["bounds.depth"]


@pytest.mark.parametrize("value", [None, 1, "x", [], True])
def test_a_document_that_is_no_object_is_a_finding(value: Any) -> None:
    assert rules(json.dumps(value).encode()) == ["structure.type"]


def test_large_whole_numbers_are_shown_by_their_size() -> None:
    document = {**graph(), "version": 10**4000}
    found = decode_graph(str(document).replace("'", '"').encode())
    assert isinstance(found, list)
    assert "bits" in found[0].message


def test_more_faults_than_an_answer_holds_are_counted() -> None:
    found = decode_graph(json.dumps(graph(*range(5000))).encode())
    assert isinstance(found, list)
    assert len(found) == FINDINGS_MAX
    assert found.total == 5000  # type: ignore[attr-defined]


def test_the_collector_runs_again_after_good_and_bad_documents() -> None:
    for raw in (json.dumps(graph()).encode(), b"", b"[" * 100_000):
        assert gc.isenabled()
        decode_graph(raw)
        assert gc.isenabled()
    gc.disable()
    try:
        decode_graph(b"{}")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_sound_document_is_read_near_the_end_of_the_stack() -> None:
    def down(levels: int) -> object:
        return decode_graph(json.dumps(graph()).encode()) if levels == 0 else down(levels - 1)

    frames = 0
    frame = sys._getframe()
    while frame.f_back is not None:
        frame, frames = frame.f_back, frames + 1
    assert isinstance(down(sys.getrecursionlimit() - frames - 100), Graph)
