"""`qmkctl release`: give logical qubits back."""

from __future__ import annotations

import argparse

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import print_json
from syscalls.ids import HandleId
from syscalls.qubit import Release, Released

HELP = "give held logical qubits back"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("handle", metavar="HANDLE", nargs="+")
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    handles = [HandleId(name) for name in options.handle]
    with common.client_of(options) as client:
        reply = client.call(Release(session_id=client.session_id, handles=handles))
    assert isinstance(reply, Released)
    print_json(reply) if options.json else print(f"Released: {len(reply.handles)}.")
    return Exit.OK
