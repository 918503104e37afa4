"""A real worker process for tests, at the other end of a socket pair, without a daemon."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys

from qmkd.engine import messages
from qmkd.engine.messages import Answer, Ready, Request
from qmkd.engine.worker import STOP_BYTES
from tests.daemon import ROOT

ANSWER_S_MAX = 20.0


class Peer:
    """The daemon's side of one worker. module: the worker, or one that behaves otherwise. fds: what
    came with answers, to be closed by whoever asked."""

    def __init__(self, *options: str, module: str = "qmkd.engine.worker") -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(ANSWER_S_MAX)
        stop = os.memfd_create("stop")
        os.ftruncate(stop, STOP_BYTES)
        self.stop = memoryview(mmap.mmap(stop, STOP_BYTES)).cast("Q")
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), str(stop), *options],
            pass_fds=(theirs.fileno(), stop),
            cwd=ROOT,
        )
        theirs.close()
        os.close(stop)
        self.frames = messages.Frames()
        self.waiting: list[bytes] = []
        self.fds: list[int] = []
        ready = self.receive()
        assert isinstance(ready, Ready)
        self.sandbox = ready.sandbox

    def send(self, *requests: Request) -> None:
        self.socket.sendall(b"".join(map(messages.frame, requests)))

    def receive(self) -> Answer:
        while not self.waiting:
            chunk, fds, _, _ = socket.recv_fds(self.socket, 1 << 16, 8)
            self.fds += fds
            if not chunk:
                raise EOFError
            self.waiting += self.frames.feed(chunk)
        return messages.answer(self.waiting.pop(0))

    def ask(self, *requests: Request) -> Answer:
        self.send(*requests)
        return self.receive()

    def close(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()
