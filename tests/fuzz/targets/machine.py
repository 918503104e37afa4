"""Machine descriptions: refused with a place, or machines with which the kernel can reckon."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

import msgspec

from qmkd.shell import machines
from qvm.machine import NEVER_CYCLES, Hardware, described, failed, working

BYTES_MAX = 2000
CODEC = "toml"
HEAD_BYTES = 0


def check(data: bytes) -> None:
    hardware = described(data)
    if not isinstance(hardware, Hardware):
        assert hardware
        for path, sentence in hardware:
            assert sentence
            assert path == "" or path.startswith("$"), path
        return
    plain = msgspec.to_builtins(hardware)
    assert msgspec.convert(plain, Hardware) == hardware
    check_sums(hardware)
    left = working(hardware, hardware.fault)
    assert failed(left, hardware.fault) <= set(range(len(hardware.module)))
    check_sums(left)


def check_sums(hardware: Hardware) -> None:
    """What the kernel works out of it."""
    assert len(hardware.spare) == len(hardware.neighbours) == len(hardware.module)
    assert all(1 <= spare <= hardware.qubits for spare in hardware.spare)
    assert hardware.t_rate is None or hardware.t_rate >= 0
    for (one, other), link in hardware.links.items():
        assert other in hardware.neighbours[one]
        assert link.rate >= 1
        assert 0 < link.fidelity <= 1
    assert all(0 < each.cycles <= NEVER_CYCLES for each in hardware.factory)


def seeds() -> Iterator[bytes]:
    for name in machines.SHIPPED:
        yield resources.files(machines).joinpath(f"{name}.toml").read_bytes()
