"""The follower: takes the chain in, signs what is due, has heads signed and published.

Threads: one takes entries in, one signs, and `rpc.py` answers callers; the disk is between them.
Whatever is away is tried again after a pause that grows, and said once in the log.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from runtime.attest.errors import AttestError, Forked, NotThere, Unavailable
from runtime.attest.feed import Feed
from runtime.attest.keeping import Keeper
from runtime.attest.ledger import notes, tiles, witness
from runtime.attest.ledger.witness import Witness
from runtime.client import Client, errors
from runtime.client.errors import QmkError
from syscalls.ids import JobId
from syscalls.job import JobStatus, Status
from syscalls.rights import Right

PAUSE_S_MIN = 0.5
PAUSE_S_MAX = 30.0
LOOK_S = 1.0  # between two looks for work nobody told of
KEYS_S = 60.0  # between two looks at the keys
ASK_S = 10.0

_log = logging.getLogger("qmk.attest")


class Daemon:
    """Asks the daemon for the status of any job, which takes CAP_ADMIN. For one thread."""

    def __init__(self, socket: Path | None) -> None:
        self._socket = socket
        self._client: Client | None = None
        self._warned = False

    def status(self, job_id: str) -> JobStatus | None:
        """None for a job that it has forgotten. Raises Unavailable."""
        try:
            return self._asked(job_id)
        except errors.Refused as refusal:
            if type(refusal).__name__ in ("SessionExpired", "AuthFailed"):
                self.close()  # The daemon has restarted; once more, in a session of its own.
                with contextlib.suppress(QmkError):
                    return self._asked(job_id)
            self._forgotten(refusal)
            return None
        except QmkError as error:
            raise Unavailable(str(error)) from error

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _forgotten(self, refusal: errors.Refused) -> None:
        """Raises Unavailable unless it means that the daemon tells this user nothing of the job."""
        name = type(refusal).__name__
        if name in ("AuthFailed", "AccessDenied") and not self._warned:
            self._warned = True
            _log.warning("%s Manifests have what the audit chain says.", refusal)
        if name not in ("JobNotFound", "AccessDenied", "AuthFailed"):
            raise Unavailable(str(refusal)) from refusal

    def _asked(self, job_id: str) -> JobStatus | None:
        if self._client is None:
            self._client = Client(self._socket, timeout=ASK_S, rights=(Right.ADMIN,))
        call = Status(session_id=self._client.session_id, job_id=JobId(job_id))
        try:
            answer = self._client.call(call)
        except errors.Unreachable:
            self.close()
            raise
        assert isinstance(answer, JobStatus)
        return answer


class Health(msgspec.Struct, kw_only=True):
    """What is away, in words, by part; and how far things are."""

    chain: str = ""
    signing: str = ""
    ledger: str = ""
    witnesses: dict[str, str] = {}


class Follower:
    """Runs a keeper. public: the folder of tiles; None for none."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        state_dir: str | None,
        public: Path | None,
        witnesses: Sequence[Witness] = (),
    ) -> None:
        self.keeper, self.public, self.witnesses = keeper, public, witnesses
        self.health = Health()
        self._state_dir = state_dir
        self._stop, self._nudge = threading.Event(), threading.Event()
        self._feed: Feed | None = None
        self._threads: list[threading.Thread] = []
        self._keys_at = 0.0
        self.faulty = False
        self.on_fault: Callable[[], None] = lambda: None

    def start(self) -> None:
        for work in (self._take, self._work):
            thread = threading.Thread(target=self._guarded, args=(work,), name=work.__name__)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End what is under way, and wait for it."""
        self._stop.set()
        self._nudge.set()
        feed = self._feed
        if feed is not None:
            feed.close()
        for thread in self._threads:
            thread.join()

    def nudge(self) -> None:
        """There is something to do."""
        self._nudge.set()

    def once(self) -> int:
        """Take in and sign all there is now; how many. Raises AttestError."""
        feed = Feed(self._state_dir, self.keeper.taken, follow=False)
        for batch in feed.batches():
            self.keeper.take(batch)
        signed = 0
        while done := self.keeper.sign_some():
            signed += len(done)
        self._tend()
        return signed

    # --- threads --------------------------------------------------------------------------------

    def _guarded(self, work: Callable[[], None]) -> None:
        """A fault of ours ends the whole, so that whoever started it sees, and starts it again."""
        try:
            work()
        except Exception:
            self.faulty = True
            _log.exception("%s: this is a fault of the follower itself", work.__name__)
            self.on_fault()

    def _take(self) -> None:
        pause = PAUSE_S_MIN
        while not self._stop.is_set():
            self._feed = feed = Feed(self._state_dir, self.keeper.taken, follow=True)
            try:
                for batch in feed.batches():
                    self.keeper.take(batch)
                    self.health.chain, pause = "", PAUSE_S_MIN
                    self._nudge.set()
            except (AttestError, msgspec.DecodeError) as error:
                self.health.chain = self._say("the audit chain", self.health.chain, error)
            finally:
                feed.close()
            self._stop.wait(pause)
            pause = min(PAUSE_S_MAX, pause * 2)

    def _work(self) -> None:
        pause = PAUSE_S_MIN
        while not self._stop.is_set():
            try:
                while not self._stop.is_set() and self.keeper.sign_some():
                    self.health.signing, pause = "", PAUSE_S_MIN
                self.health.signing = ""
            except AttestError as error:
                self.health.signing = self._say("signing", self.health.signing, error)
                self._stop.wait(pause)
                pause = min(PAUSE_S_MAX, pause * 2)
            try:
                self._tend()
                self.health.ledger = ""
            except (AttestError, OSError) as error:
                self.health.ledger = self._say("the ledger", self.health.ledger, error)
            self._nudge.wait(LOOK_S)
            self._nudge.clear()

    def _tend(self) -> None:
        """Log keys, sign the head, publish it, have it witnessed."""
        log, now = self.keeper.log, time.monotonic()
        if now >= self._keys_at:
            self.keeper.note_keys()
            self._keys_at = now + KEYS_S
        self.keeper.sign_head(int(time.time()))
        try:
            size = log.signed_size()
        except NotThere:
            return
        while self.keeper.place_bundles(int(time.time())):
            pass
        fresh = False
        for each in self.witnesses:
            if log.witnessed_size(each.verifier.name) < size:
                fresh |= self._witness(each)
        if self.public is not None:
            self._publish(self.public, size, again=fresh)

    def _witness(self, each: Witness) -> bool:
        name = each.verifier.name
        try:
            witness.cosign(self.keeper.log, each)
        except AttestError as error:
            before = self.health.witnesses.get(name, "")
            self.health.witnesses[name] = self._say(f"witness {name}", before, error)
            return False
        self.health.witnesses[name] = ""
        return True

    def _publish(self, folder: Path, size: int, *, again: bool) -> None:
        old = published(folder)
        if old > size:
            raise Forked(f"{folder} has a checkpoint of {old} leaves, and {size} are signed.")
        if old < size or again:
            tiles.publish(self.keeper.log, folder, old, self.keeper.log.checkpoint(size), size)

    def _say(self, what: str, before: str, error: Exception) -> str:
        if str(error) != before:
            _log.warning("%s: %s", what, error)
        return str(error)


def published(folder: Path) -> int:
    """Leaves of the checkpoint that lies there; 0 where there is none."""
    try:
        text = (folder / tiles.CHECKPOINT).read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0
    return notes.parse(text).checkpoint.size
