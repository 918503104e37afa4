"""Precedence of the sources, and that nothing unknown or out of bounds gets by."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from qmkd.core.ports import Quota
from qmkd.shell.config import FLAT, BadConfig, TenantTable, default_socket, load, printed
from qmkd.shell.daemon import NUMERICS
from qmkd.shell.limits import Limits
from syscalls.rights import Right
from tests.daemon import ROOT, clean_environment, command

PLACES = {"socket": "/tmp/q.sock", "state_dir": "/tmp/q-state"}
HOME = {"HOME": "/tmp/nobody-lives-here"}


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "qmkd.toml"
    path.write_text(text)
    return str(path)


def findings(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(BadConfig) as caught:
        load(PLACES, HOME, written(tmp_path, text))
    return caught.value.findings


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, 'workers = 3\nlog_level = "debug"\nphysical_qubits = 5\n')
    environment = HOME | {"QMKD_WORKERS": "4", "QMKD_LOG_LEVEL": "error"}
    config = load(PLACES | {"workers": 7}, environment, path)
    assert config.workers == 7
    assert config.log_level == "error"
    assert config.physical_qubits == 5
    assert config.log_format == "auto"


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    path = written(tmp_path, "workers = 3\n")
    assert load(PLACES, HOME | {"QMKD_CONFIG": path}).workers == 3


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("worker = 1", "$"),
        ("workers = 0", "$.workers"),
        ('workers = "two"', "$.workers"),
        ("[limits]\nconnection = 1", "$.limits"),
        ("[limits]\nmessage_bytes = 99999999999", "$.limits.message_bytes"),
        ("[limits]\nconnections = 10", "$.limits"),
        ("[decoder]\nspeed = 1", "$.decoder"),
        ("[decoder]\nround_ns = 0", "$.decoder.round_ns"),
        ("[decoder]\nbacklog_max = 0", "$.decoder.backlog_max"),
        ('[[tenant]]\nname = "a"\nuids = [-1]', "$.tenant[0].uids[0]"),
        (
            '[[tenant]]\nname = "a"\nuids = [1]\ngrantable = ["CAP_NONE"]',
            "$.tenant[0].grantable[0]",
        ),
        ('[[tenant]]\nname = "a"\nuids = [1]\n[tenant.quota]\njob = 1', "$.tenant[0].quota"),
        ('[[tenant]]\nname = "a"\nuids = [1]\n[tenant.quota]\njobs = -1', "$.tenant[0].quota"),
    ],
)
def test_what_does_not_belong_is_refused_with_its_path(
    tmp_path: Path, text: str, path: str
) -> None:
    (finding,) = findings(tmp_path, text)
    assert f": {path}: " in finding


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 3000 + "]" * 3000,
        "a = " + "9" * 5000,
        'worker_user = "a\\u0000"',
        'metrics_socket = "/a\\u0000"',
        'machine = "a\\u0000.toml"',
        '[[tenant]]\nname = "a"\nusers = ["\\u0000"]',
        '[[tenant]]\nname = "a"\ngroups = ["\\u0000"]',
    ],
)
def test_what_the_host_or_the_reader_of_toml_chokes_on_is_a_finding(
    tmp_path: Path, text: str
) -> None:
    assert findings(tmp_path, text)


def test_findings_about_tenants_come_together(tmp_path: Path) -> None:
    found = findings(
        tmp_path,
        '[[tenant]]\nname = "a"\nusers = ["no-such-user", "root"]\n'
        '[[tenant]]\nname = "a"\ngroups = ["no-such-group"]\n[[tenant]]\nname = "b"\n',
    )
    assert [one.split(":")[0] for one in found] == [
        "$.tenant[1].name",
        "$.tenant[0].users[0]",
        "$.tenant[1].groups[0]",
        "$.tenant[2]",
    ]


def test_a_broken_file_is_named_with_the_line() -> None:
    with pytest.raises(BadConfig, match=r"no-such.toml: No such file"):
        load(PLACES, HOME, "/tmp/no-such.toml")


def test_an_unknown_variable_is_refused() -> None:
    with pytest.raises(BadConfig, match="QMKD_WORKER is not one of"):
        load(PLACES, HOME | {"QMKD_WORKER": "4"})


def test_relative_places_are_refused() -> None:
    with pytest.raises(BadConfig, match=r"\$\.socket: expected an absolute path"):
        load({"socket": "q.sock", "state_dir": "/tmp/s"}, HOME)


def test_a_socket_path_too_long_for_the_host_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"\$\.socket: longer than 107 bytes"):
        load(PLACES | {"socket": "/tmp/" + "x" * 110}, HOME)


def test_users_and_groups_become_numbers(tmp_path: Path) -> None:
    text = """
