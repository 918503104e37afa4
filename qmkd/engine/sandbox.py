"""What a worker gives up for good, once it is warm and before it serves anybody.

Privileges, its user (under a root daemon), the network, the file system but for reading the
installed code, all system calls but a list, and resources beyond its share. The kernels of hosts
differ: what could not be given up is said with its reason, and the daemon decides what that means.
`syscall_filter.py` and `landlock.py` have the two mechanisms; `docs/operating.md` what operators
are told; the tests that try to get out are in `tests/security`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, NoReturn, get_args

from qmkd.core.ports import Sandbox
from qmkd.engine import landlock, syscall_filter

Level = Literal["off", "best", "require"]
LEVELS: Final = get_args(Level)

NEEDED: Final = ("privileges", "user", "limits", "files", "system calls")
"""What `require` insists on. Namespaces are beyond it: service managers may rightly refuse them,
and no socket can be made without."""

DESCRIPTORS_MAX: Final = 1024
THREADS_ENV: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Read when numerical libraries are loaded, which may be later."""

_OURS: Final = ("qmkd", "qvm", "syscalls")
_INSTALLED: Final = ("site-packages", "dist-packages")
_SYSTEM: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")

# linux/prctl.h, linux/sched.h, linux/capability.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, _PR_SET_MDWE = 24, 47, 4, 65
_PR_MDWE_REFUSE_EXEC_GAIN: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAPABILITIES_MAX: Final = 64
_NEW_USER, _NEW_NETWORK, _NEW_IPC, _NEW_NAMES = 0x10000000, 0x40000000, 0x08000000, 0x04000000


class Confinement:
    """The way into the sandbox, in the order of its methods.

    level: `best` gives up what this host lets it, `require` all files too, `off` nothing. ids: user
    and group to become where the process is root's; None stays.
    """

    def __init__(self, level: Level, ids: tuple[int, int] | None) -> None:
        self._level: Level = level
        self._uid = os.geteuid()
        self._ids = ids
        self._landlock = landlock.abi() > 0
        self._places = code_places()
        self._threads = 1
        self._in_force: dict[str, str] = {}
        self._lacking: dict[str, str] = {}

    def begin(self, keep: tuple[int, ...]) -> None:
        """While nothing is loaded: close all descriptors but these, leave the host's network."""
        if self._level == "off":
            return
        _close_all_but(keep)
        self._record("namespaces", self._leave_namespaces)

    @property
    def reads_code(self) -> bool:
        """Whether code may still be loaded later. If not, all of it has to be there before."""
        return self._level == "off" or (self._level == "best" and self._landlock)

    def finish(self) -> Sandbox:
        """Give up the rest. Returns what is in force and what is not."""
        if self._level == "off":
            return Sandbox({}, dict.fromkeys(("namespaces", *NEEDED), "worker_sandbox is off"))
        self._threads = len(os.listdir("/proc/self/task"))
        os.chdir("/")
        os.umask(0o077)
        for name in set(os.environ) - set(THREADS_ENV):
            del os.environ[name]
        # Each needs what those before it leave.
        for capability in range(_CAPABILITIES_MAX):
            _libc().prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)  # where it may
        self._record("limits", self._bound)
        self._record("user", self._change_user)
        self._record("privileges", self._give_up_privileges)
        self._record("files", self._close_files)
        self._record("system calls", self._filter)
        return Sandbox(self._in_force, self._lacking)

    def _record(self, name: str, step: Callable[[], str]) -> None:
        try:
            self._in_force[name] = step()
        except (_Cannot, landlock.NoLandlock, syscall_filter.NoFilter) as cannot:
            self._lacking[name] = str(cannot)

    # --- the parts; each says what is in force now ------------------------------------------------

    def _leave_namespaces(self) -> str:
        wanted = _NEW_NETWORK | _NEW_IPC | _NEW_NAMES
        # In a user namespace of its own it could not become another user of the host's.
        whose = 0 if self._uid == 0 else _NEW_USER
        if _libc().unshare(wanted | whose):
            _cannot("the host lets it have no namespaces of its own")
        return ("user, " if whose else "") + "network, ipc and uts of its own"

    def _bound(self) -> str:
        limits = {
            "core": (resource.RLIMIT_CORE, 0),
            "processes": (resource.RLIMIT_NPROC, 0),
            "descriptors": (resource.RLIMIT_NOFILE, DESCRIPTORS_MAX),
            "locked memory": (resource.RLIMIT_MEMLOCK, 0),
            "message queues": (resource.RLIMIT_MSGQUEUE, 0),
            # Results and snapshots are memory files.
            "file bytes": (resource.RLIMIT_FSIZE, _host_memory_bytes()),
        }
        said = []
        for name, (which, wanted) in limits.items():
            hard = resource.getrlimit(which)[1]
            limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(which, (limit, limit))
            said.append(f"{name} {limit}")
        memory = resource.getrlimit(resource.RLIMIT_AS)[0]
        said.append("address space " + ("unlimited" if memory < 0 else str(memory)))
        return ", ".join(said)

    def _change_user(self) -> str:
        if self._uid != 0:
            return f"uid {self._uid}, the daemon's"
        if self._ids is None:
            raise _Cannot("it stays root: no user was named for it")
        uid, gid = self._ids
        if uid == 0:
            raise _Cannot("it stays root: so it was configured")
        try:
            os.setgroups([])
            closed = _unreadable(self._places, uid, gid) if self.reads_code else ""
            if closed:
                raise _Cannot(f"it stays root: uid {uid} may not read the code in {closed}")
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        except OSError as error:
            raise _Cannot(f"it stays root: {error.strerror}") from error
        return f"uid {uid}, gid {gid}"

    def _give_up_privileges(self) -> str:
        libc, said = _libc(), ["no new privileges", "no capabilities", "not dumpable"]
        libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        held = (ctypes.c_uint32 * 6)()
        # A service manager that has taken them away may also refuse whoever sets any.
        if libc.capget(header, held) or (any(held) and libc.capset(header, type(held)())):
            _cannot("capabilities cannot be given up")
        die_with_the_daemon()
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0):
            _cannot("no_new_privs cannot be set")
        # Since Linux 6.3.
        if not libc.prctl(_PR_SET_MDWE, ctypes.c_ulong(_PR_MDWE_REFUSE_EXEC_GAIN), 0, 0, 0):
            said.append("no memory that becomes code")
        return ", ".join(said)

    def _close_files(self) -> str:
        self._one_thread()
        if self.reads_code:
            version = landlock.restrict(self._places)
            return f"installed code, to read; Landlock ABI {version}"
        with contextlib.suppress(landlock.NoLandlock):
            return f"none; Landlock ABI {landlock.restrict(())}"
        if self._level == "require":
            raise _Cannot("the host's kernel has no Landlock, or it is switched off")
        return "none can be opened, by the filter of system calls alone"

    def _filter(self) -> str:
        self._one_thread()
        return f"{syscall_filter.install(self.reads_code)} allowed"

    def _one_thread(self) -> None:
        """What is given up so holds for the thread that gives it up."""
        if self._threads > 1:
            raise _Cannot(f"{self._threads - 1} threads that a library started would stay free")


