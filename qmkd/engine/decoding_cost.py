"""What drawing and decoding syndromes adds to a plan: a guess from the program's summary.

As `choose.py`, pure and without numerics. How long qubits live follows from the schedule, which is
not made here; each operation is taken for ROUNDS rounds of its qubits. That is right within a few
times, which is enough to send out few shots at first and learn from these.
"""

from __future__ import annotations

from typing import Final

import msgspec

from qmkd.core.ports import Plan
from qvm.program import Summary
from syscalls.plan import FIGURE_MAX, PLAN_ROWS_MAX, PlanRow

DECODER: Final = "decoder"
"""In the place of an engine's name."""
MODES: Final = ("decoded", "physical")
ROUNDS: Final = 2

# Measured with PyMatching 2.4, Surface and Bacon-Shor memories of d = 3 to 13, one core.
DETECTOR_NS: Final = 20.0  # drawn and decoded, per shot at a strength of 1e-3; grows with it
CONFIDENCE: Final = 10.0  # times as much where it is kept how sure decoders are
DETECTOR_FIXED_NS: Final = 1_000_000  # to find mechanisms and make a decoder
DETECTOR_BYTES: Final = 20_000  # of these


def with_decoding(plan: Plan, summary: Summary, shots: int, noise: str, keeps: bool) -> Plan:
    """The plan with what decoding adds, where that noise decodes.

    noise: as engines know it. keeps: what decoders knew of each shot.
    """
    mode, _, physical = noise.partition(" ")
    if mode not in MODES:
        return plan
    strength = float(physical.rpartition(" ")[2])
    operations = sum(each.shape.operations * each.number for each in summary.parts)
    width = max(1, summary.peak_logical)
    rounds = ROUNDS * operations + width
    checks = max((_checks(each.code, each.distance) for each in summary.profiles), default=0)
    detectors = rounds * checks * (2 if mode == "decoded" else 1)  # X and Z errors apart
    shot_ns = detectors * DETECTOR_NS * strength / 1e-3 * (CONFIDENCE if keeps else 1.0)
    # Lives that are alike share a decoder; as often as not all are of two lengths.
    made = detectors if mode == "physical" else min(detectors, 4 * detectors // width)
    fixed_ns, held = made * DETECTOR_FIXED_NS, made * DETECTOR_BYTES
    row = PlanRow(
        engine=DECODER,
        parts=1,
        qubits=summary.peak_logical,
        why=f"{mode} noise: syndromes of some {detectors} detectors a shot are drawn and decoded",
        cpu_ns=_figure(fixed_ns + shots * shot_ns),
        bytes=_figure(held),
    )
    return msgspec.structs.replace(
        plan,
        ns_fixed=_figure(plan.ns_fixed + fixed_ns),
        ns_per_shot=_figure(plan.ns_per_shot + shot_ns),
        bytes_peak=_figure(plan.bytes_peak + held),
        rows=(row, *plan.rows)[:PLAN_ROWS_MAX],
    )


def _checks(code: str, distance: int) -> int:
    """Stabilizers of a patch."""
    return {"Surface": distance**2 - 1, "BaconShor": 2 * (distance - 1)}.get(code, 0)


def _figure(value: float) -> int:
    return int(min(value, FIGURE_MAX))
