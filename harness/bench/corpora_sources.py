"""Circuits that nobody here wrote, and what another simulator says they measure.

MQT Bench makes its circuits here; some are also read as the text that Qiskit writes of them.
Corpora of files are what QMKD_CORPORA names a folder of, as `corpora_packages.py` fills one: each
folder in it is one corpus, every file below it that ends as in SUFFIXES a circuit. Expected
outcomes come from Qiskit's state vectors where nothing depends on a measurement, else from Aer's
shots; OpenQASM 3 is read for that by Qiskit's own importer. The QIR Alliance's runner runs QIR.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDERS = "QMKD_CORPORA"
QIR_SUFFIXES: Final = (".ll", ".bc")
SUFFIXES: Final = (".qasm", ".qasm3", *QIR_SUFFIXES)
SIZES: Final = (3, 4, 5, 6, 8, 10, 12)
QUICK_SIZES: Final = (4, 6)
NODES_MAX: Final = 600_000
VECTOR_QUBITS_MAX: Final = 16
AER_QUBITS_MAX: Final = 26
AER_SHOTS: Final = 20_000
RUNNER_SHOTS: Final = 2_000


class Expected(NamedTuple):
    """Probabilities of every outcome as an integer (bit i of the measured bits is bit i), or shots.

    exact: float64, shape (2^bits,), or None. counts: of shots, where there is no exact answer.
    """

    exact: NDArray[np.float64] | None
    counts: dict[int, int]


class Source(NamedTuple):
    """One circuit: its corpus and name, what the front end is given, and what others make of it.

    judged: None where it is too wide for them; raises whatever their libraries raise.
    """

    corpus: str
    name: str
    given: Any
    judged: Callable[[], Expected | None]


def sources(sizes: tuple[int, ...]) -> Iterator[Source]:
    """MQT Bench on so many qubits, where it is installed, and the files of the folders."""
    yield from _mqt(sizes)
    if FOLDERS in os.environ:
        for corpus in sorted(Path(os.environ[FOLDERS]).iterdir()):
            for path in sorted(corpus.rglob("*")):
                if path.suffix in SUFFIXES:
                    judged = _runner(path) if path.suffix in QIR_SUFFIXES else _reader(path)
                    yield Source(corpus.name, str(path.relative_to(corpus)), path, judged)


def _mqt(sizes: tuple[int, ...]) -> Iterator[Source]:
    try:
        from mqt.bench import get_benchmark_alg
        from mqt.bench.benchmarks import get_available_benchmark_names
    except ModuleNotFoundError:
        return
    for name in get_available_benchmark_names():
        for size in sizes:
            try:
                circuit = get_benchmark_alg(name, size)
            except Exception:  # a benchmark says in its own ways that it has no such size
                continue
            yield Source("MQT Bench", f"{name} {size}", circuit, _simulated(circuit))
            if size in QUICK_SIZES:
                yield from _texts(f"{name} {size}", circuit)


def _texts(name: str, circuit: Any) -> Iterator[Source]:
    """The circuit as Qiskit writes it, where a version of the language can hold it."""
    from qiskit import qasm2, qasm3

    writers = (("OpenQASM 2", qasm2.dumps), ("OpenQASM 3", qasm3.dumps))
    for version, write in writers:
        try:
            text = write(circuit)
        except Exception:  # the exporters refuse in their own ways what they cannot write
            continue
        yield Source(f"MQT Bench as {version}", name, text, _simulated(circuit))


def _reader(path: Path) -> Callable[[], Expected | None]:
    def judged() -> Expected | None:
        from qiskit import qasm2, qasm3

        text = path.read_text(encoding="utf-8-sig")
        if "OPENQASM 2" in text:
            circuit = qasm2.loads(
                text,
                include_path=[*qasm2.LEGACY_INCLUDE_PATH, str(path.parent)],
                custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS,
            )
        else:
            # Qiskit's importer compares bits with `true` alone, and registers without a cast.
            text = re.sub(r"\b(\w+(?:\[\d+\])?)\s*==\s*1\b", r"\1 == true", text)
            circuit = qasm3.loads(re.sub(r"\bint\[\d+\]\((\w+)\)", r"\1", text))
        return _simulated(circuit)()

    return judged


def _runner(path: Path) -> Callable[[], Expected | None]:
    """Shots of the QIR Alliance's runner: bit i is the i-th result that is recorded."""

    def judged() -> Expected | None:
        from qirrunner import run

        told: list[object] = []
        run(str(path), shots=RUNNER_SHOTS, rng_seed=1, output_fn=told.append)
        shots = "".join(map(str, told)).split("START")[1:]
        words = [re.findall(r"\b(?:RESULT|BOOL)\s+(\w+)", shot) for shot in shots]
        return Expected(
            None,
            dict(
                Counter(
                    sum((w in ("1", "true")) << i for i, w in enumerate(each)) for each in words
                )
            ),
        )

    return judged


def _simulated(circuit: Any) -> Callable[[], Expected | None]:
    """What Qiskit says of its own circuit; one that measures nothing is measured at its end."""

    def judged() -> Expected | None:
        if any(each.name == "measure" for each in circuit.data):
            return expected(circuit)
        from qiskit import QuantumCircuit

        measured = QuantumCircuit(circuit.qubits)  # without its bits, which hold nothing
        for each in circuit.data:
            measured.append(each)
        measured.measure_all()
        return expected(measured)

    return judged


def expected(circuit: Any) -> Expected | None:
    """What Qiskit says the circuit measures into its classical bits; None where it is too wide."""
    from qiskit import transpile
    from qiskit.quantum_info import Statevector
    from qiskit_aer import AerSimulator

    if not dynamic(circuit) and circuit.num_qubits <= VECTOR_QUBITS_MAX:
        measured = {
            circuit.find_bit(each.clbits[0]).index: circuit.find_bit(each.qubits[0]).index
            for each in circuit.data
            if each.name == "measure"
        }
        bare = circuit.copy_empty_like()
        for each in circuit.data:
            if each.name not in ("measure", "barrier"):
                bare.append(each)
        outcomes = Statevector(bare).probabilities(sorted(set(measured.values())))
        return Expected(_placed(outcomes, measured, circuit.num_clbits), {})
    if circuit.num_qubits > AER_QUBITS_MAX:
        return None
    device = AerSimulator(seed_simulator=1)
    counts = device.run(transpile(circuit, device), shots=AER_SHOTS).result().get_counts()
    return Expected(None, {int(key.replace(" ", ""), 2): number for key, number in counts.items()})


def _placed(
    outcomes: NDArray[np.float64], measured: dict[int, int], bits: int
) -> NDArray[np.float64]:
    """Probabilities over qubits, sorted, as probabilities over classical bits."""
    qubits = sorted(set(measured.values()))
    found = np.zeros(1 << bits)
    numbers = np.arange(len(outcomes))
    places = np.zeros_like(numbers)
    for bit, qubit in measured.items():
        places |= (numbers >> qubits.index(qubit) & 1) << bit
    np.add.at(found, places, outcomes)
    return found


def dynamic(circuit: Any) -> bool:
    """Whether anything but measurements and barriers comes after a measurement of its qubit."""
    over: set[Any] = set()
    for each in circuit.data:
        if each.name == "measure":
            if each.qubits[0] in over:
                return True
            over.add(each.qubits[0])
        elif each.name != "barrier" and (
            each.clbits
            or each.name in ("reset", "initialize")
            or getattr(each.operation, "condition", None) is not None
            or over.intersection(each.qubits)
        ):
            return True
    return False
