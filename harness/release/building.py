"""Builds the packages of a commit, so that whoever builds it again gets the same bytes.

From the committed files alone, in folders of their own, with tools of pinned digests. What the
bytes of the wheel depend on beside these: the compiler and the C library's headers, the Python and
the flags it was compiled with, and the processor's architecture. `tools` names them.
"""

from __future__ import annotations

import gzip
import io
import os
import platform
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from harness.release import lock

ROOT = lock.ROOT
TOOLS = ("setuptools",)
SDIST = "import sys; from setuptools import build_meta as b; print(b.build_sdist(sys.argv[1]))"
WHEEL = """
import sys; from setuptools import build_meta as b
print(b.build_wheel(sys.argv[1], {"--build-option": ["--py-limited-api=cp311"]}))
"""


class Commit(Struct, frozen=True, kw_only=True):
    """digest: of the commit. time: seconds since 1970, when it was made."""

    digest: str
    time: int


class Package(Struct, frozen=True, kw_only=True):
    """A built file. digest: SHA-256 in hex."""

    name: str
    data: bytes

    @property
    def digest(self) -> str:
        return sha256(self.data).hexdigest()


class BuildFailed(Exception):
    """A step failed, or two builds differ; says which and what it said."""


def commit(name: str = "HEAD") -> Commit:
    said = _run(["git", "log", "-1", "--format=%H %ct", name], ROOT).split()
    return Commit(digest=said[0], time=int(said[1]))


def tools() -> dict[str, str]:
    """What the bytes depend on that is not in the commit or the lock file."""
    compiler = os.environ.get("CC", "cc")
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": _run([compiler, "--version"], ROOT).splitlines()[0],
        "flags": str(sysconfig.get_config_var("CFLAGS")),
        "libc": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
    }


@contextmanager
def toolbox(folder: Path) -> Iterator[Path]:
    """A Python with the build tools and nothing else, checked against the lock file's digests."""
    pinned = lock.locked()
    wanted = folder / "tools.txt"
    wanted.write_text("".join(f"{pinned[each].requirement()}\n" for each in TOOLS))
    _run([sys.executable, "-m", "venv", str(folder / "tools")], folder)
    python = folder / "tools" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, "--require-hashes", "-r", str(wanted)], folder)
    yield python


def build(python: Path, source: Commit, folder: Path) -> list[Package]:
    """The source archive of a commit, and the wheel that is made from that archive alone."""
    folder.mkdir(parents=True)
    tree = folder / "tree"
    with tarfile.open(fileobj=io.BytesIO(_archive(source)), mode="r:") as files:
        files.extractall(tree, filter="data")
    made = folder / "made"
    made.mkdir()
    name = _backend(python, SDIST, tree, made, source)
    sdist = Package(name=name, data=_normal((made / name).read_bytes(), source.time))
    with tarfile.open(fileobj=io.BytesIO(sdist.data), mode="r:gz") as files:
        files.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    name = _backend(python, WHEEL, unpacked, made, source)
    return [sdist, Package(name=name, data=(made / name).read_bytes())]


def build_twice(python: Path, source: Commit, folder: Path) -> list[Package]:
    """Build in two places; raises BuildFailed where the bytes differ."""
    first = build(python, source, folder / "one")
    second = build(python, source, folder / "another-place" / "two")
    for one, two in zip(first, second, strict=True):
        if one != two:
            (folder / "differs").mkdir()
            for number, each in enumerate((one, two)):
                (folder / "differs" / f"{number}-{each.name}").write_bytes(each.data)
            raise BuildFailed(f"Two builds of {one.name} differ: see {folder / 'differs'}.")
    return first


def _archive(source: Commit) -> bytes:
    done = subprocess.run(
        ["git", "archive", "--format=tar", source.digest], cwd=ROOT, capture_output=True
    )
    if done.returncode:
        raise BuildFailed(done.stderr.decode(errors="replace"))
    return done.stdout


def _backend(python: Path, code: str, tree: Path, made: Path, source: Commit) -> str:
    """Have the build backend make one file; returns its name."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tree),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(source.time),
        "PYTHONHASHSEED": "0",
        # No debugging information and no path of the build's folder in what is compiled.
        "CFLAGS": f"-g0 -ffile-prefix-map={tree}=.",
        "LDFLAGS": "-Wl,--build-id=none",
    } | {name: os.environ[name] for name in ("CC",) if name in os.environ}
    said = _run([str(python), "-c", code, str(made)], tree, environment)
    return said.splitlines()[-1]


def _normal(data: bytes, time: int) -> bytes:
    """The same archive, without what differs from build to build: order, owners, times."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as old,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for each in sorted(old.getmembers(), key=lambda member: member.name):
            each.uid = each.gid = 0
            each.uname = each.gname = ""
            each.mtime = time
            each.mode = 0o755 if each.isdir() or each.mode & 0o100 else 0o644
            each.pax_headers = {}
            new.addfile(each, old.extractfile(each) if each.isfile() else None)
    return gzip.compress(packed.getvalue(), mtime=time)


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        said = (done.stderr or done.stdout)[-2000:]
        raise BuildFailed(f"`{' '.join(command[:4])} ...` failed:\n{said}")
    return done.stdout
