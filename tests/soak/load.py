"""What tenants do while the daemon is watched: work of every kind, and nonsense.

`python -m tests.soak.load DAEMON SEED FILL` has one tenant finish FILL jobs at once, says so once
others have had turns enough to fill what the daemon keeps for them, and goes on until its standard
input ends; then it writes what was done, and what was not answered as it must be, as one JSON line.
The same program, seed and shots must give the same digest every time; refusals are fine only where
the turn says so.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from qvm.random_programs import random_program
from runtime.client import Client, errors
from runtime.client.results import Result
from syscalls.capability import Delegate
from syscalls.checkpoint import Replay, Replayed
from syscalls.events import JobEvent
from syscalls.ids import JobId, TenantId
from syscalls.rights import Right
from tests.daemon import Line, example

RIGHTS = (
    "CAP_ALLOC", "CAP_MAGIC", "CAP_LINK", "CAP_TELEPORT", "CAP_CHECKPOINT", "CAP_DELEGATE",
)  # fmt: skip
CALL_S_MAX = 300.0
FILL_AT_ONCE = 128
PROGRAMS = ("bell", "ghz", "teleportation", "t_injection", "conditional_correction")
DIGESTS_MAX = 4096
ROUNDS = 12
LINKED_SHARE = 16
"""Jobs that a tenant may have kept for each program that it may: each `linked` turn brings one, as
handles differ, and is far slower than a job of the tenant that fills."""

FILLED = b"filled\n"


class Done(msgspec.Struct, frozen=True):
    """turns: by what was done. wrong: sentences."""

    turns: dict[str, int]
    wrong: list[str]


@dataclass
class Home:
    """Where all turns meet. fill: jobs that one tenant finishes first. full: it has. digests: of
    what was run, by what was asked for."""

    socket: Path
    fill: int = 0
    full: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    turns: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    digests: dict[Any, str] = field(default_factory=dict)

    def must(self, holds: bool, sentence: str) -> None:
        if not holds:
            with self.lock:
                self.wrong.append(sentence)

    def same(self, asked: Any, result: Result) -> None:
        """Hold a result against the first one of the same program, seed and shots."""
        digest = result.execution_context.results_digest
        assert digest is not None, "a completed job has one"
        with self.lock:
            if len(self.digests) < DIGESTS_MAX:
                self.digests.setdefault(asked, digest)
            expected = self.digests.get(asked, digest)
        self.must(digest == expected, f"{asked} gave other bits than before")


Turn = Callable[[Client, random.Random, Home], None]

# --- turns, each by a tenant with a session -------------------------------------------------------


def small(client: Client, rng: random.Random, home: Home) -> None:
    """A job as most are: an example with one of a few seeds, or a program nobody has seen."""
    if rng.random() < 0.5:
        asked = rng.choice(PROGRAMS), rng.randrange(4), rng.choice((1, 100, 2_000))
        home.same(asked, client.run(example(asked[0]), seed=asked[1], shots=asked[2]))
    else:
        graph = random_program(rng, magic=True)
        home.must(sum(client.run(graph, shots=50).counts.values()) == 50, "shots are lost")


def large(client: Client, rng: random.Random, home: Home) -> None:
    """Results of up to some megabytes, as text in the answer and as memory files."""
    shots = rng.choice((100_000, 400_000, 2_000_000))
    result = client.run(example("ghz"), samples=True, shots=shots, seed=1, noise="ideal")
    home.same(("large", shots), result)
    home.must(len(result.samples_packed) == shots, "rows are lost")


def cancelled(client: Client, rng: random.Random, home: Home) -> None:
    """A long job, stopped at a fence after a while: what a worker leaks is forgotten if it dies."""
    job = client.submit(fenced(), shots=5_000_000, noise="ideal")
    time.sleep(rng.choice((0.0, 0.05, 0.2)))
    with contextlib.suppress(errors.AlreadyCompleted):
        status = job.cancel()
        home.must(status.state == "CANCELLED", f"a cancelled job is {status.state}")


def fenced() -> dict[str, Any]:
    """Rounds on two qubits with a fence after each."""
    qubits = ["q0", "q1"]
    nodes: list[dict[str, Any]] = [
        {"id": "a", "op": "ALLOC_LQ", "args": {"n": 2, "profile": "logical:ideal"}, "vqs": qubits}
    ]
    for at in range(ROUNDS):
        nodes += [
            {"id": f"h{at}", "op": "APPLY_H", "vqs": ["q0"]},
            {"id": f"c{at}", "op": "APPLY_CNOT", "vqs": qubits},
            {"id": f"m{at}", "op": "MEASURE_Z", "vqs": ["q1"], "produces": [f"m{at}"]},
            {"id": f"f{at}", "op": "FENCE_EPOCH"},
        ]
    resources = {"vqs": qubits, "chs": [], "events": [f"m{at}" for at in range(ROUNDS)]}
    return {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}


def rested(client: Client, rng: random.Random, home: Home) -> None:
    """A checkpoint of a job that runs, the job again from there, and again from its record."""
    job = client.submit(example("ghz"), shots=60_000, seed=7, noise="ideal")
    with contextlib.suppress(errors.AlreadyCompleted, errors.NoFence):
        made = job.checkpoint(how=rng.choice(("forward", "rollback")))
        home.same("rested", client.restore(made.checkpoint_id).wait())
        client.drop_checkpoint(made.checkpoint_id)
    home.same("rested", job.wait())
    if rng.random() < 0.3:
        reply = client.call(Replay(session_id=client.session_id, job_id=JobId(job.job_id)))
        assert isinstance(reply, Replayed)
        home.same("rested", client.job(reply.job_id).wait())


def linked(client: Client, rng: random.Random, home: Home) -> None:
    """A channel to a qubit of another session, by its owner's consent, and a program over it."""
    to = TenantId("linked")
    with Client(client.settings.address, rights=RIGHTS, tenant_id="lender") as far:
        (theirs,) = far.alloc(1, "logical:ideal")
        lend = Delegate(session_id=far.session_id, rights=[Right.LINK], tenant_id=to)
        given = far.call(lend)
        rights = [*RIGHTS, given.capability_id]  # type: ignore[attr-defined]
        with Client(client.settings.address, rights=rights, tenant_id=to) as near:
            (mine,) = near.alloc(1, "logical:ideal")
            chan = near.open_chan(mine, theirs, fidelity=0.9).channel_id
            counts = near.run(over(chan, mine, theirs), shots=200).counts
            home.must(counts == {"1": 200}, f"a channel gave {counts}")
            home.must(near.chan_status(chan).uses == 200, "a use is not counted")
            if rng.random() < 0.5:
                near.close_chan(chan)
                near.release(mine)


