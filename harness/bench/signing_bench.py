"""Manifests and the ledger beside what others use: cosign with a key of its own, and pymerkle.

What of that is the arithmetic of ML-DSA is measured in `signing_arithmetic.py`.

A manifest is signed as in the running service: the follower's keeper takes it from its queue, the
signer, a process of its own with software keys, signs three times and writes its audit log, object,
index row and leaf are on the disk. cosign is a process for each signature, which is how it is used.
Rounds are interleaved, ratios are of wall time within a round, medians of all.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from harness.bench import signing_arithmetic
from harness.bench.rows import Row, median_ratio, missing, row
from runtime.attest import dsse, manifest
from runtime.attest.database import Database
from runtime.attest.keeping import BATCH_MAX, Keeper, Policy
from runtime.attest.ledger.log import Leaf, Log
from runtime.attest.ledger.tree import leaf_hash, verify_inclusion
from runtime.attest.store.objects import Directory
from runtime.signer.client import SignerClient
from syscalls.audit import AuditBody, Entry, canonical, hash_of

COSIGN = Path(__file__).parents[2] / ".tools/debian/usr/bin/cosign"
FASTER = 20.0  # per manifest, than cosign
APPEND_RATE = 2000.0
PROOF_MS = 2.0
BATCH = 1000
START_S_MAX = 30.0
DIGEST = sha256(b"").hexdigest()


def run(quick: bool) -> list[Row]:
    rows = _beside_cosign(3 if quick else 9, 2 * BATCH_MAX)
    rows += signing_arithmetic.run(3 if quick else 5)
    return rows + _ledger(100_000 if quick else 1_000_000) + _beside_pymerkle(2_000)


# --- manifests ----------------------------------------------------------------------------------


def _beside_cosign(rounds: int, each: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="qmk-") as made, _signer(Path(made)) as signer:
        folder = Path(made)
        keeper = Keeper(
            Database(folder / "attest"),
            Directory(folder / "objects"),
            signer,
            Policy(),
            lambda _: None,
        )
        chain = _chain(rounds * each)
        keeper.take(chain)
        cosign = _Cosign(folder) if COSIGN.exists() else None
        seconds: dict[str, list[float]] = {name: [] for name in ("sign", "verify", "csign", "cver")}
        for _ in range(rounds):
            jobs: list[str] = []
            began = time.perf_counter()
            while len(jobs) < each:
                jobs += keeper.sign_some()
            seconds["sign"].append((time.perf_counter() - began) / each)
            trust = keeper.trust()
            envelope = keeper.envelope(jobs[-1])
            seconds["verify"].append(
                _timed(lambda: manifest.verify(dsse.parse(envelope), trust), each)  # noqa: B023
            )
            if cosign is not None:
                seconds["csign"].append(_timed(cosign.sign, 1))
                seconds["cver"].append(_timed(cosign.verify, 1))
        keeper.database.close()
    rows = [
        row("manifests signed, in the service", 1 / statistics.median(seconds["sign"]), "1/s"),
        row("manifests verified, both signatures", 1 / statistics.median(seconds["verify"]), "1/s"),
    ]
    if cosign is None:
        return [*rows, missing("beside cosign", "python -m tests.tools.fetch fetches it")]
    return [
        *rows,
        row("cosign sign-blob", 1000 * statistics.median(seconds["csign"]), "ms"),
        row("cosign verify-blob", 1000 * statistics.median(seconds["cver"]), "ms"),
        row(
            "one manifest signed, cosign / us",
            median_ratio(seconds["csign"], seconds["sign"]),
            "x",
            at_least=FASTER,
        ),
        row(
            "one manifest verified, cosign / us",
            median_ratio(seconds["cver"], seconds["verify"]),
            "x",
            at_least=FASTER,
        ),
    ]


class _Cosign:
    """Signs and verifies the same bytes, offline, with a key in a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "file").write_bytes(b"x" * 2000)  # about what a manifest has
        self._run("generate-key-pair")
        self.sign()

    def sign(self) -> None:
        self._run(
            "sign-blob", "--key", "cosign.key", "--bundle", "bundle.json", "--tlog-upload=false",
            "--use-signing-config=false", "--new-bundle-format=true", "--yes", "file",
        )  # fmt: skip

    def verify(self) -> None:
        self._run(
            "verify-blob", "--key", "cosign.pub", "--bundle", "bundle.json",
            "--insecure-ignore-tlog=true", "file",
        )  # fmt: skip

    def _run(self, *arguments: str) -> None:
        environment = os.environ | {"COSIGN_PASSWORD": "", "HOME": str(self._folder)}
        subprocess.run(
            [COSIGN, *arguments], cwd=self._folder, env=environment, check=True, capture_output=True
        )


