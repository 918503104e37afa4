"""Which engine runs a program, and what that will cost: from the program's own properties.

Pure and cheap; the kernel asks at every submission. The costs are rough CPU times, fitted to
measurements on one core; they order jobs and bound memory, and no result depends on them.
"""

from __future__ import annotations

from typing import Final

from qmkd.core.ports import Plan
from qmkd.engine.limits import CLIFFORD_QUBITS_MAX, DENSE_QUBITS_MAX, GROUP_BYTES_MAX
from qvm.program import Summary
from syscalls.errors import ProgramTooWide
from syscalls.results import SHOT_BLOCK

TABLEAU: Final = "tableau"
FRAMES: Final = "frames"
DENSE: Final = "dense"
ENGINES: Final = (TABLEAU, FRAMES, DENSE)

TABLEAU_SHOTS_MAX: Final = 4
"""Shots up to which a tableau each is cheaper than frames, on programs of TABLEAU_WIDTH_MAX."""
TABLEAU_WIDTH_MAX: Final = 256

# Nanoseconds of one core, fitted to programs of 2 to 1000 qubits and 7 to 10,000 nodes.
SETUP_NS: Final = 60_000
NODE_SETUP_NS: Final = 2_500  # verifying, lowering and compiling a node
NODE_TABLEAU_NS: Final = 250  # applying a node to a tableau
SHOT_TABLEAU_NS: Final = 20_000
EVENT_NS: Final = 5_000  # measuring, for a tableau or a whole batch
EVENT_SQUARE_NS: Final = 0.14  # and on top of it, times width squared
NODE_FRAMES_NS: Final = 1_000  # per batch
NODE_SHOT_NS: Final = 0.015
EVENT_SHOT_NS: Final = 6.0  # drawing, folding, packing, hashing
NODE_DENSE_NS: Final = 5_000  # per batch
AMPLITUDE_NS: Final = 0.5
AMPLITUDE_FAR_NS: Final = 4.0  # where the vectors are beyond the caches
CACHE_BYTES: Final = 8 << 20
GROUPS_GUESSED_MAX: Final = 1 << 12
GROUP_NS: Final = 20_000  # splitting off a reference, and on top of it:
GROUP_SQUARE_NS: Final = 0.5  # times width squared
GROUP_EVENT_NS: Final = 300
GROUP_NODE_NS: Final = 6
SLICE_NS_MOST: Final = 100_000_000  # that shots_least may make a slice take

WORKER_BYTES: Final = 96 << 20
BATCH_BYTES: Final = 192 << 20  # frames, rows and scratch of one batch
VECTOR_BYTES: Final = 256 << 20  # vectors and scratch of one batch

# Opcodes after which shots may differ in what they hold.
_BRANCHING: Final = frozenset(
    {
        "MEASURE_Z", "MEASURE_X", "MEASURE_Y", "MEASURE_ANGLE", "MEASURE_BELL", "RESET", "FREE_LQ",
        "INJECT_T_STATE", "USE_CHAN",
    }
)  # fmt: skip


def plan(summary: Summary, shots: int) -> Plan | ProgramTooWide:
    """How to run `shots` shots of a verified program, or why nothing here can."""
    width = summary.peak_logical
    if not summary.clifford:
        return _dense(summary, shots)
    if width > CLIFFORD_QUBITS_MAX:
        return ProgramTooWide(
            width=width,
            width_max=CLIFFORD_QUBITS_MAX,
            why=f"a stabilizer tableau that wide takes {_tableau_bytes(summary) >> 20} MiB",
        )
    if shots == 1 or (shots <= TABLEAU_SHOTS_MAX and width <= TABLEAU_WIDTH_MAX):
        return _tableau(summary, shots)
    return _frames(summary, shots)


def _tableau(summary: Summary, shots: int) -> Plan:
    return Plan(
        engine=TABLEAU,
        why=f"Clifford operations, {shots} shot{'s' if shots > 1 else ''}: one tableau per shot",
        width=summary.peak_logical,
        ns_fixed=SETUP_NS + NODE_SETUP_NS * summary.nodes,
        ns_per_shot=SHOT_TABLEAU_NS + _reference_ns(summary),
        bytes_peak=WORKER_BYTES + 3 * _tableau_bytes(summary) + _graph_bytes(summary),
    )


