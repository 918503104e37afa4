"""The daemon's life: take its places, start the workers, serve, stop cleanly.

The order matters: the state directory is locked first, so that a second daemon touches nothing; the
socket is bound before anything takes long, so that clients wait instead of failing, and listened to
as soon as what was kept is read, so that they do not wait for workers: jobs do. The service manager
hears of it last, when there is a worker.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import gc
import logging
import os
import pwd
import resource
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from qmkd.core import events as ev
from qmkd.core.figures import figures
from qmkd.core.kernel import Kernel
from qmkd.core.limits import JOBS_RETAINED_MAX
from qmkd.core.ports import Machine, TenantRule
from qmkd.engine.choose import plan
from qmkd.engine.sandbox import NEEDED
from qmkd.shell import activation
from qmkd.shell.activation import BadActivation, notify, taken_sockets
from qmkd.shell.config import Config, metrics_path
from qmkd.shell.hub import Hub
from qmkd.shell.limits import BACKLOG, DESCRIPTORS_SPARE, Limits
from qmkd.shell.metrics.counting import Counts
from qmkd.shell.pump import Pump
from qmkd.shell.reloading import LOCK_NAME, Reloader
from qmkd.shell.results import ROWS_KEPT_BYTES_MAX, Results
from qmkd.shell.server import Server
from qmkd.shell.store import DATABASE_NAME, CannotOpen, Damaged, Store, stored_sizes
from qmkd.shell.tables import MEASURABLE, Tables, name_of, shipped
from qmkd.shell.tracing import Teller, Traces
from qmkd.shell.workers import Pool
from syscalls.version import ABI_VERSION, QVM_VERSION, schema_digest

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

EXIT_STOPPED = 0
EXIT_FAILED = 1
EXIT_BROKEN = 70  # EX_SOFTWARE of sysexits(3)
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
DRAIN_S_MAX = 2.0  # for answers still unread when all is stopped
STOP_S_EXTRA = 10.0  # beyond the grace, until stopping is given up
KILL_S_MAX = 5.0  # for killed workers to be gone
STOP_S_SPARE = 15.0  # and for the database to be written and closed
WATCHDOG_FEEDS = 4  # in the time after which silence counts as a hang
# What workers compute with; this process never imports them.
NUMERICS = ("numpy", "pymatching", "scipy", "stim")
FDS_PER_WORKER = 4
GC_THRESHOLD = 50_000  # allocations between collections; nearly nothing here makes cycles

_log = logging.getLogger("qmkd")


class Places(NamedTuple):
    """Where it listens. bound: the path of a socket that nobody else made for it."""

    listeners: list[socket.socket]
    bound: Path | None


class CannotStart(Exception):
    """The daemon cannot take its places; the sentence says which and why."""


def openrpc_document() -> bytes:
    """The generated description of the ABI, as `rpc.discover` answers it."""
    return files("syscalls").joinpath("schemas", "openrpc.json").read_bytes()


@functools.cache
def versions() -> dict[str, str]:
    """What this build is and what it computes with, by name."""
    ours = {
        "qmkd": metadata.version("qmkd"),
        "abi": ABI_VERSION,
        "qvm": QVM_VERSION,
        "schema": schema_digest(openrpc_document()),
    }
    return ours | {name: metadata.version(name) for name in NUMERICS}


def main(config: Config, load: Callable[[], Config] | None = None) -> int:
    """Serve until told to stop. Returns the exit status.

    load: reads the configuration again; raises BadConfig. None: it never changes.
    """
    # From here on there is something to clean up; a signal waits until we can.
    signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGHUP))
    try:
        with _locked(Path(config.state_dir)), _listeners(config) as places:
            return trio.run(_serve, config, places, load or (lambda: config))
    except (CannotStart, BadActivation) as error:
        _log.error("cannot start: %s", error)
        notify(os.environ, activation.status_line(f"Cannot start: {error}"))
        return EXIT_FAILED
    except BaseExceptionGroup:
        # A broken promise of our own: nothing can be trusted any more.
        _log.critical("the daemon broke down", exc_info=True)
        return EXIT_BROKEN


async def _serve(config: Config, places: Places, load: Callable[[], Config]) -> int:
    hub, tables = Hub(), _tables(config)
    with _store(config, hub, lambda event: pump.feed(event)) as store:
        before = None if store is None else store.load()
        results = Results()
        if store is not None and before is not None:
            results = Results(stored_sizes(before), store.rows, store.fetch)
            hub.listen(store.bell, store.collect)
        kernel = Kernel(_machine(config, tables), plan)
        counts = Counts(kernel.step, config.metrics_tenants)
        counted = counts if config.metrics == "on" else kernel
        traces = None
        if config.traces_socket:
            traces = Traces(counted.step, Teller(Path(config.traces_socket)))
        pump = Pump(traces or counted, results, openrpc_document(), store)
        counts.offset_ns = pump.offset_ns
        if traces is not None:
            traces.offset_ns = pump.offset_ns
        watch = _Watch(config, kernel, counts, store, traces)
        if before is not None:
            pump.feed(before)
        try:
            return await _serve_from(config, places, hub, results, tables, pump, load, watch)
        finally:
            if store is not None:
                hub.forget(store.fileno())
            if traces is not None:
                traces.teller.close()
            pump.snapshots.close()
            results.close()
            hub.close()


@contextlib.contextmanager
def _store(config: Config, hub: Hub, feed: Callable[[ev.Event], None]) -> Iterator[Store | None]:
    """The database of the state directory, unless the daemon is to keep nothing."""
    if config.durability == "none":
        _log.warning("nothing outlives this daemon", extra={"durability": "none"})
        yield None
        return
    try:
        store = Store(
            Path(config.state_dir) / DATABASE_NAME,
            config.durability,
            kept=lambda number: feed(ev.Kept(number)),
            failed=lambda what: feed(ev.KeepFailed(what)),
            soon=hub.at_end_of_round,
        )
    except CannotOpen as error:
        raise CannotStart(str(error)) from error
    try:
        yield store
    except Damaged as error:
        raise CannotStart(error.strerror or "the database is damaged") from error
    finally:
        if not store.close():
            _log.error("not all was written; what was acknowledged is")


async def _serve_from(
    config: Config,
    places: Places,
    hub: Hub,
    results: Results,
    tables: Tables,
    pump: Pump,
    load: Callable[[], Config],
    watch: _Watch,
) -> int:
    needed = NEEDED if config.worker_sandbox == "require" else ()
    options = _worker_options(config)
    traces = watch.traces
    pool = Pool(
        hub, results, tables, pump.feed, config.workers, options, needed, pump.snapshots, traces
    )
    server = Server(hub, _fitting(config), pump, None if traces is None else traces.announce)
    pump.workers, pump.connections = pool, server.connections

    def apply(config: Config, tenants: tuple[TenantRule, ...]) -> None:
        server.limits = _fitting(config)
        if places.bound is not None:
            places.bound.chmod(_socket_mode(config))
        pump.feed(ev.Configured(tenants))
        hub.settle()

    reloader = Reloader(config, load, apply, os.environ)
    status = EXIT_FAILED
    async with trio.open_nursery() as nursery:
        stopping, forced = trio.Event(), trio.Event()
        await nursery.start(_stop_on_signals, reloader, pump, hub, stopping, forced)
        for task in (hub.run, pool.keep, pump.timers.run, server.sweep):
            nursery.start_soon(task)
        if traces is not None:
            nursery.start_soon(traces.teller.run)
        try:
            await trio.sleep(0)  # so that workers are started
            watch.load()  # meanwhile; later there may be no descriptor left to read a module by
            for listener in places.listeners:
                server.listen(listener)
            await _either(pool.settled, stopping)
            if pool.broken:
                raise CannotStart(pool.broken)
            if not stopping.is_set():
                _quiet_collector()
                await nursery.start(watch.serve, server)
                _log.info("ready", extra={"socket": config.socket, "workers": config.workers})
                serving = f"Serving {config.socket} with {config.workers} workers."
                notify(os.environ, "READY=1", activation.status_line(serving))
                await nursery.start(reloader.run, lambda: serving)
                if (silence_s := activation.watchdog_s(os.environ)) is not None:
                    nursery.start_soon(_feed_watchdog, hub, silence_s)
                await stopping.wait()
            stop_s = reloader.config.stop_grace_ms / 1e3 + STOP_S_EXTRA
            notify(os.environ, *activation.stopping(stop_s + KILL_S_MAX + STOP_S_SPARE))
            server.stop_listening()
            with trio.move_on_after(stop_s):
                await _either(pump.halted, forced)
                if not forced.is_set():
                    await server.drain(DRAIN_S_MAX)
                    status = EXIT_STOPPED
        except CannotStart as error:
            _log.error("cannot start: %s", error)
        with trio.move_on_after(KILL_S_MAX, shield=True):
            await pool.close()
        server.close()
        nursery.cancel_scope.cancel()
    _log.info("stopped")
    return status


class _Watch:
    """What is counted, and how it is told to who scrapes."""

    def __init__(
        self,
        config: Config,
        kernel: Kernel,
        counts: Counts,
        store: Store | None,
        traces: Traces | None,
    ) -> None:
        self.traces = traces
        self._config, self._kernel, self._counts, self._store = config, kernel, counts, store
        self._versions = versions()
        self._started_s = time()
        for rule in kernel.state.machine.tenants:
            counts.of_tenant(rule.name)

    def load(self) -> None:
        """Import what takes long, which may be done while workers start."""
        if self._config.metrics == "on":
            from qmkd.shell.metrics import families, serving

            self._families, self._serving = families, serving

    async def serve(self, server: Server, task_status: trio.TaskStatus[None]) -> None:
        """Answer scrapes until cancelled, where that is wanted and there is a place to."""
        if self._config.metrics != "on":
            task_status.started()
            return
        self._server = server
        self._scrapes = self._serving.Scrapes(self._collect)
        with contextlib.ExitStack() as places:
            sockets = self._sockets(places)
            task_status.started()
            if sockets:
                await self._scrapes.serve(sockets)

    def _sockets(self, places: contextlib.ExitStack) -> list[socket.socket]:
        path = metrics_path(self._config, os.environ)
        try:
            made = self._serving.listeners(path, self._config.metrics_port)
        except OSError as error:
            # Who runs jobs here should not have to stand still for that.
            where = {"socket": str(path), "port": self._config.metrics_port}
            why = error.strerror or str(error)
            _log.error("metrics cannot be scraped", extra={**where, "why": why})
            return []
        places.callback(path.unlink, missing_ok=True)
        return made

    def _collect(self) -> Iterator[Metric]:
        store, database = self._store, Path(self._config.state_dir) / DATABASE_NAME
        size = 0
        for path in (database, database.with_name(f"{DATABASE_NAME}-wal")):
            with contextlib.suppress(FileNotFoundError):
                size += path.stat().st_size
        outside = self._families.Outside(
            versions=self._versions,
            connections=len(self._server.connections),
            store_backlog_bytes=0 if store is None else store.backlog_bytes,
            store_bytes=size,
            scrapes=self._scrapes.count,
            scrape_s=self._scrapes.loop_s,
            started_s=self._started_s,
            spans=None if self.traces is None else self.traces.teller.counts(),
        )
        return self._families.families(self._counts, figures(self._kernel.state), outside)


def _machine(config: Config, tables: Tables) -> Machine:
    """What the kernel is told."""
    return msgspec.structs.replace(
        config.for_kernel(versions()),
        calibration=name_of(shipped().sha256),
        table=tables.current,
        measurable=MEASURABLE,
    )


def _tables(config: Config) -> Tables:
    """Raises CannotStart where the state directory holds one that cannot be read."""
    try:
        return Tables(Path(config.state_dir))
    except OSError as error:
        what = f"the table of points in {config.state_dir}"
        raise CannotStart(f"{what}: {error.strerror}") from error


async def _either(*events: trio.Event) -> None:
    """Wait for the first of some events."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


