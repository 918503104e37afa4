"""The chain finds every way to tamper with it that leaves it different."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmkd.core.audit import entry
from qmkd.core.records import AuditRow
from syscalls.audit import AuditBody, AuditBreak, canonical, entry_of, hash_of, line_of, verify


def chain(length: int, salt: str = "") -> list[AuditRow]:
    rows: list[AuditRow] = []
    for number in range(1, length + 1):
        rows.append(
            entry(
                number=number,
                previous=rows[-1].hash if rows else b"",
                epoch=number // 3,
                at_ns=1_700_000_000_000_000_000 + number,
                kind="job accepted",
                fields={"job": f"job_{number}{salt}", "seed": number, "rights": ["CAP_ALLOC"]},
            )
        )
    return rows


def found(rows: list[AuditRow], head: bytes | None = None) -> tuple[int, str] | None:
    broken = verify([(row.number, row.body, row.hash) for row in rows], head)
    assert broken is None or isinstance(broken, AuditBreak)
    return None if broken is None else (broken.number, broken.what)


def test_a_body_is_canonical_json_and_the_hash_is_that_of_the_documents() -> None:
    first, second = chain(2)
    assert first.body == (
        b'{"at_ns":1700000000000000001,"epoch":0,"fields":{"job":"job_1","rights":["CAP_ALLOC"],'
        b'"seed":1},"kind":"job accepted","number":1}'
    )
    assert first.hash == sha256(first.body).digest()
    assert second.hash == sha256(first.hash + second.body).digest()


def test_an_untouched_chain_holds_with_each_of_its_heads() -> None:
    rows = chain(7)
    assert found([]) is None
    assert found([], b"") is None
    for row in rows:
        assert found(rows, row.hash) is None


def test_a_chain_that_was_cut_off_is_found_against_a_head_kept_elsewhere() -> None:
    rows = chain(7)
    for kept in range(7):
        assert found(rows[:kept]) is None
        assert found(rows[:kept], rows[-1].hash) == (kept, "head")


def test_a_chain_written_anew_is_found_against_a_head_kept_elsewhere() -> None:
    assert found(chain(7, salt="!"), chain(7)[3].hash) == (7, "head")


def test_a_dropped_a_repeated_and_a_moved_entry_are_found_where_they_are() -> None:
    rows = chain(7)
    for at in range(6):
        assert found(rows[:at] + rows[at + 1 :]) == (at + 1, "missing")
        assert found([*rows[: at + 1], rows[at], *rows[at + 1 :]]) == (at + 2, "order")
        swapped = [*rows[:at], rows[at + 1], rows[at], *rows[at + 2 :]]
        assert found(swapped) == (at + 1, "missing")


def test_entries_numbered_anew_after_one_was_dropped_are_found() -> None:
    rows = chain(5)
    renumbered = [
        msgspec.structs.replace(row, number=number)
        for number, row in enumerate(rows[:2] + rows[3:], start=1)
    ]
    assert found(renumbered) == (3, "changed")


def test_an_epoch_that_goes_back_is_found_even_with_all_hashes_right() -> None:
    first = entry(number=1, previous=b"", epoch=5, at_ns=1, kind="a", fields={})
    second = entry(number=2, previous=first.hash, epoch=4, at_ns=2, kind="b", fields={})
    assert found([first, second]) == (2, "order")


def test_a_body_that_is_not_canonical_is_found_even_with_its_hash_right() -> None:
    (row,) = chain(1)
    loose = row.body.replace(b":", b": ", 1)
    assert found([AuditRow(number=1, body=loose, hash=hash_of(b"", loose))]) == (1, "changed")


@given(
    at=st.integers(0, 4),
    field=st.sampled_from(["body", "hash"]),
    where=st.integers(0),
    by=st.data(),
)
def test_any_byte_changed_anywhere_is_found_in_its_entry(
    at: int, field: str, where: int, by: st.DataObject
) -> None:
    rows = chain(5)
    old = getattr(rows[at], field)
    new = bytearray(old)
    new[where % len(old)] ^= by.draw(st.integers(1, 255))
    rows[at] = msgspec.structs.replace(rows[at], **{field: bytes(new)})
    assert found(rows) == (at + 1, "changed")


@given(rows=st.permutations(chain(6)), upto=st.integers(1, 6))
def test_any_other_order_and_any_left_out_are_found(rows: list[AuditRow], upto: int) -> None:
    right = chain(6)
    shown = rows[:upto]
    if shown == right[:upto]:
        assert found(shown) is None
    else:
        assert found(shown) is not None
    if shown != right:
        assert found(shown, right[-1].hash) is not None


@given(body=st.binary(max_size=60))
def test_bytes_that_are_no_body_are_found_whatever_their_hash(body: bytes) -> None:
    rows = chain(2)
    rows.append(AuditRow(number=3, body=body, hash=hash_of(rows[-1].hash, body)))
    assert found(rows) == (3, "changed")


def test_a_body_reads_back_to_the_same_bytes_whatever_characters_it_holds() -> None:
    row = entry(number=1, previous=b"", epoch=0, at_ns=0, kind='ü\u2028"\\\x00', fields={"ä": "😀"})
    assert canonical(msgspec.json.decode(row.body, type=AuditBody)) == row.body
    assert found([row]) is None


@pytest.mark.parametrize(("number", "previous"), [(1, b"x" * 32), (2, b""), (2, b"x" * 31)])
def test_an_entry_cannot_be_made_without_the_hash_before_it(number: int, previous: bytes) -> None:
    with pytest.raises(AssertionError):
        entry(number=number, previous=previous, epoch=0, at_ns=0, kind="", fields={})


@given(line=st.binary(max_size=80))
def test_any_line_is_an_entry_that_is_found_wrong(line: bytes) -> None:
    lines = [line_of((row.number, row.body, row.hash)) for row in chain(3)]
    assert verify(entry_of(each, place) for place, each in enumerate(lines, 1)) is None
    lines[1] = line
    broken = verify(entry_of(each + b"\n", place) for place, each in enumerate(lines, 1))
    assert broken is not None
    assert broken.number == 2
