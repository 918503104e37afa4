"""JSON-RPC 2.0 without I/O: frames to typed calls and back, for both ends of the socket.

A message is decoded in two stages: its envelope with the parameters left raw, then the
parameters as the method's own type. So an unknown method and a bad parameter stay apart, and a
large program is not decoded before somebody wants it.

What is decided here, beyond the letter of JSON-RPC:
- Parameters are passed by name. An array of parameters is refused with `InvalidParams`.
- An id is a string of at most REQUEST_ID_CHARS_MAX characters, an integer of 64 bits, or null.
- A batch has at most BATCH_MAX elements; one bad element spoils only itself.
- Of duplicate keys the last counts, though the others must fit as well. Unknown members of an
  envelope are ignored, unknown parameters are refused.
- A member `traceparent` says where in a caller's trace a call is (`syscalls.tracing`).
- Malformed bytes in a message that is otherwise well formed are a `ParseError`, with id null.
- A notification is never answered, whatever is wrong with it.

Which bytes make a frame is `syscalls.framing`; which calls there are is `syscalls.registry`.
Nothing here raises on any input from the wire.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from syscalls.errors import (
    ERRORS,
    InvalidParams,
    InvalidRequest,
    KernelError,
    MethodNotFound,
    ParseError,
    UnknownError,
)
from syscalls.events import JobEvent
from syscalls.framing import MESSAGE_BYTES_MAX as MESSAGE_BYTES_MAX
from syscalls.framing import Scanner as Scanner
from syscalls.job import JobError, Submit
from syscalls.registry import METHODS, NOTIFICATIONS
from syscalls.syscall import Reply, Syscall
from syscalls.tracing import JSON_BYTES_MAX as TRACE_BYTES_MAX
from syscalls.tracing import TraceParent, trace_parent

BATCH_MAX = 256
REQUEST_ID_CHARS_MAX = 256
LARGE_BYTES_MIN = 16 * 1024  # from here on, one pass over a message is worth a second try
ECHO_CHARS_MAX = 200  # how much of what a caller sent an error may repeat

Id = int | str | None

_ID_INT = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_ID_STR = Annotated[str, Meta(max_length=REQUEST_ID_CHARS_MAX)]
_IdIn = _ID_INT | _ID_STR | None | UnsetType


class Request(Struct, frozen=True, gc=False):
    """A well-formed call. Where `is_notification`, it is performed and never answered."""

    id: Id
    call: Syscall
    is_notification: bool = False
    trace: TraceParent | None = None


class Failure(Struct, frozen=True, gc=False):
    """A call that goes no further: answer `error` to `id`, unless it was a notification."""

    id: Id
    error: KernelError
    is_notification: bool = False


class Batch(Struct, frozen=True):
    """Several calls whose answers are sent together, as one array, in any order."""

    items: list[Request | Failure]


Message = Request | Failure | Batch

# --- the serving end: bytes to calls ------------------------------------------------------------


_NO_TRACE = Raw(b"")


class _Envelope(Struct, gc=False):
    jsonrpc: Literal["2.0"]
    method: str
    params: Raw = Raw(b"{}")
    id: _IdIn = UNSET
    traceparent: Raw = _NO_TRACE


class _SubmitEnvelope(Struct, gc=False):
    """Both stages in one, for the one call whose messages are large."""

    jsonrpc: Literal["2.0"]
    method: Literal["q_submit"]
    params: Submit
    id: _IdIn = UNSET
    traceparent: Raw = _NO_TRACE


class _IdOnly(Struct):
    id: _IdIn = None


# An array of at most BATCH_MAX, refused at the first element too many and not after the last:
# an array-like struct with that many optional fields (docs of msgspec, `array_like`).
_NO_ELEMENT = Raw(b"")
_Elements = msgspec.defstruct(
    "_Elements",
    [(f"element_{index}", Raw, _NO_ELEMENT) for index in range(BATCH_MAX)],
    array_like=True,
    forbid_unknown_fields=True,
)

_whole_text = msgspec.json.Decoder(Raw).decode
_envelope = msgspec.json.Decoder(_Envelope).decode
_submit_envelope = msgspec.json.Decoder(_SubmitEnvelope).decode
_id_only = msgspec.json.Decoder(_IdOnly).decode
_elements = msgspec.json.Decoder(_Elements).decode
_params: dict[str, Callable[[Raw], Syscall]] = {
    method: msgspec.json.Decoder(call).decode for method, call in METHODS.items()
}
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse(frame: bytes) -> Message:
    """Read one frame: a call, or why it is none, or a batch of both."""
    if len(frame) >= LARGE_BYTES_MIN and (large := _parse_large(frame)) is not None:
        return large
    try:
        envelope = _envelope(frame)
    except _MALFORMED as error:
        if frame.lstrip(b" \t\r\n")[:1] == b"[":
            return _parse_batch(frame)
        return _not_an_envelope(frame, error)
    return _parse_params(envelope)


def _parse_large(frame: bytes) -> Request | None:
    """Read a well-formed `q_submit` in one pass over its bytes; None for anything else.

    Skipping a raw program takes as long as checking it is JSON (0.7 ms a MiB), so passes count.
    """
    try:
        envelope = _submit_envelope(frame)
    except _MALFORMED:
        return None
    trace = _traced(envelope.traceparent)
    if isinstance(envelope.id, UnsetType):
        return Request(None, envelope.params, True, trace)
    return Request(envelope.id, envelope.params, False, trace)


def _traced(given: Raw) -> TraceParent | None:
    return None if given is _NO_TRACE else trace_parent(bytes(memoryview(given)[:TRACE_BYTES_MAX]))


def _parse_params(envelope: _Envelope) -> Request | Failure:
    identity = envelope.id
    is_notification = identity is UNSET
    answer_to = None if isinstance(identity, UnsetType) else identity
    decode = _params.get(envelope.method)
    error: KernelError
    if decode is not None:
        try:
            call = decode(envelope.params)
            if envelope.traceparent is _NO_TRACE:
                return Request(answer_to, call, is_notification)
            return Request(answer_to, call, is_notification, _traced(envelope.traceparent))
        except _MALFORMED as refusal:
            error = _params_error(refusal)
    else:
        error = MethodNotFound(method=envelope.method[:ECHO_CHARS_MAX])
    if isinstance(error, ParseError):
        return Failure(None, error)
    if bytes(envelope.params)[:1] not in (b"{", b"["):
        # Such a message is no request at all, hence no notification either.
        return Failure(answer_to, InvalidRequest(path="$.params", expected="an object"))
    return Failure(answer_to, error, is_notification)


def _parse_batch(frame: bytes) -> Batch | Failure:
    try:
        elements = _elements(frame)
    except msgspec.ValidationError:
        # Too many elements; but malformed JSON behind them is the graver fault.
        if (malformed := _malformed(frame)) is not None:
            return Failure(None, malformed)
        few = f"at most {BATCH_MAX} requests in a batch"
        return Failure(None, InvalidRequest(path="$", expected=few))
    except _MALFORMED as error:
        return Failure(None, _parse_error(error))
    items: list[Request | Failure] = []
    for name in _Elements.__struct_fields__:
        element: Raw = getattr(elements, name)
        if element is _NO_ELEMENT:
            break
        items.append(_parse_element(element))
    if not items:
        return Failure(None, InvalidRequest(path="$", expected="at least one request in a batch"))
    return Batch(items)


def _parse_element(element: Raw) -> Request | Failure:
    try:
        envelope = _envelope(element)
    except _MALFORMED as error:
        return _not_an_envelope(bytes(element), error)
    return _parse_params(envelope)


def _not_an_envelope(frame: bytes, error: Exception) -> Failure:
    """Say why a frame is no request: its JSON, or else the first member that does not fit."""
    if (malformed := _malformed(frame)) is not None:
        return Failure(None, malformed)
    if not isinstance(error, msgspec.ValidationError):
        return Failure(None, _parse_error(error))
    path, expected = _located(error)
    try:
        identity = _id_only(frame).id
    except _MALFORMED:
        identity = None
    answer_to = None if isinstance(identity, UnsetType) else identity
    return Failure(answer_to, InvalidRequest(path=path, expected=expected))


def _malformed(frame: bytes) -> ParseError | None:
    """Why this is not one JSON text, if it is not."""
    try:
        _whole_text(frame)
    except _MALFORMED as error:
        return _parse_error(error)
    return None


def _parse_error(error: Exception) -> ParseError:
    match error:
        case RecursionError():
            reason = "the message nests too deep"
        case UnicodeDecodeError():
            reason = "the message is not valid UTF-8"
        case _:
            reason = str(error)[:ECHO_CHARS_MAX]
    return ParseError(reason=reason)


def _params_error(error: Exception) -> KernelError:
    """Parameters that do not fit are `InvalidParams`; bytes that are no JSON, `ParseError`."""
    if not isinstance(error, msgspec.ValidationError):
        return _parse_error(error)
    path, expected = _located(error)
    if path == "$" and expected == "`object`, got `array`":
        expected = "an object: parameters are passed by name"
    return InvalidParams(path=path, expected=expected)


_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`", re.DOTALL)
_SURPLUS = re.compile(r"Object contains unknown field `(?P<field>.*)`", re.DOTALL)
_NOT_LISTED = re.compile(r"Invalid enum value (?P<value>.*)", re.DOTALL)


def _located(error: msgspec.ValidationError) -> tuple[str, str]:
    """Split what msgspec says into the path of the offending field and what was expected there.

    msgspec 0.22 ends its sentence in " - at `$.path`", but for the root. A nested refusal of our
    own carries a path of its own inside (`Policy.__post_init__`).
    """
    sentence, *places = str(error).split(" - at `$")
    path = "$" + "".join(place.removesuffix("`") for place in reversed(places))
    if missing := _MISSING.fullmatch(sentence):
        path, expected = f"{path}.{missing['field']}", "a value: this field is required"
    elif surplus := _SURPLUS.fullmatch(sentence):
        path, expected = f"{path}.{surplus['field']}", "no such field"
    elif wrong := _NOT_LISTED.fullmatch(sentence):
        expected = f"one of the values the schema lists, got {wrong['value']}"
    elif "out of range" in sentence:
        expected = "a number in range"
    else:
        expected = sentence.removeprefix("Expected ")
    return path[:ECHO_CHARS_MAX], expected[:ECHO_CHARS_MAX]


class Receiver:
    """A `Scanner` and `parse` in one, without looking at any byte twice on the ordinary path.

    Gives just what parsing each frame of `Scanner.feed` gives, and, once, the error for which
    nothing more can be read (`failed`); the connection is closed after that is answered.
    """

    __slots__ = ("_reported", "_scanner")

    def __init__(self, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._scanner = Scanner(message_bytes_max)
        self._reported = False

    @property
    def pending_bytes(self) -> int:
        """Bytes of a message begun and not ended. The caller bounds how long that may last."""
        return self._scanner.pending_bytes

    @property
    def failed(self) -> bool:
        """Whether nothing more is read: answer what was returned, then close."""
        return self._scanner.failed is not None

    def receive(self, chunk: bytes) -> list[Message]:
        """Take in bytes; return the messages they complete."""
        scanner = self._scanner
        messages: list[Message] = []
        for line in scanner.feed_lines(chunk):
            message = parse(line)
            if type(message) is Failure and type(message.error) is ParseError:
                messages += [parse(frame) for frame in scanner.cut(line)]
            else:
                messages.append(message)
        if scanner.failed is not None:
            self._report_failure(messages)
        return messages

    def finish_idle(self) -> list[Message]:
        """As `Scanner.finish_idle`: no more bytes are at hand, so take what is complete."""
        messages: list[Message] = [parse(frame) for frame in self._scanner.finish_idle()]
        if self._scanner.failed is not None:
            self._report_failure(messages)
        return messages

    def _report_failure(self, messages: list[Message]) -> None:
        if not self._reported and self._scanner.failed is not None:
            self._reported = True
            messages.append(Failure(None, self._scanner.failed))


# --- the serving end: answers to bytes ----------------------------------------------------------


class _Result(Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    id: Id
    result: Any


class _ErrorBody(Struct, gc=False):
    code: int
    message: str
    data: KernelError


class _Error(Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    id: Id
    error: _ErrorBody


class _Notification(Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    method: str
    params: Any


# Given a list; of anything else, msgspec 0.22 keeps the iterator for ever.
_encode_lines = msgspec.json.Encoder().encode_lines


def encode_reply(id: Id, result: Reply | Raw) -> bytes:
    """Answer a call, as one line. A result that is JSON already may come as `Raw`."""
    return _encode_lines([_Result(id, result)])


def encode_error(id: Id, error: KernelError) -> bytes:
    """Refuse a call, as one line."""
    return _encode_lines([_Error(id, _ErrorBody(error.code, error.sentence(), error))])


def encode_notification(event: JobEvent) -> bytes:
    """Tell a subscriber something, as one line."""
    return _encode_lines([_Notification(event.METHOD, event)])


def encode_batch(answers: Sequence[bytes]) -> bytes:
    """Put encoded answers into one array, as one line; none at all for a batch without answers."""
    if not answers:
        return b""
    return b"[" + b",".join(answer.rstrip(b"\n") for answer in answers) + b"]\n"


# --- the calling end ----------------------------------------------------------------------------


class ProtocolError(ValueError):
    """The other end answered something that is no JSON-RPC 2.0. The connection is of no use."""


class Answer(Struct, frozen=True):
    """What came back for call `id`: a raw result (see `decode_result`), or an error."""

    id: Id
    result: Raw | None
    error: KernelError | None


class Notice(Struct, frozen=True):
    """A notification from the kernel; `event` is None for a kind this version does not know."""

    method: str
    event: JobEvent | None


class _Call(Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    id: Id
    method: str
    params: Syscall


class _TracedCall(Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    id: Id
    method: str
    params: Syscall
    traceparent: str


class _CallUnanswered(Struct, tag_field="jsonrpc", tag="2.0", gc=False):
    method: str
    params: Syscall


class _ErrorIn(Struct):
    code: int
    message: str
    data: Raw = Raw(b"null")


class _AnswerIn(Struct):
    jsonrpc: Literal["2.0"]
    id: Id = None
    result: Raw | UnsetType = UNSET
    error: _ErrorIn | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Raw = Raw(b"{}")


_answer = msgspec.json.Decoder(_AnswerIn).decode
_answers = msgspec.json.Decoder(list[_AnswerIn]).decode
_events = {name: msgspec.json.Decoder(event).decode for name, event in NOTIFICATIONS.items()}
_results = {call: msgspec.json.Decoder(call.REPLY).decode for call in METHODS.values()}
_errors = {error.CODE: msgspec.json.Decoder(error).decode for error in ERRORS}
_any_object = msgspec.json.Decoder(dict[str, Any]).decode


def encode_request(id: Id, call: Syscall, trace: TraceParent | None = None) -> bytes:
    """Make a call, as one line."""
    if trace is not None:
        return _encode_lines([_TracedCall(id, call.METHOD, call, trace.header())])
    return _encode_lines([_Call(id, call.METHOD, call)])


def encode_unanswered(call: Syscall) -> bytes:
    """Make a call as a notification: it is performed, and nothing comes back."""
    return _encode_lines([_CallUnanswered(call.METHOD, call)])


def parse_reply(frame: bytes) -> list[Answer | Notice]:
    """Read one frame from the kernel: an answer, a notification, or a batch of answers.

    Raises ProtocolError for anything else.
    """
    try:
        if frame[:1] == b"[":
            return [_read(answer) for answer in _answers(frame)]
        return [_read(_answer(frame))]
    except _MALFORMED as error:
        raise ProtocolError(str(error)[:ECHO_CHARS_MAX]) from error


def decode_result(call: type[Syscall], result: Raw) -> Reply:
    """The typed reply to a call of this type. Raises ProtocolError if it is none."""
    try:
        return _results[call](result)
    except _MALFORMED as error:
        raise ProtocolError(f"{call.METHOD}: {str(error)[:ECHO_CHARS_MAX]}") from error


def _read(answer: _AnswerIn) -> Answer | Notice:
    if not isinstance(answer.method, UnsetType):
        decode = _events.get(answer.method)
        return Notice(answer.method, decode(answer.params) if decode else None)
    if not isinstance(answer.error, UnsetType):
        return Answer(
            answer.id,
            None,
            decode_error(answer.error.code, answer.error.message, answer.error.data),
        )
    if isinstance(answer.result, UnsetType):
        raise ProtocolError("an answer has either a result or an error")
    return Answer(answer.id, answer.result, None)


def decode_error(code: int, text: str, data: Raw) -> KernelError:
    """The typed error; one this version does not know, or cannot read, as `UnknownError`."""
    decode = _errors.get(code)
    if decode is not None:
        try:
            return decode(data)
        except _MALFORMED:
            pass  # A newer kernel may have changed its fields; keep what can be read.
    try:
        fields = _any_object(data)
    except _MALFORMED:
        fields = {}
    kind = str(fields.get("type", ""))
    return UnknownError(number=code, kind=kind, text=text, fields=fields)


def error_of_job(error: JobError) -> KernelError:
    """The typed error for which a job failed."""
    return decode_error(error.code, error.message, Raw(msgspec.json.encode(error.data)))
