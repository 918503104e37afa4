"""Both clients against a kernel that answers, refuses, hangs up and dawdles as scripted."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from msgspec.structs import replace

from qvm import examples
from runtime.client import AsyncClient, Client, errors
from runtime.client.address import socket_path
from runtime.client.conftest import DONE, JOB, SESSION, Answer, FakeKernel, Hangup, Parts, usual
from runtime.client.errors import BY_ERROR, describe, refused
from runtime.client.exchange import ATTEMPTS_MAX, NOT_RESENT, may_resend
from runtime.client.operations import policy_of
from runtime.client.programs import graph_json
from runtime.client.results_test import ORDER, ROWS_BY_HAND, memory_file, reply_with
from runtime.client.stubs import Calls
from syscalls import jsonrpc
from syscalls.errors import (
    AuthFailed,
    Busy,
    InvalidGraph,
    JobNotFound,
    KernelError,
    QuotaExceeded,
    ResultsTooLarge,
    Timeout,
)
from syscalls.events import JobEvent, Subscribe, Subscribed
from syscalls.findings import Finding
from syscalls.job import Cancel, JobError, JobState, Policy, Progress, Status, Submit, Wait
from syscalls.registry import CALLS
from syscalls.results import Results
from syscalls.session import CloseSession, NegotiateCaps
from syscalls.syscall import Syscall

BELL = examples.load("bell")
EVENT = JobEvent(
    job_id=JOB,
    seq=1,
    kind="progress",
    state=JobState.RUNNING,
    progress=Progress(shots_done=1, shots_total=3),
    at="2025-01-31T12:00:00.000Z",
)


def run_sync(path: Path, **options: Any) -> dict[str, int]:
    with Client(path, timeout=5) as client:
        return client.run(BELL, **options).counts


def run_trio(path: Path, **options: Any) -> dict[str, int]:
    async def main() -> dict[str, int]:
        async with AsyncClient(path, timeout=5) as client:
            return (await client.run(BELL, **options)).counts

    return trio.run(main)


both = pytest.mark.parametrize("run", [run_sync, run_trio])
Run = Callable[..., dict[str, int]]


def first(kind: type[Syscall], answer: Answer, times: int = 1) -> Callable[[int, Syscall], Answer]:
    """The usual kernel, but the first `times` calls of a kind get this answer."""
    left = [times]

    def handler(number: int, call: Syscall) -> Answer:
        if isinstance(call, kind) and left[0]:
            left[0] -= 1
            return answer
        return usual(number, call)

    return handler


@both
def test_a_run_negotiates_submits_waits_and_closes(kernel: FakeKernel, run: Run) -> None:
    assert run(kernel.path, shots=3, seed=7) == DONE.counts
    assert [type(call) for call in kernel.seen] == [NegotiateCaps, Submit, Wait, CloseSession]
    submitted = kernel.seen[1]
    assert isinstance(submitted, Submit)
    assert (submitted.policy.shots, submitted.policy.seed) == (3, 7)
    assert json.loads(bytes(submitted.graph)) == json.loads(BELL)


@both
@pytest.mark.parametrize("half", [b"", b'{"jsonrpc":"2.0","id":2,"res'])
def test_a_submission_is_sent_again_after_a_lost_connection_under_the_same_key(
    kernel: FakeKernel, run: Run, half: bytes
) -> None:
    kernel.handler = first(Submit, Hangup(half), times=2)
    assert run(kernel.path) == DONE.counts
    submissions = kernel.calls(Submit)
    assert len(submissions) == 3
    assert len({msgspec.json.encode(call) for call in submissions}) == 1
    assert submissions[0].policy.idempotency_key  # type: ignore[attr-defined]
    assert len(kernel.calls(NegotiateCaps)) == 1, "the session goes on"
    assert kernel.connections == 3


@both
def test_a_wait_goes_on_after_a_lost_connection(kernel: FakeKernel, run: Run) -> None:
    kernel.handler = first(Wait, Hangup(), times=2)
    assert run(kernel.path) == DONE.counts
    assert len(kernel.calls(Submit)) == 1


@both
def test_a_call_refused_as_busy_is_asked_again_and_another_refusal_is_not(
    kernel: FakeKernel, run: Run
) -> None:
    kernel.handler = first(Submit, Busy(what="jobs", retry_after_ms=1), times=3)
    assert run(kernel.path) == DONE.counts
    assert len(kernel.calls(Submit)) == 4
    full = QuotaExceeded(what="jobs", limit=1, in_use=1, asked=1, waiting_helps=False)
    kernel.handler = first(Submit, full)
    with pytest.raises(errors.QuotaExceeded) as caught:
        run(kernel.path)
    assert caught.value.error == full
    assert caught.value.code == -32201
    assert caught.value.data["limit"] == 1


@both
def test_a_kernel_that_never_answers_is_given_up_at_the_deadline(
    kernel: FakeKernel, run: Run
) -> None:
    def handler(number: int, call: Syscall) -> Answer:
        return DONE if isinstance(call, Cancel) else first(Wait, None)(number, call)

    kernel.handler = handler
    began = time.monotonic()
    # The wait's own bound is the kernel's to keep; the client allows it a grace.
    with pytest.raises(errors.DeadlinePassed):
        run(kernel.path, timeout=0.1)
    assert time.monotonic() - began < 5


@both
def test_a_wait_that_the_kernel_ends_leaves_the_job_cancelled(kernel: FakeKernel, run: Run) -> None:
    def handler(number: int, call: Syscall) -> Answer:
        if isinstance(call, Wait):
            assert call.timeout_ms is not None
            assert call.timeout_ms <= 500
            return Timeout(timeout_ms=call.timeout_ms)
        return DONE if isinstance(call, Cancel) else usual(number, call)

    kernel.handler = handler
    with pytest.raises(errors.DeadlinePassed, match="not done yet"):
        run(kernel.path, timeout=0.5)
    assert len(kernel.calls(Cancel)) == 1


@both
def test_a_daemon_that_is_back_in_a_moment_is_waited_for(
    tmp_path: Path, kernel: FakeKernel, run: Run
) -> None:
    again: list[FakeKernel] = []

    def restart() -> None:
        kernel.path.unlink()
        time.sleep(0.3)
        again.append(FakeKernel(kernel.path))

    def handler(number: int, call: Syscall) -> Answer:
        if isinstance(call, Submit):
            threading.Thread(target=restart).start()
            return Hangup()
        return usual(number, call)

    kernel.handler = handler
    try:
        assert run(kernel.path) == DONE.counts
    finally:
        again[0].stop()
    assert [type(call) for call in again[0].seen] == [Submit, Wait, CloseSession]


@both
def test_a_call_without_a_deadline_is_given_up_after_a_bounded_number_of_attempts(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.client.exchange.PAUSE_S_MAX", 0.001)

    def handler(number: int, call: Syscall) -> Answer:
        if isinstance(call, Subscribe):
            return Subscribed(subscription="s")
        return Hangup() if isinstance(call, Wait) else usual(number, call)

    kernel.handler = handler
    for progress in (None, print):
        kernel.seen.clear()
        with pytest.raises(errors.Unreachable, match="closed the connection"):
            run(kernel.path, progress=progress)
        # The first loss leaves fewer calls to ask for than there were, so it does not count.
        assert len(kernel.calls(Wait)) <= ATTEMPTS_MAX + 1


@both
def test_no_daemon_is_said_at_once(tmp_path: Path, run: Run) -> None:
    began = time.monotonic()
    with pytest.raises(errors.Unreachable, match="No daemon answers at"):
        run(tmp_path / "none")
    assert time.monotonic() - began < 1


@both
def test_something_else_behind_the_socket_is_unreachable_not_a_retry_loop(
    kernel: FakeKernel, run: Run
) -> None:
    kernel.handler = lambda number, call: Parts([b"220 smtp ready\n"])
    with pytest.raises(errors.Unreachable, match="protocol"):
        run(kernel.path)
    assert kernel.connections == 1


@both
def test_progress_is_told_and_the_subscription_renewed_after_a_lost_connection(
    kernel: FakeKernel, run: Run
) -> None:
    def handler(number: int, call: Syscall) -> Answer:
        match call:
            case Subscribe():
                return Subscribed(subscription="s")
            case Wait() if len(kernel.calls(Wait)) == 1:
                return Hangup(jsonrpc.encode_notification(EVENT))
        return usual(number, call)

    kernel.handler = handler
    heard: list[JobEvent] = []
    assert run(kernel.path, progress=heard.append) == DONE.counts
    assert heard == [EVENT]
    assert len(kernel.calls(Subscribe)) == 2


@both
def test_an_answer_in_one_byte_pieces_is_an_answer(kernel: FakeKernel, run: Run) -> None:
    reply = jsonrpc.encode_reply(3, DONE)
    kernel.handler = first(Wait, Parts([reply[at : at + 1] for at in range(len(reply))]))
    assert run(kernel.path) == DONE.counts


@both
def test_a_failed_job_raises_what_it_failed_with(kernel: FakeKernel, run: Run) -> None:
    failed = replace(
        DONE, state=JobState.FAILED, counts=None, error=JobError.of(Timeout(timeout_ms=50))
    )
    kernel.handler = first(Wait, failed)
    with pytest.raises(errors.JobFailed, match="within 50 ms") as caught:
        run(kernel.path)
    assert caught.value.error == Timeout(timeout_ms=50)
    kernel.handler = first(Wait, replace(failed, state=JobState.CANCELLED, error=None))
    with pytest.raises(errors.JobCancelled):
        run(kernel.path)


def test_few_samples_come_inside_the_answer_and_many_as_a_descriptor(kernel: FakeKernel) -> None:
    few = reply_with(ROWS_BY_HAND, ORDER, 3)
    many = replace(few, data=None, fd=True)

    def handler(number: int, call: Syscall) -> Answer:
        if isinstance(call, Results) and call.transport == "inline":
            return few
        if isinstance(call, Results):
            # The identifiers of calls count from 1 on each client.
            line = jsonrpc.encode_reply(4, many)
            return Parts([line[:7], line[7:]], [memory_file(ROWS_BY_HAND)])
        return usual(number, call)

    def uncounted(number: int, call: Syscall) -> Answer:
        return replace(DONE, counts=None) if isinstance(call, Wait) else handler(number, call)

    for kernel.handler, transport in ((handler, "inline"), (uncounted, "fd")):
        with Client(kernel.path, timeout=5) as client:
            result = client.run(BELL)
            assert result.samples.tolist()[0] == [1, 2, 0]
            assert result.samples is result.samples, "fetched once"
        assert [call.transport for call in kernel.calls(Results)] == [transport]  # type: ignore[attr-defined]
        kernel.seen.clear()


def test_samples_too_large_for_an_answer_come_as_a_descriptor(kernel: FakeKernel) -> None:
    def handler(number: int, call: Syscall) -> Answer:
        if isinstance(call, Results) and call.transport == "inline":
            return ResultsTooLarge(size_bytes=9, size_bytes_max=1, remedy="Use fd.")
        if isinstance(call, Results):
            reply = replace(reply_with(ROWS_BY_HAND, ORDER, 3), data=None, fd=True)
            return Parts([jsonrpc.encode_reply(5, reply)], [memory_file(ROWS_BY_HAND)])
        return usual(number, call)

    kernel.handler = handler
    with Client(kernel.path, timeout=5) as client:
        assert client.run(BELL, samples=True).shots == 3


def memory_files_open() -> int:
    """Descriptors of this process that are memory files, mapped ones included."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sum(name.startswith("/memfd:rows") for name in names)


