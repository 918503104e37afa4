"""The daemon's configuration, with its tenants' policy: refused with a place, or fit to start with.

What is read is printed and read again as the same, and makes a machine that the kernel takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from qmkd.core.limits import check_machine
from qmkd.shell.config import BadConfig, Config, load, printed

BYTES_MAX = 2000
CODEC = "toml"
HEAD_BYTES = 0


def check(data: bytes) -> None:
    config = read(data)
    if not isinstance(config, Config):
        assert config
        assert all(": " in each for each in config), config
        return
    assert read(printed(config).encode()) == config
    check_machine(config.for_kernel({}))


def read(text: bytes) -> Config | Sequence[str]:
    """The configuration, or findings."""
    fd = os.memfd_create("configuration")
    try:
        os.write(fd, text)
        return load({}, {"HOME": "/nowhere"}, f"/proc/self/fd/{fd}")
    except BadConfig as refusal:
        return refusal.findings
    finally:
        os.close(fd)


def seeds() -> Iterator[bytes]:
    yield b""
    usual = read(b"")
    assert isinstance(usual, Config)
    yield printed(usual).encode()
    yield b'machine = "modular"\n[limits]\nconnections = 9000\n'
    yield b'machine = "/nowhere.toml"\n'
    yield b"[decoder]\nround_ns = 1000\nweight_max = 3\nbacklog_max = 2\n"
    yield (
        b'physical_noise = "si1000 0.002"\n[[tenant]]\nname = "a"\nusers = ["root"]\n'
        b'grantable = ["CAP_ALLOC"]\nweight = 3\n[tenant.quota]\njobs = 7\n'
        b'[[tenant]]\nname = "b"\nuids = [0]\ngids = [5]\ngroups = ["daemon"]\nsuspended = true\n'
    )
