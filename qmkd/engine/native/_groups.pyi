from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

Buffer = NDArray[Any]
Poll = Callable[[], None]

def begin(
    qubits: int, count: int, tableaus: Buffer, groups: Buffer, frames: Buffer, rows: Buffer, /
) -> None: ...
def run(
    qubits: int,
    count: int,
    tableaus: Buffer,
    groups: Buffer,
    frames: Buffer,
    rows: Buffer,
    code: Buffer,
    noises: Buffer,
    gaps: Buffer,
    bounds: Buffer,
    pool: Buffer,
    paulis: Buffer,
    addresses: Buffer,
    seed: int,
    shot_first: int,
    poll: Poll,
    /,
) -> None: ...
def measure(
    qubits: int,
    count: int,
    tableaus: Buffer,
    groups: Buffer,
    frames: Buffer,
    rows: Buffer,
    paulis: Buffer,
    what: Buffer,
    addresses: Buffer,
    seed: int,
    shot_first: int,
    poll: Poll,
    /,
) -> int: ...
def turn(
    qubits: int,
    count: int,
    tableaus: Buffer,
    groups: Buffer,
    frames: Buffer,
    rows: Buffer,
    paulis: Buffer,
    minus: int,
    where: int,
    /,
) -> int: ...
def last(
    qubits: int,
    count: int,
    tableaus: Buffer,
    groups: Buffer,
    frames: Buffer,
    rows: Buffer,
    paulis: Buffer,
    into: Buffer,
    addresses: Buffer,
    seed: int,
    shot_first: int,
    poll: Poll,
    /,
) -> int: ...
def hashes(
    qubits: int,
    count: int,
    tableaus: Buffer,
    groups: Buffer,
    frames: Buffer,
    rows: Buffer,
    which: Buffer,
    into: Buffer,
    poll: Poll,
    /,
) -> None: ...
def merge(
    qubits: int,
    count: int,
    tableaus: Buffer,
    groups: Buffer,
    frames: Buffer,
    rows: Buffer,
    firsts: Buffer,
    poll: Poll,
    /,
) -> int: ...
def unslice(
    qubits: int,
    count: int,
    tableaus: Buffer,
    groups: Buffer,
    frames: Buffer,
    rows: Buffer,
    groups_at_large: Buffer,
    frames_at_large: Buffer,
    /,
) -> None: ...
