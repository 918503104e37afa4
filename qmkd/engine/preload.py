"""Loads all that a worker may need, for one that can open no file later.

Otherwise most of this is imported at need: it takes a second and some 90 MiB, nearly all of it
SciPy's.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Final

from qmkd.engine import tables

MODULES: Final = (
    "qmkd.engine.coded",
    "qmkd.engine.decoded",
    "qmkd.engine.physical",
    "qmkd.engine.rates",
    "qmkd.engine.tally",
    "qmkd.qec.demand",
    "scipy.special",
)
OPTIONAL: Final = ("ldpc.bposd_decoder",)


def load_everything() -> None:
    """Import all of it and read the table that ships."""
    for name in MODULES:
        importlib.import_module(name)
    for name in OPTIONAL:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    tables.table("")
