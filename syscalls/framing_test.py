"""Frames are compared with a scanner that is slow, obvious and looks at one byte at a time."""

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syscalls.framing import NESTING_MAX, WHITESPACE, WINDOW_BYTES_MIN, Brackets, Scanner

CLOSES = {ord("{"): ord("}"), ord("["): ord("]")}


def slow_frames(stream: bytes, message_bytes_max: int) -> tuple[list[bytes], bool, int]:
    """The rules of `syscalls.framing`, literally. Returns frames, failed, bytes pending."""
    frames: list[bytes] = []
    at = 0
    while True:
        while at < len(stream) and stream[at] in WHITESPACE:
            at += 1
        if at == len(stream):
            return frames, False, 0
        begin, end, complete = at, at, False
        bracketed = stream[begin] in CLOSES
        stack: list[int] = []
        in_string = escaped = False
        while end < len(stream) and not complete:
            byte = stream[end]
            if byte == 0x0A:
                complete = True
                break
            end += 1
            if not bracketed:
                continue
            if byte == ord("\\"):
                escaped = not escaped
                continue
            if byte == ord('"') and not escaped:
                in_string = not in_string
            escaped = False
            if in_string:
                continue
            if byte in CLOSES:
                stack.append(byte)
                bracketed = len(stack) <= NESTING_MAX
            elif byte in CLOSES.values():
                bracketed = CLOSES[stack.pop()] == byte
                complete = bracketed and not stack
        if end - begin > message_bytes_max:
            return frames, True, 0
        if not complete:
            return frames, False, end - begin
        frames.append(stream[begin:end].rstrip(WHITESPACE))
        at = end


def chunked(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(places)]


def scan(chunks: list[bytes], message_bytes_max: int = 2**20) -> tuple[list[bytes], bool, int]:
    scanner = Scanner(message_bytes_max)
    frames = [frame for chunk in chunks for frame in scanner.feed(chunk)]
    frames += scanner.finish_idle()
    return frames, scanner.failed is not None, scanner.pending_bytes


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a{}[]"\\\n é', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)
texts = st.builds(
    lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only).encode(),
    st.lists(values) | st.dictionaries(st.text(max_size=3), values),
    st.booleans(),
)
junk = st.text(alphabet='{}[]"\\ \n\r\ta1', max_size=12).map(str.encode) | st.binary(max_size=6)
deep = st.integers(1, 80).map(lambda depth: b"[{" * depth + b"1" + b"}]" * depth)
spaced = st.lists(  # long enough apart to be scanned in bulk
    st.sampled_from([b"{", b"}", b"[", b"]", b"[" * 20, b"]" * 20, b'"a"', b'"\\"', b" " * 150]),
    max_size=30,
).map(b"".join)
ends = st.sampled_from([b"", b"\n", b"\r\n", b" \n\n", b" "])
streams = st.lists(st.tuples(texts | junk | deep | spaced, ends).map(b"".join), max_size=6).map(
    b"".join
)


@given(streams, st.lists(st.integers(0, 2**16), max_size=8))
@example(b'{"a":1}}\n', [])
@example(b'{"a":1}{"b"', [])
@example(b'["\\\\"]["\\""]', [3, 4])
@example(b"[" * 60 + b" " * 200 + b"[[[[[]]]]]" + b" " * 200 + b"]" * 60, [])
@example(b"[[" + b" " * 200 + b"}" + b" " * 200 + b"]", [])
@example(b"[" + b'"\\"' * 60 + b'"]' * 60, [])
def test_frames_follow_the_rules_and_never_the_chunking(stream: bytes, cuts: list[int]) -> None:
    expected = slow_frames(stream, 2**20)
    assert scan(chunked(stream, cuts)) == expected
    assert scan([stream[at : at + 1] for at in range(len(stream))]) == expected


