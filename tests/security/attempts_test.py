"""The security list: what a hostile tenant might try, each by name, with the refusal it must meet.

The attempts stand in `forging.py`, `escalating.py`, `borders.py`, `using.py` and `exhausting.py`;
here they are tried on the pure kernel, beside a victim who must notice nothing. What depends on
sockets, users and descriptors is tried on a real daemon, in `sockets_test.py`. `tests/conformance`
has more bad manners on the wire, `tests/simulation` hostile clients by the thousand.
"""

from __future__ import annotations

import msgspec
import pytest

from qmkd.core.conftest import bell
from qmkd.core.records import ChannelRow, HandleRow, Recovered, SessionRow
from syscalls.capability import Delegate, Revoke
from syscalls.channel import ChanStatus
from syscalls.errors import (
    ChannelNotFound,
    KernelError,
    NotBrokered,
)
from syscalls.ids import TenantId
from syscalls.job import Status, Submit, Submitted
from syscalls.rights import Right
from syscalls.session import CloseSession, NegotiateCaps
from tests.security import borders, escalating, exhausting, forging, using
from tests.security.borders import Border
from tests.security.stage import (
    ATTACKER,
    ATTEMPTS,
    MAGIC,
    RICH,
    VICTIM,
    Attempt,
    Stage,
)

KINDS = (forging, escalating, borders, using, exhausting)
"""Each enters its attempts as it is read."""


@pytest.mark.parametrize("durable", [False, True], ids=["memory", "durable"])
@pytest.mark.parametrize(
    "tried", ATTEMPTS, ids=[f"{each.aim}: {each.name}".replace(" ", "-") for each in ATTEMPTS]
)
def test_the_attempt_meets_its_refusal_and_the_victim_notices_nothing(
    tried: Attempt, durable: bool
) -> None:
    stage = Stage(durable=durable)
    before = stage.seen_by_victim()
    answers = tried.run(stage)
    for answer in answers if isinstance(answers, list) else [answers]:
        assert isinstance(answer, tried.meets), answer
    after = stage.seen_by_victim()
    lent = {"exhaust", "escalate", "replay", "use"}
    if tried.aim.split()[0] not in lent:
        assert msgspec.json.encode(after[0]) == msgspec.json.encode(before[0])
    assert after[0] == before[0], "what is over stays as it was"
    assert after[1].state == before[1].state
    assert after[1].progress == before[1].progress


def test_the_list_covers_all_that_the_mission_names() -> None:
    aims = {each.aim for each in ATTEMPTS}
    assert aims == {
        "forge", "guess", "replay", "escalate", "use another's", "exhaust memory",
        "exhaust the machine", "exhaust CPU", "exhaust disk", "exhaust the journal",
        "cross a border",
    }  # fmt: skip
    assert len({(each.aim, each.name) for each in ATTEMPTS}) == len(ATTEMPTS)
    assert {each.run.__module__ for each in ATTEMPTS} == {kind.__name__ for kind in KINDS}


def test_whether_another_submitted_a_program_cannot_be_told_from_the_time_it_takes() -> None:
    """A large graph is verified for each tenant anew, so nobody is answered the sooner for it."""
    stage = Stage()
    large = bell() + b" " * 10_000
    assert stage.try_submit(stage.victim, large, uid=VICTIM) is None, "it waits for a worker"
    stage.run_all()
    assert isinstance(stage.try_submit(stage.victim, large, uid=VICTIM), Submitted)
    assert stage.try_submit(stage.open(uid=RICH), large, uid=RICH) is None


def test_a_channel_that_comes_back_without_its_consent_reaches_nobody() -> None:
    """After a restart, as if the row of the channel alone had stayed when its consent went."""
    stage = Stage(durable=True)
    border = Border(stage, consent=True)
    channel = border.open().channel_id
    stage.call(Revoke(session_id=stage.victim, capability_id=border.consent), uid=VICTIM)
    assert channel in {name for keep in stage.kept for name in keep.gone.channels}
    rows = [row for keep in stage.kept for row in keep.rows]
    stage.restart(
        Recovered(
            numbered=stage.state.numbered,
            sessions=tuple(row for row in rows if isinstance(row, SessionRow)),
            handles=tuple(row for row in rows if isinstance(row, HandleRow)),
            channels=tuple(row for row in rows if isinstance(row, ChannelRow)),
        )
    )
    assert {border.mine, border.theirs} <= stage.state.handles.keys()
    told = stage.attack(ChanStatus(session_id=border.session, channel_id=channel))
    assert (told, border.over(channel)) == (ChannelNotFound(), NotBrokered())


def test_refused_calls_write_nothing_to_the_journal() -> None:
    """However many: they cannot fill the disk, nor make the store fall behind."""
    stage = Stage(durable=True)
    refused = [
        CloseSession(session_id=stage.victim),
        Status(session_id=stage.session, job_id=stage.job),
        Revoke(session_id=stage.session, capability_id=stage.capability),
        Submit(session_id=stage.session, graph=msgspec.Raw(MAGIC)),
        Submit(session_id=stage.session, graph=msgspec.Raw(b"{}")),
        NegotiateCaps(requested=[], tenant_id=TenantId("victim")),
        Delegate(session_id=stage.session, rights=[Right.ADMIN], tenant_id=TenantId("x")),
    ]
    keeps = stage.state.keeps
    for request in refused:
        assert isinstance(stage.attack(request), KernelError)
    assert stage.state.keeps == keeps


def test_what_a_closed_session_left_in_the_journal_goes() -> None:
    """Rows come back with the session; only the audit chain, a line for each, is for ever."""
    stage = Stage(durable=True)
    for _ in range(10):
        stage.kept.clear()
        opened = stage.open(uid=ATTACKER)
        job = stage.submit(opened, uid=ATTACKER)
        for run in stage.segments(job):
            stage.done(run)
        stage.attack(CloseSession(session_id=opened))
        gone = [keep.gone for keep in stage.kept]
        assert [name for each in gone for name in each.sessions] == [opened]
        assert [name for each in gone for name in each.jobs] == [job]
