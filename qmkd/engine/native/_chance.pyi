from typing import Any

from numpy.typing import NDArray

Buffer = NDArray[Any]

def coins(seed: int, epoch: int, node: int, draw: int, shot_first: int, into: Buffer) -> None: ...
def words(seed: int, epoch: int, node: int, draw: int, shot_first: int, into: Buffer) -> None: ...
def coin(seed: int, epoch: int, node: int, draw: int, shot: int) -> int: ...
def gaps(chance: int, into: Buffer) -> None: ...
def strikes(
    seed: int,
    epoch: int,
    node: int,
    draw: int,
    shot_first: int,
    shots: int,
    gaps: Buffer,
    bounds: Buffer,
    hit: Buffer,
    which: Buffer,
) -> int: ...
