"""`qmkctl doctor`: what it shows of what the daemon's program found, and how it ends."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from runtime.ctl.__main__ import main
from runtime.ctl.exits import Exit
from tests.daemon import running_daemon


def test_an_installation_that_serves_has_no_fault_and_one_that_does_not_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_daemon() as daemon:
        config = tmp_path / "qmkd.toml"
        config.write_text(f'socket = "{daemon.socket}"\nstate_dir = "{daemon.state_dir}"\n')
        arguments = ["doctor", "--config", str(config)]
        assert main(arguments) == Exit.OK
        assert f"     ok  socket: Somebody listens on {daemon.socket}." in capsys.readouterr().out
    assert main(arguments) == Exit.UNHEALTHY
    shown = capsys.readouterr().out
    assert f"  fault  socket: {daemon.socket} is not there: no daemon was started.\n" in shown
    assert "         Start it: `systemctl start qmkd.socket`, or run `qmkd`.\n" in shown
    assert main([*arguments, "--json"]) == Exit.UNHEALTHY
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["ok"] is False
    assert [each["check"] for each in told["findings"] if each["severity"] == "fault"] == ["socket"]
