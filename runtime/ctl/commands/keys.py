"""`qmkctl keys`: what the signer's keys are, and what is to become of them (docs/signer.md)."""

from __future__ import annotations

import argparse
import base64
import os
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from runtime.ctl import options as common
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, pairs, print_json
from runtime.signer import errors
from runtime.signer.api import PublicKey
from runtime.signer.client import TIMEOUT_S, SignerClient
from runtime.signer.keys import audit as log
from runtime.signer.protocol import (
    Authority,
    Create,
    List,
    Listing,
    Metrics,
    Public,
    ReadAudit,
    Restore,
    Revoke,
    Rewrap,
    Rotate,
    ServiceStatus,
    SignOne,
    Statements,
    Status,
    TakeBackup,
    Unlock,
    Verify,
)

HELP = "list, make, rotate, revoke, back up and audit the signer's keys"
ALGORITHMS = "Ed25519, ES256, ML-DSA-44/65/87, SLH-DSA-SHA2-128s, ML-KEM-768, X-Wing"
SLOW_S = 120.0  # signing by the root and opening a backup take their time

_Argument = argparse.ArgumentParser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (text, add_own, execute_own) in ACTIONS.items():
        action = parts.add_parser(name, help=text, description=text)
        add_own(action)
        common.add_json(action)
        action.add_argument(
            "--socket",
            metavar="PATH",
            help="the signer's socket (default: $QMK_SIGNER_SOCKET, the user's own, the system's)",
        )
        action.set_defaults(execute_own=execute_own)


def execute(options: argparse.Namespace) -> Exit:
    try:
        with SignerClient(options.socket, timeout=max(TIMEOUT_S, SLOW_S)) as signer:
            done: Exit = options.execute_own(signer, options)
            return done
    except errors.SignerError as error:
        return _refused(error, as_json=options.json)


def _refused(error: errors.SignerError, *, as_json: bool) -> Exit:
    if as_json:
        body = {
            "type": error.NAME,
            "message": str(error),
            "code": error.CODE,
            "data": {"retryable": error.retryable},
        }
        sys.stderr.write(msgspec.json.encode({"error": body}).decode() + "\n")
    else:
        sys.stderr.write(f"qmkctl: {error}\n")
        if isinstance(error, errors.SignerUnreachable):
            sys.stderr.write("qmkctl: is it running? `systemctl status qmk-signer`\n")
    match error:
        case errors.SignerUnreachable():
            return Exit.UNREACHABLE
        case errors.SignerSlow() | errors.SignerBusy():
            return Exit.TIMEOUT
        case errors.BadRequest():
            return Exit.USAGE
        case errors.RecordsDamaged():
            return Exit.DAMAGED
        case _ if errors.StorageFailed.CODE <= error.CODE <= errors.ProviderMissing.CODE:
            return Exit.UNHEALTHY
    return Exit.REFUSED


# --- arguments ----------------------------------------------------------------------------------


def _name(parser: _Argument) -> None:
    parser.add_argument("name", metavar="KEY")


def _create_arguments(parser: _Argument) -> None:
    _name(parser)
    parser.add_argument("--algorithm", required=True, metavar="NAME", help=ALGORITHMS)
    parser.add_argument("--provider", help="insist on one: pkcs11, cryptography, liboqs")
    parser.add_argument(
        "--protection",
        choices=["hsm", "hsm-wrapped", "software"],
        help="insist on it; refused where it cannot be had",
    )


def _rotate_arguments(parser: _Argument) -> None:
    _name(parser)
    _without_root(parser)


def _without_root(parser: _Argument) -> None:
    parser.add_argument(
        "--without-root", action="store_true", help="leave out the root's signature"
    )


def _revoke_arguments(parser: _Argument) -> None:
    _name(parser)
    parser.add_argument("--reason", required=True, help="for everybody to read")
    parser.add_argument(
        "--version", type=common.integer(1, 10**6), metavar="N", help="this one (default: all)"
    )
    _without_root(parser)


def _public_arguments(parser: _Argument) -> None:
    _name(parser)
    parser.add_argument("--version", type=common.integer(1, 10**6), metavar="N")


def _sign_arguments(parser: _Argument) -> None:
    _name(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="what to sign")
    parser.add_argument("--out", metavar="FILE", type=Path, help="the bare signature goes here")


def _seal_arguments(parser: _Argument) -> None:
    _name(parser)
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="must not exist")
    parser.add_argument("--label", default="", help="what it is for; needed to open it as well")


