"""`qmkctl`: the command line. Parses, calls one subcommand, turns failures into sentences.

The subcommands are in `commands/`, the exit statuses in `exits.py`. No user sees a traceback but
one who sets QMKCTL_TRACEBACK.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from runtime.client import QmkError
from runtime.ctl.commands import (
    alloc,
    audit,
    cancel,
    caps,
    chan,
    checkpoint,
    checkpoints,
    compile,
    completion,
    db,
    discover,
    doctor,
    em,
    estimate,
    events,
    explain,
    faults,
    jobs,
    keys,
    ledger,
    manifest,
    mapping,
    migrate,
    plan,
    release,
    remote,
    replay,
    restore,
    results,
    run,
    schedule,
    serve_remote,
    session,
    status,
    telemetry,
    top,
    trace,
    verify,
    wait,
)
from runtime.ctl.exits import Exit, Trouble, epilog, status_of
from runtime.ctl.output import print_error

COMMANDS = {
    "run": run,
    "plan": plan,
    "explain": explain,
    "status": status,
    "wait": wait,
    "results": results,
    "cancel": cancel,
    "jobs": jobs,
    "checkpoint": checkpoint,
    "checkpoints": checkpoints,
    "restore": restore,
    "replay": replay,
    "migrate": migrate,
    "mapping": mapping,
    "session": session,
    "telemetry": telemetry,
    "top": top,
    "events": events,
    "trace": trace,
    "caps": caps,
    "alloc": alloc,
    "release": release,
    "chan": chan,
    "faults": faults,
    "compile": compile,
    "verify": verify,
    "estimate": estimate,
    "em": em,
    "schedule": schedule,
    "remote": remote,
    "serve-remote": serve_remote,
    "keys": keys,
    "db": db,
    "audit": audit,
    "manifest": manifest,
    "ledger": ledger,
    "doctor": doctor,
    "discover": discover,
    "completion": completion,
}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(
        prog="qmkctl",
        description="Run programs on a qmkd machine, and look at what it does.",
        epilog=epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        part = parts.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_arguments(part)
        part.set_defaults(execute=command.execute)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says. Returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        exit_status: Exit = options.execute(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough. What Python would still flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except (QmkError, Trouble, OSError) as error:
        print_error(error, as_json=options.json)
        return status_of(error)
    except Exception as error:
        if os.environ.get("QMKCTL_TRACEBACK"):
            raise
        sys.stderr.write(
            f"qmkctl: this is a fault of qmkctl itself: {type(error).__name__}: {error}\n"
            "qmkctl: QMKCTL_TRACEBACK=1 shows where; please report it.\n"
        )
        return Exit.BUG
    return exit_status


if __name__ == "__main__":
    sys.exit(main())
