"""Whatever is away: jobs have ended all the same, and manifests are signed later, in order."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from runtime.attest import bundle, dsse, manifest
from runtime.attest.conftest import TestSigner
from runtime.attest.database import Database
from runtime.attest.errors import Forked, NotAuthentic, NotMet, NotThere, Unavailable
from runtime.attest.formats_test import DIGEST, PROGRAM
from runtime.attest.keeping import Keeper, Policy
from runtime.attest.ledger import leaves, notes, proofs
from runtime.attest.ledger.leaves import KINDS
from runtime.attest.ledger.log import LEAF_BYTES_MAX
from runtime.attest.ledger.tree import leaf_hash, verify_inclusion
from runtime.attest.manifest import Mitigation
from runtime.attest.metrics import Figures
from runtime.attest.store import signature
from runtime.attest.store.objects import Directory, Objects, open_objects
from runtime.attest.watching import Follower
from runtime.signer.errors import SignerUnreachable
from runtime.signer.keys.store import DEFAULTS, Keys
from syscalls.audit import AuditBody, Entry, canonical, hash_of
from tests.tools import tool

START_S_MAX = 30.0


class Chain:
    """An audit chain of jobs, as the daemon would write it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.add("started", jobs_interrupted="0", qmkd="0.1.0", stim="1.16.0")

    def add(self, kind: str, **fields: str | int | list[str]) -> None:
        number = len(self.entries) + 1
        body = canonical(
            AuditBody(number=number, epoch=number, at_ns=number * 10**9, kind=kind, fields=fields)
        )
        before = self.entries[-1][2] if self.entries else b""
        self.entries.append((number, body, hash_of(before, body)))

    def job(self, name: str, end: str = "complete", tenant: str = "chemistry") -> str:
        job_id = f"job_{sha256(name.encode()).hexdigest()[:32]}"
        self.add(
            "job accepted", job=job_id, tenant=tenant, session=sha256(b"sess_1").hexdigest()[:16],
            program=PROGRAM, seed=7, shots=100, engine="frames", noise="ideal",
        )  # fmt: skip
        self.add(f"job {end}", job=job_id, results=DIGEST if end == "complete" else "")
        return job_id


class Store:
    """A directory that can be full."""

    def __init__(self, folder: Path) -> None:
        self._inner = Directory(folder)
        self.url = self._inner.url
        self.full = False

    def put(self, name: str, data: bytes) -> str:
        return self.put_all({name: data})[0]

    def put_all(self, objects: dict[str, bytes]) -> list[str]:
        if self.full:
            raise Unavailable("No space left on device.")
        return self._inner.put_all(objects)

    def get(self, name: str) -> bytes:
        return self._inner.get(name)


def keeper_of(folder: Path, signer: TestSigner, objects: Objects, **policy: object) -> Keeper:
    made = Policy(origin="qmkd.test/ledger", **policy)  # type: ignore[arg-type]
    return Keeper(Database(folder), objects, signer, made, lambda _: None)


@pytest.fixture
def objects(tmp_path: Path) -> Store:
    return Store(tmp_path / "objects")


@pytest.fixture
def own() -> TestSigner:
    """A signer that the test may take down."""
    return TestSigner()


@pytest.fixture
def keeper(tmp_path: Path, own: TestSigner, objects: Store) -> Iterator[Keeper]:
    made = keeper_of(tmp_path / "attest", own, objects)
    yield made
    made.database.close()


