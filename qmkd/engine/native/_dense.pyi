from typing import Any

from numpy.typing import NDArray

Buffer = NDArray[Any]

def run(
    psi: Buffer,
    width: int,
    gates: Buffer,
    matrices: Buffer,
    tile: Buffer,
    patterns: Buffer,
) -> None: ...
def weights(psi: Buffer, width: int, qubit: int, into: Buffer) -> None: ...
def project(
    psi: Buffer,
    width: int,
    qubit: int,
    mode: int,
    sources: Buffer,
    outcomes: Buffer,
    factors: Buffer,
    into: Buffer,
) -> None: ...
def prints(psi: Buffer, width: int, into: Buffer) -> None: ...
def join(psi: Buffer, width: int, order: Buffer, prints: Buffer, same: Buffer) -> None: ...
