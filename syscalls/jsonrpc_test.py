"""The protocol, held against the examples of the JSON-RPC 2.0 specification and jsonrpcserver."""

import gc
import json
import warnings
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syscalls.derive.samples import sample_value
from syscalls.discover import Discover
from syscalls.errors import (
    ERRORS,
    AuthFailed,
    InvalidParams,
    InvalidRequest,
    JobNotFound,
    MethodNotFound,
    ParseError,
    UnknownError,
)
from syscalls.events import JobEvent
from syscalls.ids import JobId, SessionId
from syscalls.job import SEED_MAX, JobError, JobState, Policy, Progress, Status, Submit, Submitted
from syscalls.jsonrpc import (
    BATCH_MAX,
    ECHO_CHARS_MAX,
    LARGE_BYTES_MIN,
    REQUEST_ID_CHARS_MAX,
    Answer,
    Batch,
    Failure,
    Message,
    Notice,
    ProtocolError,
    Receiver,
    Request,
    Scanner,
    decode_result,
    encode_batch,
    encode_error,
    encode_notification,
    encode_reply,
    encode_request,
    encode_unanswered,
    error_of_job,
    parse,
    parse_reply,
)
from syscalls.registry import CALLS, METHODS

with warnings.catch_warnings():
    # Its import uses a deprecated reader of package data (jsonrpcserver 5.0.9).
    warnings.simplefilter("ignore", DeprecationWarning)
    import jsonrpcserver

STATUS = Status(session_id=SessionId("sess_1"), job_id=JobId("job_1"))
NAMED = '{"session_id": "sess_1", "job_id": "job_1"}'


def text(method: str, **members: str) -> bytes:
    """A request, its members given as JSON."""
    rest = "".join(f', "{name}": {value}' for name, value in members.items())
    return f'{{"jsonrpc": "2.0", "method": "{method}"{rest}}}'.encode()


def answer_one(message: Request | Failure) -> bytes:
    if message.is_notification:
        return b""
    if isinstance(message, Failure):
        return encode_error(message.id, message.error)
    return encode_reply(message.id, msgspec.Raw(b'"done"'))


def answer(message: Message) -> bytes:
    if isinstance(message, Batch):
        return encode_batch([line for item in message.items if (line := answer_one(item))])
    return answer_one(message)


def brief(line: bytes | str) -> Any:
    """An answer as (id, result or error code), a batch as a list of those, nothing as None."""

    def one(body: dict[str, Any]) -> tuple[Any, Any]:
        assert body["jsonrpc"] == "2.0"
        assert ("result" in body) != ("error" in body)
        return body["id"], body["error"]["code"] if "error" in body else body["result"]

    if not line:
        return None
    body = json.loads(line)
    return [one(element) for element in body] if isinstance(body, list) else one(body)


# Section 7 of the specification, with calls of ours for its own. What differs: we take parameters
# by name only, so its positional examples are refused as the parameters they are.
SPECIFICATION = {
    "positional parameters": (
        text("q_status", params="[42, 23]", id="1"),
        (1, InvalidParams.CODE),
    ),
    "named parameters": (text("q_status", params=NAMED, id="3"), (3, "done")),
    "a notification": (text("q_status", params=NAMED), None),
    "a notification of an unknown method": (text("foobar"), None),
    "a non-existent method": (text("foobar", id='"1"'), ("1", MethodNotFound.CODE)),
    "invalid JSON": (
        b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        (None, ParseError.CODE),
    ),
    "an invalid request": (
        b'{"jsonrpc": "2.0", "method": 1, "params": "bar"}',
        (None, InvalidRequest.CODE),
    ),
    "a batch of invalid JSON": (
        b'[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},'
        b'{"jsonrpc": "2.0", "method"]',
        (None, ParseError.CODE),
    ),
    "an empty batch": (b"[]", (None, InvalidRequest.CODE)),
    "an invalid batch, not empty": (b"[1]", [(None, InvalidRequest.CODE)]),
    "an invalid batch": (b"[1,2,3]", [(None, InvalidRequest.CODE)] * 3),
    "a batch": (
        b"["
        + b",".join(
            [
                text("q_status", params=NAMED, id='"1"'),
                text("q_status", params=NAMED),
                text("rpc.discover", id='"2"'),
                b'{"foo": "boo"}',
                text("foo.get", params='{"name": "myself"}', id='"5"'),
                text("rpc.discover", id='"9"'),
            ]
        )
        + b"]",
        [
            ("1", "done"),
            ("2", "done"),
            (None, InvalidRequest.CODE),
            ("5", MethodNotFound.CODE),
            ("9", "done"),
        ],
    ),
    "a batch of notifications": (
        b"[" + text("q_status", params=NAMED) + b"," + text("rpc.discover") + b"]",
        None,
    ),
}


