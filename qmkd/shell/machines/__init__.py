"""Machine descriptions: those that come with the daemon, by name, and any other by its path.

A description is read strictly: an unknown key, a value out of bounds or a contradiction is a
finding with its path. What the keys mean is in `docs/machine.md`, the types in `qvm/machine.py`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from qvm.machine import Hardware, faults

BYTES_MAX = 1 << 20
_FOLDER = Path(__file__).parent
SHIPPED = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
"""Names of the descriptions that come with the daemon."""


def load(name: str) -> Hardware | list[str]:
    """The machine of that name, or of that file if it has a slash or a suffix; or findings."""
    if name in SHIPPED:
        return read(_FOLDER / f"{name}.toml")
    if "/" in name or name.endswith(".toml"):
        return read(Path(name))
    return [f"$.machine: no machine is named {name!r}; there are {', '.join(SHIPPED)}, or a file"]


def read(path: Path) -> Hardware | list[str]:
    """The machine that a TOML file describes, or findings."""
    try:
        with open(path, "rb") as file:
            text = file.read(BYTES_MAX + 1)
        if len(text) > BYTES_MAX:
            return [f"{path}: longer than {BYTES_MAX} bytes"]
        hardware = msgspec.convert(tomllib.loads(text.decode()), Hardware)
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return [f"{path}: {error}"]
    except msgspec.ValidationError as error:
        sentence, _, place = str(error).partition(" - at `")
        return [f"{path}: {place.removesuffix('`') or '$'}: {sentence}"]
    return [f"{path}: {place}: {sentence}" for place, sentence in faults(hardware)] or hardware
