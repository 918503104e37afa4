"""A description of a machine where a subcommand takes one."""

from __future__ import annotations

from pathlib import Path

from qvm.machine import Hardware, described
from runtime.ctl.exits import Exit, Trouble


def machine_of(file: Path) -> Hardware:
    """The machine that a TOML file describes. Raises Trouble with what is wrong, and where."""
    found = described(file.read_bytes())
    if isinstance(found, Hardware):
        return found
    findings = [": ".join(filter(None, finding)) for finding in found]
    raise Trouble(Exit.USAGE, "\n".join([f"{file}:", *findings]))
