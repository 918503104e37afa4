"""`qmkd`: the daemon's command line. Runs in the foreground until SIGTERM."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from qmkd.shell import config as configuration
from qmkd.shell import daemon, reloading
from qmkd.shell.log import start_log

EXIT_BAD_CONFIG = 2

_EPILOG = """\
Later sources win: built-in defaults, the configuration file, QMKD_* environment variables (QMKD_
and the key in capitals), flags. SIGHUP, or --reload, has a running daemon read them again. Exit
status: 0 stopped as asked, 1 cannot start or be asked, 2 bad configuration or usage, 70 internal
fault.
"""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qmkd", description="Quantum microkernel daemon.", epilog=_EPILOG
    )
    parser.add_argument("--config", metavar="FILE", help="read this configuration (TOML)")
    parser.add_argument("--socket", metavar="PATH", help="listen here")
    parser.add_argument("--state-dir", metavar="DIR", help="keep state here")
    parser.add_argument("--machine", metavar="NAME", help="a shipped machine, or a file (TOML)")
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    parser.add_argument("--log-format", metavar="FORMAT", help="auto, text, json or journal")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check-config", action="store_true", help="check, say so, and end")
    what.add_argument("--print-config", action="store_true", help="print what is in force as TOML")
    what.add_argument(
        "--reload", action="store_true", help="have the running daemon read it again, and end"
    )
    what.add_argument("--version", action="store_true", help="print versions and end")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says. Returns the exit status."""
    given = vars(parser().parse_args(arguments))
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

    def load() -> configuration.Config:
        return configuration.load(flags, os.environ, given["config"])

    try:
        config = load()
    except configuration.BadConfig as error:
        for finding in error.findings:
            sys.stderr.write(f"qmkd: {finding}\n")
        state_dir = flags.get("state_dir") or os.environ.get("QMKD_STATE_DIR")
        if given["reload"] and state_dir:
            _reload(state_dir)  # so that its log and its status say so too
        return EXIT_BAD_CONFIG
    if given["check_config"] or given["print_config"]:
        sys.stdout.write(configuration.printed(config))
        return 0
    if given["reload"]:
        return _reload(config.state_dir)
    start_log(config.log_level, config.log_format)
    return daemon.main(config, load)


def _reload(state_dir: str) -> int:
    try:
        report = reloading.ask(os.environ, state_dir)
    except reloading.NotAsked as error:
        sys.stderr.write(f"qmkd: {error}\n")
        return daemon.EXIT_FAILED
    sys.stderr.write(f"qmkd: {report.sentence}\n")
    return EXIT_BAD_CONFIG if report.refused else 0


if __name__ == "__main__":
    sys.exit(main())
