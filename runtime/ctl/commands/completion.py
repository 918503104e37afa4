"""`qmkctl completion`: a script that teaches a shell the subcommands and their options."""

from __future__ import annotations

import argparse

import shtab

from runtime.ctl.exits import Exit

HELP = "print a completion script: source <(qmkctl completion bash)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh"])
    parser.set_defaults(json=False)


def execute(options: argparse.Namespace) -> Exit:
    from runtime.ctl.__main__ import parser

    print(shtab.complete(parser(), options.shell))
    return Exit.OK
