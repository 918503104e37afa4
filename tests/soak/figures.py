"""What one moment of a daemon and its workers is like: memory, descriptors, store.

Everything is read from `/proc` and from the daemon's own scrape, never through the interface under
load. Workers let nobody look into them but root; what cannot be read is None.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

import msgspec

from tests.daemon import Daemon

SCRAPE_S_MAX = 20.0
SCRAPED = {
    "entries": "qmkd_audit_entries",
    "store_bytes": "qmkd_store_bytes",
    "reloads": "qmkd_reloads_total",
    "connections": "qmkd_connections",
    "sessions": "qmkd_sessions",
    "worker_ends": "qmkd_worker_ends_total",
}
FINISHED = "qmkd_jobs_ended_total"


class Process(msgspec.Struct, frozen=True):
    """Bytes resident, bytes where what is shared counts in shares, descriptors."""

    rss: int
    pss: int | None
    fds: int | None


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """memory_files: bytes of the files without a name that the daemon holds open.

    entries: of the audit chain. store_bytes: the database with its log. worker_ends: workers that
    were killed or ended. jobs: that have ended.
    """

    daemon: Process
    workers: list[Process]
    memory_files: int | None
    entries: int
    store_bytes: int
    reloads: int
    connections: int
    sessions: int
    jobs: int
    worker_ends: int = 0


def moment(daemon: Daemon) -> Moment:
    """The daemon as it is now. Raises OSError where it does not answer a scrape."""
    scraped = scrape(scrapes(daemon))
    workers = []
    for pid in daemon.children():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # replaced just now
            workers.append(process(pid))
    return Moment(
        daemon=process(daemon.process.pid),
        workers=workers,
        memory_files=memory_files(daemon.process.pid),
        jobs=int(sum(value for key, value in scraped.items() if key.startswith(FINISHED))),
        **{name: int(scraped.get(series, 0)) for name, series in SCRAPED.items()},
    )


def process(pid: int) -> Process:
    """Raises FileNotFoundError or ProcessLookupError once it has ended."""
    home = Path(f"/proc/{pid}")
    pages = int((home / "statm").read_text().split()[1])
    try:
        lines = (home / "smaps_rollup").read_text().splitlines()
        pss = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        fds = len(os.listdir(home / "fd"))
    except PermissionError:
        pss, fds = None, None
    return Process(pages * os.sysconf("SC_PAGE_SIZE"), pss, fds)


def memory_files(pid: int) -> int | None:
    """Bytes of memfds that a process holds open, each counted once."""
    found: dict[int, int] = {}
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(entry).startswith("/memfd:"):
                    about = entry.stat()
                    assert stat.S_ISREG(about.st_mode), entry
                    found[about.st_ino] = about.st_size
    except PermissionError:
        return None
    return sum(found.values())


def scrapes(daemon: Daemon) -> Path:
    """Where it takes scrapes."""
    return daemon.socket.with_name(f"{daemon.socket.stem}-metrics.sock")


def scrape(path: Path) -> dict[str, float]:
    """Every series of the daemon, with its labels as they are written."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(SCRAPE_S_MAX)
        line.connect(str(path))
        line.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := line.recv(1 << 16):
            answer += chunk
    _, _, body = answer.decode().partition("\r\n\r\n")
    rows = (line.rpartition(" ") for line in body.splitlines() if line and line[0] != "#")
    return {series: float(value) for series, _, value in rows}
