"""The configuration: defaults, a TOML file, `QMKD_*` environment variables, flags; later ones win.

Every key is known here with its type and its bounds; any other is refused with its path. Nothing
is opened but the configuration file, the machine's description and the user database. What the keys
mean is in `docs/operating.md`; what is done with them, in `daemon.py`.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from qmkd.core.limits import CHECKPOINTS_MAX, JOBS_LIVE_MAX, WORKERS_MAX
from qmkd.core.ports import Machine, Quota, TenantRule
from qmkd.engine.sandbox import Level as Held
from qmkd.qec import reach
from qmkd.shell import machines
from qmkd.shell.limits import DEFAULTS, Limits, Scheduling
from qmkd.shell.log import Format, Level
from qvm.machine import QUBITS_MAX, Hardware, parsed
from syscalls.decoding import DecoderSpeed
from syscalls.ids import TENANT_CHARS_MAX
from syscalls.rights import Right

SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un.sun_path, with its closing zero
CONFIG_BYTES_MAX = 1 << 20
TENANTS_MAX = 1024
ENVIRONMENT_PREFIX = "QMKD_"
UNKNOWN = (KeyError, ValueError)
"""What the user database raises of a name that is nobody's, or that nobody can have."""

Id = Annotated[int, Meta(ge=0, le=2**32 - 2)]
Name = Annotated[str, Meta(min_length=1, max_length=TENANT_CHARS_MAX)]