def _verify_arguments(parser: _Argument) -> None:
    _public_arguments(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="what was signed")
    parser.add_argument("signature", metavar="SIGNATURE", type=Path, help="the bare signature")


def _backup_arguments(parser: _Argument) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the backup; must not exist yet")
    _passphrase(parser)


def _restore_arguments(parser: _Argument) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the backup")
    _passphrase(parser)


def _passphrase(parser: _Argument) -> None:
    parser.add_argument(
        "--passphrase-file",
        required=True,
        metavar="FILE",
        type=Path,
        help="its first line seals the backup; 16 bytes at least",
    )


def _audit_arguments(parser: _Argument) -> None:
    parser.add_argument(
        "--last", metavar="N", type=common.integer(1, 1000), default=20, help="default: 20"
    )
    parser.add_argument("--verify", action="store_true", help="check the chain from its start")
    parser.add_argument(
        "--head",
        metavar="N:HEX",
        help="with --state-dir: a head kept elsewhere, so that a log cut off at its end is found",
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        type=Path,
        help="check the files there, and ask no signer; implies --verify",
    )


def _nothing(parser: _Argument) -> None:
    return None


# --- what they do -------------------------------------------------------------------------------


def _list(signer: SignerClient, options: argparse.Namespace) -> Exit:
    found: Listing = signer.call(List())
    if options.json:
        print_json(found)
    else:
        console().print(_table(found))
        if any(each.protection == "software" for each in found.keys):
            sys.stderr.write("qmkctl: keys called `software` are protected by files alone.\n")
    for name, why in found.damaged.items():
        sys.stderr.write(f"qmkctl: {name} is not used: {why}\n")
    return Exit.DAMAGED if found.damaged else Exit.OK


def _table(found: Listing) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("key", "algorithm", "version", "state", "protection", "made", "rotate by"):
        table.add_column(column, no_wrap=True)
    now = datetime.now(UTC)
    for each in found.keys:
        is_due = each.state == "active" and datetime.fromisoformat(each.due_at) <= now
        table.add_row(
            each.name,
            each.algorithm,
            str(each.version),
            each.state,
            each.protection,
            each.created_at[:10],
            each.due_at[:10] + (" overdue" if is_due else "") if each.state == "active" else "",
        )
    return table


def _create(signer: SignerClient, options: argparse.Namespace) -> Exit:
    made: PublicKey = signer.call(
        Create(
            name=options.name,
            algorithm=options.algorithm,
            provider=options.provider,
            protection=options.protection,
        )
    )
    if options.json:
        print_json(made)
    else:
        print(f"{made.name} version {made.version}: {made.algorithm}, {made.protection}")
    return Exit.OK


def _rotate(signer: SignerClient, options: argparse.Namespace) -> Exit:
    changed = signer.call(Rotate(name=options.name, without_root=options.without_root))
    if options.json:
        print_json(changed)
    else:
        key = changed.key
        print(f"{key.name} version {key.version} signs now: {key.algorithm}, {key.protection}")
        print(f"The statement: qmkctl keys statements {key.name} --json")
    return Exit.OK


def _revoke(signer: SignerClient, options: argparse.Namespace) -> Exit:
    changed = signer.call(
        Revoke(
            name=options.name,
            reason=options.reason,
            version=options.version,
            without_root=options.without_root,
        )
    )
    if options.json:
        print_json(changed)
    else:
        print(f"Revoked: {changed.key.name}, up to version {changed.key.version}.")
    return Exit.OK


def _public(signer: SignerClient, options: argparse.Namespace) -> Exit:
    found: PublicKey = signer.call(Public(key=options.name, version=options.version))
    if options.json:
        print_json(found)
    else:
        sys.stdout.write(_pem("PUBLIC KEY", found.spki_der))
    return Exit.OK


def _certificate(signer: SignerClient, options: argparse.Namespace) -> Exit:
    found: bytes = signer.call(Authority(key=options.name))
    if options.json:
        print_json({"certificate_der": found})
    else:
        sys.stdout.write(_pem("CERTIFICATE", found))
    return Exit.OK


def _pem(label: str, der: bytes) -> str:
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"


def _sign(signer: SignerClient, options: argparse.Namespace) -> Exit:
    made = signer.call(SignOne(key=options.name, message=options.file.read_bytes()))
    if options.out is not None:
        options.out.write_bytes(made.signature)
    if options.json:
        print_json(made)
    elif options.out is None:
        print(base64.b64encode(made.signature).decode())
    return Exit.OK


