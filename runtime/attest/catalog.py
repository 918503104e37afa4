"""What is kept of manifests and the ledger, for whoever may read the folder they are kept in."""

from __future__ import annotations

from pathlib import Path

import msgspec

from runtime.attest.database import Database
from runtime.attest.errors import NotAuthentic, NotThere
from runtime.attest.keys import Trust
from runtime.attest.ledger.tiles import write_durably

TRUST = "trust.json"
PUBLIC = "public"
OBJECTS = "objects"
SOCKET = "attest.sock"


def read_trust(path: Path) -> Trust:
    """The public keys in a file, or in a folder that manifests are kept in."""
    file = path / TRUST if path.is_dir() else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=Trust)
    except FileNotFoundError:
        raise NotThere(f"{file}: no public keys are there; --keys names a file of them.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotAuthentic(f"{file} is no file of public keys: {error}.") from error


def write_trust(folder: Path, trust: Trust) -> None:
    """Beside what they verify, for a start; whoever verifies should have them from elsewhere."""
    data = msgspec.json.format(msgspec.json.encode(trust), indent=1)
    if not (folder / TRUST).exists() or (folder / TRUST).read_bytes() != data:
        write_durably(folder / TRUST, data)


def read_database(folder: Path) -> Database:
    """For reading, beside whoever keeps it."""
    return Database(folder, write=False)
