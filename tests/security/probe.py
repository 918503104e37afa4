"""A worker that tries to get out: `python -m tests.security.probe`, with a worker's command line.

It is the real worker, in its real sandbox, served by its real loop; only what it does when it is
asked to verify a graph is another: the graph is the name of one of these attempts, with an
argument. The answer says whether that was done, or how it was refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Final

from qmkd.engine import syscall_filter, worker
from qmkd.engine.messages import Answer, Check, Failed

DONE: Final = "done"
_libc: Final = ctypes.CDLL(None, use_errno=True)
_column: Final = ("x86_64", "aarch64").index(platform.machine())
_KINDS: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK)


def call(name: str, *arguments: object) -> None:
    """A system call that no library makes for us. Raises OSError."""
    number = (syscall_filter.ALLOWED | syscall_filter.READS | syscall_filter.FATAL)[name][_column]
    if _libc.syscall(number, *arguments) == -1:
        raise OSError(ctypes.get_errno(), name)


def own_connection() -> int:
    """The descriptor of the worker's socket."""
    return int(sys.argv[1])


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)


def listen(_: str) -> None:
    with socket.socket(socket.AF_UNIX, fileno=os.dup(own_connection())) as own:
        own.listen()


def every_kind_of_socket(_: str) -> None:
    """Done if any is to be had."""
    for kind in _KINDS:
        with contextlib.suppress(PermissionError):
            socket.socket(kind, socket.SOCK_DGRAM).close()
            return
    raise PermissionError(errno.EPERM, "each of them")


def fill_descriptors(_: str) -> None:
    held: list[int] = []
    try:
        while len(held) < 1 << 20:
            held.append(os.dup(1))
    finally:
        for fd in held:
            os.close(fd)


def fill_memory(size: str) -> None:
    held = bytearray(int(size))
    del held


def fill_file(size: str) -> None:
    fd = os.memfd_create("large")
    try:
        os.pwrite(fd, b"x", int(size))
    finally:
        os.close(fd)


def make_code(_: str) -> None:
    """Memory that is written and then run."""
    size, at_once = 4096, 0x22  # MAP_PRIVATE | MAP_ANONYMOUS
    _libc.mmap.restype = ctypes.c_void_p
    place = _libc.mmap(None, ctypes.c_size_t(size), 3, at_once, -1, ctypes.c_long(0))
    if _libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(size), 5):
        raise OSError(ctypes.get_errno(), "mprotect")


def raise_limit(_: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard + (1 << 40)))


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def write(path: str) -> None:
    with open(path, "wb") as file:
        file.write(b"x")


def start_thread(_: str) -> None:
    try:
        threading.Thread(target=print).start()
    except RuntimeError as refused:
        raise OSError(errno.EPERM, str(refused)) from refused


def prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


ATTEMPTS: Final[dict[str, Callable[[str], object]]] = {
    # Files.
    "read": read,
    "list": os.listdir,
    "write": write,
    "append": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_APPEND)),
    "truncate": lambda path: os.truncate(path, 0),
    "remove": os.unlink,
    "rename": lambda path: os.rename(path, path + "2"),
    "link": lambda path: os.symlink("/", path + "2"),
    "make folder": lambda path: os.mkdir(path + "2"),
    "make pipe": lambda path: os.mkfifo(path + "2"),
    "change mode": lambda path: os.chmod(path, 0o777),
    "change owner": lambda path: os.chown(path, 0, 0),
    "change times": os.utime,
    "set attribute": lambda path: os.setxattr(path, "user.x", b"x"),
    "import": __import__,
    # The network, and whoever listens.
    "every kind of socket": every_kind_of_socket,
    "pair of sockets": lambda _: socket.socketpair(),
    "connect": connect,
    "listen on its own": listen,
    "have signals sent": lambda pid: fcntl.fcntl(own_connection(), fcntl.F_SETOWN, int(pid)),
    # Other processes.
    "fork": lambda _: os.fork() or os._exit(0),
    "start a thread": start_thread,
    "start a program": lambda _: subprocess.run(["/bin/true"], check=True),
    "signal": lambda pid: os.kill(int(pid), 0),
    "signal a thread": lambda pid: _tgkill(int(pid)),
    "hold a process": lambda pid: os.pidfd_open(int(pid)),
    "bind to a core": lambda pid: os.sched_setaffinity(int(pid), {0}),
    "change priority": lambda pid: os.setpriority(os.PRIO_PROCESS, int(pid), 19),
    "limit another": lambda pid: resource.prlimit(int(pid), resource.RLIMIT_CORE, (0, 0)),
    # Itself.
    "become root": lambda _: os.setresuid(0, 0, 0),
    "become dumpable": lambda _: prctl(4, 1),
    "outlive the daemon": lambda _: prctl(1, 0),
    "leave its group": lambda _: os.setsid(),
    "raise a limit": raise_limit,
    "fill memory": fill_memory,
    "fill descriptors": fill_descriptors,
    "fill a memory file": fill_file,
    "make code": make_code,
    # What no library asks for.
    "execve": lambda _: os.execv("/bin/true", ["true"]),
    "ptrace": lambda pid: call("ptrace", 16, int(pid), None, None),
    "process_vm_readv": lambda pid: call("process_vm_readv", int(pid), None, 0, None, 0, 0),
    "mount": lambda _: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "unshare": lambda _: call("unshare", 0x10000000),
    # What a worker needs, so that a sandbox which refuses everything passes no test.
    "answer": lambda _: None,
    "make a memory file": lambda _: os.close(os.memfd_create("small", os.MFD_ALLOW_SEALING)),
}


def _tgkill(pid: int) -> None:
    if _libc.syscall((234, 131)[_column], pid, pid, 0) == -1:
        raise OSError(ctypes.get_errno(), "tgkill")


def outcome(asked: bytes) -> str:
    """`done`, or the name of the error."""
    name, _, argument = asked.decode().partition(" | ")
    try:
        ATTEMPTS[name](argument)
    except MemoryError:
        return "ENOMEM"
    except ImportError as missing:
        return f"ImportError: {missing}"
    except ValueError as invalid:
        return f"ValueError: {invalid}"
    except OSError as refused:
        return errno.errorcode[refused.errno or 0]
    return DONE


def answer(check: Check) -> Answer:
    return Failed(check.ticket, "internal", outcome(check.graph))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    worker._check = answer
    sys.exit(worker.main())
