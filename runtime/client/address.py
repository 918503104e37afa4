"""Where the daemon listens. Reads the environment and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM_SOCKET = Path("/run/qmk/qsyscall.sock")
SOCKET_VARIABLE = "QMK_SOCKET"


def socket_path(socket: str | os.PathLike[str] | None = None) -> Path:
    """The socket named, else $QMK_SOCKET, else the user's own, else the system's.

    The user's own is $XDG_RUNTIME_DIR/qmk/qsyscall.sock; it is taken where it exists.
    """
    if socket is not None:
        return Path(socket)
    if named := os.environ.get(SOCKET_VARIABLE):
        return Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        own = Path(runtime) / "qmk" / "qsyscall.sock"
        if own.exists() or not SYSTEM_SOCKET.exists():
            return own
    return SYSTEM_SOCKET
