"""A real worker process at the other end of a socket pair."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from qmkd.core.ports import Point, Setting
from qmkd.engine import messages, run
from qmkd.engine.choose import EXACT
from qmkd.engine.limits import EXACT_QUBITS_MAX
from qmkd.engine.messages import (
    Calibrate,
    Calibrated,
    Check,
    Checked,
    Done,
    Drop,
    Failed,
    Load,
    Run,
    Table,
)
from qvm.examples import load
from tests.worker import Peer

MEMORY_BYTES = 512 << 20


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    found = Peer("--memory-bytes", str(MEMORY_BYTES))
    yield found
    found.close()


def a_run(ticket: int, program: int = 1, **changes: Any) -> Run:
    fields: dict[str, Any] = {
        "ticket": ticket,
        "program": program,
        "engine": "frames",
        "seed": 3,
        "noise": "ideal",
        "shot_first": 0,
        "shots": 100,
        "row_bytes": 2,
        "counts": True,
    }
    return Run(**{**fields, **changes})


def endless(gates: int = 400, fences: int = 2000) -> bytes:
    """A program that has a fence every fraction of a millisecond; run it over millions of shots."""
    qubits = [f"q{at}" for at in range(20)]
    nodes: list[dict[str, object]] = [
        {"id": "a", "op": "ALLOC_LQ", "vqs": qubits, "args": {"n": 20, "profile": "logical:ideal"}},
        {"id": "h", "op": "APPLY_H", "vqs": ["q0"]},
        {"id": "m", "op": "MEASURE_Z", "vqs": ["q0"], "produces": ["m"]},
    ]
    for fence in range(fences):
        for at in range(gates // fences + 3):
            nodes.append(
                {
                    "id": f"x{fence}.{at}",
                    "op": "APPLY_H",
                    "vqs": [qubits[at % 20]],
                    "guard": {"event": "m", "equals": 1},
                }
            )
        nodes.append({"id": f"f{fence}", "op": "FENCE_EPOCH"})
    nodes.append({"id": "z", "op": "FREE_LQ", "vqs": qubits})
    return json.dumps(
        {
            "version": "0.1",
            "program": {"nodes": nodes},
            "resources": {"vqs": qubits, "events": ["m"]},
        }
    ).encode()


def too_large() -> bytes:
    """A program whose tableau alone is 800 MB."""
    qubits = [f"q{at}" for at in range(40_000)]
    nodes = [
        {
            "id": f"a{at}",
            "op": "ALLOC_LQ",
            "vqs": qubits[at : at + 4000],
            "args": {"n": 4000, "profile": "logical:ideal"},
        }
        for at in range(0, 40_000, 4000)
    ]
    nodes.append({"id": "m", "op": "MEASURE_X", "vqs": ["q0"], "produces": ["m"]})
    return json.dumps(
        {
            "version": "0.1",
            "program": {"nodes": nodes},
            "resources": {"vqs": qubits, "events": ["m"]},
        }
    ).encode()


def test_a_run_gives_what_the_engine_gives_in_process(peer: Peer) -> None:
    done = peer.ask(Load(1, load("bell")), a_run(1))
    assert isinstance(done, Done)
    report, rows = run.run_segment(run.prepare(load("bell")), 3, 0, 100, "frames")
    assert done.rows == rows
    assert done.report.counts == report.counts
    assert done.report.leaves == hashlib.sha256(rows).digest()


def test_queued_runs_are_answered_in_order(peer: Peer) -> None:
    peer.send(Load(1, load("bell")), *(a_run(ticket, seed=ticket) for ticket in range(10, 60)))
    tickets = [peer.receive().ticket for _ in range(50)]  # type: ignore[union-attr]
    assert tickets == list(range(10, 60))


def test_rows_go_into_the_file_at_the_offset_asked_for(peer: Peer) -> None:
    file = os.memfd_create("rows")
    peer.send(Load(1, load("bell")))
    request = a_run(70, sink="fd", row_offset=5, shot_first=1024)
    socket.send_fds(peer.socket, [messages.frame(request)], [file])
    done = peer.receive()
    assert isinstance(done, Done)
    assert done.rows is None
    _, rows = run.run_segment(run.prepare(load("bell")), 3, 1024, 100, "frames")
    assert os.pread(file, 1000, 0) == bytes(10) + rows
    os.close(file)


def test_a_program_that_is_not_held_is_asked_for_again(peer: Peer) -> None:
    peer.send(Load(2, load("ghz")), Drop(2))
    failed = peer.ask(a_run(80, program=2))
    assert isinstance(failed, Failed)
    assert (failed.ticket, failed.reason) == (80, "unloaded")


def test_a_run_that_lacks_a_point_says_so_and_runs_once_it_was_measured(peer: Peer) -> None:
    point = Point("Surface", 3, "si1000", 0.0061)
    noisy: dict[str, Any] = {
        "noise": f"calibrated {point.noise} {point.p}",
        "program": 60,
        "row_bytes": 2,
    }
    peer.send(Load(60, load("ghz")))
    lacking = peer.ask(a_run(85, **noisy))
    assert isinstance(lacking, Failed)
    assert (lacking.reason, lacking.point) == ("uncalibrated", point)
    made = peer.ask(Calibrate(86, point, ""))
    assert isinstance(made, Calibrated)
    assert not made.why
    unknown = peer.ask(a_run(87, **noisy, setting=Setting(table="one")))
    assert isinstance(unknown, Failed)
    assert unknown.reason == "unloaded"
    peer.send(Table("one", made.text))
    done = peer.ask(a_run(88, **noisy, setting=Setting(table="one")))
    assert isinstance(done, Done)
    assert done.report.counts is not None
    assert not {"00000", "11111"}.issuperset(done.report.counts), "errors are seen"
    more = peer.ask(Calibrate(89, Point("BaconShor", 3, "si1000", 0.0061), "one"))
    assert isinstance(more, Calibrated)
    assert made.text.splitlines()[1] in more.text.splitlines()


def test_a_point_that_cannot_be_measured_says_why(peer: Peer) -> None:
    found = peer.ask(Calibrate(90, Point("SHYPS", 4, "uniform", 1e-3), ""))
    assert isinstance(found, Calibrated)
    assert not found.text
    assert "too slow" in found.why
    peer.send(Table("two", b"no table"))
    found = peer.ask(Calibrate(91, Point("Surface", 3, "uniform", 0.01), "two"))
    assert isinstance(found, Calibrated)
    assert "cannot be read" in found.why


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "abacus"}, "no engine"),
        ({"noise": "loud"}, "no noise model"),
        ({"row_bytes": 3}, "takes 2 bytes"),
        ({"sink": "fd"}, "no file descriptor"),
    ],
)
def test_a_run_that_cannot_be_done_is_refused(
    peer: Peer, changes: dict[str, Any], said: str
) -> None:
    failed = peer.ask(Load(1, load("bell")), a_run(90, **changes))
    assert isinstance(failed, Failed)
    assert failed.reason == "refused"
    assert said in failed.message


def test_a_program_that_the_engine_cannot_run_is_refused(peer: Peer) -> None:
    failed = peer.ask(Load(3, load("t_injection")), a_run(91, program=3))
    assert isinstance(failed, Failed)
    assert failed.reason == "refused"


def test_a_run_stops_at_the_next_fence_once_its_ticket_is_in_the_flag(peer: Peer) -> None:
    peer.stop[0] = 0
    long = a_run(100, program=4, shots=8_000_000, engine="groups")
    peer.send(Load(4, endless()), long, a_run(101))
    time.sleep(0.3)
    asked = time.monotonic()
    peer.stop[0] = 100
    failed = peer.receive()
    assert isinstance(failed, Failed)
    assert failed.reason == "stopped"
    assert time.monotonic() - asked < 5
    following = peer.receive()
    assert isinstance(following, Done)
    assert following.ticket == 101


def test_a_flag_that_names_another_ticket_stops_nothing(peer: Peer) -> None:
    peer.stop[0] = 12345
    assert isinstance(peer.ask(Load(1, load("bell")), a_run(110, shots=200_000)), Done)


def test_a_run_beyond_the_memory_bound_fails_and_the_worker_lives(peer: Peer) -> None:
    failed = peer.ask(Load(5, too_large()), a_run(120, program=5, engine="tableau", shots=1))
    assert isinstance(failed, Failed)
    assert failed.reason == "memory"
    assert isinstance(peer.ask(Drop(5), Load(1, load("bell")), a_run(121)), Done)


def test_exact_probabilities_come_without_rows(peer: Peer) -> None:
    done = peer.ask(
        Load(6, load("bell")), a_run(125, program=6, engine=EXACT, shots=1, row_bytes=0)
    )
    assert isinstance(done, Done)
    assert done.rows == b""
    assert done.report.probabilities == pytest.approx({"00": 0.5, "11": 0.5}, abs=1e-12)


def test_a_program_too_large_for_exact_probabilities_says_what_is_too_large(peer: Peer) -> None:
    qubits = [f"q{at}" for at in range(EXACT_QUBITS_MAX + 1)]
    args = {"n": len(qubits), "profile": "logical:ideal"}
    body = {"nodes": [{"id": "a", "op": "ALLOC_LQ", "vqs": qubits, "args": args}]}
    graph = {"version": "0.1", "program": body, "resources": {"vqs": qubits, "events": []}}
    load_it = Load(7, json.dumps(graph).encode())
    failed = peer.ask(load_it, a_run(126, program=7, engine=EXACT, shots=1, row_bytes=0))
    assert isinstance(failed, Failed)
    assert failed.reason == "too_large"
    assert failed.message == "room for exact probabilities, in qubits"
    assert (failed.asked, failed.limit) == (EXACT_QUBITS_MAX + 1, EXACT_QUBITS_MAX)


def test_checking_gives_the_summary_or_the_findings(peer: Peer) -> None:
    good = peer.ask(Check(130, load("bell")))
    assert isinstance(good, Checked)
    assert good.summary == run.prepare(load("bell")).summary
    bad = peer.ask(Check(131, b'{"version":"0.1"}'))
    assert isinstance(bad, Checked)
    assert bad.summary is None
    assert bad.findings_total == len(bad.findings) >= 1


def test_more_programs_than_may_be_held_push_out_the_oldest(peer: Peer) -> None:
    padded = load("bell") + b" " * (1 << 20)
    peer.send(*(Load(number, padded) for number in range(200, 270)))
    oldest, newest = peer.ask(a_run(140, program=200)), peer.ask(a_run(141, program=269))
    assert isinstance(oldest, Failed)
    assert oldest.reason == "unloaded"
    assert isinstance(newest, Done)


def test_a_worker_ends_when_the_connection_does() -> None:
    peer = Peer()
    peer.socket.close()
    assert peer.process.wait(10) == 0


def test_a_frame_beyond_the_bound_ends_the_worker() -> None:
    peer = Peer()
    peer.process.stderr = None
    peer.socket.sendall(b"\xff\xff\xff\xff")
    assert peer.process.wait(10) != 0
    peer.close()


def test_a_killed_worker_closes_the_connection() -> None:
    peer = Peer()
    try:
        peer.send(Load(4, endless()), a_run(1, program=4, shots=8_000_000, engine="groups"))
        time.sleep(0.2)
        peer.process.kill()
        with pytest.raises((EOFError, ConnectionResetError)):
            peer.receive()
    finally:
        peer.close()


def test_frames_are_cut_alike_whatever_the_chunks() -> None:
    whole = b"".join(messages.frame(Drop(number)) for number in range(50))
    frames = messages.Frames()
    bodies = [body for at in range(len(whole)) for body in frames.feed(whole[at : at + 1])]
    assert bodies == messages.Frames().feed(whole)
    assert [messages.request(body) for body in bodies] == [Drop(number) for number in range(50)]


@pytest.mark.parametrize(
    "body",
    [
        b"\x80",
        b"\xc1",
        b"\x82\xa4type\xa4Drop\xa7program\xa4\xff\xff\xff\xff",
        b"\x81\xa4type\xa4\xffrop",
        b"\x82\xa4type\xa4Drop\xa1x" + b"\x91" * 10_000 + b"\xc0",
    ],
    ids=["empty", "reserved", "text in a number's place", "no UTF-8", "too deep"],
)
def test_a_body_that_is_no_message_is_refused(body: bytes) -> None:
    """By a worker and by the daemon, which is not to end for what a worker says."""
    with pytest.raises(messages.BadFrame):
        messages.request(body)
    with pytest.raises(messages.BadFrame):
        messages.answer(body)
