"""What is kept, for a command line: of a follower's socket, or of the folder that it keeps."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from runtime.attest.catalog import PUBLIC, read_database, read_trust
from runtime.attest.client import ask
from runtime.attest.errors import Forked, NotThere
from runtime.attest.keeping import Signed, Waiting, index_of, waiting_of
from runtime.attest.keys import Trust
from runtime.attest.ledger import proofs
from runtime.attest.ledger.log import Log, Logged
from runtime.attest.store.objects import Directory, Objects, open_objects


class Source(Protocol):
    """Every method may raise AttestError."""

    def envelope(self, job_id: str) -> bytes: ...
    def bundle(self, job_id: str, *, logged: bool) -> bytes: ...
    def listing(self) -> tuple[list[Signed], list[Waiting]]: ...
    def proof(self, job_id: str, number: int | None, size: int | None) -> str: ...
    def tail(self, last: int) -> tuple[int, list[Logged]]: ...
    def checkpoint(self, size: int | None) -> str: ...
    def trust(self) -> Trust: ...


class Asked:
    """A follower that runs. session_id: of whoever asks, where that is not the follower's user."""

    def __init__(self, path: Path, session_id: str = "") -> None:
        self._path, self._session = path, session_id

    def sign(self, job_id: str, mitigation: dict[str, str] | None) -> Signed:
        """Have it signed."""
        more = {} if mitigation is None else {"mitigation": mitigation}
        told = ask(self._path, "sign", job_id=job_id, session_id=self._session, **more)
        return msgspec.convert(told, Signed)

    def envelope(self, job_id: str) -> bytes:
        return str(self._of(job_id, "show")["envelope"]).encode()

    def bundle(self, job_id: str, *, logged: bool) -> bytes:
        return str(self._of(job_id, "show", logged=logged)["bundle"]).encode()

    def listing(self) -> tuple[list[Signed], list[Waiting]]:
        told = ask(self._path, "list")
        signed = msgspec.convert(told["signed"], list[Signed])
        return signed, msgspec.convert(told["waiting"], list[Waiting])

    def proof(self, job_id: str, number: int | None, size: int | None) -> str:
        more: dict[str, Any] = (
            {"size": size} if number is None else {"size": size, "number": number}
        )
        return str(self._of(job_id, "prove", **more)["proof"])

    def tail(self, last: int) -> tuple[int, list[Logged]]:
        told = ask(self._path, "tail", last=last)
        return int(told["size"]), msgspec.convert(told["leaves"], list[Logged])

    def checkpoint(self, size: int | None) -> str:
        return str(ask(self._path, "checkpoint", size=size)["checkpoint"])

    def trust(self) -> Trust:
        return msgspec.convert(ask(self._path, "trust"), Trust)

    def _of(self, job_id: str, method: str, **more: Any) -> Any:
        return ask(self._path, method, job_id=job_id, session_id=self._session, **more)


class Folder:
    """What a follower keeps, read beside it or without it. To be closed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._database = read_database(folder)
        self._log = Log(self._database, "")

    def close(self) -> None:
        self._database.close()

    @property
    def public(self) -> Path:
        """The log's files."""
        return self.path / PUBLIC

    def envelope(self, job_id: str) -> bytes:
        row = index_of(self._database, job_id)[0]
        data = _object(row.s3_path)
        if sha256(data).hexdigest() != row.envelope_digest:
            raise Forked(f"{row.s3_path} is not the manifest that was logged.")
        return data

    def bundle(self, job_id: str, *, logged: bool) -> bytes:
        row = index_of(self._database, job_id)[0]
        path = row.logged_path if logged else row.bundle_path
        if not path:
            raise NotThere(f"There is no such bundle of {job_id}.")
        return _object(path)

    def listing(self) -> tuple[list[Signed], list[Waiting]]:
        return index_of(self._database), waiting_of(self._database)

    def proof(self, job_id: str, number: int | None, size: int | None) -> str:
        wanted = self._log.find("manifest", job_id).number if number is None else number
        return proofs.prove(self._log, wanted, size).text

    def tail(self, last: int) -> tuple[int, list[Logged]]:
        size = self._log.size
        return size, self._log.leaves(max(0, size - last), size)

    def checkpoint(self, size: int | None) -> str:
        return self._log.checkpoint(size)

    def trust(self) -> Trust:
        return read_trust(self.path)


def _object(where: str) -> bytes:
    """An object by the URL under which it was put."""
    parts = urlsplit(where)
    store: Objects
    if parts.scheme == "file":
        path = Path(parts.path)
        store, name = Directory(path.parent.parent), f"{path.parent.name}/{path.name}"
    else:
        folder, _, tail = parts.path.strip("/").rpartition("/")
        folder, _, job = folder.rpartition("/")
        store = open_objects(f"s3://{parts.netloc}/{folder}")
        name = f"{job}/{tail}"
    return store.get(name)
