"""`qmkctl manifest`: signed manifests of runs: sign, list, show, verify, run again, hand on."""

from __future__ import annotations

import argparse
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.table import Table

from runtime.client import Client
from runtime.ctl import options as common
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, pairs, print_json
from runtime.ctl.records import add_source, failures, keys_note, source_of, trust_of
from syscalls.checkpoint import Replay, Replayed
from syscalls.ids import JobId
from syscalls.job import JobStatus
from syscalls.results import SHOT_BLOCK

if TYPE_CHECKING:
    from runtime.attest.keys import Trust
    from runtime.attest.manifest import RunManifest

HELP = "signed manifests of runs: sign, list, show, verify, run again, make bundles"
MODES = ("classical", "hybrid", "pqc-required")
BUNDLES = {"p256": "bundle", "ed25519": "manifest-classical", "mldsa65": "manifest-pqc"}
SHOWN = ("job_id", "tenant", "crypto_mode", "created_at", "leaf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_actions(
        parser,
        ("sign", "have the manifest of a completed job signed", _add_sign),
        ("list", "manifests that are signed, and those that wait", add_source),
        ("show", "print a manifest", _add_show),
        (
            "verify",
            "verify a manifest or a bundle: signatures, mode, place in the ledger",
            _add_verify,
        ),
        ("replay", "run a job again from its manifest, and compare the results", _add_replay),
        ("bundle", "write a Sigstore bundle for other verifiers", _add_bundle),
        (
            "artifact",
            "write the file whose SHA-256 a manifest names as artifact_hash",
            _add_artifact,
        ),
        ("keys", "print the public keys that verify manifests and the ledger", add_source),
    )


def execute(options: argparse.Namespace) -> Exit:
    with failures():
        return _ACTIONS[options.action](options)


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="JOB|FILE", help="a job, or a file of its manifest")
    add_source(parser)


