"""One connection's bytes, cut in every way, with descriptors beside them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from runtime.client.protocol import FDS_UNCLAIMED_MAX, Protocol, Settled
from syscalls import jsonrpc
from syscalls.errors import Busy, JobNotFound
from syscalls.events import JobEvent
from syscalls.ids import JobId, SessionId
from syscalls.job import JobState, JobStatus, Progress, Status
from syscalls.jsonrpc import ProtocolError
from syscalls.results import Results, ResultsReply

SESSION = SessionId("sess_1")
ASK = Status(session_id=SESSION, job_id=JobId("job_1"))
STATUS = JobStatus(
    job_id=JobId("job_1"),
    session_id=SESSION,
    state=JobState.RUNNING,
    created_at="2025-01-31T12:00:00.000Z",
    counts_omitted='a "quoted" {sentence} with \\ and ü',
)
EVENT = JobEvent(
    job_id=JobId("job_1"),
    seq=1,
    kind="progress",
    state=JobState.RUNNING,
    progress=Progress(),
    at="2025-01-31T12:00:00.000Z",
)
FETCH = Results(session_id=SESSION, job_id=JobId("job_1"), transport="fd")
FETCHED = ResultsReply(
    job_id=JobId("job_1"), shots=0, order=[], values_bytes=0, row_bytes=0, digest="", fd=True
)


def keep(fd: int) -> None:
    raise AssertionError(f"descriptor {fd} was disposed of")


def chunked(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(
    order=st.permutations(range(6)),
    cuts=st.lists(st.integers(min_value=0, max_value=10_000), max_size=40),
)
def test_answers_in_any_order_and_any_chunks_settle_their_own_calls(
    order: list[int], cuts: list[int]
) -> None:
    protocol = Protocol(keep)
    sent = [protocol.send(replace(ASK, job_id=JobId(f"job_{index}")))[0] for index in range(6)]
    stream = b""
    for index in order:
        stream += jsonrpc.encode_notification(EVENT)
        if index % 2:
            stream += jsonrpc.encode_reply(sent[index], STATUS)
        else:
            stream += jsonrpc.encode_error(sent[index], JobNotFound())
    found = [each for piece in chunked(stream, cuts) for each in protocol.feed(piece)]
    assert [each for each in found if isinstance(each, JobEvent)] == [EVENT] * 6
    settled = [each for each in found if isinstance(each, Settled)]
    assert [each.number for each in settled] == [sent[index] for index in order]
    for index, each in zip(order, settled, strict=True):
        assert isinstance(each.call, Status)
        assert each.call.job_id == f"job_{index}"
        assert each.answer == (STATUS if index % 2 else JobNotFound())
    assert protocol.pending == []


def test_descriptors_go_to_the_answers_that_announce_them_in_order() -> None:
    protocol = Protocol(keep)
    first, second, third = (protocol.send(call)[0] for call in (FETCH, ASK, FETCH))
    stream = jsonrpc.encode_reply(third, FETCHED) + jsonrpc.encode_reply(second, STATUS)
    found = protocol.feed(stream[:10], [71]) + protocol.feed(stream[10:])
    found += protocol.feed(jsonrpc.encode_reply(first, FETCHED), [72])
    fds = {each.number: each.fd for each in found if isinstance(each, Settled)}
    assert fds == {third: 71, second: None, first: 72}


def test_an_abandoned_answer_is_dropped_and_its_descriptor_disposed_of() -> None:
    closed: list[int] = []
    protocol = Protocol(closed.append)
    number, _ = protocol.send(FETCH)
    protocol.abandon(number)
    assert protocol.pending == []
    assert protocol.feed(jsonrpc.encode_reply(number, FETCHED), [9]) == []
    assert closed == [9]


def test_ending_disposes_of_descriptors_that_no_answer_announced() -> None:
    closed: list[int] = []
    protocol = Protocol(closed.append)
    protocol.feed(b"", [3, 4])
    protocol.end()
    assert closed == [3, 4]


def test_an_error_that_names_no_call_settles_every_pending_call() -> None:
    protocol = Protocol(keep)
    numbers = [protocol.send(ASK)[0] for _ in range(3)]
    protocol.abandon(numbers[1])
    busy = Busy(what="connections", retry_after_ms=5)
    found = protocol.feed(jsonrpc.encode_error(None, busy))
    assert [each.number for each in found if isinstance(each, Settled)] == [numbers[0], numbers[2]]
    assert all(isinstance(each, Settled) and each.error == busy for each in found)


@pytest.mark.parametrize(
    "stream",
    [
        b"hello\n",
        b'{"jsonrpc":"2.0","id":99,"result":{}}\n',
        b'{"jsonrpc":"2.0","id":"1","result":{}}\n',
        b'{"jsonrpc":"2.0","id":1}\n',
        b'{"jsonrpc":"2.0","id":1,"result":{"state":"ASLEEP"}}\n',
        b"\xff\xfe\n",
    ],
)
def test_what_is_no_answer_is_a_protocol_error(stream: bytes) -> None:
    protocol = Protocol(keep)
    protocol.send(ASK)
    with pytest.raises(ProtocolError):
        protocol.feed(stream)


def test_an_announced_descriptor_that_did_not_come_is_a_protocol_error() -> None:
    protocol = Protocol(keep)
    number, _ = protocol.send(FETCH)
    with pytest.raises(ProtocolError, match="did not come"):
        protocol.feed(jsonrpc.encode_reply(number, FETCHED))


def test_descriptors_without_answers_are_bounded() -> None:
    protocol = Protocol(keep)
    with pytest.raises(ProtocolError, match="descriptors"):
        protocol.feed(b"", range(FDS_UNCLAIMED_MAX + 1))
