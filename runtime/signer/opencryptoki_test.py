"""opencryptoki 3.27: a token with ML-DSA inside, and where keys of SoftHSM2 are carried to.

Root gets it from Debian forky by `tests/tools/opencryptoki.sh unpack ROOT`, and names ROOT by
$QMK_OPENCRYPTOKI_ROOT.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.signer.algorithms import algorithm
from runtime.signer.conftest import MakeToken
from runtime.signer.keys.backup import backup
from runtime.signer.keys.store import Keys

VARIABLE = "QMK_OPENCRYPTOKI_ROOT"
CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "tests" / "tools" / "opencryptoki.sh"
ROOT = os.environ.get(VARIABLE, "")
PASSPHRASE = b"correct horse battery staple"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(ROOT, "usr/sbin/pkcsslotd").exists() or os.getuid() != 0,
        reason=f"${VARIABLE} names no folder made by `opencryptoki.sh unpack`, or this is not root",
    ),
]

INSIDE = """
import json, sys
from pathlib import Path
import PyKCS11 as P
module, folder = "/usr/lib/x86_64-linux-gnu/opencryptoki/libopencryptoki.so.0", Path(sys.argv[1])
library = P.PyKCS11Lib().load(module)
slot = library.getSlotList(tokenPresent=True)[0]
library.initToken(slot, "87654321", "qmk".ljust(32))
session = library.openSession(slot, P.CKF_SERIAL_SESSION | P.CKF_RW_SESSION)
session.login("87654321", P.CKU_SO)
session.setPin("87654321", "11223344")
session.initPin("00112233")
session.logout()
session.login("00112233")
session.setPin("00112233", "99887766")
session.logout()
session.closeSession()
(folder / "pin").write_text("99887766")
from runtime.signer.config import TokenConfig
from runtime.signer.keys.backup import restore
from runtime.signer.keys.store import Keys
from runtime.signer.providers.token import Token
keys = Keys(folder / "state", Token(TokenConfig(module, "qmk", None, str(folder / "pin"))))
made = {}
for name in ("Ed25519", "ES256", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"):
    public = keys.create(name.lower(), name)
    signature = keys.sign(name.lower(), b"message").signature
    made[name] = [public.protection, public.spki_der.hex(), signature.hex()]
done = restore(keys, (folder / "backup").read_bytes(), sys.argv[2].encode())
carried = {}
for name in done.names:
    if name in done.resident:
        keys.rotate(name, without_root=True)
    carried[name] = [keys.public(name).protection, keys.sign(name, b"message").signature.hex()]
findings = keys.custody.findings
keys.close()
print(json.dumps({"made": made, "carried": carried, "findings": findings}))
"""


def test_keys_are_made_in_opencryptoki_and_those_of_softhsm_go_on_there(
    make_token: MakeToken, tmp_path: Path
) -> None:
    first = Keys(tmp_path / "first", make_token())
    first.create("sealed", "ML-DSA-65")
    first.create("resident", "ES256")
    (tmp_path / "backup").write_bytes(backup(first, PASSPHRASE))
    (tmp_path / "inside.py").write_text(INSIDE)
    shown = {str(CHECKOUT), str(tmp_path), sys.base_prefix, sys.prefix}
    shown = {place for place in shown if not any(
        other != place and place.startswith(other + "/") for other in shown
    )}  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"],
        "SHOWN": " ".join(shown),
        "PYTHONPATH": str(CHECKOUT),
    }
    done = subprocess.run(
        [SCRIPT, "run", ROOT, sys.executable, tmp_path / "inside.py", tmp_path, PASSPHRASE],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert set(said["findings"].values()) == {None}, "it keeps all that it makes"
    for name, (protection, spki, signature) in said["made"].items():
        assert protection == "hsm", name
        row = first.chain.of(name)
        raw = algorithm(name).raw(bytes.fromhex(spki))
        assert row.verify(name, raw, b"message", bytes.fromhex(signature)), name
    assert said["carried"]["sealed"][0] == "hsm-wrapped"
    assert first.verify("sealed", b"message", bytes.fromhex(said["carried"]["sealed"][1]))
    assert said["carried"]["resident"][0] == "hsm"
    first.close()
