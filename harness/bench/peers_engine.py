"""Other simulators as processes of their own: `Peer` here, and what runs there.

They are heavy, so they need not be installed where qmkd is: QMKD_BENCH_PEERS names a Python that
has them (extra `peers-simulators`), and without it this one is asked. This file runs there as it
stands, so it imports nothing of ours. A peer builds its program first; then each line it is sent
makes it run once, and it answers with the CPU seconds that took.

A program is `qubits`, `ops` and `noise`. An op is [gate, qubits, guard]; gate is H, S, T, X, Z or
CX, or M, which makes the next event; guard is an event that has to be 1, or null. noise is the
probability of an error after a gate, all Paulis but the identity equally likely.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Self, TypedDict

PYTHON = "QMKD_BENCH_PEERS"
EXTRA = "pip install 'qmkd[peers-simulators]', or name a Python that has it in " + PYTHON


class Program(TypedDict):
    qubits: int
    ops: list[tuple[str, list[int], int | None]]
    noise: float


class Peer:
    """A simulator with a program, ready to run. Its process ends with the `with` block.

    missing: why it cannot run, None where it can. version: of the library.
    """

    def __init__(self, name: str, program: Program, shots: int) -> None:
        self._command = [os.environ.get(PYTHON, sys.executable), __file__, name]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads},
        )
        answer = self._ask({"program": program, "shots": shots})
        self.missing: str | None = answer.get("missing")
        self.version: str = answer.get("version", "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def seconds(self) -> float:
        """Run once: the CPU seconds of it."""
        found: float = self._ask({})["seconds"]
        return found

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._command} ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer


# --- there ----------------------------------------------------------------------------------------

Work = Callable[[], object]


def aer(program: Program, shots: int) -> Work:
    """Qiskit Aer, stabilizer method; guards by `if_test`."""
    from qiskit import QuantumCircuit
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel, depolarizing_error

    events = sum(gate == "M" for gate, _, _ in program["ops"])
    circuit = QuantumCircuit(program["qubits"], events)
    made = 0
    for gate, qubits, guard in program["ops"]:
        if gate == "M":
            circuit.measure(qubits[0], made)
            made += 1
        elif guard is None:
            getattr(circuit, gate.lower())(*qubits)
        else:
            with circuit.if_test((circuit.clbits[guard], 1)):
                getattr(circuit, gate.lower())(*qubits)
    noise = NoiseModel()
    if rate := program["noise"]:
        # Aer counts the identity among the errors, so its rate is larger by 4/3 and 16/15.
        noise.add_all_qubit_quantum_error(depolarizing_error(rate * 4 / 3, 1), ["h", "s", "x", "z"])
        noise.add_all_qubit_quantum_error(depolarizing_error(rate * 16 / 15, 2), ["cx"])
    simulator = AerSimulator(method="stabilizer", noise_model=noise, max_parallel_threads=1)

    def work() -> object:
        result = simulator.run(circuit, shots=shots).result()
        assert result.success, result.status
        return result.get_counts()

    return work


def qdk(program: Program, shots: int) -> Work:
    """Microsoft's QDK: its state-vector simulator on QIR, the quicker of its two here."""
    from qdk import openqasm, simulation

    assert not program["noise"]
    events = sum(gate == "M" for gate, _, _ in program["ops"])
    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";']
    lines += [f"qubit[{program['qubits']}] q;", f"bit[{events}] c;"]
    made = 0
    for gate, qubits, guard in program["ops"]:
        targets = ", ".join(f"q[{qubit}]" for qubit in qubits)
        if gate == "M":
            lines.append(f"c[{made}] = measure {targets};")
            made += 1
        else:
            line = f"{gate.lower()} {targets};"
            lines.append(line if guard is None else f"if (c[{guard}]) {{ {line} }}")
    compiled = openqasm.compile("\n".join(lines))
    return lambda: simulation.run_qir(compiled, shots=shots, type="cpu", seed=1)


def qulacs(program: Program, shots: int) -> Work:
    """A state vector in double precision, once; nothing is measured."""
    from qulacs import QuantumCircuit, QuantumState

    assert shots == 1
    circuit = QuantumCircuit(program["qubits"])
    names = {"H": "H", "S": "S", "T": "T", "X": "X", "Z": "Z", "CX": "CNOT"}
    for gate, qubits, _ in program["ops"]:
        if gate != "M":
            getattr(circuit, f"add_{names[gate]}_gate")(*qubits)
    state = QuantumState(program["qubits"])

    def work() -> object:
        state.set_zero_state()
        circuit.update_quantum_state(state)
        return state

    return work


PEERS = {"qiskit-aer": aer, "qdk": qdk, "qulacs": qulacs}


def main(name: str) -> None:
    from importlib.metadata import PackageNotFoundError, version

    question = json.loads(sys.stdin.readline())
    try:
        found = version(name)
    except PackageNotFoundError:
        print(json.dumps({"missing": f"{name} is not installed: {EXTRA}"}), flush=True)
        return
    work = PEERS[name](question["program"], question["shots"])
    print(json.dumps({"version": found}), flush=True)
    for _ in sys.stdin:
        started = time.process_time()
        work()
        print(json.dumps({"seconds": time.process_time() - started}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
