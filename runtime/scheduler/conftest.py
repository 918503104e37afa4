"""A small catalogue: two good machines, a poor one, and one that only does classical signatures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from policy.api import CircuitFeatures
from runtime.attest.conftest import TestSigner
from runtime.scheduler.calibrations import Calibration, QubitFigures, Snapshot
from runtime.scheduler.deciding import Entry
from runtime.scheduler.jobs import Backend, Job, State

NOW = datetime(2026, 4, 18, 12, tzinfo=UTC)


def calibration(name: str, error_2q: float = 0.005, qubits: int = 6, **more: Any) -> Calibration:
    """A line of alike qubits, calibrated half a day ago."""
    figures = QubitFigures(
        error=error_2q / 10, t1_s=1.5e-4, t2_s=1e-4, read_1_for_0=0.008, read_0_for_1=0.012
    )
    made = Calibration(
        backend=name,
        taken_at="2026-04-18T00:00:00Z",
        qubits=(figures,) * qubits,
        edges={f"{low}-{low + 1}": error_2q for low in range(qubits - 1)},
        gate_1q_s=5e-8,
        gate_2q_s=3e-7,
        readout_s=1e-6,
    )
    return msgspec.structs.replace(made, **more)


def entry(name: str, error_2q: float = 0.005, waiting_s: float = 0.0, **more: Any) -> Entry:
    fields = {"cost_per_second": 1.0, "crypto_modes": ("classical", "hybrid"), **more}
    state = State(waiting_s=waiting_s, waiting_high_s=2 * waiting_s)
    return Entry(Backend(backend_id=name, **fields), Snapshot(calibration(name, error_2q)), state)


def job(number: int = 1, **more: Any) -> Job:
    circuit = CircuitFeatures(qubits=4, depth=12, gates_1q=40, gates_2q=30, measurements=4)
    fields = {"tenant": "a", "circuit": circuit, "shots": 4000, **more}
    return Job(job_id=str(UUID(int=number)), **fields)


@pytest.fixture
def entries() -> list[Entry]:
    return [
        entry("good", waiting_s=600.0),
        entry("better", 0.002, waiting_s=1200.0),
        entry("poor", 0.03),
        entry("plain", 0.004, crypto_modes=("classical",)),
    ]


@pytest.fixture
def signer() -> TestSigner:
    """Fresh keys."""
    return TestSigner()
