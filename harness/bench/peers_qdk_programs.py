"""OpenQASM programs as the estimator of `qdk` counts them, and what it makes of its counts.

`python -m harness.bench.peers_qdk_programs OUT.json.gz` gives an installed `qdk` (extra
`peers-simulators`) the text of the programs in `examples/` and of MQT Bench (Quetschlich et al.,
arXiv:2204.13719), and writes text and answers. `estimate_bench.py` puts ours beside the table, so
neither library is needed there. Text that `qdk` does not read, for names that it keeps for itself
or qubits that are numbered, is written anew by our OpenQASM back end with other names.
"""

from __future__ import annotations

import gzip
import json
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec

from runtime.jit.backends import qasm3
from runtime.jit.circuit import Circuit, Register
from runtime.jit.frontends import load

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = Path(__file__).parent / "peers_qdk_programs.json.gz"
SIZES: Final = (4, 5, 6, 8)
CHARACTERS_MAX: Final = 60_000
FAILURE: Final = 1e-3
QUBIT: Final = "qubit_gate_ns_e3"
KEPT: Final = ("physicalCounts", "logicalQubit", "tfactory", "errorBudget", "logicalCounts")


def programs() -> Iterator[tuple[str, str]]:
    """Name and text of each."""
    for file in sorted((ROOT / "examples").glob("*.qasm")):
        yield file.name, file.read_text(encoding="utf-8")
    from mqt.bench import BenchmarkLevel, get_benchmark
    from mqt.bench.benchmarks import get_available_benchmark_names
    from qiskit import qasm3 as writer

    for name in get_available_benchmark_names():
        for size in SIZES:
            try:
                text = writer.dumps(get_benchmark(name, BenchmarkLevel.INDEP, size))
            except Exception:  # a benchmark says in its own ways that it has no such size
                continue
            if len(text) <= CHARACTERS_MAX:
                yield f"{name}({size})", text
            break


def renamed(text: str) -> str:
    """The same program by our back end, with registers that no library keeps for itself."""
    circuit = load(text, "qasm3")

    def plain(registers: tuple[Register, ...], stem: str) -> tuple[Register, ...]:
        return tuple(
            Register(f"{stem}{at}", each.size, each.hidden) for at, each in enumerate(registers)
        )

    made: Circuit = msgspec.structs.replace(
        circuit, qubits=plain(circuit.qubits, "wires"), bits=plain(circuit.bits, "outcomes")
    )
    return qasm3.dump(made)


def answer(text: str) -> dict[str, Any]:
    """What `qdk` says: its numbers, or the first line of its refusal."""
    from qdk.openqasm import QasmError, estimate
    from qdk.estimator import EstimatorError  # isort: skip

    params = {"errorBudget": FAILURE, "qubitParams": {"name": QUBIT}}
    try:
        found = dict(estimate(text, params))
    except (QasmError, EstimatorError) as error:
        lines = [line.strip(" x") for line in str(error).splitlines()]
        return {"refused": next((line for line in lines[1:] if line), lines[0])}
    return {key: found.get(key) for key in KEPT}


def main(arguments: list[str]) -> None:
    warnings.simplefilter("ignore")
    rows = []
    for name, text in programs():
        given, found = text, answer(text)
        if "refused" in found:
            given = renamed(text)
            found = answer(given)
        rows.append({"name": name, "text": given, "rewritten": given != text, "answer": found})
    versions = {each: version(each) for each in ("qdk", "mqt.bench", "qiskit")}
    raw = json.dumps({"versions": versions, "rows": rows}, separators=(",", ":")).encode()
    # No time stamp in the file: the same answers are the same bytes.
    Path(arguments[0]).write_bytes(gzip.compress(raw, 9, mtime=0))


if __name__ == "__main__":
    main(sys.argv[1:])
