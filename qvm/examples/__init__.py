"""The example programs, kept as JSON: `names()` lists them, `load(name)` returns the JSON bytes.

Every one of them runs without warnings; what each leaves as a record is written by hand in
`examples_test.py`.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

SUFFIX: Final = ".qvm.json"


def names() -> tuple[str, ...]:
    """Names of all examples, sorted."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX)))


def load(name: str) -> bytes:
    """The UTF-8 JSON of the example called `name`; KeyError where there is none."""
    if name not in names():
        raise KeyError(f"no example is named {name!r}; there are {', '.join(names())}")
    return resources.files(__name__).joinpath(name + SUFFIX).read_bytes()
