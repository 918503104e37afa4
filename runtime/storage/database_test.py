"""One schema and one set of statements, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.storage.database import Database, StorageError
from tests.postgres import running_postgres

FIRST = "-- a comment\nCREATE TABLE things (id INTEGER PRIMARY KEY, body BYTEA NOT NULL);\n"
SECOND = "ALTER TABLE things ADD COLUMN more FLOAT;"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "store" / "things.db")
        return
    with running_postgres() as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "migrations"
    made.mkdir()
    (made / "0001-things.sql").write_text(FIRST, encoding="utf-8")
    return made


def _fail_behind(database: Database) -> None:
    with database.write("things"):
        database.execute("INSERT INTO things VALUES (?, ?)", (2, b""))
        raise ZeroDivisionError


def test_a_database_keeps_what_a_transaction_wrote_and_nothing_of_one_that_failed(
    url: str, folder: Path
) -> None:
    with Database(url) as database:
        assert database.migrate("test", folder) == 1
        with database.write("things"):
            database.execute("INSERT INTO things VALUES (?, ?)", (1, b"\x00\xff"))
        with pytest.raises(ZeroDivisionError):
            _fail_behind(database)
        with pytest.raises(StorageError), database.write("things"):
            database.execute("INSERT INTO things VALUES (?, ?)", (1, b"again"))
    with Database(url) as database:
        rows = database.execute("SELECT id, body FROM things")
        assert [(number, bytes(body)) for number, body in rows] == [(1, b"\x00\xff")]
    # A schema is brought up to date once, and a newer one is refused.
    (folder / "0002-more.sql").write_text(SECOND, encoding="utf-8")
    with Database(url) as database:
        assert database.migrate("test", folder) == 2
        assert database.migrate("test", folder) == 2
        assert database.execute("SELECT more FROM things") == [(None,)]
        (folder / "0002-more.sql").unlink()
        with pytest.raises(StorageError, match="newer"):
            database.migrate("test", folder)


def test_a_database_that_cannot_be_had_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no database here"):
        Database("mysql://host/name")
    (tmp_path / "file").write_bytes(b"this is no database, whatever it is called" * 100)
    with pytest.raises(StorageError, match="cannot be opened"):
        Database(str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"cannot be reached|psycopg"):
        Database(f"postgresql://qmk@/postgres?host={tmp_path}")


def test_a_password_is_not_shown() -> None:
    database = Database.__new__(Database)
    database.url, database.is_postgres = "postgresql://me:secret@host/name", True
    assert database.shown == "postgresql://host/name"
