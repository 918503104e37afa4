"""The worker process: `python -m qmkd.engine.worker SOCKET_FD STOP_FD [options]`.

Blocking and single-threaded: it takes requests from a socket in order, runs them, answers in order.
STOP_FD is a memfd of STOP_BYTES bytes, mapped shared: while its first word holds a run's ticket,
that run stops at its next fence; while its second does, it parks there; and while its third does as
well, at the fence before, if it can undo what it has run since. The worker trusts no size, ends
quietly when the daemon does, leaves no core, and is held to a memory bound by the host's kernel.
`messages.py` has the protocol, `run.py` the work.

Nothing numeric is imported before `main` has set the number of threads.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from qmkd.core.ports import Sandbox, SegmentReport
from qmkd.engine import messages
from qmkd.engine.choose import EXACT
from qmkd.engine.messages import (
    Answer,
    Calibrate,
    Calibrated,
    Check,
    Checked,
    Done,
    Drop,
    Failed,
    Load,
    Parked,
    Ready,
    Request,
    Run,
    Table,
)
from qmkd.engine.sandbox import LEVELS, THREADS_ENV, Confinement, die_with_the_daemon
from qvm.program import VerifiedProgram
from qvm.verify import verify_bytes

if TYPE_CHECKING:
    from qmkd.engine.layout import Packed
    from qmkd.engine.prepared import Prepared

STOP_BYTES: Final = 24
RECEIVE_BYTES: Final = 1 << 18
FDS_MAX: Final = 64  # at once in one message, and waiting for their runs
PROGRAMS_MAX: Final = 256
PROGRAM_BYTES_MAX: Final = 64 << 20  # graphs held, all together, unless it is a single one
ANSWER_BYTES_HELD: Final = 1 << 16
ANSWER_NS_HELD: Final = 2_000_000  # a finished answer waits no longer for company
MESSAGE_CHARS_MAX: Final = 500

_SCHEDULERS: Final = {"other": os.SCHED_OTHER, "batch": os.SCHED_BATCH, "idle": os.SCHED_IDLE}

_WARM_UP: Final = (
    b'{"version":"0.1","program":{"nodes":['
    b'{"id":"a","op":"ALLOC_LQ","vqs":["p","q"],"args":{"n":2,"profile":"logical:ideal"}},'
    b'{"id":"h","op":"APPLY_H","vqs":["p"]},'
    b'{"id":"c","op":"APPLY_CNOT","vqs":["p","q"]},'
    b'{"id":"m","op":"MEASURE_Z","vqs":["p"],"produces":["m"]},'
    b'{"id":"x","op":"APPLY_X","vqs":["q"],"guard":{"event":"m","equals":1}},'
    b'{"id":"n","op":"MEASURE_X","vqs":["q"],"produces":["n"]},'
    b'{"id":"f","op":"FREE_LQ","vqs":["p","q"]}]},'
    b'"resources":{"vqs":["p","q"],"chs":[],"events":["m","n"]}}'
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m qmkd.engine.worker", description=__doc__)
    parser.add_argument("socket", type=int, help="file descriptor of a connected Unix socket")
    parser.add_argument("stop", type=int, help=f"file descriptor of a memfd of {STOP_BYTES} bytes")
    parser.add_argument(
        "--memory-bytes",
        type=int,
        default=0,
        help="address space beyond a warm worker's; 0: no bound",
    )
    parser.add_argument("--nice", type=int, default=5)
    parser.add_argument("--scheduler", choices=_SCHEDULERS, default="batch")
    parser.add_argument("--sandbox", choices=LEVELS, default="best")
    parser.add_argument("--user", type=int, nargs=2, metavar=("UID", "GID"), help="instead of root")
    options = parser.parse_args(argv)
    _settle(options.nice, options.scheduler)
    confinement = Confinement(options.sandbox, options.user)
    confinement.begin((options.socket, options.stop))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        worker = Worker(socket.socket(fileno=options.socket), mmap.mmap(options.stop, STOP_BYTES))
        os.close(options.stop)
        worker.warm_up(everything=not confinement.reads_code)
        if options.memory_bytes:
            _bound_memory(options.memory_bytes)
        worker.serve(confinement.finish())
    return 0


def _settle(nice: int, scheduler: str) -> None:
    """Die with the daemon, leave no core, stand back behind it, and use one thread."""
    die_with_the_daemon()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(nice)
    os.sched_setscheduler(0, _SCHEDULERS[scheduler], os.sched_param(0))
    for name in THREADS_ENV:
        os.environ[name] = "1"
    # PyMatching imports Matplotlib for pictures, which no worker draws, and which at once looks for
    # a folder to write to.
    for name in ("matplotlib", "matplotlib.cbook"):
        sys.modules[name] = module_from_spec(ModuleSpec(name, None))


def _bound_memory(extra: int) -> None:
    """Let the address space grow by at most `extra` bytes from here."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class _Unloaded(Exception):
    """The program or table that it names is not held here."""


