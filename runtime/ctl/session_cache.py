"""The session that `qmkctl` keeps from one invocation to the next, one file per daemon.

The file lies in $XDG_RUNTIME_DIR/qmkctl, else ~/.cache/qmkctl, readable by its owner alone. It is
locked while it is read and while a session is opened, so that two invocations share one.
A session id gives no authority to anybody but its own tenant, yet nobody else needs to see it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec

from runtime.client import Client, errors
from runtime.client.address import Address
from runtime.client.operations import PROGRAM_RIGHTS, TIMEOUT_S
from runtime.client.tracing import Spans
from runtime.ctl.exits import Exit, Trouble
from syscalls.rights import Right
from syscalls.session import NegotiateCaps, Session

FILE_BYTES_MAX = 64 * 1024
OWNER_ONLY = 0o600
RIGHTS = (
    *PROGRAM_RIGHTS,
    Right.CHECKPOINT,
    Right.MIGRATE,
    Right.DELEGATE,
    Right.DEBUG,
    Right.ADMIN,
)
"""What is asked for: all that a person at a terminal may want, as far as policy grants it."""

_decode = msgspec.json.Decoder(Session).decode


def cache_folder() -> Path:
    """Where the files are."""
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "qmkctl"
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "qmkctl"


def cache_file(address: Address) -> Path:
    """The file for one daemon; of one on another host, for one set of credentials."""
    if isinstance(address, Path):
        name = os.fsencode(address.absolute())
    else:
        name = f"{address} ".encode() + os.fsencode(address.credentials.absolute())
    return cache_folder() / f"{sha256(name).hexdigest()[:32]}.json"


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file, opened for reading and writing, and nobody else's until the block ends."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, OWNER_ONLY)
    except OSError as error:
        raise Trouble(
            Exit.USAGE, f"Cannot keep a session in {path}: {error.strerror}; --no-session-cache."
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        about = os.fstat(fd)
        if about.st_uid != os.getuid() or about.st_mode & 0o077:
            raise Trouble(Exit.USAGE, f"{path} is open to others; remove it and try again.")
        yield fd
    finally:
        os.close(fd)


def _read(fd: int) -> Session | None:
    try:
        return _decode(os.pread(fd, FILE_BYTES_MAX, 0))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # Empty when new; anything else there is as good as nothing.


@contextmanager
def open_client(
    address: Address,
    *,
    cached: bool,
    timeout: float | None = TIMEOUT_S,
    spans: Spans | None = None,
) -> Iterator[Client]:
    """A client whose session outlives it; a session of its own where it is not to be cached."""
    if not cached:
        with Client(address, timeout=timeout, rights=RIGHTS, tracer=spans) as client:
            yield client
        return
    with _locked(cache_file(address)) as fd:
        session = _living(address, _read(fd), timeout)
        if session is None:
            session = _keep(fd, address, RIGHTS, timeout)
    with Client(address, timeout=timeout, session=session, tracer=spans) as client:
        yield client


def reopen(address: Address, capabilities: Sequence[str]) -> Session:
    """Keep a session that holds these delegated capabilities too; the one before is closed."""
    with _locked(cache_file(address)) as fd:
        before = _living(address, _read(fd), TIMEOUT_S)
        session = _keep(fd, address, (*RIGHTS, *capabilities), TIMEOUT_S)
    if before is not None:
        with Client(address, session=before) as client:
            client.close_session()
    return session


def _keep(fd: int, address: Address, rights: Sequence[str], timeout: float | None) -> Session:
    """Open a session that outlives its client, and write it down."""
    with Client(address, timeout=timeout) as client:
        session = client.call(NegotiateCaps(requested=[str(right) for right in rights]))
    assert isinstance(session, Session)
    os.ftruncate(fd, 0)
    os.pwrite(fd, msgspec.json.encode(session), 0)
    return session


def _living(address: Address, session: Session | None, timeout: float | None) -> Session | None:
    """The session, if the kernel still knows it."""
    if session is None:
        return None
    with Client(address, timeout=timeout, session=session) as client:
        try:
            client.telemetry()
        except errors.Refused as refusal:
            if refusal.error.name in ("AUTH_FAILED", "SESSION_EXPIRED"):
                return None
            raise
    return session


def forget(address: Address) -> None:
    """Remove the file for this daemon, if there is one."""
    cache_file(address).unlink(missing_ok=True)
