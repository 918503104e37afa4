"""What may be a name of a node, a handle or an event, and what may be a text. Nothing else."""

from __future__ import annotations

import re
from typing import Final

from qvm.isa import NAME_CHARS_MAX, TEXT_CHARS_MAX

NAME_PATTERN: Final = (
    r"^[^\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
    rf"{{1,{NAME_CHARS_MAX}}}(?![\s\S])"
)
"""Any Unicode but control, formatting and surrogate characters: what is not seen may not differ.

The JSON Schema uses the same pattern, so it is written for Python's and JavaScript's engines alike.
`str.isprintable` would not do: its answer changes with Python's Unicode tables.
"""

_NAME: Final = re.compile(NAME_PATTERN)


def is_name(name: str) -> bool:
    """True for a name; plain ASCII, the common case, is answered without the pattern."""
    return 0 < len(name) <= NAME_CHARS_MAX and (
        (name.isascii() and name.isprintable()) or _NAME.match(name) is not None
    )


def is_text(text: str) -> bool:
    """True for 1 to TEXT_CHARS_MAX characters that a name might hold."""
    pieces = range(0, len(text), NAME_CHARS_MAX)
    return 0 < len(text) <= TEXT_CHARS_MAX and all(
        is_name(text[at : at + NAME_CHARS_MAX]) for at in pieces
    )
