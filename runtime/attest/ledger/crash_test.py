"""A process that keeps a log is killed at many points, and the log never says two things.

The signer stands outside of the process that is killed: it writes down every text that it signs
before it answers, so nothing that was signed is forgotten by the kill.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from runtime.attest import canonical
from runtime.attest.conftest import TestSigner
from runtime.attest.database import Database
from runtime.attest.ledger import notes, tiles
from runtime.attest.ledger.log import Log
from runtime.attest.ledger.log_test import ORIGIN
from runtime.attest.ledger.tree import root_of, verify_consistency
from runtime.signer.api import PublicKey, Signature

LIFE_S_MAX = 0.03
START_S_MAX = 60.0
SEED = 8

# Appends batches of several sizes, has heads signed and publishes them, until it is killed.
CHILD = """
import sys
from pathlib import Path
from runtime.attest.ledger.crash_test import Remote, grow
grow(Path(sys.argv[1]), Remote(Path(sys.argv[1]) / "signed", sys.argv[2]))
"""


class Remote(TestSigner):
    """Writes down what it signs, on the disk, before anybody has the signature."""

    def __init__(self, record: Path, seed: str) -> None:
        super().__init__()
        self._record = record
        self.keys = {**self.keys, **fixed(seed)}

    def sign(self, key: str, message: bytes) -> Signature:
        if key == "log":
            with self._record.open("ab") as file:
                file.write(message.replace(b"\n", b"|") + b"\n")
                os.fsync(file.fileno())
        return super().sign(key, message)

    def public(self, key: str, version: int | None = None) -> PublicKey:
        return super().public(key, version)


def fixed(seed: str) -> dict[tuple[str, int], object]:
    """Keys that are the same in every life."""
    from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

    raw = bytes.fromhex(seed)
    return {
        ("log", 1): ed25519.Ed25519PrivateKey.from_private_bytes(raw),
        ("log-pqc", 1): mldsa.MLDSA44PrivateKey.from_seed_bytes(raw),
    }


def grow(folder: Path, signer: TestSigner) -> None:
    from runtime.attest.ledger.log import Leaf
    from runtime.attest.watching import published

    log = Log(Database(folder / "log"), ORIGIN)
    public = folder / "public"
    print("up", flush=True)
    while True:
        size = log.size
        # What is appended differs from life to life, as it would after a leaf that was lost.
        mark = time.monotonic_ns()
        count = 1 + size % 5 * 70
        log.append([Leaf(kind="t", about=f"{size + at}", data=b"%d" % mark) for at in range(count)])
        text = log.sign_head(signer, int(time.time()))
        signed = notes.parse(text).checkpoint.size
        tiles.publish(log, public, published(public), log.checkpoint(signed), signed)


@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_a_log_that_is_killed_at_any_point_never_signs_two_roots_of_one_size(
    kills: int, tmp_path: Path
) -> None:
    seed, chance = "11" * 32, random.Random(SEED)
    lives = 0
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), seed], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        lives += child.stdout.readline() == b"up\n"
        _wait_signed(tmp_path / "signed", chance.choice((0, 1, 2, 3)))
        time.sleep(chance.random() * LIFE_S_MAX)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert lives == kills
    record = (tmp_path / "signed").read_text().splitlines()
    heads: dict[int, str] = {}
    for line in record:
        origin, size, root, _ = line.split("|")
        assert origin == ORIGIN
        assert heads.setdefault(int(size), root) == root, f"two roots of {size} leaves were signed"
    assert len(heads) >= kills / 2
    log = Log(Database(tmp_path / "log"), ORIGIN)
    sizes = sorted(heads)
    for old, new in pairwise(sizes):
        told = [canonical.from_base64(heads[each], "root") for each in (old, new)]
        verify_consistency(old, new, log.consistency(old, new), *told)
    _check_public(tmp_path / "public", log, seed)
    log.database.close()


def _wait_signed(record: Path, more: int) -> None:
    """Until so many more heads have been signed."""
    begun = record.stat().st_size if record.exists() else 0
    until = time.monotonic() + START_S_MAX
    while more:
        with record.open("rb") if record.exists() else open(os.devnull, "rb") as file:
            file.seek(begun)
            if file.read().count(b"\n") >= more:
                return
        assert time.monotonic() < until
        time.sleep(0.002)


def _check_public(public: Path, log: Log, seed: str) -> None:
    """What others read holds together, and is of this log."""
    signer = Remote(public.parent / "none", seed)
    verifiers = notes.verifiers_of(signer.trust(ORIGIN))
    said = (public / tiles.CHECKPOINT).read_text()
    checkpoint = notes.verify_note(said, verifiers)
    assert root_of(tiles.reader(public, checkpoint.size), checkpoint.size) == checkpoint.root
    hashes = tiles.leaf_hashes(public, checkpoint.size)
    assert hashes == log.hashes(0, 0, checkpoint.size)
    assert checkpoint.size <= log.size


def test_a_head_that_was_written_down_and_not_signed_is_signed_as_it_was(tmp_path: Path) -> None:
    from runtime.attest.ledger.log import Leaf

    class Killed(BaseException):
        pass

    class Dying(TestSigner):
        def sign(self, key: str, message: bytes) -> Signature:
            raise Killed

    log = Log(Database(tmp_path / "log"), ORIGIN)
    log.append([Leaf(kind="t", about="0", data=b"0")])
    with pytest.raises(Killed):
        log.sign_head(Dying(), 1)
    log.database.close()
    again = Log(Database(tmp_path / "log"), ORIGIN)
    checkpoint = notes.parse(again.sign_head(TestSigner(), 1)).checkpoint
    assert (checkpoint.size, checkpoint.root) == (1, again.root(1))
    again.database.close()
