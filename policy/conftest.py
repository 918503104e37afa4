"""Questions, and a small model: trained once, on errors of a known law."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from policy.api import Asked, BackendFeatures, Budget, CircuitFeatures
from policy.models import Model


def question(gates: int = 40, shots: int = 4000, error_2q: float = 0.008, **more: Any) -> Asked:
    fields: dict[str, Any] = {"calibration_age_s": 3600.0, **more}
    return Asked(
        circuit=CircuitFeatures(
            qubits=5, depth=gates // 3, gates_1q=2 * gates, gates_2q=gates, measurements=5
        ),
        backend=BackendFeatures(
            error_1q=error_2q / 10, error_2q=error_2q, readout_error=0.01, t1_s=1e-4, t2_s=8e-5,
            layer_s=3e-7, **fields,
        ),
        budget=Budget(shots=shots, shots_max=4 * shots),
    )  # fmt: skip


METHODS = ("none", "zne", "richardson", "ml-qem")


def made_up(count: int, seed: int) -> tuple[list[Asked], np.ndarray, list[str]]:
    """Questions, errors by a law, and groups of four. Few gates: none is best; many: ml-qem."""
    rng = np.random.Generator(np.random.PCG64(seed))
    asked, errors, groups = [], [], []
    for number in range(count):
        gates = int(rng.integers(4, 120))
        asked.append(question(gates, int(2 ** rng.integers(8, 14)), rng.uniform(0.002, 0.02)))
        strength = gates * asked[-1].backend.error_2q
        base = np.array(
            [strength / 2, 0.05 + strength / 4, 0.1 + strength / 8, 0.03 + strength / 9]
        )
        errors.append(base * rng.uniform(0.9, 1.1, 4))
        groups.append(f"circuit-{number // 4}")
    return asked, np.array(errors), groups


@pytest.fixture(scope="session")
def model() -> Model:
    training = pytest.importorskip("policy.training", reason="scikit-learn trains models")
    asked, errors, groups = made_up(400, 1)
    fit: Callable[..., Model] = training.fit
    return fit(asked, errors, METHODS, groups, seed=1, data="of the test", trees=24)
