"""The worker processes: started before they are needed, watched, stopped, replaced.

All numerics run there (Stim holds the interpreter lock for whole calls), one process per core, each
a fresh interpreter with a socket to us and shared words by which a running segment is asked to stop
or to park. A worker that breaks the protocol or does not stop is killed; the kernel runs its
segments elsewhere and gets the same bits. Which worker runs what is the kernel's decision; how it
is run, the engine's (`qmkd/engine/messages.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from select import EPOLLIN, EPOLLOUT
from time import monotonic

import msgspec
import trio

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.ports import Sandbox
from qmkd.engine import messages as msg
from qmkd.engine.limits import SNAPSHOT_BYTES_MAX
from qmkd.shell.hub import Hub
from qmkd.shell.outbox import Outbox
from qmkd.shell.results import Results, Rows
from qmkd.shell.snapshots import SEALS, Snapshots
from qmkd.shell.tables import Tables
from qmkd.shell.tracing import Traces
from syscalls.decoding import SHOT_COLUMNS_BYTES
from syscalls.findings import Finding
from syscalls.results import SHOT_BLOCK

READ_BYTES = 256 * 1024
SAID_BYTES_MAX = 8 * 1024  # of what a worker writes to standard error, per line of ours
WORKER_ENV = ("PYTHON", "LD_LIBRARY_PATH", "LANG", "LC_")
HEALTHY_S = 5.0  # a worker that lived so long is replaced at once
STOP_WORDS = struct.Struct("<QQQ")  # tickets that are to stop, to park, to turn back; or 0
FDS_WAITING_MAX = 4  # descriptors of a worker whose messages are not whole yet
DIGEST_BYTES = 32
BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 30.0
START_FAILURES_MAX = 3  # in a row, before any worker was ever ready

assert BACKOFF_S_MIN < BACKOFF_S_MAX

_log = logging.getLogger("qmkd.workers")


class Worker:
    """One process. `ready`: it has said so. `running`: segments and checks it has not answered."""

    def __init__(self, number: int, options: Sequence[str]) -> None:
        """Start it. Raises OSError out of descriptors or processes, and then leaves nothing."""
        self.number = number
        self.started = monotonic()
        with contextlib.ExitStack() as undo:
            self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            undo.callback(self.sock.close)
            with theirs:
                self.stop_fd = os.memfd_create("qmk-stop", os.MFD_CLOEXEC)
                undo.callback(os.close, self.stop_fd)
                os.ftruncate(self.stop_fd, STOP_WORDS.size)
                self.stop_words = mmap.mmap(self.stop_fd, STOP_WORDS.size)
                undo.callback(self.stop_words.close)
                self.process = _start_process(theirs.fileno(), self.stop_fd, options)
                undo.enter_context(self.process)
                undo.callback(self.process.kill)
            self.pidfd = os.pidfd_open(self.process.pid)
            undo.pop_all()
        self.sock.setblocking(False)
        self.outbox = Outbox(self.sock)
        self.frames = msg.Frames()
        self.mask = EPOLLIN
        self.said_open = True
        self.ready = False
        self.connected = True
        self.blameless = False  # it is ended on the kernel's wish
        self.programs: set[int] = set()
        self.tables: set[str] = {""}
        self.running: dict[int, tuple[fx.RunSegment, Rows] | fx.CheckProgram | fx.Calibrate] = {}
        # What is not sent before what it goes on from is fetched.
        self.waiting: dict[int, fx.RunSegment] = {}
        # Tickets for each of the words, in the order in which they will be met.
        self.stopping: tuple[list[int], list[int], list[int]] = ([], [], [])
        # That came with messages not heard yet; None: there was no room for it here.
        self.fds: deque[int | None] = deque()
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    def stop_next(self) -> None:
        """Point the shared words at the segments that are next, if any."""
        STOP_WORDS.pack_into(
            self.stop_words, 0, *(some[0] if some else 0 for some in self.stopping)
        )

    def close(self) -> None:
        self.outbox.clear()
        for fd in self.fds:
            if fd is not None:
                os.close(fd)
        self.stop_words.close()
        os.close(self.stop_fd)
        os.close(self.pidfd)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Pool:
    """All workers, by number. Tells `feed` what becomes of what it is asked.

    options: of each worker's command line. needed: parts of the sandbox without which none works.
    traces: told when segments ran that it follows; None for nobody.
    """

    def __init__(
        self,
        hub: Hub,
        results: Results,
        tables: Tables,
        feed: Callable[[ev.Event], None],
        count: int,
        options: Sequence[str],
        needed: Sequence[str] = (),
        snapshots: Snapshots | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._hub = hub
        self._results = results
        self._tables = tables
        self._feed = feed
        self._options = options
        self._needed = needed
        self._snapshots = Snapshots() if snapshots is None else snapshots
        self._traces = traces
        self._told: Sandbox | None = None
        self._workers: dict[int, Worker] = {}
        self._numbers = range(count)
        self._failures = dict.fromkeys(self._numbers, 0)
        self._ever_ready = False
        self._ending = False
        self._start_at: dict[int, float] = dict.fromkeys(self._numbers, 0.0)
        self._due = trio.Event()
        self.settled = trio.Event()  # a worker is ready, or `broken` says why none will be
        self.broken = ""

    async def keep(self) -> None:
        """Start workers when they are due, until cancelled."""
        while True:
            now = trio.current_time()
            for number, at in list(self._start_at.items()):
                if at <= now and not self._ending:
                    del self._start_at[number]
                    self._start(number)
            self._due = trio.Event()
            wait_s = min(self._start_at.values(), default=now + BACKOFF_S_MAX) - now
            with trio.move_on_after(max(0.0, wait_s)):
                await self._due.wait()

    async def close(self) -> None:
        """End all workers, and wait for their ends."""
        self._ending = True
        for worker in self._workers.values():
            worker.process.kill()
        while self._workers:
            await trio.sleep(0.002)

    # --- what the kernel wishes ----------------------------------------------------------------

    def run(self, segment: fx.RunSegment) -> None:
        """Run shots, once what they go on from is here; a program that the worker does not hold is
        sent first."""
        worker = self._workers.get(segment.worker)
        if worker is None or not worker.connected:
            return  # WorkerGone is on its way
        size = segment.shots_total * segment.row_bytes
        try:
            if self._is_fetched(worker, segment):
                rows = self._results.rows(segment.job_id, size)
                self._send_run(worker, segment, rows)
        except _Lost as lost:
            self._fail(worker, segment.ticket, "unfit", str(lost))
        except OSError as error:
            self._fail(worker, segment.ticket, "results", str(error.strerror))

    def _is_fetched(self, worker: Worker, segment: fx.RunSegment) -> bool:
        """Whether what the segment goes on from need not be fetched, or is now. Raises `_Lost`."""
        if not segment.resume:
            return True

        def fetched(error: OSError | None) -> None:
            # It may have been stopped meanwhile; or its worker is gone, and the kernel told.
            if worker.waiting.pop(segment.ticket, None) is None or not worker.connected:
                return
            if error is None:
                self.run(segment)
            else:
                self._fail(worker, segment.ticket, "unfit", error.strerror or str(error))

        try:
            begun = self._snapshots.fetch(segment.resume, fetched)
        except OSError as error:
            raise _Lost(error.strerror or str(error)) from error
        if begun:
            worker.waiting[segment.ticket] = segment
        return not begun

    def _send_run(self, worker: Worker, segment: fx.RunSegment, rows: Rows) -> None:
        """Raises OSError out of descriptors, `_Lost` where nothing is there to go on from."""
        with contextlib.ExitStack() as undo:
            fds = tuple(_duplicate(fd, undo) for fd in self._files(segment, rows))
            undo.pop_all()
        worker.running[segment.ticket] = (segment, rows)
        if segment.program not in worker.programs:
            worker.programs.add(segment.program)
            self._send(worker, msg.Load(segment.program, segment.graph))
        self._send_table(worker, segment.setting.table)
        run = msg.Run(
            ticket=segment.ticket,
            program=segment.program,
            engine=segment.engine,
            seed=segment.seed,
            noise=segment.noise,
            shot_first=segment.shot_first,
            shots=segment.shots,
            row_bytes=segment.row_bytes,
            counts=segment.counts,
            sink="inline" if rows.fd is None else "fd",
            row_offset=segment.shot_first,
            setting=segment.setting,
            resume=segment.resume != 0,
            park_ns=segment.park_ns,
            snapshot_bytes=self._snapshots.room(len(self._numbers)),
            timed=self._traces is not None and self._traces.follows(segment.ticket),
        )
        self._send(worker, run, fds)

    def _files(self, segment: fx.RunSegment, rows: Rows) -> Iterator[int]:
        """What goes with the message, in its order."""
        if rows.fd is not None:
            yield rows.fd
        if segment.resume:
            fd = self._snapshots.descriptor(segment.resume)
            if fd is None:
                raise _Lost(f"nothing is kept of ticket {segment.resume}")
            yield fd

    def check(self, check: fx.CheckProgram) -> None:
        worker = self._workers.get(check.worker)
        if worker is None or not worker.connected:
            return
        worker.running[check.ticket] = check
        self._send(worker, msg.Check(check.ticket, check.graph))

    def calibrate(self, calibrate: fx.Calibrate) -> None:
        worker = self._workers.get(calibrate.worker)
        if worker is None or not worker.connected:
            return
        worker.running[calibrate.ticket] = calibrate
        worker.tables.discard(calibrate.table)  # perhaps dropped there to make room
        self._send_table(worker, calibrate.table)
        self._send(worker, msg.Calibrate(calibrate.ticket, calibrate.point, calibrate.table))

    def _send_table(self, worker: Worker, name: str) -> None:
        """A table that the worker does not hold is sent first."""
        if name and name not in worker.tables:
            worker.tables.add(name)
            self._send(worker, msg.Table(name, self._tables.text(name)))

    def stop(self, number: int, ticket: int, keep: bool = False, back: bool = False) -> None:
        """Ask a segment to stop, or to park, once the worker is at it."""
        worker = self._workers.get(number)
        if worker is not None and worker.waiting.pop(ticket, None) is not None:
            self._fail(worker, ticket, "stopped", "it had not begun")
            return
        if worker is None or ticket not in worker.running:
            return
        # Segments run in the order they were sent in.
        places = {one: place for place, one in enumerate(worker.running)}
        for stopping, asked in zip(worker.stopping, (not keep, keep, keep and back), strict=True):
            if asked and ticket not in stopping:
                stopping.append(ticket)
                stopping.sort(key=places.__getitem__)
        worker.stop_next()

    def kill(self, number: int) -> None:
        worker = self._workers.get(number)
        if worker is not None:
            worker.blameless = True
            self._kill(worker)

    def forget(self, program: int) -> None:
        for worker in self._workers.values():
            if program in worker.programs and worker.connected:
                worker.programs.discard(program)
                self._send(worker, msg.Drop(program))

    # --- processes ------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        try:
            worker = Worker(number, self._options)
        except OSError as error:
            _log.error("no worker could be started", extra={"why": error.strerror})
            self._failures[number] += 1
            self._start_later(number, f"no worker could be started: {error.strerror}")
            return
        self._workers[number] = worker
        assert worker.process.stdout is not None
        hub = self._hub
        hub.watch(worker.sock.fileno(), EPOLLIN, lambda events: self._moved(worker, events))
        hub.watch(worker.pidfd, EPOLLIN, lambda events: self._ended(worker))
        hub.watch(worker.process.stdout.fileno(), EPOLLIN, lambda events: self._said(worker))
        _log.debug("worker started", extra={"worker": number, "pid": worker.process.pid})

    def _start_later(self, number: int, why: str) -> None:
        """Start another, the later the more have failed; give up if none ever gets ready."""
        failures = self._failures[number]
        if not self._ever_ready and failures >= START_FAILURES_MAX:
            self.broken = why
            self.settled.set()
            return
        delay = 0.0 if not failures else min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2 ** (failures - 1))
        self._start_at[number] = trio.current_time() + delay
        self._due.set()

    def _kill(self, worker: Worker) -> None:
        """End the process at once. What it said and we have not heard counts no more."""
        worker.process.kill()
        self._disconnect(worker)

    def _disconnect(self, worker: Worker) -> None:
        if worker.connected:
            worker.connected = False
            self._hub.forget(worker.sock.fileno())
            self._hub.close_later(worker.sock)

    def _ended(self, worker: Worker) -> None:
        """The process is no more: reap it, say so, start another."""
        self._disconnect(worker)
        self._said(worker)
        code = worker.process.wait()
        assert worker.process.stdout is not None
        if self._workers[worker.number] is worker:
            del self._workers[worker.number]
        self._hub.forget(worker.pidfd)
        if worker.said_open:
            self._hub.forget(worker.process.stdout.fileno())
        worker.close()
        lived_s = monotonic() - worker.started
        if worker.ready and lived_s >= HEALTHY_S:
            self._failures[worker.number] = 0
        elif not worker.blameless:
            self._failures[worker.number] += 1
        if code == -signal.SIGSYS:
            _log.error("a worker tried what no worker does", extra={"worker": worker.number})
        if not self._ending:
            _log.warning(
                "worker ended",
                extra={"worker": worker.number, "status": code, "lived_s": round(lived_s, 3)},
            )
        if worker.ready:
            self._feed(ev.WorkerGone(worker.number))
        if not self._ending:
            why = f"a worker died {START_FAILURES_MAX} times before it was ready"
            self._start_later(worker.number, why)

    def _said(self, worker: Worker) -> None:
        """Log what a worker wrote to its standard output or error."""
        assert worker.process.stdout is not None
        if not worker.said_open:
            return
        fd = worker.process.stdout.fileno()
        try:
            said = os.read(fd, SAID_BYTES_MAX)
        except BlockingIOError:
            return
        if not said:
            worker.said_open = False
            self._hub.forget(fd)
            return
        for line in said.decode(errors="replace").splitlines():
            _log.warning("worker said: %s", line, extra={"worker": worker.number})

    # --- messages -------------------------------------------------------------------------------

    def _send(self, worker: Worker, message: msg.Request, fds: tuple[int, ...] = ()) -> None:
        if not worker.connected:
            for fd in fds:
                os.close(fd)
            return
        worker.outbox.put(msg.frame(message), fds)
        self._flush(worker)

    def _flush(self, worker: Worker) -> None:
        try:
            worker.outbox.flush()
        except OSError as error:
            _log.debug("worker does not listen", extra={"why": error.strerror})
            self._kill(worker)
            return
        wanted = EPOLLIN | (EPOLLOUT if worker.outbox.waiting else 0)
        if wanted != worker.mask:
            worker.mask = wanted
            self._hub.change(worker.sock.fileno(), wanted)

    def _moved(self, worker: Worker, events: int) -> None:
        if events & EPOLLOUT:
            self._flush(worker)
        if events & ~EPOLLOUT and worker.connected:
            self._read(worker)

    def _read(self, worker: Worker) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(
                worker.sock, READ_BYTES, FDS_WAITING_MAX, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            data, fds, flags = b"", [], 0
        worker.fds += fds
        cut = bool(flags & socket.MSG_CTRUNC)
        if cut and len(fds) < FDS_WAITING_MAX:
            # There was room for it in the message, so it is we who are out of descriptors.
            _log.warning("no descriptor for a snapshot", extra={"worker": worker.number})
            worker.fds.append(None)
            cut = False
        if cut or len(worker.fds) > FDS_WAITING_MAX:
            _log.error("worker sent too many descriptors", extra={"worker": worker.number})
            data = b""
        if not data:
            self._kill(worker)  # its end closed while it lives: of no more use
            return
        try:
            for body in worker.frames.feed(data):
                self._heard(worker, msg.answer(body))
                if not worker.connected:
                    return
        except (msg.BadFrame, _Unasked) as error:
            why = {"worker": worker.number, "why": str(error)}
            _log.error("worker broke the protocol", extra=why)
            self._kill(worker)

    def _heard(self, worker: Worker, message: msg.Answer) -> None:
        if isinstance(message, msg.Ready):
            if worker.ready:
                raise _Unasked("ready twice")
            self._admit(worker, message.sandbox)
            return
        asked = worker.running.pop(message.ticket, None)
        for stopping in worker.stopping:
            if message.ticket in stopping:
                stopping.remove(message.ticket)
                worker.stop_next()
        traces = self._traces if isinstance(asked, tuple) else None
        if traces is not None and isinstance(message, msg.Done | msg.Parked | msg.Failed):
            traces.ran(message)
        if isinstance(asked, fx.CheckProgram) and isinstance(message, msg.Checked | msg.Failed):
            self._feed(_checked(message))
        elif isinstance(asked, fx.Calibrate) and isinstance(message, msg.Calibrated):
            self._calibrated(worker, message)
        elif isinstance(asked, tuple) and isinstance(message, msg.Done):
            self._done(worker, *asked, message)
        elif isinstance(asked, tuple) and isinstance(message, msg.Parked):
            self._parked(worker, *asked, message)
        elif isinstance(asked, tuple) and isinstance(message, msg.Failed):
            self._failed(worker, *asked, message)
        else:
            raise _Unasked(f"{type(message).__name__} of ticket {message.ticket}")

    def _admit(self, worker: Worker, sandbox: Sandbox) -> None:
        """Let it work, unless it is held in too loosely; then it never will, and goes."""
        if missing := [name for name in self._needed if name in sandbox.lacking]:
            whys = "; ".join(f"{name}: {sandbox.lacking[name]}" for name in missing)
            why = f"the sandbox that is required for workers is not to be had: {whys}"
            _log.error(why, extra={"worker": worker.number})
            if not self._ever_ready:
                self.broken = why
                self.settled.set()
            self._kill(worker)
            return
        if sandbox != self._told:
            self._told = sandbox
            _log.info("workers are held in by", extra=_fields(sandbox.in_force))
            if sandbox.lacking:
                _log.warning("workers are not held in by", extra=_fields(sandbox.lacking))
        worker.ready = self._ever_ready = True
        self.settled.set()
        self._feed(ev.WorkerReady(worker.number, sandbox))

    def _done(self, worker: Worker, asked: fx.RunSegment, rows: Rows, done: msg.Done) -> None:
        if done.report.shots != asked.shots:
            raise _Unasked(f"{done.report.shots} shots for {asked.shots}")
        if self._taken_in(worker, asked, rows, done, asked.shots):
            self._feed(ev.SegmentDone(worker.number, done.ticket, done.report))

    def _parked(self, worker: Worker, asked: fx.RunSegment, rows: Rows, parked: msg.Parked) -> None:
        """Hold the snapshot under the segment's ticket."""
        shots = 0 if parked.report is None else parked.report.shots
        if shots % SHOT_BLOCK or not (0 <= shots < asked.shots):
            raise _Unasked(f"{shots} shots done of {asked.shots}")
        if parked.size and not self._holds(worker, parked):
            parked = msgspec.structs.replace(parked, epoch=0, size=0, digest=b"")
        if shots and not self._taken_in(worker, asked, rows, parked, shots):
            self._snapshots.drop(parked.ticket)
            return
        event = ev.SegmentParked(
            worker.number, parked.ticket, parked.report, parked.epoch, parked.size, parked.digest
        )
        self._feed(event)

    def _holds(self, worker: Worker, parked: msg.Parked) -> bool:
        """Hold the snapshot. False where it could not come here, and the rest begins anew.

        Whoever goes on from it is to find in it what it has now.
        """
        if not worker.fds:
            raise _Unasked("a snapshot without its descriptor")
        fd = worker.fds.popleft()
        if fd is None:
            return False
        try:
            sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            size = os.fstat(fd).st_size
        except OSError:
            sealed = size = 0
        fits = 0 < size == parked.size <= SNAPSHOT_BYTES_MAX
        if not fits or sealed & SEALS != SEALS or len(parked.digest) != DIGEST_BYTES:
            os.close(fd)
            raise _Unasked("a snapshot that is not a sealed file of its size")
        self._snapshots.hold(parked.ticket, fd)
        return True

    def _taken_in(
        self,
        worker: Worker,
        asked: fx.RunSegment,
        rows: Rows,
        told: msg.Done | msg.Parked,
        shots: int,
    ) -> bool:
        """Put the first so many rows of the segment in their place. False where there is none, and
        it has failed."""
        if rows.in_memory:
            if told.rows is None or len(told.rows) != shots * asked.row_bytes:
                raise _Unasked("rows of another size")
            rows.write(asked.shot_first * asked.row_bytes, told.rows)
        if asked.setting.decoder_data:
            if told.decoder_data is None or len(told.decoder_data) != shots * SHOT_COLUMNS_BYTES:
                raise _Unasked("decoder data of another size")
            try:
                size = asked.shots_total * SHOT_COLUMNS_BYTES
                data = self._results.rows(asked.job_id, size, "decoder")
                data.write(asked.shot_first * SHOT_COLUMNS_BYTES, told.decoder_data)
            except OSError as error:
                self._fail(worker, told.ticket, "results", str(error.strerror))
                return False
        return True

    def _failed(self, worker: Worker, asked: fx.RunSegment, rows: Rows, failed: msg.Failed) -> None:
        if failed.reason == "unloaded":
            # Forgotten to make room for others: send it again.
            worker.programs.discard(asked.program)
            worker.tables.discard(asked.setting.table)
            self.run(asked)
        else:
            fields = (failed.reason, failed.message, failed.epoch, failed.asked, failed.limit)
            self._feed(ev.SegmentFailed(worker.number, failed.ticket, *fields, failed.point))

    def _calibrated(self, worker: Worker, message: msg.Calibrated) -> None:
        if message.text:
            try:
                self._tables.extend(message.text)
            except OSError as error:
                _log.error("the table of points is not on disk", extra={"why": error.strerror})
        name = self._tables.current if message.text else ""
        self._feed(ev.Calibrated(worker.number, message.ticket, name, message.why))

    def _fail(self, worker: Worker, ticket: int, reason: str, message: str) -> None:
        self._feed(ev.SegmentFailed(worker.number, ticket, reason, message))


