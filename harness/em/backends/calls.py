"""HTTP calls to a vendor: JSON both ways, retries with bounds, and polling with an end.

What was not answered may have been done all the same, so only calls that may be made twice are
retried (`again`); a vendor's adapter sees to it that creating a job is one of them. Secrets are
never told in an error, and leave this host over TLS only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from harness.em.backends.backend import Refused

TIMEOUT_S: Final = 30.0
ATTEMPTS: Final = 5
PAUSE_S: Final = 0.5
PAUSE_MAX_S: Final = 20.0
BODY_MAX: Final = 256 << 20
SAID_MAX: Final = 300
BUSY: Final = (429, 500, 502, 503, 504)
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

Sleep = Callable[[float], None]
Answer = TypeVar("Answer")


class Unanswered(Exception):
    """No answer came, or one that says to come again; says which."""


class Reply(NamedTuple):
    status: int
    body: bytes
    retry_after_s: float


class Calls:
    """Calls to one origin. url: scheme, host and path in front of everything."""

    def __init__(self, url: str, sleep: Sleep = time.sleep) -> None:
        self.parts, self.sleep = urlsplit(url.rstrip("/")), sleep
        host = self.parts.hostname or ""
        secure = self.parts.scheme == "https"
        if not host or not (secure or (self.parts.scheme == "http" and host in LOOPBACK)):
            raise Refused(f"{url} is no https:// address, and credentials go to no other host.")
        self.secure, self.host, self.port = secure, host, self.parts.port

    def once(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """One call, whatever its status. Raises Unanswered."""
        kind = HTTPSConnection if self.secure else HTTPConnection
        connection = kind(self.host, self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, self.parts.path + path, body or None, dict(headers))
            answer = connection.getresponse()
            said = answer.read(BODY_MAX + 1)
            if len(said) > BODY_MAX:
                raise Refused(f"{self.host} answers with more than {BODY_MAX >> 20} MiB.")
            after = answer.headers.get("retry-after", "")
            return Reply(answer.status, said, float(after) if after.isdigit() else 0.0)
        except (OSError, HTTPException) as error:
            raise Unanswered(f"{self.host} does not answer: {error}") from error
        finally:
            connection.close()

    def again(
        self, what: str, call: Callable[[], Reply], accepted: tuple[int, ...] = (200,)
    ) -> bytes:
        """The body, after ATTEMPTS calls at the most. Raises Refused."""
        pause, told = PAUSE_S, ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self.sleep(min(PAUSE_MAX_S, pause))
                pause *= 2
            try:
                reply = call()
            except Unanswered as error:
                told = str(error)
                continue
            if reply.status in accepted:
                return reply.body
            told = f"{self.host} answers {reply.status}{said(reply.body)}"
            if reply.status not in BUSY:
                raise Refused(f"{what}: {told}.")
            pause = max(pause, reply.retry_after_s)
        raise Refused(f"{what}: {told}, {ATTEMPTS} times.")


def said(body: bytes) -> str:
    """What a vendor says in an error, cut; nothing where it says nothing readable."""
    try:
        found: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return ""
    if isinstance(found, dict) and isinstance(found.get("errors"), list) and found["errors"]:
        found = found["errors"][0]
    text = found.get("message", "") if isinstance(found, dict) else ""
    return f", {text[:SAID_MAX].rstrip('.')}" if isinstance(text, str) and text else ""


def decoded(what: str, body: bytes, kind: type[Answer]) -> Answer:
    """A reply of this form. Raises Refused."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Refused(f"{what}: the reply is not as documented: {error}.") from error


def polled(what: str, look: Callable[[], Answer | None], wait_s: float, sleep: Sleep) -> Answer:
    """What `look` finds at last. Raises Refused after `wait_s` of pauses."""
    pause, waited = PAUSE_S, 0.0
    while True:
        found = look()
        if found is not None:
            return found
        if waited >= wait_s:
            told = f"{what} is not done after {wait_s:g} s; the same run again takes it up"
            raise Refused(f"{told}.")
        pause = min(pause, wait_s - waited)
        sleep(pause)
        waited += pause
        pause = min(PAUSE_MAX_S, 2 * pause)
