"""Spans of what the daemon does for calls whose callers keep a trace, told to whoever exports them.

`Traces.step` stands in the place of `Kernel.step`, as `metrics.Counts` does: it reads events and
effects as they pass, and neither the kernel nor the pump knows of it. A call with a sampled
`traceparent` (`syscalls.tracing`) gets a span; the job that it makes, spans of its waiting, its
place, its segments, what workers ran of them, and what was made durable. Nothing is kept of other
calls, and of a trace nothing outlives the daemon.

`Teller` sends finished spans as datagrams of JSON lines to a local socket, and never waits for it:
where nobody takes them, they are dropped and counted. Which protocol a collector speaks is the
business of who listens there (`runtime/tracing`), in a process of its own.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final

import msgspec
import trio

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.effects import Effect
from qmkd.core.events import Called, Origin
from qmkd.core.records import EndRow, JobRow, SliceRow
from qmkd.engine import messages as msg
from syscalls.checkpoint import Replayed, Restored
from syscalls.errors import KernelError
from syscalls.job import FINAL_STATES, JobStatus, Submitted
from syscalls.tracing import Span, TraceParent

JOBS_MAX: Final = 4096
"""Traced jobs that are not over; of more, the oldest is followed no further."""
WAITING_MAX: Final = 8192
"""Spans that wait to be sent."""
DATAGRAM_BYTES_MAX: Final = 32 * 1024  # below what a socket may send by default
PER_TURN_MAX: Final = 64  # spans encoded before calls are served again, some 0.1 ms
GATHER_S: Final = 0.1  # between two looks at what there is to send
SPENT_MAX: Final = 16  # parts of a worker's time that a span has
NAME_CHARS_MAX: Final = 32  # of one of these, and of why a segment failed
SPAN_BYTES_MAX: Final = 4 * 1024  # far more than any of ours has

assert SPAN_BYTES_MAX < DATAGRAM_BYTES_MAX

Attributes = dict[str, str | int | float]
_encode = msgspec.json.Encoder().encode
_MAKES_A_JOB = (Submitted, Replayed, Restored)


class _Call(msgspec.Struct, frozen=True):
    """A call that is not answered. span_id: of its own span."""

    parent: TraceParent
    span_id: str
    method: str
    uid: int
    began_ns: int


class _Job(msgspec.Struct):
    """A job that is not over. began_ns: of the call that made it. placed_ns: 0 until it ran."""

    trace_id: str
    call_id: str
    span_id: str
    began_ns: int
    placed_ns: int = 0
    place_id: str = ""


class _Segment(msgspec.Struct, frozen=True):
    job: str
    span_id: str
    began_ns: int
    attributes: Attributes


class _Keep(msgspec.Struct, frozen=True):
    """Rows of these jobs are not durable yet. ended: of jobs that are over once they are."""

    number: int
    began_ns: int
    jobs: tuple[str, ...]
    ended: tuple[JobStatus, ...]


def _new_id() -> str:
    return os.urandom(8).hex()


class Traces:
    """Makes spans. `step` is to be called where the kernel's own would be.

    teller: takes each span that is finished. offset_ns: from the monotonic clock to the one that
    steps are told, known before the first of them.
    """

    def __init__(self, step: Callable[[int, ev.Event], list[Effect]], teller: Teller) -> None:
        self.offset_ns = 0
        self.teller = teller
        self._step = step
        self._announced: tuple[int, int, TraceParent] | None = None
        self._calls: dict[int, dict[int, _Call]] = {}  # by connection, by call
        self._jobs: dict[str, _Job] = {}
        self._segments: dict[int, _Segment] = {}
        self._checks: dict[int, tuple[_Call, int, int]] = {}  # with worker and time
        self._keeps: deque[_Keep] = deque()
        self._over: dict[type, Callable[[Any, int], None]] = {
            ev.SegmentDone: self._done,
            ev.SegmentParked: self._parked,
            ev.SegmentFailed: self._failed,
            ev.WorkerGone: self._worker_gone,
            ev.ClientGone: self._client_gone,
            ev.Kept: self._kept,
        }

    def announce(self, conn: int, call: int, parent: TraceParent) -> None:
        """The next call to come in may be this one."""
        self._announced = (conn, call, parent) if parent.sampled else None

    def step(self, now_ns: int, event: ev.Event) -> list[Effect]:
        """As the kernel's."""
        effects = self._step(now_ns, event)
        if type(event) is Called and self._announced is None and len(effects) == 1:
            # By far the most common: a call that nobody traces, answered at once.
            reply = effects[0]
            if type(reply) is fx.Reply and reply.to is event.origin:
                body = reply.body
                if type(body) is not JobStatus or body.job_id not in self._jobs:
                    return effects
        followed = self._calls or self._jobs or self._segments or self._checks
        if followed or self._announced is not None:
            self._look(now_ns, event, effects)
        return effects

    def _look(self, now_ns: int, event: ev.Event, effects: list[Effect]) -> None:
        at_ns = monotonic_ns() + self.offset_ns
        call = None
        if type(event) is Called:
            call = self._called(now_ns, event)
        elif type(event) is ev.ProgramChecked:
            call = self._checked(event, at_ns)
        replies = [effect for effect in effects if type(effect) is fx.Reply]
        keeps = [effect for effect in effects if type(effect) is fx.Keep]
        if call is not None:
            # A job may run before its call is answered, which waits until it is durable.
            made = [row.id for keep in keeps for row in keep.rows if type(row) is JobRow]
            if len(made) == 1:
                self._adopt(made[0], call)
        for reply in replies:
            self._answered(reply.to, reply.body, at_ns)
        if (over := self._over.get(type(event))) is not None:
            over(event, at_ns)
        for effect in effects:
            if type(effect) is fx.CheckProgram and call is not None:
                self._checks[effect.ticket] = (call, effect.worker, at_ns)
            elif type(effect) is fx.RunSegment:
                self._run(effect, at_ns)
        for keep in keeps:
            self._keep(keep, at_ns)
        # Of a daemon that keeps nothing there is no other word that a job is over.
        for reply in replies:
            if isinstance(reply.body, JobStatus) and reply.body.state in FINAL_STATES:
                self._end(reply.body.job_id, reply.body, at_ns)
        for effect in effects:
            if type(effect) is fx.SealResults or type(effect) is fx.DropResults:
                self._end(effect.job_id, None, at_ns)

    # --- calls ----------------------------------------------------------------------------------

    def _called(self, now_ns: int, event: Called) -> _Call | None:
        announced, self._announced = self._announced, None
        origin = event.origin
        if announced is None or announced[:2] != (origin.conn, origin.call):
            return None  # what was announced needed no step
        call = _Call(announced[2], _new_id(), event.request.METHOD, event.peer.uid, now_ns)
        self._calls.setdefault(origin.conn, {})[origin.call] = call
        return call

    def _answered(self, to: Origin, body: msgspec.Struct, now_ns: int) -> None:
        calls = self._calls.get(to.conn)
        call = None if calls is None else calls.pop(to.call, None)
        if calls is None or call is None:
            return
        if not calls:
            del self._calls[to.conn]
        about: Attributes = {
            "rpc.system": "jsonrpc",
            "rpc.method": call.method,
            "qmk.uid": call.uid,
        }
        error = ""
        if isinstance(body, KernelError):
            error = body.name
            about["rpc.jsonrpc.error_code"] = body.code
        elif isinstance(body, _MAKES_A_JOB):
            about["qmk.job_id"] = body.job_id
            if not (isinstance(body, Submitted) and body.reused):
                self._adopt(body.job_id, call)  # unless it is known already
        parent = call.parent
        self._tell(
            call.method, parent.trace_id, call.span_id, parent.span_id, call.began_ns, now_ns,
            about, error, server=True,
        )  # fmt: skip

    def _client_gone(self, event: ev.ClientGone, now_ns: int) -> None:
        for call in self._calls.pop(event.conn, {}).values():
            parent = call.parent
            self._tell(
                call.method, parent.trace_id, call.span_id, parent.span_id, call.began_ns, now_ns,
                {"rpc.system": "jsonrpc", "rpc.method": call.method}, "client gone", server=True,
            )  # fmt: skip

    def _checked(self, event: ev.ProgramChecked, now_ns: int) -> _Call | None:
        """The call for which a worker verified a program."""
        if (asked := self._checks.pop(event.ticket, None)) is None:
            return None
        call, _, began_ns = asked
        about: Attributes = {"qmk.findings": event.findings_total}
        trace = call.parent.trace_id
        self._tell("verify", trace, _new_id(), call.span_id, began_ns, now_ns, about)
        return call

    # --- jobs -----------------------------------------------------------------------------------

    def _adopt(self, job_id: str, call: _Call) -> None:
        if job_id in self._jobs:
            return
        if len(self._jobs) >= JOBS_MAX:
            del self._jobs[next(iter(self._jobs))]
        self._jobs[job_id] = _Job(call.parent.trace_id, call.span_id, _new_id(), call.began_ns)

    def _run(self, effect: fx.RunSegment, now_ns: int) -> None:
        if (job := self._jobs.get(effect.job_id)) is None:
            return
        if not job.placed_ns:
            job.placed_ns, job.place_id = now_ns, _new_id()
        about: Attributes = {
            "qmk.worker": effect.worker,
            "qmk.engine": effect.engine,
            "qmk.shot_first": effect.shot_first,
            "qmk.shots": effect.shots,
        }
        if effect.resume:
            about["qmk.resumes"] = 1
        self._segments[effect.ticket] = _Segment(effect.job_id, _new_id(), now_ns, about)

    def follows(self, ticket: int) -> bool:
        """Whether it is to be told when a worker ran this segment."""
        return ticket in self._segments

    def ran(self, answer: msg.Done | msg.Parked | msg.Failed) -> None:
        """A worker answers; of a segment that is followed, it says when it ran."""
        segment = self._segments.get(answer.ticket)
        job = None if segment is None else self._jobs.get(segment.job)
        if segment is None or job is None or answer.ran is None:
            return
        report = None
        if not isinstance(answer, msg.Failed):
            report = answer.report
        elif answer.reason == "unloaded":
            return  # it is sent again, and runs then
        about: Attributes = {"qmk.worker": segment.attributes["qmk.worker"]}
        if report is not None:
            about |= {"qmk.shots": report.shots, "qmk.cpu_ns": report.cpu_ns}
            spent = islice(report.spent.items(), SPENT_MAX)
            about |= {f"qmk.spent.{name[:NAME_CHARS_MAX]}_ns": ns for name, ns in spent}
            if report.decoder is not None:
                about["qmk.decoder_rounds"] = report.decoder.cycles
        # What a worker says may be anything; it did not run before it was asked, nor runs yet.
        now_ns = monotonic_ns() + self.offset_ns
        began_ns, ended_ns = (
            max(segment.began_ns, min(at_ns + self.offset_ns, now_ns)) for at_ns in answer.ran
        )
        self._tell(
            "worker run", job.trace_id, _new_id(), segment.span_id, began_ns, ended_ns, about
        )

    def _done(self, event: ev.SegmentDone, now_ns: int) -> None:
        self._segment_over(event.ticket, now_ns, {"qmk.result": "done"})

    def _parked(self, event: ev.SegmentParked, now_ns: int) -> None:
        about: Attributes = {"qmk.result": "parked", "qmk.epoch": event.epoch}
        self._segment_over(event.ticket, now_ns, about)

    def _failed(self, event: ev.SegmentFailed, now_ns: int) -> None:
        reason = event.reason[:NAME_CHARS_MAX]  # a worker's words
        about: Attributes = {"qmk.result": reason, "qmk.epoch": event.epoch}
        self._segment_over(event.ticket, now_ns, about, reason)

    def _worker_gone(self, event: ev.WorkerGone, now_ns: int) -> None:
        lost = [
            ticket
            for ticket, segment in self._segments.items()
            if segment.attributes["qmk.worker"] == event.worker
        ]
        for ticket in lost:
            self._segment_over(ticket, now_ns, {"qmk.result": "lost"}, "worker gone")
        self._checks = {
            ticket: check for ticket, check in self._checks.items() if check[1] != event.worker
        }

    def _segment_over(self, ticket: int, now_ns: int, more: Attributes, error: str = "") -> None:
        segment = self._segments.pop(ticket, None)
        job = None if segment is None else self._jobs.get(segment.job)
        if segment is not None and job is not None:
            self._tell(
                "segment", job.trace_id, segment.span_id, job.place_id, segment.began_ns, now_ns,
                segment.attributes | more, error,
            )  # fmt: skip

    def _keep(self, effect: fx.Keep, now_ns: int) -> None:
        """Of whose rows these are, and whether a job is over by them."""
        jobs: dict[str, None] = {}
        ended = []
        for row in effect.rows:
            if type(row) is JobRow and row.id in self._jobs:
                jobs[row.id] = None
            elif (type(row) is SliceRow or type(row) is EndRow) and row.job in self._jobs:
                jobs[row.job] = None
                if type(row) is EndRow:
                    ended.append(row.status)
        if jobs:
            self._keeps.append(_Keep(effect.number, now_ns, tuple(jobs), tuple(ended)))

    def _kept(self, event: ev.Kept, now_ns: int) -> None:
        while self._keeps and self._keeps[0].number <= event.number:
            kept = self._keeps.popleft()
            for job_id in kept.jobs:
                if (job := self._jobs.get(job_id)) is not None:
                    self._tell("keep", job.trace_id, _new_id(), job.span_id, kept.began_ns, now_ns)
            for status in kept.ended:
                self._end(status.job_id, status, now_ns)

    def _end(self, job_id: str, status: JobStatus | None, now_ns: int) -> None:
        """It is over. status: None where nobody was told how."""
        job = self._jobs.pop(job_id, None)
        if job is None:
            return
        waited: Attributes = {}
        held: Attributes = {}
        about: Attributes = {"qmk.job_id": job_id}
        error = ""
        if status is not None:
            told, context = status.telemetry, status.execution_context
            waited["qmk.queue_cycles"] = told.queue_cycles
            held["qmk.machine_cycles"] = told.machine_cycles
            held["qmk.physical_qubits"] = told.physical_qubits_used
            held["qmk.moves"] = told.moves
            about["qmk.state"] = status.state.value
            about["qmk.shots"] = status.progress.shots_total
            about["qmk.cpu_ns"] = told.cpu_ns
            if context is not None:
                about["qmk.engine"] = context.engine
            if status.error is not None:
                error = status.error.type
        placed_ns = job.placed_ns or now_ns
        trace, inside = job.trace_id, job.span_id
        self._tell("queued", trace, _new_id(), inside, job.began_ns, placed_ns, waited)
        if job.placed_ns:
            self._tell("placed", trace, job.place_id, inside, placed_ns, now_ns, held)
        self._tell("job", trace, inside, job.call_id, job.began_ns, now_ns, about, error)

    def _tell(
        self,
        name: str,
        trace_id: str,
        span_id: str,
        parent_id: str,
        start_ns: int,
        end_ns: int,
        attributes: Attributes | None = None,
        error: str = "",
        *,
        server: bool = False,
    ) -> None:
        span = Span(
            name=name,
            trace_id=trace_id,
            span_id=span_id,
            parent_id=parent_id,
            start_ns=start_ns,
            end_ns=max(start_ns, end_ns),
            kind="server" if server else "internal",
            error=error,
            attributes=attributes or {},
        )
        self.teller.put(span)