class _Found(NamedTuple):
    """What a run came to. snapshot: of what is left of it; empty for none."""

    answer: Done | Parked
    snapshot: bytes = b""


class Worker:
    """One connection to the daemon, and the programs it has sent, least recently used first."""

    def __init__(self, connection: socket.socket, stop: mmap.mmap) -> None:
        self._connection = connection
        self._stop = memoryview(stop).cast("Q")
        self._frames = messages.Frames()
        self._fds: deque[int] = deque()
        self._graphs: OrderedDict[int, bytes] = OrderedDict()
        self._prepared: dict[int, Prepared] = {}
        self._bytes = 0
        self._tables = {""}
        self._answers: list[bytearray] = []
        self._held = 0
        self._held_since = 0

    def warm_up(self, everything: bool) -> None:
        """Import what most runs need, or everything, and run each engine once."""
        from qmkd.engine import engines, run

        program = run.prepare(_WARM_UP)
        for engine in (engines.TABLEAU, *engines.MAKERS):
            run.run_segment(program, 1, 0, 2, engine)
        if everything:
            from qmkd.engine import preload

            preload.load_everything()

    def serve(self, sandbox: Sandbox) -> None:
        """Say that all is ready, and answer requests until the daemon closes the connection."""
        versions = {name: sys.modules[name].__version__ for name in ("numpy", "stim")}
        self._connection.sendall(messages.frame(Ready(os.getpid(), versions, sandbox)))
        for request in self._requests():
            match request:
                case Load():
                    self._load(request)
                case Drop():
                    self._drop(request.program)
                case Run(timed=True):
                    self._answer(*self._run_timed(request))
                case Run():
                    self._answer(*self._run(request))
                case Check():
                    self._answer(_check(request))
                case Table():
                    self._hold(request)
                case Calibrate():
                    self._answer(_calibrate(request))

    # --- the socket -------------------------------------------------------------------------------

    def _requests(self) -> Iterator[Request]:
        """Requests in order. Held answers go out before anything is waited for."""
        while True:
            self._flush()
            chunk, fds, flags, _ = socket.recv_fds(self._connection, RECEIVE_BYTES, FDS_MAX)
            self._fds += fds
            if not chunk:
                return
            if flags & socket.MSG_CTRUNC or len(self._fds) > FDS_MAX:
                raise messages.BadFrame("more file descriptors than runs may wait for")
            for body in self._frames.feed(chunk):
                yield messages.request(body)

    def _answer(self, answer: Answer, file: int | None = None) -> None:
        """Send an answer, perhaps together with the next ones; at once with a descriptor, which is
        closed then."""
        encoded = messages.frame(answer)
        if file is not None:
            self._flush()
            try:
                sent = socket.send_fds(self._connection, [encoded], [file])
            finally:
                os.close(file)
            self._connection.sendall(encoded[sent:])
            return
        now = time.monotonic_ns()
        if not self._answers:
            self._held_since = now
        self._answers.append(encoded)
        self._held += len(encoded)
        if self._held > ANSWER_BYTES_HELD or now - self._held_since > ANSWER_NS_HELD:
            self._flush()

    def _flush(self) -> None:
        if self._answers:
            self._connection.sendall(b"".join(self._answers))
            self._answers.clear()
            self._held = 0

    # --- programs ---------------------------------------------------------------------------------

    def _load(self, load: Load) -> None:
        self._drop(load.program)
        self._graphs[load.program] = load.graph
        self._bytes += len(load.graph)
        while len(self._graphs) > 1 and (
            len(self._graphs) > PROGRAMS_MAX or self._bytes > PROGRAM_BYTES_MAX
        ):
            self._drop(next(iter(self._graphs)))

    def _drop(self, program: int) -> None:
        self._bytes -= len(self._graphs.pop(program, b""))
        self._prepared.pop(program, None)

    def _program(self, program: int) -> Prepared:
        """The prepared program; raises `_Unloaded`, or `Unable` where the graph is not valid."""
        from qmkd.engine import run

        if program not in self._graphs:
            raise _Unloaded(f"program {program}")
        self._graphs.move_to_end(program)
        found = self._prepared.get(program)
        if found is None:
            found = self._prepared[program] = run.prepare(self._graphs[program])
        return found

    def _hold(self, table: Table) -> None:
        from qmkd.engine import tables

        self._tables = tables.hold(table.name, table.text)

    # --- work -------------------------------------------------------------------------------------

    def _run_timed(self, run: Run) -> tuple[Answer, int | None]:
        """Likewise, and say from when to when."""
        began_ns = time.monotonic_ns()
        answer, file = self._run(run)
        return msgspec.structs.replace(answer, ran=(began_ns, time.monotonic_ns())), file

    def _run(self, run: Run) -> tuple[Answer, int | None]:
        """Run the shots. Whatever goes wrong is an answer, and the worker lives on. Second, the
        descriptor that goes with it."""
        with contextlib.ExitStack() as closing:
            file = self._descriptor(run.sink == "fd", closing)
            parked = self._descriptor(run.resume, closing)
            found = self._found(run, file, parked)
        if isinstance(found, Failed) or found.snapshot == b"":
            return (found if isinstance(found, Failed) else found.answer), None
        return _with_snapshot(found.answer, found.snapshot)

    def _descriptor(self, wanted: bool, closing: contextlib.ExitStack) -> int | None:
        """The next that came, if one is wanted and has come."""
        if not wanted or not self._fds:
            return None
        closing.callback(os.close, self._fds[0])
        return self._fds.popleft()

    def _found(self, run: Run, file: int | None, parked: int | None) -> Failed | _Found:
        from qmkd.engine.exact import TooLarge
        from qmkd.engine.prepared import Stopped, Unable, Uncalibrated
        from qmkd.engine.snapshot import Unfit

        try:
            if (run.sink == "fd" and file is None) or (run.resume and parked is None):
                raise Unable("no file descriptor came with the run")
            return self._rows(run, file, parked)
        except Unfit as unfit:
            return Failed(run.ticket, "unfit", str(unfit)[:MESSAGE_CHARS_MAX])
        except _Unloaded as missing:
            return Failed(run.ticket, "unloaded", f"{missing} is not loaded here")
        except Stopped as stopped:
            if self._stop[0] != run.ticket:  # it was to park, and stands nowhere
                return _Found(Parked(run.ticket, None, None))
            return Failed(run.ticket, "stopped", str(stopped), stopped.epoch)
        except TooLarge as large:
            what = f"room for exact probabilities, in {large.what}"
            return Failed(run.ticket, "too_large", what, asked=large.needed, limit=large.most)
        except Uncalibrated as lack:
            what = str(lack)[:MESSAGE_CHARS_MAX]
            return Failed(run.ticket, "uncalibrated", what, point=lack.point)
        except Unable as unable:
            return Failed(run.ticket, "refused", str(unable)[:MESSAGE_CHARS_MAX])
        except MemoryError:
            self._prepared.pop(run.program, None)
            return Failed(run.ticket, "memory", "the run needs more memory than a worker may have")
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            return Failed(run.ticket, "internal", text[:MESSAGE_CHARS_MAX])

    def _rows(self, run: Run, file: int | None, parked: int | None) -> _Found:
        from qmkd.engine.layout import packed_row_bytes
        from qmkd.engine.prepared import Unable
        from qmkd.engine.run import Parking, run_slice

        started = time.thread_time_ns()
        if run.setting.table not in self._tables:
            raise _Unloaded(f"table {run.setting.table}")
        program = self._program(run.program)
        read_ns = time.thread_time_ns() - started
        row_bytes = 0 if run.engine == EXACT else packed_row_bytes(program.lowered.events)
        if row_bytes != run.row_bytes:
            raise Unable(f"a row takes {row_bytes} bytes here, not {run.row_bytes}")
        parts: list[bytes] = []
        known: list[bytes] = []
        offset = run.row_offset * row_bytes

        def sink(packed: Packed) -> None:
            nonlocal offset
            if file is None:
                parts.append(packed.tobytes())
            else:
                view = packed.reshape(-1).data
                while view:
                    written = os.pwrite(file, view, offset)
                    offset += written
                    view = view[written:]

        flag, ticket, exact = self._stop, run.ticket, run.engine == EXACT
        found = run_slice(
            program,
            run.seed,
            run.shot_first,
            run.shots,
            run.engine,
            run.noise,
            run.counts,
            # Probabilities stand at no fence: to park is to begin anew.
            lambda: flag[0] == ticket or (exact and flag[1] == ticket),
            sink,
            run.setting,
            lambda data: known.append(data.tobytes()),
            Parking(
                lambda: flag[1] == ticket,
                run.park_ns,
                run.snapshot_bytes,
                lambda: flag[2] == ticket,
            ),
            None if parked is None else os.pread(parked, os.fstat(parked).st_size, 0),
        )
        rows = b"".join(parts) if file is None else None
        data = b"".join(known) if run.setting.decoder_data else None
        if isinstance(found, SegmentReport):
            return _Found(Done(ticket, _read_too(found, read_ns), rows, data))
        report = found.report and _read_too(found.report, read_ns)
        answer = Parked(ticket, report, rows, data, found.epoch)
        return _Found(answer, found.snapshot)


