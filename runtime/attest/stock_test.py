"""Verifiers that nobody here wrote judge what we make, and refuse what was changed.

`python -m tests.tools.fetch` fetches them; without one, its tests are skipped.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import struct
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from runtime.attest import bundle, canonical, manifest
from runtime.attest.conftest import TestSigner
from runtime.attest.database import Database
from runtime.attest.errors import Forked, NotAuthentic
from runtime.attest.formats_test import manifest_of
from runtime.attest.keys import TrustedKey
from runtime.attest.ledger import notes, proofs, rekor, tiles, witness
from runtime.attest.ledger.log import Leaf, Log
from tests.tools import FOLDER, PLACES, tool

ORIGIN = "qmkd.test/ledger"
WITNESS = "witness.test/w1"
START_S_MAX = 20.0


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    home = os.environ | {"HOME": str(cwd or "/nonexistent"), "SIGSTORE_NO_CACHE": "1"}
    return subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env=home,
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- cosign -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["bundle", "manifest-classical"])
def test_cosign_verifies_a_signed_file_and_refuses_another(
    key: str, signer: TestSigner, tmp_path: Path
) -> None:
    cosign = tool("cosign")
    made, trusted = bundle.message_bundle(b"the bytes", signer, key)
    (tmp_path / "key.pem").write_bytes(trusted.pem)
    (tmp_path / "file").write_bytes(b"the bytes")
    (tmp_path / "other").write_bytes(b"The bytes")
    (tmp_path / "bundle.json").write_bytes(canonical.encode(made))
    command = (cosign, "verify-blob", "--bundle", tmp_path / "bundle.json", "--key")
    offline = ("--insecure-ignore-tlog=true",)
    done = run(*command, tmp_path / "key.pem", *offline, tmp_path / "file", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Verified OK" in done.stdout + done.stderr
    assert run(
        *command, tmp_path / "key.pem", *offline, tmp_path / "other", cwd=tmp_path
    ).returncode
    stranger, _ = bundle.message_bundle(b"the bytes", TestSigner(), key)
    (tmp_path / "bundle.json").write_bytes(canonical.encode(stranger))
    assert run(*command, tmp_path / "key.pem", *offline, tmp_path / "file", cwd=tmp_path).returncode


@pytest.mark.parametrize("key", ["bundle", "manifest-classical"])
def test_cosign_verifies_a_manifest_over_the_results_that_it_names(
    key: str, signer: TestSigner, tmp_path: Path
) -> None:
    cosign = tool("cosign")
    results = sha256(b"rows of up to 1,024 shots").digest()  # one leaf of a results digest
    told = msgspec.structs.replace(
        manifest_of(signer),
        artifact_hash=f"sha256:{sha256(results).hexdigest()}",
        results_digest=sha256(results).hexdigest(),
    )
    made, trusted = bundle.dsse_bundle(manifest.statement_of(told), signer, key)
    for name, data in {
        "key.pem": trusted.pem,
        "results": results,
        "other": results[::-1],
        "bundle.json": canonical.encode(made),
    }.items():
        (tmp_path / name).write_bytes(data)
    command = (
        cosign, "verify-blob-attestation", "--bundle", tmp_path / "bundle.json", "--key",
        tmp_path / "key.pem", "--type", manifest.PREDICATE, "--insecure-ignore-tlog=true",
    )  # fmt: skip
    done = run(*command, tmp_path / "results", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert run(*command, tmp_path / "other", cwd=tmp_path).returncode
    flipped = canonical.encode(made).replace(b'"sig":"', b'"sig":"A', 1)
    (tmp_path / "bundle.json").write_bytes(flipped)
    assert run(*command, tmp_path / "results", cwd=tmp_path).returncode


def test_cosign_finds_a_manifest_in_our_log_and_refuses_another_log(
    log: Log, signer: TestSigner, tmp_path: Path
) -> None:
    cosign = tool("cosign")
    results = b"leaves of the results"
    told = msgspec.structs.replace(
        manifest_of(signer),
        artifact_hash=f"sha256:{sha256(results).hexdigest()}",
        results_digest=sha256(results).hexdigest(),
    )
    made, trusted = bundle.dsse_bundle(manifest.statement_of(told), signer, "bundle")
    assert made.dsse_envelope is not None
    log.append([*leaves(0, 5), rekor.leaf_of(told.job_id, made.dsse_envelope, trusted)])
    log.append(leaves(5, 9))
    log.sign_head(signer, int(time.time()))
    entry = rekor.entry_of(log, 5, 10, signer, int(time.time()))
    trust = signer.trust(ORIGIN)
    whole = canonical.encode(bundle.logged(made, entry))
    assert bundle.verify_manifest(bundle.parse(whole), trust).job_id == told.job_id
    other = TestSigner().trust(ORIGIN)
    for name, data in {
        "key.pem": trusted.pem,
        "results": results,
        "bundle.json": whole,
        "root.json": json.dumps(rekor.trusted_root(trust)).encode(),
        "other.json": json.dumps(rekor.trusted_root(other)).encode(),
    }.items():
        (tmp_path / name).write_bytes(data)
    command: list[str | Path] = [
        cosign, "verify-blob-attestation", "--bundle", "bundle.json", "--key", "key.pem",
        "--type", manifest.PREDICATE, "--trusted-root",
    ]  # fmt: skip
    done = run(*command, "root.json", "results", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert run(*command, "other.json", "results", cwd=tmp_path).returncode
    proof, replace = entry.inclusion_proof, msgspec.structs.replace
    promise = rekor.Promise(
        signed_entry_timestamp=entry.inclusion_promise.signed_entry_timestamp[::-1]
    )
    for changed in (
        replace(entry, inclusion_proof=replace(proof, hashes=proof.hashes[:-1])),
        replace(entry, inclusion_proof=replace(proof, hashes=proof.hashes[::-1])),
        replace(entry, inclusion_promise=promise),
    ):
        (tmp_path / "bundle.json").write_bytes(canonical.encode(bundle.logged(made, changed)))
        assert run(*command, "root.json", "results", cwd=tmp_path).returncode
    for at in range(0, len(whole), 3):
        flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises((NotAuthentic, UnicodeDecodeError)):
            bundle.verify_manifest(bundle.parse(flipped), trust)


# --- @sigstore/verify ---------------------------------------------------------------------------

SCRIPT = """
const fs = require('fs');
const { bundleFromJSON } = require('@sigstore/bundle');
const { Verifier, toSignedEntity } = require('@sigstore/verify');
const { createPublicKey } = require('crypto');
const [, , pem, ...files] = process.argv;
const key = createPublicKey(fs.readFileSync(pem));
const material = {
  certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [],
  publicKey: () => ({ publicKey: key, validFor: () => true }),
};
const verifier = new Verifier(material, { tlogThreshold: 0, ctlogThreshold: 0, tsaThreshold: 0,
  timestampThreshold: 0 });
