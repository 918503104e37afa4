"""The service manager's protocol: sockets handed in at start, and what it is told.

After sd_listen_fds(3), sd_notify(3), sd_pid_notify_with_fds(3) and sd_watchdog_enabled(3); no
library is needed for any. When what is told, is in `daemon.py` and `reloading.py`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from time import monotonic_ns

FIRST_FD = 3  # SD_LISTEN_FDS_START
STORED_NAME = "qmkd-listener"  # of a socket that we gave the manager to keep


class BadActivation(Exception):
    """The descriptors handed in are not what they should be."""


def taken_sockets(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets handed in for this process, if any.

    Takes the variables out of `environment`, so that no child takes them for its own.
    Raises BadActivation.
    """
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count or pid != str(os.getpid()):
        return []
    if not count.isdecimal() or not 1 <= int(count) <= 16:
        raise BadActivation(f"LISTEN_FDS is {count!r}, expected 1 to 16")
    return [_taken(FIRST_FD + index) for index in range(int(count))]


def _taken(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise BadActivation(f"descriptor {fd} is no socket: {error.strerror}") from error
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM or not listening:
        raise BadActivation(f"descriptor {fd} is not a listening Unix stream socket")
    return sock


def notify(environment: Mapping[str, str], *lines: str, fds: Sequence[int] = ()) -> bool:
    """Tell the service manager, if there is one: `READY=1`, `STOPPING=1`, ... Never fails.

    fds: for it to keep, with `FDSTORE=1`. Returns whether the message was taken.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            socket.send_fds(sock, ["\n".join(lines).encode()], list(fds))
        except OSError:
            return False  # nobody listens there; the daemon serves all the same
    return True


def store(environment: Mapping[str, str], listener: socket.socket) -> bool:
    """Have a listening socket kept for the next process of this service.

    Who connects meanwhile waits in it. The manager hands it back among `LISTEN_FDS`; it takes as
    many as the unit's `FileDescriptorStoreMax` says, and does not tell whether it did.
    """
    return notify(environment, "FDSTORE=1", f"FDNAME={STORED_NAME}", fds=[listener.fileno()])


def status_line(text: str) -> str:
    """A sentence for `systemctl status`."""
    return "STATUS=" + " ".join(text.split())


def reloading() -> tuple[str, str]:
    """That a reload begins now, as `Type=notify-reload` wants to hear it."""
    return ("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")


def stopping(seconds: float) -> tuple[str, str]:
    """That it stops, and may take so long from now, whatever the unit's own limit."""
    return ("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")


def watchdog_s(environment: Mapping[str, str]) -> float | None:
    """After how long a silence the manager kills this process; None where it does not watch it."""
    pid, usec = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or int(usec) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 1e6
