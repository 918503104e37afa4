"""Logical qubits that a session holds outside any job: places, which its programs name by handles.

A handle stays its session's until it is released, until the session closes, or until the right by
which it was allocated ends. Then nobody can name it any more, and jobs that do are to stop; its
place is given back, once, when the last of them is over. Channels between handles are
`channels.py`; where jobs lie beside them is `mapping.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from qmkd.core import channels, quotas
from qmkd.core.capabilities import ended, lenders
from qmkd.core.events import Called
from qmkd.core.keeping import keep, let_go, masked, write_down
from qmkd.core.limits import BUSY_RETRY_MS
from qmkd.core.mapping import overtake, settle_vacancies, starved
from qmkd.core.records import Gone, HandleRow
from qmkd.core.state import Block, Capability, Channel, Handle, Job, Session, State
from qvm.blocks import Inventory, Place, Run
from qvm.profiles import Profile, parse_profile
from qvm.program import Blocks, Summary
from syscalls.errors import (
    Busy,
    HandleNotFound,
    InvalidGraph,
    InvalidParams,
    KernelError,
    NotBrokered,
)
from syscalls.findings import Finding
from syscalls.ids import ID_BYTES, ChannelId, HandleId, handle_id
from syscalls.qubit import Alloc, Allocated, Release, Released
from syscalls.rights import Right


def alloc(state: State, session: Session, event: Called) -> Allocated | KernelError:
    """q_alloc."""
    request = event.request
    assert isinstance(request, Alloc)
    profile = parse_profile(request.profile)
    if isinstance(profile, str):
        return InvalidParams(path="$.profile", expected=f"a profile; {profile}")
    lent = lenders(session, [Right.ALLOC.value])
    place = _check_alloc(state, session, request, profile, lent)
    if isinstance(place, KernelError):
        return place
    overtake(state)
    runs = [
        Run(run.module, 0, run.first + at * run.size, run.size, 1)
        for run in place
        for at in range(run.number)
    ]
    rows = [
        HandleRow(
            id=handle_id(sha256(event.entropy + number.to_bytes(4, "big")).digest()[:ID_BYTES]),
            number=state.number(),
            session=session.id,
            profile=request.profile,
            module=runs[number // profile.block].module,
            first=runs[number // profile.block].first,
            lent=tuple(each.row.id for each in lent),
        )
        for number in range(request.n)
    ]
    for row in rows:
        _enter(state, row, session, profile, lent)
    keep(state, *rows)
    quotas.change(session.tenant, state.now_ns)
    write_down(
        state,
        "qubits allocated",
        session=masked(session.id),
        tenant=session.tenant.rule.name,
        profile=f"{profile.code} d={profile.distance}",
        handles=[masked(row.id) for row in rows],
    )
    applied = f"logical:{profile.code}" + (f"(d={profile.distance})" if profile.distance else "")
    return Allocated(handles=[row.id for row in rows], profile=applied)


def _check_alloc(
    state: State,
    session: Session,
    request: Alloc,
    profile: Profile,
    lent: tuple[Capability, ...],
) -> Place | KernelError:
    """Room for them, now."""
    names = [module.name for module in state.hardware.module]
    if request.module is not None and request.module not in names:
        return InvalidParams(path="$.module", expected=f"one of {', '.join(names)}")
    number = -(-request.n // profile.block)
    asked = number * profile.block_physical
    for account in quotas.accounts_of(session.tenant, lent):
        quota = account.quota
        refusal = quotas.over(
            "logical qubits", quota.logical_qubits, account.logical, request.n
        ) or quotas.over("physical qubits", quota.physical_qubits, account.physical, asked)
        if refusal is not None:
            return refusal
    refusal = quotas.check_change(session.tenant, state.now_ns)
    if refusal is not None:
        return refusal
    need = (
        Blocks(
            code=profile.code,
            distance=profile.distance,
            logical=profile.block,
            physical=profile.block_physical,
            number=number,
        ),
    )
    only = None if request.module is None else names.index(request.module)
    place = None if starved(state) else state.inventory.find(need, only=only)
    if place is not None:
        return place
    free = state.inventory.free if only is None else [state.inventory.free[only]]
    spare = state.hardware.spare if only is None else [state.hardware.spare[only]]
    return quotas.lacking(
        "physical qubits in modules that are linked, for whole blocks",
        sum(spare),
        asked,
        sum(spare) - sum(free),
        waiting_helps=Inventory(state.hardware).find(need, only=only) is not None,
    )


def _enter(
    state: State,
    row: HandleRow,
    session: Session,
    profile: Profile,
    lent: tuple[Capability, ...],
) -> None:
    """Make a handle, and take its block if it is the first there; enter both into every table."""
    run = Run(row.module, 0, row.first, profile.block_physical, 1)
    block = state.held.get(row.first)
    accounts = quotas.accounts_of(session.tenant, lent)
    if block is None:
        block = state.held[row.first] = Block(profile, run, accounts)
        for account in accounts:
            account.physical += run.size
        state.physical += run.size
        state.inventory.take((run,))
        state.fixed.take((run,))
        settle_vacancies(state, 0)
    handle = Handle(row, session, block, lent)
    block.handles[handle] = None
    for account in accounts:
        account.logical += 1
    state.handles[row.id] = handle
    session.handles[handle] = None
    state.version += 1


def restore(state: State, row: HandleRow) -> None:
    """After a restart: as it was, unless policy has ended it or the machine is another."""
    session = state.sessions.get(row.session)
    profile = parse_profile(row.profile)
    assert isinstance(profile, Profile), "it was one when it was kept"
    lent = tuple(state.capabilities[name] for name in row.lent if name in state.capabilities)
    run = Run(row.module, 0, row.first, profile.block_physical, 1)
    if session is None:
        why = "its session is no more"
    elif len(lent) < len(row.lent) or ended(session, Right.ALLOC, *lent):
        why = "the right by which it was allocated has ended"
    elif row.first not in state.held and not state.inventory.is_free(run):
        why = "its place is no more"
    else:
        _enter(state, row, session, profile, lent)
        return
    let_go(state, Gone(handles=(row.id,)))
    names = [masked(row.id)]
    write_down(state, "qubits lost", session=masked(row.session), handles=names, why=why)


# --- giving back --------------------------------------------------------------------------------


def release(state: State, session: Session, event: Called) -> Released | KernelError:
    """q_release."""
    request = event.request
    assert isinstance(request, Release)
    found = []
    for name in dict.fromkeys(request.handles):
        handle = state.handles.get(name)
        if handle is None or handle.session is not session:
            return HandleNotFound()
        if any(job.session is session for job in handle.jobs):
            what = "a job that is not over names this qubit"
            return Busy(what=what, retry_after_ms=BUSY_RETRY_MS)
        found.append(handle)
    names = [masked(handle.row.id) for handle in found]
    write_down(state, "qubits released", session=masked(session.id), handles=names)
    for handle in found:
        close(state, handle)
    return Released(handles=[handle.row.id for handle in found])


def close(state: State, handle: Handle) -> None:
    """Nobody can name it from now on, and jobs that do are to stop."""
    for channel in list(handle.channels):
        channels.close(state, channel)
    handle.open = False
    del state.handles[handle.row.id]
    del handle.session.handles[handle]
    let_go(state, Gone(handles=(handle.row.id,)))
    state.lapsed += handle.jobs
    state.version += 1
    _settle(state, handle)


def lapse(state: State, session: Session) -> None:
    """Close what a session holds by rights that have ended."""
    for channel in channels.lapse(session):
        channels.close(state, channel)
    for handle in list(session.handles):
        if ended(session, Right.ALLOC, *handle.lent):
            close(state, handle)


def _settle(state: State, handle: Handle) -> None:
    """Give its place back if nobody uses it any more."""
    if handle.open or handle.jobs:
        return
    block = handle.block
    del block.handles[handle]
    for account in block.accounts:
        account.logical -= 1
    state.stirred = state.contested = True  # by its quota alone somebody may fit now
    if block.handles:
        return
    run = block.run
    for account in block.accounts:
        account.physical -= run.size
    state.physical -= run.size
    state.inventory.give((run,))
    state.fixed.give((run,))
    settle_vacancies(state, state.cycle)
    del state.held[run.first]


# --- jobs that name them ------------------------------------------------------------------------


class Named(NamedTuple):
    """What a program names of what sessions hold. handles: as `qvm.uses.held_names` orders them."""

    handles: tuple[Handle, ...] = ()
    channels: tuple[Channel, ...] = ()


def named(state: State, session: Session, summary: Summary) -> Named | KernelError:
    """What a program names, if the session may have it run there: qubits and channels of its own,
    and the far ends of these, which nothing but its channel entangles with anything.

    Whatever else is named is refused alike, whether it is another's or nobody's.
    """
    crossed: dict[Channel, None] = {}
    for one in summary.brokered:
        channel = state.channels.get(ChannelId(one.name))
        if channel is None or channel.session is not session or one.astray:
            return NotBrokered()
        if one.ends != tuple(sorted(channel.row.ends)):
            return NotBrokered()
        crossed[channel] = None
    found: dict[Handle, None] = {}
    for each in summary.handles:
        handle = state.handles.get(HandleId(each.name))
        if handle is None:
            return NotBrokered()
        if handle.session is not session and (each.local or not crossed.keys() & handle.channels):
            return NotBrokered()
        profile = handle.block.profile
        if (each.profile.code, each.profile.distance) != (profile.code, profile.distance):
            message = f"{each.name} is {handle.row.profile}, not {each.profile.asked}"
            finding = Finding(
                rule="handle.profile",
                severity="error",
                node=None,
                path="$.program.nodes",
                message=message,
            )
            return InvalidGraph(findings=[finding], findings_total=1)
        found[handle] = None
    if found and not Inventory(state.hardware).joined(modules(found)):
        return quotas.lacking("links between the modules of the qubits named", 0, 1)
    return Named(tuple(found), tuple(crossed))


def modules(handles: Iterable[Handle]) -> frozenset[int]:
    """Where they lie."""
    return frozenset(handle.block.run.module for handle in handles)


def without(state: State, handles: Iterable[Handle]) -> Inventory:
    """An empty machine, but for these."""
    inventory = Inventory(state.hardware)
    inventory.take(tuple({handle.block.run for handle in handles}))
    return inventory


def join(job: Job) -> None:
    """A job that names handles is taken up."""
    channels.join(job)
    for handle in job.handles:
        handle.jobs[job] = None


def leave(state: State, job: Job) -> None:
    """It is over."""
    channels.leave(job)
    for handle in job.handles:
        del handle.jobs[job]
        _settle(state, handle)