def test_every_completed_job_is_signed_once_in_the_order_of_their_ends(keeper: Keeper) -> None:
    chain = Chain()
    jobs = [chain.job(name) for name in "abc"]
    chain.job("failed", end="fail")
    chain.job("cancelled", end="cancel")
    keeper.take(chain.entries[:4])
    keeper.take(chain.entries[4:])
    assert (keeper.sign_next(), keeper.sign_some(), keeper.sign_some()) == (jobs[0], jobs[1:], [])
    signed = keeper.signed()
    assert [row.job_id for row in signed] == jobs
    assert [keeper.log.leaf(row.leaf).about for row in signed] == jobs
    assert [row.leaf for row in signed] == sorted(row.leaf for row in signed)
    for job in jobs:
        told = manifest.verify(dsse.parse(keeper.envelope(job)), keeper.trust(), job_id=job)
        assert told.source == "audit chain"
        assert told.versions == {"qmkd": "0.1.0", "stim": "1.16.0"}
        assert told.audit.hash == chain.entries[told.audit.number - 1][2].hex()
    kinds = {each.kind for each in keeper.log.leaves(0, 99)}
    assert kinds == {"manifest", "decision", "bundle"}
    keeper.sign_head(1)
    assert (keeper.place_bundles(1), keeper.place_bundles(1)) == (3, 0)
    for row in keeper.signed():
        placed = keeper.objects.get(row.logged_path.removeprefix(keeper.objects.url + "/"))
        (entry,) = bundle.parse(placed).verification_material.tlog_entries
        assert keeper.log.leaf(int(entry.log_index)).about == row.job_id
        assert bundle.verify_manifest(bundle.parse(placed), keeper.trust()).job_id == row.job_id


@pytest.mark.parametrize("what", ["signer", "store", "daemon"])
def test_what_is_away_makes_manifests_wait_and_they_are_signed_later_in_order(
    what: str, keeper: Keeper, own: TestSigner, objects: Store
) -> None:
    chain = Chain()
    jobs = [chain.job(name) for name in "abc"]

    def away(gone: bool) -> None:
        own.down = SignerUnreachable("No signer answers.") if gone and what == "signer" else None
        objects.full = gone and what == "store"
        if what == "daemon":
            keeper._ask = _unreachable if gone else lambda _: None

    away(True)
    keeper.take(chain.entries)
    for _ in range(2):
        with pytest.raises(Unavailable):
            keeper.sign_next()
    waiting = keeper.waiting()
    assert [each.job_id for each in waiting] == jobs
    assert {each.state for each in waiting} == {"waiting"}
    assert waiting[0].error
    away(False)
    assert [keeper.sign_next() for _ in jobs] == jobs
    assert keeper.waiting() == []


def _unreachable(_: str) -> None:
    raise Unavailable("No daemon answers.")


def test_a_keeper_that_is_ended_anywhere_goes_on_where_it_was(
    tmp_path: Path, own: TestSigner, objects: Store
) -> None:
    chain = Chain()
    jobs = [chain.job(name) for name in "abcd"]
    at = 0
    for step in (3, 2, 4):
        keeper = keeper_of(tmp_path / "attest", own, objects)
        assert keeper.taken == at
        keeper.take(chain.entries[at : at + step])
        at += step
        keeper.sign_next()
        keeper.database.close()
    keeper = keeper_of(tmp_path / "attest", own, objects)
    _sign_all(keeper)
    assert [row.job_id for row in keeper.signed()] == jobs
    keeper.database.close()


def test_a_chain_that_does_not_follow_is_refused_whole(keeper: Keeper) -> None:
    chain, other = Chain(), Chain()
    for name in "ab":
        chain.job(name)
        other.job(name.upper())
    keeper.take(chain.entries[:2])
    for wrong in (chain.entries[:1], chain.entries[3:], other.entries[2:], chain.entries[1:]):
        size = keeper.log.size
        with pytest.raises(Forked):
            keeper.take(wrong)
        assert (keeper.taken, keeper.log.size) == (2, size)
    keeper.take(chain.entries[2:])
    assert keeper.log.root(keeper.log.size)


