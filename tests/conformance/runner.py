"""Performs the steps of cases against a server, and says of each case how it went.

Every case begins with no connection and no session, and closes the sessions that it opened. A step
is an object; the first of its keys that stands in `_STEPS` says what it does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from tests.conformance.cases import Case, codes
from tests.conformance.chance import unlikely
from tests.conformance.patterns import mismatch, shown
from tests.conformance.values import Variables, chunk, look_up, value
from tests.conformance.wire import ANSWER_S_MAX, Silence, Wire

Verdict = Literal["passed", "failed", "not run"]


class Failed(Exception):
    """The server did something else than the case expects."""


class NotRun(Exception):
    """This server, or this way of reaching it, does not offer what the case needs."""


@dataclass(frozen=True)
class Server:
    """How to reach the server. tenants: those that the caller may act for; the first is the one
    that a case acts for by itself, the second another. single: each request goes on a connection of
    its own, without a newline (the old framing)."""

    path: str
    tenants: tuple[str, ...] = ()
    single: bool = False
    seconds: float = ANSWER_S_MAX


@dataclass(frozen=True)
class Outcome:
    """How a case went. why: what was wrong, or why it was not run."""

    case: Case
    verdict: Verdict
    why: str
    seconds: float


def run_case(server: Server, case: Case) -> Outcome:
    """Run one case; never raises for what the server does."""
    began = time.monotonic()
    stage = Stage(server)
    verdict: Verdict
    try:
        for need in case.needs:
            _NEEDS[need](server)
        for step in case.steps:
            stage.perform(step)
        verdict, why = "passed", ""
    except NotRun as reason:
        verdict, why = "not run", str(reason)
    except (Failed, Silence, OSError, ValueError, KeyError) as wrong:
        verdict, why = "failed", f"{type(wrong).__name__}: {wrong}" if str(wrong) else repr(wrong)
    finally:
        stage.leave()
    return Outcome(case, verdict, why, time.monotonic() - began)


def _needs_stream(server: Server) -> None:
    if server.single:
        raise NotRun("it needs a connection that carries more than one request")


def _needs_other(server: Server) -> None:
    if len(server.tenants) < 2:
        raise NotRun("it needs a second tenant: name two with --tenants")


_NEEDS: Final[dict[str, Callable[[Server], None]]] = {
    "stream": _needs_stream,
    "another tenant": _needs_other,
}


_BEGINNING: Final = ("q_submit", "q_replay", "q_restore")


class Stage:
    """The connections, variables and sessions of one case."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.kept: Variables = {}
        self._wires: dict[str, Wire] = {}
        self._sessions: list[str] = []
        self._jobs: list[dict[str, Any]] = []
        self._serial = 0
        self._codes = codes()

    def perform(self, step: dict[str, Any]) -> None:
        """Do one step. Raises Failed, NotRun, or what the connection raises."""
        kind = next(key for key in _STEPS if key in step)
        try:
            _STEPS[kind](self, step)
        except (Failed, Silence) as wrong:
            raise Failed(f"{shown({kind: step[kind]})}: {wrong}") from None

    def leave(self) -> None:
        """Stop the jobs that the case began and close what it opened: the next finds none of it."""
        calls = [("q_cancel", job) for job in self._jobs]
        calls += [("q_close_session", {"session_id": session}) for session in self._sessions]
        for method, params in calls:
            with contextlib.suppress(OSError, Silence, ValueError):
                self._ask(method, params, "leaving")
        for wire in self._wires.values():
            wire.close()

    def wire(self, name: str) -> Wire:
        if name not in self._wires:
            self._wires[name] = Wire(self.server.path, self.server.seconds)
        return self._wires[name]

    # --- calls ------------------------------------------------------------------------------------

    def _request(self, method: str, params: Any) -> tuple[int, bytes]:
        self._serial += 1
        message = {"jsonrpc": "2.0", "id": self._serial, "method": method, "params": params}
        return self._serial, chunk({"json": message}, {})

    def _ask(self, method: str, params: Any, on: str) -> Any:
        number, data = self._request(method, params)
        if not self.server.single:
            wire = self.wire(on)
            wire.send(data + b"\n")
            return wire.answer(number)
        wire = Wire(self.server.path, self.server.seconds)
        try:
            wire.send(data)
            return wire.answer(number)
        finally:
            wire.close()

    def _judge(self, step: dict[str, Any], answer: Any) -> Any:
        """Compare an answer with what the step expects of it; the result or the error."""
        wrong = mismatch({"jsonrpc": "2.0"}, answer, "the answer")
        if wrong is None and "error" in step:
            wrong = self._refusal(step["error"], answer)
        elif wrong is None:
            wrong = mismatch({"result": value(step.get("result", {}), self.kept)}, answer)
            wrong = wrong or mismatch({"$lacks": ["error"]}, answer)
        if wrong is not None:
            raise Failed(wrong)
        return answer.get("result", answer.get("error"))

    def _refusal(self, expected: Any, answer: Any) -> str | None:
        """What does not fit the error of this name, or `{"type": name, "data": pattern}`."""
        if isinstance(expected, str):
            expected = {"type": expected}
        data = value(expected.get("data", {}), self.kept)
        name = expected["type"]
        body = {
            "code": self._codes[name],
            "message": {"$matches": ".+"},
            "data": {"$all": [{"type": name}, data]},
        }
        return mismatch({"error": body}, answer) or mismatch({"$lacks": ["result"]}, answer)

    def keep(self, step: dict[str, Any], body: Any) -> None:
        for name, path in step.get("keep", {}).items():
            self.kept[name] = look_up(path, body) if path else body

    def call(self, step: dict[str, Any], method: str, params: Any) -> Any:
        answer = self._ask(method, value(params, self.kept), step.get("on", "a"))
        body = self._judge(step, answer)
        self.keep(step, body)
        if method == "q_negotiate_caps" and "result" in answer:
            self._sessions.append(str(body.get("session_id")))
        if isinstance(body.get("job_id"), str) and method in _BEGINNING:
            session = value(params["session_id"], self.kept)
            self._jobs.append({"session_id": session, "job_id": body["job_id"]})
        return body