def _add_sign(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("--em-method", metavar="NAME", help="how errors were mitigated, you say")
    parser.add_argument("--em-version", metavar="VERSION", default="", help="of that method")
    add_source(parser)


def _add_show(parser: argparse.ArgumentParser) -> None:
    _add_what(parser)
    parser.add_argument("--yaml", action="store_true", help="as YAML")
    parser.add_argument("--envelope", action="store_true", help="the signed bytes, as they are")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    _add_what(parser)
    parser.add_argument(
        "--mode",
        choices=MODES,
        help="what must be met (default: hybrid; classical of a bundle, which has one signature)",
    )
    parser.add_argument("--tenant", help="whose it must be")
    parser.add_argument("--job", help="of which job it must be")
    parser.add_argument("--proof", type=Path, metavar="FILE", help="a .tlog-proof of it")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    _add_what(parser)
    parser.add_argument(
        "--program", metavar="PROGRAM", help="submit this again (default: the daemon's own record)"
    )


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    _add_what(parser)
    parser.add_argument("--algorithm", choices=sorted(BUNDLES), required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--logged", action="store_true", help="with its place in the ledger, of p256 alone"
    )
    parser.add_argument("--key-out", type=Path, metavar="FILE", help="its public key, PEM")


def _add_artifact(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")


# --- actions ------------------------------------------------------------------------------------


def _sign(options: argparse.Namespace) -> Exit:
    from runtime.attest.client import attest_socket
    from runtime.attest.source import Asked

    if options.dir is not None:
        raise Trouble(Exit.USAGE, "Only a follower signs: leave out --dir.")
    stated = None
    if options.em_method is not None:
        stated = {"method": options.em_method, "version": options.em_version}
    with common.client_of(options) as client:
        signed = Asked(attest_socket(options.attest), client.session_id).sign(options.job, stated)
    if options.json:
        print_json(signed)
    else:
        console().print(pairs("", list(msgspec.structs.asdict(signed).items())))
    return Exit.OK


def _list(options: argparse.Namespace) -> Exit:
    with source_of(options) as source:
        signed, waiting = source.listing()
    if options.json:
        print_json({"signed": signed, "waiting": waiting})
        return Exit.OK
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("job", "tenant", "mode", "ended", "leaf"):
        table.add_column(name, no_wrap=True)
    for row in signed:
        table.add_row(*(str(getattr(row, name)) for name in SHOWN))
    for each in waiting:
        table.add_row(each.job_id, each.tenant, each.state, each.error, "")
    console().print(table) if signed or waiting else print("No manifests.")
    return Exit.OK


def _show(options: argparse.Namespace) -> Exit:
    from runtime.attest import dsse, views
    from runtime.attest.manifest import unverified

    data = _data(options)
    if options.envelope:
        sys.stdout.buffer.write(data)
        return Exit.OK
    envelope = dsse.parse(data)
    told = unverified(envelope)
    fields: dict[str, Any] = msgspec.to_builtins(told)
    view = fields | {"signature": msgspec.to_builtins(envelope.signatures)}
    if options.json:
        print_json(view)
    else:
        sys.stdout.write(views.as_yaml(view) if options.yaml else views.as_json(view))
    return Exit.OK


def _verify(options: argparse.Namespace) -> Exit:
    trust = trust_of(options)
    data = _data(options)
    found, kind = _verified(data, trust, options)
    proof = _proof(options)
    leaf = None if proof is None else _check_logged(proof, data, found, trust)
    about = {
        "ok": True,
        "kind": kind,
        "job_id": found.job_id,
        "tenant": found.tenant,
        "crypto_mode": found.crypto_mode,
        "artifact_hash": found.artifact_hash,
        "leaf": leaf,
        "keys": keys_note(options),
    }
    if options.json:
        print_json(about)
    else:
        logged = "not looked for" if leaf is None else f"leaf {leaf} of {trust.origin}"
        console().print(pairs("It holds.", [*list(about.items())[1:-2], ("ledger", logged)]))
        sys.stderr.write(f"qmkctl: keys: {about['keys']}\n")
    return Exit.OK


def _replay(options: argparse.Namespace) -> Exit:
    from runtime.attest.manifest import SHA256, probabilities_digest

    found, _ = _verified(_data(options), trust_of(options), options)
    with common.client_of(options) as client:
        status = _run_again(client, found, options)
    context = status.execution_context
    assert context is not None, "a completed job has one"
    if status.probabilities is not None:
        digest = SHA256 + probabilities_digest(status.probabilities)
    else:
        digest = SHA256 + (context.results_digest or "")
    changed = {
        name: f"{then} then, {context.versions.get(name, 'none')} now"
        for name, then in found.versions.items()
        if context.versions.get(name) != then
    }
    same = {
        "program": context.program_digest == found.program_digest,
        "seed": str(context.seed) == found.seed,
        "results": digest == found.artifact_hash,
    }
    about = {
        "ok": all(same.values()),
        "job_id": status.job_id,
        "replay_of": found.job_id,
        "artifact_hash": digest,
        "expected": found.artifact_hash,
        "same": same,
        "versions_changed": changed,
    }
    if options.json:
        print_json(about)
    else:
        title = "The same results." if about["ok"] else "Not the same."
        console().print(pairs(title, list(about.items())[1:]))
    return Exit.OK if about["ok"] else Exit.UNVERIFIED


def _bundle(options: argparse.Namespace) -> Exit:
    from runtime.attest import bundle, canonical, dsse

    if options.logged and options.algorithm != "p256":
        raise Trouble(Exit.USAGE, "--logged is of p256 bundles alone: cosign reads no other.")
    trust, name = trust_of(options), BUNDLES[options.algorithm]
    if options.algorithm == "p256":
        if Path(options.what).exists():
            raise Trouble(Exit.USAGE, "A P-256 bundle is signed with the manifest: name the job.")
        with source_of(options, _session(options)) as source:
            data = source.bundle(options.what, logged=options.logged)
        made = bundle.parse(data) if data else None
        if made is None:
            raise Trouble(Exit.USAGE, f"There is no P-256 bundle of {options.what}.")
        bundle.verify_manifest(made, trust)
        key = trust.by_id(bundle.envelope_of(made, trust).signatures[0].keyid)
    else:
        envelope = dsse.parse(_data(options))
        dsse.opened(envelope, trust)
        ids = {each.keyid for each in envelope.signatures}
        keys = [each for each in trust.named(name) if each.id in ids]
        if not keys:
            raise Trouble(Exit.USAGE, f"It has no signature of {name}.")
        key = keys[0]
        data = canonical.encode(bundle.derived(envelope, key))
    options.out.write_bytes(data)
    if options.key_out is not None:
        options.key_out.write_bytes(key.pem)
    if options.json:
        print_json({"bundle": str(options.out), "algorithm": key.algorithm, "key": key.id})
    return Exit.OK


def _artifact(options: argparse.Namespace) -> Exit:
    """For packed rows the SHA-256 of every block of them; for exact probabilities their JSON."""
    with common.client_of(options) as client:
        result = client.job(options.job).wait(timeout=1.0, samples=True)
    if result.probabilities is not None:
        data = msgspec.json.encode(result.probabilities, order="sorted")
    else:
        rows = result.samples_packed
        blocks = (rows[at : at + SHOT_BLOCK] for at in range(0, len(rows), SHOT_BLOCK))
        data = b"".join(sha256(block.tobytes()).digest() for block in blocks if block.size)
    options.out.write_bytes(data)
    about = {"file": str(options.out), "artifact_hash": f"sha256:{sha256(data).hexdigest()}"}
    print_json(about) if options.json else console().print(pairs("", list(about.items())))
    return Exit.OK


def _keys(options: argparse.Namespace) -> Exit:
    from runtime.attest import views

    trust = trust_of(options)
    print_json(trust) if options.json else sys.stdout.write(views.as_json(trust))
    return Exit.OK


# --- parts --------------------------------------------------------------------------------------


def _session(options: argparse.Namespace) -> str:
    """The session that shows the follower whose job it is; none where a folder is read."""
    if options.dir is not None:
        return ""
    with common.client_of(options) as client:
        return client.session_id


def _data(options: argparse.Namespace) -> bytes:
    """The manifest that is named: a file's bytes, or what is kept of a job."""
    path = Path(options.what)
    if path.is_file():
        return path.read_bytes()
    if not options.what.startswith("job_"):
        raise Trouble(Exit.USAGE, f"{options.what}: there is no such file, and it is no job.")
    with source_of(options, _session(options)) as source:
        return source.envelope(options.what)


def _verified(data: bytes, trust: Trust, options: argparse.Namespace) -> tuple[RunManifest, str]:
    """The manifest in an envelope or a bundle, and which of them it was. Raises NotAuthentic."""
    from runtime.attest import bundle, dsse, manifest
    from runtime.attest.errors import NotMet
    from runtime.attest.modes import DEFAULT

    asked = getattr(options, "mode", None)
    if b'"mediaType"' in data[:64] or b'"dsseEnvelope"' in data[:64]:
        found = bundle.verify_manifest(bundle.parse(data), trust, mode=asked or "classical")
        kind = "bundle"
    else:
        envelope = dsse.parse(data)
        # Who verifies says if a classical signature is enough, for a manifest says what its forger
        # wants; to run one again, its own word will do.
        own = DEFAULT if hasattr(options, "mode") else manifest.unverified(envelope).crypto_mode
        found, kind = manifest.verify(envelope, trust, mode=asked or own), "manifest"
    for name, wanted, told in (
        ("tenant", getattr(options, "tenant", None), found.tenant),
        ("job", getattr(options, "job", None), found.job_id),
    ):
        if wanted is not None and wanted != told:
            raise NotMet(f"It is of {name} {told}, and {wanted} is asked for.")
    return found, kind


def _proof(options: argparse.Namespace) -> str | None:
    """The proof of a file, or of whoever keeps the ledger; None for a file without one."""
    if options.proof is not None:
        text: str = options.proof.read_text(encoding="utf-8")
        return text
    if Path(options.what).is_file():
        return None
    with source_of(options, _session(options)) as source:
        return source.proof(options.what, None, None)


def _check_logged(text: str, data: bytes, found: RunManifest, trust: Trust) -> int:
    """The number of the leaf that logs this manifest. Raises NotAuthentic."""
    from runtime.attest.ledger import leaves, notes, proofs

    proof = proofs.parse(text)
    leaf, _ = proofs.verify(proof, notes.verifiers_of(trust))
    leaves.check_manifest(leaf, data, found.tenant, found.job_id, trust.origin)
    return proof.number


def _run_again(client: Client, found: RunManifest, options: argparse.Namespace) -> JobStatus:
    if options.program is None:
        call = Replay(session_id=client.session_id, job_id=JobId(found.job_id))
        replayed = client.call(call)
        assert isinstance(replayed, Replayed)
        return client.job(replayed.job_id).wait().status
    graph = common.file_json(options.program)
    more: dict[str, Any] = {"noise": found.noise_requested or None}
    job = client.submit(
        graph,
        shots=found.shots,
        seed=int(found.seed),
        exact=found.exact,
        raise_distance=found.raise_distance,
        **more,
    )
    return job.wait().status


_ACTIONS = {
    "sign": _sign,
    "list": _list,
    "show": _show,
    "verify": _verify,
    "replay": _replay,
    "bundle": _bundle,
    "artifact": _artifact,
    "keys": _keys,
}
