"""The service manager's protocol: sockets handed in at start, and saying when we are ready.

After sd_listen_fds(3) and sd_notify(3); no library is needed for either.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

FIRST_FD = 3  # SD_LISTEN_FDS_START


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


def notify(environment: MutableMapping[str, str], state: str) -> None:
    """Tell the service manager, if there is one: `READY=1`, `STOPPING=1`. Never fails."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.send(state.encode())
        except OSError:
            return  # nobody listens there; the daemon serves all the same
