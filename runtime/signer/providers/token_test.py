"""Tokens: SoftHSM2, one that is made to leak, and NSS, which does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import PyKCS11
import pytest

from runtime.signer.config import TokenConfig
from runtime.signer.conftest import PIN, MakeToken
from runtime.signer.errors import PinWrong, TokenAbsent, TokenFailed
from runtime.signer.providers import token as token_module
from runtime.signer.providers.probe import KEK, probe
from runtime.signer.providers.software import Software
from runtime.signer.providers.token import KEK_SHAPE, Token
from tests.tools import tool

NSS_VARIABLE = "QMK_NSS_MODULE"


@pytest.mark.parametrize("name", ["Ed25519", "ES256"])
def test_another_library_believes_what_the_token_signs(name: str, make_token: MakeToken) -> None:
    token = make_token()
    identity, public = token.generate(name, "a key")
    signature = token.sign(name, identity, b"message")
    assert Software().verify(name, public, b"message", signature)
    assert not Software().verify(name, public, b"massage", signature)
    token.destroy(identity)
    assert not token.holds(identity)
    with pytest.raises(TokenAbsent):
        token.sign(name, identity, b"message")


def test_a_sealing_key_opens_what_it_sealed_under_its_label_alone(make_token: MakeToken) -> None:
    token = make_token()
    kek = token.generate_kek("kek")
    sealed = token.encrypt(kek, bytes(12), b"label", bytearray(b"content"))
    assert token.decrypt(kek, bytes(12), b"label", sealed) == b"content"
    for iv, label, what in (
        (bytes(12), b"lable", sealed),
        (b"1" * 12, b"label", sealed),
        (bytes(12), b"label", sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(TokenFailed):
            token.decrypt(kek, iv, label, what)


def test_a_key_that_could_wrap_others_is_no_sealing_key(make_token: MakeToken) -> None:
    token = make_token()
    token.open()

    def make(session: Any) -> None:
        template = [
            (PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY),
            (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_AES),
            (PyKCS11.CKA_VALUE_LEN, 32),
            (PyKCS11.CKA_TOKEN, True),
            (PyKCS11.CKA_ID, b"x" * 16),
            (PyKCS11.CKA_WRAP, True),
            (PyKCS11.CKA_DECRYPT, True),
            (PyKCS11.CKA_ENCRYPT, True),
            *token_module.NEVER_OUT,
        ]
        session.generateKey(template, PyKCS11.Mechanism(PyKCS11.CKM_AES_KEY_GEN, None))

    token.use(make)
    with pytest.raises(TokenFailed, match="CKA_WRAP"):
        token.check_kek(b"x" * 16)


@pytest.mark.parametrize("what", [KEK, "Ed25519", "ES256"])
def test_softhsm_keeps_its_keys(what: str, make_token: MakeToken) -> None:
    token = make_token()
    assert probe(token, what) is None


def test_what_a_token_does_not_do_is_found_by_trying(make_token: MakeToken) -> None:
    """PyKCS11 says of every token that it has CKM_ML_DSA."""
    token = make_token()
    with pytest.raises(TokenFailed, match="MECHANISM"):
        probe(token, "ML-DSA-65")


def test_the_self_test_finds_a_token_whose_keys_can_be_wrapped(
    make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_token()
    monkeypatch.setattr(
        token_module,
        "NEVER_OUT",
        [
            (PyKCS11.CKA_PRIVATE, True),
            (PyKCS11.CKA_SENSITIVE, True),
            (PyKCS11.CKA_EXTRACTABLE, True),
        ],
    )
    for what in (KEK, "ES256"):
        found = probe(token, what)
        assert found is not None
        assert "C_WrapKey" in found


def test_the_self_test_finds_a_token_whose_keys_can_be_read(
    make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_token()
    readable = [
        (PyKCS11.CKA_PRIVATE, True),
        (PyKCS11.CKA_SENSITIVE, False),
        (PyKCS11.CKA_EXTRACTABLE, True),
    ]
    monkeypatch.setattr(token_module, "NEVER_OUT", readable)
    assert probe(token, KEK) == "CKA_VALUE can be read"


_NSS_CODE = """
import sys, PyKCS11
from runtime.signer.config import TokenConfig
from runtime.signer.errors import TokenFailed
from runtime.signer.providers.probe import KEK, probe
from runtime.signer.providers.token import Token
module, pin_file = sys.argv[1:]
library = PyKCS11.PyKCS11Lib().load(module)
session = library.openSession(2, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)
session.login("", PyKCS11.CKU_SO)
session.initPin(open(pin_file).read())
session.logout()
session.closeSession()
label = library.getTokenInfo(2).label.strip("\\0 ")
token = Token(TokenConfig(module=module, label=label, pin_file=pin_file))
token.open(insist=True)
for what in (KEK, "ES256", "ML-DSA-65"):
    try:
        print(what, "|", probe(token, what))
    except TokenFailed:
        print(what, "| not offered")
