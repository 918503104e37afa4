from typing import Any

from numpy.typing import NDArray

Buffer = NDArray[Any]

def draw(
    seed: int,
    epoch: int,
    node: int,
    draw: int,
    shot_first: int,
    full: Buffer,
    where: Buffer,
    flipped: Buffer,
    of: Buffer,
    chances: Buffer,
    outcomes: Buffer,
    vectors: Buffer,
) -> None: ...
def count(of: Buffer, row: Buffer, into: Buffer) -> None: ...
def move(of: Buffer, row: Buffer, to: Buffer) -> None: ...
def relabel(of: Buffer, to: Buffer) -> None: ...
def differ(of: Buffer, full: Buffer, where: Buffer, done: Buffer, into: Buffer) -> None: ...