@pytest.mark.parametrize("name", SPECIFICATION)
def test_the_examples_of_the_specification_are_answered_as_it_says(name: str) -> None:
    frame, expected = SPECIFICATION[name]
    assert brief(answer(parse(frame))) == expected


# --- beside an independent implementation -------------------------------------------------------

loose = st.sampled_from(
    ["1", '"a"', "null", "true", "1.5", "[]", "{}", "[1]", '{"a": 1}', '"2.0"', '"rpc.discover"']
)
members = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just('"2.0"') | loose,
        "method": st.just('"rpc.discover"') | loose,
        "params": st.sampled_from(["{}", "[]", "3", '"bar"', "null"]),
        "id": st.sampled_from(["1", '"a"', "null", "true", "[]"]),
    },
)


@given(members | loose, st.binary(max_size=1))
def test_single_requests_get_the_codes_that_jsonrpcserver_gives(body: Any, tail: bytes) -> None:
    written = (
        "{" + ", ".join(f'"{name}": {value}' for name, value in body.items()) + "}"
        if isinstance(body, dict)
        else body
    )
    if written.startswith("[") and written != "[]":
        return  # It fails whole batches on one bad element; the specification does not.
    frame = written.encode() + tail
    try:
        request = frame.decode()
    except UnicodeDecodeError:
        return  # It takes text only.
    if tail in (b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x1f", b"\x85", b"\xa0"):
        return  # Python's own idea of whitespace, not JSON's.
    discover = {"rpc.discover": lambda *_, **__: jsonrpcserver.Success("done")}
    theirs = brief(jsonrpcserver.dispatch(request, methods=discover))
    ours = brief(answer(parse(frame)))
    if ours is not None and ours[1] == InvalidRequest.CODE:
        ours = (None, InvalidRequest.CODE)  # We give back an id that can be read.
    elif ours is not None and ours[1] == InvalidParams.CODE:
        assert isinstance(body, dict)
        assert body["params"] == "[]"  # Parameters by position, which we refuse.
        ours = (ours[0], "done")
    assert ours == theirs


# --- no input raises ----------------------------------------------------------------------------

words = st.sampled_from(
    [
        *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\n", b"1", b"-", b"1e999", b"NaN"),
        *(b'"jsonrpc":"2.0"', b'"method":"q_submit"', b'"params":', b'"id":', b'"graph":', b"\xff"),
        *(b'"session_id":"s"', b'"policy":{"seed":', b'"\\ud800"', b"\xef\xbb\xbf", b"9" * 400),
    ]
)


@given(st.lists(words | st.binary(max_size=3), max_size=30).map(b"".join), st.data())
@example(b"[" * 100_000, None)
@example(b'{"a":' * 100_000, None)
@example(b'{"jsonrpc":"2.0","method":"q_submit","params":' + b"[" * 5000 + b"]" * 5000 + b"}", None)
def test_no_bytes_make_it_raise_and_reading_at_once_equals_frame_by_frame(
    stream: bytes, data: st.DataObject | None
) -> None:
    cut = data.draw(st.integers(0, len(stream))) if data else len(stream) // 2
    receiver, scanner = Receiver(), Scanner()
    got = receiver.receive(stream[:cut]) + receiver.receive(stream[cut:]) + receiver.finish_idle()
    frames = scanner.feed(stream[:cut]) + scanner.feed(stream[cut:]) + scanner.finish_idle()
    assert [answer(message) for message in got] == [answer(parse(frame)) for frame in frames]
    assert all(line == b"" or line.endswith(b"\n") for line in map(answer, got))


def test_an_overlong_message_is_answered_once_and_the_receiver_has_failed() -> None:
    receiver = Receiver(message_bytes_max=100)
    good = text("rpc.discover", id="1") + b"\n"
    messages = receiver.receive(good + b"x" * 101)
    assert [brief(answer(message)) for message in messages] == [
        (1, "done"),
        (None, ParseError.CODE),
    ]
    assert receiver.failed
    assert receiver.receive(good) == []
    assert receiver.finish_idle() == []


@pytest.mark.parametrize(
    ("frame", "path", "expected"),
    [
        (text("q_status", id="1"), "$.session_id", "a value: this field is required"),
        (
            text("q_status", params='{"session_id": "s", "job_id": 5}', id="1"),
            "$.job_id",
            "`str`, got `int`",
        ),
        (
            text("q_status", params='{"session_id": "s", "job_id": "j", "x": 1}', id="1"),
            "$.x",
            "no such field",
        ),
        (
            text(
                "q_submit",
                params='{"session_id": "s", "graph": {}, "policy": {"shots": 0}}',
                id="1",
            ),
            "$.policy.shots",
            "`int` >= 1",
        ),
        (
            text(
                "q_submit",
                params='{"session_id": "s", "graph": {}, "policy": {"noise": "loud"}}',
                id="1",
            ),
            "$.policy.noise",
            "one of the values the schema lists, got 'loud'",
        ),
        (
            text(
                "q_negotiate_caps",
                params='{"requested": ["CAP_ALLOC", 7]}',
                id="1",
            ),
            "$.requested[1]",
            "`str`, got `int`",
        ),
        (text("q_status", params="[]", id="1"), "$", "an object: parameters are passed by name"),
    ],
)
def test_bad_params_name_the_field_and_what_was_expected(
    frame: bytes, path: str, expected: str
) -> None:
    assert parse(frame) == Failure(1, InvalidParams(path=path, expected=expected))


@pytest.mark.parametrize("seed", [0, 2**53 + 1, 2**63, SEED_MAX])
def test_a_seed_of_64_bits_survives_the_wire_exactly(seed: int) -> None:
    call = Submit(
        session_id=SessionId("s"), graph=msgspec.Raw(b'{"a":1}'), policy=Policy(seed=seed)
    )
    message = parse(encode_request(1, call))
    assert isinstance(message, Request)
    assert isinstance(message.call, Submit)
    assert message.call.policy.seed == seed
    assert bytes(message.call.graph) == b'{"a":1}'


@pytest.mark.parametrize("members", ['"id": 1', '"id": "a"', '"id": null', '"x": 0', '"id": 1.5'])
@pytest.mark.parametrize("method", ["q_submit", "q_status", "nope"])
@pytest.mark.parametrize("policy", ['{"shots": 2}', '{"shots": 0}', "NaN"])
def test_a_large_message_is_read_as_a_small_one_is(members: str, method: str, policy: str) -> None:
    def message(graph: str) -> Message:
        params = f'{{"session_id": "s", "graph": "{graph}", "policy": {policy}}}'
        request = f'{{"jsonrpc": "2.0", "method": "{method}", {members}, "params": {params}}}'
        return parse(request.encode())

    small, large = message(""), message("x" * LARGE_BYTES_MIN)
    assert isinstance(small, Request) == isinstance(large, Request)
    if isinstance(small, Request) and isinstance(large, Request):
        assert (small.id, small.is_notification) == (large.id, large.is_notification)
        assert isinstance(large.call, Submit)
        assert isinstance(small.call, Submit)
        assert small.call.policy == large.call.policy
        assert bytes(large.call.graph) == b'"' + b"x" * LARGE_BYTES_MIN + b'"'
    elif policy != "NaN":
        assert small == large
    else:
        assert brief(answer(small)) == brief(answer(large)) == (None, ParseError.CODE)


@pytest.mark.parametrize("seed", ["-1", str(SEED_MAX + 1), "1" + "0" * 5000, "1e400", "1.5", '"1"'])
def test_a_seed_that_is_no_64_bit_number_is_refused_by_its_path(seed: str) -> None:
    params = f'{{"session_id": "s", "graph": {{}}, "policy": {{"seed": {seed}}}}}'
    message = parse(text("q_submit", params=params, id="1"))
    assert isinstance(message, Failure)
    assert isinstance(message.error, InvalidParams)
    assert message.error.path == "$.policy.seed"


@pytest.mark.parametrize(
    ("written", "given_back"),
    [
        ("0", 0),
        (str(2**63 - 1), 2**63 - 1),
        (str(-(2**63)), -(2**63)),
        ('""', ""),
        (f'"{"a" * REQUEST_ID_CHARS_MAX}"', "a" * REQUEST_ID_CHARS_MAX),
        ("null", None),
    ],
)
def test_an_id_comes_back_as_it_was(written: str, given_back: Any) -> None:
    assert brief(answer(parse(text("rpc.discover", id=written)))) == (given_back, "done")


@pytest.mark.parametrize(
    "written",
    ["1.0", "true", str(2**63), "[]", "{}", f'"{"a" * (REQUEST_ID_CHARS_MAX + 1)}"'],
)
def test_an_id_of_another_kind_makes_an_invalid_request(written: str) -> None:
    assert brief(answer(parse(text("rpc.discover", id=written)))) == (None, InvalidRequest.CODE)


def test_a_batch_is_bounded_and_refused_as_a_whole_beyond() -> None:
    one = text("rpc.discover", id="1")
    full = parse(b"[" + b",".join([one] * BATCH_MAX) + b"]")
    assert isinstance(full, Batch)
    assert full.items == [Request(1, Discover())] * BATCH_MAX
    over = parse(b"[" + b",".join([one] * (BATCH_MAX + 1)) + b"]")
    assert isinstance(over, Failure)
    assert isinstance(over.error, InvalidRequest)


def test_an_error_repeats_little_of_what_was_sent() -> None:
    for frame in (
        text("x" * 10_000, id="1"),
        text("q_status", params='{"' + "x" * 10_000 + '": 1}', id="1"),
        text("q_submit", params='{"policy": {"noise": "' + "x" * 10_000 + '"}}', id="1"),
    ):
        assert len(answer(parse(frame))) < 4 * ECHO_CHARS_MAX


def test_bytes_that_are_no_utf8_are_a_parse_error_wherever_they_stand() -> None:
    for frame in (
        b'{"jsonrpc": "2.0", "method": "\xff", "id": 1}',
        b'{"jsonrpc": "2.0", "method": "q_status", "params": {"session_id": "\xff"}, "id": 1}',
    ):
        assert brief(answer(parse(frame))) == (None, ParseError.CODE)


# --- both ends together -------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.METHOD)
@pytest.mark.parametrize("full", [False, True])
def test_every_call_and_reply_survives_the_wire(call: Any, full: bool) -> None:
    made = sample_value(call, full=full)
    message = parse(encode_request("x", made))
    assert isinstance(message, Request)
    assert encode_request("x", message.call) == encode_request("x", made)
    assert not message.is_notification
    unanswered = parse(encode_unanswered(made))
    assert isinstance(unanswered, Request)
    assert unanswered.is_notification
    reply = sample_value(call.REPLY, full=full)
    (came,) = parse_reply(encode_reply("x", reply))
    assert isinstance(came, Answer)
    assert came.result is not None
    assert decode_result(call, came.result) == reply


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.NAME)
@pytest.mark.parametrize("full", [False, True])
def test_every_error_survives_the_wire_as_its_own_type(error: Any, full: bool) -> None:
    made = sample_value(error, full=full)
    line = encode_error(5, made)
    body = json.loads(line)["error"]
    assert body["code"] == error.CODE
    assert body["message"] == made.sentence()
    assert body["data"]["type"] == error.NAME
    assert parse_reply(line) == [Answer(5, None, made)]
    assert error_of_job(JobError.of(made)) == made


