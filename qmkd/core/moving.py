"""q_migrate: a job's blocks into the module that its owner names.

A job at rest moves at once and stays there from then on; one that has no place yet gets it there,
when its turn comes. Qubits that stand at a fence are teleported, one after the other, so they need
a link, and the job's clock moves on meanwhile (docs/machine.md). Bits do not depend on places.
"""

from __future__ import annotations

from collections.abc import Collection

from qmkd.core.checkpoints import snapshots, stands_at
from qmkd.core.keeping import answer_when_kept, write_down
from qmkd.core.mapping import advance, demand_of, lies_apart, modules_of
from qmkd.core.quotas import change, check_change, lacking
from qmkd.core.state import Job, Parked, State
from qmkd.core.waiting import answer
from qvm.blocks import Place, qubits_of
from qvm.machine import Hardware
from syscalls.checkpoint import Migrate, Migrated
from syscalls.errors import InvalidParams, KernelError, ResourceExhausted

STEPS_PER_BLOCK = 2  # logical time steps: a shared Bell pair is made, and measured with the block


def find_module(state: State, job: Job, target: str) -> int | KernelError:
    """The module of that name, if it could ever hold the job."""
    names = [module.name for module in state.hardware.module]
    if target not in names:
        return InvalidParams(path="$.target", expected=f"one of {', '.join(names)}")
    module = names.index(target)
    if lies_apart(job):
        return lacking("modules that hold both ends of its channels", 0, 1)
    most, asked = state.hardware.spare[module], qubits_of(job.program.summary.blocks)
    if asked > most:
        return _too_small(target, most, 0, asked)
    apart = _apart(state.hardware, module, target, modules_of(job))
    return module if apart is None else apart


def _apart(
    hardware: Hardware, module: int, target: str, others: Collection[int]
) -> ResourceExhausted | None:
    """The refusal where no link leads to one of the others; of the whole machine, or what works."""
    if not set(others) - {module} - hardware.neighbours[module]:
        return None
    return lacking(f"links between the module {target} and where other qubits of the job are", 0, 1)


def _too_small(target: str, limit: int, in_use: int, asked: int) -> ResourceExhausted:
    what = f"physical qubits of the module {target}"
    return lacking(what, limit, asked, in_use, waiting_helps=asked <= limit)


def move(state: State, job: Job, parked: Parked) -> None:
    """Do it, with the job at rest."""
    assert parked.wish is not None
    request = parked.wish.request
    assert isinstance(request, Migrate)
    module = find_module(state, job, request.target)
    assert not isinstance(module, KernelError), "a machine does not change"
    done = Migrated(job_id=job.id, placement=request.target, epoch=stands_at(job))
    if lies_there(job, module):
        answer_when_kept(state, parked, done)
        return
    refused = check_change(job.tenant, state.now_ns)
    if refused is not None:
        answer(state, parked, refused)
        return
    if job.place is None:
        state.stirred = state.contested = True
    else:
        place = _place(state, job, module, request.target, alive=bool(snapshots(job)))
        if isinstance(place, KernelError):
            answer(state, parked, place)
            return
        _settle_in(state, job, place)
    job.module = module
    change(job.tenant, state.now_ns)
    state.version += 1
    write_down(state, "job moved", job=job.id, module=request.target)
    answer_when_kept(state, parked, done)


def lies_there(job: Job, module: int) -> bool:
    """Whether the job lies there already, or is to: then nothing changes."""
    if job.place is None:
        return job.module == module
    return {run.module for run in job.place} <= {module}


def _place(state: State, job: Job, module: int, name: str, *, alive: bool) -> Place | KernelError:
    """Where it lies there. alive: some of its qubits hold a state, which has to get there."""
    assert job.place is not None
    modules = {run.module for run in job.place}
    apart = _apart(state.working, module, name, modules) if alive else None
    if apart is not None:
        return apart
    need, inventory = job.program.summary.blocks, state.inventory
    inventory.give(job.place)
    found = inventory.find(need, modules_of(job), module)
    if found is None:
        spare, free = state.hardware.spare[module], inventory.free[module]
        inventory.take(job.place)
        return _too_small(name, spare, spare - free, qubits_of(need))
    inventory.take(found)
    return found


def _settle_in(state: State, job: Job, place: Place) -> None:
    """The job lies there from now on; what crossed a border took its time."""
    assert job.place is not None
    modules = {run.module for run in place}
    crossed = sum(run.number for run in job.place if run.module not in modules)
    if crossed:
        need = demand_of(state, job)
        job.moves += 1
        advance(state, job, crossed * STEPS_PER_BLOCK * -(-need.cycles // need.steps))
    job.place = place
    state.stirred = state.contested = True