async def _feed_watchdog(hub: Hub, silence_s: float) -> None:
    """Say that calls are served, often enough, by a turn in the loop that serves them."""

    def alive() -> None:
        notify(os.environ, "WATCHDOG=1")

    while True:
        hub.later(alive)
        await trio.sleep(silence_s / WATCHDOG_FEEDS)


async def _stop_on_signals(
    reloader: Reloader,
    pump: Pump,
    hub: Hub,
    stopping: trio.Event,
    forced: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """First signal: stop everything at its next fence and answer. Second: end at once."""
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if stopping.is_set():
                _log.warning("ending at once", extra={"signal": name})
                forced.set()
                continue
            _log.info("stopping", extra={"signal": name})
            stopping.set()
            pump.feed(ev.ShutDown(reloader.config.stop_grace_ms * 1_000_000))
            hub.settle()


def _worker_options(config: Config) -> list[str]:
    options = [
        f"--memory-bytes={config.worker_bytes}",
        f"--scheduler={config.worker_scheduling}",
        f"--nice={config.worker_nice}",
        f"--sandbox={config.worker_sandbox}",
    ]
    if os.geteuid() == 0:
        user = pwd.getpwnam(config.worker_user)
        options += ["--user", str(user.pw_uid), str(user.pw_gid)]
    return options


def _quiet_collector() -> None:
    """Spare calls the pauses of the cyclic collector: what is here now stays anyway."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def _fitting(config: Config) -> Limits:
    """The limits, with as many connections as descriptors allow, having asked for enough."""
    limits = config.limits
    needed = limits.connections + DESCRIPTORS_SPARE + FDS_PER_WORKER * config.workers
    wanted = needed + _rows_max(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        reached = wanted if soft == resource.RLIM_INFINITY else max(soft, wanted)
    else:
        reached = hard
    if reached < needed:
        fewer = max(1, hard - (needed - limits.connections))
        _log.warning(
            "fewer connections than configured: descriptors are limited",
            extra={"connections": fewer, "descriptors": hard},
        )
        limits = msgspec.structs.replace(
            limits,
            connections=fewer,
            connections_per_uid=min(fewer, limits.connections_per_uid),
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (reached, hard))
    return limits


def _rows_max(config: Config) -> int:
    """How many descriptors the rows of large jobs may take, of two kinds each while they live."""
    return sum(
        2 * quota.jobs + min(JOBS_RETAINED_MAX, quota.result_bytes // ROWS_KEPT_BYTES_MAX)
        for quota in (rule.quota for rule in config.for_kernel({}).tenants)
    )


# --- places on the file system ------------------------------------------------------------------


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the state directory; made if missing. Raises CannotStart if another daemon holds it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"the state directory {folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            raise CannotStart(
                f"another daemon, process {holder}, holds the state directory {folder}"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _listeners(config: Config) -> Iterator[Places]:
    """The sockets handed in by the service manager, or else one bound to the configured path."""
    if taken := taken_sockets(os.environ):
        yield Places(taken, None)
        return
    path = Path(config.socket)
    _remove_stale(path)
    try:
        path.parent.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        made = path.stat()
        path.chmod(_socket_mode(config))
        listener.listen(BACKLOG)
        kept = activation.store(os.environ, listener)
    except OSError as error:
        raise CannotStart(f"the socket {path}: {error.strerror}") from error
    try:
        yield Places([listener], path)
    finally:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            # A manager that keeps the socket hands it to the next daemon: it stays reachable.
            if not kept and os.path.samestat(path.stat(), made):
                path.unlink()


def _socket_mode(config: Config) -> int:
    """Open to others only where a tenant is somebody else than the daemon's own user."""
    own = frozenset({os.geteuid()})
    others = any(rule.gids or rule.uids - own for rule in config.for_kernel({}).tenants)
    return 0o666 if others else 0o600


def _remove_stale(path: Path) -> None:
    """Clear a socket that nobody listens on. Raises CannotStart if somebody does."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise CannotStart(f"the socket {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise CannotStart(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        code = probe.connect_ex(str(path))
    if code == errno.ECONNREFUSED:
        _log.info("removing the socket of a daemon that is gone", extra={"socket": str(path)})
        path.unlink()
    elif code != errno.ENOENT:
        raise CannotStart(f"a live daemon already listens on {path}")
