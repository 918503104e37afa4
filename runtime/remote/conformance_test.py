"""The whole conformance suite over TLS: the kernel's calls are the same from another host.

The suite speaks to a socket of the host. Here each connection to that socket becomes a connection
over TLS to a service, and by its bridge to a daemon.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from runtime.client.address import TlsMode
from runtime.remote.bridge import CHUNK_BYTES
from runtime.remote.conftest import HOST, Hosts, Service
from runtime.remote.credentials import load
from runtime.remote.tls import Context
from tests.daemon import running_daemon, short_folder

ROOT = Path(__file__).parents[2]
ENDED = (trio.BrokenResourceError, trio.ClosedResourceError)


async def carry(local: trio.SocketStream, port: int, context: Context) -> None:
    """One connection of the host, over TLS."""
    tcp = await trio.open_tcp_stream(HOST, port)
    tls = context.connection(HOST)
    tls.start()
    while not tls.done:
        await tcp.send_all(tls.outgoing())
        tls.take(bytes(await tcp.receive_some(CHUNK_BYTES)))
    await tcp.send_all(tls.outgoing())

    async def up() -> None:
        with contextlib.suppress(*ENDED):
            while data := bytes(await local.receive_some(CHUNK_BYTES)):
                tls.give(data)
                await tcp.send_all(tls.outgoing())
            tls.end()
            await tcp.send_all(tls.outgoing())
            await tcp.send_eof()

    async with tcp, local, trio.open_nursery() as nursery:
        nursery.start_soon(up)
        with contextlib.suppress(*ENDED):
            while not tls.ended and (sealed := bytes(await tcp.receive_some(CHUNK_BYTES))):
                await local.send_all(tls.take(sealed))
        nursery.cancel_scope.cancel()


@pytest.mark.slow
def test_a_daemon_keeps_the_abi_over_tls_as_on_its_host(
    serving: Callable[..., Service], hosts: Hosts
) -> None:
    context = Context(load(hosts.make("alice")), TlsMode.HYBRID, server=False)
    with short_folder() as folder, running_daemon(folder) as daemon:
        service = serving(daemon.socket)
        path = folder / "tls.sock"
        stop: list[Callable[[], None]] = []
        ready = threading.Event()

        async def each(local: trio.SocketStream) -> None:
            await carry(local, service.port, context)

        async def listen() -> None:
            sock = trio.socket.socket(trio.socket.AF_UNIX)
            await sock.bind(str(path))
            sock.listen(64)
            token = trio.lowlevel.current_trio_token()
            with trio.CancelScope() as scope:
                stop.append(lambda: trio.from_thread.run_sync(scope.cancel, trio_token=token))
                ready.set()
                await trio.serve_listeners(each, [trio.SocketListener(sock)])

        thread = threading.Thread(target=trio.run, args=(listen,))
        thread.start()
        assert ready.wait(20)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tests.conformance", "--socket", str(path)],
                cwd=ROOT, capture_output=True, text=True,
            )  # fmt: skip
        finally:
            stop[0]()
            thread.join(20)
    assert done.returncode == 0, done.stdout
    assert " 0 failed" in done.stdout
