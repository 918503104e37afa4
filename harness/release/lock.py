"""The lock file: every dependency at one version, with the digests of all of its archives.

`requirements.lock` is made from `constraints.txt` by `make lock` and is read by
`pip install --require-hashes`. Reads text alone; asks no package index.
"""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
CONSTRAINTS = ROOT / "constraints.txt"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)( \\)?$")
DIGEST = re.compile(r"^    --hash=sha256:([0-9a-f]{64})( \\)?$")


class Pinned(Struct, frozen=True):
    """name: normalised, as PEP 503 says. digests: SHA-256 in hex, of each archive of it."""

    name: str
    version: str
    digests: tuple[str, ...]

    def requirement(self) -> str:
        """As a line of a requirements file."""
        return " ".join(
            [f"{self.name}=={self.version}", *(f"--hash=sha256:{d}" for d in self.digests)]
        )


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read(text: str) -> dict[str, Pinned]:
    """By name. Raises ValueError for a line that is neither a pin nor a digest."""
    found: dict[str, Pinned] = {}
    name = version = ""
    digests: list[str] = []
    for line in [*text.splitlines(), "end==0"]:
        if digest := DIGEST.match(line):
            digests.append(digest[1])
        elif pin := PIN.match(line):
            if name:
                found[name] = Pinned(name, version, tuple(digests))
            name, version, digests = normalised(pin[1]), pin[2], []
        elif line and not line.startswith("#"):
            raise ValueError(f"This is no line of a lock file: {line!r}")
    return found


def locked() -> dict[str, Pinned]:
    return read(LOCK.read_text(encoding="utf-8"))


def constrained() -> dict[str, str]:
    """Versions by name, of `constraints.txt`."""
    found = {}
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        if pin := PIN.match(line):
            found[normalised(pin[1])] = pin[2]
    return found
