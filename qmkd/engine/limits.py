"""How much each engine takes. Plain numbers, so that the planner needs no numerics."""

from __future__ import annotations

from typing import Final

DENSE_QUBITS_MAX: Final = 20
"""Slots of a program with T, angles or rotations: 2^20 amplitudes are 16 MiB."""
CLIFFORD_QUBITS_MAX: Final = 20_000
"""Slots of a Clifford program: a tableau is n^2 / 2 bytes, 200 MB here, and is copied at need."""
GROUP_BYTES_MAX: Final = 256 << 20
"""References of one batch of frames, with their masks."""
