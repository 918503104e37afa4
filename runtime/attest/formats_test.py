"""Envelopes, manifests and bundles: what is signed is read back, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.attest import bundle, canonical, dsse, manifest, views
from runtime.attest.conftest import TestSigner
from runtime.attest.errors import AttestError, NotAuthentic, NotMet
from runtime.attest.keys import Trust
from runtime.attest.modes import MODES
from runtime.ctl.__main__ import main
from runtime.ctl.exits import Exit
from syscalls.audit import AuditBody
from syscalls.job import CryptoMode

DIGEST = "911a963811276379644451784b62f467c39300ca9b8c9355c0d4ff35ca40a705"
PROGRAM = "sha256:09925772a52429f1d78ace7ca9244da590ef0f354ab764e2dba3e058f05d1a63"
JOB = "job_4db93727bb9225a4fe579edb8fa103c3"


def bodies(tenant: str = "chemistry", job: str = JOB) -> tuple[AuditBody, AuditBody]:
    accepted = AuditBody(
        number=3,
        epoch=0,
        at_ns=1795312283404738037,
        kind="job accepted",
        fields={
            "job": job, "tenant": tenant, "session": "e54f6313cd683b38", "program": PROGRAM,
            "seed": 7, "shots": 100, "engine": "frames", "noise": "calibrated uniform 0.001",
        },
    )  # fmt: skip
    ended = AuditBody(
        number=4,
        epoch=2,
        at_ns=1795312284355321946,
        kind="job complete",
        fields={"job": job, "results": DIGEST},
    )
    return accepted, ended


def manifest_of(
    signer: TestSigner, mode: CryptoMode = "hybrid", tenant: str = "chemistry"
) -> manifest.RunManifest:
    accepted, ended = bodies(tenant)
    return manifest.of_job(
        accepted=accepted,
        ended=ended,
        ended_hash=bytes(32),
        versions={"qmkd": "0.1.0"},
        status=None,
        backend_id="qmkd@test",
        mode=mode,
        signed_by=manifest.signers(signer, mode),
    )


@pytest.fixture(scope="module")
def trust(signer: TestSigner) -> Trust:
    return signer.trust()


@pytest.fixture(scope="module")
def envelope(signer: TestSigner) -> dsse.Envelope:
    return manifest.sign(manifest_of(signer), signer)[0]


def test_a_manifest_has_every_field_of_the_specification(signer: TestSigner) -> None:
    spec = {
        "job_id", "tenant", "backend_id", "pqc_suite", "crypto_mode", "calibration_snapshot_id",
        "em_method", "em_version", "seed", "created_at", "artifact_hash",
    }  # fmt: skip
    assert spec <= set(manifest.RunManifest.__struct_fields__)
    assert manifest_of(signer).created_at == "2026-11-22T01:51:24.355Z"


def test_the_pre_authentication_encoding_is_that_of_the_dsse_protocol() -> None:
    # The example of the DSSE specification, protocol.md.
    told = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == told


def test_what_is_signed_is_read_back(envelope: dsse.Envelope, trust: Trust) -> None:
    data = canonical.encode(envelope)
    found = manifest.verify(dsse.parse(data), trust, tenant="chemistry", job_id=JOB)
    assert found.results_digest == DIGEST
    assert {each.algorithm for each in found.signed_by} == {"Ed25519", "ML-DSA-65"}


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_change_of_one_byte_of_an_envelope_is_refused(
    data: st.DataObject, envelope: dsse.Envelope, trust: Trust
) -> None:
    whole = canonical.encode(envelope)
    at = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda each: each != whole[at]))
    changed = whole[:at] + bytes([other]) + whole[at + 1 :]
    with pytest.raises(NotAuthentic):
        manifest.verify(dsse.parse(changed), trust, mode="classical")


def test_a_bit_flipped_at_any_position_of_an_envelope_is_refused(
    envelope: dsse.Envelope, trust: Trust
) -> None:
    whole = canonical.encode(envelope)
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(NotAuthentic):
            manifest.verify(dsse.parse(changed), trust, mode="classical")


def test_a_byte_added_or_taken_at_the_end_is_refused(envelope: dsse.Envelope, trust: Trust) -> None:
    whole = canonical.encode(envelope)
    for changed in (whole + b"\n", whole + b" ", whole[:-1], b" " + whole, b""):
        with pytest.raises(NotAuthentic):
            manifest.verify(dsse.parse(changed), trust)


def test_a_swapped_payload_type_key_algorithm_tenant_or_job_is_refused(
    envelope: dsse.Envelope, trust: Trust, signer: TestSigner
) -> None:
    replace = msgspec.structs.replace
    classical, post_quantum = envelope.signatures
    crossed = [
        replace(classical, keyid=post_quantum.keyid),
        replace(post_quantum, keyid=classical.keyid),
    ]
    stranger = TestSigner()
    wrong: list[dsse.Envelope] = [
        replace(envelope, payload_type="application/json"),
        replace(envelope, signatures=crossed),
        replace(envelope, signatures=[]),
        replace(envelope, signatures=[classical, classical]),
        replace(envelope, payload=manifest.statement_of(manifest_of(signer, tenant="other"))),
        manifest.sign(manifest_of(stranger), stranger)[0],
    ]
    for each in wrong:
        with pytest.raises(NotAuthentic):
            manifest.verify(each, trust, mode="classical")
    for asked in ({"tenant": "other"}, {"job_id": "job_0"}):
        with pytest.raises(NotMet):
            manifest.verify(envelope, trust, **asked)  # type: ignore[arg-type]


def test_a_subject_that_the_predicate_does_not_tell_of_is_refused(
    signer: TestSigner, trust: Trust
) -> None:
    payload = manifest.statement_of(manifest_of(signer)).replace(DIGEST.encode(), b"0" * 64, 1)
    assert payload.count(b"0" * 64) >= 1
    made, _ = dsse.sign(payload, signer, ["manifest-classical", "manifest-pqc"])
    with pytest.raises(NotAuthentic, match="subject"):
        manifest.verify(made, trust)


def test_a_key_that_was_revoked_or_rotated_is_told_apart(envelope: dsse.Envelope) -> None:
    signer = TestSigner()
    made, _ = manifest.sign(manifest_of(signer), signer)
    signer.rotate("manifest-pqc")
    trust = signer.trust()
    manifest.verify(made, trust)
    revoked = [
        msgspec.structs.replace(key, state="revoked") if key.name == "manifest-pqc" else key
        for key in trust.keys
    ]
    with pytest.raises(NotAuthentic, match="revoked"):
        manifest.verify(made, Trust(keys=revoked))


@pytest.mark.parametrize("own", MODES)
@pytest.mark.parametrize("asked", MODES)
def test_a_mode_is_met_by_what_is_at_least_as_strong(
    own: CryptoMode, asked: CryptoMode, signer: TestSigner, trust: Trust
) -> None:
    made, _ = manifest.sign(manifest_of(signer, own), signer)
    assert len(made.signatures) == (1 if own == "classical" else 2)
    if MODES.index(asked) <= MODES.index(own):
        assert manifest.verify(made, trust, mode=asked).crypto_mode == own
    else:
        with pytest.raises(NotMet):
            manifest.verify(made, trust, mode=asked)


def test_without_its_post_quantum_signature_only_hybrid_is_read_and_only_by_who_says_so(
    signer: TestSigner, trust: Trust
) -> None:
    for own in ("hybrid", "pqc-required"):
        made, _ = manifest.sign(manifest_of(signer, own), signer)
        halved = msgspec.structs.replace(made, signatures=made.signatures[:1])
        with pytest.raises(NotMet):
            manifest.verify(halved, trust, mode="hybrid")
        if own == "pqc-required":
            with pytest.raises(NotMet):
                manifest.verify(halved, trust, mode="classical")
        else:
            manifest.verify(halved, trust, mode="classical")


def test_keys_that_are_trusted_for_other_things_sign_no_manifest(
    signer: TestSigner, trust: Trust
) -> None:
    told = manifest_of(signer)
    payload = manifest.statement_of(told)
    for keys in (["log", "manifest-pqc"], ["log"], ["bundle", "manifest-pqc"]):
        made, _ = dsse.sign(payload, signer, keys)
        with pytest.raises(NotAuthentic):
            manifest.verify(made, trust, mode="hybrid" if len(keys) > 1 else "classical")
    other, _ = bundle.dsse_bundle(payload, signer, "log-p256")
    with pytest.raises(NotAuthentic, match="other things"):
        bundle.verify_manifest(other, trust)
    nobody = manifest.statement_of(msgspec.structs.replace(told, signed_by=told.signed_by[:1]))
    made, _ = dsse.sign(nobody, signer, ["manifest-pqc"])
    with pytest.raises(NotAuthentic, match="names others"):
        manifest.verify(made, trust, mode="classical")


def test_a_classical_manifest_is_verified_only_for_who_says_that_it_is_enough(
    signer: TestSigner, trust: Trust, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, keys = tmp_path / "manifest.dsse.json", tmp_path / "trust.json"
    keys.write_bytes(canonical.encode(trust))
    arguments = ["manifest", "verify", str(file), "--keys", str(keys)]
    tried: list[tuple[CryptoMode, Exit]] = [("classical", Exit.UNVERIFIED), ("hybrid", Exit.OK)]
    for mode, status in tried:
        file.write_bytes(canonical.encode(manifest.sign(manifest_of(signer, mode), signer)[0]))
        assert main(arguments) == status
        assert main([*arguments, "--mode", "classical"]) == Exit.OK
    assert "hybrid is asked for" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["bundle", "manifest-classical", "manifest-pqc"])
def test_a_bundle_is_read_back_and_any_changed_byte_of_it_refused(
    key: str, signer: TestSigner, trust: Trust
) -> None:
    payload = manifest.statement_of(manifest_of(signer))
    made, _ = bundle.dsse_bundle(payload, signer, key)
    whole = canonical.encode(made)
    assert bundle.verify_manifest(bundle.parse(whole), trust).job_id == JOB
    step = 7 if key == "manifest-pqc" else 1  # all positions of that are tried in its envelope
    for at in range(0, len(whole), step):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(NotAuthentic):
            bundle.verify_manifest(bundle.parse(changed), trust)


def test_a_bundle_of_a_message_is_of_that_message_alone(signer: TestSigner, trust: Trust) -> None:
    made, key = bundle.message_bundle(b"bytes", signer, "bundle")
    whole = canonical.encode(made)
    assert bundle.verify_message(bundle.parse(whole), b"bytes", trust) == key
    with pytest.raises(NotAuthentic):
        bundle.verify_message(made, b"other", trust)
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(NotAuthentic):
            bundle.verify_message(bundle.parse(changed), b"bytes", trust)


def test_no_classical_bundle_is_made_of_what_requires_more(signer: TestSigner) -> None:
    payload = manifest.statement_of(manifest_of(signer, "pqc-required"))
    for key in ("bundle", "manifest-classical"):
        with pytest.raises(NotMet):
            bundle.dsse_bundle(payload, signer, key)
    bundle.dsse_bundle(payload, signer, "manifest-pqc")


def test_the_yaml_view_is_what_another_reader_reads_as_the_json_view(
    signer: TestSigner,
) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    shown = manifest_of(signer)
    assert yaml.safe_load(views.as_yaml(shown)) == msgspec.to_builtins(shown)
    odd: dict[str, object] = {
        "no": ["yes", "2026-01-01", "1e3", "", "a: b # c", "\n", {"x": []}],
        "e": {},
        "n": None,
    }
    assert yaml.safe_load(views.as_yaml(odd)) == odd


def test_bytes_that_are_nothing_are_refused_with_a_sentence() -> None:
    for data in (b"", b"{}", b"[1]", b"\xff", b"[" * 10000):
        with pytest.raises(AttestError, match="no envelope"):
            dsse.parse(data)