def over(chan: str, mine: str, theirs: str) -> dict[str, Any]:
    """A program that flips a far qubit over a channel."""
    ends = {"vqs": [mine, theirs], "chs": [chan]}
    both = {"args": {"n": 2, "profile": "logical:ideal"}, "vqs": [mine, theirs]}
    nodes: list[dict[str, Any]] = [
        {"op": "ALLOC_LQ", **both},
        {"op": "APPLY_X", "vqs": [mine]},
        {"op": "OPEN_CHAN", "args": {"fidelity": 0.9}, **ends},
        {"op": "USE_CHAN", "args": {"semantic": "teleport_cnot"}, **ends},
        {"op": "MEASURE_Z", "vqs": [theirs], "produces": ["m"]},
        {"op": "FREE_LQ", "vqs": [mine, theirs]},
    ]
    numbered = [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]
    resources = {"vqs": [mine, theirs], "chs": [chan], "events": ["m"]}
    return {"version": "0.1", "program": {"nodes": numbered}, "resources": resources}


def followed(client: Client, rng: random.Random, home: Home) -> None:
    """Jobs under decoded noise, told of as they go."""
    heard: list[JobEvent] = []
    job = client.submit(example("repetition_code"), shots=3_000, seed=2, noise="decoded")
    client.subscribe(heard.append, job.job_id)
    home.same("followed", job.wait())
    home.must(bool(heard), "nothing was told of a job that was followed")


TURNS: dict[str, tuple[Turn, int, float]] = {
    "small": (small, 1 << 30, 0.02),
    "large": (large, 20, 0.7),
    "cancelled": (cancelled, 30, 0.5),
    "rested": (rested, 25, 0.4),
    "linked": (linked, 50, 0.8),
    "followed": (followed, 20, 0.5),
}
"""By tenant: what it does, how often before its session closes, seconds between two."""

