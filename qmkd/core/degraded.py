"""What is told of faults and of what is done about them: pure readings of the state.

An operator is told all; a tenant what changes how its own jobs run, and never which fault it is by
name. What is decided is `faults.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from qmkd.core.state import Job, State
from syscalls.fault import MODES, Degraded, DegradedMode, Fault, FaultKind


def cause(fault: Fault) -> str:
    """A fault, in words."""
    named, times = " and ".join(fault.what), f"{fault.strength or 0:g} times"
    lost = fault.strength is None
    match fault.kind:
        case FaultKind.CALIBRATION:
            return f"physical qubits err {times} as often"
        case FaultKind.MODULE:
            return f"module {named} has failed"
        case FaultKind.LINK:
            return (
                f"the link of {named} is lost"
                if lost
                else f"the link of {named} is {times} as slow"
            )
        case FaultKind.DECODER:
            return f"the decoder keeps up with {times} fewer blocks"
        case FaultKind.FACTORY:
            return f"the T factories of {named} are " + ("lost" if lost else f"{times} as slow")


def drifted(noise: str, times: float) -> str:
    """A physical noise, as configured, that many times as strong."""
    model, _, strength = noise.partition(" ")
    return noise if times == 1 else f"{model} {float(strength) * times:g}"


def concerned_by(state: State, modes: Collection[DegradedMode]) -> list[str]:
    """The faults in force that bring any of these modes."""
    return [
        name for name, each in state.wrong.items() if not set(modes).isdisjoint(MODES[each.kind])
    ]


def degraded(state: State) -> list[Degraded]:
    """All modes in force, with the faults that brought them."""
    return [each for name in state.wrong for each in _modes(state, name, name)]


def degraded_for(state: State, jobs: Iterable[Job]) -> list[Degraded]:
    """Those that change how these jobs run."""
    names = {name: None for job in jobs for name in job.concerned}
    return [each for name in names if name in state.wrong for each in _modes(state, name, None)]


def _modes(state: State, name: str, told: str | None) -> list[Degraded]:
    fault = state.wrong[name]
    return [
        Degraded(mode=mode, since_cycle=fault.from_cycle, cause=cause(fault), fault_id=told)
        for mode in MODES[fault.kind]
    ]