[[tenant]]
name = "lab"
uids = [12345]
users = ["root"]
groups = ["root"]
grantable = ["CAP_ALLOC"]
suspended = true
[tenant.quota]
jobs = 5
"""
    (rule,) = load(PLACES, HOME, written(tmp_path, text)).for_kernel({}).tenants
    assert (rule.name, rule.uids, rule.gids) == ("lab", frozenset({0, 12345}), frozenset({0}))
    assert rule.grantable == {Right.ALLOC}
    assert rule.quota.jobs == 5
    assert rule.suspended


def test_without_tenants_the_daemons_own_user_is_the_tenant() -> None:
    (rule,) = load(PLACES, HOME).for_kernel({}).tenants
    assert rule.uids == {os.geteuid()}
    assert rule.name == pwd.getpwuid(os.geteuid()).pw_name


def test_the_clients_variable_is_the_default_socket() -> None:
    assert default_socket(HOME | {"QMK_SOCKET": "/tmp/named.sock"}) == "/tmp/named.sock"


def test_what_is_printed_reads_back_as_the_same_configuration(tmp_path: Path) -> None:
    text = (
        "workers = 2\n[limits]\nunread_ms = 77\n[decoder]\nweight_max = 9\n"
        '[[tenant]]\nname = "a \\" b"\nuids = [1, 2]\n'
    )
    config = load(PLACES, HOME, written(tmp_path, text))
    assert load({}, HOME, written(tmp_path, printed(config))) == config


def test_a_machine_is_named_or_described_in_a_file_and_says_how_many_qubits_there_are(
    tmp_path: Path,
) -> None:
    config = load(PLACES | {"machine": "lab"}, HOME)
    assert config.physical_qubits == 2_000
    hardware = config.for_kernel({}).hardware
    assert hardware is not None
    assert hardware.name == "lab"
    assert load({}, HOME, written(tmp_path, printed(config))) == config
    path = tmp_path / "own.toml"
    path.write_text('name = "own"\n[[module]]\nname = "a"\nqubits = 7\n')
    assert load(PLACES | {"machine": str(path)}, HOME).physical_qubits == 7
    assert load(PLACES, HOME).for_kernel({}).described().spare == (1_000_000,)
    (finding,) = findings(tmp_path, 'machine = "nowhere"')
    assert finding.startswith("$.machine: no machine is named 'nowhere'")
    (finding,) = findings(tmp_path, 'machine = "lab"\nphysical_qubits = 5')
    assert finding == "$.physical_qubits: the machine has 2000; leave it out"


def test_every_flat_key_can_be_given_by_the_environment() -> None:
    values = {"worker_scheduling": "idle", "log_level": "debug", "log_format": "json"}
    values |= {"physical_noise": "si1000 0.002", "machine": "lab", "physical_qubits": "2000"}
    values |= {"durability": "process", "worker_sandbox": "require", "worker_user": "root"}
    values |= {"worker_tenants": "one", "metrics": "off", "metrics_socket": "/tmp/y"}
    values |= {"traces_socket": "/tmp/z"}
    values |= dict.fromkeys(("socket", "state_dir"), "/tmp/x") | {"worker_bytes": "99999999"}
    environment = {f"QMKD_{name.upper()}": values.get(name, "3") for name in FLAT}
    config = load({}, HOME | environment)
    assert all(str(getattr(config, name)) == values.get(name, "3") for name in FLAT)


def run(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*flags),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean_environment(**environment),
    )


def test_check_config_prints_what_is_in_force_or_what_is_wrong() -> None:
    good = run("--check-config", "--workers", "5", "--socket", "/tmp/a.sock")
    assert good.returncode == 0
    assert "workers = 5\n" in good.stdout
    bad = run("--check-config", "--workers", "0")
    assert bad.returncode == 2
    assert "$.workers: Expected `int` >= 1" in bad.stderr
    assert run("--workers", "0").returncode == 2
    assert run("--check-config", QMKD_NONSENSE="1").returncode == 2


def test_version_names_the_abi_the_program_format_the_schema_and_the_numerics() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "qmkd",
        "abi",
        "qvm",
        "schema",
        *NUMERICS,
    ]


def test_the_reference_page_names_every_key_and_its_example_is_valid(tmp_path: Path) -> None:
    page = (ROOT / "docs/operating.md").read_text()
    keys = (*FLAT, *Limits.__struct_fields__, *TenantTable.__struct_fields__)
    keys += Quota.__struct_fields__
    assert [key for key in keys if key not in page] == []
    example = page.split("```toml\n")[1].split("```")[0]
    known = example.replace("ada", "root").replace('"chem"', '"root"')
    (rule,) = load(PLACES, HOME, written(tmp_path, known)).for_kernel({}).tenants
    assert rule.quota.jobs == 32
