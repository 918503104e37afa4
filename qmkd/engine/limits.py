"""How much each engine takes. Plain numbers, so that the planner needs no numerics."""

from __future__ import annotations

from typing import Final

DENSE_QUBITS_MAX: Final = 24
"""Qubits of a part with T, angles or rotations: 2^24 amplitudes are 256 MiB."""
DENSE_BYTES_MAX: Final = 256 << 20
"""Vectors of all branches of a batch; an operation may need as much again."""
EXACT_QUBITS_MAX: Final = 12
"""Slots of a program whose probabilities are calculated."""
EXACT_AMPLITUDES_MAX: Final = 1 << 23
"""Of all ways that such a program can go: 128 MiB, and an operation may need some times as much."""
EXACT_ROWS_MAX: Final = 1 << 16
"""Different rows of events that have a probability."""
CLIFFORD_QUBITS_MAX: Final = 20_000
"""Slots of a Clifford program: a tableau is n^2 / 2 bytes, 200 MB here, and is copied at need."""
MAGIC_WIDTH_MAX: Final = 20
"""Active qubits of a part with few gates outside the Clifford group: 2^20 amplitudes are 16 MiB,
for every branch."""
MAGIC_QUBITS_MAX: Final = 2048
"""All qubits of such a part."""
MAGIC_TURNS_MAX: Final = 4096
"""Gates outside the Clifford group in such a part. Beyond these, compiling would take long: a
measurement or turn takes a microsecond for every qubit, and a measurement as much for every turn
that waits."""
GROUPS_QUBITS_MAX: Final = 2048
"""Qubits of a Clifford part with guards on more than Paulis, unless it is run shot by shot."""
GROUPS_BYTES_MAX: Final = 64 << 20
"""Tableaus of all groups of a batch, unless the least batch needs more."""
SNAPSHOT_BYTES_MAX: Final = 64 << 20
"""What a parked slice goes on from. Where it would be larger, the slice parks between batches, or
begins anew."""

assert 16 << DENSE_QUBITS_MAX <= DENSE_BYTES_MAX, "one branch of the widest part fits"
assert 1 << EXACT_QUBITS_MAX <= EXACT_AMPLITUDES_MAX, "one way of the widest program fits"