TENANTS = (*TURNS, "lender")


def fill(client: Client, home: Home) -> None:
    """Finish as many jobs as asked, like those that follow: each of these pushes one out."""
    rng = random.Random(home.fill)
    for _ in range(0, home.fill, FILL_AT_ONCE):
        known = [example(PROGRAMS[at % len(PROGRAMS)]) for at in range(FILL_AT_ONCE // 2)]
        fresh = [random_program(rng, magic=True) for _ in known]
        for job in client.submit_all([*known, *fresh], shots=50):
            job.wait_done()
    home.fill = 0
    home.full.set()


def work(home: Home, tenant: str, seed: int) -> None:
    """Take turns until all is over. One session after another."""
    rng = random.Random(f"{seed} {tenant}")
    turn, turns_max, pause_s = TURNS[tenant]
    while not home.over.is_set():
        try:
            with Client(home.socket, rights=RIGHTS, tenant_id=tenant, timeout=CALL_S_MAX) as client:
                if tenant == "small":
                    fill(client, home)
                for _ in range(turns_max):
                    if home.over.wait(pause_s):
                        return
                    turn(client, rng, home)
                    with home.lock:
                        home.turns[tenant] += 1
        except Exception as error:  # a turn that fails in any way is told, and the next one comes
            home.must(False, f"{tenant}: {type(error).__name__}: {error}")


# --- strangers: connections that come and go, and what is no call ---------------------------------

NONSENSE = (
    b"\n",
    b"nonsense\n",
    b"[]\n",
    b'{"jsonrpc": "2.0", "id": 1, "method": "q_nothing"}\n',
    b'{"jsonrpc": "2.0", "id": 1, "method": "q_status", "params": {"job_id": 7}}\n',
    b'{"jsonrpc": "2.0", "id": 1, "method": "q_submit", "params": {"session_id": "sess_1"}}\n',
    b'{"jsonrpc": "2.0", "id": 1, "method": "q_discover"}',  # as older clients end a call: not
    b"[" + b",".join([b'{"jsonrpc": "2.0", "method": "q_discover"}'] * 16) + b"]\n",
    b'{"jsonrpc": "2.0", "id": "\xff"}\n',
    b"[" * 4000 + b"\n",
    b'{"a": "' + b"x" * (1 << 20) + b'"}\n',
)


def visit(home: Home, rng: random.Random) -> None:
    """Send what is no call, or half of one, and leave, sometimes many times; then hear answers."""
    for _ in range(rng.choice((1, 1, 1, 20))):
        frame = rng.choice(NONSENSE)
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(home.socket))
            with contextlib.suppress(ConnectionError):
                line.sendall(frame[: rng.choice((0, len(frame) // 2, len(frame)))])
    with Line(home.socket, seconds=CALL_S_MAX) as talking:
        talking.send(b"nonsense\n")
        answer = talking.answer()
        home.must(answer["error"]["data"]["reason"] != "", f"nonsense was answered {answer}")
        known = talking.ask("q_status", session_id="sess_" + "0" * 32, job_id="job_1")
        home.must("error" in known, "a stranger was told of a job")


def strange(home: Home, seed: int) -> None:
    """Visit until all is over."""
    rng = random.Random(f"{seed} strange")
    while not home.over.wait(0.1):
        try:
            visit(home, rng)
        except Exception as error:  # as of a turn
            home.must(False, f"a stranger: {type(error).__name__}: {error}")
        with home.lock:
            home.turns["strange"] += 1


# --- the process ----------------------------------------------------------------------------------


def main() -> int:
    home = Home(Path(sys.argv[1]), fill=int(sys.argv[3]))
    seed = int(sys.argv[2])
    told, linked_least = False, home.fill // LINKED_SHARE
    threads = [threading.Thread(target=work, args=(home, tenant, seed)) for tenant in TURNS]
    threads.append(threading.Thread(target=strange, args=(home, seed)))
    for thread in threads:
        thread.start()
    while not select.select([sys.stdin], [], [], 0.5)[0]:
        if not told and home.full.is_set() and home.turns["linked"] >= linked_least:
            told = True
            sys.stdout.buffer.write(FILLED)
            sys.stdout.buffer.flush()
    home.over.set()
    for thread in threads:
        thread.join()
    done = Done(dict(home.turns), home.wrong[:100])
    sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