for (const file of files) {
  try {
    verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(fs.readFileSync(file, 'utf8')))));
    console.log('ok');
  } catch (error) { console.log('refused: ' + error.message); }
}
"""


@pytest.mark.parametrize("key", ["manifest-pqc", "bundle", "manifest-classical"])
def test_sigstores_own_library_verifies_a_bundle_and_refuses_what_was_changed(
    key: str, signer: TestSigner, tmp_path: Path
) -> None:
    node, library = tool("node"), tool("@sigstore/verify")
    envelope, _ = manifest.sign(manifest_of(signer), signer)
    if key == "bundle":
        made, trusted = bundle.dsse_bundle(envelope.payload, signer, key)
    else:
        trusted = TrustedKey.of(signer.public(key))
        made = bundle.derived(envelope, trusted)
    (tmp_path / "key.pem").write_bytes(trusted.pem)
    (tmp_path / "good.json").write_bytes(canonical.encode(made))
    files = ["good.json"]
    assert made.dsse_envelope is not None
    (one,) = made.dsse_envelope.signatures
    spoiled: dict[str, dict[str, Any]] = {
        "payload": {"payload": made.dsse_envelope.payload.replace(b"chemistry", b"chemistri")},
        "type": {"payload_type": "application/json"},
        "bits": {
            "signatures": [msgspec.structs.replace(one, sig=bytes([one.sig[0] ^ 1]) + one.sig[1:])]
        },
    }
    for name, change in spoiled.items():
        other = msgspec.structs.replace(
            made, dsse_envelope=msgspec.structs.replace(made.dsse_envelope, **change)
        )
        (tmp_path / f"{name}.json").write_bytes(canonical.encode(other))
        files.append(f"{name}.json")
    (tmp_path / "verify.js").write_text(SCRIPT)
    (tmp_path / "node_modules").symlink_to(library.parents[1])
    done = run(node, "verify.js", "key.pem", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "ok", said
    assert [line.partition(":")[0] for line in said[1:]] == ["refused"] * len(spoiled), said


# --- torchwood ----------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    database = Database(tmp_path / "log")
    yield Log(database, ORIGIN)
    database.close()


def leaves(begin: int, end: int, of: str = "leaf") -> list[Leaf]:
    return [
        Leaf(kind="t", about=str(n), data=b"%s %d" % (of.encode(), n)) for n in range(begin, end)
    ]


def test_spicy_verifies_a_proof_and_refuses_another_leaf_or_head(
    log: Log, signer: TestSigner, tmp_path: Path
) -> None:
    spicy = tool("spicy")
    log.append(leaves(0, 11))
    log.sign_head(signer, int(time.time()))
    classical = notes.verifiers_of(signer.trust(ORIGIN))[0]
    assert classical.kind == notes.ED25519
    for number in (0, 6, 10):
        (tmp_path / "file").write_bytes(log.leaf(number).data)
        text = proofs.prove(log, number).spicy
        (tmp_path / "file.spicy").write_text(text)
        command = (spicy, "-verify", classical.vkey, tmp_path / "file")
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        for wrong in (text.replace("\n11\n", "\n12\n"), text.replace("index ", "index 1")):
            (tmp_path / "file.spicy").write_text(wrong)
            assert run(*command, cwd=tmp_path).returncode, wrong
        (tmp_path / "file.spicy").write_text(text)
        (tmp_path / "file").write_bytes(b"another")
        assert run(*command, cwd=tmp_path).returncode


def test_sigsum_verifies_heads_and_proofs_of_a_log_with_its_leaves(
    signer: TestSigner, tmp_path: Path
) -> None:
    """Ours has other leaves; head, tree and proof are the same."""
    sigsum = tool("sigsum-verify")
    raw = TrustedKey.of(signer.public("log")).raw
    log_id = sha256(raw).hexdigest()
    database = Database(tmp_path / "sigsum")
    log = Log(database, f"sigsum.org/v1/tree/{log_id}")
    submitter = ed25519.Ed25519PrivateKey.generate()
    public = submitter.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    ssh = _string(b"ssh-ed25519") + _string(public)
    (tmp_path / "key.pub").write_text(f"ssh-ed25519 {b64encode(ssh).decode()} test\n")
    (tmp_path / "policy").write_text(f"log {raw.hex()}\nquorum none\n")
    checksum = sha256(sha256(b"the message").digest()).digest()
    made = submitter.sign(b"sigsum.org/v1/tree-leaf\0" + checksum)
    data = checksum + made + sha256(public).digest()
    log.append([*leaves(0, 4), Leaf(kind="sigsum", about="4", data=data), *leaves(5, 9)])
    note = notes.parse(log.sign_head(signer, 1, ["log"]))
    path = "".join(f"node_hash={each.hex()}\n" for each in log.inclusion(4, 9))
    proof = (
        f"version=2\nlog={log_id}\nleaf={sha256(public).hexdigest()} {made.hex()}\n\n"
        f"size=9\nroot_hash={note.checkpoint.root.hex()}\n"
        f"signature={note.lines[0].signature.hex()}\n\nleaf_index=4\n{path}"
    )
    database.close()
    for text, message, holds in (
        (proof, b"the message", True),
        (proof, b"The message", False),
        (proof.replace("leaf_index=4", "leaf_index=3"), b"the message", False),
        (proof.replace("size=9", "size=8"), b"the message", False),
    ):
        (tmp_path / "proof").write_text(text)
        done = subprocess.run(
            [sigsum, "-k", "key.pub", "-p", "policy", "proof"],
            cwd=tmp_path, input=message, capture_output=True,
        )  # fmt: skip
        assert (done.returncode == 0) == holds, done.stderr


class Agent(socketserver.StreamRequestHandler):
    """The part of an SSH agent that litewitness asks for: one Ed25519 key, told of and used."""

    key: ed25519.Ed25519PrivateKey

    def handle(self) -> None:
        raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        blob = _string(b"ssh-ed25519") + _string(raw)
        while head := self.rfile.read(4):
            asked = self.rfile.read(int.from_bytes(head, "big"))
            if asked[0] == 11:  # SSH_AGENTC_REQUEST_IDENTITIES
                answer = b"\x0c" + struct.pack(">I", 1) + _string(blob) + _string(b"witness")
            else:  # SSH_AGENTC_SIGN_REQUEST: the key, the data, flags
                at = 5 + int.from_bytes(asked[1:5], "big")
                size = int.from_bytes(asked[at : at + 4], "big")
                made = self.key.sign(asked[at + 4 : at + 4 + size])
                answer = b"\x0e" + _string(_string(b"ssh-ed25519") + _string(made))
            self.wfile.write(_string(answer))


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


@pytest.fixture
def running(signer: TestSigner, tmp_path: Path) -> Iterator[witness.Witness]:
    """A litewitness that knows our log."""
    program, control = tool("litewitness"), tool("witnessctl")
    key = ed25519.Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    (classical, *_) = notes.verifiers_of(signer.trust(ORIGIN))
    for command in (("add-log",), ("add-key", "-key", classical.vkey)):
        name, *more = command
        done = run(control, name, "-db", "w.db", "-origin", ORIGIN, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    handler = type("Handler", (Agent,), {"key": key})
    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "agent"), handler) as agent:
        threading.Thread(target=agent.serve_forever, daemon=True).start()
        blob = _string(b"ssh-ed25519") + _string(raw)
        told = "SHA256:" + b64encode(sha256(blob).digest()).decode().rstrip("=")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [
                program, "-db", "w.db", "-key", told, "-name", WITNESS, "-ssh-agent",
                str(tmp_path / "agent"), "-listen", f"127.0.0.1:{port}",
            ],
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            until = time.monotonic() + START_S_MAX
            while time.monotonic() < until and process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            spki = bytes.fromhex("302a300506032b6570032100") + raw
            public = TrustedKey(name=WITNESS, version=1, algorithm="Ed25519", spki=spki)
            verifier = notes.Verifier(name=WITNESS, kind=notes.ED25519_COSIGNATURE, key=public)
            yield witness.Witness(url=f"http://127.0.0.1:{port}", verifier=verifier)
        finally:
            process.kill()
            process.wait()
            agent.shutdown()


def test_a_stock_witness_signs_a_log_that_grows_and_refuses_a_fork(
    log: Log, signer: TestSigner, running: witness.Witness, tmp_path: Path
) -> None:
    ours = notes.verifiers_of(signer.trust(ORIGIN))
    old = 0
    for size in (3, 7, 11):
        log.append(leaves(old, size))
        log.sign_head(signer, int(time.time()))
        witness.cosign(log, running)
        seen = notes.verify_note(log.checkpoint(), ours, [running.verifier], quorum=1)
        assert seen.size == size
        old = size
    tiles.publish(log, tmp_path / "public", 0, log.checkpoint(), 11)
    proof = proofs.parse(proofs.prove(log, 5).text)
    assert proofs.verify(proof, ours, [running.verifier], 1)[1].size == 11
    # Who lost what the witness knows asks it, and goes on from there.
    with log.database.writing() as db:
        db.execute("DELETE FROM witness")
    log.append(leaves(11, 12))
    log.sign_head(signer, int(time.time()))
    witness.cosign(log, running)
    other = Database(tmp_path / "fork")
    fork = Log(other, ORIGIN)
    fork.append(leaves(0, 20, of="another"))
    fork.sign_head(signer, int(time.time()))
    with pytest.raises(Forked, match="another history"):
        witness.cosign(fork, running)
    shorter = Log(Database(tmp_path / "shorter"), ORIGIN)
    shorter.append(leaves(0, 5))
    shorter.sign_head(signer, int(time.time()))
    with pytest.raises(Forked, match="knows a log of 12"):
        witness.cosign(shorter, running)
    other.close()
    shorter.database.close()


def test_every_tool_that_is_fetched_has_its_place() -> None:
    fetched = {name for name, path in PLACES.items() if (FOLDER / path).exists()}
    assert fetched <= set(PLACES)
    assert json.loads((Path(__file__).parents[2] / "tests/tools/node/package.json").read_text())
