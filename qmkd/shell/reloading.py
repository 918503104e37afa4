"""Another configuration while the daemon serves: read whole, checked whole, then put in force.

A file that does not hold together changes nothing. Of one that does, what can be changed takes
effect at once, and what cannot is named: it waits for a restart. What became of it is logged, told
to the service manager, and left in a report, from which `qmkd --reload` has its exit status: the
manager's protocol has no word for a reload that was refused. No session is closed by any of this.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic_ns
from typing import Final

import msgspec
import trio

from qmkd.core.ports import TenantRule
from qmkd.shell.activation import notify, reloading, status_line
from qmkd.shell.config import BadConfig, Config
from qmkd.shell.log import start_log

RELOADED: Final = ("tenant", "limits", "log_level", "log_format", "stop_grace_ms")
"""Keys that a reload puts in force; `limits` for what comes after it."""
REPORT_NAME: Final = "reloaded"
LOCK_NAME: Final = "lock"  # in the state directory; holds the daemon's process id
WAIT_S_MAX: Final = 30.0
POLL_S: Final = 0.02

_log = logging.getLogger("qmkd.reload")

assert set(RELOADED) <= set(Config.__struct_fields__)


class Report(msgspec.Struct, frozen=True):
    """What became of a reload. begun_ns: on the monotonic clock.

    refused: why nothing was changed. changed: keys in force. restart: keys that wait for one.
    """

    begun_ns: int
    pid: int
    refused: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """For whoever asked."""
        if self.refused:
            return f"The configuration stays as it was: {'; '.join(self.refused)}"
        said = f"In force: {', '.join(self.changed)}." if self.changed else "Nothing has changed."
        if self.restart:
            said += f" Only a restart changes {', '.join(self.restart)}."
        return said


class Reloader:
    """Holds the configuration in force. `apply` is handed another and its tenants."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        apply: Callable[[Config, tuple[TenantRule, ...]], None],
        environment: Mapping[str, str],
    ) -> None:
        self.config = config
        self._load = load
        self._apply = apply
        self._environment = environment
        self._report_file = report_file(environment, config.state_dir)

    async def run(self, serving: Callable[[], str], task_status: trio.TaskStatus[None]) -> None:
        """Reload at each SIGHUP, until cancelled. serving: the usual line of status."""
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
            task_status.started()
            async for _ in signals:
                notify(self._environment, *reloading())
                report = await self.reload()
                line = f"{serving()} {report.sentence}"
                notify(self._environment, "READY=1", status_line(line))

    async def reload(self) -> Report:
        """Read the configuration again, and put in force what can be."""
        begun_ns, pid = monotonic_ns(), os.getpid()
        try:
            # Files and the user database may be slow; calls are served meanwhile.
            config, tenants = await trio.to_thread.run_sync(self._read)
        except BadConfig as error:
            report = Report(begun_ns, pid, refused=error.findings)
            _log.error("the configuration is refused", extra={"why": "; ".join(error.findings)})
        else:
            differ = [name for name in Config.__struct_fields__ if self._differs(config, name)]
            changed = tuple(name for name in differ if name in RELOADED)
            restart = tuple(name for name in differ if name not in RELOADED)
            in_force = {name: getattr(config, name) for name in RELOADED}
            self.config = msgspec.structs.replace(self.config, **in_force)
            if {"log_level", "log_format"} & set(changed):
                start_log(config.log_level, config.log_format)
            self._apply(self.config, tenants)
            report = Report(begun_ns, pid, changed=changed, restart=restart)
            fields = {"changed": ", ".join(changed), "restart_for": ", ".join(restart)}
            _log.info("reloaded", extra=fields)
        self._leave(report)
        return report

    def _read(self) -> tuple[Config, tuple[TenantRule, ...]]:
        """Raises BadConfig."""
        config = self._load()
        # Even where the file is the same, names may stand for other users and groups by now.
        return config, config.for_kernel({}).tenants

    def _differs(self, config: Config, name: str) -> bool:
        return bool(getattr(config, name) != getattr(self.config, name))

    def _leave(self, report: Report) -> None:
        path = self._report_file
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(msgspec.json.encode(report))
            os.replace(file.name, path)
        except OSError as error:
            _log.error("no report of the reload can be left", extra={"why": error.strerror})


def report_file(environment: Mapping[str, str], state_dir: str) -> Path:
    """Where reports are left: in the service's run-time directory, else beside its state."""
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(runtime or state_dir) / REPORT_NAME


# --- asking for it ------------------------------------------------------------------------------


class NotAsked(Exception):
    """There is no daemon to ask; the sentence says why."""


def ask(environment: Mapping[str, str], state_dir: str) -> Report:
    """Have the daemon reload, and wait for what becomes of it. Raises NotAsked."""
    pid = running_pid(Path(state_dir))
    path = report_file(environment, state_dir)
    begun_ns = monotonic_ns()
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise NotAsked(f"process {pid} cannot be told to reload: {error.strerror}") from error
    deadline = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            report = msgspec.json.decode(path.read_bytes(), type=Report)
            # The clock is the host's, the same in every process.
            if report.pid == pid and report.begun_ns >= begun_ns:
                return report
        time.sleep(POLL_S)
    raise NotAsked(f"process {pid} did not say within {WAIT_S_MAX:g} s what became of it")


def running_pid(state_dir: Path) -> int:
    """The daemon that holds the state directory. Raises NotAsked."""
    path = state_dir / LOCK_NAME
    try:
        with open(path, "rb") as file:
            text = file.read(32).strip()
            pid = int(text) if text.isdigit() else 0
            if pid and Path(f"/proc/{pid}").exists():
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return pid
    except OSError as error:
        raise NotAsked(f"{path}: {error.strerror}") from error
    raise NotAsked(f"no daemon runs on {state_dir}")
