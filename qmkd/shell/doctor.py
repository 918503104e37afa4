"""`python -m qmkd.shell.doctor`: what is wrong with an installation, in sentences.

Looks from outside, as the user who asks, beside the daemon or without it, and changes nothing. Each
check says that all is well, that something is worse than it could be (a warning), or that the
daemon cannot do its work as things are (a fault), and then what to do. `qmkctl doctor` runs this;
whether what is stored is whole, `qmkctl db check` says.

Exit status: 0 no fault, 1 some fault.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import resource
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from qmkd.engine import landlock
from qmkd.shell.config import BadConfig, Config, load
from qmkd.shell.limits import DESCRIPTORS_SPARE
from qmkd.shell.reloading import LOCK_NAME
from qmkd.shell.store.schema import DATABASE_NAME, VERSION, CannotOpen, open_to_read

Severity = Literal["fine", "warning", "fault"]
UNIT: Final = "qmkd.service"
SERVICE_STATE: Final = Path("/var/lib/qmkd")
NATIVE: Final = Path(__file__).parents[1] / "engine" / "native"
LIBRARIES: Final = ("numpy", "pymatching", "scipy", "stim", "trio")
SPACE_BYTES_FAULT: Final = 64 << 20
SPACE_BYTES_WARNING: Final = 1 << 30
FORGETFUL: Final = frozenset({"tmpfs", "ramfs"})  # file systems that lose all with the power
BEGINNING_S: Final = 1_735_689_600  # 2025-01-01: no clock that goes is earlier
TIME_ERROR: Final = 5  # of adjtimex(2): nobody keeps the clock right
LISTEN_S_MAX: Final = 5.0


class Finding(msgspec.Struct, frozen=True):
    """What one check found. remedy: what to do; empty where nothing need be."""

    check: str
    severity: Severity
    message: str
    remedy: str = ""


Findings = Iterator[Finding]
Show = Callable[[str], dict[str, str]]
"""A unit's properties, by name; empty where there is no service manager or no such unit."""


def examine(
    environment: Mapping[str, str], path: str | None = None, show: Show | None = None
) -> list[Finding]:
    """Every check, in the order in which faults follow from one another."""
    found = [*_native(), *_kernel()]
    try:
        config = load({}, environment, path)
    except BadConfig as error:
        found += [
            Finding("configuration", "fault", each, "Mend it; `qmkd --check-config` says the same.")
            for each in error.findings
        ]
        return [*found, *_clock(), *_service(show or show_unit)]
    found.append(Finding("configuration", "fine", "It holds together."))
    for check in (_state, _database, _space, _socket, _limits, _memory):
        found += check(config)
    return [*found, *_clock(), *_service(show or show_unit)]


# --- what was installed -------------------------------------------------------------------------


def _native() -> Findings:
    """In a process of its own: what is broken may break whoever loads it."""
    sources = sorted(source.stem for source in NATIVE.glob("_*.c"))
    names = [*LIBRARIES, *(f"qmkd.engine.native.{stem}" for stem in sources)]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    print(name, flush=True)\n"
        "    importlib.import_module(name)"
    )
    path = os.pathsep.join(each for each in sys.path if each)
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    if done.returncode == 0:
        yield Finding("modules", "fine", f"All {len(names)} load, with Python {_python()}.")
        return
    said = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
    yield Finding(
        "modules",
        "fault",
        f"{done.stdout.split()[-1]} cannot be loaded: {said[-1]}",
        "Install again: `make clean env`, then `make install`.",
    )


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _kernel() -> Findings:
    lacking = []
    if landlock.abi() == 0:
        lacking.append("Landlock (Linux 5.13, `CONFIG_SECURITY_LANDLOCK`, `lsm=landlock`)")
    if not Path("/proc/sys/kernel/seccomp/actions_avail").exists() and _mounted("/proc"):
        lacking.append("seccomp filters (`CONFIG_SECCOMP_FILTER`)")
    if lacking:
        yield Finding(
            "host kernel",
            "warning",
            f"Linux {os.uname().release} lacks {' and '.join(lacking)}: workers are held in less.",
            '`worker_sandbox = "require"` refuses to start on such a host.',
        )
    else:
        yield Finding("host kernel", "fine", f"Linux {os.uname().release} has what workers need.")


def _mounted(path: str) -> bool:
    return os.path.ismount(path)


# --- places -------------------------------------------------------------------------------------


def _state(config: Config) -> Findings:
    folder = Path(config.state_dir)
    try:
        about = folder.stat()
    except FileNotFoundError:
        yield Finding("state", "fine", f"{folder} is made at the first start.")
        return
    except PermissionError:
        yield _not_ours("state", folder)
        return
    if not stat.S_ISDIR(about.st_mode):
        remedy = "Move it away, or name another `state_dir`."
        yield Finding("state", "fault", f"{folder} is not a folder.", remedy)
        return
    yield from _owner("state", folder, about)
    if about.st_mode & 0o077:
        yield Finding(
            "state",
            "warning",
            f"{folder} is open to other users (mode {stat.S_IMODE(about.st_mode):o}).",
            f"chmod 700 {folder}",
        )
    lock = folder / LOCK_NAME
    try:
        pid = int(lock.read_text().strip() or 0)
    except (OSError, ValueError):
        return
    if pid and not Path(f"/proc/{pid}").exists():
        yield Finding(
            "state",
            "fine",
            f"The daemon that was process {pid} is gone; the next one goes on from what it kept.",
        )


