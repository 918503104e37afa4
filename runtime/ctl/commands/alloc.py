"""`qmkctl alloc`: hold logical qubits outside any job."""

from __future__ import annotations

import argparse

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import print_json
from syscalls.qubit import ALLOC_MAX, Alloc, Allocated

HELP = "hold logical qubits, which programs then name by their handles"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("n", metavar="N", type=common.integer(1, ALLOC_MAX), help="how many")
    parser.add_argument("profile", metavar="PROFILE", help="such as 'logical:Surface(d=7)'")
    parser.add_argument("--module", metavar="NAME", help="in which module; any by default")
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        call = Alloc(
            session_id=client.session_id,
            n=options.n,
            profile=options.profile,
            module=options.module,
        )
        reply = client.call(call)
    assert isinstance(reply, Allocated)
    if options.json:
        print_json(reply)
    else:
        print("\n".join(reply.handles))
    return Exit.OK
