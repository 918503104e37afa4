"""The one way to write a record, so that no byte of it can be another and still mean the same.

JSON in UTF-8, keys sorted, no spaces, bytes in base64 with padding (RFC 4648, section 4). Records
hold no fractions, so this is also the canonical form of RFC 8785 for what they hold.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

import msgspec

from runtime.attest.errors import NotAuthentic

T = TypeVar("T")

NUMBER_DIGITS_MAX = 20  # of 64 bits


def encode(value: Any) -> bytes:
    """A record's bytes."""
    return msgspec.json.encode(value, order="sorted")


def decode(data: bytes, kind: type[T], what: str) -> T:
    """A record, if these are the bytes that `encode` writes of it. Raises NotAuthentic."""
    try:
        value = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAuthentic(f"This is no {what}: {error}.") from error
    if encode(value) != data:
        raise NotAuthentic(f"This is no {what}: it is not written in the canonical form.")
    return value


def from_base64(text: str, what: str) -> bytes:
    """The bytes that are written so, if they are written in the one right way."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAuthentic(f"{what} is not base64.") from error
    if to_base64(data) != text:
        raise NotAuthentic(f"{what} is not canonical base64.")
    return data


def number(text: str, what: str) -> int:
    """A number of at most NUMBER_DIGITS_MAX decimal digits, written in the one right way."""
    digits = text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX
    if not digits or str(int(text)) != text:
        raise NotAuthentic(f"{what} is no number.")
    return int(text)


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
