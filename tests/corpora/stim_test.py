"""The codes that Stim generates, run on a daemon: without noise no detector fires."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
import stim

from runtime.client import Client
from runtime.jit.compiling import compile_circuit
from runtime.jit.readout import register_counts
from tests.daemon import running_daemon

SHOTS = 200


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running_daemon() as daemon, Client(str(daemon.socket)) as connected:
        yield connected


@pytest.mark.parametrize(
    ("code", "distance"),
    [
        ("repetition_code:memory", 9),
        ("surface_code:rotated_memory_x", 5),
        ("surface_code:unrotated_memory_z", 3),
        ("color_code:memory_xyz", 5),
    ],
)
def test_no_detector_of_a_generated_code_fires(client: Client, code: str, distance: int) -> None:
    """By Stim's own converter. What is random in the record is random: shots differ."""
    circuit = stim.Circuit.generated(code, distance=distance, rounds=4)
    graph = compile_circuit(circuit)
    words = register_counts(graph, client.run(msgspec.json.encode(graph), shots=SHOTS).counts)
    record = np.array([[letter == "1" for letter in word[::-1]] for word in words])
    converter = circuit.compile_m2d_converter()
    detectors, observables = converter.convert(measurements=record, separate_observables=True)
    assert not detectors.any()
    assert not observables.any()
    # A repetition code measures only what is known; the others begin with random stabilizers.
    assert (len(words) > SHOTS / 2) == ("repetition" not in code)
