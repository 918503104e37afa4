"""`qmkctl remote`: connections to daemons on other hosts, and the certificates for them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.client.address import Remote, credentials_folder, socket_path
from runtime.ctl import options as common
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, pairs, print_json

if TYPE_CHECKING:
    from runtime.client.stream import Facts
    from runtime.remote.credentials import Credentials
    from runtime.signer.api import Certificate, Sign

HELP = "look at a remote connection; make, renew and revoke certificates; relay for one user"
DAYS = 7
KINDS = ("ES256", "ML-DSA-65")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text, add_own in (
        ("check", "connect, and say what was agreed", _add_check),
        ("show", "what a folder of credentials holds, and how long it lasts", _add_folder),
        ("make", "have the signer make a key's certificates, into a folder", _add_make),
        ("request", "make a key, and a request to be certified elsewhere", _add_request),
        ("certify", "have the signer answer a request", _add_certify),
        ("accept", "put a certificate that was requested beside its key", _add_accept),
        ("renew", "have the signer renew what is due in a folder", _add_renew),
        ("revoke", "never again believe a certificate, by its serial number", _add_revoke),
        ("relay", "carry calls of remote clients that stand for you", _add_relay),
    ):
        part = parts.add_parser(name, help=text, description=text)
        add_own(part)
        common.add_json(part)


def execute(options: argparse.Namespace) -> Exit:
    from runtime.remote.errors import RemoteError
    from runtime.signer.errors import SignerError

    common.needs("OpenSSL", "cryptography", extra="remote")
    actions: dict[str, Callable[[argparse.Namespace], Exit]] = {
        "check": _check,
        "show": _show,
        "make": _make,
        "request": _request,
        "certify": _certify,
        "accept": _accept,
        "renew": _renew,
        "revoke": _revoke,
        "relay": _relay,
    }
    try:
        return actions[options.action](options)
    except RemoteError as error:
        raise Trouble(Exit.USAGE, str(error)) from error
    except SignerError as error:
        raise Trouble(Exit.REFUSED, f"The signer: {error}") from error


# --- a connection -------------------------------------------------------------------------------


def _add_check(parser: argparse.ArgumentParser) -> None:
    common.add_connection(parser)


def _check(options: argparse.Namespace) -> Exit:
    show_connection(options)
    return Exit.OK


def show_connection(options: argparse.Namespace) -> None:
    """Connect, ask something that needs no session, and say what was agreed."""
    from runtime.client import Client

    address = common.server_of(options)
    if not isinstance(address, Remote):
        raise Trouble(Exit.USAGE, "Say --remote HOST:PORT, or set QMK_REMOTE.")
    with Client(address) as client:
        client.discover()
        facts = client.remote_facts()
    assert facts is not None, "an answer came over it"
    told = {"server": str(address), **_plain(facts)}
    if options.json:
        print_json(told)
        return
    rows: list[tuple[str, object]] = [
        ("protocol", f"{facts.protocol}, {facts.cipher}"),
        ("key exchange", facts.group),
        ("its certificate", f"{facts.peer_certificate}, of {facts.peer}"),
        ("expires", facts.peer_expires),
        ("our certificate", facts.own_certificate),
        ("withstands a quantum computer", facts.post_quantum),
    ]
    console().print(pairs(str(address), rows))


def _plain(facts: Facts) -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(facts), "post_quantum": facts.post_quantum}


# --- certificates -------------------------------------------------------------------------------


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--credentials",
        metavar="DIR",
        help="the folder (default: $QMK_REMOTE_CREDENTIALS, ~/.config/qmk/remote)",
    )


def _add_signer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--signer", metavar="PATH", help="the signer's socket")


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="whom the certificate names")
    parser.add_argument(
        "--host",
        metavar="HOST",
        action="append",
        help="it is for a server of this name or address; may be given several times",
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        action="append",
        help="default: one of each; may be given several times",
    )


def _add_days(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--days", metavar="N", type=common.integer(1, 3650), default=DAYS, help="default: 7"
    )


def _add_make(parser: argparse.ArgumentParser) -> None:
    _add_what(parser)
    _add_days(parser)
    _add_folder(parser)
    _add_signer(parser)


def _add_request(parser: argparse.ArgumentParser) -> None:
    _add_what(parser)
    _add_folder(parser)


def _add_certify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the request, *.csr")
    parser.add_argument(
        "--name", metavar="NAME", required=True, help="who sent it: this is what is certified"
    )
    parser.add_argument("--host", metavar="HOST", action="append", help="for a server: its names")
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: FILE with .crt")
    _add_days(parser)
    _add_signer(parser)


def _add_accept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the certificate, *.crt")
    _add_folder(parser)


def _add_renew(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="also what is not due yet")
    _add_folder(parser)
    _add_signer(parser)


def _add_revoke(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("serial", metavar="SERIAL", help="in hexadecimal, as `show` and logs say")
    parser.add_argument("--why", metavar="TEXT", default="", help="kept beside it")
    _add_folder(parser)


def _show(options: argparse.Namespace) -> Exit:
    from runtime.remote import credentials

    held = credentials.load(credentials_folder(options.credentials))
    if options.json:
        print_json(_listed(held))
        return Exit.OK
    for each in _listed(held)["own"]:
        title = f"{each['file']}: {each['kind']}, for a {each['usage']}"
        console().print(pairs(title, [(name, value) for name, value in each.items()]))
    trusted = [f"{each['kind']} {each['name']}" for each in _listed(held)["trust"]]
    revoked = len(held.revoked)
    console().print(pairs("", [("trusted authorities", trusted), ("revoked", revoked)]))
    return Exit.OK


def _listed(held: Credentials) -> dict[str, Any]:
    from runtime.remote import certificates, credentials
    from runtime.remote.suites import kind_of

    own = [
        {
            "file": each.path.name,
            "kind": each.kind,
            "name": credentials.common_name(each.certificate),
            "usage": certificates.usage_of(each.certificate),
            "hosts": certificates.hosts_of(each.certificate),
            "serial": credentials.serial_of(each.certificate),
            "expires_in_s": round(credentials.left_s(each.certificate)),
            "due": certificates.is_due(each.certificate),
        }
        for each in held.own
    ]
    trust = [
        {"name": credentials.common_name(each), "kind": kind_of(each.public_key())}
        for each in held.trust
    ]
    return {"folder": str(held.folder), "own": own, "trust": trust, "revoked": len(held.revoked)}


def _sign(options: argparse.Namespace) -> AbstractContextManager[Sign]:
    from runtime.remote import certificates

    return certificates.signer_at(options.signer)


def _make(options: argparse.Namespace) -> Exit:
    from runtime.remote import certificates

    folder = credentials_folder(options.credentials)
    with _sign(options) as sign:
        for kind in options.kind or KINDS:
            made = certificates.obtain(
                sign,
                folder,
                kind,
                usage="server" if options.host else "client",
                name=options.name,
                hosts=options.host or [],
                lifetime=options.days * 24 * 3600,
            )
            _tell(options, made, str(folder))
    return Exit.OK


def _tell(options: argparse.Namespace, made: Certificate, where: str) -> None:
    told = {
        "issuer": made.issuer,
        "algorithm": made.algorithm,
        "serial": made.serial,
        "not_after": made.not_after,
        "protection": made.protection,
        "where": where,
    }
    if options.json:
        print_json(told)
    else:
        print(f"{made.algorithm} by {made.issuer}, until {made.not_after}: {where}")


def _request(options: argparse.Namespace) -> Exit:
    from runtime.remote import certificates

    folder = credentials_folder(options.credentials)
    files = [
        str(certificates.request(folder, kind, options.name, options.host or []))
        for kind in options.kind or KINDS
    ]
    if options.json:
        print_json({"requests": files})
    else:
        for each in files:
            print(f"{each}: have it certified, then `qmkctl remote accept`.")
    return Exit.OK


def _certify(options: argparse.Namespace) -> Exit:
    from runtime.remote import certificates

    with _sign(options) as sign:
        made, pem = certificates.certify(
            sign,
            options.file.read_bytes(),
            name=options.name,
            hosts=options.host or [],
            lifetime=options.days * 24 * 3600,
        )
    out = options.out or options.file.with_suffix(".crt")
    certificates.write(out, pem, 0o644)
    _tell(options, made, str(out))
    return Exit.OK


def _accept(options: argparse.Namespace) -> Exit:
    from runtime.remote import certificates

    folder = credentials_folder(options.credentials)
    key = folder / options.file.with_suffix(".key").name
    path = certificates.accept(folder, key, options.file.read_bytes())
    if options.json:
        print_json({"where": str(path)})
    else:
        print(f"{path} holds certificate and key.")
    return Exit.OK


def _renew(options: argparse.Namespace) -> Exit:
    from runtime.remote import certificates, credentials

    folder = credentials_folder(options.credentials)
    with _sign(options) as sign:
        renew = certificates.renewal(sign)
        for own in credentials.load(folder).own:
            if options.all or certificates.is_due(own.certificate):
                _tell(options, renew(own), str(own.path))
    return Exit.OK


def _revoke(options: argparse.Namespace) -> Exit:
    from runtime.remote import certificates, credentials

    try:
        number = int(options.serial.replace(":", ""), 16)
    except ValueError as error:
        raise Trouble(Exit.USAGE, f"{options.serial!r} is not hexadecimal.") from error
    folder = credentials_folder(options.credentials)
    path = folder / credentials.SERIALS
    before = path.read_bytes() if path.exists() else b""
    why = " ".join(options.why.split())
    certificates.write(path, before + f"{number:x}  # {why}".rstrip(" #").encode() + b"\n", 0o644)
    if options.json:
        print_json({"revoked": f"{number:x}", "where": str(path)})
    else:
        print(f"{number:x} is revoked in {path}; a service that runs sees it in a few seconds.")
    return Exit.OK


# --- the relay ----------------------------------------------------------------------------------


def _add_relay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--for-user",
        metavar="USER",
        action="append",
        required=True,
        help="whose `qmkctl serve-remote` may hand clients on; may be given several times",
    )
    parser.add_argument(
        "--listen", metavar="PATH", type=Path, help="default: as serve-remote looks"
    )
    parser.add_argument("--socket", metavar="PATH", help="the daemon's (default: as qmkctl finds)")


def _relay(options: argparse.Namespace) -> Exit:
    import trio

    from runtime.remote import relay, settings

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    own = Path(settings.RELAYS) / _own_name() / "relay.sock"
    path = options.listen or own
    front = frozenset(settings.uid_of(user) for user in options.for_user)

    def ready() -> None:
        if options.json:
            print_json({"listening": str(path)})
        else:
            print(f"Relaying at {path}.")
        sys.stdout.flush()

    trio.run(relay.run, path, socket_path(options.socket), front, ready)
    return Exit.OK


def _own_name() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
