"""Services to meet: `qmkctl serve-remote` as a program, with certificates made for the occasion."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from runtime.client.address import TlsMode, split_host
from runtime.remote import certificates
from runtime.remote.authority import Authority

HOST = "127.0.0.1"
KINDS = ("ES256", "ML-DSA-65")


class Served(NamedTuple):
    """Where a service listens, and its process."""

    port: int
    pid: int


def credentials(folder: Path, authority: Authority, name: str, *, server: bool = False) -> Path:
    """A folder with a certificate of each kind, and both authorities to trust."""
    for kind in KINDS:
        certificates.obtain(
            authority,
            folder / name,
            kind,
            usage="server" if server else "client",
            name=name,
            hosts=[HOST] if server else [],
        )
    return folder / name


@contextlib.contextmanager
def service(daemon: Path, folder: Path, mode: TlsMode, *admitted: str) -> Iterator[Served]:
    """A service of that mode that listens."""
    command = [
        sys.executable, "-m", "runtime.ctl", "serve-remote", "--listen", f"{HOST}:0", "--json",
        "--socket", str(daemon), "--credentials", str(folder), "--tls-mode", mode.value,
    ]  # fmt: skip
    for name in admitted:
        command += ["--admit", name]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
    with process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
            yield Served(split_host(json.loads(line)["listening"][0])[1], process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
