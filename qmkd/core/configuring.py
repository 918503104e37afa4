"""Other rules for tenants while the kernel runs: who they are, what they may, how much they hold.

Nothing that was acknowledged is undone for a smaller quota: who holds more than it may have now
keeps that, and gets nothing new before it fits. Only what can never go on ends: a job that is
larger than the whole quota, one whose rights were withdrawn, a capability that hands on more than
there is. A tenant that is no more is suspended, as long as anything of it is left: its sessions
stay, and its jobs run to their end.
"""

from __future__ import annotations

import msgspec

from qmkd.core import holding
from qmkd.core.delegation import amounts, revoke
from qmkd.core.events import Configured
from qmkd.core.jobs import trim
from qmkd.core.keeping import write_down
from qmkd.core.limits import SWEEP_EFFECTS_MAX, check_machine
from qmkd.core.ports import Quota, TenantRule
from qmkd.core.programs import drop_unused
from qmkd.core.quotas import set_quota
from qmkd.core.state import Capability, Session, State, Tenant
from syscalls.rights import Right


def configured(state: State, event: Configured) -> None:
    """Go by these rules from now on. While shutting down, the next kernel does."""
    if state.stopping:
        return
    state.machine = msgspec.structs.replace(state.machine, tenants=event.tenants)
    check_machine(state.machine)
    named: dict[str, Tenant] = {}
    for rule in event.tenants:
        tenant = state.tenants.get(rule.name)
        if tenant is None:
            named[rule.name] = Tenant(rule.quota, rule)
        else:
            named[rule.name] = tenant
            _rule(state, tenant, rule)
    left = {name: one for name, one in state.tenants.items() if name not in named}
    for name, tenant in list(left.items()):
        if _holds(tenant):
            _rule(state, tenant, msgspec.structs.replace(tenant.rule, suspended=True))
        else:
            drop_unused(state, tenant)
            del left[name]
    state.tenants = {**named, **left}
    state.peers.clear()
    state.stirred = state.contested = True
    write_down(
        state,
        "configured",
        tenants=len(named),
        suspended=sum(tenant.rule.suspended for tenant in named.values()),
        removed=len(left),
    )
    state.version += 1


def _holds(tenant: Tenant) -> bool:
    """Whether anything of it is left that somebody could ask for, or that refers to it."""
    return bool(tenant.sessions or tenant.live or tenant.checking or tenant.in_turns)


def _rule(state: State, tenant: Tenant, rule: TenantRule) -> None:
    before, tenant.rule = tenant.rule, rule
    sessions = [one for one in state.sessions.values() if one.tenant is tenant]
    if rule.quota != before.quota:
        _hold_less(state, tenant, before.quota)
        state.lapsed += [job for session in sessions for job in session.live]
        if len(state.out) <= SWEEP_EFFECTS_MAX:
            trim(state, tenant)  # what this leaves goes with the next job that ends
    if not before.grantable <= rule.grantable:
        for session in sessions:
            _withdraw(state, session, rule.grantable)


def _hold_less(state: State, tenant: Tenant, before: Quota) -> None:
    """Another quota, without what is handed on; the last of that is taken back where it is more
    than there is."""
    names, now = Quota.__struct_fields__, tenant.rule.quota
    tenant.lowered |= any(getattr(now, name) < getattr(before, name) for name in names)
    more = {name: getattr(now, name) - getattr(before, name) for name in names}
    left = {name: getattr(tenant.quota, name) + more[name] for name in names}
    set_quota(tenant, state.now_ns, Quota(**left))
    while lacking := [name for name in names if getattr(tenant.quota, name) < 0]:
        given = (each for each in state.capabilities.values() if each.parent is None)
        mine = (each for each in given if each.giver.tenant is tenant)
        at_fault = (each for each in mine if any(amounts(each.row.share).get(n) for n in lacking))
        revoke(state, max(at_fault, key=lambda each: each.row.number))


def _withdraw(state: State, session: Session, grantable: frozenset[Right]) -> None:
    session.granted &= grantable
    for each in list(session.given):
        if each in session.given and each.parent is None and not _may_give(session, each):
            revoke(state, each)
    for handle in [one for one in session.handles if not one.lent]:
        if Right.ALLOC not in session.granted:
            holding.close(state, handle)
    holding.lapse(state, session)
    state.lapsed += session.live


def _may_give(session: Session, each: Capability) -> bool:
    return session.granted >= each.row.rights | {Right.DELEGATE}
