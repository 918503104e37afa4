"""What is generated from the ABI's types is committed as it would be generated now."""

from syscalls.derive.__main__ import ROOT, stale


def test_files_generated_from_the_abi_are_fresh() -> None:
    assert stale(ROOT) == [], "run `make regen` and commit what it writes"
