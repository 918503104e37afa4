"""Logical qubits of a running qmkd: what is left to mitigate is what decoding leaves.

A client like any other, through `runtime.client`. Circuits are compiled by `runtime.jit` for one
code and a distance. Rates of logical errors are nothing that the kernel tells its tenants, so they
are measured here on rows of one gate, whose answers are known; how many shots that took is kept.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from harness.em.backends import backend as common
from harness.em.backends.backend import (
    GAP_BIN,
    GAP_BINS_MAX,
    Calibration,
    Capabilities,
    Cost,
    Outcome,
    QubitFigures,
    Refused,
)
from runtime.client import Client, QmkError
from runtime.client.results import Result
from runtime.jit.circuit import Circuit, Operation, Register, Unsupported
from runtime.jit.compiling import compile_circuit
from runtime.jit.passes import Wishes
from runtime.jit.readout import register_counts

QUBITS_MAX: Final = 256
NOISES: Final = ("calibrated", "decoded")
EPSILON: Final = 1e-3
"""Of all rotations of a circuit together; less than shots can tell."""
LAYERS: Final = 32
MEMORY_SHOTS: Final = 200_000
MEMORY_SEED: Final = 20_260_101
ROUND_S: Final = 1e-6


class Logical:
    """Qubits of one code. socket: of the daemon; None finds it as every client does.

    code: `Surface` or `BaconShor`. distances: that runs may ask for, the first being used where
    they ask for none. noise: `calibrated`, or `decoded`, which also tells gaps.
    """

    crypto_modes = ("classical", "hybrid", "pqc-required")
    availability = 1.0

    def __init__(
        self,
        socket: str | None = None,
        *,
        code: str = "Surface",
        distances: tuple[int, ...] = (5, 3, 7),
        noise: str = "calibrated",
        memory_shots: int = MEMORY_SHOTS,
    ) -> None:
        if noise not in NOISES:
            raise Refused(f"Logical qubits err in one of {', '.join(NOISES)}, not {noise!r}.")
        if not distances:
            raise Refused("Logical qubits need a code distance.")
        self._client = Client(socket)
        self._code, self._noise, self._memory_shots = code, noise, memory_shots
        self._default = distances[0]
        self.capabilities = Capabilities(
            qubits=QUBITS_MAX, gaps=noise == "decoded", distances=tuple(sorted(distances))
        )
        self.cost = Cost(seconds_overhead=0.01)
        told = "+".join(map(str, distances))
        self.name = f"logical:code={code},d={told},noise={noise}"
        self.calibration_shots = 0
        self._calibration: Calibration | None = None

    @property
    def calibration(self) -> Calibration:
        """Measured when first asked for, `memory_shots` for each distance."""
        if self._calibration is None:
            distances = self.capabilities.distances
            rates = {str(d): self._memory_rate(d, "h") for d in distances}
            slow = {str(d): self._memory_rate(d, "s") for d in distances}
            usual = rates[str(self._default)]
            qubit = QubitFigures(
                error=usual, t1_s=None, t2_s=None, read_1_for_0=0.0, read_0_for_1=0.0
            )
            self._calibration = Calibration(
                backend=self.name,
                taken_at="",
                qubits=(qubit,) * QUBITS_MAX,
                any_pair=2 * usual,
                gate_1q_s=self._default * ROUND_S,
                gate_2q_s=self._default * ROUND_S,
                readout_s=ROUND_S,
                by_distance=rates,
                slow_by_distance=slow,
            )
        return self._calibration

    def _memory_rate(self, distance: int, gate: str) -> float:
        """Chance that one such gate flips a qubit, from LAYERS of them; none seen counts as one."""
        around = [Operation("h", (0,))] if gate == "s" else []
        body = [*around, *[Operation(gate, (0,))] * LAYERS, *around]
        circuit = Circuit(
            qubits=(Register("q", 1),),
            bits=(Register("c", 1),),
            operations=(*body, Operation("measure", (0,), (), (0,))),
        )
        shots = self._memory_shots
        # By measured rates also where jobs are decoded: the same noise, and quick.
        found = self._ran(circuit, shots, MEMORY_SEED, distance, "calibrated")
        wrong = found.counts.get("1", 0)
        self.calibration_shots += shots
        share = min(max(wrong, 1) / shots, 0.49)
        return -math.log1p(-2 * share) / (2 * LAYERS)

    def run(self, circuit: Circuit, shots: int, seed: int, distance: int | None = None) -> Outcome:
        """As of `Backend`. Raises Refused, also where no daemon answers or it refuses the job."""
        common.check(self, circuit, shots, distance)
        return self._ran(circuit, shots, seed, distance or self._default, self._noise)

    def _ran(self, circuit: Circuit, shots: int, seed: int, distance: int, noise: str) -> Outcome:
        gaps = noise == "decoded"
        try:
            graph = compile_circuit(
                circuit,
                profile=f"logical:{self._code}(d={distance})",
                wishes=Wishes(epsilon=EPSILON),
            )
            result = self._client.run(
                graph, shots=shots, seed=seed & 0xFFFF_FFFF, noise=noise, decoder_data=gaps
            )
            if gaps:
                return _with_gaps(result, circuit.bit_count)
            return Outcome(counts=register_counts(graph, result.counts))
        except Unsupported as error:
            raise Refused(f"{self.name} cannot run this circuit: {error}.") from error
        except QmkError as error:
            raise Refused(f"{self.name}: {error}") from error

    def close(self) -> None:
        """End the session."""
        self._client.close()


def _with_gaps(result: Result, bits: int) -> Outcome:
    """Counts, and the gaps of each outcome's shots."""
    columns = {name: at for at, name in enumerate(result.event_names)}
    places = [columns[f"c[{bit}]"] for bit in reversed(range(bits))]
    letters = np.ascontiguousarray(result.samples[:, places] + ord("0"), dtype=np.uint8)
    words = letters.view(f"S{bits}").reshape(-1)
    gaps = np.minimum(result.decoder_data["gap"].astype(float) / GAP_BIN, GAP_BINS_MAX)
    if np.isnan(gaps).any():
        raise Refused("The decoder tells no gaps of this code.")
    keys, where = np.unique(words, return_inverse=True)
    counts: dict[str, int] = {}
    found: dict[str, dict[int, int]] = {}
    for at, key in enumerate(keys):
        bins, shots = np.unique(gaps[where == at].astype(int), return_counts=True)
        counts[key.decode()] = int(shots.sum())
        found[key.decode()] = {int(b): int(n) for b, n in zip(bins, shots, strict=True)}
    return Outcome(counts=counts, gaps=found)
