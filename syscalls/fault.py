"""Parts of the machine that fail or drift, and what the kernel does about it.

A fault is the world's: a module is gone, the error rate has drifted. A degraded mode is the
kernel's answer, in force for as long as the fault is. Both are counted in the machine's cycles, so
that a run with faults is as repeatable as one without. Faults stand in the machine's description,
or an operator injects them to see what would happen. `docs/machine.md` says what each comes to.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from syscalls.errors import FaultNotFound, QuotaExceeded
from syscalls.rights import Right
from syscalls.syscall import Errors, Reply, SessionCall

CYCLES_MAX = 2**53 - 1
STRENGTH_MAX = 1e6
FAULTS_MAX = 64
"""In a description, and injected at a time."""


class FaultKind(StrEnum):
    """What is wrong.

    `calibration`: physical qubits err `strength` times as often. `module`: a module is gone.
    `link`: a link makes Bell pairs `strength` times as slowly, or none. `decoder`: the decoder
    keeps up with `strength` times fewer blocks. `factory`: the T factories of a module are
    `strength` times as slow, or gone.
    """

    CALIBRATION = "calibration"
    MODULE = "module"
    LINK = "link"
    DECODER = "decoder"
    FACTORY = "factory"


class DegradedMode(StrEnum):
    """What the kernel does about it.

    `migrate`: jobs leave a failed module, and none is placed there. `serialise`: jobs that teleport
    run one after another, and none is split over a lost link. `throttle`: jobs with the most blocks
    to decode give way first, and are slowed where they alone are too much. `scarce_magic`: jobs
    with the most T states give way first, and are slowed. `raise_distance`: jobs accepted from then
    on have the drifted noise, and, where their policy allows it, larger codes. `add_fences`: jobs
    are handed out less at a time.
    """

    MIGRATE = "migrate"
    SERIALISE = "serialise"
    THROTTLE = "throttle"
    SCARCE_MAGIC = "scarce_magic"
    RAISE_DISTANCE = "raise_distance"
    ADD_FENCES = "add_fences"


MODES: dict[FaultKind, tuple[DegradedMode, ...]] = {
    FaultKind.CALIBRATION: (DegradedMode.RAISE_DISTANCE, DegradedMode.ADD_FENCES),
    FaultKind.MODULE: (DegradedMode.MIGRATE,),
    FaultKind.LINK: (DegradedMode.SERIALISE,),
    FaultKind.DECODER: (DegradedMode.THROTTLE,),
    FaultKind.FACTORY: (DegradedMode.SCARCE_MAGIC,),
}
"""Which fault brings which modes."""

assert set(MODES) == set(FaultKind)
assert {mode for modes in MODES.values() for mode in modes} == set(DegradedMode)

Cycle = Annotated[int, Meta(ge=0, le=CYCLES_MAX)]
Strength = Annotated[float, Meta(gt=1, le=STRENGTH_MAX)]
Named = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=2)]
_WHAT = "The module it is of, or both modules that a link joins; none for the machine's as a whole."
_STRENGTH = "How many times worse; null for the loss of all of it, where that is possible."


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of the machine is not what it should be, from one cycle up to before another."""

    kind: FaultKind
    what: Annotated[Named, Meta(description=_WHAT)] = []
    strength: Annotated[Strength | None, Meta(description=_STRENGTH)] = None
    from_cycle: Cycle = 0
    to_cycle: Annotated[Cycle | None, Meta(description="Null: until further notice.")] = None


class Degraded(Struct, frozen=True, kw_only=True):
    """A mode in force, since when, and what it is for."""

    mode: DegradedMode
    since_cycle: int
    cause: Annotated[str, Meta(description="The fault, in words.")]
    fault_id: Annotated[str | None, Meta(description="Which fault; told to CAP_ADMIN only.")] = None


class FaultInjected(Reply, frozen=True, kw_only=True):
    """The fault, as it is going to be; the cycles are the machine's."""

    fault_id: str
    fault: Fault
    modes: Annotated[list[DegradedMode], Meta(description="What the kernel does meanwhile.")]


class InjectFault(SessionCall, frozen=True, kw_only=True):
    """Behave as if a part of the machine failed, to rehearse what happens then.

    No job's bits change but those of jobs accepted while a `calibration` fault lasts, which
    have the noise that they are told of. It outlives the daemon, and its session.
    """

    METHOD: ClassVar[str] = "q_inject_fault"
    REPLY: ClassVar[type[Reply]] = FaultInjected
    NEEDS: ClassVar[Right | None] = Right.ADMIN
    REFUSALS: ClassVar[Errors] = (QuotaExceeded,)

    kind: FaultKind
    what: Annotated[Named, Meta(description=_WHAT)] = []
    strength: Annotated[Strength | None, Meta(description=_STRENGTH)] = None
    after_cycles: Annotated[Cycle, Meta(description="Begin so many machine cycles after now.")] = 0
    for_cycles: Annotated[
        Annotated[int, Meta(ge=1, le=CYCLES_MAX)] | None,
        Meta(description="Last so many machine cycles; null: until it is cleared."),
    ] = None


class FaultCleared(Reply, frozen=True, kw_only=True):
    """The part works again from this machine cycle on."""

    fault_id: str
    cycle: int


class ClearFault(SessionCall, frozen=True, kw_only=True):
    """End an injected fault now, or one that is yet to begin.

    One of the machine's description ends as it says there.
    """

    METHOD: ClassVar[str] = "q_clear_fault"
    REPLY: ClassVar[type[Reply]] = FaultCleared
    NEEDS: ClassVar[Right | None] = Right.ADMIN
    REFUSALS: ClassVar[Errors] = (FaultNotFound, QuotaExceeded)

    fault_id: Annotated[str, Meta(min_length=1, max_length=64)]
