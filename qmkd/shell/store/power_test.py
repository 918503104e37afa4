"""The power is cut: what was acknowledged is on the disk, if it was to be.

A real ext4 lies in a file, and is shut down as by a power cut (EXT4_IOC_SHUTDOWN, which xfstests
use for the same): from then on nothing reaches the file, and what was not flushed is gone. Needs to
mount, so it runs for root alone.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from random import Random
from time import sleep

import pytest

from qmkd.shell.store import Durability, Store
from qmkd.shell.store.check import check
from qmkd.shell.store.conftest import ACK, Story, assert_holds, tell_until_killed

EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), linux/fs/ext4/ext4.h
NO_LOG_FLUSH = struct.pack("I", 2)  # EXT4_GOING_FLAGS_NOLOGFLUSH
DISK_BYTES = 96 << 20

pytestmark = pytest.mark.slow


class Disk:
    """A file system in a file, and where it is mounted."""

    def __init__(self, folder: Path) -> None:
        self.image, self.folder = folder / "image", folder / "disk"
        self.folder.mkdir()
        with self.image.open("wb") as image:
            image.truncate(DISK_BYTES)
        self._run("mkfs.ext4", "-q", "-F", str(self.image))
        self.mount()

    def mount(self) -> None:
        self._run("mount", "-o", "loop", str(self.image), str(self.folder))

    def unmount(self) -> None:
        self._run("umount", str(self.folder))

    def cut(self) -> None:
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
        os.close(fd)

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("needs to mount a file system")
    try:
        disk = Disk(tmp_path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs to mount a file system: {error}")
    yield disk
    subprocess.run(["umount", str(disk.folder)], capture_output=True)


def cuts_that_lost(disk: Disk, rounds: int, durability: Durability) -> int:
    """How many of the cuts lost what was acknowledged before them. Nothing else may be wrong."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["qmkd.shell.store.conftest"])
    story, chance, lost = Story(31), Random(31), 0
    path = disk.folder / "qmkd.db"
    for _ in range(rounds):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=tell_until_killed, args=(path, story, theirs, durability))
        child.start()
        theirs.close()
        acked = ACK.unpack(os.read(ours.fileno(), ACK.size))[0]
        sleep(chance.expovariate(1 / 0.05))
        os.set_blocking(ours.fileno(), False)
        try:
            while answer := os.read(ours.fileno(), ACK.size):
                (acked,) = ACK.unpack(answer)
        except BlockingIOError:
            pass
        disk.cut()
        child.kill()
        child.join()
        ours.close()
        disk.unmount()
        disk.mount()
        assert check(path).faults == []
        with Store(path, durability, kept=print, failed=print) as store:
            durable = store.load().numbered - story.told
            lost += durable < acked
            story.new_run()
            for _ in range(durable):
                story.next()
            assert_holds(store, story)
    return lost


def test_a_power_cut_loses_nothing_that_was_acknowledged(disk: Disk) -> None:
    assert cuts_that_lost(disk, 40, "power") == 0


def test_where_only_the_process_is_to_be_survived_a_power_cut_loses_something(disk: Disk) -> None:
    """And so these cuts are cuts. What is left is still a whole beginning of the story."""
    assert cuts_that_lost(disk, 10, "process") >= 1
