"""What is found in the nodes of one graph, each finding at the path of what is wrong.

Held by the verifier and by its parts; which rules there are stands in `findings.py`, and nothing
here decides whether one is broken.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from qvm.findings import Findings, shown
from qvm.isa import Count
from qvm.program import Node


class Located:
    """Errors and warnings about a graph. index: of a node, everywhere."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.errors = Findings()
        self.warnings = Findings()

    def error(self, rule: str, index: int, where: str, message: str) -> None:
        """Report at `where` (".vqs[0]", or "" for the whole node) below the node."""
        path = f"$.program.nodes[{index}]{where}"
        self.errors.error(rule, path, message, self.nodes[index].id)

    def warning(self, rule: str, index: int, where: str, message: str) -> None:
        """The same, of what is no mistake for sure."""
        path = f"$.program.nodes[{index}]{where}"
        self.warnings.warning(rule, path, message, self.nodes[index].id)

    def count(self, index: int, node: Node, kind: str, count: int, allowed: Count) -> None:
        """There are too few or too many operands of a kind, which is the name of a field."""
        given = getattr(node, kind) is not UNSET
        least, most = allowed.least, allowed.most
        wanted = str(least) if least == most else f"{least} to {most}"
        message = f"{shown(node.op)} takes {wanted} {kind}, not {count}"
        self.error("operand.count", index, f".{kind}" if given else "", message)

    def repeated(self, index: int, node: Node, kind: str, names: Sequence[str]) -> None:
        """Operands of a kind are given more than once."""
        seen: set[str] = set()
        for at, name in enumerate(names):
            if name in seen:
                message = f"{shown(name)} is given twice"
                self.error("operand.repeated", index, f".{kind}[{at}]", message)
            seen.add(name)

    def undeclared(self, index: int, where: str, name: str, kind: str) -> None:
        """A name stands in none of the program's resources of that kind."""
        message = f"{shown(name)} is not declared in resources.{kind}"
        self.error("resource.undeclared", index, where, message)
