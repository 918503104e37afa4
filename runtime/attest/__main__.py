"""`qmk-attest`, or `python -m runtime.attest`: signs manifests of jobs, and keeps the ledger.

Runs until SIGTERM or SIGINT; with `--once` it signs what there is, and ends. It reads the audit
chain, so it runs as the daemon's user; it asks the daemon for details, so that user is a tenant
with CAP_ADMIN; its signatures are the signer's, or with `--software-keys` its own.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.attest.catalog import OBJECTS, PUBLIC, SOCKET, write_trust
from runtime.attest.client import SOCKET_VARIABLE
from runtime.attest.database import Database
from runtime.attest.errors import AttestError
from runtime.attest.keeping import KEYS, Keeper, Policy
from runtime.attest.ledger import leaves
from runtime.attest.ledger.notes import from_vkey
from runtime.attest.ledger.witness import Witness
from runtime.attest.modes import DEFAULT, MODES
from runtime.attest.store.objects import open_objects
from runtime.attest.watching import Daemon, Follower
from runtime.signer.api import Sign
from runtime.signer.errors import SignerError
from syscalls.job import JobStatus

_log = logging.getLogger("qmk.attest")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        return _run(options)
    except (AttestError, SignerError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="qmk-attest", description=__doc__)
    add = whole.add_argument
    add("--dir", type=Path, required=True, help="where manifests and ledger are kept")
    add("--state-dir", help="the daemon's state directory (default: as it is configured)")
    add("--socket", type=Path, help="the daemon's socket (default: as for qmkctl)")
    add("--signer", type=Path, metavar="SOCKET", help="the signer's socket (default: its own)")
    add("--software-keys", type=Path, metavar="DIR", help="no signer: keys of its own, in files")
    add("--listen", type=Path, metavar="SOCKET", help=f"default: ${SOCKET_VARIABLE}, {SOCKET}")
    add("--objects", metavar="STORE", help="a folder, or s3://BUCKET/PREFIX?endpoint=URL")
    add("--when", choices=["always", "request", "never"], default="always", help="when to sign")
    add("--crypto-mode", choices=MODES, default=DEFAULT, help="the least")
    add(
        "--tenant-mode",
        action="append",
        default=[],
        metavar="TENANT=MODE",
        help="the least, of one",
    )
    add("--log", default=",".join(leaves.KINDS), help="kinds of leaves (default: all)")
    add(
        "--backend-id",
        default=None,
        help="what manifests call the machine (default: qmkd@HOST)",
    )
    add(
        "--origin",
        default=None,
        help="the log's name, never to be changed (default: HOST/qmkd)",
    )
    add("--witness", nargs=2, action="append", default=[], metavar=("URL", "VKEY"))
    add("--metrics-port", type=int, default=0, help="of the loopback; 0 for none")
    add("--once", action="store_true", help="sign what there is, and end")
    add("--without-daemon", action="store_true", help="know of jobs what the audit chain says")
    return whole


def _run(options: argparse.Namespace) -> int:
    witnesses = [Witness(url=url, verifier=from_vkey(vkey)) for url, vkey in options.witness]
    policy = Policy(
        when=options.when,
        crypto_mode=options.crypto_mode,
        tenants=dict(each.split("=", 1) for each in options.tenant_mode),
        log=tuple(kind for kind in options.log.split(",") if kind),
        backend_id=options.backend_id or f"qmkd@{os.uname().nodename}",
        origin=options.origin or f"{os.uname().nodename}/qmkd",
    )
    daemon = Daemon(options.socket)
    ask: Callable[[str], JobStatus | None] = daemon.status
    if options.without_daemon:
        ask = lambda _: None  # noqa: E731
    database = Database(options.dir)
    try:
        objects = open_objects(options.objects or str(options.dir / OBJECTS))
        keeper = Keeper(database, objects, _signer(options), policy, ask)
        follower = Follower(
            keeper,
            state_dir=options.state_dir,
            public=options.dir / PUBLIC,
            witnesses=witnesses,
        )
        if options.once:
            signed = follower.once()
            write_trust(options.dir, keeper.trust())
            _log.info("signed %d manifests, %d leaves are logged", signed, keeper.log.size)
            return 0
        return _serve(options, follower)
    finally:
        daemon.close()
        database.close()


def _serve(options: argparse.Namespace, follower: Follower) -> int:
    from runtime.attest.rpc import Server

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    default = os.environ.get(SOCKET_VARIABLE) or options.dir / SOCKET
    server = Server(Path(options.listen or default), follower)
    if options.metrics_port:
        from prometheus_client import CollectorRegistry, start_http_server

        from runtime.attest.metrics import Figures

        registry = CollectorRegistry()
        registry.register(Figures(follower))
        start_http_server(options.metrics_port, addr="127.0.0.1", registry=registry)
    listening = threading.Thread(target=server.serve_forever, name="listen")
    listening.start()
    follower.on_fault = stop.set
    follower.start()
    _log.info("following, policy %s", follower.keeper.policy.when)
    stop.wait()
    server.close()
    listening.join()
    follower.stop()
    return 1 if follower.faulty else 0


def _signer(options: argparse.Namespace) -> Sign:
    if options.software_keys is not None:
        from runtime.signer.keys.store import DEFAULTS, Keys

        keys = Keys(options.software_keys)
        for name in KEYS:
            if name not in keys.names:
                keys.create(name, DEFAULTS[name])
        _log.warning("keys are software, in %s: no token protects them", options.software_keys)
        return keys
    from runtime.signer.client import SignerClient

    return SignerClient(options.signer)


if __name__ == "__main__":
    raise SystemExit(main())
