"""Backends, their calibration snapshots and reservations, in the database.

Of a snapshot all is kept, under its digest, because a decision that names it has to be replayable
for as long as the decision is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from runtime.scheduler.calibrations import Calibration, Snapshot, parse_time
from runtime.scheduler.deciding import Entry
from runtime.scheduler.errors import BadInput, Damaged, Unknown
from runtime.scheduler.jobs import (
    Backend,
    Reservation,
    State,
    check_backend,
    check_reservation,
)
from runtime.storage.database import Database

MIGRATIONS: Final = Path(__file__).parent / "migrations"
T = TypeVar("T")


def read(data: bytes, kind: type[T], what: str) -> T:
    """A file's JSON as one of ours. Raises BadInput, which names the place."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{what}: {error}.") from error


class Catalogue:
    """What the scheduler knows of machines."""

    def __init__(self, database: Database) -> None:
        """Raises StorageError."""
        database.migrate("scheduler", MIGRATIONS)
        self._database = database
        self._snapshots: dict[str, Snapshot] = {}

    def put(self, backend: Backend, calibration: Calibration | None) -> None:
        """Add a backend or change it, with a new snapshot or the one it had. Raises BadInput."""
        check_backend(backend)
        snapshot = None if calibration is None else Snapshot(calibration)
        if calibration is not None and calibration.backend != backend.backend_id:
            raise BadInput(f"This calibration is of {calibration.backend}.")
        with self._database.write("backends"):
            last = self._last(backend.backend_id) if snapshot is None else snapshot.digest
            self._database.execute(
                "INSERT INTO backends VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (backend_id) DO UPDATE SET vendor = excluded.vendor, "
                "region = excluded.region, cost_per_shot = excluded.cost_per_shot, "
                "availability = excluded.availability, capabilities = excluded.capabilities, "
                "last_calibration_id = excluded.last_calibration_id, body = excluded.body",
                (
                    backend.backend_id,
                    backend.vendor,
                    backend.region,
                    backend.cost_per_shot,
                    backend.availability,
                    _json({"crypto_modes": backend.crypto_modes, "gaps": backend.gaps}),
                    last,
                    msgspec.json.encode(backend),
                ),
            )
            if snapshot is not None:
                self._put_snapshot(snapshot)

    def _put_snapshot(self, snapshot: Snapshot) -> None:
        whole = snapshot.calibration
        readout = [[each.read_1_for_0, each.read_0_for_1] for each in whole.qubits]
        gates = {"one": [each.error for each in whole.qubits], "two": dict(whole.edges)}
        self._database.execute(
            "INSERT INTO calibration_snapshots VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO NOTHING",
            (
                snapshot.digest,
                whole.backend,
                parse_time(whole.taken_at).replace(tzinfo=None).isoformat(" ")
                if whole.taken_at
                else None,
                _json(gates),
                _json(readout),
                _json({"qubits": len(whole.qubits), "edges": len(whole.edges)}),
                msgspec.json.encode(whole),
            ),
        )

    def _last(self, backend_id: str) -> str | None:
        rows = self._database.execute(
            "SELECT last_calibration_id FROM backends WHERE backend_id = ?", (backend_id,)
        )
        return rows[0][0] if rows else None

    def backends(self) -> list[tuple[Backend, Snapshot | None]]:
        """All of them, by name, each with its last snapshot."""
        rows = self._database.execute(
            "SELECT body, last_calibration_id FROM backends ORDER BY backend_id"
        )
        return [
            (
                msgspec.json.decode(bytes(body), type=Backend),
                self.snapshot(last) if last else None,
            )
            for body, last in rows
        ]

    def snapshot(self, digest: str) -> Snapshot:
        """By its digest. Raises Unknown, and Damaged where it is not what the digest says."""
        found = self._snapshots.get(digest)
        if found is None:
            rows = self._database.execute(
                "SELECT body FROM calibration_snapshots WHERE id = ?", (digest,)
            )
            if not rows:
                raise Unknown(f"No calibration snapshot has the digest {digest}.")
            found = Snapshot(msgspec.json.decode(bytes(rows[0][0]), type=Calibration))
            if found.digest != digest:
                raise Damaged(f"The calibration snapshot {digest} is not what was written.")
            self._snapshots[digest] = found
        return found

    def reserve(self, reservation: Reservation) -> None:
        """Raises BadInput where it meets another of the backend, Unknown for no backend."""
        starts, ends = check_reservation(reservation)
        if self._last(reservation.backend_id) is None and not self._known(reservation.backend_id):
            raise Unknown(f"No backend is called {reservation.backend_id}.")
        with self._database.write("reservations"):
            for each in self.reservations():
                other = check_reservation(each)
                if each.backend_id == reservation.backend_id and (
                    starts < other[1] and other[0] < ends
                ):
                    raise BadInput(
                        f"{each.tenant} has {each.backend_id} from {each.starts_at} to "
                        f"{each.ends_at}."
                    )
            self._database.execute(
                "INSERT INTO reservations VALUES (?, ?, ?, ?, ?)",
                (
                    reservation.reservation_id,
                    reservation.backend_id,
                    starts.isoformat(),
                    ends.isoformat(),
                    msgspec.json.encode(reservation),
                ),
            )

    def _known(self, backend_id: str) -> bool:
        rows = self._database.execute("SELECT 1 FROM backends WHERE backend_id = ?", (backend_id,))
        return bool(rows)

    def reservations(self, since: datetime | None = None) -> list[Reservation]:
        """Those that end after the time, or all."""
        after = "" if since is None else since.astimezone(UTC).isoformat()
        rows = self._database.execute(
            "SELECT body FROM reservations WHERE ends_at > ? ORDER BY starts_at, id", (after,)
        )
        return [msgspec.json.decode(bytes(body), type=Reservation) for (body,) in rows]

    def entries(self, states: Mapping[str, State], now: datetime) -> list[Entry]:
        """What a decision needs. states: by backend; one that says nothing is idle.

        Raises Unknown for a state of a backend that nobody knows.
        """
        known = self.backends()
        names = {backend.backend_id for backend, _ in known}
        strange = sorted(set(states) - names)
        if strange:
            raise Unknown(
                f"No backend is called {strange[0]}; qmkctl schedule backends lists them."
            )
        reserved = self.reservations(now)
        return [
            Entry(
                backend,
                snapshot,
                states.get(backend.backend_id, State()),
                tuple(each for each in reserved if each.backend_id == backend.backend_id),
            )
            for backend, snapshot in known
        ]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class Listed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of backends: what is said of each, and its calibration where there is one."""

    backend: Backend
    calibration: Calibration | None = None


def put_all(catalogue: Catalogue, listed: Iterable[Listed]) -> int:
    """How many were put. Raises BadInput."""
    count = 0
    for each in listed:
        catalogue.put(each.backend, each.calibration)
        count += 1
    return count