def test_a_disk_that_is_full_loses_nothing(
    keeper: Keeper, own: TestSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain()
    job = chain.job("a")
    keeper.take(chain.entries)
    with keeper.database.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")  # SQLITE_FULL from here on
    for _ in range(9):
        chain.add("epochs", filler="x" * 4000)
    with pytest.raises(Unavailable, match="full"):
        keeper.take(chain.entries[3:])
    with pytest.raises(Unavailable, match="full"):
        _sign_all(keeper)  # the first may fit into what is left of a page
    assert keeper.taken == 3
    with keeper.database.reading() as db:
        db.execute("PRAGMA max_page_count = 1000000")
    keeper.take(chain.entries[keeper.taken :])
    assert keeper.sign_next() == job
    assert keeper.sign_head(1) is not None


def _sign_all(keeper: Keeper) -> None:
    while keeper.sign_next() is not None:
        pass


def test_a_manifest_is_signed_on_request_where_the_policy_says_so(
    tmp_path: Path, own: TestSigner, objects: Store
) -> None:
    keeper = keeper_of(tmp_path / "request", own, objects, when="request")
    chain = Chain()
    job = chain.job("a")
    keeper.take(chain.entries)
    assert keeper.sign_next() is None
    with pytest.raises(NotThere):
        keeper.request("job_0")
    keeper.request(job, Mitigation(method="zne", version="1"))
    assert keeper.sign_next() == job
    told = manifest.verify(dsse.parse(keeper.envelope(job)), keeper.trust())
    assert (told.em_method, told.em_version, told.stated) == (
        "zne",
        "1",
        ["em_method", "em_version"],
    )
    keeper.request(job)  # it is there already, and not signed a second time
    assert (keeper.waiting(), keeper.sign_next()) == ([], None)
    keeper.database.close()
    never = keeper_of(tmp_path / "never", own, objects, when="never")
    never.take(chain.entries)
    with pytest.raises(NotThere):
        never.request(job)
    never.database.close()


def test_an_entry_that_is_longer_than_a_leaf_may_be_is_logged_by_its_hash(keeper: Keeper) -> None:
    chain = Chain()
    chain.add("epochs", jobs=["job_" + "0" * 32] * 4000)
    keeper.take(chain.entries)
    (leaf,) = keeper.log.leaves(0, 9)
    assert chain.entries[-1][2].hex().encode() in leaf.data
    assert len(leaf.data) <= LEAF_BYTES_MAX


def test_the_mode_of_a_manifest_is_the_strongest_that_anybody_asks_for(
    tmp_path: Path, own: TestSigner, objects: Store
) -> None:
    keeper = keeper_of(
        tmp_path / "modes", own, objects, crypto_mode="classical",
        tenants={"chemistry": "pqc-required"},
    )  # fmt: skip
    chain = Chain()
    strict, other = chain.job("a"), chain.job("b", tenant="physics")
    keeper.take(chain.entries)
    _sign_all(keeper)
    rows = {row.job_id: row for row in keeper.signed()}
    assert (rows[strict].crypto_mode, rows[strict].pqc_suite) == ("pqc-required", "ML-DSA-65")
    assert rows[strict].bundle_path == ""
    assert (rows[other].crypto_mode, rows[other].pqc_suite) == ("classical", "none")
    trust = keeper.trust()
    with pytest.raises(NotMet):
        manifest.verify(dsse.parse(keeper.envelope(other)), trust, mode="hybrid")
    manifest.verify(dsse.parse(keeper.envelope(strict)), trust, mode="pqc-required")
    keeper.database.close()


def test_a_key_that_is_rotated_meanwhile_signs_with_its_new_version(
    keeper: Keeper, own: TestSigner
) -> None:
    chain = Chain()
    jobs = [chain.job(name) for name in "ab"]
    keeper.take(chain.entries)
    assert keeper.sign_next() == jobs[0]
    own.rotate("manifest-pqc")
    with pytest.raises(Unavailable, match="rotated"):
        keeper.sign_next()
    assert keeper.sign_next() == jobs[1]
    versions = {}
    for job in jobs:
        told = manifest.verify(dsse.parse(keeper.envelope(job)), keeper.trust())
        versions[job] = told.signed_by[1].version
    assert versions == dict(zip(jobs, (1, 2), strict=True))


def test_keys_and_what_becomes_of_them_are_logged_once(keeper: Keeper, own: TestSigner) -> None:
    keeper.note_keys()
    keeper.note_keys()
    assert [each.about for each in keeper.log.leaves(0, 99)] == [
        "manifest-classical/1 active", "manifest-pqc/1 active", "bundle/1 active",
        "log/1 active", "log-pqc/1 active", "log-p256/1 active",
    ]  # fmt: skip
    own.rotate("manifest-pqc")
    keeper.note_keys()
    fresh = {each.about for each in keeper.log.leaves(6, 99)}
    assert fresh == {"manifest-pqc/2 active", "manifest-pqc/1 verify-only"}
    assert set(KINDS) == {"manifest", "decision", "epochs", "key"}


def test_what_the_signer_says_of_a_rotation_is_logged_as_it_was_signed(
    tmp_path: Path, objects: Store
) -> None:
    keys = Keys(tmp_path / "keys")
    for name in ("manifest-classical", "manifest-pqc", "log", "log-pqc"):
        keys.create(name, DEFAULTS[name])
    policy = Policy(origin="qmkd.test/ledger")
    keeper = Keeper(Database(tmp_path / "rotated"), objects, keys, policy, lambda _: None)
    keeper.note_keys()
    keys.rotate("manifest-classical", without_root=True)
    (said,) = keys.statements("manifest-classical")
    for _ in range(2):
        keeper.note_keys()
    found = [each for each in keeper.log.leaves(0, 99) if "statement" in each.about]
    assert len(found) == 1
    told = msgspec.json.decode(found[0].data)
    assert told["statement"] == msgspec.to_builtins(said)
    keeper.database.close()
    keys.close()


def test_a_manifest_that_was_exchanged_in_the_store_is_noticed(
    keeper: Keeper, tmp_path: Path
) -> None:
    chain = Chain()
    job = chain.job("a")
    keeper.take(chain.entries)
    keeper.sign_next()
    (path,) = (tmp_path / "objects").glob(f"*/{job}.*.dsse.json")
    path.write_bytes(b"{}")
    with pytest.raises(Forked):
        keeper.envelope(job)


def test_a_leaf_of_another_log_manifest_tenant_or_job_proves_nothing(keeper: Keeper) -> None:
    chain = Chain()
    job, other = chain.job("a"), chain.job("b")
    keeper.take(chain.entries)
    _sign_all(keeper)
    log, data = keeper.policy.origin, keeper.envelope(job)
    leaf = keeper.log.find("manifest", job).data
    told = (leaf, data, "chemistry", job, log)
    leaves.check_manifest(*told)
    for at, wrong in enumerate(
        (keeper.log.find("manifest", other).data, keeper.envelope(other), "physics", other, "x/y")
    ):
        with pytest.raises(NotAuthentic):
            leaves.check_manifest(*told[:at], wrong, *told[at + 1 :])  # type: ignore[arg-type, call-arg]
    keeper.sign_head(1)
    proof = proofs.prove(keeper.log, keeper.log.find("manifest", job).number)
    verifiers = notes.verifiers_of(keeper.trust())
    root = notes.verify_note(proof.checkpoint, verifiers).root
    for at in range(len(leaf)):
        flipped = leaf_hash(leaf[:at] + bytes([leaf[at] ^ 1]) + leaf[at + 1 :])
        with pytest.raises(NotAuthentic):
            verify_inclusion(flipped, proof.number, keeper.log.size, proof.path, root)


def test_figures_say_what_waits_and_what_is_away(
    keeper: Keeper, own: TestSigner, tmp_path: Path
) -> None:
    follower = Follower(keeper, state_dir=None, public=None)
    registry = CollectorRegistry()
    registry.register(Figures(follower))
    chain = Chain()
    chain.job("a")
    keeper.take(chain.entries)

    def figure(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert figure("qmk_manifests_unsigned", state="waiting") == 1
    assert figure("qmk_attest_failing", part="signing") == 0
    follower.health.signing = "No signer answers."
    assert figure("qmk_attest_failing", part="signing") == 1
    _sign_all(keeper)
    keeper.sign_head(1)
    assert figure("qmk_manifests_unsigned", state="waiting") == 0
    assert figure("qmk_manifests_signed_total") == 1
    assert figure("qmk_ledger_leaves") == figure("qmk_ledger_signed_leaves") == keeper.log.size
    assert figure("qmk_attest_audit_entries_total") == len(chain.entries)


def test_the_index_has_the_columns_of_the_specification(keeper: Keeper) -> None:
    spec = {
        "job_id", "tenant", "backend_id", "pqc_suite", "crypto_mode", "calibration_snapshot_id",
        "em_method", "signature", "s3_path", "created_at",
    }  # fmt: skip
    path = keeper.database.folder / "attest.db"
    with closing(sqlite3.connect(path)) as db:
        columns = {row[1] for row in db.execute("PRAGMA table_info(manifests)")}
    assert spec <= columns


def test_a_signed_head_has_what_was_logged(keeper: Keeper, own: TestSigner) -> None:
    assert keeper.sign_head(1) is None
    chain = Chain()
    chain.job("a")
    keeper.take(chain.entries)
    text = keeper.sign_head(1)
    assert text is not None
    checkpoint = notes.verify_note(text, notes.verifiers_of(keeper.trust()))
    assert checkpoint.root == keeper.log.root(1)
    assert keeper.sign_head(2) is None


# --- stores -------------------------------------------------------------------------------------


def check_store(store: Objects) -> None:
    where = store.put("job_1/a.json", b"one")
    assert where == f"{store.url}/job_1/a.json"
    assert store.put("job_1/a.json", b"one") == where
    assert store.get("job_1/a.json") == b"one"
    with pytest.raises(Forked):
        store.put("job_1/a.json", b"two")
    assert store.get("job_1/a.json") == b"one"
    with pytest.raises(NotThere):
        store.get("job_1/b.json")
    for name in ("../a", "/a", "a//b", "", "a/..", "a b"):
        with pytest.raises(AssertionError):
            store.put(name, b"")


def test_a_directory_keeps_objects_that_are_written_once(tmp_path: Path) -> None:
    check_store(open_objects(str(tmp_path / "objects")))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        open_objects(str(tmp_path / "file")).put("a", b"")


def test_requests_are_signed_as_the_reference_of_the_s3_api_shows() -> None:
    # "Signature Calculations for the Authorization Header", GET Object.
    who = signature.Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    made = signature.headers(
        "GET",
        "https://examplebucket.s3.amazonaws.com/test.txt",
        {"range": "bytes=0-9", "x-amz-content-sha256": sha256(b"").hexdigest()},
        who,
        "us-east-1",
        "s3",
        datetime(2013, 5, 24, tzinfo=UTC),
    )
    told = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert made["authorization"].endswith(f"Signature={told}")


def test_an_s3_server_keeps_objects_that_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tool("moto_server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [server, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"},
    )
    try:
        until = time.monotonic() + START_S_MAX
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
        where = f"s3://manifests/of/qmkd?endpoint={endpoint}"
        with pytest.raises(Unavailable, match="AWS_ACCESS_KEY_ID"):
            open_objects(where).put("a", b"")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        with pytest.raises(Unavailable, match="NoSuchBucket"):
            open_objects(where).put("a", b"")
        _make_bucket(endpoint)
        check_store(open_objects(where))
    finally:
        process.kill()
        process.wait()
    with pytest.raises(Unavailable, match="does not answer"):
        open_objects(where).get("job_1/a.json")


def _make_bucket(endpoint: str) -> None:
    from urllib.request import Request, urlopen

    with urlopen(Request(f"{endpoint}/manifests", method="PUT"), timeout=30):
        pass