def test_descriptors_are_closed_when_the_result_is_gone(kernel: FakeKernel) -> None:
    before = memory_files_open()
    test_samples_too_large_for_an_answer_come_as_a_descriptor(kernel)
    gc.collect()
    assert memory_files_open() == before


def test_an_interrupted_wait_leaves_the_connection_usable(kernel: FakeKernel) -> None:
    def handler(number: int, call: Syscall) -> Answer:
        if isinstance(call, Wait):
            # Two events, and the answer with the next call's, long after nobody waits for it.
            return Parts([jsonrpc.encode_notification(EVENT)])
        if isinstance(call, Subscribe):
            return Subscribed(subscription="s")
        if isinstance(call, Status):
            return Parts([jsonrpc.encode_reply(4, DONE), jsonrpc.encode_reply(5, DONE)])
        return usual(number, call)

    def interrupt(event: JobEvent) -> None:
        raise KeyboardInterrupt

    kernel.handler = handler
    with Client(kernel.path, timeout=5) as client:
        job = client.submit(BELL)
        with pytest.raises(KeyboardInterrupt):
            job.wait(progress=interrupt)
        assert job.status() == DONE
    assert kernel.connections == 1


def test_a_session_that_was_handed_over_is_left_open(kernel: FakeKernel) -> None:
    with Client(kernel.path, session=SESSION, timeout=5) as client:
        assert client.run(BELL).counts == DONE.counts
    assert [type(call) for call in kernel.seen] == [Submit, Wait]