class QuotaTable(Quota, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tenant.quota]`."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} may not be negative")
        for name, most in (("jobs", JOBS_LIVE_MAX), ("checkpoints", CHECKPOINTS_MAX)):
            if getattr(self, name) > most:
                raise ValueError(f"{name} may not exceed {most}")


class TenantTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[tenant]]`: users and groups by number or by name."""

    name: Name
    uids: list[Id] = []
    users: list[str] = []
    gids: list[Id] = []
    groups: list[str] = []
    grantable: list[Right] = msgspec.field(default_factory=lambda: list(Right))
    quota: QuotaTable = QuotaTable()
    suspended: bool = False
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1


class DecoderTable(DecoderSpeed, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[decoder]`: the machine's decoders, all alike."""

    def speed(self) -> DecoderSpeed:
        """As the kernel knows it."""
        names = DecoderSpeed.__struct_fields__
        return DecoderSpeed(**{name: getattr(self, name) for name in names})


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration in force."""

    socket: Annotated[str, Meta(min_length=1)]
    state_dir: Annotated[str, Meta(min_length=1)]
    workers: Annotated[int, Meta(ge=1, le=WORKERS_MAX)]
    durability: Literal["power", "process", "none"] = "power"
    worker_scheduling: Scheduling = "idle"
    worker_nice: Annotated[int, Meta(ge=0, le=19)] = 5
    worker_sandbox: Held = "best"
    worker_tenants: Literal["many", "one"] = "many"
    worker_user: Annotated[str, Meta(min_length=1)] = "nobody"
    worker_bytes: Annotated[int, Meta(ge=64 << 20, le=1 << 50)] = 4 << 30
    machine: str = ""
    physical_qubits: Annotated[int, Meta(ge=1, le=QUBITS_MAX)] = 1_000_000
    physical_noise: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]+ [0-9.e-]+$")] = "uniform 0.001"
    stop_grace_ms: Annotated[int, Meta(ge=0, le=600_000)] = 2_000
    park_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 5_000
    log_level: Level = "info"
    log_format: Format = "auto"
    metrics: Literal["on", "off"] = "on"
    metrics_socket: str = ""
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    metrics_tenants: Annotated[int, Meta(ge=0, le=TENANTS_MAX)] = 32
    traces_socket: str = ""
    limits: Limits = DEFAULTS
    decoder: DecoderTable = DecoderTable()
    tenant: Annotated[list[TenantTable], Meta(max_length=TENANTS_MAX)] = []

    def for_kernel(self, versions: dict[str, str]) -> Machine:
        """What the kernel is told. Raises BadConfig for who and what does not exist."""
        rules = tuple(_rule(index, table) for index, table in enumerate(self.tenant))
        return Machine(
            physical_qubits=self.physical_qubits,
            hardware=_hardware(self.machine) if self.machine else None,
            physical_noise=self.physical_noise,
            calibrated=_calibrated(self.physical_noise),
            calibrated_at=_calibrated,
            decoder=self.decoder.speed(),
            workers=self.workers,
            worker_bytes=self.worker_bytes,
            workers_apart=self.worker_tenants == "one",
            durable=self.durability != "none",
            park_ns=self.park_ms * 1_000_000,
            tenants=rules or (_own_tenant(),),
            versions=versions,
        )


TABLES = ("limits", "decoder", "tenant")
FLAT = tuple(name for name in Config.__struct_fields__ if name not in TABLES)


class BadConfig(Exception):
    """The configuration does not hold together; `findings` says where and why."""

    def __init__(self, *findings: str) -> None:
        super().__init__("; ".join(findings))
        self.findings = findings


def load(
    flags: Mapping[str, Any], environment: Mapping[str, str], path: str | None = None
) -> Config:
    """Put the configuration together. Raises BadConfig.

    flags: top-level keys given on the command line. path: the file to read; None takes
    `QMKD_CONFIG`, or the default one if it exists.
    """
    chosen = path or environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    keys: dict[str, Any] = _defaults(environment)
    where = "the configuration"
    for candidate in [chosen] if chosen else default_files(environment):
        if chosen or Path(candidate).exists():
            keys |= _read_file(candidate)
            where = candidate
            break
    keys |= _from_environment(environment)
    keys |= flags
    try:
        config = msgspec.convert(keys, Config)
    except msgspec.ValidationError as error:
        raise BadConfig(f"{where}: {_located(str(error))}") from error
    _check(config)
    if config.machine:
        qubits = _hardware(config.machine).qubits
        if keys.get("physical_qubits", qubits) != qubits:
            raise BadConfig(f"$.physical_qubits: the machine has {qubits}; leave it out")
        config = msgspec.structs.replace(config, physical_qubits=qubits)
    return config


def _hardware(name: str) -> Hardware:
    found = machines.load(name)
    if isinstance(found, list):
        raise BadConfig(*found)
    return found


def default_files(environment: Mapping[str, str]) -> Sequence[str]:
    """Where a configuration is looked for when none is named: root's is the system's.

    Whose tenants that names are no tenants of a user's own daemon.
    """
    if os.geteuid() == 0:
        return ("/etc/qmk/qmkd.toml",)
    home = environment.get("XDG_CONFIG_HOME") or _home(environment) + "/.config"
    return (home + "/qmk/qmkd.toml",)


def default_socket(environment: Mapping[str, str]) -> str:
    """`QMK_SOCKET`, or the system's path for root, or the user's own."""
    if named := environment.get("QMK_SOCKET"):
        return named
    if os.geteuid() == 0:
        return "/run/qmk/qsyscall.sock"
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/tmp/qmk-{os.geteuid()}"
    return runtime + "/qmk/qsyscall.sock"


def metrics_path(config: Config, environment: Mapping[str, str]) -> Path:
    """Where scrapes come in: as configured, else in the service's run-time directory, else beside
    the daemon's own socket."""
    if config.metrics_socket:
        return Path(config.metrics_socket)
    own = Path(config.socket)
    if runtime := environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(runtime) / "metrics.sock"
    return own.with_name(f"{own.stem}-metrics.sock")


def printed(config: Config) -> str:
    """The configuration as TOML; read back, it gives the same configuration."""
    keys: dict[str, Any] = msgspec.to_builtins(config)
    tenants = keys.pop("tenant")
    tables = {name: keys.pop(name) for name in TABLES if name in keys}
    lines = [_line(name, value) for name, value in keys.items()]
    for name, table in tables.items():
        # TOML has no null: what is left out has no bound.
        given = {key: value for key, value in table.items() if value is not None}
        lines += ["", f"[{name}]", *(_line(key, value) for key, value in given.items())]
    for tenant in tenants:
        quota = tenant.pop("quota")
        lines += ["", "[[tenant]]", *(_line(name, value) for name, value in tenant.items())]
        lines += ["[tenant.quota]", *(_line(name, value) for name, value in quota.items())]
    return "\n".join(lines) + "\n"


def _line(name: str, value: Any) -> str:
    # Of strings, numbers, booleans and lists of them, JSON's notation is TOML's.
    return f"{name} = {msgspec.json.format(msgspec.json.encode(value), indent=-1).decode()}"