class Teller:
    """Spans on their way to a local datagram socket."""

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)
        self._waiting: deque[Span] = deque()
        self._some = trio.Event()
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._sent = self._dropped = 0

    def counts(self) -> dict[str, int]:
        """How many there were, by what became of them."""
        return {"sent": self._sent, "dropped": self._dropped}

    def put(self, span: Span) -> None:
        """Send it soon, unless too many wait."""
        if len(self._waiting) >= WAITING_MAX:
            self._dropped += 1
            return
        self._waiting.append(span)
        self._some.set()

    async def run(self) -> None:
        """Send what comes, a datagram at a turn, until cancelled."""
        while True:
            await self._some.wait()
            await trio.sleep(GATHER_S)
            while self._waiting and self._send():
                await trio.lowlevel.checkpoint()
            if not self._waiting:
                self._some = trio.Event()

    def close(self) -> None:
        """Send what is taken at once; nobody waits for the rest."""
        while self._waiting and self._send():
            pass
        self._dropped += len(self._waiting)
        self._waiting.clear()
        self._socket.close()

    def _send(self) -> bool:
        """One datagram of what waits longest. False where nobody takes it now."""
        lines: list[bytes] = []
        size = 0
        for span in self._waiting:
            line = _encode(span)
            size += len(line) + 1
            if size > DATAGRAM_BYTES_MAX or len(lines) == PER_TURN_MAX:
                break
            lines.append(line)
        assert lines, "no span is larger than a datagram"
        try:
            self._socket.sendto(b"\n".join(lines), self._path)
        except OSError:
            return False  # nobody listens, or does not get round to it: later, or never
        for _ in lines:
            self._waiting.popleft()
        self._sent += len(lines)
        return True
