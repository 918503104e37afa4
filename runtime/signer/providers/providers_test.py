"""Providers against each other, and against published vectors where these are short."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stdout

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from runtime.signer.algorithms import ALGORITHMS, Use, algorithm
from runtime.signer.errors import BadRequest, ProviderMissing, UnknownAlgorithm
from runtime.signer.providers import oqs
from runtime.signer.providers.base import wipe
from runtime.signer.providers.chain import Chain

CHAIN = Chain()
needs_liboqs = pytest.mark.skipif("liboqs" in CHAIN.missing, reason=str(CHAIN.missing))
PAIRS = [
    pytest.param(name, provider.name, id=f"{name}-{provider.name}")
    for provider in CHAIN.providers
    for name in sorted(provider.algorithms)
]
SIGNING = [pair for pair in PAIRS if ALGORITHMS[str(pair.values[0])].use is Use.SIGN]
SEALING = [pair for pair in PAIRS if ALGORITHMS[str(pair.values[0])].use is Use.SEAL]


@pytest.mark.parametrize(("name", "provider"), SIGNING)
def test_a_signature_holds_for_its_message_key_and_bytes_alone(name: str, provider: str) -> None:
    by = CHAIN.of(name, provider)
    secret, public = by.generate(name)
    signature = by.sign(name, secret, b"a message")
    assert by.verify(name, public, b"a message", signature)
    assert not by.verify(name, public, b"another message", signature)
    assert not by.verify(name, by.generate(name)[1], b"a message", signature)
    for place in (0, len(signature) // 2, len(signature) - 1):
        changed = bytearray(signature)
        changed[place] ^= 1
        assert not by.verify(name, public, b"a message", bytes(changed))
    for other in (b"", signature[:-1], signature + b"\0"):
        assert not by.verify(name, public, b"a message", other)
    assert not by.verify(name, public[:-1], b"a message", signature)


@pytest.mark.parametrize("name", ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"])
@needs_liboqs
def test_what_one_library_signs_the_other_believes_also_under_a_context(name: str) -> None:
    first, second = CHAIN.of(name, "cryptography"), CHAIN.of(name, "liboqs")
    for one, other in ((first, second), (second, first)):
        secret, public = one.generate(name)
        for context in (b"", b"context", bytes(255)):
            signature = one.sign(name, secret, b"message", context)
            assert other.verify(name, public, b"message", signature, context)
            assert not other.verify(name, public, b"message", signature, context + b"x")


@needs_liboqs
def test_liboqs_leaves_the_callers_secret_as_it_was() -> None:
    by = CHAIN.of("ML-DSA-44", "liboqs")
    secret, public = by.generate("ML-DSA-44")
    before = bytes(secret)
    by.sign("ML-DSA-44", secret, b"once")
    assert secret == before
    assert by.verify("ML-DSA-44", public, b"twice", by.sign("ML-DSA-44", secret, b"twice"))


@pytest.mark.parametrize(("name", "provider"), SEALING)
def test_what_is_sealed_opens_with_its_key_and_label_alone(name: str, provider: str) -> None:
    by = CHAIN.of(name, provider)
    secret, public = by.generate(name)
    sealed = by.seal(name, public, b"content", b"label")
    assert by.unseal(name, secret, sealed, b"label") == b"content"
    assert by.unseal(name, secret, sealed, b"other") is None
    assert by.unseal(name, by.generate(name)[0], sealed, b"label") is None
    for place in (0, 600, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[place] ^= 1
        assert by.unseal(name, secret, bytes(changed), b"label") is None
    assert by.unseal(name, secret, sealed[:-1], b"label") is None
    assert by.unseal(name, secret, b"", b"label") is None


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "X-Wing"])
def test_public_keys_look_as_the_library_writes_them(name: str) -> None:
    if name.startswith("SLH-DSA"):
        # 2.16.840.1.101.3.4.3.20 (RFC 9909, section 3).
        expected = "3030300b0609608648016503040314032100"
        assert algorithm(name).spki_prefix.hex() == expected
        return
    _, public = CHAIN.of(name).generate(name)
    spki = algorithm(name).spki(public)
    key = load_der_public_key(spki)
    assert key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == spki
    assert algorithm(name).raw(spki) == public
    with pytest.raises(BadRequest):
        algorithm(name).raw(spki[:-1])


def test_an_x_wing_key_is_made_of_its_seed_as_the_draft_says() -> None:
    """draft-connolly-cfrg-xwing-kem, appendix C, first vector: seed, and ends of the public key."""
    seed = bytearray.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    public = CHAIN.of("X-Wing").public("X-Wing", seed)
    assert public.hex().startswith(
        "e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5"
    )


def test_names_of_algorithms_are_those_of_the_standards_and_one_alias() -> None:
    assert algorithm("SPHINCS+").name == "SLH-DSA-SHA2-128s"
    for wrong in ("", "ed25519", "ML-DSA", "RSA", "x" * 1000):
        with pytest.raises(UnknownAlgorithm) as refusal:
            algorithm(wrong)
        assert len(str(refusal.value)) < 300


def test_a_provider_that_is_named_is_taken_or_refused_and_never_replaced() -> None:
    assert CHAIN.of("ML-DSA-65").name == "cryptography"
    with pytest.raises(UnknownAlgorithm):
        CHAIN.of("ML-DSA-65", "openssl")
    if "liboqs" not in CHAIN.missing:
        with pytest.raises(UnknownAlgorithm):
            CHAIN.of("X-Wing", "liboqs")


def test_without_liboqs_the_chain_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oqs, "_place", lambda: None)
    chain = Chain()
    for name, provider in (("SLH-DSA-SHA2-128s", None), ("ML-DSA-65", "liboqs")):
        with pytest.raises(ProviderMissing, match="pip install"):
            chain.of(name, provider)
    assert chain.of("ML-DSA-65").name == "cryptography"


def test_a_library_that_is_not_the_one_of_the_wheel_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(oqs.PATH_VARIABLE, raising=False)
    monkeypatch.setattr(oqs, "_digest", lambda path: "0" * 64)
    with pytest.raises(ProviderMissing):
        oqs.load()


def test_an_environment_that_names_no_library_ends_nothing_and_looks_nowhere_else() -> None:
    """`import oqs` would clone a repository and then leave the process."""
    code = (
        "import os; os.environ['OQS_INSTALL_PATH'] = '/nonexistent'\n"
        "from runtime.signer.providers.chain import Chain\n"
        "print(sorted(Chain().missing))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['liboqs']\n"


@needs_liboqs
def test_loading_liboqs_writes_nothing_to_standard_output() -> None:
    said = io.StringIO()
    with redirect_stdout(said):
        oqs.load()
    assert said.getvalue() == ""


def test_wiping_leaves_zeros() -> None:
    buffer = bytearray(b"secret")
    wipe(buffer)
    assert buffer == bytes(6)