"""


def test_nss_fails_the_self_test(tmp_path: Path) -> None:
    """It marks keys as never leaving it, and wraps them (seen with 3.131 and 3.132)."""
    named = os.environ.get(NSS_VARIABLE)
    module = Path(named) if named else tool("libsoftokn3.so")
    if not list(Path("/usr/lib").glob("*/libnspr4.so")):
        pytest.skip("NSS needs libnspr4, which is not installed")
    (tmp_path / "pin").write_text("12345678")
    environment = os.environ | {
        "NSS_LIB_PARAMS": f"configDir='sql:{tmp_path}' certPrefix='' keyPrefix='' "
        "secmod='secmod.db' flags=",
        "LD_LIBRARY_PATH": str(module.parent),
    }
    done = subprocess.run(
        [sys.executable, "-c", _NSS_CODE, module, tmp_path / "pin"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" | ") for line in done.stdout.splitlines())
    assert "C_WrapKey gives it out" in found[KEK] + found["ES256"], found
    assert found["ML-DSA-65"] != "None", "its ML-DSA keys are not to be called `hsm`"


def test_a_wrong_pin_is_tried_once_and_not_by_a_restarted_signer_either(
    make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_token()
    token.open()
    token.close()
    pin_file = Path(str(token.config.pin_file))
    pin_file.write_text("9999\n")
    tried = []
    before = PyKCS11.Session.login

    def login(self: Any, pin: bytes, *more: Any) -> None:
        tried.append(pin)
        before(self, pin, *more)

    monkeypatch.setattr(PyKCS11.Session, "login", login)
    restarted = Token(token.config)
    for each in (token, token, restarted, restarted):
        with pytest.raises(PinWrong):
            each.open()
    assert tried == [b"9999"]
    # Even whoever insists does not try the same one again.
    with pytest.raises(PinWrong, match="has refused this PIN"):
        token.open(insist=True)
    assert tried == [b"9999"]
    pin_file.write_text(PIN)
    with pytest.raises(PinWrong, match="qmkctl keys unlock"):
        restarted.open()
    restarted.open(insist=True)
    assert tried == [b"9999", PIN.encode()]
    restarted.close()
    Token(token.config).open()  # the token counts no wrong one any more


def test_a_token_is_found_by_its_label_when_slots_are_numbered_anew(
    make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_token()
    identity, public = token.generate("Ed25519", "a key")
    make_token()  # which finalises the library: sessions are gone, and slots are looked for again
    library = PyKCS11.PyKCS11Lib
    number, shown, opened = library.getSlotList, library.getTokenInfo, library.openSession
    offset, seen = 10**6, []

    def other_numbers(self: Any, tokenPresent: bool = False) -> list[int]:  # noqa: N803
        return [slot + offset for slot in reversed(number(self, tokenPresent))]

    def info(self: Any, slot: int) -> Any:
        return shown(self, slot - offset)

    def session(self: Any, slot: int, flags: int = 0) -> Any:
        seen.append(slot)
        return opened(self, slot - offset, flags)

    monkeypatch.setattr(library, "getSlotList", other_numbers)
    monkeypatch.setattr(library, "getTokenInfo", info)
    monkeypatch.setattr(library, "openSession", session)
    signature = token.sign("Ed25519", identity, b"message")
    assert Software().verify("Ed25519", public, b"message", signature)
    assert len(seen) == 1
    assert seen[0] >= offset


def test_a_token_that_is_not_there_is_named_with_those_that_are(make_token: MakeToken) -> None:
    token = make_token()
    with pytest.raises(TokenAbsent, match=token.config.label):
        Token(TokenConfig(module=token.config.module, label="absent")).open()
    with pytest.raises(TokenAbsent, match="does not load"):
        Token(TokenConfig(module="/nonexistent.so")).open()
    make_token(token.config.label)
    token.close()
    with pytest.raises(TokenAbsent, match="2 tokens"):
        token.open()


@pytest.mark.parametrize("is_open", [True, False])
def test_a_token_that_vanishes_and_comes_back_is_used_again(
    is_open: bool, make_token: MakeToken
) -> None:
    token = make_token()
    identity, public = token.generate("Ed25519", "a key")
    folder = Path(os.environ["SOFTHSM2_CONF"]).parent / "tokens"
    away = folder.with_name("away")
    folder.rename(away)
    folder.mkdir()
    try:
        if not is_open:
            token.close()
        with pytest.raises(TokenAbsent):
            token.sign("Ed25519", identity, b"message")
    finally:
        folder.rmdir()
        away.rename(folder)
    signature = token.sign("Ed25519", identity, b"message")
    assert Software().verify("Ed25519", public, b"message", signature)


def test_a_pin_that_is_not_handed_over_is_said(
    softhsm: Path, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = make_token()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    bare = TokenConfig(module=str(softhsm), label=made.config.label)
    with pytest.raises(PinWrong, match="credential"):
        Token(bare).open()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(PinWrong, match="No such file"):
        Token(bare).open()
    (tmp_path / "pin").write_text(PIN)
    Token(bare).open()


def test_a_sealing_key_may_not_wrap_and_may_not_leave() -> None:
    assert not KEK_SHAPE[PyKCS11.CKA_WRAP]
    assert not KEK_SHAPE[PyKCS11.CKA_EXTRACTABLE]
    assert KEK_SHAPE[PyKCS11.CKA_NEVER_EXTRACTABLE]
