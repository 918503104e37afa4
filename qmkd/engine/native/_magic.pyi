from typing import Any

from numpy.typing import NDArray

Buffer = NDArray[Any]

def turn(psi: Buffer, width: int, x: int, z: int, angles: Buffer, /) -> None: ...
def grow(
    psi: Buffer, width: int, y: int, sources: Buffer, angles: Buffer, into: Buffer, /
) -> None: ...
def weigh(psi: Buffer, width: int, x: int, z: int, into: Buffer, /) -> None: ...
def fold(
    psi: Buffer,
    width: int,
    x: int,
    z: int,
    minus: int,
    pivot: int,
    mode: int,
    after_x: int,
    after_z: int,
    sources: Buffer,
    outcomes: Buffer,
    factors: Buffer,
    into: Buffer,
    /,
) -> None: ...
