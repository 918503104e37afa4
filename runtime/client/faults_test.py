"""A real daemon on a machine that fails: jobs give way, move, wait, and keep their bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.client import Client
from syscalls.fault import DegradedMode, FaultKind
from syscalls.job import JobState, JobStatus
from tests.daemon import ROOT, running_daemon, short_folder

MACHINE = """
name = "frail"
decoder_blocks = 8
[[module]]
name = "a"
qubits = 100
[[module]]
name = "b"
qubits = 100
[[link]]
between = ["a", "b"]
cycles = 1
fidelity = 0.99
"""
FAULTS = """
[[fault]]
kind = "module"
what = ["a"]
from_cycle = 100_000
to_cycle = 900_000
[[fault]]
kind = "decoder"
strength = 3
from_cycle = 300_000
to_cycle = 2_000_000
[[fault]]
kind = "link"
what = ["a", "b"]
from_cycle = 100_000
[[fault]]
kind = "calibration"
strength = 2
from_cycle = 1_000_000_000_000
"""
SHOTS = 60_000


def run(folder: Path, description: str) -> list[JobStatus]:
    """Several jobs side by side on such a machine, with their ends."""
    (folder / "machine.toml").write_text(description)
    flags = ("--machine", str(folder / "machine.toml"))
    with running_daemon(folder, *flags, workers=2) as daemon, Client(daemon.socket) as client:
        bell = (ROOT / "qvm" / "examples" / "bell.qvm.json").read_bytes()
        jobs = [client.submit(bell, shots=SHOTS, seed=seed, noise="ideal") for seed in range(4)]
        return [job.wait_done() for job in jobs]


def test_bits_of_jobs_are_those_of_a_machine_that_does_not_fail() -> None:
    ends = []
    for description in (MACHINE, MACHINE + FAULTS):
        with short_folder() as folder:
            ends.append(run(folder, description))
    for sound, frail in zip(*ends, strict=True):
        assert sound.state is frail.state is JobState.COMPLETED
        assert sound.execution_context is not None
        assert frail.execution_context is not None
        assert sound.counts == frail.counts
        digest = frail.execution_context.results_digest
        assert digest == sound.execution_context.results_digest
    assert sum(each.telemetry.moves for each in ends[1]) > 0
    assert not any(each.telemetry.moves for each in ends[0])


@pytest.mark.slow
def test_a_rehearsed_fault_outlives_the_daemon_and_its_session() -> None:
    rights = ("CAP_ALLOC", "CAP_ADMIN")
    with short_folder() as folder:
        (folder / "machine.toml").write_text(MACHINE)
        flags = ("--machine", str(folder / "machine.toml"))
        with running_daemon(folder, *flags) as daemon, Client(daemon.socket, rights=rights) as one:
            made = one.inject_fault(FaultKind.MODULE, "b")
        with running_daemon(folder, *flags) as daemon, Client(daemon.socket, rights=rights) as two:
            machine = two.telemetry(machine=True).machine
            assert machine is not None
            assert [each["fault_id"] for each in machine["degraded"]] == [made.fault_id]
            assert machine["degraded"][0]["mode"] == DegradedMode.MIGRATE
            assert [each["free"] for each in machine["modules"]] == [100, 0]
            two.clear_fault(made.fault_id)
            machine = two.telemetry(machine=True).machine
            assert machine is not None
            assert machine["faults"] == {}