def _read_too(report: SegmentReport, read_ns: int) -> SegmentReport:
    """With the time that it took to read the program."""
    return msgspec.structs.replace(
        report, cpu_ns=report.cpu_ns + read_ns, spent=report.spent | {"read": read_ns}
    )


def _with_snapshot(parked: Answer, snapshot: bytes) -> tuple[Answer, int | None]:
    """The answer as it is sent, and a memory file of the snapshot, which nobody can change; none
    where there is no room for it."""
    from qmkd.engine.snapshot import in_memory

    assert isinstance(parked, Parked)
    try:
        file = in_memory(snapshot)
    except OSError:
        return msgspec.structs.replace(parked, epoch=0), None
    digest = sha256(snapshot).digest()
    return msgspec.structs.replace(parked, size=len(snapshot), digest=digest), file


def _calibrate(calibrate: Calibrate) -> Calibrated:
    """Measure. Whatever goes wrong is an answer."""
    from qmkd.engine import tables
    from qmkd.engine.prepared import Unable
    from qmkd.qec.demand import Unmeasurable

    try:
        return Calibrated(calibrate.ticket, tables.measured(calibrate.point, calibrate.table))
    except (Unmeasurable, Unable) as cannot:
        why = str(cannot)
    except MemoryError:
        why = "measuring them needs more memory than a worker may have"
    except Exception as error:
        why = f"measuring them failed: {type(error).__name__}: {error}"
    return Calibrated(calibrate.ticket, b"", why[:MESSAGE_CHARS_MAX])


def _check(check: Check) -> Answer:
    try:
        verified = verify_bytes(check.graph)
    except MemoryError:
        return Failed(check.ticket, "memory", "verifying needs more memory than a worker may have")
    if isinstance(verified, VerifiedProgram):
        return Checked(check.ticket, verified.summary, warnings=verified.warnings)
    total = getattr(verified, "total", len(verified))
    return Checked(check.ticket, None, tuple(verified), total)


if __name__ == "__main__":
    sys.exit(main())