def test_an_error_from_a_newer_kernel_is_kept_as_it_came() -> None:
    line = (
        b'{"jsonrpc":"2.0","id":1,"error":'
        b'{"code":-32999,"message":"Too new.","data":{"type":"NEW","n":1}}}'
    )
    (came,) = parse_reply(line)
    assert isinstance(came, Answer)
    assert came.error == UnknownError(
        number=-32999, kind="NEW", text="Too new.", fields={"type": "NEW", "n": 1}
    )
    assert (came.error.code, came.error.name, came.error.sentence()) == (-32999, "NEW", "Too new.")


def test_a_known_code_with_data_that_does_not_fit_is_kept_as_it_came() -> None:
    line = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"No.","data":null}}'
    (came,) = parse_reply(line)
    assert isinstance(came, Answer)
    assert came.error == UnknownError(number=-32001, kind="", text="No.")


def test_a_batch_of_answers_is_read_as_one() -> None:
    lines = [encode_error(1, JobNotFound()), encode_error(None, AuthFailed())]
    assert parse_reply(encode_batch(lines)) == [
        Answer(1, None, JobNotFound()),
        Answer(None, None, AuthFailed()),
    ]
    assert encode_batch([]) == b""


def test_a_notification_from_the_kernel_is_read_as_its_event() -> None:
    event = JobEvent(
        job_id=JobId("job_1"),
        seq=1,
        kind="state",
        state=JobState.RUNNING,
        progress=Progress(),
        at="2025-01-31T12:00:00.000Z",
    )
    assert parse_reply(encode_notification(event)) == [Notice("q_event", event)]
    assert parse_reply(b'{"jsonrpc":"2.0","method":"q_new","params":{}}') == [Notice("q_new", None)]