def test_calls_are_pipelined_and_answered_each_by_itself(kernel: FakeKernel) -> None:
    def handler(number: int, call: Syscall) -> Answer:
        if isinstance(call, Status):
            return DONE if int(call.job_id) % 2 else JobNotFound()
        return usual(number, call)

    kernel.handler = handler
    with Client(kernel.path, timeout=20) as client:
        calls = [Calls.status(session_id=client.session_id, job_id=str(n)) for n in range(2000)]  # type: ignore[arg-type]
        answers = client.call_all(calls)
        assert client.call_all([]) == []
    assert answers == [DONE if n % 2 else JobNotFound() for n in range(2000)]


async def test_tasks_share_one_connection_and_a_cancelled_one_harms_no_other(
    kernel: FakeKernel,
) -> None:
    release = threading.Event()

    def handler(number: int, call: Syscall) -> Answer:
        if isinstance(call, Wait):
            release.wait(5)
        return usual(number, call)

    kernel.handler = handler
    async with AsyncClient(kernel.path, timeout=5) as client:
        job = await client.submit(BELL)
        done: list[dict[str, int]] = []

        async def wait() -> None:
            done.append((await job.wait()).counts)

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.05) as reader:
                await job.wait()
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await trio.sleep(0.01)
            release.set()
        assert reader.cancelled_caught
        assert done == [DONE.counts] * 2
    assert kernel.connections == 1


