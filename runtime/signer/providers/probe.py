"""Does a token keep what it says it keeps? Tried at every start, on keys made for it.

A token's own word is not enough: NSS 3.131 marks a key as one that never leaves, and then wraps it
with any AES key that can also decrypt, so that two calls give it out in clear. So keys of the same
make are attacked here, as somebody with the PIN could, and only what withstands is called `hsm`.
"""

from __future__ import annotations

import secrets
from typing import Any

import PyKCS11

from runtime.signer.providers.software import Software
from runtime.signer.providers.token import Token, make_kek, make_pair, sign_with

KEK = "AES-256"
_FLIPS = ((PyKCS11.CKA_EXTRACTABLE, True), (PyKCS11.CKA_SENSITIVE, False))
_SECRET_VALUES = (PyKCS11.CKA_VALUE, PyKCS11.CKA_SEED)


def probe(token: Token, what: str) -> str | None:
    """Make a key of an algorithm (or `KEK`) for this session, and try to get it out.

    Returns None if it stays, else how it came out. Raises TokenFailed if no such key can be made,
    or if what it signs does not hold.
    """

    def do(session: Any) -> str | None:
        identity = secrets.token_bytes(16)
        label = "qmk self-test"
        if what == KEK:
            handle = make_kek(session, label, identity, on_token=False)
        else:
            public, handle = make_pair(session, what, label, identity, on_token=False)
            message = secrets.token_bytes(32)
            signature = sign_with(session, what, handle, message)
            if not Software().verify(what, public, message, signature):
                return "what it signs does not hold"
        try:
            return (
                _by_reading(session, handle)
                or _by_wrapping(session, handle)
                or _by_flipping(session, handle)
            )
        finally:
            for each in session.findObjects([(PyKCS11.CKA_ID, identity)]):
                session.destroyObject(each)

    return token.use(do)


def _by_reading(session: Any, handle: Any) -> str | None:
    for attribute in _SECRET_VALUES:
        try:
            value = session.getAttributeValue(handle, [attribute], True)[0]
        except PyKCS11.PyKCS11Error:
            continue
        if value:
            return f"{PyKCS11.CKA[attribute]} can be read"
    return None


def _by_wrapping(session: Any, handle: Any) -> str | None:
    """With an AES key that may wrap and decrypt, by each mechanism that tokens wrap with."""
    template = [
        (PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY),
        (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_AES),
        (PyKCS11.CKA_VALUE_LEN, 32),
        (PyKCS11.CKA_TOKEN, False),
        (PyKCS11.CKA_WRAP, True),
        (PyKCS11.CKA_DECRYPT, True),
        (PyKCS11.CKA_ENCRYPT, True),
    ]
    try:
        wrapping = session.generateKey(template, PyKCS11.Mechanism(PyKCS11.CKM_AES_KEY_GEN, None))
    except PyKCS11.PyKCS11Error:
        return None  # the token makes no such key, so nothing can be wrapped with it
    iv = bytes(16)
    ways = {
        "CKM_AES_KEY_WRAP": PyKCS11.Mechanism(PyKCS11.CKM_AES_KEY_WRAP, None),
        "CKM_AES_KEY_WRAP_PAD": PyKCS11.Mechanism(PyKCS11.CKM_AES_KEY_WRAP_PAD, None),
        "CKM_AES_KEY_WRAP_KWP": PyKCS11.Mechanism(PyKCS11.CKM_AES_KEY_WRAP_KWP, None),
        "CKM_AES_CBC": PyKCS11.Mechanism(PyKCS11.CKM_AES_CBC, iv),
        "CKM_AES_CBC_PAD": PyKCS11.Mechanism(PyKCS11.CKM_AES_CBC_PAD, iv),
        "CKM_AES_ECB": PyKCS11.Mechanism(PyKCS11.CKM_AES_ECB, None),
        "CKM_AES_GCM": PyKCS11.AES_GCM_Mechanism(bytes(12), b"", 128),
    }
    try:
        for name, mechanism in ways.items():
            try:
                wrapped = session.wrapKey(wrapping, handle, mechanism)
            except PyKCS11.PyKCS11Error:
                continue
            if wrapped:
                return f"C_WrapKey gives it out by {name}, under a key that also decrypts"
    finally:
        session.destroyObject(wrapping)
    return None


def _by_flipping(session: Any, handle: Any) -> str | None:
    for attribute, value in _FLIPS:
        try:
            session.setAttributeValue(handle, [(attribute, value)])
            said = session.getAttributeValue(handle, [attribute])[0]
        except PyKCS11.PyKCS11Error:
            continue
        if bool(said) == value:
            return f"{PyKCS11.CKA[attribute]} can be changed afterwards"
    return None
