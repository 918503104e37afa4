"""Where `qmkctl manifest` and `qmkctl ledger` look: options they share, and what failures mean.

Loads `runtime.attest` only when a command needs it: it needs the extra `signer`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.ctl.exits import Exit, Trouble

if TYPE_CHECKING:
    from runtime.attest.keys import Trust
    from runtime.attest.source import Source
    from syscalls.job import CryptoMode


def add_source(parser: argparse.ArgumentParser) -> None:
    """Where manifests and ledger are kept, and whose keys are believed."""
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="read the folder that the follower keeps"
    )
    parser.add_argument(
        "--attest",
        type=Path,
        metavar="SOCKET",
        help="the follower's socket (default: $QMK_ATTEST_SOCKET, the system's)",
    )
    parser.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="public keys to believe (default: those that the follower tells)",
    )


@contextmanager
def failures() -> Iterator[None]:
    """What records are refused for, as `qmkctl` ends with it."""
    try:
        import runtime.attest.keys  # noqa: F401 - loads what verifies
        from runtime.attest import errors
        from runtime.signer.errors import SignerError
    except ImportError as error:
        raise Trouble(Exit.USAGE, f"This needs {error.name}: pip install 'qmkd[signer]'.") from None
    try:
        yield
    except (errors.NotAuthentic, errors.NotMet, errors.Forked) as error:
        raise Trouble(Exit.UNVERIFIED, str(error)) from error
    except errors.NotThere as error:
        raise Trouble(Exit.USAGE, str(error)) from error
    except (errors.Unavailable, SignerError) as error:
        raise Trouble(Exit.UNREACHABLE, str(error)) from error


def require_mode(mode: CryptoMode) -> None:
    """Raises what `failures` knows where manifests are not signed in this mode."""
    from runtime.attest import client

    client.require_mode(mode)


@contextmanager
def source_of(options: argparse.Namespace, session_id: str = "") -> Iterator[Source]:
    """What the options name."""
    from runtime.attest.client import attest_socket
    from runtime.attest.source import Asked, Folder

    if options.dir is None:
        yield Asked(attest_socket(options.attest), session_id)
        return
    folder = Folder(options.dir)
    try:
        yield folder
    finally:
        folder.close()


def trust_of(options: argparse.Namespace) -> Trust:
    """The keys to believe: a file's, or whatever is told where the records are."""
    from runtime.attest.catalog import read_trust

    if options.keys is not None:
        return read_trust(options.keys)
    if options.dir is not None:
        return read_trust(options.dir)
    with source_of(options) as source:
        return source.trust()


def keys_note(options: argparse.Namespace) -> str:
    """What whoever verifies should know of where the keys are from."""
    if options.keys is not None:
        return str(options.keys)
    return "told by who keeps the records; --keys names a file of your own"