def _seal(signer: SignerClient, options: argparse.Namespace) -> Exit:
    return _carried(options, signer.seal)


def _unseal(signer: SignerClient, options: argparse.Namespace) -> Exit:
    return _carried(options, signer.unseal)


def _carried(options: argparse.Namespace, do: Callable[[str, bytes, bytes], bytes]) -> Exit:
    made = do(options.name, options.file.read_bytes(), options.label.encode())
    with open(options.out, "xb", opener=_private) as file:
        file.write(made)
    if options.json:
        print_json({"file": str(options.out), "bytes": len(made)})
    return Exit.OK


def _verify(signer: SignerClient, options: argparse.Namespace) -> Exit:
    held: bool = signer.call(
        Verify(
            key=options.name,
            message=options.file.read_bytes(),
            signature=options.signature.read_bytes(),
            version=options.version,
        )
    )
    state = signer.public(options.name, options.version).state
    if options.json:
        print_json({"holds": held, "state": state})
    else:
        print("The signature holds." if held else "The signature does NOT hold.")
        if state == "revoked":
            print("The key was revoked: what it signed is not to be believed.")
    return Exit.OK if held and state != "revoked" else Exit.DAMAGED


def _statements(signer: SignerClient, options: argparse.Namespace) -> Exit:
    found: list[msgspec.Raw] = signer.call(Statements(name=options.name))
    if options.json:
        print_json({"statements": found})
        return Exit.OK
    for each in found:
        envelope = msgspec.json.decode(each)
        payload = msgspec.json.decode(base64.b64decode(envelope["payload"]))
        by = ", ".join(
            f"{one['key']} {one['version']} ({one['algorithm']})" for one in envelope["signatures"]
        )
        what = envelope["payloadType"].partition("key-")[2].partition("+")[0]
        print(f"{payload['created_at'][:19]}  {what} of {payload['key']}, signed by {by}")
    return Exit.OK


def _backup(signer: SignerClient, options: argparse.Namespace) -> Exit:
    passphrase = _read_passphrase(options.passphrase_file)
    # Made before anything is asked, so that nothing is sealed for a place it cannot go to.
    with open(options.file, "xb", opener=_private) as file:
        try:
            file.write(signer.call(TakeBackup(passphrase=passphrase)).data)
        except BaseException:
            options.file.unlink()
            raise
    held: Listing = signer.call(List())
    resident = [
        each.name for each in held.keys if each.protection == "hsm" and each.state == "active"
    ]
    if options.json:
        print_json({"file": str(options.file), "resident": resident})
    else:
        print(f"Wrote {options.file}.")
        if resident:
            print(f"In the token alone, so only public here: {', '.join(resident)}.")
    return Exit.OK


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _restore(signer: SignerClient, options: argparse.Namespace) -> Exit:
    done = signer.call(
        Restore(
            data=options.file.read_bytes(),
            passphrase=_read_passphrase(options.passphrase_file),
        )
    )
    if options.json:
        print_json(done)
    else:
        print(f"Restored: {', '.join(done.names) or 'nothing'}.")
        if done.skipped:
            print(f"There already, left as they are: {', '.join(done.skipped)}.")
        if done.resident:
            print(f"Stayed in the other token; rotate them: {', '.join(done.resident)}.")
    return Exit.OK


def _read_passphrase(path: Path) -> bytes:
    return path.read_bytes().split(b"\n", 1)[0].rstrip(b"\r")


def _rewrap(signer: SignerClient, options: argparse.Namespace) -> Exit:
    count: int = signer.call(Rewrap())
    print_json({"rewrapped": count}) if options.json else print(f"Sealed anew: {count}.")
    return Exit.OK


def _audit(signer: SignerClient, options: argparse.Namespace) -> Exit:
    if options.state_dir is not None:
        return _audit_files(options)
    if options.head is not None:
        raise Trouble(Exit.USAGE, "--head goes with --state-dir.")
    page = signer.call(ReadAudit(since=-options.last, most=options.last, verify=options.verify))
    if options.json:
        print_json(page)
        return Exit.OK
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("seq", "at", "event", "key", "version", "uid", "digest"):
        table.add_column(column, no_wrap=True)
    for raw in page.entries:
        each: dict[str, Any] = msgspec.json.decode(raw)
        table.add_row(
            str(each["seq"]),
            each["at"][:19],
            each["event"],
            each.get("key", ""),
            str(each.get("version", "")),
            str(each["user"]),
            each.get("digest", "")[:16],
        )
    console().print(table)
    if page.verified is not None:
        print(f"The chain holds: {page.verified} entries.")
    print(f"Head: {page.seq}:{page.head}")
    return Exit.OK


