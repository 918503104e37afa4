"""Machine descriptions: those that come with the daemon, by name, and any other by its path.

A description is read strictly: an unknown key, a value out of bounds or a contradiction is a
finding with its path. What the keys mean is in `docs/machine.md`, the types in `qvm/machine.py`.
"""

from __future__ import annotations

from pathlib import Path

from qvm.machine import Hardware, described

BYTES_MAX = 1 << 20
_FOLDER = Path(__file__).parent
SHIPPED = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
"""Names of the descriptions that come with the daemon."""


def load(name: str) -> Hardware | list[str]:
    """The machine of that name, or of that file if it has a slash or a suffix; or findings."""
    if name in SHIPPED:
        return read(_FOLDER / f"{name}.toml")
    if ("/" in name or name.endswith(".toml")) and "\0" not in name:
        return read(Path(name))
    return [f"$.machine: no machine is named {name!r}; there are {', '.join(SHIPPED)}, or a file"]


def read(path: Path) -> Hardware | list[str]:
    """The machine that a TOML file describes, or findings."""
    try:
        with open(path, "rb") as file:
            text = file.read(BYTES_MAX + 1)
        if len(text) > BYTES_MAX:
            return [f"{path}: longer than {BYTES_MAX} bytes"]
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    found = described(text)
    if isinstance(found, Hardware):
        return found
    return [": ".join(filter(None, (str(path), *finding))) for finding in found]
