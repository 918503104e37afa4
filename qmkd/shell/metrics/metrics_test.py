"""Counts against what was asked for, and the text against the library's and promtool's reading."""

from __future__ import annotations

import math
import socket
from pathlib import Path

import pytest
import trio
from prometheus_client import openmetrics
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from qmkd.core.effects import Effect, Reply
from qmkd.core.events import Called, ClientGone, Event, Origin, Peer
from qmkd.shell.metrics.counting import BOUNDS_NS, BUCKETS, OTHERS, Counts, Times
from qmkd.shell.metrics.families import wilson
from qmkd.shell.metrics.serving import SAMPLES_PER_TURN, Scrapes, _One, listeners, rendered
from syscalls.errors import JobNotFound
from syscalls.ids import JobId, SessionId
from syscalls.job import JobState, Status
from syscalls.qubit import Released
from tests.daemon import Line, example, running_daemon


def called(call: int) -> Called:
    request = Status(session_id=SessionId("sess_" + "0" * 32), job_id=JobId("job_" + "0" * 32))
    return Called(Origin(1, call), Peer(uid=0, gid=0, pid=1), request, b"")


def counts(answers: list[list[Effect]]) -> Counts:
    """Of a kernel that answers with these."""
    return Counts(lambda now_ns, event: answers.pop(0), tenants_max=2)


def test_every_time_is_in_the_first_bucket_that_is_not_shorter() -> None:
    for ns in {edge + off for edge in BOUNDS_NS for off in (-1, 0, 1)} | {1, 1 << 50}:
        times = Times()
        times.add(ns, "job")
        expected = next((i for i, bound in enumerate(BOUNDS_NS) if ns <= bound), BUCKETS)
        assert times.counts.index(1) == expected, ns
        assert times.exemplars == {expected: ("job", ns)}


def test_calls_are_counted_once_by_what_came_of_them_now_or_later() -> None:
    first, second, third = called(1), called(2), called(3)
    refusal = JobNotFound()
    kernel = counts(
        [
            [Reply(first.origin, refusal)],
            [],
            [],
            [Reply(second.origin, Released(handles=[]))],
            [],
            [Reply(third.origin, refusal)],
        ]
    )
    events: list[Event] = [first, second, third, ClientGone(7), ClientGone(1), ClientGone(8)]
    for event in events:
        kernel.step(0, event)
    found = {answer: sum(times.counts) for answer, times in kernel.calls[Status].items()}
    assert found == {JobNotFound: 1, Released: 1}, "who is gone is answered no more"


def test_tenants_beyond_those_with_a_label_share_one() -> None:
    kernel = counts([])
    first, second = kernel.of_tenant("a"), kernel.of_tenant("b")
    assert kernel.of_tenant("c") is kernel.of_tenant("d") is kernel.work[OTHERS]
    assert (kernel.of_tenant("a"), kernel.of_tenant("b")) == (first, second)
    assert list(kernel.work) == ["a", "b", OTHERS]


@pytest.mark.parametrize(("errors", "trials"), [(0, 10), (10, 10), (3, 50), (1, 10**6)])
def test_the_interval_is_where_the_estimate_is_1_96_deviations_of_the_true_share_away(
    errors: int, trials: int
) -> None:
    for share in wilson(errors, trials):
        deviation = math.sqrt(share * (1 - share) / trials)
        distance = abs(errors / trials - share)
        assert math.isclose(distance, 1.959964 * deviation, rel_tol=1e-6, abs_tol=1e-12)


def test_pieces_of_a_family_are_its_whole_text() -> None:
    family = Metric("x_seconds", "Help.", "gauge")
    for number in range(3 * SAMPLES_PER_TURN + 1):
        family.add_sample("x_seconds", {"n": str(number)}, number)
    whole = openmetrics.exposition.generate_latest(_One(family))  # type: ignore[no-untyped-call]
    pieces = list(rendered(family, exemplars=True))
    assert len(pieces) == 4
    assert b"".join(pieces) + b"# EOF\n" == whole


async def test_what_is_no_scrape_is_answered_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    scrapes = Scrapes(lambda: iter(()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scrapes.serve, listeners(path, 0))
        for head, status in (
            (b"GET / HTTP/1.1", b"404"),
            (b"POST /metrics HTTP/1.1", b"405"),
            (b"nonsense", b"400"),
            (b"x" * 20_000, b"400"),
            (b"GET /metrics HTTP/1.0", b"200"),
        ):
            async with await trio.open_unix_socket(str(path)) as stream:
                await stream.send_all(head + b"\r\n\r\n")
                answer = await stream.receive_some()
            assert answer.split()[1] == status, head[:40]
        nursery.cancel_scope.cancel()


def test_only_the_owner_reaches_the_socket_and_a_second_daemon_does_not_take_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.sock"
    (first,) = listeners(path, 0)
    with first:
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(OSError, match="another daemon"):
            listeners(path, 0)
    (second,) = listeners(path, 0)  # that of a daemon that is gone is cleared
    second.close()
    path.unlink()
    path.write_text("a file")
    with pytest.raises(OSError, match="not a socket"):
        listeners(path, 0)


def scraped(path: Path) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a daemon, as the library reads it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        ask = b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n"
        sock.sendall(ask)
        with sock.makefile("rb") as file:
            text = file.read().decode()
    body = text.partition("\r\n\r\n")[2]
    families = text_string_to_metric_families(body)  # type: ignore[no-untyped-call]
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_scrape_of_a_daemon_says_what_was_asked_of_it() -> None:
    config = '[[tenant]]\nname = "ops"\nuids = [{}]\n'.format(Path("/proc/self").stat().st_uid)
    with running_daemon(config=config) as daemon, Line(daemon.socket) as line:
        session = line.session()
        for seed in range(3):
            policy = {"shots": 200, "seed": seed, "noise": "ideal"}
            who = {"session_id": session}
            job = line.call("q_submit", **who, graph=example("bell"), policy=policy)["job_id"]
            line.call("q_wait", **who, job_id=job)
        line.ask("q_status", session_id=session, job_id="job_" + "0" * 32)
        found = scraped(daemon.socket.with_name("q-metrics.sock"))

        def value(name: str, **labels: str) -> float:
            return found[name, frozenset(labels.items())]

        assert value("qmkd_jobs", state="completed") == 3
        ended = {"tenant": "ops", "state": JobState.COMPLETED.value.lower(), "error": ""}
        assert value("qmkd_jobs_ended_total", **ended) == 3
        assert value("qmkd_shots_total", tenant="ops") == 600
        assert value("qmkd_syscalls_total", method="q_submit", code="OK") == 3
        assert value("qmkd_syscalls_total", method="q_status", code="JOB_NOT_FOUND") == 1
        assert value("qmkd_refusals_total", reason="JOB_NOT_FOUND") == 1
        assert value("qmkd_syscall_duration_seconds_count", method="q_wait") == 3
        assert value("qmkd_job_run_seconds_count", tenant="ops") == 3
        assert value("qmkd_tenant_sessions", tenant="ops") == value("qmkd_sessions") == 1
        assert value("qmkd_commit_seconds_count") > 0
        assert value("qmkd_workers", state="ready") == 1
        assert value("qmkd_store_bytes") > 0
        labels = {name for _, pairs in found for name, _ in pairs}
        assert "session_id" not in labels
        assert "job_id" not in labels, "only exemplars name jobs"
    assert not daemon.socket.with_name("q-metrics.sock").exists()
