"""Changes to inputs that keep most of their form: trees of JSON, TOML or MessagePack, and lines.

Chance comes in by argument, so that a fuzzer's seed gives the same change again. What cannot be
taken apart is left to whoever changes bytes.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec

TREES: Final = ("json", "msgpack", "toml", "either")
CHANGES_MAX: Final = 3
DEPTH_MAX: Final = 60
ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2, 64, 2**31, 2**53, 2**63 - 1, 2**64, -(2**63), 10**30, 0.0, -0.0,
    0.5, 1e308, 5e-324, "", "$", "\0", "a\nb", "\ufeff", "é", "q0", "pi/2", "x" * 200, [], {}, [[]],
    {"": 0}, [None] * 40, b"", b"\xff" * 9,
)  # fmt: skip
TOKENS: Final = (
    ".for i in 0..3", ".end", ".if 1", ".else", ".macro M a", "M q0", ".param n=2", ".include",
    "{i}", "{i+1}", '"', "@{", "}", "->", "<-", "if m==1", "&&", "||", "[CAP_X]", ",", "=", "(",
    ")", "-", "**", "//", "%", "1e9", "0x", "9" * 40, "pi", "\t", ";", ":", ".", "..", "..=", "\r",
    "\u2028",
)  # fmt: skip


def mutated(codec: str, data: bytes, rng: Random) -> bytes | None:
    """The input with something changed; None where it cannot be taken apart."""
    if codec == "lines":
        return _lines(data, rng)
    assert codec in TREES, codec
    for name in ("msgpack", "json") if codec == "either" else (codec,):
        decode, encode = CODECS[name]
        try:
            tree = decode(data)
            for _ in range(1 + rng.randrange(CHANGES_MAX)):
                tree = _changed(tree, rng, 0)
            return encode(tree)
        except (ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError):
            continue
    return None


def _changed(tree: Any, rng: Random, depth: int) -> Any:
    """The tree with one place in it changed, chosen on the way down."""
    inside = isinstance(tree, (dict, list)) and tree and depth < DEPTH_MAX
    if inside and rng.random() < 0.85:
        return _changed_inside(tree, rng, depth)
    if isinstance(tree, msgspec.msgpack.Ext) and rng.random() < 0.9:
        content = msgspec.msgpack.decode(tree.data)
        return msgspec.msgpack.Ext(tree.code, msgspec.msgpack.encode(_changed(content, rng, depth)))
    match rng.randrange(6):
        case 0:
            return [tree]
        case 1 if isinstance(tree, int) and not isinstance(tree, bool):
            return tree + rng.choice((-1, 1, 64, -64)) if rng.random() < 0.7 else -tree
        case 2 if isinstance(tree, str) and tree:
            at = rng.randrange(len(tree))
            return tree[:at] + rng.choice(("", tree[at] * 2)) + tree[at + 1 :]
        case 3 if isinstance(tree, bytes) and tree:
            at = rng.randrange(len(tree))
            return tree[:at] + bytes([rng.randrange(256)]) + tree[at + 1 :]
    return rng.choice(ODD)


def _changed_inside(tree: Any, rng: Random, depth: int) -> Any:
    keys: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key = rng.choice(keys)
    made = tree.copy()
    change = rng.random()
    if change < 0.10:
        del made[key]
    elif change < 0.20:
        other = rng.choice(keys)
        made[key], made[other] = tree[other], tree[key]
    elif change < 0.28 and isinstance(made, list):
        made.insert(key, tree[rng.choice(keys)])
    elif change < 0.32 and isinstance(made, dict):
        made[rng.choice(("", "x", "type", f"{key}x", "é.", "a b"))] = made.pop(key)
    elif change < 0.36:
        made[key] = tree[rng.choice(keys)]
    else:
        made[key] = _changed(tree[key], rng, depth + 1)
    return made


def _lines(data: bytes, rng: Random) -> bytes:
    """Lines dropped, doubled, moved, or with a token put in."""
    lines = data.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines.insert(at, rng.choice(TOKENS).encode())
        case _:
            place = rng.randrange(len(lines[at]) + 1)
            token = rng.choice(TOKENS).encode()
            lines[at] = lines[at][:place] + token + lines[at][place:]
    return b"\n".join(lines)


# --- TOML, which the standard library only reads --------------------------------------------------


def toml(tree: Any) -> bytes:
    """A document of one line a key, tables inside lines. Raises TypeError for what TOML has not."""
    if not isinstance(tree, dict):
        raise TypeError("a document is a table")
    return "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in tree.items()).encode()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items())
        return "{" + inside + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    if value is None or isinstance(value, bytes):
        raise TypeError("TOML has no such value")
    return json.dumps(value, ensure_ascii=False, default=str)


def _read_toml(data: bytes) -> Any:
    return tomllib.loads(data.decode())


CODECS: Final[dict[str, tuple[Callable[[bytes], Any], Callable[[Any], bytes]]]] = {
    "json": (msgspec.json.decode, msgspec.json.encode),
    "msgpack": (msgspec.msgpack.decode, msgspec.msgpack.encode),
    "toml": (_read_toml, toml),
}
