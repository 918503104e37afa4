"""`python -m policy`: serves the policy engine until SIGTERM or SIGINT.

A model whose bytes are not those that were written is not loaded: the safe rules answer, every
answer says why, and so does the log.
"""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from policy.engine import engine_of
from policy.service import Service, SocketServer, WebServer
from runtime.signer.client import SignerClient

_log = logging.getLogger("qmk.policy")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signer = None if options.signer is None else SignerClient(options.signer)
    engine = engine_of(options.model, options.digest, signer)
    if engine.trouble:
        _log.warning("there is no model, the safe rules answer: %s", engine.trouble)
    service = Service(engine)
    servers: list[SocketServer | WebServer] = []
    try:
        servers.append(SocketServer(options.socket, service, everybody=options.everybody))
        if options.http is not None:
            servers.append(WebServer(options.http, service))
    except OSError as error:
        sys.stderr.write(f"{error.filename or options.socket}: {error.strerror}\n")
        for each in servers:
            each.server_close()
        return 1
    for each in servers:
        threading.Thread(target=each.serve_forever, daemon=True).start()
    _log.info("listening, advice from %s", engine.source)
    stop.wait()
    for each in servers:
        each.shutdown()
        each.server_close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m policy", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="made here")
    parser.add_argument(
        "--everybody", action="store_true", help="let every user of the host ask, not one's group"
    )
    parser.add_argument(
        "--http", metavar="HOST:PORT", type=_address, help="also SPEC-001's /predict"
    )
    parser.add_argument("--model", metavar="FILE", type=Path, help="default: the rules alone")
    parser.add_argument("--digest", metavar="HEX", help="the SHA-256 that the model must have")
    parser.add_argument(
        "--signer", metavar="SOCKET", type=Path, help="take a model only if its signature holds"
    )
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no HOST:PORT")
    return host, int(port)


if __name__ == "__main__":
    raise SystemExit(main())
