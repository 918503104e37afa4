"""What a case writes for a value, made into the value: variables, programs, repetition.

`"$name.member"` stands for what was kept under that name, `"a ${name} b"` for text around it. An
object with one key that begins with `$` is one of `MAKERS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.conformance.notation import graph

Variables = dict[str, Any]
_WHOLE: Final = re.compile(r"\$([a-z_]\w*(?:\.\w+)*)")
_INSIDE: Final = re.compile(r"\$\{([a-z_]\w*(?:\.\w+)*)\}")


def look_up(path: str, kept: Any) -> Any:
    """The member that a dotted path leads to. Raises KeyError where there is none."""
    for part in path.split("."):
        if isinstance(kept, list) and part.isdigit() and int(part) < len(kept):
            kept = kept[int(part)]
        elif isinstance(kept, dict) and part in kept:
            kept = kept[part]
        else:
            raise KeyError(path)
    return kept


def value(given: Any, kept: Variables) -> Any:
    """The value that a case means."""
    if isinstance(given, str):
        if found := _WHOLE.fullmatch(given):
            return look_up(found[1], kept)
        return _INSIDE.sub(lambda inside: str(look_up(inside[1], kept)), given)
    if isinstance(given, list):
        return [value(each, kept) for each in given]
    if not isinstance(given, dict):
        return given
    if len(given) == 1 and (maker := MAKERS.get(next(iter(given)))) is not None:
        return maker(next(iter(given.values())), kept)
    return {key: value(each, kept) for key, each in given.items()}


def chunk(given: Any, kept: Variables) -> bytes:
    """The bytes that a case means: text, `{"hex": ...}`, or `{"json": ...}`."""
    if isinstance(given, dict) and "hex" in given:
        return bytes.fromhex(given["hex"])
    if isinstance(given, dict) and "json" in given:
        return json.dumps(value(given["json"], kept), ensure_ascii=False).encode()
    made = value(given, kept)
    assert isinstance(made, str), "a chunk is text"
    return made.encode()


@cache
def _shared() -> dict[str, list[str]]:
    """Programs that several cases use, by name."""
    path = Path(__file__).parent / "cases" / "programs.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _program(given: Any, kept: Variables) -> Any:
    """The graph of some lines, of `{"caps", "lines"}`, or of a shared program's name."""
    caps = None
    if isinstance(given, str):
        given = _shared()[given]
    if isinstance(given, dict):
        caps, given = given["caps"], given["lines"]
    return graph(value(given, kept), caps)


def _times(given: Any, kept: Variables) -> Any:
    what, count = value(given, kept)
    return what * count if isinstance(what, str) else [what for _ in range(count)]


def _numbered(given: Any, kept: Variables) -> Any:
    text, count = given
    return [text.replace("#", str(number)) for number in range(value(count, kept))]


MAKERS: Final[dict[str, Callable[[Any, Variables], Any]]] = {
    "$program": _program,
    "$times": _times,
    "$numbered": _numbered,
    "$plus": lambda given, kept: sum(value(given, kept)),
    "$join": lambda given, kept: "".join(value(given, kept)),
    "$text": lambda given, kept: json.dumps(value(given, kept)),
    "$flat": lambda given, kept: [each for part in value(given, kept) for each in part],
}
