"""One connection to SQLite or PostgreSQL, for statements that both take.

Parameters are written as `?`. Types are those of the SQL files; SQLite keeps them by affinity, so a
reader takes numbers, texts and bytes from columns of those kinds, and what has to be bit for bit
the same lies in a column of bytes. A transaction that writes takes the whole database (SQLite) or
its table (`Database.write`), so that a chain of rows has one end.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

BUSY_S: Final = 30.0
POSTGRES: Final = ("postgresql", "postgres")
HINT: Final = "PostgreSQL needs psycopg: pip install 'qmkd[postgres]'."


class StorageError(Exception):
    """The database cannot be reached, read or written; a sentence says why."""


class Database:
    """An open database. url: `postgresql://...`, `sqlite:///FILE`, or the path of a file."""

    def __init__(self, url: str) -> None:
        """Raises StorageError."""
        self.url = url
        scheme = urlsplit(url).scheme if "://" in url else ""
        self.is_postgres = scheme in POSTGRES
        if scheme and not self.is_postgres and scheme != "sqlite":
            raise StorageError(f"{scheme} is no database here: a file, or postgresql://host/name.")
        self._connection: Any = (
            _postgres(url) if self.is_postgres else _sqlite(url.removeprefix("sqlite:///"))
        )
        self._errors: tuple[type[Exception], ...] = (sqlite3.Error,)
        if self.is_postgres:
            import psycopg

            self._errors = (psycopg.Error,)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that come back. Raises StorageError."""
        if self.is_postgres:
            statement = statement.replace("?", "%s")
        try:
            cursor = self._connection.execute(statement, tuple(parameters))
            return [] if cursor.description is None else [tuple(row) for row in cursor.fetchall()]
        except self._errors as error:
            raise StorageError(f"{self.shown}: {str(error).strip()}.") from error

    @contextmanager
    def write(self, table: str) -> Iterator[None]:
        """A transaction that alone may add to the table; undone if the block raises."""
        self.execute("BEGIN" if self.is_postgres else "BEGIN IMMEDIATE")
        try:
            if self.is_postgres:
                self.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    @property
    def shown(self) -> str:
        """Where it is, without a password."""
        if not self.is_postgres:
            return self.url
        parts = urlsplit(self.url)
        return f"postgresql://{parts.hostname or 'local'}{parts.path}"

    def migrate(self, room: str, folder: Path) -> int:
        """Apply the room's SQL files that were not yet, in their order; how many there are now.

        Files are named 0001-what.sql. One that was applied never changes: its digest is not asked,
        its number is. A schema newer than the files is refused.
        """
        self.execute(
            "CREATE TABLE IF NOT EXISTS migrations (room TEXT NOT NULL, number INTEGER NOT NULL, "
            "name TEXT NOT NULL, PRIMARY KEY (room, number))"
        )
        files = sorted(folder.glob("[0-9]*.sql"))
        with self.write("migrations"):
            rows = self.execute("SELECT number FROM migrations WHERE room = ?", (room,))
            done = {int(number) for (number,) in rows}
            if done and max(done) > len(files):
                raise StorageError(f"{self.shown} is of a newer qmkd: {room} {max(done)}.")
            for number, file in enumerate(files, 1):
                assert int(file.name[:4]) == number, f"{file.name} is not number {number}"
                if number not in done:
                    for statement in _statements(file.read_text(encoding="utf-8")):
                        self.execute(statement)
                    self.execute(
                        "INSERT INTO migrations VALUES (?, ?, ?)", (room, number, file.stem)
                    )
        return len(files)


def _statements(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return [each.strip() for each in "\n".join(lines).split(";") if each.strip()]


def _sqlite(path: str) -> sqlite3.Connection:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        os.chmod(path, 0o600)
    except (sqlite3.Error, OSError) as error:
        raise StorageError(f"{path} cannot be opened: {error}.") from error
    return connection


def _postgres(url: str) -> Any:
    try:
        import psycopg
    except ImportError:
        raise StorageError(HINT) from None
    try:
        # A database in SQL_ASCII would hand out texts as bytes.
        return psycopg.connect(url, autocommit=True, client_encoding="UTF8")
    except psycopg.Error as error:
        raise StorageError(f"PostgreSQL cannot be reached: {str(error).strip()}.") from error