def _owner(check: str, path: Path, about: os.stat_result) -> Findings:
    """Whoever asks may be root, or the daemon's user; then files are the daemon's user's."""
    expected = os.geteuid()
    if expected == 0 and path == SERVICE_STATE:
        expected = _user_of_service() or 0
    if about.st_uid != expected and os.geteuid() in (0, expected):
        yield Finding(
            check,
            "fault",
            f"{path} belongs to {_name(about.st_uid)}, and the daemon runs as {_name(expected)}.",
            f"chown -R {_name(expected)} {path}",
        )


def _user_of_service() -> int | None:
    try:
        return pwd.getpwnam("qmkd").pw_uid
    except KeyError:
        return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _not_ours(check: str, path: Path) -> Finding:
    return Finding(
        check,
        "warning",
        f"{path} cannot be looked at by {_name(os.geteuid())}.",
        "Ask as root, or as the daemon's user.",
    )


def _database(config: Config) -> Findings:
    path = Path(config.state_dir) / DATABASE_NAME
    try:
        if not path.exists():
            return
        open_to_read(path).close()
    except PermissionError:
        yield _not_ours("database", path)
    except CannotOpen as error:
        text = str(error)
        if "brings it up to date" in text:
            yield Finding("database", "fine", text)
        else:
            yield Finding("database", "fault", text, "`qmkctl db check` looks at all of it.")
    else:
        yield Finding("database", "fine", f"Of schema {VERSION}, which this qmkd writes.")


def _space(config: Config) -> Findings:
    folder = _existing(Path(config.state_dir))
    about = os.statvfs(folder)
    free = about.f_bavail * about.f_frsize
    remedy = "Make room, or name another `state_dir`."
    if free < SPACE_BYTES_WARNING:
        severity: Severity = "fault" if free < SPACE_BYTES_FAULT else "warning"
        what = "nothing new can be taken on" if severity == "fault" else "it may soon be full"
        yield Finding("disk", severity, f"{folder} has {free >> 20} MiB left: {what}.", remedy)
    elif about.f_files and not about.f_favail:
        yield Finding("disk", "fault", f"{folder} has no inode left.", remedy)
    else:
        yield Finding("disk", "fine", f"{folder} has {free >> 30} GiB left.")
    kind = _file_system(folder)
    if kind in FORGETFUL and config.durability == "power":
        yield Finding(
            "disk",
            "warning",
            f"{folder} is a {kind}: what is acknowledged does not outlive the power.",
            'Keep state on a disk, or say `durability = "process"`.',
        )


def _existing(path: Path) -> Path:
    while not os.access(path, os.X_OK) and path != path.parent:
        path = path.parent
    return path


def _file_system(path: Path) -> str:
    """Its type; of the longest mount point above it."""
    best = ("", "")
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, place, kind, *_ = line.split()
            above = place == "/" or str(path) == place or str(path).startswith(place + "/")
            if above and len(place) >= len(best[0]):
                best = (place, kind)
    return best[1]


def _socket(config: Config) -> Findings:
    path = Path(config.socket)
    start = "Start it: `systemctl start qmkd.socket`, or run `qmkd`."
    try:
        about = path.stat()
    except FileNotFoundError:
        yield Finding("socket", "fault", f"{path} is not there: no daemon was started.", start)
        return
    except PermissionError:
        yield Finding(
            "socket", "fault", f"{path.parent} does not let {_name(os.geteuid())} in.",
            f"chmod 755 {path.parent}",
        )  # fmt: skip
        return
    if not stat.S_ISSOCK(about.st_mode):
        yield Finding("socket", "fault", f"{path} is not a socket.", "Move it away.")
        return
    others = _others(config, about.st_uid)
    if others and not about.st_mode & 0o002:
        yield Finding(
            "socket",
            "fault",
            f"{path} has mode {stat.S_IMODE(about.st_mode):o}, and {others} cannot connect.",
            "SocketMode=0666 in qmkd.socket; who may do what is decided by tenants.",
        )
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(LISTEN_S_MAX)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            yield Finding("socket", "fault", f"{path} is left over: nobody listens.", start)
        except PermissionError:
            yield Finding(
                "socket", "fault", f"{path} does not let {_name(os.geteuid())} connect.",
                "Be of a tenant, and have the socket opened to others (SocketMode=0666).",
            )  # fmt: skip
        except OSError as error:
            yield Finding("socket", "fault", f"{path}: {error.strerror or error}.", start)
        else:
            yield Finding("socket", "fine", f"Somebody listens on {path}.")


