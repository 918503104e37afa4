"""The service without its socket: who may do what, and what nonsense comes to."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from runtime.signer.api import CertificateRequest
from runtime.signer.config import Config, ConfigError, May, Policy, Rule, load
from runtime.signer.errors import ERRORS, BadRequest, NotAllowed, UnknownAlgorithm
from runtime.signer.keys.store import Keys
from runtime.signer.protocol import CALLS, MESSAGES_MAX, decode_answer, encode_call, encode_error
from runtime.signer.protocol import SignOne as SignCall
from runtime.signer.service import Service, _listen

OWN, OTHER = os.getuid(), 54321
RULES = [
    Rule([OWN], ["*"], list(May), ["*"]),
    Rule([OTHER], ["manifest-*"], [May.SIGN]),
    Rule([OTHER], ["tls-ca"], [May.CERTIFY], ["*.lab.example", "127.0.0.1"]),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    keys = Keys(tmp_path_factory.mktemp("state"))
    for name, algorithm in (
        ("manifest-pqc", "ML-DSA-44"), ("manifest-old", "Ed25519"), ("log", "Ed25519"),
        ("tls-ca", "ES256"), ("tls-ca-pqc", "ML-DSA-65"), ("seal", "X-Wing"),
    ):  # fmt: skip
        keys.create(name, algorithm)
    yield Service(keys, Config(allow=RULES), {})
    keys.close()


def ask(service: Service, user: int, method: str, **params: Any) -> Any:
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    answer = service.answer(user, line)
    assert answer is not None
    return json.loads(answer)


def error_of(answer: Any) -> str:
    return str(answer["error"]["data"]["type"])


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_user_signs_with_the_keys_of_its_rule_and_with_no_other(service: Service) -> None:
    for key in ("manifest-pqc", "manifest-old"):
        answer = ask(service, OTHER, "sign", key=key, message=b64(b"m"))
        signature = base64.b64decode(answer["result"]["signature"])
        assert service.keys.verify(key, b"m", signature)
    for key in ("log", "tls-ca", "absent", "Manifest-pqc"):
        assert error_of(ask(service, OTHER, "sign", key=key, message="")) == "NOT_ALLOWED"
    both = [{"key": "manifest-pqc", "message": ""}, {"key": "log", "message": ""}]
    before = service.keys.audit.seq
    assert error_of(ask(service, OTHER, "sign_all", requests=both)) == "NOT_ALLOWED"
    assert service.keys.audit.seq == before


def test_what_changes_keys_or_tells_of_others_is_for_those_who_may_manage(
    service: Service,
) -> None:
    calls: dict[str, dict[str, Any]] = {
        "create": {"name": "manifest-x", "algorithm": "Ed25519"},
        "rotate": {"name": "manifest-old", "without_root": True},
        "revoke": {"name": "manifest-old", "reason": "r"},
        "rewrap": {},
        "backup": {"passphrase": b64(b"x" * 16)},
        "restore": {"data": "", "passphrase": ""},
        "unlock": {},
        "audit": {},
        "unseal": {"key": "seal", "sealed": ""},
        "authority": {"key": "log"},  # it would be made, and is none
    }
    for method, params in calls.items():
        assert error_of(ask(service, OTHER, method, **params)) == "NOT_ALLOWED", method


def test_everybody_may_read_what_is_public(service: Service) -> None:
    assert "result" in ask(service, OWN, "authority", key="tls-ca")  # made by who may
    listing = ask(service, 99999, "list")["result"]["keys"]
    assert {each["name"] for each in listing} == set(service.keys.names)
    for method, params in {
        "public": {"key": "log"},
        "authority": {"key": "tls-ca"},
        "statements": {"name": "log"},
        "status": {},
        "metrics": {},
    }.items():
        assert "result" in ask(service, 99999, method, **params), method


def test_no_answer_holds_a_private_key(service: Service) -> None:
    secrets = [
        bytes(service.keys.opened(record, record.versions[0]))
        for record in map(service.keys.record, service.keys.names)
    ]
    said = b""
    for method, params in {
        "list": {}, "status": {}, "metrics": {}, "audit": {"verify": True},
        "public": {"key": "manifest-pqc"}, "backup": {"passphrase": b64(b"x" * 16)},
        "sign": {"key": "manifest-pqc", "message": ""},
        "rotate": {"name": "manifest-pqc", "without_root": True},
        "statements": {"name": "manifest-pqc"},
    }.items():  # fmt: skip
        line = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        said += service.answer(OWN, json.dumps(line).encode()) or b""
    decoded = said
    for part in said.split(b'"'):
        try:
            decoded += base64.b64decode(part, validate=True)
        except ValueError:
            continue
    for secret in secrets:
        assert secret not in decoded
        assert secret.hex().encode() not in decoded


def test_several_messages_are_signed_at_once_or_none_is(service: Service) -> None:
    good = {"key": "log", "message": b64(b"m")}
    answer = ask(service, OWN, "sign_all", requests=[good, good | {"key": "manifest-old"}])
    assert [each["key"] for each in answer["result"]] == ["log", "manifest-old"]
    assert error_of(ask(service, OWN, "sign_all", requests=[good, good | {"key": "no"}])) == (
        "UNKNOWN_KEY"
    )
    many = [good] * (MESSAGES_MAX + 1)
    assert error_of(ask(service, OWN, "sign_all", requests=many)) == "BAD_REQUEST"
    assert ask(service, OWN, "sign_all", requests=[])["result"] == []


NONSENSE = [
    b"", b"null", b"[]", b"{}", b'{"jsonrpc":"2.0","id":1}', b"\xff", b"[" * 100_000,
    b'{"jsonrpc":"1.0","id":1,"method":"list"}',
    b'{"jsonrpc":"2.0","id":1,"method":"nope"}',
    b'{"jsonrpc":"2.0","id":1,"method":"list","params":[1]}',
    b'{"jsonrpc":"2.0","id":1,"method":"list","params":{"x":1}}',
    b'{"jsonrpc":"2.0","id":1,"method":"sign","params":{"key":1,"message":""}}',
    b'{"jsonrpc":"2.0","id":1,"method":"sign","params":{"key":"log","message":"!"}}',
    b'{"jsonrpc":"2.0","id":[1],"method":"list"}',
]  # fmt: skip


@pytest.mark.parametrize("line", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_answered_as_such(line: bytes, service: Service) -> None:
    answer = service.answer(OWN, line)
    assert answer is not None
    assert error_of(json.loads(answer)) == "BAD_REQUEST"


def test_a_notification_does_nothing(service: Service) -> None:
    before = service.keys.audit.seq
    line = b'{"jsonrpc":"2.0","method":"sign","params":{"key":"log","message":""}}'
    assert service.answer(OWN, line) is None
    assert service.keys.audit.seq == before


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@given(method=st.sampled_from(sorted(CALLS)), params=_values)
@settings(max_examples=100, deadline=None)
def test_any_parameters_get_an_answer_and_nobody_without_a_rule_changes_anything(
    service: Service, method: str, params: Any
) -> None:
    before = service.keys.audit.seq, service.keys.names
    line = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
    answer = json.loads(service.answer(99999, line.encode()) or b"null")
    assert answer["id"] == 7
    assert ("result" in answer) != ("error" in answer)
    assert error_of(answer) != "SIGNER_FAULT" if "error" in answer else True
    assert (service.keys.audit.seq, service.keys.names) == before


def test_a_fault_is_told_without_what_it_was_about(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret is 1234")

    monkeypatch.setattr(service.keys, "sign", fail)
    answer = ask(service, OWN, "sign", key="log", message="")
    assert error_of(answer) == "SIGNER_FAULT"
    assert "1234" not in json.dumps(answer)


def test_every_error_comes_back_as_what_it_was(service: Service) -> None:
    call = SignCall(key="log", message=b"")
    for error in ERRORS.values():
        with pytest.raises(error, match="a sentence"):
            decode_answer(encode_error(5, error("a sentence")), 5, call)
    assert encode_call(5, call).endswith(b"\n")


# --- certificates -------------------------------------------------------------------------------


def csr(key: Any) -> bytes:
    digest = hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, digest).public_bytes(Encoding.DER)


@pytest.mark.parametrize("issuer", ["tls-ca", "tls-ca-pqc"])
@pytest.mark.parametrize("kind", ["ecdsa", "ml-dsa"])
def test_a_certificate_is_believed_by_a_verifier_that_trusts_the_authority(
    issuer: str, kind: str, service: Service
) -> None:
    key: Any = ec.generate_private_key(ec.SECP256R1())
    if kind == "ml-dsa":
        key = mldsa.MLDSA65PrivateKey.generate()
    request = CertificateRequest(
        issuer=issuer, csr_der=csr(key), usage="server", common_name="a.lab.example",
        dns_names=["a.lab.example"], ip_addresses=["127.0.0.1"], lifetime_s=3600,
    )  # fmt: skip
    made = service.keys.issue(request)
    leaf = x509.load_der_x509_certificate(made.certificate_der)
    root = x509.load_der_x509_certificate(made.authority_der)
    root.verify_directly_issued_by(root)
    assert made.authority_der == service.keys.authority(issuer)
    assert leaf.public_key() == key.public_key()
    verifier = PolicyBuilder().store(Store([root]))
    verifier.build_server_verifier(x509.DNSName("a.lab.example")).verify(leaf, [])
    other = service.keys.authority("tls-ca" if issuer == "tls-ca-pqc" else "tls-ca-pqc")
    stranger = PolicyBuilder().store(Store([x509.load_der_x509_certificate(other)]))
    with pytest.raises(x509.verification.VerificationError):
        stranger.build_server_verifier(x509.DNSName("a.lab.example")).verify(leaf, [])


def test_certificates_hold_names_that_the_policy_gives_and_no_others(service: Service) -> None:
    request = {
        "issuer": "tls-ca", "csr_der": b64(csr(ec.generate_private_key(ec.SECP256R1()))),
        "usage": "server", "common_name": "a.lab.example",
    }  # fmt: skip
    assert "result" in ask(service, OTHER, "issue", request=request)
    for changed in (
        {"common_name": "lab.example"},
        {"dns_names": ["b.lab.example", "elsewhere.example"]},
        {"ip_addresses": ["10.0.0.1"]},
        {"issuer": "tls-ca-pqc"},
    ):
        answer = ask(service, OTHER, "issue", request=request | changed)
        assert error_of(answer) == "NOT_ALLOWED", changed


def test_requests_for_certificates_are_signed_by_their_own_key(service: Service) -> None:
    good = csr(ec.generate_private_key(ec.SECP256R1()))
    for place in (len(good) - 5, 60):
        changed = bytearray(good)
        changed[place] ^= 1
        request = CertificateRequest(
            issuer="tls-ca", csr_der=bytes(changed), usage="client", common_name="a"
        )
        with pytest.raises(BadRequest):
            service.keys.issue(request)
    for wrong, error in (
        ({"lifetime_s": 0}, BadRequest),
        ({"lifetime_s": 10**9}, BadRequest),
        ({"ip_addresses": ["not one"]}, BadRequest),
        ({"common_name": "x" * 65}, BadRequest),
        ({"issuer": "seal"}, UnknownAlgorithm),
    ):
        whole = {"issuer": "tls-ca", "csr_der": good, "usage": "client", "common_name": "a"}
        with pytest.raises(error):
            service.keys.issue(CertificateRequest(**(whole | wrong)))


# --- configuration ------------------------------------------------------------------------------


def test_without_rules_root_and_the_own_user_may_do_everything_and_others_nothing() -> None:
    policy = Policy(None)
    for user in (0, OWN):
        for what in May:
            policy.check(user, what, "a-key")
    for what in May:
        with pytest.raises(NotAllowed):
            policy.check(OTHER, what, "a-key")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rotate_days = 'x'", "rotate_days"),
        ("nonsense = 1", "nonsense"),
        ("[token]", "module"),
        ("[[allow]]\nusers = ['a']\nkeys = []\nmay = ['fly']", "fly"),
        ("not toml", "line 1"),
    ],
)
def test_a_configuration_that_is_wrong_is_refused_with_where(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "signer.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load(path)


def test_a_rule_for_a_user_who_is_unknown_is_no_rule_for_nobody() -> None:
    with pytest.raises(ConfigError, match="no-such-user"):
        Policy([Rule(["no-such-user"], ["*"], [May.SIGN])])


def test_metrics_tell_when_each_key_is_to_be_rotated(service: Service) -> None:
    text = service.metrics()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    due = found["qmk_signer_key_rotation_due_timestamp_seconds"].samples
    made = found["qmk_signer_key_created_timestamp_seconds"].samples
    assert {each.labels["key"] for each in due} == set(service.keys.names)
    lives = {round(a.value - b.value) for a, b in zip(due, made, strict=True)}
    assert lives == {90 * 24 * 3600}
    assert "qmk_signer_requests" in found


def test_alerts_read_series_that_there_are_and_promtool_takes_them(service: Service) -> None:
    rules = Path(__file__).parents[2] / "monitoring" / "signer-rules.yml"
    asked = set(re.findall(r"qmk_signer_\w+", rules.read_text()))
    there = set(re.findall(r"^# TYPE (\w+)", service.metrics(), re.MULTILINE))
    assert asked - there == {"qmk_signer_token_up"}, "which is told where there is a token"
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not on this host, which is all that could judge the rules")
    subprocess.run(["promtool", "check", "rules", rules], check=True, capture_output=True)


def test_a_file_that_is_no_socket_is_not_removed_to_listen_there(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        _listen(file)
    assert file.read_text() == "precious"