def _frames(summary: Summary, shots: int) -> Plan:
    splits = min(summary.branching_guards, GROUPS_GUESSED_MAX.bit_length())
    groups_ns = min(shots, GROUPS_GUESSED_MAX, 1 << splits) * _group_ns(summary) if splits else 0
    guards = "Pauli guards" if summary.pauli_guards else "guards on more than Paulis"
    grouping = "one reference" if summary.pauli_guards else "references by history"
    nodes, events = summary.nodes, len(summary.events)
    ns_per_shot = 1 + int(NODE_SHOT_NS * nodes + EVENT_SHOT_NS * events)
    amortised = max(0, min(groups_ns, SLICE_NS_MOST - groups_ns)) // ns_per_shot
    return Plan(
        engine=FRAMES,
        why=f"Clifford operations, {shots} shots, {guards}: Pauli frames around {grouping}",
        width=summary.peak_logical,
        ns_fixed=SETUP_NS
        + (NODE_SETUP_NS + NODE_FRAMES_NS) * nodes
        + _reference_ns(summary)
        + groups_ns,
        ns_per_shot=ns_per_shot,
        shots_least=max(1, amortised // SHOT_BLOCK) * SHOT_BLOCK,
        bytes_peak=WORKER_BYTES
        + BATCH_BYTES
        + _graph_bytes(summary)
        + (3 * _tableau_bytes(summary) if summary.pauli_guards else _groups_bytes(summary)),
    )


def _dense(summary: Summary, shots: int) -> Plan | ProgramTooWide:
    width, nodes = summary.peak_logical, summary.nodes
    if width > DENSE_QUBITS_MAX:
        return ProgramTooWide(
            width=width,
            width_max=DENSE_QUBITS_MAX,
            why="it holds operations outside the Clifford group, which need a state vector of "
            f"2^{width} amplitudes",
        )
    histories = 1 << min(24, sum(summary.ops.get(op, 0) for op in _BRANCHING))
    branches = min(shots, histories)
    near = branches * (16 << width) <= CACHE_BYTES
    vectors = int((AMPLITUDE_NS if near else AMPLITUDE_FAR_NS) * nodes * branches * (1 << width))
    shared = branches < shots
    return Plan(
        engine=DENSE,
        why=f"operations outside the Clifford group on {width} qubits: state vectors by history",
        width=width,
        ns_fixed=SETUP_NS + (NODE_SETUP_NS + NODE_DENSE_NS) * nodes + (vectors if shared else 0),
        ns_per_shot=1
        + int(EVENT_SHOT_NS * len(summary.events))
        + (0 if shared else vectors // shots),
        bytes_peak=WORKER_BYTES + BATCH_BYTES + VECTOR_BYTES + _graph_bytes(summary),
    )


def _reference_ns(summary: Summary) -> int:
    """Running one shot's worth of operations on one tableau."""
    event = EVENT_NS + EVENT_SQUARE_NS * summary.peak_logical**2
    return int(NODE_TABLEAU_NS * summary.nodes + event * len(summary.events))


def _group_ns(summary: Summary) -> int:
    """One more reference: half of them live only from the last guard on."""
    square = GROUP_SQUARE_NS * summary.peak_logical**2
    return int(
        GROUP_NS + square + GROUP_EVENT_NS * len(summary.events) + GROUP_NODE_NS * summary.nodes
    )


def _tableau_bytes(summary: Summary) -> int:
    return summary.peak_logical**2 // 2


def _groups_bytes(summary: Summary) -> int:
    """Groups are bounded by bytes, but two tableaus there always are, and copies to compare."""
    return max(GROUP_BYTES_MAX, 4 * _tableau_bytes(summary))


def _graph_bytes(summary: Summary) -> int:
    """A program as written, verified, lowered and compiled."""
    return 4000 * summary.nodes
