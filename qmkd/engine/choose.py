"""Which engine runs a program, and what that will cost: from the program's own properties.

Pure and cheap; the kernel asks at every submission. The costs are rough CPU times, fitted to
measurements on one core; they order jobs and bound memory, and no result depends on them.
"""

from __future__ import annotations

from typing import Final

from qmkd.core.ports import Plan
from qmkd.engine.limits import CLIFFORD_QUBITS_MAX, DENSE_QUBITS_MAX
from qvm.program import Summary
from syscalls.errors import ProgramTooWide

TABLEAU: Final = "tableau"
FRAMES: Final = "frames"
DENSE: Final = "dense"
ENGINES: Final = (TABLEAU, FRAMES, DENSE)

TABLEAU_SHOTS_MAX: Final = 2
"""Shots up to which a tableau each is cheaper than frames."""

SETUP_NS: Final = 30_000
NODE_SETUP_NS: Final = 1_500  # verifying, lowering and compiling a node
TABLEAU_NODE_NS: Final = 700
FRAMES_NODE_NS: Final = 2_000  # per batch
FRAMES_NODE_SHOT_NS: Final = 0.05
DENSE_NODE_NS: Final = 12_000  # per batch
DENSE_AMPLITUDE_NS: Final = 3.0
EVENT_SHOT_NS: Final = 15.0  # drawing, unpacking, packing, hashing
GROUPS_GUESSED_MAX: Final = 64

WORKER_BYTES: Final = 96 << 20
BATCH_BYTES: Final = 192 << 20  # frames, rows and scratch of one batch

# Opcodes after which shots may differ in what they hold.
_BRANCHING: Final = frozenset(
    {
        "MEASURE_Z", "MEASURE_X", "MEASURE_Y", "MEASURE_ANGLE", "MEASURE_BELL", "RESET", "FREE_LQ",
        "INJECT_T_STATE", "USE_CHAN",
    }
)  # fmt: skip


def plan(summary: Summary, shots: int) -> Plan | ProgramTooWide:
    """How to run `shots` shots of a verified program, or why nothing here can."""
    if not summary.clifford:
        return _dense(summary, shots)
    if summary.peak_logical > CLIFFORD_QUBITS_MAX:
        return ProgramTooWide(
            width=summary.peak_logical,
            width_max=CLIFFORD_QUBITS_MAX,
            why=f"a stabilizer tableau that wide takes {_tableau_bytes(summary) >> 20} MiB",
        )
    if shots <= TABLEAU_SHOTS_MAX:
        return _tableau(summary, shots)
    return _frames(summary, shots)


def _tableau(summary: Summary, shots: int) -> Plan:
    return Plan(
        engine=TABLEAU,
        why=f"Clifford operations, {shots} shot{'s' if shots > 1 else ''}: one tableau per shot",
        width=summary.peak_logical,
        ns_fixed=SETUP_NS + NODE_SETUP_NS * summary.nodes,
        ns_per_shot=int(TABLEAU_NODE_NS * summary.nodes + _tableau_bytes(summary)),
        bytes_peak=WORKER_BYTES + 3 * _tableau_bytes(summary) + _graph_bytes(summary),
    )


def _frames(summary: Summary, shots: int) -> Plan:
    groups = 1 if summary.pauli_guards else min(shots, GROUPS_GUESSED_MAX)
    guards = "Pauli guards" if summary.pauli_guards else "guards on more than Paulis"
    grouping = "one reference" if summary.pauli_guards else "references by history"
    row = FRAMES_NODE_SHOT_NS * summary.nodes + EVENT_SHOT_NS * len(summary.events)
    return Plan(
        engine=FRAMES,
        why=f"Clifford operations, {shots} shots, {guards}: Pauli frames around {grouping}",
        width=summary.peak_logical,
        ns_fixed=SETUP_NS + (NODE_SETUP_NS + FRAMES_NODE_NS * groups) * summary.nodes,
        ns_per_shot=1 + int(row),
        bytes_peak=WORKER_BYTES
        + BATCH_BYTES
        + _graph_bytes(summary)
        + (3 if summary.pauli_guards else 64) * _tableau_bytes(summary),
    )


def _dense(summary: Summary, shots: int) -> Plan | ProgramTooWide:
    width = summary.peak_logical
    if width > DENSE_QUBITS_MAX:
        return ProgramTooWide(
            width=width,
            width_max=DENSE_QUBITS_MAX,
            why="it holds operations outside the Clifford group, which need a state vector of "
            f"2^{width} amplitudes",
        )
    histories = 1 << min(24, sum(summary.ops.get(op, 0) for op in _BRANCHING))
    branches = min(shots, histories)
    vectors = DENSE_AMPLITUDE_NS * summary.nodes * branches * (1 << width)
    return Plan(
        engine=DENSE,
        why=f"operations outside the Clifford group on {width} qubits: state vectors by history",
        width=width,
        ns_fixed=SETUP_NS
        + (NODE_SETUP_NS + DENSE_NODE_NS) * summary.nodes
        + (int(vectors) if branches < shots else 0),
        ns_per_shot=1
        + int(EVENT_SHOT_NS * len(summary.events))
        + (int(vectors) // shots if branches == shots else 0),
        bytes_peak=WORKER_BYTES + BATCH_BYTES + _graph_bytes(summary) + (256 << 20),
    )


def _tableau_bytes(summary: Summary) -> int:
    return summary.peak_logical**2 // 2


def _graph_bytes(summary: Summary) -> int:
    """A program as written, verified, lowered and compiled."""
    return 4000 * summary.nodes
