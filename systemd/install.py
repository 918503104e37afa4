#!/usr/bin/env python3
"""Install qmkd as the unit files expect it, or take it away again.

What is installed is what `make env` built and its tests ran with: the packages that qmkd needs, as
they are in the virtual environment, and our own from this checkout. So nothing is downloaded here,
and no compiler runs. Configuration, once there, is never overwritten; what the daemon kept is only
removed by `remove --purge`. Needs the standard library alone, run by the environment's Python.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from py_compile import PycInvalidationMode

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
ROOMS = ("syscalls", "qvm", "qmkd", "policy", "runtime", "harness")
HOME = PurePosixPath("/usr/lib/qmkd")
PROGRAMS = {
    "qmkd": "qmkd.__main__",
    "qmkctl": "runtime.ctl.__main__",
    "qmk-signer": "runtime.signer.__main__",
    "qmk-attest": "runtime.attest.__main__",
    "qmk-policy": "policy.__main__",
}
EXTRAS = ("em", "remote", "signer")
# The wheel that brings liboqs has it six times, and Python that nobody here imports.
LIBOQS = "quantum-safe-py"
LIBOQS_FILES = re.compile(r"quantum_safe/_vendor/liboqs/lib/liboqs\.so$|quantum_safe_py\.libs/")
LISTED = "installed"  # in HOME: every file that is ours, one a line
NOTIFY_RELOAD_SINCE = 253  # of systemd

UNITS = PurePosixPath("/usr/lib/systemd/system")
USER_UNITS = PurePosixPath("/usr/lib/systemd/user")
CONFIGURATION = PurePosixPath("/etc/qmk/qmkd.toml")
PLACES = {
    "qmkd.sysusers": PurePosixPath("/usr/lib/sysusers.d/qmkd.conf"),
    "qmkd.tmpfiles": PurePosixPath("/usr/lib/tmpfiles.d/qmkd.conf"),
    "man/qmkd.8": PurePosixPath("/usr/share/man/man8/qmkd.8"),
    "man/qmkctl.1": PurePosixPath("/usr/share/man/man1/qmkctl.1"),
    "man/qmk-signer.8": PurePosixPath("/usr/share/man/man8/qmk-signer.8"),
    "man/qmk-attest.8": PurePosixPath("/usr/share/man/man8/qmk-attest.8"),
    "completion/qmkctl.bash": PurePosixPath("/usr/share/bash-completion/completions/qmkctl"),
    "completion/qmkctl.zsh": PurePosixPath("/usr/share/zsh/site-functions/_qmkctl"),
}
UNIT_SUFFIXES = {".service", ".socket", ".target", ".slice", ".timer"}
# Not part of what runs: tests, and what tests import.
LEFT_OUT = re.compile(r"(_test|conftest)\.(py|cpython-\d+(-pytest-[0-9.]+)?\.pyc)$")


class Trouble(Exception):
    """It cannot be installed; the sentence says why."""


class Root:
    """The file system that is installed into. Remembers what was put there.

    linked: modules are hard links, where that can be, with what was compiled of them.
    """

    def __init__(self, destdir: Path, *, linked: bool = False) -> None:
        self.destdir = destdir
        self.linked = linked
        self.put: list[PurePosixPath] = []

    def at(self, path: PurePosixPath) -> Path:
        return self.destdir / path.relative_to("/")

    def copy(self, source: Path, path: PurePosixPath, mode: int = 0o644) -> None:
        target = self.at(path)
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(mode)
        self.put.append(path)

    def module(self, source: Path, path: PurePosixPath) -> None:
        target = self.at(path)
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if self.linked:
            with contextlib.suppress(OSError):
                os.link(source, target)
        if target.exists():
            self.put.append(path)
        else:
            self.copy(source, path)

    def write(self, text: str, path: PurePosixPath, mode: int = 0o644) -> None:
        target = self.at(path)
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        self.put.append(path)

    def link(self, path: PurePosixPath, to: PurePosixPath) -> None:
        target = self.at(path)
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(to)
        self.put.append(path)


def install(root: Root, python: str) -> None:
    """Everything. Raises Trouble."""
    _check_python(python)
    _remove_listed(root)  # what an older release had and this one has not
    modules = _environment(root, python)
    for room in ROOMS:
        for source in sorted((CHECKOUT / room).rglob("*")):
            wanted = source.is_file() and not LEFT_OUT.search(str(source))
            if wanted and (root.linked or source.suffix != ".pyc"):
                root.module(source, modules / source.relative_to(CHECKOUT).as_posix())
    for distribution in needed("qmkd"):
        for source, name in _files(distribution):
            if root.linked or source.suffix != ".pyc":
                root.module(source, modules / name)
    for source, name in _liboqs():
        root.module(source, modules / name)
    target = root.at(modules)
    if not root.linked and not compileall.compile_dir(
        target,
        quiet=2,
        stripdir=str(root.destdir),
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        workers=0,
    ):
        raise Trouble(f"{target}: not all of it could be compiled")
    for name, module in PROGRAMS.items():
        script = (
            f"#!{HOME}/bin/python3\nimport sys\n\nfrom {module} import main\n\nsys.exit(main())\n"
        )
        root.write(script, HOME / "bin" / name, 0o755)
        root.link(PurePosixPath("/usr/bin") / name, HOME / "bin" / name)
    for source in sorted(HERE.iterdir()):
        if source.suffix in UNIT_SUFFIXES:
            root.copy(source, UNITS / source.name)
    for source in sorted((HERE / "user").iterdir()):
        root.copy(source, USER_UNITS / source.name)
    if systemd_version() >= NOTIFY_RELOAD_SINCE:
        name = "qmkd.service.d/notify-reload.conf"
        root.copy(HERE / name, UNITS / name)
    for name, path in PLACES.items():
        root.copy(HERE / name, path)
    if not root.at(CONFIGURATION).exists():
        root.copy(HERE / "qmkd.toml", CONFIGURATION)
        root.put.remove(CONFIGURATION)  # it is the administrator's from now on
    root.write("".join(f"{path}\n" for path in root.put), HOME / LISTED)


def _check_python(python: str) -> None:
    """The packages are of one version of Python, and so must be the one that runs them."""
    code = "import sys; print('.'.join(map(str, sys.version_info[:2])), sys.prefix)"
    try:
        said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Trouble(f"{python} does not run: {error}") from error
    version, prefix = said.stdout.split(maxsplit=1)
    ours = sysconfig.get_python_version()
    if version != ours:
        raise Trouble(
            f"{python} is Python {version}, and the packages here are of {ours}: make the "
            f"environment anew with it (make clean; make PYTHON={python} env), or name another."
        )
    if prefix.startswith(("/root", "/home", "/tmp")):
        raise Trouble(
            f"{python} lies in {prefix.strip()}, where the service's sandbox does not reach: name "
            "one that is installed for everybody, such as /usr/bin/python3."
        )


def _environment(root: Root, python: str) -> PurePosixPath:
    """An environment without packages. Returns where these go."""
    home = root.at(HOME)
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([python, "-m", "venv", "--without-pip", "--symlinks", home], check=True)
    for script in home.glob("bin/[Aa]ctivate*"):
        script.unlink()
    return HOME / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"


def needed(name: str) -> list[metadata.Distribution]:
    """A distribution and all that it needs, without what it would only need for an extra."""
    found: dict[str, metadata.Distribution] = {}
    ours = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in _declared()}
    wanted = [name]
    while wanted:
        key = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if key in found:
            continue
        try:
            found[key] = metadata.distribution(key)
        except metadata.PackageNotFoundError:
            if key == name or key in ours:
                raise Trouble(f"{key} is not in this environment: run `make env`") from None
            continue  # for another platform or another Python
        for line in (_declared() if key == name else found[key].requires) or ():
            requirement, _, marker = line.partition(";")
            if "extra" not in marker:
                wanted.append(re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0])
    return list(found.values())


def _declared() -> list[str]:
    """What this checkout needs, even where the environment was made for an earlier one."""
    with open(CHECKOUT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    declared: list[str] = project["dependencies"]
    for name in EXTRAS:
        declared += project["optional-dependencies"][name]
    return declared


def _liboqs() -> list[tuple[Path, str]]:
    """The library itself, where its wheel is here; without it the signer says what it lacks."""
    try:
        found = metadata.distribution(LIBOQS)
    except metadata.PackageNotFoundError:
        return []
    return [(source, name) for source, name in _files(found) if LIBOQS_FILES.match(name)]


def _files(distribution: metadata.Distribution) -> Iterator[tuple[Path, str]]:
    """Its files and their names below the packages' folder; of an editable one, what names it."""
    for file in distribution.files or ():
        name = file.as_posix()
        if name.startswith(("..", "__editable__")):
            continue
        source = Path(str(distribution.locate_file(file)))
        if source.is_file() and source.suffix != ".pth" and "direct_url" not in name:
            yield source, name


