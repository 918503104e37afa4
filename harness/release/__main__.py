"""`python -m harness.release`, or `make release`: a signed release of a commit, in OUT/release.

    qmkd-VERSION.tar.gz, qmkd-VERSION-*.whl      built twice, byte for byte alike
    qmkd-VERSION.cdx.json                        what is in it (CycloneDX)
    provenance.json                              where it comes from (in-toto, SLSA)
    provenance.ID.sigstore.json                  the same, signed; one for each algorithm
    SHA256SUMS, SHA256SUMS.sigstore.json         all of it, signed
    KEY.pub.pem                                  the keys, to be compared with those one knows

Signed by the signer that `--signer` names. With `--own-signer`, by keys that are made for this run
and forgotten: that shows that everything works and says nothing of who made it.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness.release import building, lock, provenance, sbom
from harness.release.building import BuildFailed, Commit, Package
from runtime.attest import bundle, canonical
from runtime.attest.errors import AttestError
from runtime.signer.api import Sign
from runtime.signer.client import SignerClient
from runtime.signer.errors import SignerError
from runtime.signer.protocol import Create

KEYS = {"release": "ES256", "release-pqc": "ML-DSA-65"}
"""What a release is signed by: keys that nothing else may use, above all no daemon's user."""
START_S_MAX = 30.0
FETCHED = lock.ROOT / ".tools/debian/usr/bin/cosign"


def release(sign: Sign, folder: Path, out: Path, commit: str, repository: str) -> list[Path]:
    """Build, describe and sign; returns the files. Raises BuildFailed, and what signing raises."""
    source = building.commit(commit)
    with building.toolbox(folder) as python:
        packages = building.build_twice(python, source, folder / "builds")
    products = [*packages, *described(packages, sign, source, repository)]
    out.mkdir(parents=True, exist_ok=True)
    for each in products:
        (out / each.name).write_bytes(each.data)
    return [out / each.name for each in products]


def described(
    packages: list[Package], sign: Sign, source: Commit, repository: str
) -> list[Package]:
    """What is said of packages, and signed: all other files of a release."""
    table = sbom.project(lock.ROOT)
    bill = sbom.bill(table, lock.locked().values(), source, packages)
    products = [_json(f"{table['name']}-{table['version']}.cdx.json", bill)]
    subjects = [*packages, *products]
    stated = provenance.statement(source, repository, subjects, building.tools())
    payload = msgspec.json.encode(stated)
    products.append(Package(name="provenance.json", data=payload))
    for key in KEYS:
        made, trusted = bundle.dsse_bundle(payload, sign, key)
        name = f"provenance.{trusted.algorithm.lower()}.sigstore.json"
        products.append(Package(name=name, data=canonical.encode(made)))
        products.append(Package(name=f"{key}.pub.pem", data=trusted.pem))
    every = [*packages, *products]
    sums = "".join(f"{each.digest}  {each.name}\n" for each in every).encode()
    signed, _ = bundle.message_bundle(sums, sign, "release")
    products.append(Package(name="SHA256SUMS", data=sums))
    products.append(Package(name="SHA256SUMS.sigstore.json", data=canonical.encode(signed)))
    return products


def _json(name: str, value: object) -> Package:
    return Package(
        name=name, data=msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    )


@contextlib.contextmanager
def own_signer() -> Iterator[SignerClient]:
    """A signer with keys of its own, in software, that end with it."""
    with tempfile.TemporaryDirectory(prefix="qmk-", dir="/tmp") as name:
        folder = Path(name)
        program = [sys.executable, "-m", "runtime.signer"]
        state = ["--state-dir", str(folder / "state")]
        path, nowhere = folder / "s", subprocess.DEVNULL
        subprocess.run([*program, "init", *state, "--software"], check=True, stdout=nowhere)
        serve = [*program, "serve", *state, "--socket", str(path)]
        with subprocess.Popen(serve, stdout=nowhere, stderr=nowhere) as process:
            try:
                deadline = time.monotonic() + START_S_MAX
                while not path.exists():
                    assert process.poll() is None, "the signer runs"
                    assert time.monotonic() < deadline, "the signer starts"
                    time.sleep(0.02)
                with SignerClient(path) as client:
                    for name, algorithm in KEYS.items():
                        client.call(Create(name=name, algorithm=algorithm))
                    yield client
            finally:
                process.terminate()


def cosign() -> str | None:
    """The program, where the tests' tools have fetched it or it is installed."""
    return str(FETCHED) if FETCHED.exists() else shutil.which("cosign")


def verified(out: Path) -> str:
    """What cosign says of the release, if it is here. Raises BuildFailed where it refuses."""
    program = cosign()
    if program is None:
        return (
            "cosign is not here (`python -m tests.tools.fetch debian`), so nobody else has looked"
        )
    (wheel,) = out.glob("*.whl")
    key = ["--key", str(out / "release.pub.pem"), "--insecure-ignore-tlog=true"]
    for what, command in {
        "provenance": [
            "verify-blob-attestation", "--bundle", str(out / "provenance.es256.sigstore.json"),
            "--type", "slsaprovenance1", *key, str(wheel),
        ],
        "SHA256SUMS": [
            "verify-blob", "--bundle", str(out / "SHA256SUMS.sigstore.json"), *key,
            str(out / "SHA256SUMS"),
        ],
    }.items():  # fmt: skip
        done = subprocess.run([program, *command], capture_output=True, text=True)
        if done.returncode:
            raise BuildFailed(f"cosign does not accept {what}: {done.stderr.strip()}")
    return "cosign has verified provenance and SHA256SUMS"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.release", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("out/release"))
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--repository", default="urn:qmkd", help="where the commit is to be had")
    parser.add_argument("--signer", type=Path, help="its socket (default: as clients look)")
    parser.add_argument("--own-signer", action="store_true", help="one of this run alone")
    arguments = parser.parse_args()
    signer = own_signer() if arguments.own_signer else SignerClient(arguments.signer)
    try:
        with tempfile.TemporaryDirectory(prefix="qmk-release-") as folder, signer as sign:
            files = release(
                sign, Path(folder), arguments.out, arguments.commit, arguments.repository
            )
        said = verified(arguments.out)
    except (BuildFailed, SignerError, AttestError) as error:
        sys.stderr.write(f"release: {error}\n")
        return 1
    for path in files:
        print(f"{path.stat().st_size:>10}  {path}")
    print(f"Built twice alike; {said}.")
    if arguments.own_signer:
        print("SIGNED BY KEYS OF THIS RUN ALONE: that proves nothing about who made it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