def _others(config: Config, owner: int) -> str:
    """A tenant who is not the socket's owner, in words."""
    for rule in config.for_kernel({}).tenants:
        if rule.gids or rule.uids - {owner, 0}:
            return f"tenant {rule.name!r}"
    return ""


# --- the host -----------------------------------------------------------------------------------


def _limits(config: Config) -> Findings:
    pid = _daemon_pid(config)
    hard = _hard_limit(pid) if pid else resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = config.limits.connections + DESCRIPTORS_SPARE
    if hard not in (None, resource.RLIM_INFINITY) and hard < needed:
        yield Finding(
            "limits",
            "warning",
            f"{hard} descriptors allow fewer than the {config.limits.connections} connections "
            "configured.",
            f"LimitNOFILE={max(262_144, needed)} in the unit, or smaller `limits.connections`.",
        )
    else:
        yield Finding("limits", "fine", "There are descriptors for all connections.")


def _daemon_pid(config: Config) -> int:
    try:
        pid = int((Path(config.state_dir) / LOCK_NAME).read_text())
    except (OSError, ValueError):
        return 0
    return pid if Path(f"/proc/{pid}").exists() else 0


def _hard_limit(pid: int) -> int | None:
    try:
        return resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    except OSError:
        return None


def _memory(config: Config) -> Findings:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    wanted = config.workers * config.worker_bytes
    if wanted > total:
        yield Finding(
            "memory",
            "warning",
            f"{config.workers} workers may take {wanted >> 30} GiB, and the host has "
            f"{total >> 30}: where all are large at once, the host ends one.",
            "Fewer `workers`, or smaller `worker_bytes`.",
        )
    else:
        yield Finding("memory", "fine", "All workers fit the host's memory.")


def _clock(now_s: float | None = None, state: int | None = None) -> Findings:
    now_s = time.time() if now_s is None else now_s
    if now_s < BEGINNING_S:
        yield Finding(
            "clock",
            "fault",
            f"It is set to {time.strftime('%Y-%m-%d', time.gmtime(now_s))}: sessions and the audit "
            "chain would be dated so.",
            "Set it, and have it kept: `timedatectl set-ntp true`.",
        )
        return
    state = _kept_by() if state is None else state
    if state == TIME_ERROR:
        yield Finding(
            "clock",
            "warning",
            "Nobody keeps the clock right.",
            "`timedatectl set-ntp true`, unless something outside this host does.",
        )
    else:
        yield Finding("clock", "fine", "It is kept.")


def _kept_by() -> int:
    """State of the clock, of adjtimex(2), without changing it."""
    buffer = (ctypes.c_byte * 512)()  # struct timex, with `modes` 0
    return int(ctypes.CDLL(None).adjtimex(ctypes.byref(buffer)))


# --- the service --------------------------------------------------------------------------------


def show_unit(unit: str) -> dict[str, str]:
    """What systemd says."""
    names = (
        "LoadState,ActiveState,Result,NRestarts,StatusText,WatchdogUSec,NeedDaemonReload,"
        "UnitFileState,User"
    )
    try:
        done = subprocess.run(
            ["systemctl", "show", "--no-pager", "-p", names, unit], capture_output=True, text=True
        )
    except OSError:
        return {}
    if done.returncode:
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def _service(show: Show) -> Findings:
    said = show(UNIT)
    if said.get("LoadState") != "loaded":
        yield Finding("service", "fine", "systemd does not run it here.")
        return
    status = said.get("StatusText", "")
    if said.get("ActiveState") == "failed":
        why = said.get("Result", "")
        watchdog = "it did not answer, and the watchdog ended it" if why == "watchdog" else why
        yield Finding(
            "service",
            "fault",
            f"{UNIT} has failed ({watchdog}). {status}".rstrip(),
            f"`journalctl -u {UNIT}` has its log; then `systemctl reset-failed {UNIT}`.",
        )
    else:
        yield Finding("service", "fine", f"{UNIT} is {said.get('ActiveState')}. {status}".rstrip())
    if "stays as it was" in status:
        yield Finding("service", "warning", status, "Mend the file and `systemctl reload qmkd`.")
    if said.get("NRestarts", "0") not in ("0", ""):
        yield Finding(
            "service",
            "warning",
            f"It was started again {said['NRestarts']} times since it was last started by hand.",
            f"`journalctl -u {UNIT}` says why.",
        )
    if said.get("WatchdogUSec", "") in ("0", "infinity"):
        yield Finding(
            "service", "warning", "Nobody watches whether it hangs.", "WatchdogSec=30 in the unit."
        )
    if said.get("NeedDaemonReload") == "yes":
        yield Finding(
            "service",
            "warning",
            "Its unit files were changed, and systemd has not read them.",
            "`systemctl daemon-reload`",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m qmkd.shell.doctor", description=__doc__)
    parser.add_argument("--config", metavar="FILE")
    options = parser.parse_args(arguments)
    found = examine(os.environ, options.config)
    sys.stdout.write(msgspec.json.encode({"findings": found}).decode() + "\n")
    return int(any(each.severity == "fault" for each in found))


if __name__ == "__main__":
    sys.exit(main())