async def test_a_cancelled_run_cancels_its_job(kernel: FakeKernel) -> None:
    def handler(number: int, call: Syscall) -> Answer:
        if isinstance(call, Wait):
            return None
        return DONE if isinstance(call, Cancel) else usual(number, call)

    kernel.handler = handler
    async with AsyncClient(kernel.path, timeout=5) as client:
        with trio.move_on_after(0.05):
            await client.run(BELL)
    assert [type(call) for call in kernel.seen[-2:]] == [Cancel, CloseSession]


# --- what needs no kernel -----------------------------------------------------------------------


def test_every_kernel_error_has_an_exception_of_its_name() -> None:
    for error, raised in BY_ERROR.items():
        assert getattr(errors, error.__name__) is raised
        assert issubclass(raised, errors.Refused)
        assert raised.__doc__
    assert isinstance(refused(Timeout(timeout_ms=1)), TimeoutError)
    with pytest.raises(AttributeError):
        errors.NoSuchThing  # noqa: B018


def test_an_invalid_graph_prints_all_its_findings() -> None:
    findings = [
        Finding(
            rule="op.unknown",
            severity="error",
            node=f"n{n}",
            path=f"$.program.nodes[{n}].op",
            message="FLY is no opcode.",
        )
        for n in range(2)
    ]
    text = str(refused(InvalidGraph(findings=findings, findings_total=5)))
    assert text.splitlines() == [
        "The program breaks 5 rules, the first 2 are:",
        "  error: $.program.nodes[0].op (node n0): FLY is no opcode. [op.unknown]",
        "  error: $.program.nodes[1].op (node n1): FLY is no opcode. [op.unknown]",
    ]


