"""The filter read as the host's kernel reads it, and its numbers beside the kernel's headers."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from qmkd.engine import syscall_filter as filters

PID = 4321
ALLOW, FAIL, KILL = 0x7FFF0000, 0x00050000, 0x80000000
EPERM, ENOSYS = FAIL | errno.EPERM, FAIL | errno.ENOSYS
MARKS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = list(MARKS)
TABLES = filters.ALLOWED | filters.READS | filters.FATAL


def verdict(
    machine: str, number: int, arguments: tuple[int, ...] = (), reads: bool = True, mark: int = 0
) -> int:
    """What the kernel does: a small machine after its "Linux Socket Filtering", classic BPF."""
    given = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("=iIQ6Q", number, mark or MARKS[machine], 0, *given)
    code = [*struct.iter_unpack("=HBBI", filters.program(machine, PID, reads))]
    at = held = 0
    while True:
        operation, jump_true, jump_false, value = code[at]
        at += 1
        if operation == 0x20:
            (held,) = struct.unpack_from("=I", data, value)
        elif operation == 0x54:
            held &= value
        elif operation in (0x15, 0x25):
            true = held == value if operation == 0x15 else held > value
            at += jump_true if true else jump_false
        else:
            assert operation == 0x06
            return int(value)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("reads", [True, False])
def test_every_number_has_the_verdict_of_its_table_and_no_other(machine: str, reads: bool) -> None:
    column = MACHINES.index(machine)
    allowed = {each[column] for each in filters.ALLOWED.values()}
    if reads:
        allowed |= {each[column] for each in filters.READS.values()}
    fatal = {each[column] for each in filters.FATAL.values()}
    # Zero for every argument is what these few of their own allow too.
    some = {"x86_64": {72, 302}, "aarch64": {25, 261}}[machine]
    if reads:
        some.add({"x86_64": 257, "aarch64": 56}[machine])
    for number in range(600):
        found = verdict(machine, number, reads=reads)
        if number in allowed | some:
            assert found == ALLOW, number
        elif number in fatal:
            assert found == KILL, number
        elif number == 435 or number > filters.NEWEST:
            assert found == ENOSYS, number
        else:
            assert found == EPERM, number


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_machine_or_of_its_other_modes_are_fatal(machine: str) -> None:
    assert verdict(machine, 0, mark=0x40000003) == KILL, "32-bit x86"
    assert verdict(machine, 0x40000000) == KILL, "x32"
    assert verdict(machine, -1) == KILL


def test_arguments_decide_where_only_some_uses_are_allowed() -> None:
    openat, newfstatat, ioctl, fcntls, tgkill, prlimit = 257, 262, 16, 72, 234, 302
    for flags in (0, os.O_CLOEXEC, os.O_DIRECTORY, os.O_PATH):
        assert verdict("x86_64", openat, (0, 0, flags)) == ALLOW
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_TMPFILE | os.O_RDWR):
        assert verdict("x86_64", openat, (0, 0, flags)) == EPERM
    assert verdict("x86_64", openat, (0, 0, 0), reads=False) == EPERM
    assert verdict("x86_64", newfstatat, (0, 0, 0, 0x1000), reads=False) == ALLOW
    assert verdict("x86_64", newfstatat, (0, 0, 0, 0), reads=False) == EPERM
    assert verdict("x86_64", tgkill, (PID, 1, 6)) == ALLOW
    assert verdict("x86_64", tgkill, (PID + 1, 1, 6)) == EPERM
    assert verdict("x86_64", prlimit, (PID + 1,)) == EPERM
    assert verdict("x86_64", fcntls, (3, fcntl.F_ADD_SEALS)) == ALLOW
    assert verdict("x86_64", fcntls, (3, fcntl.F_SETOWN)) == EPERM
    assert verdict("x86_64", ioctl, (0, 0x5401)) == ALLOW
    assert verdict("x86_64", ioctl, (0, 0x5412)) == EPERM, "TIOCSTI types for others"


def test_an_unknown_machine_has_no_filter() -> None:
    with pytest.raises(filters.NoFilter, match="on vax"):
        filters.program("vax", PID, True)


def test_the_numbers_are_those_of_the_kernel_s_headers() -> None:
    path = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not path.exists():
        pytest.skip("the host kernel's headers are not installed")
    known = dict(re.findall(r"#define __NR_(\w+) (\d+)", path.read_text()))
    for name, numbers in TABLES.items():
        if name in known:
            assert int(known[name]) == numbers[0], name


def test_the_numbers_for_aarch64_are_those_of_the_generic_header() -> None:
    header = Path("/usr/include/asm-generic/unistd.h")
    if not header.exists() or not shutil.which("cpp"):
        pytest.skip("the host kernel's headers or the C preprocessor are not installed")
    wants = "".join(
        f"#define __ARCH_WANT_{name}\n" for name in ("NEW_STAT", "SET_GET_RLIMIT", "SYS_CLONE3")
    )
    names = "".join(f"@{name} __NR_{name} __NR3264_{name}\n" for name in TABLES)
    done = subprocess.run(
        ["cpp", "-P", "-U__BITS_PER_LONG", "-"],
        input=f"#define __BITS_PER_LONG 64\n{wants}#include <asm-generic/unistd.h>\n{names}",
        capture_output=True,
        text=True,
        check=True,
    )
    known = dict(re.findall(r"@(\w+) (\d+) ", done.stdout))
    assert len(known) > 80
    for name, number in known.items():
        assert TABLES[name][1] == int(number), name
