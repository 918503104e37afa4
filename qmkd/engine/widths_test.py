"""Reference runs on other builds: C parts of other widths, NumPy's plainest code, other Stims.

By default the loader picks the widest code that the processor has; a build of one width has no
choice. Each is built into a folder of its own, and used by a process of its own.

Stim's wheels hold 128-bit words on x86 however they are asked. One of 64 bits is built from its
source distribution in half an hour, in an environment with setuptools and pybind11 2.11:

    sed -i "s/arch_basic = \\[\\]/arch_basic = ['-U__SSE2__']/" setup.py
    python -c "import platform; platform.processor = lambda: ''; exec(open('setup.py').read())" \\
        build --build-lib /tmp/stim64

(GCC 12 with -O1 makes one of 64 bits that never measures 1, so leave -O3 as it stands there),
and QMKD_OTHER_STIM=/tmp/stim64 has it compared here.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest

from qmkd.engine.digests import Reference, complaint, stored

ROOT: Final = Path(__file__).parents[2]
NATIVE: Final = Path(__file__).parent / "native"
OTHER_STIM: Final = "QMKD_OTHER_STIM"
X86: Final = platform.machine() in ("x86_64", "AMD64")
PLAIN: Final = "-DQMKD_ONE_WIDTH -O2 -fno-tree-vectorize -fno-tree-slp-vectorize"
WIDTHS: Final = {
    "64 bits": PLAIN + (" -mno-avx" if X86 else ""),
    "128 bits": "-DQMKD_ONE_WIDTH" + (" -msse2 -mno-avx" if X86 else ""),
    "256 bits": "-DQMKD_ONE_WIDTH -mavx2",
}

# Arguments: where every C part has to come from; where Stim has to come from, or nothing; and up to
# how many shots a run is repeated on Stim's tableaus.
SCRIPT: Final = """
import sys
from pathlib import Path
built, other, shots = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sys.path[:0] = [other] if other else []
import msgspec, stim
import qmkd.engine.native as native
native.__path__[:] = [str(built)]
from qmkd.engine import digests, engines, run
reference = digests.computed()
for one in digests.runs():
    if one.shots <= shots and run.prepare(one.graph).summary.clifford:
        assert digests.digests(one, engines.TABLEAU) == reference.runs[one.name], one.name
used = [module for name, module in sys.modules.items() if name.startswith(native.__name__ + "._")]
assert used and all(Path(module.__file__).parent == built for module in used), used
assert stim.__file__.startswith(other), stim.__file__
sys.stdout.buffer.write(msgspec.json.encode(reference))
"""


def check(built: Path, other_stim: str = "", shots: int = 0, **environment: str) -> None:
    """Run the reference runs in a process of their own, and compare."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(built), other_stim, str(shots)],
        cwd=ROOT, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    wrong = complaint(stored(), msgspec.json.decode(done.stdout, type=Reference))
    assert wrong is None, wrong


def processor_has(feature: str) -> bool:
    """As far as Linux tells."""
    about = Path("/proc/cpuinfo")
    return about.exists() and f" {feature} " in about.read_text(encoding="ascii")


@pytest.mark.parametrize(
    "width", ["64 bits", *(pytest.param(each, marks=pytest.mark.slow) for each in list(WIDTHS)[1:])]
)
def test_builds_of_other_widths_give_the_same_bits(width: str, tmp_path: Path) -> None:
    if width == "256 bits" and not (X86 and processor_has("avx2")):
        pytest.skip("this processor has no AVX2")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--force", "--build-lib",
         str(tmp_path / "lib"), "--build-temp", str(tmp_path / "objects")],
        cwd=ROOT, env={**os.environ, "QMKD_NATIVE_FLAGS": WIDTHS[width]}, check=True,
    )  # fmt: skip
    check(tmp_path / "lib" / "qmkd" / "engine" / "native")


def test_numpy_without_its_vector_code_gives_the_same_bits() -> None:
    config = np.show_config(mode="dicts")
    assert config is not None
    found = config["SIMD Extensions"].get("found", [])
    check(NATIVE, NPY_DISABLE_CPU_FEATURES=" ".join(found))


@pytest.mark.slow
def test_another_build_of_stim_gives_the_same_bits() -> None:
    if OTHER_STIM not in os.environ:
        pytest.skip(f"{OTHER_STIM} names no folder with a Stim; the top of this file has a recipe")
    check(NATIVE, os.environ[OTHER_STIM], shots=150)
