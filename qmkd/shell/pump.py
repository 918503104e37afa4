"""Between the kernel and the world: events in, effects performed in the order given.

`Pump.feed` is the only place that calls `Kernel.step`. An effect that brings about an event at once
(a connection that breaks while it is answered) queues it; steps never nest. What an effect means is
said in `qmkd.core.effects`.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Protocol

import msgspec
import trio

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.effects import Reply
from qmkd.core.events import Called, Origin
from qmkd.core.limits import ENTROPY_BYTES
from qmkd.shell.clock import Clock, Timers
from qmkd.shell.connection import Connection
from qmkd.shell.results import Results
from syscalls.discover import Discover
from syscalls.errors import Busy
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

    def stop(self, worker: int, ticket: int) -> None: ...

    def kill(self, worker: int) -> None: ...

    def forget(self, program: int) -> None: ...


class Pump:
    """Feeds the kernel and performs its wishes. `workers` and `connections` are set first."""

    workers: Workers
    connections: dict[int, Connection]

    def __init__(self, kernel: Kernel, results: Results, openrpc: bytes) -> None:
        self._step = kernel.step
        self._results = results
        # An answer is one line, so the document in it must not hold line breaks.
        self._openrpc = msgspec.Raw(msgspec.json.format(openrpc, indent=-1))
        self._clock = Clock()
        self._offset_ns = self._clock.offset_ns
        self._events: deque[ev.Event] = deque()
        self._pumping = False
        self.timers = Timers(self._clock, lambda token: self.feed(ev.TimerFired(token)))
        self.halted = trio.Event()
        self._perform: dict[type, Callable[[Any], None]] = {
            fx.Reply: self._reply,
            fx.Notify: self._notify,
            fx.CheckProgram: lambda effect: self.workers.check(effect),
            fx.Calibrate: lambda effect: self.workers.calibrate(effect),
            fx.RunSegment: lambda effect: self.workers.run(effect),
            fx.StopSegment: lambda effect: self.workers.stop(effect.worker, effect.ticket),
            fx.KillWorker: lambda effect: self.workers.kill(effect.worker),
            fx.ForgetProgram: lambda effect: self.workers.forget(effect.program),
            fx.SealResults: lambda effect: self._results.seal(effect.job_id),
            fx.DropResults: lambda effect: self._results.drop(effect.job_id),
            fx.SetTimer: lambda effect: self.timers.set(effect.token, effect.at_ns),
            fx.CancelTimer: lambda effect: self.timers.cancel(effect.token),
            fx.Note: self._note,
            fx.Halt: lambda effect: self.halted.set(),
        }

    def feed(self, event: ev.Event) -> None:
        """Take one event to the kernel and do what it wishes."""
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
            for effect in self._step(monotonic_ns() + self._offset_ns, event):
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
        for effect in self._step(monotonic_ns() + self._offset_ns, event):
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
        if effect.attach is not None:
            try:
                fd = self._results.descriptor(effect.attach, effect.rows)
            except OSError as error:
                _log.warning("no descriptor for results", extra={"why": error.strerror})
                busy = Busy(what="no descriptor is free", retry_after_ms=1000)
                connection.reply(effect.to.call, busy)
                return
            connection.reply(effect.to.call, body, (fd,))
            return
        if effect.inline is not None:
            assert isinstance(body, ResultsReply), "rows go into the reply that has room for them"
            body = msgspec.structs.replace(
                body, data=self._results.base64(effect.inline, effect.rows)
            )
        connection.reply(effect.to.call, body)

    def _notify(self, effect: fx.Notify) -> None:
        connection = self.connections.get(effect.conn)
        if connection is not None:
            assert isinstance(effect.body, JobEvent)
            connection.notify(effect.body)

    def _note(self, effect: fx.Note) -> None:
        fields = {f"note_{name}": value for name, value in effect.fields.items()}
        _log.info(effect.what, extra=fields)


assert set(fx.Effect.__args__) == {
    fx.Reply, fx.Notify, fx.CheckProgram, fx.Calibrate, fx.RunSegment, fx.StopSegment,
    fx.KillWorker, fx.ForgetProgram, fx.SealResults, fx.DropResults, fx.SetTimer, fx.CancelTimer,
    fx.Note, fx.Halt,
}, "every effect is performed"  # fmt: skip
