"""Requests that are answered later, timers, and subscriptions: all that hangs on a connection.

A parked request leaves in exactly one of three ways: it is answered, its time is over (which
answers it too), or its connection ends. Nothing here decides what the answer is.
"""

from __future__ import annotations

import msgspec

from qmkd.core.degraded import degraded_for
from qmkd.core.effects import CancelTimer, Notify, Reply, SetTimer
from qmkd.core.events import Origin
from qmkd.core.limits import (
    BUSY_RETRY_MS,
    PARKED_MAX,
    PROGRESS_NS_MIN,
    SUBSCRIPTIONS_MAX,
    SWEEP_EFFECTS_MAX,
)
from qmkd.core.quotas import over
from qmkd.core.state import (
    Connection,
    Job,
    Measuring,
    Parked,
    Pending,
    Session,
    State,
    Subscription,
    Tenant,
    Timer,
    TimerKind,
)
from qmkd.core.wording import progress, time_text
from syscalls.errors import Busy, KernelError
from syscalls.events import Attestation, EventKind, JobEvent

# --- timers -------------------------------------------------------------------------------------


def set_timer(
    state: State, kind: TimerKind, at_ns: int, about: Parked | Job | Measuring | None = None
) -> int:
    """Ask for a timer; returns its token, which is never 0."""
    token = state.number()
    state.timers[token] = Timer(kind, at_ns, about)
    state.out.append(SetTimer(token, at_ns))
    state.version += 1
    return token


def cancel_timer(state: State, token: int) -> None:
    """Forget a timer that has not fired; token 0 stands for none."""
    if token:
        del state.timers[token]
        state.out.append(CancelTimer(token))


# --- parked requests ----------------------------------------------------------------------------


def check_park(tenant: Tenant) -> KernelError | None:
    """Whether one more request may wait for this tenant's jobs."""
    if tenant.parked >= PARKED_MAX:
        return Busy(what=f"{PARKED_MAX} requests wait already", retry_after_ms=BUSY_RETRY_MS)
    return None


def park(state: State, parked: Parked) -> None:
    """Keep a request for later. `check_park` has allowed it."""
    origin = parked.origin
    connection = state.connections.get(origin.conn)
    if connection is None:
        connection = state.connections[origin.conn] = Connection()
    assert origin.call not in connection.parked, "a request's number is never reused"
    connection.parked[origin.call] = parked
    if parked.job is not None:
        parked.job.waiting[parked] = None
    if parked.tenant is not None:
        parked.tenant.parked += 1
    state.parked += 1
    state.version += 1


def unpark(state: State, parked: Parked) -> None:
    """The request waits no longer: it is answered, or nobody is there to hear the answer."""
    connection = state.connections[parked.origin.conn]
    del connection.parked[parked.origin.call]
    if not connection.parked and not connection.subscriptions:
        del state.connections[parked.origin.conn]
    if parked.job is not None:
        del parked.job.waiting[parked]
    if parked.check is not None:
        parked.check.parked = None
    if parked.pending is not None:
        parked.pending.parked = None
    parked.load = None
    if parked.tenant is not None:
        parked.tenant.parked -= 1
    state.parked -= 1
    state.version += 1


def answer(state: State, parked: Parked, body: msgspec.Struct | KernelError) -> None:
    """Answer a parked request."""
    unpark(state, parked)
    cancel_timer(state, parked.timer)
    state.out.append(Reply(to=parked.origin, body=body))


def is_parked(state: State, origin: Origin) -> bool:
    """Whether this request waits for its answer."""
    connection = state.connections.get(origin.conn)
    return connection is not None and origin.call in connection.parked


def drop_connection(state: State, conn: int) -> None:
    """A connection ended: nothing on it can be answered or notified any more."""
    connection = state.connections.get(conn)
    if connection is None:
        return
    for parked in list(connection.parked.values()):
        unpark(state, parked)
        cancel_timer(state, parked.timer)
    for subscription in list(connection.subscriptions):
        end_subscription(state, subscription)


# --- subscriptions ------------------------------------------------------------------------------


def check_subscribe(session: Session, job: Job | None) -> KernelError | None:
    """Whether the session, and the job, may be listened to once more."""
    in_use = len(session.subscriptions)
    if job is not None:
        in_use = max(in_use, len(job.subscriptions))
    return over("subscriptions", SUBSCRIPTIONS_MAX, in_use, 1)


def subscribe(state: State, session: Session, job: Job | None, conn: int) -> Subscription:
    """Begin a subscription; the first notification says where each live job is."""
    session.named += 1
    subscription = Subscription(f"sub_{session.named}", conn, session, job)
    if state.connections.get(conn) is None:
        state.connections[conn] = Connection()
    state.connections[conn].subscriptions[subscription] = None
    session.subscriptions[subscription] = None
    if job is None:
        session.wide[subscription] = None
    else:
        job.subscriptions[subscription] = None
    state.version += 1
    for about in session.live if job is None else (job,):
        state.notices.append(Notify(conn, _event(state, about, "state")))
    if job is not None and job.final is not None:
        end_subscription(state, subscription)
    return subscription


def end_subscription(state: State, subscription: Subscription) -> None:
    """Send nothing more for it."""
    connection = state.connections[subscription.conn]
    del connection.subscriptions[subscription]
    if not connection.parked and not connection.subscriptions:
        del state.connections[subscription.conn]
    session = subscription.session
    del session.subscriptions[subscription]
    session.wide.pop(subscription, None)
    if subscription.job is not None:
        del subscription.job.subscriptions[subscription]
    state.version += 1


def announce(state: State, job: Job) -> None:
    """Tell subscribers that the job moved to another state."""
    job.seq += 1
    if job.subscriptions or job.session.wide:
        _tell(state, job, _event(state, job, "state"))


def announce_progress(state: State, job: Job) -> None:
    """Tell subscribers that the job got further, unless they were told a moment ago."""
    job.seq += 1
    if state.now_ns - job.notified_ns < PROGRESS_NS_MIN:
        return
    job.notified_ns = state.now_ns
    if job.subscriptions or job.session.wide:
        _tell(state, job, _event(state, job, "progress"))


def announce_degraded(state: State, job: Job) -> None:
    """Tell subscribers what has changed in how the job runs; in a step that tells much, only that
    something was left out."""
    job.seq += 1
    if (job.subscriptions or job.session.wide) and len(state.notices) < SWEEP_EFFECTS_MAX:
        event = _event(state, job, "degraded")
        _tell(state, job, msgspec.structs.replace(event, degraded=degraded_for(state, (job,))))


def announce_attested(state: State, job: Job, kept: Pending) -> None:
    """Tell subscribers what stands for all that is durable of the job, as often as progress."""
    due = state.now_ns - job.attested_ns >= PROGRESS_NS_MIN or job.ending is not None
    if not due or job.final is not None or not (job.subscriptions or job.session.wide):
        return
    job.attested_ns = state.now_ns
    job.seq += 1
    made = Attestation(number=kept.audited, hash=kept.audit_head.hex(), epoch=kept.epoch)
    event = _event(state, job, "attestation")
    _tell(state, job, msgspec.structs.replace(event, attestation=made))


def _tell(state: State, job: Job, event: JobEvent) -> None:
    for subscription in (*job.session.wide, *job.subscriptions):
        state.notices.append(Notify(subscription.conn, event))


def _event(state: State, job: Job, kind: EventKind) -> JobEvent:
    return JobEvent(
        job_id=job.id,
        seq=job.seq,
        kind=kind,
        state=job.state,
        progress=progress(job),
        at=time_text(state.now_ns),
    )