def _duplicate(fd: int, undo: contextlib.ExitStack) -> int:
    """Another descriptor of the same file. Raises OSError."""
    other = os.dup(fd)
    undo.callback(os.close, other)
    return other


class _Lost(Exception):
    """What a segment was to go on from is not here, or damaged."""


class _Unasked(Exception):
    """A worker said what nobody asked for."""


def _fields(parts: Mapping[str, str]) -> dict[str, str]:
    """As the log names them."""
    return {name.replace(" ", "_"): what for name, what in parts.items()}


def _checked(message: msg.Checked | msg.Failed) -> ev.ProgramChecked:
    if isinstance(message, msg.Checked):
        return ev.ProgramChecked(
            ticket=message.ticket,
            summary=message.summary,
            findings=message.findings,
            findings_total=message.findings_total,
            warnings=message.warnings,
        )
    finding = Finding(
        rule=f"verifier.{message.reason}",
        severity="error",
        node=None,
        path="$",
        message=message.message,
    )
    return ev.ProgramChecked(message.ticket, None, (finding,), 1)


def _start_process(sock: int, stop: int, options: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "qmkd.engine.worker", str(sock), str(stop), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(sock, stop),
        env=_worker_environment(),
        process_group=0,
    )


def _worker_environment() -> dict[str, str]:
    """Of ours, what starting the interpreter may take."""
    return {name: value for name, value in os.environ.items() if name.startswith(WORKER_ENV)}
