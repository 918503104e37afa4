"""Programs as JSON: decoded, verified, lowered, written as text and read back.

A graph is decoded to itself from its own bytes. What is refused is refused by rules that exist, at
places that exist. What is verified can be lowered, and has the digest of its graph; its text
assembles to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

import msgspec
from msgspec import UNSET

from qvm import examples
from qvm.assemble import assemble
from qvm.decode import decode_graph
from qvm.disassemble import disassemble
from qvm.findings import RULES, WARNINGS, Findings
from qvm.isa import OPS
from qvm.lower import lower
from qvm.program import Graph, Guard, Node, VerifiedProgram
from qvm.random_programs import random_program
from qvm.summary import program_digest
from qvm.verify import verify
from syscalls.findings import FINDINGS_MAX, Finding

BYTES_MAX = 4000
CODEC = "json"
HEAD_BYTES = 0

_STEP: Final = re.compile(r'\.([A-Za-z_-][A-Za-z0-9_-]*)|\[([0-9]+)\]|\[("(?:[^"\\]|\\.)*")\]')


def check(data: bytes) -> None:
    graph = decode_graph(data)
    if not isinstance(graph, Graph):
        check_findings(graph, data)
        return
    encoded = msgspec.json.encode(graph)
    again = decode_graph(encoded)
    assert isinstance(again, Graph)
    assert msgspec.json.encode(again) == encoded
    verified = verify(graph)
    if isinstance(verified, VerifiedProgram):
        check_program(verified)
        check_findings(verified.warnings, encoded)
        assert {each.rule for each in verified.warnings} <= WARNINGS
    else:
        check_findings(verified, encoded)
    if writable(graph):
        written = assemble(disassemble(graph))
        assert written == graph
        if isinstance(verified, VerifiedProgram):  # then fields have their order, too
            assert msgspec.json.encode(written) == encoded


def check_program(program: VerifiedProgram) -> None:
    """What is verified is fit to run."""
    lowered = lower(program)
    assert lowered.digest == program.summary.digest == program_digest(program.graph)
    assert sorted(set(program.order)) == list(range(len(program.graph.program.nodes)))
    assert isinstance(verify(program.graph), VerifiedProgram), "it is judged the same twice"


def check_findings(findings: Sequence[Finding], document: bytes) -> None:
    """Every finding breaks a known rule at a place that is there, or lacks its last step."""
    if isinstance(findings, Findings):
        assert len(findings) == min(findings.total, FINDINGS_MAX)
    try:
        value = msgspec.json.decode(document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        value = None
    for finding in findings:
        assert finding.rule in RULES, finding
        assert finding.message, finding
        assert finding.path.startswith("$"), finding
        msgspec.json.encode(finding)
        if value is not None:
            check_place(value, finding)


def check_place(value: Any, finding: Finding) -> None:
    steps: list[str | int] = []
    at = 1
    while at < len(finding.path):
        match = _STEP.match(finding.path, at)
        assert match is not None, finding
        name, index, quoted = match.groups()
        steps.append(name or (int(index) if index else json.loads(quoted)))
        at = match.end()
    for number, step in enumerate(steps):
        there = isinstance(value, dict) and step in value
        there |= isinstance(value, list) and isinstance(step, int) and step < len(value)
        if not there:
            assert number == len(steps) - 1, f"{finding}: only its last step may be missing"
            return
        value = value[step]


def writable(graph: Graph) -> bool:
    """Whether text can say it: opcodes exist, no two nodes have the same id, what nodes name is
    declared once, ALLOC_LQ states its `n`."""
    resources = graph.resources
    for names in ([node.id for node in graph.program.nodes], resources.vqs + resources.chs):
        if len(set(names)) < len(names):
            return False
    if len(set(resources.events)) < len(resources.events):
        return False
    declared = (set(resources.vqs), set(resources.chs), set(resources.events))
    for node in graph.program.nodes:
        named = (node.vqs or (), node.chs or (), events_of(node))
        if node.op not in OPS or any(
            set(names) - known for names, known in zip(named, declared, strict=True)
        ):
            return False
        if node.op == "ALLOC_LQ" and (node.args is UNSET or "n" not in node.args):
            return False
    return True


def events_of(node: Node) -> Iterator[str]:
    """All that it names: written, read, and compared in its guard."""
    yield from node.produces or ()
    yield from node.inputs or ()
    guard = node.guard or Guard()
    for each in (guard, *(guard.conditions or ())):
        if isinstance(each.event, str):
            yield each.event


def seeds() -> Iterator[bytes]:
    for name in examples.names():
        yield msgspec.json.encode(msgspec.json.decode(examples.load(name)))
    for number in range(24):
        rng = Random(number)
        wide = {"magic": number % 2 == 0, "angles": number % 3 == 0, "channels": number % 4 == 0}
        yield msgspec.json.encode(random_program(rng, qubits_max=3, nodes_max=12, **wide))
