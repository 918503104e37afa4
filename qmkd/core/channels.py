"""Channels that sessions open between qubits that they hold, and what may be named across a border.

A channel is a promise about pairs: between these two qubits, by this link, at least as good as was
asked. A pair of it waits, and decays, until it is used; then the next is made. Between qubits of
two sessions there is a channel only where both consent: who opens it has CAP_LINK by itself, and
holds another CAP_LINK that the tenant of the far qubit handed to it, not to somebody who handed it
on. It closes with either qubit, with either session, and with any right by which it was opened;
jobs that use it are then to stop. Nothing else entangles what two sessions hold.
"""

from __future__ import annotations

from itertools import chain

from qmkd.core import quotas
from qmkd.core.capabilities import check_rights, ended
from qmkd.core.events import Called
from qmkd.core.keeping import keep, let_go, masked, write_down
from qmkd.core.limits import BUSY_RETRY_MS
from qmkd.core.records import ChannelRow, Gone
from qmkd.core.state import Capability, Channel, Handle, Job, Session, State
from qvm.channels import class_of, settled
from qvm.pairs import Pair, stored
from syscalls.channel import (
    ChanClosed,
    ChannelTerms,
    ChanOpened,
    ChanOptions,
    ChanState,
    ChanStatus,
    CloseChan,
    OpenChan,
    RawPairs,
)
from syscalls.errors import (
    Busy,
    ChannelNotFound,
    FidelityUnavailable,
    InvalidParams,
    KernelError,
    NotBrokered,
)
from syscalls.ids import ID_BYTES, ChannelId, channel_id
from syscalls.rights import Right


def open_chan(state: State, session: Session, event: Called) -> ChanOpened | KernelError:
    """q_open_chan."""
    request = event.request
    assert isinstance(request, OpenChan)
    near, far = (state.handles.get(name) for name in (request.vq_a, request.vq_b))
    if near is not None and near.session is not session:
        near, far = far, near
    if near is None or far is None or near.session is not session:
        return NotBrokered()
    consent = None
    if far.session is not session:
        consent = _consent(session, far)
        if consent is None:
            return NotBrokered()
    if near is far:
        return InvalidParams(path="$.vq_b", expected="another qubit than vq_a")
    lent = _lent(session, consent)
    for account in quotas.accounts_of(session.tenant, lent):
        refusal = quotas.over("channels", account.quota.channels, account.channels, 1)
        if refusal is not None:
            return refusal
    terms = quotas.check_change(session.tenant, state.now_ns) or _terms(
        state, near, far, request.options
    )
    if not isinstance(terms, ChannelTerms):
        return terms
    row = ChannelRow(
        id=channel_id(event.entropy[:ID_BYTES]),
        number=state.number(),
        session=session.id,
        ends=(near.row.id, far.row.id),
        consent=None if consent is None else consent.row.id,
        lent=tuple(each.row.id for each in lent),
        asked=request.options.fidelity or 0.0,
        terms=terms,
    )
    assert row.id not in state.channels, "names of 128 random bits do not meet"
    _enter(state, row, (near, far), lent)
    keep(state, row)
    quotas.change(session.tenant, state.now_ns)
    write_down(
        state,
        "channel opened",
        channel=masked(row.id),
        session=masked(session.id),
        tenants=sorted({near.session.tenant.rule.name, far.session.tenant.rule.name}),
        consent=row.consent or "",
        fidelity=f"{terms.fidelity:.9g}",
        rounds=terms.rounds,
    )
    return ChanOpened(
        channel_id=row.id,
        actual_fidelity=terms.fidelity,
        purification_rounds=terms.rounds,
        terms=terms,
    )


def _consent(session: Session, far: Handle) -> Capability | None:
    """The capability by which the far qubit's tenant lets the session link to it, where the session
    may link by itself as well."""
    for each in session.lent:
        if Right.LINK in each.row.rights and each.giver.tenant is far.session.tenant:
            others = [other for other in session.lent if other is not each]
            if check_rights(session, [Right.LINK.value], others) is None:
                return each
    return None


def _lent(session: Session, consent: Capability | None) -> tuple[Capability, ...]:
    """The capabilities by which it is opened."""
    others = [one for one in session.lent if one is not consent and Right.LINK in one.row.rights]
    used = () if Right.LINK in session.granted else tuple(others[:1])
    return used if consent is None else (*used, consent)


def _terms(
    state: State, near: Handle, far: Handle, options: ChanOptions
) -> ChannelTerms | KernelError:
    """What pairs between two qubits are like. On a machine of one module they are not needed."""
    if len(state.hardware.module) == 1:
        return ChannelTerms()
    modules = near.block.run.module, far.block.run.module
    link = state.hardware.links.get(modules)
    if link is None:
        return quotas.lacking("links between the modules of these qubits", 0, 1)
    asked = options.fidelity or 0.0
    found, reachable = settled(asked, options.type or "", 0, link)
    if found is None:
        return FidelityUnavailable(asked=asked, reachable=reachable)
    raw = RawPairs(cycles=link.cycles, fidelity=link.fidelity, lifetime=link.lifetime)
    return ChannelTerms(
        link=raw,
        protocol=found.protocol,
        rounds=found.ladder.rounds,
        raw_pairs=found.ladder.raw_pairs,
        cycles=found.ladder.cycles(link.cycles),
        made=found.used.fidelity,
        fidelity=found.used.fidelity,
        x=found.used.x,
        y=found.used.y,
        z=found.used.z,
    )


