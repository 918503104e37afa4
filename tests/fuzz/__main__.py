"""`python -m tests.fuzz [--seconds S] [--only NAME ...] [--out FOLDER] [--keep]`.

Fuzzes every target for its part of the time, beginning with the corpus. What breaks a promise is
left in OUT/NAME as `crash-...`, `timeout-...` or `oom-...`; `--replay FILE --only NAME` runs one
again. `--keep` puts what was found into the corpus, as little of it as reaches as much. Exit
status: 0 nothing broke; 1 something did; 2 the fuzzer is not here.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from tests.daemon import ROOT
from tests.fuzz import corpus
from tests.fuzz.targets import NAMES, target

SECONDS = 600.0
INPUT_S_MAX = 30  # by the clock, where others may have the cores as well
MEMORY_MIB_MAX = 2048
BREAKS_MAX = 8  # of one target, then the next one
GRACE_S = 120.0  # to read the corpus in, and to end
UNAVAILABLE = (
    "The fuzzer, atheris, is not here. `make fuzz` installs it; if that failed, there is no build "
    f"of it for this Python, {sys.version.split()[0]}: name another one, of 3.11 to 3.13, with "
    "`make PYTHON=python3.12 clean fuzz`. The kept corpus is replayed by `make test` without it."
)
STATE = re.compile(r"#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+) corp: (\d+)/\S+ .*exec/s:")


class Fuzzed(msgspec.Struct, frozen=True):
    """edges: of our code that were reached; features: of these, by how often, too. kept: inputs
    that were begun with. broken: files that break a promise."""

    name: str
    seconds: float
    executions: int
    edges_begun: int
    edges: int
    features: int
    kept: int
    broken: list[str]

    def row(self) -> str:
        rate = self.executions / self.seconds
        return (
            f"| {self.name} | {self.executions} | {rate:.0f} | {self.edges_begun} | {self.edges} "
            f"| {self.features} | {self.kept} | {len(self.broken)} |"
        )


HEADER = (
    "| target | inputs | a second | edges of the corpus | edges | features | kept | broken |\n"
    "|---|---|---|---|---|---|---|---|"
)


def driven(name: str, *options: str, seconds: float) -> str:
    """What libFuzzer printed."""
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / "again"
        again.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.fuzz.driver {name} "$@"\n')
        again.chmod(0o700)
        command = [sys.executable, "-m", "tests.fuzz.driver", name, *options]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"FUZZ_AGAIN": str(again)},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + GRACE_S,
            check=False,
        )
    return done.stdout + done.stderr


def fuzz(name: str, seconds: float, out: Path) -> Fuzzed:
    """Look for more inputs of one target. OUT/NAME gets what broke, its `found` what is new.

    libFuzzer ends at what breaks; it is begun again while there is time.
    """
    home = out / name
    kept = [*corpus.read(name), *target(name).seeds()]
    shutil.rmtree(home / "begun", ignore_errors=True)
    corpus.unpack(kept, home / "begun")
    (home / "found").mkdir(exist_ok=True)
    executions, first, last = 0, None, None
    began = time.monotonic()
    while (left := began + seconds - time.monotonic()) >= 1.0 and len(breaks(home)) < BREAKS_MAX:
        before = breaks(home)
        told = driven(
            name, f"-max_total_time={int(left)}", f"-max_len={target(name).BYTES_MAX}",
            f"-timeout={INPUT_S_MAX}", f"-rss_limit_mb={MEMORY_MIB_MAX}",
            f"-artifact_prefix={home}/", str(home / "found"), str(home / "begun"), seconds=left,
        )  # fmt: skip
        (home / f"log-{len(breaks(home))}.txt").write_text(told)
        states = STATE.findall(told)
        assert "Done " in told or breaks(home) > before, f"the fuzzer ended:\n{told[-3000:]}"
        if states:
            first = first or next((each for each in states if each[1] == "INITED"), states[0])
            last = states[-1]
            executions += int(last[0])
    took = round(time.monotonic() - began, 1)
    reached = (int(first[2]), int(last[2]), int(last[3])) if first and last else (0, 0, 0)
    return Fuzzed(name, took, executions, *reached, len(kept), sorted(map(str, breaks(home))))


def breaks(home: Path) -> set[Path]:
    """Inputs that broke a promise, or took too much time or memory."""
    return {path for path in home.iterdir() if path.name.startswith(("crash", "timeout", "oom"))}


def keep(name: str, out: Path) -> int:
    """Put what was found into the corpus: as few and as small inputs as reach as much."""
    home = out / name
    least = home / "least"
    shutil.rmtree(least, ignore_errors=True)
    least.mkdir()
    folders = [str(least), str(home / "begun"), str(home / "found")]
    told = driven(name, "-merge=1", f"-max_len={target(name).BYTES_MAX}", *folders, seconds=600.0)
    kept = corpus.gather(least)
    assert kept, f"the fuzzer did not merge:\n{told[-3000:]}"
    return corpus.write(name, kept)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of all targets together")
    parser.add_argument("--only", action="append", choices=NAMES)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "fuzz")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--replay", type=Path)
    asked = parser.parse_args()
    names = asked.only or NAMES
    if asked.replay is not None:
        for name in names:
            target(name).check(asked.replay.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        print(UNAVAILABLE, file=sys.stderr)
        return 2
    print(HEADER, flush=True)
    told = []
    for name in names:
        told.append(fuzz(name, asked.seconds / len(names), asked.out.absolute()))
        print(told[-1].row(), flush=True)
        if asked.keep:
            keep(name, asked.out.absolute())
    (asked.out / "fuzz.json").write_bytes(msgspec.json.encode(told))
    broken = [path for each in told for path in each.broken]
    for path in broken:
        print(f"broken: {path}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
