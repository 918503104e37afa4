"""`qmkctl verify`: what the kernel would say about a program, without a kernel."""

from __future__ import annotations

import argparse

from qvm.program import VerifiedProgram
from qvm.verify import verify_bytes
from runtime.client.errors import line
from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import print_json

HELP = "check a program here, without a daemon"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="*.qvm.json, *.qvm assembly, or a circuit")
    common.add_json(parser)


def execute(options: argparse.Namespace) -> Exit:
    found = verify_bytes(common.file_json(options.file))
    if isinstance(found, VerifiedProgram):
        if options.json:
            print_json({"ok": True, "findings": found.warnings, "summary": found.summary})
        else:
            for warning in found.warnings:
                print(line(warning))
            width, epochs = found.summary.peak_logical, found.summary.epochs
            print(f"{options.file}: {found.summary.nodes} nodes, {width} qubits, {epochs} epochs")
        return Exit.OK
    if options.json:
        print_json({"ok": False, "findings": found})
    else:
        for finding in found:
            print(line(finding))
    return Exit.INVALID_PROGRAM
