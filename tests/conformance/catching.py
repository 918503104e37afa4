"""Tries whether mutants are caught: `python -m tests.conformance.catching [OUT.md]` prints a table.

A mutant is caught if the case meant for it fails while another, which runs a plain job, passes: a
server that does nothing at all any more would teach nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.conformance.cases import cases, requirements
from tests.conformance.mutants import GOAL, MUTANTS, Mutant
from tests.conformance.runner import Server, run_case
from tests.daemon import ROOT, STOP_S_MAX, Daemon, clean_environment, short_folder, wait_until_ready

TENANTS: Final = ("first", "second")
RIGHTS: Final = [
    "CAP_ALLOC", "CAP_LINK", "CAP_TELEPORT", "CAP_MAGIC", "CAP_CHECKPOINT", "CAP_MIGRATE",
    "CAP_DELEGATE", "CAP_DEBUG", "CAP_ADMIN",
]  # fmt: skip
CONFIG: Final = "".join(
    f"""
[[tenant]]
name = "{name}"
uids = [{os.getuid()}]
grantable = {json.dumps(RIGHTS)}
[tenant.quota]
jobs = 12
logical_qubits = 40
channels = 3
"""
    for name in TENANTS
)
CONTROL: Final = "sessions/any connection will do"
SECONDS: Final = 6.0
"""For an answer that the case meant for a mutant waits for: some mutants never give one."""


class Caught(NamedTuple):
    """How a mutant fared. why: what its case had to say."""

    mutant: Mutant
    caught: bool
    why: str


@contextmanager
def running(mutant: Mutant) -> Iterator[Path]:
    """A daemon that is this mutant; its socket. How it ends does not matter."""
    with short_folder() as folder:
        (folder / "qmkd.toml").write_text(CONFIG)
        places = ["--socket", str(folder / "q.sock"), "--state-dir", str(folder / "state")]
        flags = [*places, "--workers", "1", "--config", str(folder / "qmkd.toml")]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.conformance.mutants", mutant.name, *flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                env=clean_environment(),
            )  # fmt: skip
        daemon = Daemon(process, folder / "q.sock", folder / "state", folder / "log")
        try:
            wait_until_ready(daemon)
            yield daemon.socket
        finally:
            process.kill()
            process.wait(STOP_S_MAX)


def catch(mutant: Mutant) -> Caught:
    """Start the mutant and run the case that is meant to catch it."""
    known = {case.name: case for case in cases(requirements())}
    with running(mutant) as socket:
        control = run_case(Server(str(socket), TENANTS), known[CONTROL])
        hasty = Server(str(socket), TENANTS, seconds=SECONDS)
        meant = run_case(hasty, known[mutant.caught_by])
    if control.verdict != "passed":
        return Caught(mutant, False, f"it does not even run a job: {control.why}")
    return Caught(mutant, meant.verdict == "failed", meant.why)


def main() -> int:
    """Try all mutants; the table goes to standard output, or to the file that is named."""
    rows = ["| mutant | breaks | case | caught |", "|---|---|---|---|"]
    found = []
    for mutant in MUTANTS.values():
        found.append(catch(mutant))
        verdict = "yes" if found[-1].caught else f"NO: {found[-1].why}"
        rows.append(f"| {mutant.name} | {mutant.module} | {mutant.caught_by} | {verdict} |")
        sys.stderr.write(f"{verdict[:100]:4} {mutant.name}\n")
    caught = sum(each.caught for each in found)
    rows.append(f"\n{caught} of {len(found)} are caught; the goal is {GOAL}.")
    text = "\n".join(rows) + "\n"
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0 if caught == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
