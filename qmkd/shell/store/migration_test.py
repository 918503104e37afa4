"""Databases of earlier versions are read by this one: what they held then, they hold now.

For each version there is a database as that version left it, and beside it what was in it. After a
new migration, `python -m qmkd.shell.store.migration_test` writes the pair of the newest version.
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import msgspec
import pytest

from qmkd.core.records import Recovered
from qmkd.shell.store.check import check
from qmkd.shell.store.conftest import Keeper, Story, assert_holds
from qmkd.shell.store.schema import VERSION

STORED = Path(__file__).parent / "stored"


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_database_of_that_version_holds_what_it_held(version: int, path: Path) -> None:
    path.write_bytes(gzip.decompress((STORED / f"v{version}.db.gz").read_bytes()))
    told = gzip.decompress((STORED / f"v{version}.json.gz").read_bytes())
    keeper = Keeper(path)
    assert keeper.store.load() == msgspec.json.decode(told, type=Recovered)
    keeper.store.close()
    assert check(path).ok


def write() -> None:
    """Store what this version makes of a story."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "qmkd.db"
        keeper, story = Keeper(path), Story(21)
        keeper.tell(story, 60)
        keeper.wait(60)
        assert_holds(keeper.store, story)
        told = msgspec.json.encode(keeper.store.load())
        keeper.store.close()
        STORED.mkdir(exist_ok=True)
        for name, content in (("db", path.read_bytes()), ("json", told)):
            packed = gzip.compress(content, mtime=0)
            (STORED / f"v{VERSION}.{name}.gz").write_bytes(packed)


if __name__ == "__main__":
    write()
