"""Who calls, and through which session: the only path by which a request gets authority.

A tenant comes from the peer's uid and gid. A session is found by its name in one table and must
belong to a tenant of the caller. Names hold 128 random bits and are found by hash, so the time of
a look-up says nothing about names that exist; a stranger's session and no session take the same
path. Sessions outlive connections.

Order of refusals, as in `syscalls.errors`: Busy (shutting down), AUTH_FAILED (no tenant),
TENANT_SUSPENDED (whose session it is, or where there is none, who calls), AUTH_FAILED (no session),
SESSION_EXPIRED; then `kernel.py` looks at availability and rights, and each call at the rest.
"""

from __future__ import annotations

from qmkd.core import holding, quotas
from qmkd.core.capabilities import negotiate
from qmkd.core.channels import opened_by
from qmkd.core.checkpoints import checkpoints_of, drop
from qmkd.core.delegation import revoke
from qmkd.core.events import Called, Peer
from qmkd.core.jobs import cancel, forget, free_key
from qmkd.core.keeping import keep, let_go, masked, session_row, write_down
from qmkd.core.limits import (
    JOB_RETAINED_NS,
    PEERS_CACHED_MAX,
    SESSION_IDLE_NS,
    SESSIONS_EXPIRED_MAX,
    SWEEP_EFFECTS_MAX,
    SWEEP_NS_MIN,
)
from qmkd.core.mapping import held_up
from qmkd.core.records import Gone
from qmkd.core.state import Session, State, Tenant, TimerKind
from qmkd.core.waiting import answer, end_subscription, set_timer
from qvm.isa import FAMILIES
from syscalls.errors import AuthFailed, KernelError, SessionExpired, TenantSuspended
from syscalls.ids import ID_BYTES, SessionId, TenantId, session_id
from syscalls.session import CloseSession, NegotiateCaps, Quota, SessionClosed
from syscalls.session import Session as Opened
from syscalls.version import ABI_VERSION, QVM_VERSION


def tenants_of(state: State, peer: Peer) -> tuple[Tenant, ...]:
    """Every tenant that this caller may act for, the caller's own first."""
    key = (peer.uid, peer.gid)
    found = state.peers.get(key)
    if found is None:
        found = tuple(
            tenant
            for tenant in state.tenants.values()
            if peer.uid in tenant.rule.uids or peer.gid in tenant.rule.gids
        )
        if len(state.peers) >= PEERS_CACHED_MAX:
            state.peers.clear()
        state.peers[key] = found
    return found


def check_session(state: State, peer: Peer, name: SessionId) -> Session | KernelError:
    """The caller's session of that name."""
    tenants = tenants_of(state, peer)
    session = state.sessions.get(name)
    if session is not None and session.tenant in tenants:
        if session.tenant.rule.suspended:
            return TenantSuspended()
        if _idle_ns(state, session) <= SESSION_IDLE_NS:
            return session
        return SessionExpired()  # the sweep that closes it is on its way
    return _no_session(tenants, name)


def _idle_ns(state: State, session: Session) -> int:
    """For how long nothing has been asked of it and nothing of it was under way.

    Jobs that wait for what sessions hold are given as long again: else sessions that wait for each
    other would stay for ever.
    """
    idle_ns = state.now_ns - session.touched_ns
    if idle_ns <= SESSION_IDLE_NS or not (session.live or session.checks):
        return idle_ns
    if session.checks or not all(held_up(state, job) for job in session.live):
        return 0
    return max(1, idle_ns - SESSION_IDLE_NS)


def _no_session(tenants: tuple[Tenant, ...], name: SessionId) -> KernelError:
    if not tenants:
        return AuthFailed()
    if all(tenant.rule.suspended for tenant in tenants):
        return TenantSuspended()
    if any(name in tenant.expired for tenant in tenants):
        return SessionExpired()
    return AuthFailed()


# --- opening ------------------------------------------------------------------------------------


def check_open(state: State, peer: Peer, request: NegotiateCaps) -> Tenant | KernelError:
    """The tenant for whom a session may be opened."""
    named = request.tenant_id
    allowed = [t for t in tenants_of(state, peer) if named is None or t.rule.name == named]
    if not allowed:
        return AuthFailed()
    tenant = allowed[0]
    if tenant.rule.suspended:
        return TenantSuspended()
    return (
        quotas.over("sessions", tenant.rule.quota.sessions, tenant.sessions, 1)
        or quotas.check_change(tenant, state.now_ns)
        or tenant
    )


