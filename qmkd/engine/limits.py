"""How much each engine takes. Plain numbers, so that the planner needs no numerics."""

from __future__ import annotations

from typing import Final

DENSE_QUBITS_MAX: Final = 24
"""Qubits of a part with T, angles or rotations: 2^24 amplitudes are 256 MiB."""
DENSE_BYTES_MAX: Final = 256 << 20
"""Vectors of all branches of a batch; an operation may need as much again."""
CLIFFORD_QUBITS_MAX: Final = 20_000
"""Slots of a Clifford program: a tableau is n^2 / 2 bytes, 200 MB here, and is copied at need."""
GROUP_BYTES_MAX: Final = 256 << 20
"""References of one batch of frames, with their masks."""

assert 16 << DENSE_QUBITS_MAX <= DENSE_BYTES_MAX, "one branch of the widest part fits"
