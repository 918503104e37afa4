"""A service with certificates of an authority in this process, before a scripted daemon."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from runtime.client.address import Remote, TlsMode
from runtime.remote import certificates
from runtime.remote.authority import Authority
from runtime.remote.server import Server
from runtime.remote.settings import Admitted, Limits, Settings
from tests.daemon import short_folder

HOST = "127.0.0.1"
KINDS = ("ES256", "ML-DSA-65")


class Hosts:
    """Folders of credentials by one authority: the service's, and those of clients."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.authority = authority

    def make(
        self, name: str, *, server: bool = False, kinds: tuple[str, ...] = KINDS, days: float = 1
    ) -> Path:
        where = self.folder / name
        for kind in kinds:
            certificates.obtain(
                self.authority,
                where,
                kind,
                usage="server" if server else "client",
                name=name,
                hosts=[HOST, "localhost"] if server else [],
                lifetime=round(days * 24 * 3600),
            )
        return where

    def trust_only(self, where: Path, kind: str) -> None:
        """Take away trust in authorities of other kinds."""
        for path in where.glob("trust-*.pem"):
            if kind.lower() not in path.name:
                path.unlink()


class Service:
    """A service that runs in a thread of this process."""

    def __init__(self, settings: Settings, renew: certificates.Renewal | None = None) -> None:
        self.server = Server(settings, renew=renew)
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)
        self._thread.start()
        assert self._ready.wait(20), "it listens"

    def remote(self, credentials: Path, mode: TlsMode = TlsMode.HYBRID) -> Remote:
        return Remote(host=HOST, port=self.port, credentials=credentials, mode=mode)

    def do(self, what: Callable[[], object]) -> object:
        """Have the service's own thread do something."""
        return trio.from_thread.run_sync(what, trio_token=self._token)

    def counted(self, name: str, **labels: str) -> float:
        return self.server.metrics.registry.get_sample_value(f"qmk_remote_{name}", labels) or 0.0

    def wait_until(self, true: Callable[[], bool]) -> None:
        """What a client sees may come before the service has written it down."""
        until = time.monotonic() + 20
        while not true():
            assert time.monotonic() < until, "it becomes true"
            time.sleep(0.01)

    def wait_counted(self, value: float, name: str, **labels: str) -> None:
        self.wait_until(lambda: self.counted(name, **labels) >= value)
        assert self.counted(name, **labels) == value

    def stop(self) -> None:
        self.do(self._scope.cancel)
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        listeners = await self.server.listen()
        self.port = listeners[0].socket.getsockname()[1]
        with trio.CancelScope() as self._scope:
            self._ready.set()
            await self.server.serve(listeners)
        for each in listeners:
            await each.aclose()


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def hosts(tmp_path: Path, authority: Authority) -> Hosts:
    return Hosts(tmp_path, authority)


@pytest.fixture
def serving(hosts: Hosts) -> Iterator[Callable[..., Service]]:
    """Starts services; `alice` and `bob` are admitted."""
    with contextlib.ExitStack() as stack:
        short = stack.enter_context(short_folder())

        def start(
            daemon: Path | None = None,
            mode: TlsMode = TlsMode.HYBRID,
            credentials: Path | None = None,
            renew: certificates.Renewal | None = None,
            **more: object,
        ) -> Service:
            settings = Settings(
                credentials=str(credentials or hosts.make("service", server=True)),
                listen=[f"{HOST}:0"],
                daemon=str(daemon or short / "nobody"),
                crypto_mode=mode,
                client=[Admitted(name="alice"), Admitted(name="bob")],
                limits=Limits(handshake_s=20.0),
            )
            service = Service(replace(settings, **more), renew)
            stack.callback(service.stop)
            return service

        yield start
