"""Programs as text: what is refused is refused at a place in it, what is read is written back.

The bound on lines carried out is made small here, so that loops which reach it are quick; what a
file includes is one of a few texts, or is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

import msgspec

from qvm import assemble as assembling
from qvm import examples
from qvm.assemble import AsmError, assemble_located
from qvm.decode import decode_graph
from qvm.disassemble import disassemble
from qvm.program import Graph
from qvm.random_programs import random_program
from qvm.verify import verify

BYTES_MAX = 2000
CODEC = "lines"
HEAD_BYTES = 0

STEPS_MAX: Final = 2000
INCLUDED: Final = {
    "half": ".macro PAIR a b\nAPPLY_H {a}\nAPPLY_CNOT {a}, {b}\n.end\n",
    "itself": '.include "itself"\n',
    "wrong": "APPLY_H\n.end\n",
}


def include(name: str) -> str:
    """One of the texts. Raises OSError for any other name."""
    try:
        return INCLUDED[name]
    except KeyError:
        raise FileNotFoundError(f"no such file: {name!r}") from None


def check(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    before, assembling.STEPS_MAX = assembling.STEPS_MAX, STEPS_MAX  # type: ignore[misc]
    try:
        check_text(text)
    finally:
        assembling.STEPS_MAX = before  # type: ignore[misc]


def check_text(text: str) -> None:
    try:
        assembly = assemble_located(text, include=include, file="main")
    except AsmError as error:
        check_place(text, error)
        return
    graph = assembly.graph
    assert len(assembly.origins) == len(graph.program.nodes) <= STEPS_MAX
    for file, line in assembly.origins:
        assert 1 <= line <= lines_of(text if file == "main" else INCLUDED[file])
    encoded = msgspec.json.encode(graph)
    written = disassemble(graph)
    again = assemble_located(written, file="again").graph
    assert msgspec.json.encode(again) == encoded
    assert disassemble(again) == written
    read = decode_graph(encoded)
    if isinstance(read, Graph):
        assert msgspec.json.encode(read) == encoded
    verify(graph)


def check_place(text: str, error: AsmError) -> None:
    """The place lies in the text, or in one that it includes."""
    assert error.message
    assert error.listing()
    if error.line == 0:
        assert error.column == 0
        return
    source = text if error.file == "main" else INCLUDED[error.file]
    assert 1 <= error.line <= lines_of(source), error
    assert 1 <= error.column <= len(source.split("\n")[error.line - 1]) + 1, error


def lines_of(text: str) -> int:
    return text.count("\n") + 1


def seeds() -> Iterator[bytes]:
    for name in examples.names():
        graph = decode_graph(examples.load(name))
        assert isinstance(graph, Graph)
        yield disassemble(graph).encode()
    for number in range(8):
        raw = random_program(Random(number), qubits_max=3, nodes_max=10, magic=True, angles=True)
        yield disassemble(msgspec.convert(raw, Graph)).encode()
    yield b'.include "half"\n.param n=3\n.for i in 0..n\nPAIR q{i}, q{i+1}\n.end\n'
    yield b'.if 1 < 2\nAPPLY_X q0 if m==1 && n==0 [CAP_X] @{"metadata": {}}\n.else\n.end\n'
    yield b"ALLOC_LQ profile=logical:Surface(d=3) -> q0, q1\nMEASURE_Z q0 -> m\n"
    yield b'.include "itself"\n'
    yield b".macro A\nA\n.end\nA\n"
