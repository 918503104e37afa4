"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.signer.errors import StorageFailed


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into StorageFailed."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}.") from error


def write(path: Path, data: bytes) -> None:
    """Put a file in place of another, for its owner alone, durably. Raises StorageFailed."""
    with storing(path):
        prepare(path, data)
        commit(path)


def prepare(path: Path, data: bytes) -> None:
    """Write what `commit` puts in place. Raises OSError, and then leaves nothing behind."""
    new = pending(path)
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        new.unlink(missing_ok=True)
        raise


def commit(path: Path) -> None:
    """Put in place what was prepared."""
    os.rename(pending(path), path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def pending(path: Path) -> Path:
    return path.with_name(path.name + ".new")
