from __future__ import annotations

import base64
import os
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.remote.inlining import BadAnswer, Inliner, Rows


def memory_file(data: bytes) -> int:
    fd = os.memfd_create("rows")
    os.write(fd, data)
    return fd


def answer(number: int, **result: object) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "result": result, "id": number})


def joined(pieces: list[bytes | Rows]) -> bytes:
    def parts() -> Iterator[bytes]:
        for piece in pieces:
            if isinstance(piece, Rows):
                yield from piece.chunks()
                os.close(piece.fd)
            else:
                yield piece

    return b"".join(parts())


# Messages of a daemon: with rows, without, one that only looks as if, and batches of them.
MESSAGE = st.one_of(
    st.binary(max_size=200).map(lambda rows: [rows]),
    st.sampled_from([None, "looks", "said"]).map(lambda each: [each]),
    st.lists(st.one_of(st.none(), st.binary(max_size=9)), min_size=2, max_size=4),
)


def written(number: int, parts: list[bytes | str | None]) -> tuple[bytes, list[bytes]]:
    answers, files = [], []
    for part in parts:
        if isinstance(part, bytes):
            answers.append(answer(number, shots=1, fd=True, order=["a"], digest="x"))
            files.append(part)
        elif part == "looks":
            answers.append(answer(number, text='"fd":true', deeper={"fd": True}))
        elif part == "said":
            answers.append(answer(number, fd=False, data="AAAA"))
        else:
            answers.append(b'{"jsonrpc":"2.0","error":{"code":1,"message":"\\"fd\\""},"id":null}')
    whole = answers[0] if len(answers) == 1 else b"[" + b",".join(answers) + b"]"
    return whole + b"\n", files


@given(st.lists(MESSAGE, max_size=5), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_rows_come_inside_their_own_answer_however_the_bytes_were_cut(
    messages: list[list[bytes | str | None]], cuts: list[int]
) -> None:
    inliner, out, expected = Inliner(), b"", []
    for number, parts in enumerate(messages):
        line, files = written(number, parts)
        # A descriptor comes with the first byte of its message; the rest may come in pieces.
        fds = [memory_file(each) for each in files]
        at = 0
        while at < len(line):
            step = cuts[at % len(cuts)]
            out += joined(inliner.feed(line[at : at + step], fds))
            fds, at = [], at + step
        expected.append((msgspec.json.decode(line), list(files)))
    got = [msgspec.json.decode(line) for line in out.splitlines()]
    assert len(got) == len(expected)
    for have, (sent, files) in zip(got, expected, strict=True):
        pairs = zip(have, sent, strict=True) if isinstance(sent, list) else [(have, sent)]
        for one, original in pairs:
            result = original.get("result", {})
            if result.get("fd") is True:
                result["fd"], result["data"] = False, base64.b64encode(files.pop(0)).decode()
            assert one == original


def test_a_message_that_was_begun_before_is_left_alone() -> None:
    inliner = Inliner()
    out = joined(inliner.feed(answer(1, text="abc")[:10], []))
    rest = answer(1, text="abc")[10:] + b"\n" + answer(2, fd=True, digest="y") + b"\n"
    out += joined(inliner.feed(rest, [memory_file(b"rows")]))
    first, second = (msgspec.json.decode(line) for line in out.splitlines())
    assert first["result"] == {"text": "abc"}
    assert base64.b64decode(second["result"]["data"]) == b"rows"


def test_a_descriptor_that_is_announced_and_missing_ends_the_connection() -> None:
    inliner = Inliner()
    both = b"[" + answer(1, fd=True) + b"," + answer(2, fd=True) + b"]\n"
    with pytest.raises(BadAnswer, match="did not come"):
        inliner.feed(both, [memory_file(b"")])
    inliner.close()
