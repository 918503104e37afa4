"""The one SQLite file of whoever keeps manifests and a ledger: queue, index, leaves, heads.

One file, so that one transaction can say that a job's manifest is signed, where it lies and which
leaf it is. A commit is on the disk when it returns. Leaves and heads only grow; SQLite itself
refuses anything else.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.attest.errors import NotThere, Unavailable

NAME = "attest.db"
LOCK = "attest.lock"
VERSION = 1
BUSY_S = 10.0

_SCHEMA = """
CREATE TABLE cursor (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER, hash BLOB,
    versions TEXT);
CREATE TABLE accepted (job_id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE queue (number INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL,
    session TEXT NOT NULL, state TEXT NOT NULL, accepted BLOB NOT NULL, ended BLOB NOT NULL,
    hash BLOB NOT NULL, versions TEXT NOT NULL, asked TEXT NOT NULL DEFAULT '{}',
    error TEXT NOT NULL DEFAULT '');
CREATE INDEX queue_state ON queue (state, number);
CREATE TABLE manifests (job_id TEXT PRIMARY KEY, tenant TEXT, backend_id TEXT, pqc_suite TEXT,
    crypto_mode TEXT, calibration_snapshot_id TEXT, em_method TEXT, signature TEXT, s3_path TEXT,
    created_at TEXT, bundle_path TEXT, envelope_digest TEXT NOT NULL, leaf INTEGER NOT NULL,
    logged_path TEXT NOT NULL DEFAULT '');
CREATE TABLE leaf (number INTEGER PRIMARY KEY, hash BLOB NOT NULL, kind TEXT NOT NULL,
    about TEXT NOT NULL, data BLOB NOT NULL, UNIQUE (kind, about));
CREATE TABLE node (level INTEGER, number INTEGER, hash BLOB NOT NULL, PRIMARY KEY (level, number))
    WITHOUT ROWID;
CREATE TABLE head (size INTEGER PRIMARY KEY, root BLOB NOT NULL, note TEXT);
CREATE TABLE cosignature (size INTEGER, witness TEXT, line TEXT NOT NULL,
    PRIMARY KEY (size, witness)) WITHOUT ROWID;
CREATE TABLE witness (name TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER leaf_only_grows BEFORE INSERT ON leaf
    WHEN NEW.number IS NOT (SELECT coalesce(max(number) + 1, 0) FROM leaf)
    BEGIN SELECT RAISE (ABORT, 'a leaf follows the last one'); END;
CREATE TRIGGER leaf_is_not_changed BEFORE UPDATE ON leaf
    BEGIN SELECT RAISE (ABORT, 'leaves are never changed'); END;
CREATE TRIGGER leaf_is_not_removed BEFORE DELETE ON leaf
    BEGIN SELECT RAISE (ABORT, 'leaves are never removed'); END;
CREATE TRIGGER head_stays BEFORE UPDATE ON head WHEN NEW.root IS NOT OLD.root
    OR NEW.size IS NOT OLD.size OR OLD.note IS NOT NULL
    BEGIN SELECT RAISE (ABORT, 'a head is signed once'); END;
CREATE TRIGGER head_is_not_removed BEFORE DELETE ON head
    BEGIN SELECT RAISE (ABORT, 'heads are never removed'); END;
"""


class Database:
    """An open database. Threads take turns: every use is inside `writing` or `reading`."""

    def __init__(self, folder: Path, *, write: bool = True) -> None:
        """Raises NotThere where there is none to be read, Unavailable where it cannot be used."""
        self.folder = folder
        self._turn = threading.RLock()
        self._lock_fd = -1
        path = folder / NAME
        if write:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock_fd = _locked(folder / LOCK)
        elif not path.exists():
            raise NotThere(f"{folder}: no manifests and no ledger are kept there.")
        mode = "rwc" if write else "ro"
        try:
            self._db = sqlite3.connect(
                f"file:{path}?mode={mode}",
                uri=True,
                timeout=BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            if write:
                self._prepare()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise Unavailable(f"{path} cannot be used: {error}.") from error
        if version != VERSION:
            raise Unavailable(f"{path} is of version {version}, and {VERSION} is known here.")

    def close(self) -> None:
        with self._turn:
            self._db.close()
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on the disk behind the block, or nothing.

        Raises Unavailable where the disk does not take it.
        """
        with self._turn:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                raise Unavailable(f"{self.folder / NAME} cannot be written: {error}.") from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For looking alone."""
        with self._turn:
            yield self._db

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if self._db.execute("PRAGMA user_version").fetchone() == (0,):
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")


def _locked(path: Path) -> int:
    """Nobody else's until it is closed. Raises Unavailable."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Unavailable(f"{path.parent}: another process keeps its ledger there.") from None
    return fd
