"""The noisy simulator of physical qubits: exact up to 8 of them, Clifford circuits of any width.

What it does is its `Device`; what it says of itself is its calibration, which may be older. Both
come from a seed.
"""

from __future__ import annotations

import numpy as np

from harness.em.backends import backend as common
from harness.em.backends.backend import Calibration, Capabilities, Cost, Outcome, Refused
from harness.em.backends.device import device
from harness.em.backends.superoperators import QUBITS_MAX, Superoperators
from harness.em.backends.twirled import is_clifford, sample
from runtime.jit.circuit import Circuit


class Physical:
    """A machine that does not exist.

    qubits, seed, day, strength, turn_2q: as of `device`. age_days: how old the calibration is that
    it tells; 0 for that of the day. told: the strength that it tells, where it hides another.
    twirl: sample by Stim also where there are few qubits.
    """

    crypto_modes = ("classical", "hybrid", "pqc-required")

    def __init__(
        self,
        qubits: int = QUBITS_MAX,
        seed: int = 1,
        *,
        day: int = 0,
        age_days: int = 0,
        strength: float = 1.0,
        turn_2q: float = 0.02,
        twirl: bool = False,
        availability: float = 0.98,
        told: float | None = None,
    ) -> None:
        if not 0 <= age_days <= day:
            raise Refused(f"On day {day} no calibration is {age_days} days old.")
        self.device = device(qubits, seed, day=day, strength=strength, turn_2q=turn_2q)
        believed = strength if told is None else told
        known = device(qubits, seed, day=day - age_days, strength=believed)
        self.calibration: Calibration = known.figures
        self.capabilities = Capabilities(qubits=qubits)
        self.cost = Cost(money=2e-4, seconds_overhead=0.5)
        self.availability = availability
        self.name = (
            f"physical:qubits={qubits},seed={seed},day={day},age={age_days},"
            f"strength={strength:g},turn={turn_2q:g}"
            + (",twirl=1" if twirl else "")
            + ("" if told is None else f",told={told:g}")
        )
        self._twirl = twirl
        self._exact = Superoperators(self.device)

    def run(self, circuit: Circuit, shots: int, seed: int, distance: int | None = None) -> Outcome:
        """As of `Backend`. Raises Refused for wide circuits that are not of Clifford gates."""
        common.check(self, circuit, shots, distance)
        wide = circuit.width > QUBITS_MAX
        if self._twirl or wide:
            if wide and not is_clifford(circuit):
                why = f"{self.name} runs circuits of more than {QUBITS_MAX} qubits where all gates"
                raise Refused(f"{why} are Clifford gates; this one has others.")
            return Outcome(counts=sample(circuit, self.device, shots, seed))
        chances = self._exact.probabilities(circuit)
        drawn = np.random.Generator(np.random.PCG64(seed)).multinomial(shots, chances)
        return Outcome(
            counts={f"{word:0{circuit.width}b}": int(drawn[word]) for word in np.flatnonzero(drawn)}
        )

    def close(self) -> None:
        """Holds nothing."""
