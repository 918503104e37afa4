"""The calibration tables that this process holds, by name.

The one that ships is always there, under the empty name. Others have points that were measured when
jobs needed them; the daemon keeps these and hands them to workers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from qmkd.core.ports import Point
from qmkd.engine.prepared import Unable
from qmkd.qec import demand
from qmkd.qec.calibration import Table, TableError, decode, encode
from qmkd.qec.data import calibration
from qmkd.qec.measuring import versions

HELD_MAX: Final = 4
"""Beside the one that ships."""

_texts: OrderedDict[str, bytes] = OrderedDict()
_tables: dict[str, Table] = {}


def hold(name: str, text: bytes) -> set[str]:
    """From now on there is a table of that name: the one that ships and the points of `text`.

    Returns the names of all that are held.
    """
    _drop(name)
    _texts[name] = text
    while len(_texts) > HELD_MAX:
        _drop(next(iter(_texts)))
    return {"", *_texts}


def _drop(name: str) -> None:
    _texts.pop(name, None)
    _tables.pop(name, None)


def table(name: str) -> Table:
    """The table of a name that is held. Raises `Unable` where its text is none."""
    if not name:
        return calibration()
    found = _tables.get(name)
    if found is None:
        found = _tables[name] = demand.Layered(calibration(), _points(name))
    return found


def measured(point: Point, name: str) -> bytes:
    """The text of the table with this point beside those of the table of that name.

    Raises `demand.Unmeasurable`, and `Unable` as `table` does.
    """
    before = _points(name) if name else Table([], {})
    entries = demand.measure(*msgspec.structs.astuple(point))
    return encode(before.joined(Table(entries, versions())), demand.COMMAND)


def _points(name: str) -> Table:
    try:
        return decode(_texts[name])
    except TableError as error:
        raise Unable(f"the table of points measured here cannot be read: {error}") from error
