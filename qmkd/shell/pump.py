"""Between the kernel and the world: events in, effects performed in the order given.

`Pump.feed` is the only place that calls `Kernel.step`. An effect that brings about an event at once
(a connection that breaks while it is answered) queues it; steps never nest. What an effect means is
said in `qmkd.core.effects`.
"""

from __future__ import annotations

import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic_ns
from typing import Any, Protocol

import msgspec
import trio

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.effects import Reply
from qmkd.core.events import Called, Origin
from qmkd.core.limits import ENTROPY_BYTES
from qmkd.core.records import SnapshotRow
from qmkd.shell.clock import Clock, Timers
from qmkd.shell.connection import Connection
from qmkd.shell.results import Dropped, Fetched, Results
from qmkd.shell.snapshots import Snapshots
from qmkd.shell.store.rows import RowsOf, SnapshotOf
from syscalls.discover import Discover
from syscalls.errors import Busy, InternalError, KernelError, ResultsDropped
from syscalls.events import JobEvent
from syscalls.results import ResultsReply
from syscalls.syscall import Syscall

_log = logging.getLogger("qmkd.kernel")


class Kernel(Protocol):
    """What is pumped: `qmkd.core.kernel.Kernel`."""

    def step(self, now_ns: int, event: ev.Event) -> list[fx.Effect]: ...


class Workers(Protocol):
    """What runs segments: `qmkd.shell.workers.Pool`."""

    def run(self, segment: fx.RunSegment) -> None: ...

    def check(self, check: fx.CheckProgram) -> None: ...

    def calibrate(self, point: fx.Calibrate) -> None: ...

    def stop(self, worker: int, ticket: int, keep: bool, back: bool) -> None: ...

    def kill(self, worker: int) -> None: ...

    def forget(self, program: int) -> None: ...


class Store(Protocol):
    """What makes rows durable: `qmkd.shell.store.Store`."""

    def keep(self, effect: fx.Keep, rows_of: RowsOf, snapshot_of: SnapshotOf) -> None: ...

    def fetch_snapshot(self, tickets: tuple[int, ...], fd: int, fetched: Fetched) -> None: ...

    def graph(self, job_id: str) -> bytes: ...

    def verify(self, checkpoint: str, snapshots: tuple[int, ...], verified: Fetched) -> None: ...


