"""`qmkctl serve-remote`: the daemon's calls over TLS, for clients on other hosts."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runtime.client.address import TlsMode, credentials_folder, socket_path
from runtime.ctl import options as common
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import print_json

if TYPE_CHECKING:
    from runtime.remote.settings import Settings

HELP = "serve the daemon to clients on other hosts, over TLS 1.3 (docs/remote.md)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", type=Path, help="all of it, as TOML")
    parser.add_argument(
        "--listen",
        metavar="HOST[:PORT]",
        action="append",
        help="default: 127.0.0.1:7443; may be given several times",
    )
    parser.add_argument(
        "--admit",
        metavar="NAME",
        action="append",
        help="who has a certificate of this name may do what you may; may be given several times",
    )
    parser.add_argument("--socket", metavar="PATH", help="the daemon's (default: as qmkctl finds)")
    parser.add_argument(
        "--credentials",
        metavar="DIR",
        help="certificates (default: $QMK_REMOTE_CREDENTIALS, ~/.config/qmk/remote)",
    )
    parser.add_argument(
        "--tls-mode",
        choices=[each.value for each in TlsMode],
        help="the cryptography to insist on (default: hybrid)",
    )
    parser.add_argument(
        "--metrics-port",
        metavar="PORT",
        type=common.integer(0, 65535),
        help="serve figures for Prometheus on 127.0.0.1",
    )
    common.add_json(parser)


def execute(options: argparse.Namespace) -> Exit:
    common.needs("OpenSSL", "cryptography", extra="remote")
    # Only whoever serves needs trio and a TLS library.
    import trio

    from runtime.remote import certificates, server
    from runtime.remote.errors import RemoteError

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    with contextlib.ExitStack() as stack:
        try:
            settings = settings_of(options)
            renew = None
            if settings.signer:
                sign = stack.enter_context(certificates.signer_at(settings.signer))
                renew = certificates.renewal(sign, settings.names)
            service = server.Server(settings, renew=renew)
        except RemoteError as error:
            raise Trouble(Exit.USAGE, str(error)) from error

        def ready(addresses: list[str]) -> None:
            if options.json:
                print_json({"listening": addresses, "mode": settings.crypto_mode})
            else:
                print(f"Serving at {', '.join(addresses)}: {service.summary}.")
            sys.stdout.flush()

        trio.run(server.run, service, ready)
    return Exit.OK


def settings_of(options: argparse.Namespace) -> Settings:
    """The file's, with what the flags say in the place of it. Raises RemoteError."""
    from runtime.remote import settings

    if options.config is not None:
        found = settings.read(options.config)
    else:
        folder = str(credentials_folder(options.credentials))
        found = settings.Settings(credentials=folder, daemon=str(socket_path(options.socket)))
    given = {
        "listen": options.listen,
        "daemon": options.socket,
        "credentials": options.credentials,
        "crypto_mode": None if options.tls_mode is None else TlsMode(options.tls_mode),
        "metrics_port": options.metrics_port,
        "client": options.admit and [settings.Admitted(name=each) for each in options.admit],
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    found = msgspec.structs.replace(found, **chosen)
    if not found.client:
        raise Trouble(Exit.USAGE, "Nobody would be admitted: say --admit NAME, or --config FILE.")
    return settings.checked(found, str(options.config or "the command line"))
