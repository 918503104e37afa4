from typing import Any

from numpy.typing import NDArray

Buffer = NDArray[Any]

def pack(
    rows: Buffer, row_words: int, which: Buffer, shots: int, into: Buffer, stride: int, column: int
) -> None: ...
def count(packed: Buffer, size: int, first: Buffer, number: Buffer, slots: Buffer) -> int: ...