@given(streams, st.lists(st.integers(0, 2**16), max_size=4), st.integers(2, 40))
@example(b"[1] [2,3,4]", [], 4)
@example(b"[1][2]x", [], 4)
@example(b"x" + b" " * 50 + b"\n", [], 10)
def test_an_overlong_message_ends_the_stream_at_the_same_place(
    stream: bytes, cuts: list[int], most: int
) -> None:
    expected = slow_frames(stream, most)
    assert scan(chunked(stream, cuts), most) == expected
    assert scan([stream[at : at + 1] for at in range(len(stream))], most) == expected


@given(st.lists(texts, min_size=1, max_size=5), ends)
def test_concatenated_texts_come_out_as_they_went_in(parts: list[bytes], end: bytes) -> None:
    frames, failed, pending = scan([end.join(parts)])
    assert (frames, failed, pending) == (parts, False, 0)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"", b"\n\n \r\n"])
def test_a_text_is_given_as_soon_as_it_is_complete(end: bytes) -> None:
    scanner = Scanner()
    text = '{"a":"ü}{"}'.encode()
    for at in range(len(text) - 1):
        assert scanner.feed(text[at : at + 1]) == []
        assert scanner.pending_bytes == at + 1
    assert scanner.feed(text[-1:] + end) == [text]
    assert scanner.pending_bytes == 0


def test_a_bad_line_spoils_only_itself() -> None:
    assert scan([b'{"a":[\n{"b":1}\nnonsense\n[2]'])[0] == [
        b'{"a":[',
        b'{"b":1}',
        b"nonsense",
        b"[2]",
    ]


def test_after_an_overlong_message_nothing_more_is_read() -> None:
    scanner = Scanner(message_bytes_max=8)
    assert scanner.feed(b"[1]\n[2,3,4,5,6]\n[7]\n") == [b"[1]"]
    assert scanner.failed is not None
    assert "8 bytes" in scanner.failed.sentence()
    assert scanner.feed(b"[8]\n") == []
    assert scanner.pending_bytes == 0


SHAPES = {
    "strings": b'{"k":"' + b"x" * 4000 + b'"',
    "many members": b"{" + b'"k":{"a":[1,2]},' * 400,
    "nested": b"[" + (b"[{" * 20 + b"}]" * 20) * 100,
    "almost too deep": b"[" + (b"[{" * 31 + b"}]" * 31) * 60,
    "backslashes": b'["' + b"\\" * 4001,
    "quotes": b'["' + b'\\"' * 2000,
    "brackets in strings": b"[" + b'"}]{",' * 700,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_bytes_looked_at_grow_linearly_with_bytes_sent(shape: str, chunk: int) -> None:
    def work(copies: int) -> int:
        data = SHAPES[shape] * copies
        brackets = Brackets(data[0])
        held = bytearray(data[:1])
        for at in range(1, len(data), chunk):
            held += data[at : at + chunk]
            brackets.advance(held, at, len(held))
        return brackets.work

    once, many = work(1), work(8)
    assert once <= 5 * len(SHAPES[shape])
    assert many <= 10 * max(once, len(SHAPES[shape]))


def test_many_small_values_without_newlines_cost_each_its_own_length() -> None:
    one = b'{"a":[1]}'
    data = one * 2000
    at, work = 0, 0
    while at < len(data):
        brackets = Brackets(data[at])
        at = brackets.advance(data, at + 1, len(data))
        work += brackets.work
    assert work <= 2000 * (len(one) + WINDOW_BYTES_MIN)


def test_a_reader_that_wants_few_frames_at_once_gets_the_same_ones_in_portions() -> None:
    scanner = Scanner(frames_max=3)
    portions = [scanner.feed_lines(b"{}[] {}{}{}{}{}")]
    while scanner.more:
        portions.append(scanner.finish_idle())
    assert [len(portion) for portion in portions] == [3, 3, 1]
    assert [frame for portion in portions for frame in portion] == [b"{}", b"[]"] + [b"{}"] * 5
    assert scanner.pending_bytes == 0