def systemd_version() -> int:
    """Of this host; 0 where there is none."""
    try:
        said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout
    except OSError:
        return 0
    found = re.match(r"systemd (\d+)", said)
    return int(found[1]) if found else 0


# --- taking it away -----------------------------------------------------------------------------


def remove(root: Root, *, purge: bool) -> None:
    """What was installed; with `purge`, configuration and everything kept as well."""
    _remove_listed(root)
    shutil.rmtree(root.at(HOME), ignore_errors=True)
    if purge:
        for path in (
            "/etc/qmk",
            "/var/lib/qmkd",
            "/var/lib/qmk-attest",
            "/var/lib/qmk-remote",
            "/var/lib/qmk-signer",
        ):
            shutil.rmtree(root.at(PurePosixPath(path)), ignore_errors=True)


def _remove_listed(root: Root) -> None:
    listed = root.at(HOME / LISTED)
    if not listed.exists():
        return
    folders = set()
    for line in listed.read_text().splitlines():
        path = PurePosixPath(line)
        root.at(path).unlink(missing_ok=True)
        folders.add(root.at(path).parent)
    listed.unlink()
    for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
        while folder != root.destdir and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


# --- this host ----------------------------------------------------------------------------------


def settle() -> None:
    """On the host itself: users, folders, and systemd's knowledge of the units."""
    for command in (
        ["systemd-sysusers", str(PLACES["qmkd.sysusers"])],
        ["systemd-tmpfiles", "--create", str(PLACES["qmkd.tmpfiles"])],
    ):
        subprocess.run(command, check=True)
    if Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "daemon-reload"], check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["install", "remove"])
    parser.add_argument(
        "--destdir", type=Path, default=Path("/"), help="install below this folder, for packaging"
    )
    parser.add_argument(
        "--python", default="/usr/bin/python3", help="runs the daemon (default: %(default)s)"
    )
    parser.add_argument(
        "--link",
        action="store_true",
        help="hard links instead of copies of modules: to try it out, not to keep it",
    )
    parser.add_argument("--purge", action="store_true", help="remove: what was kept, too")
    options = parser.parse_args(arguments)
    root = Root(options.destdir.resolve(), linked=options.link)
    here = root.destdir == Path("/")
    os.umask(0o022)
    try:
        if options.what == "remove":
            remove(root, purge=options.purge)
            return 0
        install(root, options.python)
        if here:
            settle()
            print("Installed. Start it with: systemctl enable --now qmk.target qmkd.socket")
    except (Trouble, OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"install: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
