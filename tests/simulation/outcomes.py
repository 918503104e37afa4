"""What a simulated job yields: a pure function of its seed and of which shots ran.

So a slice that was lost, run twice, or merged in the wrong place shows in the job's counts or
digest, whatever the workers did. Nothing here knows the kernel.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

SHOT_BLOCK = 1024
NO_ROWS = sha256(b"").digest()
COUNTS_KEYS_MAX = 5  # the bound that the world sets; some seeds exceed it


@lru_cache(maxsize=1 << 16)
def block(seed: int, number: int, shots: int, events: int) -> tuple[bytes, tuple[int, int, int]]:
    """(leaf, shots of each of three outcomes) of one block of up to 1,024 shots."""
    digest = sha256(f"{seed} {number} {shots} {events}".encode()).digest()
    first = digest[0] * shots // 512
    second = digest[1] * shots // 512
    return digest, (first, second, shots - first - second)


def names(seed: int, number: int, events: int) -> tuple[str, str, str]:
    """The three outcomes that may occur in a block, one character per event."""
    shift = number % 3 if seed % 4 == 0 else 0  # every fourth seed has many different outcomes
    letters = ("0", "1", "-")
    return tuple(  # type: ignore[return-value]  # three of them
        "".join(letters[(i + j * shift + i * j) % 3] for j in range(events)) for i in range(3)
    )


def probabilities(events: int) -> dict[str, float]:
    """What a job for exact probabilities yields."""
    return {"0" * events: 0.25, "1" * events: 0.75} if events else {"": 1.0}


def run(
    seed: int, first: int, shots: int, events: int
) -> tuple[dict[str, int], bytes, dict[str, int]]:
    """(counts, leaves, values of the first shot) of shots [first, first + shots)."""
    assert first % SHOT_BLOCK == 0
    counts: dict[str, int] = {}
    leaves = []
    for number in range(first // SHOT_BLOCK, -(-(first + shots) // SHOT_BLOCK)):
        size = min(SHOT_BLOCK, first + shots - number * SHOT_BLOCK)
        leaf, parts = block(seed, number, size, events)
        leaves.append(leaf)
        for name, part in zip(names(seed, number, events), parts, strict=True):
            if part:
                counts[name] = counts.get(name, 0) + part
    row = {f"m{j}": (seed >> j) % 2 for j in range(events) if first == 0}
    return counts, b"".join(leaves), row