def _audit_files(options: argparse.Namespace) -> Exit:
    seq, head = None, None
    if options.head is not None:
        number, _, head = options.head.partition(":")
        if not number.isdigit() or len(head) != 64:
            raise Trouble(Exit.USAGE, "--head is a number, a colon and 64 hexadecimal digits.")
        seq = int(number)
    folder = options.state_dir / "audit"
    if not folder.is_dir():
        raise Trouble(Exit.USAGE, f"{folder} is no audit log of a signer.")
    count = log.verify(folder, seq, head)
    if options.json:
        print_json({"verified": count})
    else:
        print(f"The chain holds: {count} entries.")
    return Exit.OK


def _status(signer: SignerClient, options: argparse.Namespace) -> Exit:
    return _show_status(signer.call(Status()), options)


def _unlock(signer: SignerClient, options: argparse.Namespace) -> Exit:
    return _show_status(signer.call(Unlock()), options)


def _show_status(found: ServiceStatus, options: argparse.Namespace) -> Exit:
    token = found.token
    unhealthy = bool(found.overdue) or (token is not None and token.problem is not None)
    if options.json:
        print_json(found)
        return Exit.UNHEALTHY if unhealthy else Exit.OK
    rows: list[tuple[str, object]] = [
        ("version", found.version),
        ("providers", [f"{name} {version}" for name, version in found.providers.items()]),
        ("missing", list(found.missing.values()) or None),
        ("token", "NONE: every key is software" if token is None else _token(token)),
        ("keeps", None if token is None else [_tried(*pair) for pair in token.tried.items()]),
        ("memory", [f"{name.replace('_', ' ')}: {said}" for name, said in found.hardening.items()]),
        ("audit head", f"{found.audit_seq}:{found.audit_head}"),
        ("overdue", ", ".join(found.overdue) or None),
    ]
    console().print(pairs("signer", rows))
    return Exit.UNHEALTHY if unhealthy else Exit.OK


def _token(token: Any) -> str:
    if token.problem is not None:
        return f"{token.label}: {token.problem}"
    software = ", a program and no hardware" if token.version.startswith("SoftHSM") else ""
    return f"{token.label} ({token.version}, serial {token.serial}{software})"


def _tried(what: str, why: str | None) -> str:
    return f"{what}: {'kept' if why is None else why}"


def _metrics(signer: SignerClient, options: argparse.Namespace) -> Exit:
    text: str = signer.call(Metrics())
    print_json({"metrics": text}) if options.json else sys.stdout.write(text)
    return Exit.OK


_Execute = Callable[[SignerClient, argparse.Namespace], Exit]
ACTIONS: dict[str, tuple[str, Callable[[_Argument], None], _Execute]] = {
    "list": ("all keys, what protects them, and when to rotate them", _nothing, _list),
    "create": ("make a key, in the token if it can be there", _create_arguments, _create),
    "rotate": ("make a new version, and a statement that says so", _rotate_arguments, _rotate),
    "revoke": ("let a key be believed no more, and destroy it", _revoke_arguments, _revoke),
    "public": ("the public key, as PEM", _public_arguments, _public),
    "certificate": ("the certificate of a key as an authority, as PEM", _name, _certificate),
    "sign": ("sign a file", _sign_arguments, _sign),
    "verify": ("whether a signature of a file holds", _verify_arguments, _verify),
    "seal": ("seal a file for a key", _seal_arguments, _seal),
    "unseal": ("open a file that was sealed for a key", _seal_arguments, _unseal),
    "statements": ("what was told of a key's rotations and revocations", _name, _statements),
    "backup": ("write all sealed keys to a file, under a passphrase", _backup_arguments, _backup),
    "restore": ("take in a backup's keys", _restore_arguments, _restore),
    "rewrap": ("seal anew what is sealed under an older key of the signer", _nothing, _rewrap),
    "audit": ("what was done with keys, and whether the log is whole", _audit_arguments, _audit),
    "status": ("the token, the libraries, and what the kernel protects", _nothing, _status),
    "unlock": ("read the PIN again, after a wrong one", _nothing, _unlock),
    "metrics": ("what Prometheus is told", _nothing, _metrics),
}