def _defaults(environment: Mapping[str, str]) -> dict[str, Any]:
    if os.geteuid() == 0:
        state = "/var/lib/qmkd"
    else:
        home = environment.get("XDG_STATE_HOME") or _home(environment) + "/.local/state"
        state = home + "/qmkd"
    workers = min(len(os.sched_getaffinity(0)), WORKERS_MAX)
    return {"socket": default_socket(environment), "state_dir": state, "workers": workers}


def _home(environment: Mapping[str, str]) -> str:
    return environment.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir


def _read_file(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read(CONFIG_BYTES_MAX + 1)
        if len(text) > CONFIG_BYTES_MAX:
            raise BadConfig(f"{path}: longer than {CONFIG_BYTES_MAX} bytes")
    except OSError as error:
        raise BadConfig(f"{path}: {error.strerror}") from error
    document = parsed(text)
    if isinstance(document, str):
        raise BadConfig(f"{path}: {document}")
    return document


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Top-level keys from `QMKD_*`. Raises BadConfig for a name that stands for none."""
    keys: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == ENVIRONMENT_PREFIX + "CONFIG":
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name not in FLAT:
            known = ", ".join(ENVIRONMENT_PREFIX + flat.upper() for flat in FLAT)
            raise BadConfig(f"the environment: {variable} is not one of {known}")
        keys[name] = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text
    return keys


def _located(sentence: str) -> str:
    sentence, _, path = sentence.partition(" - at `")
    return f"{path.removesuffix('`') or '$'}: {sentence}"


def _check(config: Config) -> None:
    findings = []
    for name in ("socket", "state_dir", "metrics_socket", "traces_socket"):
        given = getattr(config, name)
        if not given.startswith("/") and (given or name in ("socket", "state_dir")):
            findings.append(f"$.{name}: expected an absolute path")
        if "\0" in given:
            findings.append(f"$.{name}: no path holds a character of number 0")
    for name in ("socket", "metrics_socket", "traces_socket"):
        if len(os.fsencode(getattr(config, name))) > SOCKET_PATH_BYTES_MAX:
            findings.append(f"$.{name}: longer than {SOCKET_PATH_BYTES_MAX} bytes")
    if os.geteuid() == 0 and not _is_user(config.worker_user):
        findings.append(f"$.worker_user: no user {config.worker_user!r}")
    noise = reach.parse_noise(config.physical_noise)
    if isinstance(noise, str):
        findings.append(f"$.physical_noise: {noise}")
    names = [table.name for table in config.tenant]
    findings += [
        f"$.tenant[{index}].name: {name!r} is taken"
        for index, name in enumerate(names)
        if name in names[:index]
    ]
    for index, table in enumerate(config.tenant):
        try:
            _rule(index, table)
        except BadConfig as error:
            findings += error.findings
    if findings:
        raise BadConfig(*findings)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except UNKNOWN:
        return False
    return True


def _calibrated(physical_noise: str) -> dict[str, frozenset[int]]:
    noise = reach.parse_noise(physical_noise)
    assert not isinstance(noise, str), "looked at when the configuration was read"
    return reach.distances(reach.shipped(), noise)


def _rule(index: int, table: TenantTable) -> TenantRule:
    uids, gids = set(table.uids), set(table.gids)
    findings = []
    for place, user in enumerate(table.users):
        try:
            uids.add(pwd.getpwnam(user).pw_uid)
        except UNKNOWN:
            findings.append(f"$.tenant[{index}].users[{place}]: no user {user!r}")
    for place, group in enumerate(table.groups):
        try:
            gids.add(grp.getgrnam(group).gr_gid)
        except UNKNOWN:
            findings.append(f"$.tenant[{index}].groups[{place}]: no group {group!r}")
    if not (uids or gids or findings):
        findings.append(f"$.tenant[{index}]: names nobody: give uids, users, gids or groups")
    if findings:
        raise BadConfig(*findings)
    return TenantRule(
        name=table.name,
        uids=frozenset(uids),
        gids=frozenset(gids),
        grantable=frozenset(table.grantable),
        quota=Quota(**{name: getattr(table.quota, name) for name in Quota.__struct_fields__}),
        suspended=table.suspended,
        weight=table.weight,
    )


def _own_tenant() -> TenantRule:
    """Without any tenant configured: whoever runs the daemon, with every right."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid-{uid}"
    return TenantRule(name=name, uids=frozenset({uid}))


assert {"debug", "info", "warning", "error"} == set(get_args(Level))
