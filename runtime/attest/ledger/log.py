"""The log as it is kept: leaves in a database, heads that are signed once, files for others.

What keeps it from ever signing two heads of one size: leaves are on the disk before a head is
written down, and a head's size and root are on the disk before the signer is asked. Who is killed
in between finds the same head again, and signs the same text. Before a head is signed, the roots of
the one before is computed anew from what the disk gives back, so that a damaged disk stops the log
instead of forking it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from runtime.attest.database import Database
from runtime.attest.errors import Forked, NotThere
from runtime.attest.ledger import notes
from runtime.attest.ledger.tree import (
    EMPTY_ROOT,
    consistency_proof,
    fold,
    inclusion_proof,
    leaf_hash,
    root_of,
)
from runtime.signer.api import Sign

TILE_BITS = 8
TILE_HASHES = 1 << TILE_BITS
LEAF_BYTES_MAX = 65535  # what an entry of a tile can be (C2SP tlog-tiles)
LOG_KEYS = ("log", "log-pqc")

_INSERT_LEAF = "INSERT INTO leaf (number, hash, kind, about, data) VALUES (?, ?, ?, ?, ?)"
_Row = tuple[int, bytes, str, str, bytes]


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged. about: of what, once only within its kind."""

    kind: str
    about: str
    data: bytes


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf and its place in the log."""

    number: int
    kind: str
    about: str
    data: bytes


class Log:
    """The log of one origin in a database. One process at a time may write it."""

    def __init__(self, database: Database, origin: str) -> None:
        self.database = database
        self.origin = origin
        with database.reading() as db:
            self._tails = _tails(db)

    @property
    def size(self) -> int:
        """Leaves there are, signed for or not."""
        with self.database.reading() as db:
            return _size(db)

    # --- writing --------------------------------------------------------------------------------

    def append(self, leaves: Sequence[Leaf]) -> None:
        """Add leaves, durably. One that is there already is left as it is."""
        assert all(len(each.data) <= LEAF_BYTES_MAX for each in leaves), "entries of tiles"
        with self.database.writing() as db:
            undo = [list(tail) for tail in self._tails]
            try:
                self.append_in(db, leaves)
            except BaseException:
                self._tails = undo
                raise

    def append_in(self, db: sqlite3.Connection, leaves: Sequence[Leaf]) -> list[int]:
        """The same as part of a transaction; their numbers. After one that failed: `reload`."""
        size = _size(db)
        rows = [
            (size + at, leaf_hash(each.data), each.kind, each.about, each.data)
            for at, each in enumerate(leaves)
        ]
        numbers = [row[0] for row in rows]
        db.execute("SAVEPOINT leaves")
        try:
            db.executemany(_INSERT_LEAF, rows)
        except sqlite3.IntegrityError:  # some are there already; look which
            db.execute("ROLLBACK TO leaves")
            numbers, rows = self._fresh(db, leaves, size)
            db.executemany(_INSERT_LEAF, rows)
        db.execute("RELEASE leaves")
        nodes = [node for row in rows for node in self._grow(row[0], row[1])]
        db.executemany("INSERT INTO node (level, number, hash) VALUES (?, ?, ?)", nodes)
        return numbers

    def _fresh(
        self, db: sqlite3.Connection, leaves: Sequence[Leaf], size: int
    ) -> tuple[list[int], list[_Row]]:
        """Numbers of all of these, and rows of those that are not there yet."""
        numbers: list[int] = []
        rows: list[_Row] = []
        met: dict[tuple[str, str], int] = {}
        for each in leaves:
            key = (each.kind, each.about)
            if key not in met:
                known = "SELECT number FROM leaf WHERE kind = ? AND about = ?"
                found = db.execute(known, key).fetchone()
                met[key] = size + len(rows) if found is None else int(found[0])
                if found is None:
                    rows.append((met[key], leaf_hash(each.data), *key, each.data))
            numbers.append(met[key])
        return numbers, rows

    def reload(self) -> None:
        """Read the tree's right edge again, after a transaction that was given up."""
        with self.database.reading() as db:
            self._tails = _tails(db)

    def sign_head(self, signer: Sign, timestamp: int, keys: Sequence[str] = LOG_KEYS) -> str:
        """The signed checkpoint of all leaves there are; it is signed if it was not.

        timestamp: seconds since 1970. Raises Forked where what is kept contradicts an earlier head.
        """
        with self.database.writing() as db:
            size = _size(db)
            found = db.execute("SELECT root, note FROM head WHERE size = ?", (size,)).fetchone()
            root = self.root(size)
            if found is not None and found[0] != root:
                raise Forked(f"The root of {size} leaves is not the one that was signed.")
            if found is not None and found[1] is not None:
                return str(found[1])
            self._check_last(db, size)
            if found is None:
                db.execute("INSERT INTO head (size, root) VALUES (?, ?)", (size, root))
        checkpoint = notes.Checkpoint(origin=self.origin, size=size, root=root)
        text = notes.sign(checkpoint, signer, keys, timestamp).text
        with self.database.writing() as db:
            db.execute("UPDATE head SET note = ? WHERE size = ? AND note IS NULL", (text, size))
        return text

    def cosigned(self, size: int, witness: str, line: str) -> None:
        """Keep a witness's line on the head of this size."""
        with self.database.writing() as db:
            db.execute("INSERT OR REPLACE INTO cosignature VALUES (?, ?, ?)", (size, witness, line))
            db.execute("INSERT OR REPLACE INTO witness VALUES (?, ?)", (witness, size))

    # --- reading --------------------------------------------------------------------------------

    def signed_size(self) -> int:
        """Of the largest head that was signed. Raises NotThere where none was."""
        with self.database.reading() as db:
            (size,) = db.execute("SELECT max(size) FROM head WHERE note IS NOT NULL").fetchone()
        if size is None:
            raise NotThere("No head of this log was signed yet.")
        return int(size)

    def checkpoint(self, size: int | None = None) -> str:
        """A signed checkpoint, with the lines of witnesses. Raises NotThere."""
        wanted = self.signed_size() if size is None else size
        with self.database.reading() as db:
            found = db.execute("SELECT note FROM head WHERE size = ?", (wanted,)).fetchone()
            lines = db.execute(
                "SELECT line FROM cosignature WHERE size = ? ORDER BY witness", (wanted,)
            ).fetchall()
        if found is None or found[0] is None:
            raise NotThere(f"No head of {wanted} leaves was signed.")
        return str(found[0]) + "".join(line for (line,) in lines)

    def witnessed_size(self, witness: str) -> int:
        """Of the largest head that this witness signed; 0 for none."""
        with self.database.reading() as db:
            found = db.execute("SELECT size FROM witness WHERE name = ?", (witness,)).fetchone()
        return 0 if found is None else int(found[0])

    def leaf(self, number: int) -> Logged:
        """Raises NotThere."""
        found = self._leaves("WHERE number = ?", number)
        if not found:
            raise NotThere(f"The log has no leaf {number}.")
        return found[0]

    def find(self, kind: str, about: str) -> Logged:
        """Raises NotThere."""
        found = self._leaves("WHERE kind = ? AND about = ?", kind, about)
        if not found:
            raise NotThere(f"The log has no {kind} of {about}.")
        return found[0]

    def leaves(self, begin: int, end: int) -> list[Logged]:
        """Those from begin up to end, as far as there are any."""
        return self._leaves("WHERE number >= ? AND number < ? ORDER BY number", begin, end)

    def root(self, size: int) -> bytes:
        return root_of(self.node, size)

    def inclusion(self, number: int, size: int) -> list[bytes]:
        return inclusion_proof(self.node, number, size)

    def consistency(self, old: int, new: int) -> list[bytes]:
        return consistency_proof(self.node, old, new)

    def node(self, level: int, number: int) -> bytes:
        """The hash of a complete subtree; a `tree.Reader`."""
        tile_level, within = divmod(level, TILE_BITS)
        return fold(self.hashes(tile_level, number << within, (number + 1) << within))

    def hashes(self, tile_level: int, begin: int, end: int) -> list[bytes]:
        """Hashes that stand in tiles of this level, from begin up to end."""
        bounds = (begin, end)
        with self.database.reading() as db:
            if tile_level == 0:
                rows = db.execute(
                    "SELECT hash FROM leaf WHERE number >= ? AND number < ? ORDER BY number", bounds
                ).fetchall()
            else:
                rows = db.execute(
                    "SELECT hash FROM node WHERE level = ? AND number >= ? AND number < ?"
                    " ORDER BY number",
                    (tile_level, *bounds),
                ).fetchall()
        if len(rows) != end - begin:
            raise Forked(f"Hashes of level {tile_level} from {begin} on are missing in the log.")
        return [row[0] for row in rows]

    def _leaves(self, where: str, *values: object) -> list[Logged]:
        with self.database.reading() as db:
            rows = db.execute(f"SELECT number, kind, about, data FROM leaf {where}", values)
            return [
                Logged(number=number, kind=kind, about=about, data=data)
                for number, kind, about, data in rows
            ]

    def _check_last(self, db: sqlite3.Connection, size: int) -> None:
        last = db.execute("SELECT size, root FROM head ORDER BY size DESC LIMIT 1").fetchone()
        if last is None:
            return
        if last[0] > size or self.root(last[0]) != last[1]:
            raise Forked(f"The head of {last[0]} leaves that was signed is not of this log.")

    def _grow(self, number: int, hashed: bytes) -> list[tuple[int, int, bytes]]:
        """Put a leaf's hash to the right edge; the nodes that it completes, above tiles."""
        made: list[tuple[int, int, bytes]] = []
        level, at, carried = 0, number, hashed
        while True:
            if len(self._tails) == level:
                self._tails.append([])
            tail = self._tails[level]
            assert len(tail) == at % TILE_HASHES, "the right edge is that of the log"
            tail.append(carried)
            if len(tail) < TILE_HASHES:
                return made
            carried, at, level = fold(tail), at >> TILE_BITS, level + 1
            tail.clear()
            made.append((level, at, carried))


def _size(db: sqlite3.Connection) -> int:
    (last,) = db.execute("SELECT max(number) FROM leaf").fetchone()
    return 0 if last is None else int(last) + 1


def _tails(db: sqlite3.Connection) -> list[list[bytes]]:
    """Of each level, the hashes of its tile that is not full."""
    size, level, tails = _size(db), 0, []
    while size:
        table = "leaf WHERE" if level == 0 else f"node WHERE level = {level} AND"
        begin = size - size % TILE_HASHES
        rows = db.execute(f"SELECT hash FROM {table} number >= ? ORDER BY number", (begin,))
        tails.append([row[0] for row in rows])
        size, level = size >> TILE_BITS, level + 1
    return tails


assert root_of(lambda *_: b"", 0) == EMPTY_ROOT
