"""How times, profiles and shares of a job are put into words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from qmkd.core.conftest import Desk
from qmkd.core.wording import profile_applied, time_text
from qvm.profiles import Profile, parse_profile
from syscalls.job import Status


@pytest.mark.parametrize("ns", [0, 999_999, 1_000_000, 1_738_324_800_123_999_999, 2**62])
def test_a_time_is_rfc_3339_in_utc_with_milliseconds_rounded_down(ns: int) -> None:
    text = time_text(ns)
    assert text.endswith("Z")
    read = datetime.fromisoformat(text)
    assert read.tzinfo is not None
    assert round((read - datetime.fromtimestamp(0, UTC)).total_seconds() * 1000) == ns // 10**6


@pytest.mark.parametrize(
    ("asked", "applied", "noted"),
    [
        ("logical:SHYPS(d=9)", "logical:SHYPS(d=16)", True),
        ("logical:surface_code(d=4)", "logical:Surface(d=4)", False),
        ("logical:ideal", "logical:ideal", False),
    ],
)
def test_a_distance_that_a_code_lacks_is_rounded_up_and_said(
    asked: str, applied: str, noted: bool
) -> None:
    profile = parse_profile(asked)
    assert isinstance(profile, Profile)
    shown = profile_applied(profile)
    assert (shown.requested, shown.applied, bool(shown.note)) == (asked, applied, noted)


def test_progress_is_the_mean_over_shots_and_never_goes_back(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=200_000)
    seen = []
    while desk.held:
        desk.done(desk.segments()[-1])
        shown = desk.call(Status(session_id=session, job_id=job)).progress
        share = shown.shots_done / shown.shots_total
        assert shown.nodes_executed == int(shown.nodes_total * share + 1e-9)
        seen.append((shown.current_epoch, shown.nodes_executed, shown.shots_done))
    assert seen == sorted(seen)
    assert seen[-1] == (2, 7, 200_000)
