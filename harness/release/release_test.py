from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.release import building, lock, provenance, sbom
from harness.release.__main__ import KEYS, cosign, described, own_signer, release, verified
from harness.release.building import BuildFailed, Commit, Package
from runtime.attest import bundle, canonical
from runtime.attest.conftest import TestSigner
from runtime.attest.conftest import signer as signer
from runtime.attest.keys import Trust, TrustedKey
from runtime.attest.stock_test import SCRIPT as SIGSTORE_VERIFY
from runtime.signer.api import PublicKey
from tests.tools import tool

COMMIT = Commit(digest="0" * 40, time=1_700_000_000)
PACKAGES = [Package(name="qmkd-0.tar.gz", data=b"1"), Package(name="qmkd-0.whl", data=b"2")]


def test_the_lock_file_has_a_digest_of_every_pin_and_pins_what_the_constraints_do() -> None:
    locked = lock.locked()
    assert {name: each.version for name, each in locked.items()} == lock.constrained(), (
        "constraints.txt has changed: `make lock`"
    )
    assert all(each.digests for each in locked.values())
    assert len(locked) > 100


def test_a_line_that_is_neither_pin_nor_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="no line of a lock file"):
        lock.read("numpy>=2\n")


@pytest.mark.slow
def test_pip_takes_what_the_lock_file_names_and_nothing_else(tmp_path: Path) -> None:
    """Offline: a package of ours, under a name and a digest of its own."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "tiny"\nversion = "1"\n')
    (tmp_path / "tiny.py").write_text("")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path / "w", tmp_path],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "w").iterdir()
    digest = Package(name=wheel.name, data=wheel.read_bytes()).digest
    for given, code in ((digest, 0), ("0" * 64, 1)):
        text = f"tiny==1 \\\n    --hash=sha256:{given}\n"
        (tmp_path / "r.lock").write_text(lock.read(text)["tiny"].requirement() + "\n")
        done = subprocess.run(
            [*pip, "install", "-q", "--dry-run", "--require-hashes", "--no-deps", "--no-index",
             "--find-links", tmp_path / "w", "-r", tmp_path / "r.lock"], capture_output=True,
        )  # fmt: skip
        assert done.returncode == code, done.stderr


def test_the_bill_of_materials_names_every_pin_and_is_the_same_each_time() -> None:
    table = sbom.project(lock.ROOT)
    locked = lock.locked()
    made = sbom.bill(table, locked.values(), COMMIT, PACKAGES)
    assert made == sbom.bill(table, reversed(locked.values()), COMMIT, PACKAGES)
    assert [each["name"] for each in made["components"]] == sorted(locked)
    needed = set(made["dependencies"][0]["dependsOn"])
    for names in sbom.direct(table).values():
        for name in names:
            assert name not in locked or f"pkg:pypi/{name}@{locked[name].version}" in needed
    trio = next(each for each in made["components"] if each["name"] == "trio")
    assert trio["scope"] == "required"


def test_every_direct_dependency_is_pinned() -> None:
    table = sbom.project(lock.ROOT)
    named = {name for names in sbom.direct(table).values() for name in names}
    assert named <= set(lock.locked())


def cyclonedx_schemas() -> Path | None:
    """The schemas as CycloneDX publishes them, in a package of theirs of which no code is run."""
    spec = importlib.util.find_spec("cyclonedx")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "schema" / "_res"


@pytest.mark.skipif(
    cyclonedx_schemas() is None, reason="no schemas: pip install --no-deps cyclonedx-python-lib"
)
def test_the_bill_of_materials_is_valid_by_the_schema_of_cyclonedx() -> None:
    from jsonschema import Draft7Validator
    from referencing import Registry, Resource

    folder = cyclonedx_schemas()
    assert folder is not None
    registry: Registry[Any] = Registry()
    for name in ("spdx", "jsf-0.82", "cryptography-defs"):
        file = f"{name}.SNAPSHOT.schema.json"
        resource = Resource.from_contents(json.loads((folder / file).read_text()))
        registry = registry.with_resource(f"http://cyclonedx.org/schema/{file}", resource)
    schema = json.loads((folder / "bom-1.6.SNAPSHOT.schema.json").read_text())
    judge = Draft7Validator(schema, registry=registry)
    made = sbom.bill(sbom.project(lock.ROOT), lock.locked().values(), COMMIT, PACKAGES)
    assert [error.message for error in judge.iter_errors(made)] == []
    assert list(judge.iter_errors(made | {"specVersion": 7}))


def test_the_provenance_names_commit_products_and_tools() -> None:
    made = provenance.statement(COMMIT, "urn:x", PACKAGES, {"compiler": "cc 1"})
    assert [each["digest"]["sha256"] for each in made["subject"]] == [
        each.digest for each in PACKAGES
    ]
    definition = made["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["commit"] == COMMIT.digest
    assert definition["internalParameters"]["compiler"] == "cc 1"
    digests = [each.get("digest", {}) for each in definition["resolvedDependencies"]]
    assert {"gitCommit": COMMIT.digest} in digests


def test_archives_that_differ_in_order_owner_and_time_become_the_same_bytes() -> None:
    def packed(names: list[str], time: int) -> bytes:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size, info.mtime, info.uid, info.uname = len(name), time, time, f"u{time}"
                info.mode = 0o600 + time
                archive.addfile(info, io.BytesIO(name.encode()))
        return data.getvalue()

    one = building._normal(packed(["b", "a"], 7), 5)
    assert one == building._normal(packed(["a", "b"], 4), 5)
    assert one != building._normal(packed(["a", "c"], 4), 5)


def written(products: list[Package], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for each in products:
        (folder / each.name).write_bytes(each.data)


@pytest.mark.skipif(cosign() is None, reason="no cosign: `python -m tests.tools.fetch debian`")
def test_cosign_verifies_provenance_and_sums_and_refuses_what_was_changed(
    signer: TestSigner, tmp_path: Path
) -> None:
    written([*PACKAGES, *described(PACKAGES, signer, COMMIT, "urn:x")], tmp_path)
    assert verified(tmp_path) == "cosign has verified provenance and SHA256SUMS"
    for name in ("qmkd-0.whl", "SHA256SUMS", "provenance.es256.sigstore.json"):
        before = (tmp_path / name).read_bytes()
        at = before.index(b'"sig":"') + 20 if name.endswith(".json") else 0
        changed = bytes([before[at] ^ 1])
        (tmp_path / name).write_bytes(before[:at] + changed + before[at + 1 :])
        with pytest.raises(BuildFailed, match="cosign does not accept"):
            verified(tmp_path)
        (tmp_path / name).write_bytes(before)


def test_sigstores_own_library_verifies_the_provenance_signed_with_ml_dsa(
    signer: TestSigner, tmp_path: Path
) -> None:
    node, library = tool("node"), tool("@sigstore/verify")
    products = described(PACKAGES, signer, COMMIT, "urn:x")
    written(products, tmp_path)
    name = "provenance.ml-dsa-65.sigstore.json"
    made = bundle.parse((tmp_path / name).read_bytes())
    assert made.dsse_envelope is not None
    payload = made.dsse_envelope.payload.replace(COMMIT.digest.encode(), b"1" * 40)
    envelope = msgspec.structs.replace(made.dsse_envelope, payload=payload)
    changed = msgspec.structs.replace(made, dsse_envelope=envelope)
    (tmp_path / "changed.json").write_bytes(canonical.encode(changed))
    (tmp_path / "verify.js").write_text(SIGSTORE_VERIFY)
    (tmp_path / "node_modules").symlink_to(library.parents[1])
    done = subprocess.run(
        [node, "verify.js", "release-pqc.pub.pem", name, "changed.json"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    said = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert said == ["ok", "refused"], done.stderr


@pytest.mark.slow
def test_a_release_is_built_twice_alike_and_verified_by_stock_tools(tmp_path: Path) -> None:
    with own_signer() as sign:
        files = release(sign, tmp_path, tmp_path / "out", "HEAD", "urn:x")
        keys: list[PublicKey] = [sign.public(name) for name in KEYS]
    out = {path.name: path.read_bytes() for path in files}
    trust = Trust(keys=[TrustedKey.of(each) for each in keys])
    sums = out["SHA256SUMS"]
    bundle.verify_message(bundle.parse(out["SHA256SUMS.sigstore.json"]), sums, trust)
    for line in sums.decode().splitlines():
        digest, name = line.split("  ")
        assert Package(name=name, data=out[name]).digest == digest
    for kind in ("es256", "ml-dsa-65"):
        made = bundle.parse(out[f"provenance.{kind}.sigstore.json"])
        assert bundle.envelope_of(made, trust).payload == out["provenance.json"]
    (wheel,) = [name for name in out if name.endswith(".whl")]
    with zipfile.ZipFile(io.BytesIO(out[wheel])) as archive:
        archive.extractall(tmp_path / "installed")
    code = "import runtime.ctl.__main__ as ctl, qmkd.shell.daemon, qmkd.engine.native._rows"
    subprocess.run(
        [sys.executable, "-c", f"{code}; assert 'installed' in ctl.__file__"],
        cwd=tmp_path / "installed", check=True, env={"PYTHONPATH": str(tmp_path / "installed")},
    )  # fmt: skip
    stated: Any = msgspec.json.decode(out["provenance.json"])
    assert {each["name"] for each in stated["subject"]} >= {wheel}
    assert verified(tmp_path / "out")