@contextmanager
def _signer(folder: Path) -> Iterator[SignerClient]:
    """A signer that runs, with software keys."""
    state, socket = folder / "signer", folder / "signer.sock"
    command = [sys.executable, "-m", "runtime.signer"]
    subprocess.run(
        [*command, "init", "--software", "--state-dir", state], check=True, capture_output=True
    )
    process = subprocess.Popen(
        [*command, "serve", "--state-dir", state, "--socket", socket], stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + START_S_MAX
        while not socket.is_socket() and time.monotonic() < until:
            time.sleep(0.02)
        with SignerClient(socket) as client:
            yield client
    finally:
        process.terminate()
        process.wait()


def _chain(jobs: int) -> list[Entry]:
    """An audit chain of so many jobs that completed."""
    found: list[Entry] = []

    def add(kind: str, **fields: str | int | list[str]) -> None:
        number = len(found) + 1
        body = AuditBody(number=number, epoch=number, at_ns=number, kind=kind, fields=fields)
        encoded = canonical(body)
        found.append((number, encoded, hash_of(found[-1][2] if found else b"", encoded)))

    for number in range(jobs):
        job = f"job_{number:032x}"
        add(
            "job accepted", job=job, tenant="t", session="0" * 16, program=f"sha256:{DIGEST}",
            seed=number, shots=100, engine="frames", noise="ideal",
        )  # fmt: skip
        add("job complete", job=job, results=DIGEST)
    return found


# --- the ledger ---------------------------------------------------------------------------------


def _ledger(leaves: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="qmk-") as made:
        database = Database(Path(made))
        log = Log(database, "bench/ledger")
        batches = [
            [_leaf(number) for number in range(begin, begin + BATCH)]
            for begin in range(0, leaves, BATCH)
        ]
        wall, cpu = time.perf_counter(), time.process_time()
        for batch in batches:
            log.append(batch)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        chance, root = random.Random(1), log.root(leaves)
        numbers = [chance.randrange(leaves) for _ in range(200)]
        prove = _cpu_ms(lambda: [log.inclusion(number, leaves) for number in numbers]) / 200
        paths = [log.inclusion(number, leaves) for number in numbers]
        hashes = [leaf_hash(log.leaf(number).data) for number in numbers]

        def verify() -> None:
            for number, path, hashed in zip(numbers, paths, hashes, strict=True):
                verify_inclusion(hashed, number, leaves, path, root)

        checked = _cpu_ms(verify) / 200
        grown = _cpu_ms(lambda: [log.consistency(number + 1, leaves) for number in numbers]) / 200
        database.close()
    what = f"of {leaves:,} leaves"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        row(f"append, batches of {BATCH:,}, durable", leaves / wall, "1/s", at_least=APPEND_RATE),
        row("append, CPU time", 1e6 * cpu / leaves, "us"),
        row(f"inclusion proof {what}, CPU time", prove, "ms", at_most=PROOF_MS),
        row(f"consistency proof {what}, CPU time", grown, "ms", at_most=PROOF_MS),
        row("inclusion verified, CPU time", checked, "ms"),
        row("peak memory of the benchmark", peak, "MiB"),
    ]


def _beside_pymerkle(leaves: int) -> list[Row]:
    """The same tree in SQLite by pymerkle, which appends one leaf at a time or in chunks."""
    try:
        from pymerkle import SqliteTree  # type: ignore[import-untyped]
    except ImportError:
        return [missing("beside pymerkle", "it is not installed")]
    own = [_leaf(number) for number in range(leaves)]
    data = [each.data for each in own]
    ratios: dict[str, list[float]] = {"append": [], "prove": []}
    for turn in range(3):
        folder = Path(tempfile.mkdtemp(prefix="qmk-"))
        database = Database(folder)
        log, theirs = Log(database, "bench/ledger"), SqliteTree(str(folder / "theirs.db"))
        ours_s = _cpu_ms(lambda: log.append(own))  # noqa: B023
        theirs_s = _cpu_ms(lambda: theirs.append_entries(data))  # noqa: B023
        assert theirs.get_root() == log.root(leaves), "both make one tree"
        numbers = random.Random(turn).sample(range(leaves), 20)
        ratios["append"].append(theirs_s / ours_s)
        prove_s = _cpu_ms(lambda: [log.inclusion(n, leaves) for n in numbers])  # noqa: B023
        their_s = _cpu_ms(lambda: [theirs.prove_inclusion(n + 1) for n in numbers])  # noqa: B023
        ratios["prove"].append(their_s / prove_s)
        database.close()
        shutil.rmtree(folder)
    what = f"{leaves:,} leaves, CPU time, pymerkle / us"
    return [
        row(f"append {what}", statistics.median(ratios["append"]), "x"),
        row(f"inclusion proof of {what}", statistics.median(ratios["prove"]), "x"),
    ]


def _leaf(number: int) -> Leaf:
    """About as many bytes as a leaf of a manifest without its signatures' records."""
    return Leaf(kind="bench", about=str(number), data=b"%020d" % number * 16)


def _timed(what: Callable[[], object], times: int) -> float:
    """Wall seconds of one."""
    began = time.perf_counter()
    for _ in range(times):
        what()
    return (time.perf_counter() - began) / times


def _cpu_ms(what: Callable[[], object]) -> float:
    began = time.process_time()
    what()
    return 1000 * (time.process_time() - began)
