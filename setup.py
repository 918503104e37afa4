"""Builds the C parts; everything else is in pyproject.toml.

QMKD_NATIVE_FLAGS adds compiler flags: the tests build other vector widths with it.
"""

import os
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("qmkd/engine/native")
# Floating point must give the same bits everywhere: no fused operations, no reordering.
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-Wall", "-Wextra"]

setup(
    ext_modules=[
        Extension(
            f"qmkd.engine.native.{source.stem}",
            [str(source)],
            depends=[str(header) for header in sorted(NATIVE.glob("*.h"))],
            extra_compile_args=[*FLAGS, *os.environ.get("QMKD_NATIVE_FLAGS", "").split()],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            py_limited_api=True,
        )
        for source in sorted(NATIVE.glob("_*.c"))
    ]
)
