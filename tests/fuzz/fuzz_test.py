"""The kept corpus breaks nothing; a target notices a reader that does; changes keep the form."""

from __future__ import annotations

import itertools
import random
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qmkd.engine import messages
from syscalls.errors import MethodNotFound
from syscalls.jsonrpc import Failure
from tests.fuzz import corpus, mutate
from tests.fuzz.__main__ import main
from tests.fuzz.targets import NAMES, Target, target


def check_all(chosen: Target, inputs: Iterable[bytes]) -> None:
    for data in inputs:
        chosen.check(data)


@pytest.mark.parametrize("name", NAMES)
def test_no_input_that_is_kept_breaks_a_promise(name: str) -> None:
    chosen = target(name)
    kept = corpus.read(name)
    assert kept, f"{name} has a corpus"
    check_all(chosen, [*chosen.seeds(), *kept])


_numbers = itertools.count()
BROKEN: dict[str, tuple[str, Any]] = {
    "wire": ("parse_reply", lambda line: []),
    "calls": ("parse", lambda frame: Failure(1, MethodNotFound(method="q_status"))),
    "answers": ("messages.request", lambda body: messages.Drop(next(_numbers))),
    "graph": ("disassemble", lambda graph: ".version 0.1\n"),
    "assembly": ("disassemble", lambda graph: ".version 0.1\n"),
    "snapshot": ("finish", lambda run: np.full((1, 1), next(_numbers))),
    "configuration": ("printed", lambda config: "workers = 3\n"),
    "machine": ("described", lambda text: []),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_target_notices_a_broken_reader(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = target(name)
    seeds = list(chosen.seeds())
    place, broken = BROKEN[name]
    monkeypatch.setattr(f"tests.fuzz.targets.{name}.{place}", broken)
    with pytest.raises(AssertionError):
        check_all(chosen, seeds)


@pytest.mark.parametrize("codec", ["json", "msgpack", "toml"])
def test_a_changed_tree_is_still_one_of_its_form(codec: str) -> None:
    tree = {"a": [1, 2.5, {"b": "text", "é": [True, -7]}], "c c": "", "d": {"e": []}}
    decode, encode = mutate.CODECS[codec]
    data = encode(tree)
    assert decode(data) == tree
    changed = {mutate.mutated(codec, data, random.Random(seed)) for seed in range(300)} - {None}
    assert len(changed) > 100
    for each in changed:
        assert each is not None
        decode(each)


def test_what_cannot_be_taken_apart_is_left_alone_and_lines_always_can_be() -> None:
    rng = random.Random(1)
    assert mutate.mutated("json", b"{", rng) is None
    assert mutate.mutated("lines", b"\xff\n", rng) is not None


def test_toml_is_written_as_the_standard_library_reads_it() -> None:
    tree = {"a": 1, "b.c": {"d": ["x\n", 1e300, -0.0, False]}}
    assert tomllib.loads(mutate.toml(tree).decode()) == tree


def test_a_corpus_is_read_as_it_was_written_and_is_bounded(tmp_path: Path) -> None:
    inputs = [bytes([at]) * (1 + at % 7) for at in range(100)] * 2
    assert corpus.write("some", inputs, tmp_path) == len(set(inputs))
    assert sorted(corpus.read("some", tmp_path)) == sorted(set(inputs))
    many = [number.to_bytes(4) for number in range(corpus.INPUTS_MAX + 50)]
    assert corpus.write("many", many, tmp_path) == corpus.INPUTS_MAX
    large = [bytes([at]) * 40_000 for at in range(9)]
    assert corpus.write("large", large, tmp_path) == 3
    assert corpus.read("none", tmp_path) == []


def test_without_the_fuzzer_the_command_says_what_to_do_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["fuzz"])
    assert main() == 2
    assert "make fuzz" in capsys.readouterr().err


def test_no_kept_input_is_larger_than_what_its_target_looks_for() -> None:
    for name in NAMES:
        assert all(len(data) <= target(name).BYTES_MAX for data in corpus.read(name))