def _enter(
    state: State, row: ChannelRow, ends: tuple[Handle, Handle], lent: tuple[Capability, ...]
) -> None:
    session = ends[0].session
    accounts = quotas.accounts_of(session.tenant, lent)
    consent = None if row.consent is None else lent[-1]
    channel = Channel(row, session, ends, lent, consent, accounts, made_cycle=state.cycle)
    for account in accounts:
        account.channels += 1
    for handle in ends:
        handle.channels[channel] = None
    state.channels[row.id] = channel
    state.version += 1


def restore(state: State, row: ChannelRow) -> None:
    """After a restart: as it was, unless an end, a right or the link is no more what it was."""
    ends = tuple(state.handles[name] for name in row.ends if name in state.handles)
    lent = tuple(state.capabilities[name] for name in row.lent if name in state.capabilities)
    consent = lent[-1] if lent and row.consent is not None else None
    if len(ends) < 2:
        why = "one of its qubits is no more"
    elif len(lent) < len(row.lent) or ended(ends[0].session, Right.LINK, *lent, aside=consent):
        why = "a right by which it was opened has ended"
    elif not _linked(state, row, *ends):
        why = "its link is no more what it was"
    else:
        _enter(state, row, (ends[0], ends[1]), lent)
        return
    let_go(state, Gone(channels=(row.id,)))
    names = {"channel": masked(row.id), "session": masked(row.session)}
    write_down(state, "channel lost", **names, why=why)


def _linked(state: State, row: ChannelRow, near: Handle, far: Handle) -> bool:
    """Whether the link is the one for which the channel was opened."""
    link = state.hardware.links.get((near.block.run.module, far.block.run.module))
    if link is None or len(state.hardware.module) == 1:
        return row.terms.link is None and len(state.hardware.module) == 1
    then, now = row.terms.link, class_of(link)
    return then is not None and (then.cycles, then.fidelity, then.lifetime) == (
        now.cycles,
        now.fidelity,
        now.lifetime,
    )


# --- closing ------------------------------------------------------------------------------------


def _find(state: State, session: Session, name: ChannelId) -> Channel | ChannelNotFound:
    """The channel of that name, where this session opened it."""
    channel = state.channels.get(name)
    return channel if channel is not None and channel.session is session else ChannelNotFound()


def close_chan(state: State, session: Session, event: Called) -> ChanClosed | KernelError:
    """q_close_chan."""
    request = event.request
    assert isinstance(request, CloseChan)
    channel = _find(state, session, request.channel_id)
    if isinstance(channel, KernelError):
        return channel
    if channel.jobs:
        what = "a job that is not over names this channel"
        return Busy(what=what, retry_after_ms=BUSY_RETRY_MS)
    close(state, channel)
    return ChanClosed(channel_id=request.channel_id)


def close(state: State, channel: Channel) -> None:
    """Nobody can use it from now on, and jobs that do are to stop."""
    channel.open = False
    del state.channels[channel.row.id]
    for handle in channel.ends:
        del handle.channels[channel]
    for account in channel.accounts:
        account.channels -= 1
    let_go(state, Gone(channels=(channel.row.id,)))
    write_down(
        state, "channel closed", channel=masked(channel.row.id), session=masked(channel.session.id)
    )
    state.lapsed += channel.jobs
    state.stirred = state.contested = True  # somebody may wait for channels of the quota
    state.version += 1


def opened_by(session: Session) -> list[Channel]:
    """The channels that a session opened."""
    every = chain.from_iterable(handle.channels for handle in session.handles)
    return list(dict.fromkeys(each for each in every if each.session is session))


def lapse(session: Session) -> list[Channel]:
    """Those of a session whose rights are no longer what they were opened by."""
    held = opened_by(session)
    return [one for one in held if ended(session, Right.LINK, *one.lent, aside=one.consent)]


# --- telling ------------------------------------------------------------------------------------


def chan_status(state: State, session: Session, event: Called) -> ChanState | KernelError:
    """q_chan_status. The pair that waits is as old as the machine's clock says."""
    request = event.request
    assert isinstance(request, ChanStatus)
    channel = _find(state, session, request.channel_id)
    if isinstance(channel, KernelError):
        return channel
    row, terms = channel.row, channel.row.terms
    age = max(0, state.cycle - channel.made_cycle)
    pair = Pair(1 - terms.x - terms.y - terms.z, terms.x, terms.y, terms.z)
    now = stored(pair, age, terms.link.lifetime if terms.link else None)
    return ChanState(
        channel_id=row.id,
        vq_a=row.ends[0],
        vq_b=row.ends[1],
        actual_fidelity=now.fidelity,
        purification_rounds=terms.rounds,
        uses=channel.uses,
        age_cycles=age if terms.link else 0,
        raw_pairs=terms.raw_pairs * (channel.uses + 1),
        terms=terms,
    )


# --- jobs that use them -------------------------------------------------------------------------


def join(job: Job) -> None:
    """A job that names channels is taken up."""
    for channel in job.channels:
        channel.jobs[job] = None


def leave(job: Job) -> None:
    """It is over: the pairs that wait now were made when it used the last ones."""
    names = {each.row.id: each for each in job.channels}
    for channel in job.channels:
        del channel.jobs[job]
    for use in job.program.summary.uses:
        used = names.get(ChannelId(use.channel))
        if used is not None and job.shots_done > job.inherited:
            used.uses += job.shots_done - job.inherited
            used.made_cycle = max(used.made_cycle, job.cycle)
