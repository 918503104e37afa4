"""Figures of slices come to the same in any order, and reach a job's telemetry."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import reduce
from hashlib import sha256
from typing import Any

from qmkd.core.conftest import Desk
from qmkd.core.decoding import decoders_together
from qmkd.core.effects import Reply
from qmkd.core.ports import Quota, Setting, TenantRule
from syscalls.decoding import SHOT_COLUMNS_BYTES, DecoderFigures, DecoderSpeed
from syscalls.errors import QuotaExceeded
from syscalls.job import Noise, Status
from syscalls.results import Results, ResultsReply

SLOW = DecoderSpeed(round_ns=1000, window_ns=5000, weight_max=7)


def figures(scale: int, *weights: int) -> DecoderFigures:
    names = (name for name in DecoderFigures.__struct_fields__ if name != "syndrome_weights")
    fields = {name: scale + at for at, name in enumerate(names)} | {"calls": sum(weights)}
    return DecoderFigures(**fields, syndrome_weights=list(weights))


def test_figures_come_to_the_same_in_any_order() -> None:
    slices = [figures(3, 1, 2), None, figures(50, 4), figures(7, 0, 0, 9)]
    found = [reduce(decoders_together, order) for order in itertools.permutations(slices)]
    (first, *others) = found
    assert first is not None
    assert all(each == first for each in others)
    assert first.syndrome_weights == [5, 2, 9]
    assert first.calls == 16
    assert first.histories == 60
    assert first.backlog_most == figures(50).backlog_most
    assert decoders_together(None, None) is None


def test_what_decoders_did_reaches_telemetry_and_how_fast_they_are_the_context(
    make_desk: Callable[..., Desk], bell_graph: Callable[..., bytes]
) -> None:
    desk = make_desk(decoder=SLOW, calibration="sha256:77")
    desk.workers(0)
    session = desk.open()
    job = desk.submit(session, bell_graph(), shots=2048, noise=Noise.DECODED)
    run, *_ = desk.segments(job)
    assert run.setting == Setting(decoder=SLOW)
    desk.done(run, decoder=figures(1, 0, 3))
    status = desk.call(Status(session_id=session, job_id=job))
    assert status.telemetry.decoder == figures(1, 0, 3)
    assert status.telemetry.decoder_cycles == figures(1).cycles
    assert status.execution_context.decoder == SLOW
    assert status.execution_context.calibration == "sha256:77"


def test_decoder_data_counts_as_results_and_is_named_by_its_digest(
    make_desk: Callable[..., Desk], bell_graph: Callable[..., bytes]
) -> None:
    rule = TenantRule(name="few", uids=frozenset({1}), quota=Quota(result_bytes=40_000))
    desk = make_desk((rule,))
    desk.workers(0)
    session = desk.open()
    kept: dict[str, Any] = {"noise": Noise.DECODED, "decoder_data": True}
    refused = desk.try_submit(session, bell_graph(), shots=3000, **kept)
    assert isinstance(refused, QuotaExceeded)
    assert refused.asked == 3000 * (2 + SHOT_COLUMNS_BYTES)
    job = desk.submit(session, bell_graph(), shots=2048, **kept)
    run, *_ = desk.segments(job)
    assert run.setting.decoder_data
    desk.done(run, decoder=figures(1, 3))
    asked = Results(session_id=session, job_id=job, format="decoder", transport="fd")
    reply = desk.call(asked)
    assert isinstance(reply, ResultsReply)
    assert reply.row_bytes == SHOT_COLUMNS_BYTES
    assert reply.digest == sha256(bytes(64)).hexdigest()
    (sent,) = desk.sent(Reply)
    assert (sent.attach, sent.inline, sent.rows) == (job, None, "decoder")
    assert desk.state.tenants["few"].kept_bytes >= 2048 * (2 + SHOT_COLUMNS_BYTES)


def test_a_report_without_the_decoder_data_asked_for_fails_the_job(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=100, noise=Noise.DECODED, decoder_data=True)
    (run,) = desk.segments(job)
    desk.done(run, decoder_leaves=b"")
    assert desk.call(Status(session_id=session, job_id=job)).error.type == "INTERNAL_ERROR"


def test_without_noise_no_decoder_and_no_table_is_named(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, noise=Noise.IDEAL)
    context = desk.call(Status(session_id=session, job_id=job)).execution_context
    assert context.decoder is None
    assert context.calibration is None
