"""Sets the signer of an installation up (`init`), or is it (`serve`).

PINs are read from files or from systemd's credentials, and never from the command line or the
environment. Exit status 2 says that the configuration is wrong, and that trying again is no use.
"""

from __future__ import annotations

import argparse
import logging
import os
import pwd
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from runtime.signer.client import signer_socket
from runtime.signer.config import Config, ConfigError, load
from runtime.signer.errors import SignerError
from runtime.signer.hardening import harden
from runtime.signer.keys.files import write
from runtime.signer.keys.store import DEFAULTS, Keys
from runtime.signer.service import Server, Service

SOFTHSM = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
)
"""Where distributions put it."""
SYSTEM_STATE = Path("/var/lib/qmk-signer")
SYSTEM_CONFIG = Path("/etc/qmk/signer.toml")
SYSTEM_USER = "qmk-signer"
STACK_BYTES = 4 << 20
METRICS_S = 15.0
STOP_S = 5.0

_log = logging.getLogger("qmk.signer")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(prog="qmk-signer", description=__doc__)
    actions = whole.add_subparsers(dest="action", metavar="ACTION", required=True)
    serve = actions.add_parser("serve", help="answer requests")
    init = actions.add_parser("init", help="make a token, if one can be had, and the keys")
    for each in (serve, init):
        each.add_argument("--state-dir", type=Path, help="what outlives the signer")
        each.add_argument("--config", type=Path, help="a TOML file (docs/signer.md)")
    serve.add_argument("--socket", type=Path, help="where to listen (default: as clients look)")
    init.add_argument(
        "--module", type=Path, help="a PKCS#11 library (default: SoftHSM2 where it is installed)"
    )
    init.add_argument("--label", default="qmk", help="of the token (default: %(default)s)")
    init.add_argument(
        "--system",
        action="store_true",
        help=f"by root, for the service: {SYSTEM_STATE}, {SYSTEM_CONFIG}, PINs for root alone",
    )
    init.add_argument(
        "--software", action="store_true", help="make no token: every key is `software` then"
    )
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    whole = parser()
    options = whole.parse_args(arguments)
    if options.state_dir is None and not (options.action == "init" and options.system):
        whole.error("--state-dir is needed")
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    hardening = harden()
    try:
        if options.action == "init":
            return _init(options)
        config = load(options.config)
        return _serve(options, config, hardening)
    except ConfigError as error:
        sys.stderr.write(f"qmk-signer: {error}\n")
        return 2
    except SignerError as error:
        sys.stderr.write(f"qmk-signer: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"qmk-signer: {error.filename or ''}: {error.strerror}\n")
        return 1


def _open(state_dir: Path, config: Config) -> Keys:
    token = None
    if config.token is not None:
        os.environ.update(config.token.environment)  # the library looks when it is loaded
        from runtime.signer.providers.token import Token

        token = Token(config.token)
    return Keys(state_dir, token)


# --- serving ------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace, config: Config, hardening: dict[str, str]) -> int:
    threading.stack_size(STACK_BYTES)
    keys = _open(options.state_dir, config)
    service = Service(keys, config, hardening)
    for name, why in keys.damaged.items():
        _log.error("the key %s is not used: %s", name, why)
    for name, why in keys.chain.missing.items():
        _log.warning("without %s: %s", name, why)
    if hardening["swap"] != "never":
        _log.warning("keys may get into swap: %s", hardening["swap"])
    service.start()
    server = Server(service, signer_socket(options.socket))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    if config.metrics_file is not None:
        target = Path(config.metrics_file)
        threading.Thread(target=_tell, args=(service, target), daemon=True).start()
    _log.info("serving %d keys at %s", len(keys.names), signer_socket(options.socket))
    _notify("READY=1")
    server.serve()
    _notify("STOPPING=1")
    server.wait(STOP_S)
    keys.close()
    return 0


def _tell(service: Service, target: Path) -> None:
    """Write the metrics now and then; a file that cannot be written stops nothing."""
    wait = threading.Event()
    while True:
        new = target.with_name(target.name + ".new")
        try:
            new.write_text(service.metrics())
            new.chmod(0o644)
            new.rename(target)
        except OSError as error:
            _log.warning("metrics: %s: %s", target, error.strerror)
        wait.wait(METRICS_S)


def _notify(text: str) -> None:
    """Tell systemd (sd_notify(3)), where it listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


# --- setting up ---------------------------------------------------------------------------------


class _Places(Struct):
    """Where an installation's parts go. pin, so_pin: what the token is opened with."""

    state: Path
    config: Path
    pin: Path
    so_pin: Path
    user: str | None = None


def _places(options: argparse.Namespace) -> _Places:
    if options.system:
        folder = SYSTEM_CONFIG.parent
        pins = folder / "signer-pin", folder / "signer-so-pin"
        return _Places(SYSTEM_STATE, SYSTEM_CONFIG, *pins, SYSTEM_USER)
    state: Path = options.state_dir
    return _Places(state, options.config or state / "signer.toml", state / "pin", state / "so-pin")


def _init(options: argparse.Namespace) -> int:
    """Make what is missing: configuration, token, keys. What is there is left as it is."""
    places = _places(options)
    places.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not places.config.parent.exists():
        places.config.parent.mkdir(parents=True)
        places.config.parent.chmod(0o755)
    if not places.config.exists():
        _configure(options, places)
    config = load(places.config)
    if config.token is not None and config.token.pin_file is None:
        # The service is handed it by systemd, which is not there now.
        config = replace(config, token=replace(config.token, pin_file=str(places.pin)))
    keys = _open(places.state, config)
    try:
        return _make_keys(keys)
    finally:
        keys.close()
        if places.user is not None:
            _give(places.state, places.user)


def _give(folder: Path, user: str) -> None:
    """Make a user the owner of all that was made for it."""
    known = pwd.getpwnam(user)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, known.pw_uid, known.pw_gid, follow_symlinks=False)


