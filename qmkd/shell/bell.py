"""How another thread tells the loop that it has something to say.

A flag lets the loop see it between two turns, without asking the operating system (`hub.py`). Only
where the loop sleeps does a descriptor wake it: each system call of another thread gives up the
interpreter, and the loop would have to wait until that thread has it again.
"""

from __future__ import annotations

import contextlib
import os


class Bell:
    """fd: readable once rung while nobody `hears`. hears: whether the loop looks at `rung` soon.

    Who begins to hear no more looks at `rung` once again afterwards.
    """

    __slots__ = ("fd", "hears", "rung")

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.hears = False
        self.rung = False

    def ring(self) -> None:
        """From any thread."""
        self.rung = True
        if not self.hears:
            os.eventfd_write(self.fd, 1)

    def silence(self) -> None:
        """From the loop's thread, before it looks what there is."""
        self.rung = False
        if not self.hears:
            self.wake()

    def wake(self) -> None:
        """The descriptor has done what it is for."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)

    def close(self) -> None:
        os.close(self.fd)
