"""Handing rights on to another tenant, taking them back, and what becomes of jobs that used them.

Capabilities form trees. A root is what a session holds by its tenant's rule; a capability stands
under the one by which its giver holds those rights. Whatever ends takes all below it along in one
step, so there is never one whose parent is no more. A capability ends by q_revoke, by its expiry
(looked at before anything else in a step), or with the session that it came from.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

import msgspec

from qmkd.core import holding
from qmkd.core.capabilities import check_job
from qmkd.core.events import Called
from qmkd.core.jobs import fail
from qmkd.core.keeping import keep, let_go, masked, write_down
from qmkd.core.limits import (
    CAPABILITIES_LISTED_MAX,
    CAPABILITIES_MAX,
    DELEGATIONS_MAX,
    MS,
    SWEEP_EFFECTS_MAX,
)
from qmkd.core.ports import UNLIMITED, Quota
from qmkd.core.quotas import change, check_change, outgrown, over, set_quota
from qmkd.core.records import CapabilityRow, Gone
from qmkd.core.state import Account, Capability, Session, State, Tenant, TimerKind
from qmkd.core.waiting import cancel_timer, set_timer
from qmkd.core.wording import time_text
from syscalls.capability import CapabilityInfo, Delegate, Delegated, Revoke, Revoked, Share
from syscalls.errors import CapabilityNotFound, InsufficientCaps, KernelError
from syscalls.ids import ID_BYTES, TenantId, capability_id
from syscalls.rights import Right

_BOUNDLESS = Quota(**dict.fromkeys(Quota.__struct_fields__, UNLIMITED))


# --- handing on ---------------------------------------------------------------------------------


def hand_on(state: State, session: Session, event: Called) -> Delegated | KernelError:
    """q_delegate. Whether there is a tenant of that name is not said."""
    request = event.request
    assert isinstance(request, Delegate)
    parent = _check_delegate(session, request, state.now_ns)
    if isinstance(parent, KernelError):
        return parent
    row = CapabilityRow(
        id=capability_id(event.entropy[:ID_BYTES]),
        number=state.number(),
        giver=session.id,
        parent=parent.row.id if parent else None,
        depth=parent.row.depth + 1 if parent else 1,
        tenant=request.tenant_id,
        rights=frozenset(request.rights),
        share=request.share,
        expires_ns=_expiry(state, request, parent),
    )
    assert row.id not in state.capabilities, "names of 128 random bits do not meet"
    _enter(state, row, session, parent)
    keep(state, row)
    change(session.tenant, state.now_ns)
    write_down(
        state,
        "capability given",
        capability=row.id,
        parent=row.parent or "",
        session=masked(session.id),
        tenant=row.tenant,
        rights=sorted(row.rights),
        expires_ns=row.expires_ns,
    )
    return Delegated(
        capability_id=row.id,
        rights=sorted(row.rights),
        tenant_id=TenantId(row.tenant),
        expires_at=_time(row),
    )


def _enter(state: State, row: CapabilityRow, giver: Session, parent: Capability | None) -> None:
    """Make a capability and enter it into every table."""
    share = msgspec.structs.replace(_BOUNDLESS, **amounts(row.share))
    made = Capability(share, row, giver, parent)
    state.capabilities[row.id] = made
    giver.given[made] = None
    if parent:
        parent.children[made] = None
    else:
        _set_aside(state, giver.tenant, row.share, 1)
    if row.expires_ns:
        insort(state.expiries, (row.expires_ns, row.number, made))
    state.version += 1


def restore(state: State, row: CapabilityRow) -> None:
    """After a restart: as it was, unless policy or time has ended what it comes from, or itself."""
    giver = state.sessions.get(row.giver)
    parent = state.capabilities.get(row.parent) if row.parent else None
    if giver is None or (row.parent is not None and parent is None):
        why = "what it comes from is no more"
    elif 0 < row.expires_ns <= state.now_ns:
        why = "it has expired"
    elif not row.rights <= (parent.row.rights if parent else giver.granted):
        why = "its giver has not all of the rights any more"
    elif _check_share(parent or giver.tenant, row.share) is not None:
        why = "its share is more than there is"
    else:
        _enter(state, row, giver, parent)
        return
    let_go(state, Gone(capabilities=(row.id,)))
    write_down(state, "capability lost", capability=row.id, session=masked(row.giver), why=why)


def _check_delegate(
    session: Session, request: Delegate, now_ns: int
) -> Capability | KernelError | None:
    """The capability by which the session holds these rights, or None where the rule gives them.

    Only a source that may be handed on counts, and one that covers all: so it is a tree.
    """
    wanted = frozenset(request.rights)
    sources = {None: session.granted} | {each: each.row.rights for each in session.lent}
    fits = {each: rights & wanted for each, rights in sources.items() if Right.DELEGATE in rights}
    parent = max(fits, key=lambda each: len(fits[each]))
    if fits[parent] != wanted:
        return InsufficientCaps(
            required=sorted({*wanted, Right.DELEGATE}), missing=sorted(wanted - fits[parent])
        )
    depth = parent.row.depth if parent else 0
    return (
        over("capabilities from one session", CAPABILITIES_MAX, len(session.given), 1)
        or over("steps from a tenant's own rights", DELEGATIONS_MAX, 0, depth + 1)
        or _check_share(parent or session.tenant, request.share)
        or check_change(session.tenant, now_ns)
        or parent
    )


def _check_share(source: Account, share: Share) -> KernelError | None:
    """A share is no larger than what it comes from, and of a tenant no larger than what is free."""
    held = {}
    if isinstance(source, Tenant):
        jobs = source.live + source.checking
        held = {
            "logical_qubits": source.logical,
            "physical_qubits": source.physical,
            "jobs": jobs,
            "channels": source.channels,
        }
    for name, amount in amounts(share).items():
        limit = getattr(source.quota, name)
        refusal = over(name.replace("_", " "), limit, held.get(name, 0), amount)
        if refusal is not None:
            return refusal
    return None


def amounts(share: Share) -> dict[str, int]:
    """What is set aside, by the names of a quota."""
    every = msgspec.structs.asdict(share)
    return {name: amount for name, amount in every.items() if amount is not None}


def _set_aside(state: State, tenant: Tenant, share: Share, sign: int) -> None:
    quota = tenant.quota
    left = {name: getattr(quota, name) - sign * each for name, each in amounts(share).items()}
    set_quota(tenant, state.now_ns, msgspec.structs.replace(quota, **left))
    state.stirred = state.contested = True


def _expiry(state: State, request: Delegate, parent: Capability | None) -> int:
    ends = [parent.row.expires_ns] if parent and parent.row.expires_ns else []
    if request.expires_after_ms is not None:
        ends.append(state.now_ns + request.expires_after_ms * MS)
    return min(ends, default=0)


def _time(row: CapabilityRow) -> str | None:
    return time_text(row.expires_ns) if row.expires_ns else None


# --- taking back --------------------------------------------------------------------------------


def take_back(state: State, session: Session, event: Called) -> Revoked | KernelError:
    """q_revoke: of a capability that came from this session, or stands below one that did."""
    request = event.request
    assert isinstance(request, Revoke)
    named = above = state.capabilities.get(request.capability_id)
    while above is not None and above.giver is not session:
        above = above.parent
    if named is None or above is None:
        return CapabilityNotFound()
    write_down(state, "capability revoked", capability=named.row.id, session=masked(session.id))
    return Revoked(capability_id=named.row.id, revoked=revoke(state, named))


def revoke(state: State, *tops: Capability) -> int:
    """End capabilities and all below them. Returns how many those are. Their jobs stop soon."""
    users: dict[Session, None] = {}
    ended = sum(_end(state, top, users) for top in tops if top.row.id in state.capabilities)
    for user in users:
        holding.lapse(state, user)
    state.version += 1
    return ended


def _end(state: State, top: Capability, users: dict[Session, None]) -> int:
    if top.parent is None:
        _set_aside(state, top.giver.tenant, top.row.share, -1)
    else:
        del top.parent.children[top]
    ended = [top]
    for each in ended:  # it grows meanwhile: every capability brings those below it
        ended.extend(each.children)
        del state.capabilities[each.row.id]
        let_go(state, Gone(capabilities=(each.row.id,)))
        del each.giver.given[each]
        if each.row.expires_ns:
            at = bisect_left(state.expiries, (each.row.expires_ns, each.row.number))
            del state.expiries[at]
        for user in each.users:
            del user.lent[each]
            users[user] = None
            state.lapsed += [job for job in user.live if each in job.lent]
    return len(ended)


def expire(state: State) -> None:
    """End what has expired. The first thing of a step, so that nothing expired is ever seen."""
    if state.expiries and state.expiries[0][0] <= state.now_ns:
        due = bisect_right(state.expiries, state.now_ns, key=lambda each: each[0])
        revoke(state, *(each for _, _, each in state.expiries[:due]))


def settle(state: State) -> None:
    """Stop jobs whose rights ended, or that became larger than their tenant's quota, as many as fit
    a step; be woken for the rest, and in time."""
    while state.lapsed and len(state.out) <= SWEEP_EFFECTS_MAX:
        job = state.lapsed.pop()
        refusal = check_job(job) or outgrown(job)
        if refusal is not None and job.final is None and job.ending is None:
            fail(state, job, refusal)
    if not (state.lapsed or state.expiries):
        return
    due_ns = state.now_ns if state.lapsed else state.expiries[0][0]
    timer = state.timers.get(state.lapse)
    if timer is None or due_ns < timer.at_ns:
        cancel_timer(state, state.lapse)
        state.lapse = set_timer(state, TimerKind.LAPSE, due_ns)


# --- telling ------------------------------------------------------------------------------------


def listed(state: State, session: Session) -> list[CapabilityInfo]:
    """Those that came from the session, and those that its tenant may use; oldest first."""
    name = session.tenant.rule.name
    offered = [each for each in state.capabilities.values() if each.row.tenant == name]
    shown = {*session.given, *offered[-CAPABILITIES_LISTED_MAX:]}
    return [
        CapabilityInfo(
            capability_id=each.row.id,
            given=each.giver is session,
            in_use=session in each.users,
            rights=sorted(each.row.rights),
            tenant_id=TenantId(each.row.tenant),
            share=each.row.share,
            expires_at=_time(each.row),
        )
        for each in sorted(shown, key=lambda one: one.row.number)
    ]
