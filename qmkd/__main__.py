"""`qmkd`: the daemon's command line. Runs in the foreground until SIGTERM."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from qmkd.shell import config as configuration
from qmkd.shell import daemon
from qmkd.shell.log import start_log

EXIT_BAD_CONFIG = 2

_EPILOG = """\
Later sources win: built-in defaults, the configuration file, QMKD_* environment variables (QMKD_
and the key in capitals), flags. Exit status: 0 stopped as asked, 1 cannot start, 2 bad
configuration or usage, 70 internal fault.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qmkd", description="Quantum microkernel daemon.", epilog=_EPILOG
    )
    parser.add_argument("--config", metavar="FILE", help="read this configuration (TOML)")
    parser.add_argument("--socket", metavar="PATH", help="listen here")
    parser.add_argument("--state-dir", metavar="DIR", help="keep state here")
    parser.add_argument("--machine", metavar="NAME", help="a shipped machine, or a file (TOML)")
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    parser.add_argument("--log-format", metavar="FORMAT", help="text or json")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check-config", action="store_true", help="check, say so, and end")
    what.add_argument("--print-config", action="store_true", help="print what is in force as TOML")
    what.add_argument("--version", action="store_true", help="print versions and end")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says. Returns the exit status."""
    given = vars(_parser().parse_args(arguments))
    if given["version"]:
        for name, version in daemon.versions().items():
            sys.stdout.write(f"{name} {version}\n")
        return 0
    flags = {
        name: value
        for name, value in given.items()
        if name in configuration.FLAT and value is not None
    }
    for name in ("socket", "state_dir"):
        if name in flags:
            flags[name] = os.path.abspath(flags[name])
    try:
        config = configuration.load(flags, os.environ, given["config"])
    except configuration.BadConfig as error:
        for finding in error.findings:
            sys.stderr.write(f"qmkd: {finding}\n")
        return EXIT_BAD_CONFIG
    if given["check_config"] or given["print_config"]:
        sys.stdout.write(configuration.printed(config))
        return 0
    start_log(config.log_level, config.log_format)
    return daemon.main(config)


if __name__ == "__main__":
    sys.exit(main())
