"""Giving up the file system, the network and other processes by Landlock, without any library.

What a process gives up here it never gets back. Each version of the host kernel's interface adds
kinds of access that can be given up; all that the kernel at hand knows are. Constants are those of
`linux/landlock.h`; the versions are in the kernel's "Landlock: unprivileged access control".
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from typing import Final

# The same on all machines.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# Version -> kinds of access to files, of network traffic, and of reach beyond the sandbox. From
# each version on, besides those before: first of all execute, write, read, remove and make; then
# moving between directories (2), truncating (3), TCP (4), ioctl on devices (5), abstract Unix
# sockets and signals (6), Unix sockets by path (9), UDP (10).
_SINCE: Final = {
    1: ((1 << 13) - 1, 0, 0),
    2: (1 << 13, 0, 0),
    3: (1 << 14, 0, 0),
    4: (0, 0b11, 0),
    5: (1 << 15, 0, 0),
    6: (0, 0, 0b11),
    9: (1 << 16, 0, 0),
    10: (0, 0b1100, 0),
}


class NoLandlock(Exception):
    """Landlock cannot be put in force; the sentence says why."""


def abi() -> int:
    """The version of the host kernel's interface; 0 where it has none, or is told to have none."""
    found = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)
    return max(0, int(found))


def handled(version: int) -> tuple[int, int, int]:
    """All that a kernel of this version lets a process give up: of files, of network, of reach."""
    files = network = reach = 0
    for since, added in _SINCE.items():
        if since <= version:
            files, network, reach = files | added[0], network | added[1], reach | added[2]
    return files, network, reach


def restrict(readable: Iterable[str]) -> int:
    """Give up everything but reading these files and directories and what lies in them.

    Paths that do not exist are left out. Needs `no_new_privs`. Returns the version in force.
    Raises NoLandlock.
    """
    version = abi()
    if not version:
        raise NoLandlock("the host's kernel has no Landlock, or it is switched off")
    libc = _libc()
    # struct landlock_ruleset_attr grew with versions 4 and 6.
    size = 8 if version < 4 else 16 if version < 6 else 24
    given = struct.pack("=QQQ", *handled(version))[:size]
    rules = libc.syscall(_CREATE_RULESET, given, ctypes.c_size_t(size), 0)
    if rules < 0:
        raise NoLandlock(f"no rule set can be made: {_why()}")
    try:
        for path in readable:
            _allow_reads(rules, path)
        if libc.syscall(_RESTRICT_SELF, rules, 0):
            raise NoLandlock(f"the rules cannot be put in force: {_why()}")
    finally:
        os.close(rules)
    return version


def _allow_reads(rules: int, path: str) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return
        raise NoLandlock(f"{path}: {error.strerror}") from error
    try:
        access = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
        rule = struct.pack("=Qi", access, fd)
        if _libc().syscall(_ADD_RULE, rules, _RULE_PATH_BENEATH, rule, 0):
            raise NoLandlock(f"{path}: {_why()}")
    finally:
        os.close(fd)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _why() -> str:
    return os.strerror(ctypes.get_errno())