# --- the kinds of steps -------------------------------------------------------------------------


def _call(stage: Stage, step: dict[str, Any]) -> None:
    stage.call(step, step["call"], step.get("params", {}))


def _session(stage: Stage, step: dict[str, Any]) -> None:
    """Open a session that holds all of `rights`, as `tenant` 0 or 1."""
    params: dict[str, Any] = {"requested": value(step.get("rights", ["CAP_ALLOC"]), stage.kept)}
    tenants, place = stage.server.tenants, step.get("tenant", 0)
    if place < len(tenants):
        params["tenant_id"] = tenants[place]
    opened = stage.call(step, "q_negotiate_caps", params)
    if opened.get("denied"):
        raise NotRun(f"the server denies {', '.join(opened['denied'])}")
    stage.kept[step["session"]] = opened["session_id"]
    stage.kept[f"{step['session']}_opened"] = opened


def _submission(step: dict[str, Any]) -> dict[str, Any]:
    graph = step["graph"] if "graph" in step else {"$program": step["program"]}
    session = step.get("of", "$s")
    return {"session_id": session, "graph": graph, "policy": step.get("policy", {})}


def _submit(stage: Stage, step: dict[str, Any]) -> None:
    body = stage.call(step, "q_submit", _submission(step))
    if "error" not in step:
        stage.kept[step["submit"]] = body["job_id"]


def _run(stage: Stage, step: dict[str, Any]) -> None:
    """Submit a program and wait until it is over."""
    plain = {key: each for key, each in step.items() if key in ("on",)}
    made = stage.call(plain, "q_submit", _submission(step))
    name = step["run"]
    stage.kept[name] = made["job_id"]
    expected = {"state": "COMPLETED"} | step.get("result", {})
    params = {"session_id": step.get("of", "$s"), "job_id": made["job_id"]}
    body = stage.call(step | {"result": expected}, "q_wait", params)
    stage.kept[f"{name}_status"] = body
    if "exact" not in step:
        return
    shots = step["policy"]["shots"]
    if sum(body["counts"].values()) != shots:
        raise Failed(f"the counts are of {sum(body['counts'].values())} shots, not of {shots}")
    wrong = unlikely(body["counts"], step["exact"], step["false_alarm"])
    if wrong is not None:
        raise Failed(wrong)


