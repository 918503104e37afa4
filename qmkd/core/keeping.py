"""Making things durable: rows of the step under way, and who waits until they are.

A step gathers the rows it changed; they leave as one `Keep` at its end. What may be said only once
they are durable waits as `Pending`, in the order of the steps: the answer of the call that made
them, the end of a job. Where the daemon keeps nothing, nothing is gathered and nothing waits.

What is done when the news comes is `recovery.py`, which also makes the state anew after a restart.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import chain

import msgspec

from qmkd.core import audit
from qmkd.core.effects import Keep, Reply
from qmkd.core.events import Origin
from qmkd.core.limits import BUSY_RETRY_MS, EPOCH_JOBS_MAX, EPOCH_RECORD_NS_MIN, PENDING_MAX
from qmkd.core.records import Gone, GraphRow, JobRow, Row, SessionRow, SliceRow
from qmkd.core.state import Job, Parked, Pending, Session, State
from qmkd.core.waiting import park, unpark
from syscalls.errors import Busy, KernelError
from syscalls.ids import JobId

_NOTHING = Gone()


def keep(state: State, *rows: Row) -> None:
    """These rows are to be durable with the rest of this step."""
    if state.machine.durable:
        state.unkept.extend(rows)


def let_go(state: State, gone: Gone) -> None:
    """These rows are to go, with the rest of this step."""
    if state.machine.durable:
        state.gone.append(gone)


def write_down(state: State, kind: str, **fields: str | int | list[str]) -> None:
    """One more entry of the audit chain."""
    if state.machine.durable:
        entry = audit.entry(
            number=state.audited + 1,
            previous=state.audit_head,
            epoch=state.epoch,
            at_ns=state.now_ns,
            kind=kind,
            fields=fields,
        )
        state.audited, state.audit_head = entry.number, entry.hash
        state.unkept.append(entry)


def record_epochs(state: State) -> None:
    """One entry for the epochs since the last such entry: whose they were, and who lies where.

    Programs, seeds, results and versions are in the entries of those jobs, and of the start.
    """
    if not state.worked:
        return
    names: list[str] = [*state.worked]
    placed = [*state.placed]
    write_down(
        state,
        "epochs",
        cycle=state.horizon,
        jobs=names[:EPOCH_JOBS_MAX],
        jobs_all=len(names),
        placed=[_whereabouts(job) for job in placed[:EPOCH_JOBS_MAX]],
        placed_all=len(placed),
        qubits=state.physical,
        t_rate=state.t_rate,
        decoder_blocks=state.blocks,
        capabilities=len(state.capabilities),
        modes=sorted(mode.value for mode in state.modes),
    )
    state.worked, state.recorded_ns = {}, state.now_ns


def _whereabouts(job: Job) -> str:
    """A job and the physical qubits that it holds, as ranges: first, and how many."""
    runs = ",".join(f"{run.first}+{run.qubits}" for run in job.place or ())
    return f"{job.id} {runs}"


def masked(name: str) -> str:
    """What the chain calls a session, whose name is for nobody else to know."""
    return sha256(name.encode()).hexdigest()[:16]


def gathered(state: State) -> int:
    """How many rows, of those that are to outlive the daemon, the step under way has made or let go
    so far."""
    return len(state.unkept) + len(state.gone)


def refusal(state: State) -> Busy | None:
    """Why nothing new may be taken on: the store is behind, or cannot write, or all is to end."""
    if state.keep_failed:
        why = f"records cannot be written ({state.keep_failed})"
    elif len(state.pending) >= PENDING_MAX:
        why = f"{PENDING_MAX} changes wait to be written"
    else:
        return shutting_down() if state.stopping else None
    return Busy(what=why, retry_after_ms=BUSY_RETRY_MS)


def shutting_down() -> Busy:
    """The answer to whoever brings new work, or waits for work, during a shutdown."""
    return Busy(what="the kernel is shutting down", retry_after_ms=BUSY_RETRY_MS)


def answer_when_kept(state: State, parked: Parked, body: msgspec.Struct | KernelError) -> None:
    """Answer a parked request: at once, or when what it changed in this step is durable."""
    unpark(state, parked)
    assert not parked.timer, "only waits have one"
    say(state, parked.origin, body)


def say(state: State, origin: Origin, body: msgspec.Struct | KernelError) -> None:
    """Answer a request that is not parked: at once, or when what it changed is durable."""
    if isinstance(body, KernelError) or not gathered(state):
        state.out.append(Reply(to=origin, body=body))
    else:
        answer_later(state, origin, body)


def answer_later(state: State, origin: Origin, body: msgspec.Struct) -> None:
    """Give this answer once what the call changed is durable."""
    parked = Parked(origin, None, body=body)
    parked.pending = Pending(parked=parked)
    park(state, parked)
    state.unsaid.append(parked.pending)


def end_later(state: State, job: Job) -> None:
    """Finish the job, whose ending is decided, once that is durable."""
    assert job.ending is not None
    state.unsaid.append(Pending(job=job))


def flush(state: State) -> None:
    """Ask for what the step under way gathered. Called at its end, once."""
    if not gathered(state):
        assert not state.unsaid, "what waits, waits for something"
        return
    names = [JobId(row.job) for row in state.unkept if isinstance(row, SliceRow)]
    worked = {state.jobs[name]: None for name in names}
    if worked:
        state.worked |= dict.fromkeys(names)
        if state.now_ns - state.recorded_ns >= EPOCH_RECORD_NS_MIN:
            record_epochs(state)
    state.keeps += 1
    state.unsaid = state.unsaid or [Pending()]
    state.unsaid[0].worked = tuple(worked)
    for pending in state.unsaid:
        pending.number, pending.epoch = state.keeps, state.epoch
        pending.audited, pending.audit_head = state.audited, state.audit_head
        state.pending.append(pending)
    state.out.append(
        Keep(
            number=state.keeps,
            epoch=state.epoch,
            numbered=state.numbered,
            cycle=state.horizon,
            rows=tuple(state.unkept),
            gone=_together(state.gone),
        )
    )
    state.unkept, state.gone, state.unsaid = [], [], []


def _together(gone: list[Gone]) -> Gone:
    if len(gone) <= 1:
        return gone[0] if gone else _NOTHING
    fields = Gone.__struct_fields__
    return Gone(**{name: tuple(chain(*(getattr(each, name) for each in gone))) for name in fields})


# --- rows ---------------------------------------------------------------------------------------


def session_row(session: Session, now_ns: int) -> SessionRow:
    """An open session, as it is kept."""
    return SessionRow(
        id=session.id,
        tenant=session.tenant.rule.name,
        granted=tuple(sorted(right.value for right in session.granted)),
        lent=tuple(each.row.id for each in session.lent),
        opened_ns=now_ns,
    )


def job_rows(job: Job) -> tuple[GraphRow, JobRow]:
    """A job just accepted, and its program."""
    program = job.program
    graph = GraphRow(
        digest=program.digest,
        graph=program.graph,
        summary=(program.base or program).summary,
        warnings=tuple(program.warnings),
    )
    row = JobRow(
        id=job.id,
        number=job.number,
        session=job.session.id,
        tenant=job.tenant.rule.name,
        graph=program.digest,
        policy=job.policy,
        seed=job.seed,
        context=job.context,
        created_ns=job.created_ns,
        checked_ns=job.checked_ns,
    )
    return graph, row