@pytest.mark.parametrize("error", [AuthFailed(), JobNotFound()])
def test_a_sentence_without_advice_gets_some(error: KernelError) -> None:
    assert len(describe(error)) > len(error.sentence())


def test_only_calls_that_make_something_twice_are_never_resent() -> None:
    session = SESSION.session_id
    assert not may_resend(Calls.submit(session_id=session, graph=msgspec.Raw(b"{}")))
    assert may_resend(
        Calls.submit(session_id=session, graph=msgspec.Raw(b"{}"), policy=policy_of({}))
    )
    assert set(NOT_RESENT) <= set(CALLS)


def test_every_policy_field_can_be_given() -> None:
    fields: dict[str, object] = {"shots": 2, "seed": 1, "priority": 3, "deadline_epochs": 4}
    fields |= {"timeout_ms": 5, "noise": "ideal", "counts": False, "debug": True}
    fields |= {"idempotency_key": "k", "exact": False, "decoder_data": True}
    fields |= {"raise_distance": True, "crypto_mode": "hybrid"}
    assert fields.keys() == set(Policy.__struct_fields__)
    policy = policy_of(fields)  # type: ignore[arg-type]
    assert {name: getattr(policy, name) for name in fields} == fields
    assert policy_of({}).idempotency_key != policy_of({}).idempotency_key


def test_a_program_may_be_a_path_a_text_a_dict_or_bytes(tmp_path: Path) -> None:
    wanted = json.loads(BELL)
    path = tmp_path / "bell.qvm.json"
    path.write_bytes(BELL)
    for program in (path, str(path), BELL, BELL.decode(), wanted):
        assert json.loads(graph_json(program)) == wanted
        assert b"\n" not in graph_json(program), "a request is one line"


def test_assembly_is_assembled_with_includes_beside_it(tmp_path: Path) -> None:
    (tmp_path / "part.qvm").write_text("coin: APPLY_H q0\n")
    main = tmp_path / "main.qvm"
    main.write_text('ALLOC_LQ n=1, profile="logical:ideal", q0\n.include "part.qvm"\nFREE_LQ q0\n')
    ops = [node["op"] for node in json.loads(graph_json(main))["program"]["nodes"]]
    assert ops == ["ALLOC_LQ", "APPLY_H", "FREE_LQ"]


def test_a_source_that_is_no_program_says_where(tmp_path: Path) -> None:
    with pytest.raises(errors.BadProgram, match="No such file"):
        graph_json(tmp_path / "none.qvm")
    with pytest.raises(errors.BadProgram, match=":2:"):
        graph_json("APPLY_H q0\nFLY q0\n")
    with pytest.raises(errors.BadProgram, match="not JSON"):
        graph_json('{"version": "0.1",}')
    with pytest.raises(errors.BadProgram, match="UTF-8"):
        graph_json(b"\xff\xff")
    with pytest.raises(errors.BadProgram, match="written as JSON"):
        graph_json({"version": object()})


def test_the_socket_is_the_one_named_else_of_the_environment_else_the_users_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QMK_SOCKET", "/b")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert socket_path("/a") == Path("/a")
    assert socket_path() == Path("/b")
    monkeypatch.delenv("QMK_SOCKET")
    assert socket_path() == tmp_path / "qmk" / "qsyscall.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert socket_path() == Path("/run/qmk/qsyscall.sock")
