"""Our estimates of OpenQASM programs beside those of the Azure Quantum Resource Estimator.

Text and answers are in `peers_qdk_programs.json.gz`; `qdk` need not be installed. The same text is
read by our front end, counted (`runtime/jit/logical_counts.py`) and estimated by our closed form
(`qmkd/qec/azure.py`) for the same qubit and budget. Where a program decides something by what it
measured, `qdk` counts the path on which everything is measured as 0, and we count as if every
condition held: those rows are told apart, and compared on its counts too.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from harness.bench.rows import Row, row
from qmkd.qec import azure
from qmkd.qec.azure import Counts
from runtime.jit.circuit import Circuit
from runtime.jit.frontends import load
from runtime.jit.logical_counts import logical_counts

# `peers_qdk_programs.py`, which writes the table, holds its budget and qubit too.
TABLE: Final = Path(__file__).parent / "peers_qdk_programs.json.gz"
FAILURE: Final = 1e-3
QUBIT: Final = "qubit_gate_ns_e3"


class Compared(NamedTuple):
    """One program. decides: something hangs on what it measures. counts, theirs: ours and those of
    `qdk`, under its names. same: the counts are. estimates: (physical qubits, nanoseconds,
    distance) of ours on our counts, of ours on theirs, and of `qdk`."""

    name: str
    decides: bool
    counts: dict[str, int]
    theirs: dict[str, int]
    estimates: tuple[tuple[int, int, int], ...]

    @property
    def same(self) -> bool:
        return all(self.counts.get(key, 0) == number for key, number in self.theirs.items())


def table() -> list[dict[str, Any]]:
    """What `qdk` was asked and answered."""
    found: list[dict[str, Any]] = json.loads(gzip.decompress(TABLE.read_bytes()))["rows"]
    return found


def compared() -> Iterator[Compared]:
    """Every program that `qdk` has an estimate for."""
    for each in table():
        answer = each["answer"]
        if "refused" in answer:
            continue
        circuit = load(each["text"], "qasm3")
        counts: dict[str, int] = msgspec.to_builtins(logical_counts(circuit))
        theirs = answer["logicalCounts"]
        physical, patch = answer["physicalCounts"], answer["logicalQubit"]
        told = (physical["physicalQubits"], physical["runtime"], patch["codeDistance"])
        yield Compared(
            each["name"],
            decides(circuit),
            counts,
            theirs,
            (estimated(counts), estimated(theirs), told),
        )


def decides(circuit: Circuit) -> bool:
    """Whether any operation hangs on what was measured."""
    return any(each.condition is not None for each in circuit.operations)


def estimated(counts: dict[str, int]) -> tuple[int, int, int]:
    """Physical qubits, nanoseconds and code distance by our closed form."""
    asked = msgspec.convert(counts, Counts)
    qubit = azure.QUBITS[QUBIT]
    scheme = azure.scheme_named("surface_code", qubit)
    found = azure.estimate(asked, qubit, scheme, azure.split_budget(FAILURE, asked))
    return found.physical_qubits, found.runtime_ns, found.patch.distance


def run(quick: bool) -> list[Row]:
    found = list(compared())
    rows = [_row(one) for one in found]
    plain = [one for one in found if not one.decides]
    return [
        *rows,
        row("programs", len(found), ""),
        row("of these without decisions", len(plain), ""),
        row(
            "the same logical counts, of those without decisions",
            100 * sum(one.same for one in plain) / len(plain),
            "%",
            at_least=100,
        ),
        row(
            "the same qubits, time and distance, of those without decisions",
            100 * sum(one.estimates[0] == one.estimates[2] for one in plain) / len(plain),
            "%",
            at_least=100,
        ),
        row(
            "the same qubits, time and distance on its counts, of all",
            100 * sum(one.estimates[1] == one.estimates[2] for one in found) / len(found),
            "%",
            at_least=100,
        ),
    ]


def _row(one: Compared) -> Row:
    ours, _, theirs = one.estimates
    decides_ = ", decides" if one.decides else ""
    counted = f"{_counted(one.counts)}; qdk {_counted(one.theirs)}"
    return row(
        f"{one.name}{decides_}: qubits, T, rotations/layers, Toffolis, measurements {counted}; "
        f"us, d: {ours[1] / 1000:g}, {ours[2]}; qdk {theirs[1] / 1000:g}, {theirs[2]}; "
        f"physical qubits, qdk {theirs[0]:,}, ours",
        ours[0],
        "",
    )


def _counted(counts: dict[str, int]) -> str:
    names = ("numQubits", "tCount", "rotationCount", "rotationDepth", "cczCount")
    qubits, t, rotations, layers, toffolis = [counts[name] for name in names]
    return f"{qubits} {t} {rotations}/{layers} {toffolis} {counts['measurementCount']}"