class Pump:
    """Feeds the kernel and performs its wishes.

    `workers` and `connections` are set before anything is fed but what was recovered. store: None
    for a kernel that keeps nothing. offset_ns: what steps are told is this beyond `monotonic_ns`.
    """

    workers: Workers
    connections: dict[int, Connection]

    def __init__(
        self, kernel: Kernel, results: Results, openrpc: bytes, store: Store | None = None
    ) -> None:
        self._step = kernel.step
        self._results = results
        self._store = store
        # An answer is one line, so the document in it must not hold line breaks.
        self._openrpc = msgspec.Raw(msgspec.json.format(openrpc, indent=-1))
        self.snapshots = Snapshots(None if store is None else store.fetch_snapshot)
        self._clock = Clock()
        self.offset_ns = self._clock.offset_ns
        self._events: deque[ev.Event] = deque()
        self._pumping = False
        self._storing: deque[tuple[int, int]] = deque()  # (number of the `Keep`, ticket)
        self.timers = Timers(self._clock, lambda token: self.feed(ev.TimerFired(token)))
        self.halted = trio.Event()
        self._perform: dict[type, Callable[[Any], None]] = {
            fx.Reply: self._reply,
            fx.Notify: self._notify,
            fx.CheckProgram: lambda effect: self.workers.check(effect),
            fx.Calibrate: lambda effect: self.workers.calibrate(effect),
            fx.RunSegment: lambda effect: self.workers.run(effect),
            fx.StopSegment: lambda effect: self.workers.stop(
                effect.worker, effect.ticket, effect.keep, effect.back
            ),
            fx.DropSnapshots: self._drop_snapshots,
            fx.CopySnapshot: lambda effect: self.snapshots.copy(effect.source, effect.target),
            fx.KillWorker: lambda effect: self.workers.kill(effect.worker),
            fx.ForgetProgram: lambda effect: self.workers.forget(effect.program),
            fx.SealResults: lambda effect: self._results.seal(effect.job_id),
            fx.DropResults: lambda effect: self._results.drop(effect.job_id),
            fx.CopyResults: lambda effect: self._results.copy(effect.source, effect.target),
            fx.Keep: self._keep,
            fx.LoadGraph: self._load,
            fx.VerifyCheckpoint: self._verify,
            fx.SetTimer: lambda effect: self.timers.set(effect.token, effect.at_ns),
            fx.CancelTimer: lambda effect: self.timers.cancel(effect.token),
            fx.Note: self._note,
            fx.Halt: lambda effect: self.halted.set(),
        }

    def feed(self, event: ev.Event) -> None:
        """Take one event to the kernel and do what it wishes."""
        if type(event) is ev.Kept:
            self._stored(event.number)
        if self._pumping:
            self._events.append(event)
            return
        self._pumping = True
        self._events.append(event)
        self._drain()
        self._pumping = False

    def _drain(self) -> None:
        while self._events:
            event = self._events.popleft()
            for effect in self._step(monotonic_ns() + self.offset_ns, event):
                self._perform[type(effect)](effect)

    # --- what the server asks (server.Calls) ----------------------------------------------------

    def called(self, connection: Connection, call: int, request: Syscall) -> None:
        if type(request) is Discover:
            connection.reply(call, self._openrpc)
            return
        entropy = os.urandom(ENTROPY_BYTES) if request.CHANCE else b""
        origin = Origin(connection.number, call)
        event = Called(origin, connection.peer, request, entropy)
        # What `feed` would do, with the way of the one plain answer cut short.
        assert not self._pumping, "connections are served one after the other"
        self._pumping = True
        for effect in self._step(monotonic_ns() + self.offset_ns, event):
            if (
                type(effect) is Reply
                and effect.to is origin
                and effect.attach is None is effect.inline
            ):
                connection.reply(call, effect.body)
            else:
                self._perform[type(effect)](effect)
        if self._events:
            self._drain()
        self._pumping = False

    def gone(self, connection: Connection) -> None:
        self.feed(ev.ClientGone(connection.number))

    # --- effects --------------------------------------------------------------------------------

    def _reply(self, effect: fx.Reply) -> None:
        to = effect.to
        connection = self.connections.get(to.conn)
        if connection is None:
            return  # it ended while this event was on its way
        body = effect.body
        if effect.attach is None is effect.inline:
            connection.reply(to.call, body)
            return
        try:
            if effect.attach is not None:
                answer = partial(self._answer_fetched, effect)
                if not self._results.fetch(effect.attach, answer):
                    fd = self._results.descriptor(effect.attach, effect.rows)
                    connection.reply(to.call, body, (fd,))
            elif effect.inline is not None:
                assert isinstance(body, ResultsReply), "rows go into the reply with room for them"
                rows = self._results.base64(effect.inline, effect.rows)
                connection.reply(to.call, msgspec.structs.replace(body, data=rows))
        except OSError as error:
            connection.reply(to.call, _no_rows(error))

    def _answer_fetched(self, effect: fx.Reply, error: OSError | None) -> None:
        """The rows of an earlier daemon, which somebody asked for, were fetched or were not."""
        connection = self.connections.get(effect.to.conn)
        if connection is None:
            return
        if error is not None:
            connection.reply(effect.to.call, _no_rows(error))
        else:
            self._reply(effect)

    def _stored(self, number: int) -> None:
        """All up to this `Keep` is durable."""
        while self._storing and self._storing[0][0] <= number:
            self.snapshots.stored(self._storing.popleft()[1])

    def _drop_snapshots(self, effect: fx.DropSnapshots) -> None:
        for ticket in effect.tickets:
            self.snapshots.drop(ticket)

    def _keep(self, effect: fx.Keep) -> None:
        assert self._store is not None, "a kernel that keeps nothing asks for nothing to be kept"
        for row in effect.rows:
            if type(row) is SnapshotRow:
                self._storing.append((effect.number, row.ticket))
        self._store.keep(effect, self._results.region, self.snapshots.region)

    def _load(self, effect: fx.LoadGraph) -> None:
        assert self._store is not None, "a kernel that keeps nothing finds nothing in the store"
        try:
            graph = self._store.graph(effect.job_id)
        except OSError as error:
            _log.error("a program cannot be read", extra={"why": error.strerror})
            graph = b""
        self.feed(ev.GraphLoaded(effect.ticket, graph))

    def _verify(self, effect: fx.VerifyCheckpoint) -> None:
        assert self._store is not None, "a kernel that keeps nothing has nothing verified"

        def verified(error: OSError | None) -> None:
            why = "" if error is None else error.strerror or str(error)
            self.feed(ev.CheckpointVerified(effect.ticket, why))

        self._store.verify(effect.checkpoint, effect.snapshots, verified)

    def _notify(self, effect: fx.Notify) -> None:
        connection = self.connections.get(effect.conn)
        if connection is not None:
            assert isinstance(effect.body, JobEvent)
            connection.notify(effect.body)

    def _note(self, effect: fx.Note) -> None:
        fields = {f"note_{name}": value for name, value in effect.fields.items()}
        _log.info(effect.what, extra=fields)


def _no_rows(error: OSError) -> KernelError:
    """Rows that were there cannot be handed out; why, for the log and for the caller."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        _log.warning("no descriptor for results", extra={"why": error.strerror})
        return Busy(what="no descriptor is free", retry_after_ms=1000)
    if isinstance(error, Dropped):
        return ResultsDropped()
    reference = f"rows-{monotonic_ns()}"
    _log.error("results cannot be read", extra={"reference": reference, "why": error.strerror})
    return InternalError(reference=reference)


assert set(fx.Effect.__args__) == {
    fx.Reply, fx.Notify, fx.CheckProgram, fx.Calibrate, fx.RunSegment, fx.StopSegment,
    fx.DropSnapshots, fx.CopySnapshot, fx.KillWorker, fx.ForgetProgram, fx.SealResults,
    fx.DropResults, fx.CopyResults, fx.Keep, fx.LoadGraph, fx.VerifyCheckpoint, fx.SetTimer,
    fx.CancelTimer, fx.Note, fx.Halt,
}, "every effect is performed"  # fmt: skip
