"""What a planner knows of the machine: as its user describes it, or as two tiny jobs tell.

The kernel tells a job which noise it had, and what made its shots longer than their operations; it
tells only CAP_ADMIN what the machine is made of. So where nobody names a description, a job of one
shot that wants many T states shows how fast factories are, and links and decoders count as without
limit until a job is slowed by them.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Final

import msgspec

from qvm.assemble import assemble
from qvm.machine import Factory, Hardware, Module
from runtime.client import Client, errors
from runtime.client.results import Result
from syscalls.session import Quota

PROBES: Final = ((8, 256), (1, 256), (1, 0))
"""Qubits and T states of the probe; the next where a quota or the machine has too little."""
MODES: Final = ("calibrated", "decoded", "physical")


class NotNoisy(Exception):
    """The daemon applies no noise that rates are known of; the sentence says which."""


class Machine(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """hardware: a description, or what is assumed in place of one. physical_noise: model and
    strength now. calibration: names the tables by content. quota: of the session. stated: where
    the hardware is known from."""

    hardware: Hardware
    physical_noise: str
    calibration: str
    quota: Quota
    stated: str

    @cached_property
    def digest(self) -> str:
        """Names all of it by content."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()

    def slower(self, t_cycles: float) -> Machine:
        """The same machine with so many cycles to a T state."""
        module = self.hardware.module[0].name
        factory = (Factory(module=module, qubits=1, cycles=t_cycles),)
        hardware = msgspec.structs.replace(self.hardware, factory=factory)
        return msgspec.structs.replace(self, hardware=hardware)

    def crowded(self, blocks: int) -> Machine:
        """The same machine, whose decoder keeps up with so many code blocks."""
        hardware = msgspec.structs.replace(self.hardware, decoder_blocks=max(1, blocks))
        return msgspec.structs.replace(self, hardware=hardware)

    def noisier(self, physical_noise: str, calibration: str) -> Machine:
        """The same machine under other noise."""
        return msgspec.structs.replace(self, physical_noise=physical_noise, calibration=calibration)


def look(client: Client, hardware: Hardware | None = None) -> Machine:
    """What the daemon's answers to a probe tell. Raises QmkError and NotNoisy."""
    result = _probed(client)
    noise, calibration = noise_of(result)
    stated = "as described"
    quota = client.session.quota
    if hardware is None:
        stated = "as probed"
        module = Module(name="main", qubits=max(1, quota.max_physical_qubits))
        hardware = Hardware(name="probed", module=(module,), factory=_factories(result, module))
    return Machine(
        hardware=hardware,
        physical_noise=noise,
        calibration=calibration,
        quota=quota,
        stated=stated,
    )


def noise_of(result: Result) -> tuple[str, str]:
    """The noise that a job had, as configurations write it, and its calibration.

    Raises NotNoisy.
    """
    context = result.execution_context
    mode, _, noise = context.noise.applied.partition(" ")
    if mode not in MODES:
        raise NotNoisy(f"The daemon runs jobs under noise {context.noise.applied!r}.")
    return noise, context.calibration or ""


def _probed(client: Client) -> Result:
    *larger, least = PROBES
    for qubits, states in larger:
        try:
            return client.run(assemble(_probe(qubits, states)), shots=1, seed=0)
        except (errors.QuotaExceeded, errors.ResourceExhausted):
            continue
    return client.run(assemble(_probe(*least)), shots=1, seed=0)


def _probe(number: int, states: int) -> str:
    qubits = [f"q{at}" for at in range(number)]
    lines = [f'ALLOC_LQ n={number}, profile="Surface(d=3)", {", ".join(qubits)}']
    lines += [f"APPLY_T {qubit}" for _ in range(states // number) for qubit in qubits]
    lines += [f"MEASURE_Z {qubit} -> m{qubit}" for qubit in qubits]
    return "\n".join([*lines, f"FREE_LQ {', '.join(qubits)}", ""])


def _factories(result: Result, module: Module) -> tuple[Factory, ...]:
    """One that is as fast as all that the probe met; none where it did not wait for T states."""
    if result.telemetry.slowed_by != "T states":
        return ()
    cycles = result.telemetry.machine_cycles / max(states for _, states in PROBES)
    return (Factory(module=module.name, qubits=1, cycles=cycles),)


assert all(states % qubits == 0 for qubits, states in PROBES)