@pytest.mark.parametrize(
    "frame",
    [b"", b"nonsense", b'{"jsonrpc":"2.0","id":1}', b'{"id":1,"result":1}', b"[1]", b"\xff", b"5"],
)
def test_an_answer_that_is_no_jsonrpc_raises_a_protocol_error(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_reply(frame)


def test_a_result_of_another_type_raises_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="q_submit"):
        decode_result(Submit, msgspec.Raw(b"{}"))


def test_a_reply_shows_every_field_even_where_it_holds_its_default() -> None:
    reply = Submitted(job_id=JobId("job_1"), state=JobState.QUEUED, estimated_epochs=1)
    body = json.loads(encode_reply(1, reply))["result"]
    assert body.keys() == set(Submitted.__struct_fields__)


def test_a_request_leaves_defaults_out() -> None:
    body = json.loads(encode_request(1, STATUS))
    assert body == {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "q_status",
        "params": {"session_id": "sess_1", "job_id": "job_1"},
    }
    assert METHODS[body["method"]] is Status


def test_what_is_written_leaves_no_objects_behind() -> None:
    """A daemon writes for months."""
    call, event = sample_value(Status), sample_value(JobEvent)

    def write() -> None:
        encode_request(1, call)
        encode_unanswered(call)
        encode_reply(1, sample_value(Submitted))
        encode_error(1, AuthFailed())
        encode_notification(event)

    write()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(200):
        write()
    gc.collect()
    assert len(gc.get_objects()) - before < 20
