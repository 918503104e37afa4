"""The tables, how they came to be version by version, and how the file is opened.

Every body is MessagePack behind its checksum, so that a flipped bit is found when it is read;
graphs have their digest, packed rows their leaves, audit entries their chain. The columns beside a
body are what is looked up by. Exactly one connection ever writes: SQLite before 3.51.3 can lose
what two of them checkpoint at once (its "WAL-reset" bug), and hosts have older ones.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final, Literal, get_args

Durability = Literal["power", "process"]
"""What an acknowledged row survives: the loss of power, or only the end of the process."""

DATABASE_NAME: Final = "qmkd.db"  # in the state directory
APPLICATION_ID: Final = 0x514D4B44  # "QMKD": whose file it is
WAL_BYTES_KEPT: Final = 64 << 20  # a write-ahead log that grew larger is cut back
WAL_PAGES_MAX: Final = 4096  # in it before they are moved into the file, by who commits
CACHE_BYTES: Final = 16 << 20  # of pages; what is inserted stays in it until it is committed
STATEMENTS_CACHED: Final = 256
BUSY_S: Final = 0.25  # waited for a lock, each time one is met
CHUNK_BYTES: Final = 1 << 20  # of packed rows, in one row of the table `rows`

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE counters (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            epoch INTEGER NOT NULL,
            numbered INTEGER NOT NULL,
            run BLOB NOT NULL,
            kept INTEGER NOT NULL
        )""",
        "INSERT INTO counters VALUES (1, 0, 0, x'', 0)",
        """CREATE TABLE sessions (
            id TEXT PRIMARY KEY,
            body BLOB NOT NULL
        ) WITHOUT ROWID""",
        # A tenant's graphs are its own even where the bytes are another's, or the time that a
        # submission takes would tell who else has submitted them (docs/decisions/0005).
        """CREATE TABLE graphs (
            id INTEGER PRIMARY KEY,
            tenant TEXT NOT NULL,
            digest BLOB NOT NULL,
            body BLOB NOT NULL,
            graph BLOB NOT NULL,
            UNIQUE (tenant, digest)
        )""",
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            graph INTEGER NOT NULL REFERENCES graphs (id),
            body BLOB NOT NULL
        )""",
        "CREATE INDEX jobs_by_graph ON jobs (graph)",
        """CREATE TABLE slices (
            job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
            first INTEGER NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (job, first)
        ) WITHOUT ROWID""",
        # Packed rows in pieces of at most CHUNK_BYTES; a piece belongs to one slice.
        """CREATE TABLE rows (
            job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
            first_byte INTEGER NOT NULL,
            bytes BLOB NOT NULL,
            UNIQUE (job, first_byte)
        )""",
        """CREATE TABLE ends (
            job INTEGER PRIMARY KEY REFERENCES jobs (number) ON DELETE CASCADE,
            body BLOB NOT NULL
        )""",
        """CREATE TABLE audit (
            number INTEGER PRIMARY KEY,
            body BLOB NOT NULL,
            hash BLOB NOT NULL
        )""",
        """CREATE TRIGGER audit_only_grows BEFORE INSERT ON audit
            WHEN NEW.number IS NOT (SELECT coalesce(max(number), 0) + 1 FROM audit)
            BEGIN SELECT RAISE (ABORT, 'an entry of the audit chain follows the last one'); END""",
        """CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
            BEGIN SELECT RAISE (ABORT, 'entries of the audit chain are never changed'); END""",
        """CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
            BEGIN SELECT RAISE (ABORT, 'entries of the audit chain are never deleted'); END""",
        # Not by job number: a checkpoint may outlive its job.
        """CREATE TABLE checkpoints (
            id TEXT PRIMARY KEY,
            tenant TEXT NOT NULL,
            job TEXT NOT NULL,
            body BLOB NOT NULL,
            state BLOB NOT NULL
        )""",
    ),
    (
        """CREATE TABLE capabilities (
            id TEXT PRIMARY KEY,
            body BLOB NOT NULL
        ) WITHOUT ROWID""",
    ),
    (
        "DROP TABLE checkpoints",  # in which nothing ever was
        """CREATE TABLE checkpoints (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            graph INTEGER NOT NULL REFERENCES graphs (id),
            body BLOB NOT NULL
        )""",
        "CREATE INDEX checkpoints_by_graph ON checkpoints (graph)",
        # What a checkpoint has of its job is its own, because it outlives the job.
        """CREATE TABLE checkpoint_slices (
            checkpoint INTEGER NOT NULL REFERENCES checkpoints (number) ON DELETE CASCADE,
            first INTEGER NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (checkpoint, first)
        ) WITHOUT ROWID""",
        """CREATE TABLE checkpoint_rows (
            checkpoint INTEGER NOT NULL REFERENCES checkpoints (number) ON DELETE CASCADE,
            first_byte INTEGER NOT NULL,
            bytes BLOB NOT NULL,
            UNIQUE (checkpoint, first_byte)
        )""",
        """CREATE TABLE snapshots (
            ticket INTEGER PRIMARY KEY,
            holder TEXT NOT NULL,
            body BLOB NOT NULL
        )""",
        "CREATE INDEX snapshots_by_holder ON snapshots (holder)",
        # In pieces of at most CHUNK_BYTES.
        """CREATE TABLE snapshot_bytes (
            ticket INTEGER NOT NULL REFERENCES snapshots (ticket) ON DELETE CASCADE,
            first_byte INTEGER NOT NULL,
            bytes BLOB NOT NULL,
            UNIQUE (ticket, first_byte)
        )""",
    ),
    (
        """CREATE TABLE handles (
            id TEXT PRIMARY KEY,
            body BLOB NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE channels (
            id TEXT PRIMARY KEY,
            body BLOB NOT NULL
        ) WITHOUT ROWID""",
    ),
    (
        "ALTER TABLE counters ADD COLUMN cycle INTEGER NOT NULL DEFAULT 0",
        """CREATE TABLE faults (
            id TEXT PRIMARY KEY,
            body BLOB NOT NULL
        ) WITHOUT ROWID""",
    ),
)
"""Statements that lead from version N to N + 1, for each N from 0. One transaction each."""

VERSION: Final = len(MIGRATIONS)


class CannotOpen(Exception):
    """The database cannot be used; the sentence says why, and what can be done."""


class Damaged(OSError):
    """Something in the database is not what was written there."""

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.EIO, sentence)


def open_to_write(path: Path, durability: Durability) -> sqlite3.Connection:
    """The one writing connection; the file is made, or brought up to date, if it must be.

    Raises CannotOpen. The connection may be used from any one thread at a time.
    """
    assert durability in get_args(Durability)
    try:
        if not path.exists():
            _make(path)
        # Transactions are begun and ended by statements of ours (isolation_level=None).
        db = sqlite3.connect(
            path,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS_CACHED,
        )
    except (OSError, sqlite3.Error) as error:
        raise CannotOpen(sentence(path, error)) from error
    try:
        _migrate(db, path)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX if durability == 'power' else 0}")
        db.execute(f"PRAGMA cache_size = -{CACHE_BYTES >> 10}")
        db.execute("PRAGMA temp_store = MEMORY")
        # What is freed need not be overwritten page by page; whoever reads the file reads all.
        db.execute("PRAGMA secure_delete = FAST")
    except sqlite3.Error as error:
        db.close()
        raise CannotOpen(sentence(path, error)) from error
    except BaseException:
        db.close()
        raise
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, not even a checkpoint. Raises CannotOpen."""
    try:
        db = sqlite3.connect(
            path.absolute().as_uri() + "?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None
        )
    except sqlite3.Error as error:
        raise CannotOpen(sentence(path, error)) from error
    try:
        _check_version(db, path)
    except sqlite3.Error as error:
        db.close()
        raise CannotOpen(sentence(path, error)) from error
    except CannotOpen:
        db.close()
        raise
    return db


def _make(path: Path) -> None:
    """An empty file that only its owner may read, in a folder that will not forget it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for folder in (path.parent, path.parent.parent):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the file to VERSION."""
    found = _check_version(db, path, fresh_allowed=True)
    if found == 0:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before there is any table
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise CannotOpen(f"{path}: its file system cannot hold a write-ahead log")
    for version in range(found, VERSION):
        db.execute("BEGIN EXCLUSIVE")
        for statement in MIGRATIONS[version]:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {version + 1}")
        db.execute("COMMIT")


def _check_version(db: sqlite3.Connection, path: Path, *, fresh_allowed: bool = False) -> int:
    """The file's version, if it is ours and one that we know. Raises CannotOpen."""
    (owner,) = db.execute("PRAGMA application_id").fetchone()
    (found,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    assert isinstance(found, int)
    if fresh_allowed and (owner, found, tables) == (0, 0, 0):
        return 0
    if owner != APPLICATION_ID:
        raise CannotOpen(f"{path}: this is not a database of qmkd")
    if found > VERSION:
        raise CannotOpen(
            f"{path}: written by a newer qmkd (schema {found}; this one knows {VERSION}). "
            "Run that one, or give this one another state directory."
        )
    if not fresh_allowed and found < VERSION:
        raise CannotOpen(
            f"{path}: of schema {found}, from before {VERSION}; qmkd brings it up to date at its "
            "next start."
        )
    return found


def sentence(path: Path, error: Exception) -> str:
    """Why the database cannot be used, for whoever runs the daemon."""
    if isinstance(error, sqlite3.Error) and what_failed(error) == "damaged":
        return (
            f"{path}: the database is damaged ({error}). `qmkctl db check` says where; put back a "
            "copy, or move it away to start with nothing."
        )
    if isinstance(error, sqlite3.Error) and what_failed(error) == "locked":
        return f"{path}: another process holds a lock on the database"
    return f"{path}: {error.strerror if isinstance(error, OSError) else error}"


_WHAT: Final = {
    sqlite3.SQLITE_FULL: "disk full",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_IOERR: "input/output error",
    sqlite3.SQLITE_CANTOPEN: "input/output error",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}


def what_failed(error: sqlite3.Error) -> str | None:
    """The world's reason for an error, as `KeepFailed` names it; None where it is our mistake."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else _WHAT.get(code & 0xFF)
