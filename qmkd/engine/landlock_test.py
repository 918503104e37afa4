"""What each version of Landlock lets a process give up; that it is refused is in tests/security."""

from __future__ import annotations

import pytest

from qmkd.engine import landlock


@pytest.mark.parametrize(
    ("version", "files", "network", "reach"),
    [
        (0, 0, 0, 0),
        (1, 13, 0, 0),
        (2, 14, 0, 0),
        (3, 15, 0, 0),
        (4, 15, 2, 0),
        (5, 16, 2, 0),
        (6, 16, 2, 2),
        (8, 16, 2, 2),
        (9, 17, 2, 2),
        (10, 17, 4, 2),
        (99, 17, 4, 2),
    ],
)
def test_a_version_knows_so_many_kinds_the_lowest_bits_first(
    version: int, files: int, network: int, reach: int
) -> None:
    """Counted in the kernel's "Landlock: unprivileged access control"."""
    assert landlock.handled(version) == ((1 << files) - 1, (1 << network) - 1, (1 << reach) - 1)


def test_without_landlock_nothing_is_restricted_and_why_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(landlock.NoLandlock, match="has no Landlock"):
        landlock.restrict(())