def open_session(state: State, event: Called) -> Opened | KernelError:
    """q_negotiate_caps."""
    request = event.request
    assert isinstance(request, NegotiateCaps)
    tenant = check_open(state, event.peer, request)
    if isinstance(tenant, KernelError):
        return tenant
    rights, lent, granted, denied = negotiate(state, tenant, request.requested)
    session = Session(session_id(event.entropy[:ID_BYTES]), tenant, rights, state.now_ns)
    assert session.id not in state.sessions, "names of 128 random bits do not meet"
    state.sessions[session.id] = session
    for each in lent:
        session.lent[each] = None
        each.users[session] = None
    tenant.sessions += 1
    quotas.change(tenant, state.now_ns)
    state.version += 1
    keep(state, session_row(session, state.now_ns))
    write_down(
        state,
        "session opened",
        session=masked(session.id),
        tenant=tenant.rule.name,
        granted=granted,
        denied=denied,
    )
    if not state.sweep_ns:
        plan_sweep(state, session.touched_ns + SESSION_IDLE_NS)
    quota = tenant.quota
    families = [f for f in FAMILIES if not request.op_families or f in request.op_families]
    return Opened(
        session_id=session.id,
        granted=granted,
        denied=denied,
        quota=Quota(
            max_logical_qubits=quota.logical_qubits,
            max_physical_qubits=quota.physical_qubits,
            max_channels=quota.channels,
            max_jobs=quota.jobs,
        ),
        abi_version=ABI_VERSION,
        qvm_version=QVM_VERSION,
        op_families=families,
        tenant_id=TenantId(tenant.rule.name),
        expires_after_idle_s=SESSION_IDLE_NS / 1e9,
    )


# --- closing ------------------------------------------------------------------------------------


def close_session(state: State, session: Session, event: Called) -> SessionClosed:
    """q_close_session."""
    assert isinstance(event.request, CloseSession)
    return close(state, session)


def close(state: State, session: Session) -> SessionClosed:
    """End a session: its jobs, its submissions being verified, its subscriptions, what it gave.

    A job that runs stops within its grace and answers those who wait for it then.
    """
    session.open = False
    closed = SessionClosed(
        jobs_cancelled=len(session.live),
        jobs_forgotten=len(session.jobs) - len(session.live),
        logical_qubits_released=len(session.handles)
        + sum(job.program.summary.asked_logical for job in session.live if job.place is not None),
        channels_closed=len(opened_by(session)),
        subscriptions_ended=len(session.subscriptions),
    )
    for check in list(session.checks):
        if check.parked is not None:
            answer(state, check.parked, AuthFailed())
    for made in checkpoints_of(session):
        drop(state, made)
    for job in list(session.jobs.values()):
        if job.final is None:
            free_key(job)
            cancel(state, job)
        else:
            forget(state, job)
    for subscription in list(session.subscriptions):
        end_subscription(state, subscription)
    revoke(state, *session.given)
    for handle in list(session.handles):
        holding.close(state, handle)
    for each in session.lent:
        del each.users[session]
    session.lent.clear()
    del state.sessions[session.id]
    session.tenant.sessions -= 1
    state.version += 1
    let_go(state, Gone(sessions=(session.id,)))
    write_down(state, "session closed", session=masked(session.id))
    return closed


# --- growing old --------------------------------------------------------------------------------


def plan_sweep(state: State, due_ns: int) -> None:
    """Look for what has grown too old soon after `due_ns`."""
    state.sweep_ns = max(due_ns + 1, state.now_ns + SWEEP_NS_MIN)
    state.sweep = set_timer(state, TimerKind.SWEEP, state.sweep_ns)


def sweep(state: State) -> None:
    """Close sessions that were idle too long; forget jobs that ended too long ago, and checkpoints
    that were taken so long ago."""
    state.sweep_ns = state.sweep = 0
    due: list[int] = []
    for session in list(state.sessions.values()):
        idle_ns = _idle_ns(state, session)
        if not idle_ns:
            session.touched_ns = state.now_ns
        if idle_ns <= SESSION_IDLE_NS:
            due.append(state.now_ns + SESSION_IDLE_NS - idle_ns)
        elif len(state.out) > SWEEP_EFFECTS_MAX:
            due.append(state.now_ns)
        else:
            _expire(state, session)
    for tenant in state.tenants.values():
        for job in list(tenant.finished):
            if _not_yet(state, job.completed_ns, due):
                break
            forget(state, job)
        for made in list(tenant.checkpoints.values()):
            if _not_yet(state, made.row.created_ns, due):
                break
            drop(state, made)
    if due:
        plan_sweep(state, min(due))


def _not_yet(state: State, since_ns: int, due: list[int]) -> bool:
    """Whether something is kept a while longer: until it is due, or another step has room."""
    if state.now_ns - since_ns <= JOB_RETAINED_NS:
        due.append(since_ns + JOB_RETAINED_NS)
    elif len(state.out) > SWEEP_EFFECTS_MAX:
        due.append(state.now_ns)
    else:
        return False
    return True


def _expire(state: State, session: Session) -> None:
    expired = session.tenant.expired
    expired[session.id] = None
    if len(expired) > SESSIONS_EXPIRED_MAX:
        del expired[next(iter(expired))]
    close(state, session)