def _ask(stage: Stage, step: dict[str, Any]) -> None:
    """Call without waiting for the answer, which an `answer` step takes."""
    number, data = stage._request(step["ask"], value(step.get("params", {}), stage.kept))
    stage.kept[f"asked_{step['as']}"] = number
    stage.wire(step.get("on", "a")).send(data + b"\n")


def _answer(stage: Stage, step: dict[str, Any]) -> None:
    wire = stage.wire(step.get("on", "a"))
    stage.keep(step, stage._judge(step, wire.answer(stage.kept[f"asked_{step['answer']}"])))


def _send(stage: Stage, step: dict[str, Any]) -> None:
    wire = stage.wire(step.get("on", "a"))
    wire.send(*(chunk(each, stage.kept) for each in step["send"]))


def _each_byte(stage: Stage, step: dict[str, Any]) -> None:
    wire = stage.wire(step.get("on", "a"))
    wire.send(*(bytes([byte]) for byte in chunk(step["send_bytewise"], stage.kept)))


def _receive(stage: Stage, step: dict[str, Any]) -> None:
    """The next text that comes: a pattern, or `{"refused": name, "id": ...}`."""
    got, expected = stage.wire(step.get("on", "a")).text(), step["receive"]
    if isinstance(expected, dict) and "refused" in expected:
        wrong = stage._refusal(expected["refused"], got)
        wrong = wrong or mismatch({"jsonrpc": "2.0", "id": expected["id"]}, got)
    else:
        wrong = mismatch(value(expected, stage.kept), got)
    if wrong is not None:
        raise Failed(wrong)
    stage.keep(step, got)


def _notice(stage: Stage, step: dict[str, Any]) -> None:
    """Notifications up to one that fits; all of them are kept under `all`, if that is given."""
    wire, expected = stage.wire(step.get("on", "a")), value(step["notice"], stage.kept)
    seen = []
    while True:
        try:
            seen.append(wire.notice())
        except Silence as wrong:
            raise Failed(f"{wrong}; before, there came {shown(seen)}") from None
        if mismatch(expected, seen[-1]) is None:
            break
    if "all" in step:
        stage.kept[step["all"]] = seen


def _ended(stage: Stage, step: dict[str, Any]) -> None:
    if not stage.wire(step["ended"]).ended():
        raise Failed("the server does not hang up")


def _stop_writing(stage: Stage, step: dict[str, Any]) -> None:
    stage.wire(step["stop_writing"]).stop_writing()


def _compare(stage: Stage, step: dict[str, Any]) -> None:
    """Whether a kept value fits a pattern."""
    wrong = mismatch(value(step["is"], stage.kept), value(step["compare"], stage.kept))
    if wrong is not None:
        raise Failed(wrong)


def _require(stage: Stage, step: dict[str, Any]) -> None:
    """Go on only where a kept value fits; else the case is not run, for the reason in `else`."""
    if mismatch(step["is"], value(step["require"], stage.kept)) is not None:
        raise NotRun(step["else"])


def _repeat(stage: Stage, step: dict[str, Any]) -> None:
    for number in range(value(step["repeat"], stage.kept)):
        stage.kept["number"] = number
        for each in step["steps"]:
            stage.perform(each)


def _until(stage: Stage, step: dict[str, Any]) -> None:
    """Call again, with a pause, until the result fits `until`."""
    deadline = time.monotonic() + stage.server.seconds
    plain = {key: each for key, each in step.items() if key in ("on", "keep")}
    while True:
        body = stage.call(plain, step["poll"], step.get("params", {}))
        wrong = mismatch(value(step["until"], stage.kept), body)
        if wrong is None:
            return
        if time.monotonic() > deadline:
            raise Failed(wrong)
        time.sleep(0.02)


_STEPS: Final[dict[str, Callable[[Stage, dict[str, Any]], None]]] = {
    "call": _call,
    "session": _session,
    "submit": _submit,
    "run": _run,
    "ask": _ask,
    "answer": _answer,
    "send": _send,
    "send_bytewise": _each_byte,
    "receive": _receive,
    "notice": _notice,
    "ended": _ended,
    "stop_writing": _stop_writing,
    "compare": _compare,
    "require": _require,
    "repeat": _repeat,
    "poll": _until,
}
