"""Tokens and signers for the tests: SoftHSM2 where it is installed or named, files otherwise."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from runtime.signer.__main__ import SOFTHSM
from runtime.signer.client import SignerClient
from runtime.signer.config import TokenConfig
from runtime.signer.errors import ProviderMissing, SignerError
from runtime.signer.keys.store import DEFAULTS, Keys
from runtime.signer.protocol import Status
from runtime.signer.providers.token import Token, initialise

MODULE_VARIABLE = "QMK_SOFTHSM_MODULE"
SO_PIN, PIN = "so-pin-of-a-test", "pin-of-a-test"

MakeToken = Callable[..., Token]
_labels = itertools.count(1)


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, with a folder of its own for tokens."""
    named = os.environ.get(MODULE_VARIABLE)
    module = Path(named) if named else next((each for each in SOFTHSM if each.exists()), None)
    if module is None or not module.exists():
        pytest.skip(f"SoftHSM2 is not installed, and ${MODULE_VARIABLE} names no libsofthsm2.so")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    about = folder / "softhsm2.conf"
    about.write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n"
        "log.level = ERROR\nslots.removable = false\n"
    )
    os.environ["SOFTHSM2_CONF"] = str(about)  # it is read when the library is loaded
    return module


@pytest.fixture
def make_token(softhsm: Path, tmp_path: Path) -> MakeToken:
    """Makes another token, by default of a label that no other test has."""

    def make(label: str | None = None) -> Token:
        label = label or f"test-{next(_labels)}"
        initialise(str(softhsm), label, bytearray(SO_PIN.encode()), bytearray(PIN.encode()))
        pin_file = tmp_path / f"{label}.pin"
        pin_file.write_text(PIN + "\n")
        return Token(TokenConfig(module=str(softhsm), label=label, pin_file=str(pin_file)))

    return make


class RunningSigner:
    """A process of its own. socket: where it listens; state: its folder.

    keys: with those of a new installation.
    """

    def __init__(self, folder: Path, config: str = "", *, keys: bool = False) -> None:
        self.socket, self.state = folder / "signer.sock", folder / "state"
        self.log = folder / "log"
        (folder / "signer.toml").write_text(config)
        self.command = [
            sys.executable, "-m", "runtime.signer", "serve",
            "--state-dir", str(self.state), "--config", str(folder / "signer.toml"),
            "--socket", str(self.socket),
        ]  # fmt: skip
        if keys:
            made = Keys(self.state)
            for name, algorithm in DEFAULTS.items():
                with contextlib.suppress(ProviderMissing):  # whoever needs that key says so
                    made.create(name, algorithm)
            made.close()
        self.start()

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stderr=log, stdout=log)
        for _ in range(600):
            try:
                with SignerClient(self.socket) as client:
                    client.call(Status())
                return
            except SignerError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """It has to end well, unless the test has failed anyway."""
        status = self.end(kill=kind is not None)
        assert kind is not None or status == 0, self.log.read_text()

    def end(self, kill: bool = False) -> int:
        if self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
        return self.process.wait()


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSigner]:
    """A signer without a token, which serves all tests of a module."""
    with RunningSigner(tmp_path_factory.mktemp("signer")) as running:
        yield running
