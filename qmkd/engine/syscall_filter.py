"""The system calls that a worker may still make, as a seccomp filter, without any library.

A list of what is allowed; everything else fails with EPERM, so that a library which merely asks is
told no. What no library asks for, and only a process that somebody else steers would, ends it:
starting programs, looking into other processes, changing the host. Numbers newer than this list
give ENOSYS, which the C library takes for an older kernel. Numbers are the host kernel's, of
`asm/unistd_64.h` (x86-64) and `asm-generic/unistd.h` (aarch64); no other machine is known here.
What is installed beside the filter is in `sandbox.py`; why it is so, in docs/decisions.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
import termios
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

Numbers = tuple[int | None, int | None]
"""On x86-64 and on aarch64; None where there is no such call."""

# Allowed for some arguments only; see `_conditions`.
_OPENAT: Final = (257, 56)
_NEWFSTATAT: Final = (262, 79)
_IOCTL: Final = (16, 29)
_FCNTL: Final = (72, 25)
_TGKILL: Final = (234, 131)
_PRLIMIT64: Final = (302, 261)
# Its flags lie in memory, where no filter looks; the C library then makes the older call.
_CLONE3: Final = 435

# What computing, answering, and handing over memory files takes.
ALLOWED: Final[dict[str, Numbers]] = {
    "recvmsg": (47, 212), "sendto": (44, 206), "sendmsg": (46, 211), "recvfrom": (45, 207),
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66),
    "pread64": (17, 67), "pwrite64": (18, 68), "close": (3, 57), "lseek": (8, 62),
    "fstat": (5, 80), "ftruncate": (77, 46), "fallocate": (285, 47), "fadvise64": (221, 223),
    "dup": (32, 23), "memfd_create": (319, 279), "poll": (7, None), "ppoll": (271, 73),
    "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226),
    "madvise": (28, 233), "brk": (12, 214), "msync": (26, 227),
    "futex": (202, 98), "sched_yield": (24, 124), "restart_syscall": (219, 128),
    "exit": (60, 93), "exit_group": (231, 94), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None),
    "getrusage": (98, 165), "times": (100, 153), "getpid": (39, 172), "gettid": (186, 178),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "getrandom": (318, 278), "getrlimit": (97, 163), "sysinfo": (99, 179), "uname": (63, 160),
    "sched_getaffinity": (204, 123), "getcpu": (309, 168), "umask": (95, 166),
    "set_robust_list": (273, 99), "rseq": (334, 293), "getcwd": (79, 17),
}  # fmt: skip

# What importing a module takes besides; Landlock says which files.
READS: Final[dict[str, Numbers]] = {
    "newfstatat": _NEWFSTATAT, "statx": (332, 291), "stat": (4, None), "lstat": (6, None),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78), "getdents64": (217, 61),
}  # fmt: skip

FATAL: Final[dict[str, Numbers]] = {
    "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "kcmp": (312, 272), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsmount": (432, 432),
    "mount_setattr": (442, 442), "setns": (308, 268), "unshare": (272, 97),
    "open_by_handle_at": (304, 265), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "quotactl": (179, 60), "iopl": (172, None), "ioperm": (173, None),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "sethostname": (170, 161),
    "setdomainname": (171, 162),
}  # fmt: skip

NEWEST: Final = 470  # of Linux 6.18; what is newer is not known to have been thought about
WRITES: Final = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)
AT_EMPTY_PATH: Final = 0x1000
_FCNTLS: Final = (
    fcntl.F_DUPFD, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL,
    fcntl.F_DUPFD_CLOEXEC, fcntl.F_ADD_SEALS, fcntl.F_GET_SEALS,
)  # fmt: skip
_IOCTLS: Final = (termios.TCGETS, termios.FIOCLEX)

# linux/audit.h, linux/filter.h, linux/seccomp.h, linux/prctl.h
_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32_BIT: Final = 0x40000000
_LOAD, _EQUAL, _ABOVE, _AND, _RETURN = 0x20, 0x15, 0x25, 0x54, 0x06
_AT_NUMBER, _AT_MACHINE, _AT_ARGUMENTS = 0, 4, 16
_KILL, _FAIL, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
INSTRUCTIONS_MAX: Final = 4096

assert not set(ALLOWED) & set(FATAL)
assert not set(READS) & set(FATAL)


class NoFilter(Exception):
    """No filter can be put in force here; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The call is allowed where argument `place`, its bits of `mask`, is one of `values`."""

    number: int
    place: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF


def program(machine: str, pid: int, reads: bool) -> bytes:
    """The filter for a process, as the host's kernel runs it: instructions of 8 bytes.

    machine: as `platform.machine` names it. reads: files may be opened to be read. Raises NoFilter
    for a machine that is not known here.
    """
    if machine not in _MACHINES:
        raise NoFilter(f"the numbers of system calls on {machine} are not known here")
    column, mark = _MACHINES[machine]
    code = [
        (_LOAD, 0, 0, _AT_MACHINE),
        (_EQUAL, 1, 0, mark),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _AT_NUMBER),
    ]
    allowed = ALLOWED | READS if reads else ALLOWED
    for numbers, verdict in ((allowed, _ALLOW), (FATAL, _KILL)):
        for each in numbers.values():
            if (number := each[column]) is not None:
                code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, verdict)]
    for condition in _conditions(column, pid, reads):
        code += _conditional(condition)
    code += [
        (_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _FAIL | errno.ENOSYS),
        (_ABOVE, 0, 1, _X32_BIT - 1),
        (_RETURN, 0, 0, _KILL),
        (_ABOVE, 0, 1, NEWEST),
        (_RETURN, 0, 0, _FAIL | errno.ENOSYS),
        (_RETURN, 0, 0, _FAIL | errno.EPERM),
    ]
    assert len(code) <= INSTRUCTIONS_MAX
    return b"".join(struct.pack("=HBBI", *each) for each in code)


def _conditions(column: int, pid: int, reads: bool) -> Iterable[Condition]:
    yield Condition(_FCNTL[column], 1, _FCNTLS)
    yield Condition(_IOCTL[column], 1, _IOCTLS)
    yield Condition(_TGKILL[column], 0, (pid,))  # a process may end itself
    yield Condition(_PRLIMIT64[column], 0, (0, pid))
    if reads:
        yield Condition(_OPENAT[column], 2, (os.O_RDONLY,), WRITES)
    else:
        # The C library asks for the size of an open file in this way.
        yield Condition(_NEWFSTATAT[column], 3, (AT_EMPTY_PATH,), AT_EMPTY_PATH)


def _conditional(condition: Condition) -> list[tuple[int, int, int, int]]:
    """Load the argument's lower half, which is all that the kernel takes of an `int`."""
    tests = []
    for value in condition.values:
        tests += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    body = [
        (_LOAD, 0, 0, _AT_ARGUMENTS + 8 * condition.place),
        (_AND, 0, 0, condition.mask),
        *tests,
        (_RETURN, 0, 0, _FAIL | errno.EPERM),
    ]
    return [(_EQUAL, 0, len(body), condition.number), *body]


def install(reads: bool) -> int:
    """Put the filter in force for this thread, for ever. Returns how many calls are allowed.

    Needs `no_new_privs`. Raises NoFilter.
    """
    machine = platform.machine()
    text = program(machine, os.getpid(), reads)
    code = ctypes.create_string_buffer(text, len(text))
    # struct sock_fprog: a length, and where the instructions are.
    given = struct.pack("@HP", len(text) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), given, 0, 0):
        why = os.strerror(ctypes.get_errno())
        raise NoFilter(f"the host's kernel takes no seccomp filter: {why}")
    column = _MACHINES[machine][0]
    allowed = ALLOWED | READS if reads else ALLOWED
    conditional = sum(1 for _ in _conditions(column, 0, reads))
    return conditional + sum(numbers[column] is not None for numbers in allowed.values())
