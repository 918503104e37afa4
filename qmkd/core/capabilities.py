"""Which rights a session has now, and whether it has those that something needs.

Authority comes from the tenant's rule, or by capabilities that others handed on (`delegation.py`)
and that the session named when it was opened. Afterwards it only shrinks. Whatever is asked here is
asked anew each time: at every call, and for a job before and after each of its slices.
"""

from __future__ import annotations

from collections.abc import Iterable

from qmkd.core.state import Capability, Job, Session, State, Tenant
from syscalls.errors import InsufficientCaps, KernelError, NotBrokered, TenantSuspended
from syscalls.ids import CapabilityId
from syscalls.rights import Right
from syscalls.syscall import SessionCall

_RIGHTS: dict[str, Right] = {right.value: right for right in Right}


def negotiate(
    state: State, tenant: Tenant, requested: list[str]
) -> tuple[frozenset[Right], list[Capability], list[str], list[str]]:
    """(rights by the tenant's rule, capabilities lent to it, names granted, names denied).

    Granted and denied share out the names asked, each in the order asked and without repetition;
    rights that only come by a capability follow. Names of nothing are denied like rights that
    policy withholds and capabilities that are another tenant's.
    """
    names = list(dict.fromkeys(requested))
    own = {name: _RIGHTS[name] for name in names if _RIGHTS.get(name) in tenant.rule.grantable}
    found = {name: state.capabilities.get(CapabilityId(name)) for name in names}
    lent = {
        name: each
        for name, each in found.items()
        if each is not None and each.row.tenant == tenant.rule.name
    }
    held = {*own, *lent, *(right.value for each in lent.values() for right in each.row.rights)}
    granted = [name for name in names if name in held] + sorted(held.difference(names))
    denied = [name for name in names if name not in held]
    return frozenset(own.values()), list(lent.values()), granted, denied


def rights_of(session: Session, lent: Iterable[Capability] | None = None) -> frozenset[Right]:
    """Its rights now: by the rule, and by those of its capabilities that live, or some of these."""
    lent = session.lent if lent is None else [each for each in lent if each in session.lent]
    return session.granted.union(*(each.row.rights for each in lent))


def check_rights(
    session: Session, needed: Iterable[str], lent: Iterable[Capability] | None = None
) -> InsufficientCaps | None:
    """The refusal where the session lacks one of the needed rights."""
    rights, required = rights_of(session, lent), sorted(needed)
    missing = [name for name in required if _RIGHTS[name] not in rights]
    return InsufficientCaps(required=required, missing=missing) if missing else None


def check_call(session: Session, call: SessionCall | type[SessionCall]) -> KernelError | None:
    """Whether the session may make this call: looked at when it is made, and where what it asks for
    is done later, again then."""
    if session.tenant.rule.suspended:
        return TenantSuspended()
    return None if call.NEEDS is None else check_rights(session, [call.NEEDS.value])


def check_job(job: Job) -> InsufficientCaps | NotBrokered | None:
    """Whether the job still has every right that its program needs, by what it was accepted on, and
    all that it names of what sessions hold."""
    refusal = check_rights(job.session, job.program.summary.rights, job.lent)
    there = all(each.open for each in job.handles) and all(each.open for each in job.channels)
    if refusal is not None or there:
        return refusal
    own = [each for each in job.handles if each.session is job.session]
    for right, held in ((Right.ALLOC, own), (Right.LINK, job.channels)):
        if not all(job.session.lent.keys() >= {*each.lent} for each in held):
            return InsufficientCaps(required=[right.value], missing=[right.value])
    return NotBrokered()


def ended(
    session: Session, right: Right, *lent: Capability, aside: Capability | None = None
) -> bool:
    """Whether the right has ended by which a session holds something. aside: a capability that it
    needs beside that right, and which does not give it."""
    by = [each for each in lent if each is not aside]
    there = session.lent.keys() >= {*lent}
    return not there or check_rights(session, [right.value], by) is not None


def lenders(session: Session, needed: Iterable[str]) -> tuple[Capability, ...]:
    """The capabilities that a job uses: those that supply a right which the rule does not give."""
    lacking = {_RIGHTS[name] for name in needed} - session.granted
    used = []
    for each in session.lent:
        if lacking & each.row.rights:
            used.append(each)
            lacking -= each.row.rights
    return tuple(used)
