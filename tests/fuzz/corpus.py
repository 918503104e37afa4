"""The corpus as it is kept: one file a target, one input a line, in base64, sorted.

Text, so that a change of it can be read; one file, so that thousands of inputs are not as many.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

HOME = Path(__file__).parent / "corpus"
INPUTS_MAX = 800  # kept of one target
BYTES_MAX = 150_000  # of all its inputs


def read(name: str, home: Path = HOME) -> list[bytes]:
    """Every input that is kept for a target."""
    path = home / f"{name}.txt"
    return [base64.b64decode(line) for line in path.read_text().split()] if path.exists() else []


def write(name: str, inputs: Iterable[bytes], home: Path = HOME) -> int:
    """Keep these but for an empty one, the smallest first if they are too many; how many."""
    kept: list[bytes] = []
    size = 0
    for each in sorted(set(inputs) - {b""}, key=lambda data: (len(data), data)):
        size += len(each)
        if size > BYTES_MAX or len(kept) == INPUTS_MAX:
            break
        kept.append(each)
    home.mkdir(exist_ok=True)
    lines = sorted(base64.b64encode(each).decode() for each in kept)
    (home / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return len(kept)


def unpack(inputs: Iterable[bytes], folder: Path) -> None:
    """Each as a file named by its digest, as fuzzers have them."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in inputs:
        (folder / sha256(each).hexdigest()[:16]).write_bytes(each)


def gather(folder: Path) -> list[bytes]:
    """The inputs in a folder of a fuzzer's."""
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()]