def _configure(options: argparse.Namespace, places: _Places) -> None:
    """Write a configuration with a new token, or without one and saying so."""
    module = options.module or next((each for each in SOFTHSM if each.exists()), None)
    if options.software or module is None:
        why = "as asked" if options.software else "SoftHSM2 is not installed"
        sys.stderr.write(
            f"qmk-signer: NO TOKEN ({why}). Keys are protected by files of one user alone, and "
            "are called `software` wherever they are shown. On Debian and Ubuntu: apt-get install "
            f"softhsm2; then remove {places.config}, and this again, and `qmkctl keys rewrap`.\n"
        )
        text = "# No token: every key is `software`.\n"
    else:
        text = _new_token(module, options.label, places)
    write(places.config, text.encode())
    places.config.chmod(0o644)
    sys.stderr.write(f"qmk-signer: wrote {places.config}\n")


def _new_token(module: Path, label: str, places: _Places) -> str:
    """Make a token of SoftHSM below the state, with PINs in files. Returns the configuration."""
    from runtime.signer.providers.token import initialise

    tokens, about = places.state / "tokens", places.state / "softhsm2.conf"
    tokens.mkdir(mode=0o700, exist_ok=True)
    write(
        about,
        f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        "slots.removable = false\n".encode(),
    )
    os.environ["SOFTHSM2_CONF"] = str(about)
    pin, so_pin = (bytearray(secrets.token_hex(16).encode()) for _ in range(2))
    write(places.pin, bytes(pin))
    write(places.so_pin, bytes(so_pin))
    initialise(str(module), label, so_pin, pin)
    pin_file = "" if places.user is not None else f'pin_file = "{places.pin}"\n'
    return (
        f'[token]\nmodule = "{module}"\nlabel = "{label}"\n{pin_file}'
        f'environment = {{ SOFTHSM2_CONF = "{about}" }}\n'
    )


def _make_keys(keys: Keys) -> int:
    """The keys of DEFAULTS that are not there. Returns the exit status."""
    failed = False
    for name, algorithm in DEFAULTS.items():
        if name in keys.names:
            continue
        try:
            made = keys.create(name, algorithm)
        except SignerError as error:
            sys.stderr.write(f"qmk-signer: {name} was NOT made: {error}\n")
            failed = True
        else:
            print(f"{name:20} {made.algorithm:18} {made.protection}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
