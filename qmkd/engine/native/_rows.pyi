from typing import Any

from numpy.typing import NDArray

Buffer = NDArray[Any]

def run(
    code: Buffer,
    rows: Buffer,
    row_words: int,
    addresses: Buffer,
    noises: Buffer,
    gaps: Buffer,
    bounds: Buffer,
    pool: Buffer,
    seed: int,
    shot_first: int,
    at: int,
    end: int,
) -> None: ...