class _Cannot(Exception):
    """A part of the sandbox is not to be had; the sentence says why."""


def _cannot(what: str) -> NoReturn:
    raise _Cannot(f"{what}: {os.strerror(ctypes.get_errno())}")


def die_with_the_daemon() -> None:
    """Be killed when the parent ends, and be nobody's to look into.

    Again after each change of user or of privileges, which resets both.
    """
    parent = os.getppid()
    for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_DUMPABLE, 0)):
        if _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0):
            raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")
    if os.getppid() != parent:
        sys.exit(0)  # The daemon ended before it could be watched.


def code_places() -> list[str]:
    """Where modules are loaded from: Python's own, those installed, ours, the system's libraries.

    Of a checkout only our packages, not all that may lie beside them.
    """
    installed = [place for place in sys.path if Path(place).name in _INSTALLED]
    own = [str(Path(os.__file__).parent), f"{sys.base_prefix}/lib"]
    return sorted({*installed, *own, *_package_places(), *_SYSTEM})


def _package_places() -> Iterator[str]:
    for name in _OURS:
        file = sys.modules[name].__file__
        assert file is not None, f"{name} is a package"
        yield str(Path(file).parent)


def _unreadable(places: list[str], uid: int, gid: int) -> str:
    """A place of code that this user may not read; empty where there is none. As root only."""
    os.setegid(gid)
    os.seteuid(uid)
    try:
        for place in places:
            # Asked as root, whether it exists at all; as the other, whether it may be listed.
            if not os.access(place, os.R_OK, effective_ids=True) and os.access(place, os.F_OK):
                return place
    finally:
        os.seteuid(0)
        os.setegid(0)
    return ""


def _close_all_but(keep: tuple[int, ...]) -> None:
    """Standard streams stay as well."""
    first = 3
    for fd in sorted(keep):
        os.closerange(first, fd)
        first = max(first, fd + 1)
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def _host_memory_bytes() -> int:
    """With what may be swapped out. By sysinfo(2): service managers may hide /proc/meminfo."""
    info = (ctypes.c_ulong * 16)()
    if _libc().sysinfo(ctypes.byref(info)):
        raise OSError(ctypes.get_errno(), "sysinfo")
    total, swap, unit = info[4], info[8], info[13] & 0xFFFFFFFF
    return int((total + swap) * unit)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
