"""`qmkctl session`: the session that qmkctl keeps, and ending it."""

from __future__ import annotations

import argparse

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, pairs, print_json
from runtime.ctl.session_cache import forget

HELP = "show or close qmkctl's session"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["show", "close"], nargs="?", default="show")
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        session = client.session
        if options.what == "close":
            closed = client.close_session()
            forget(common.server_of(options))
            if options.json:
                print_json(closed)
            else:
                cancelled, forgotten = closed.jobs_cancelled, closed.jobs_forgotten
                print(f"Closed: {cancelled} jobs cancelled, {forgotten} finished ones forgotten.")
            return Exit.OK
    if options.json:
        print_json(session)
        return Exit.OK
    rows: list[tuple[str, object]] = [
        ("session", session.session_id),
        ("tenant", session.tenant_id),
        ("granted", ", ".join(session.granted)),
        ("denied", ", ".join(session.denied) or None),
        ("logical qubits at most", session.quota.max_logical_qubits),
        ("physical qubits at most", session.quota.max_physical_qubits),
        ("jobs at most", session.quota.max_jobs),
        ("op families", ", ".join(session.op_families)),
        ("versions", f"ABI {session.abi_version}, QVM {session.qvm_version}"),
        ("closes after idle", f"{session.expires_after_idle_s:g} s"),
    ]
    console().print(pairs("", rows))
    return Exit.OK
