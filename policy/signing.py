"""Models signed by whoever made them: a DSSE envelope over the manifest, beside the file.

`trusted` is also what the scheduler verifies decisions with: all versions of some keys, as the
signer tells of them, those that were revoked left out by the verifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from policy.models import PAYLOAD_TYPE, BadModel, Manifest, Model, load
from runtime.attest import canonical, dsse
from runtime.attest.errors import AttestError
from runtime.attest.keys import Trust, TrustedKey
from runtime.signer.api import Sign
from runtime.signer.errors import SignerError, UnknownKey

KEYS: Final = ("manifest-classical", "manifest-pqc")


def trusted(signer: Sign, names: Sequence[str] = KEYS) -> Trust:
    """Every version of these keys; one that is not there vouches for nothing.

    Raises SignerError where the signer does not answer.
    """
    keys = []
    for name in names:
        try:
            newest = signer.public(name)
            keys += [
                TrustedKey.of(signer.public(name, version))
                for version in range(1, newest.version + 1)
            ]
        except UnknownKey:
            continue
    return Trust(keys=keys)


def sign_model(path: Path, signer: Sign, names: Sequence[str] = KEYS) -> None:
    """Sign the manifest that lies beside a model. Raises what signer and verifier raise."""
    manifest = _beside(path, "manifest").read_bytes()
    envelope, _ = dsse.sign(manifest, signer, names, PAYLOAD_TYPE)
    _beside(path, "dsse").write_bytes(canonical.encode(envelope))


def load_signed(path: Path, signer: Sign) -> Model:
    """A model whose signature holds, by the digest that was signed. Raises BadModel."""
    try:
        envelope = dsse.parse(_beside(path, "dsse").read_bytes())
        dsse.opened(envelope, trusted(signer), PAYLOAD_TYPE)
        manifest = msgspec.json.decode(envelope.payload, type=Manifest)
    except OSError as error:
        raise BadModel(f"{path}: it is not signed: {error}.") from error
    except (AttestError, SignerError, msgspec.DecodeError) as error:
        raise BadModel(f"{path}: its signature does not hold: {error}") from error
    return load(path, manifest.sha256)


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")
