"""A run as a value: everything that shots under way hold at a fence, in bytes and back.

A snapshot holds what decides the rest of the run: the events so far, the state of every part, and
the address of all chance to come, which is the seed and the shots, for no generator has a position.
It names the program by its digest and all versions on which its inner form depends; what was taken
under other versions is refused, never guessed at. Compressed, and sealed by a SHA-256.

At a fence nothing is half done: no guard is open, and Paulis that are still to be applied are in
the frames. What is left of a slice of shots holds besides, as `Before`, the rows of its first
SHOT_BLOCK that are done; where the next shots have not begun, it holds nothing else.

A snapshot that is to be moved may carry a proof: a digest of the state that does not depend on how
it is written down. For one shot it is that of the canonical stabilizers with their signs (Garcia,
Markov and Cross, arXiv:1210.6646, section 3: the reduced form is unique); whoever resumes the
snapshot computes it anew and compares.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import stim

from qmkd.engine import engines, tableau
from qmkd.engine.batch import Batch
from qmkd.engine.chance import VERSION, Chance
from qmkd.engine.layout import Packed, packed_row_bytes
from qmkd.engine.limits import SNAPSHOT_BYTES_MAX
from qmkd.engine.noise import Figures, NoiseModel, figures_in
from qmkd.engine.prepared import Poll, Prepared, Stop, Unable
from qmkd.engine.shot_data import ShotData, data_of, rows_of

SCHEMA: Final = 2
MAGIC: Final = b"qmkdsnap"
COMPRESSION: Final = 1  # of zlib: most of what there is to gain, at 100 MB/s
BODY_BYTES_MAX: Final = 1 << 31
REST_BODY_BYTES_MAX: Final = 256 << 20  # before it is compressed, which takes seconds then
NOT_BEGUN: Final = -1
SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

VERSIONS: Final = {"chance": str(VERSION), "numpy": np.__version__, "stim": stim.__version__}


class TooLarge(Exception):
    """A snapshot would be larger than is kept."""


class Unfit(Exception):
    """The snapshot cannot be continued here; the sentence says why."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself.

    program: digest of the graph. noise: the model's own description. epoch: of the fence, which
    has been passed, NOT_BEGUN where there are no shots. shots: [shot_first, shot_first + shots).
    """

    schema: int
    versions: dict[str, str]
    program: str
    engine: str
    noise: str
    seed: int
    shot_first: int
    shots: int
    epoch: int
    proof: str = ""


_ILL_FORMED: Final = (
    msgspec.MsgspecError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What reading bytes raises that no `seal` made, but somebody who knows how it is done."""


class Before(NamedTuple):
    """Shots that are done. data: what decoders knew of them, where that is kept."""

    packed: Packed
    data: ShotData | None
    figures: Figures


class _Whole(msgspec.Struct, frozen=True):
    head: Head
    body: dict[str, Any]


Run = Batch | tableau.Shot


def begin(
    program: Prepared,
    engine: str,
    noise: NoiseModel,
    seed: int,
    shot_first: int,
    shots: int,
    stop: Stop = lambda: False,
) -> Run:
    """Shots that have not begun. Raises `Unable` as `engines.compiler` does."""
    chance, poll = Chance(seed), Poll(stop)
    if engine == engines.TABLEAU:
        assert shots == 1, "a tableau runs one shot"
        form = program.form(tableau.compiled, noise, stop)
        return tableau.Shot(program, form, chance, shot_first, poll)
    batched = program.form(engines.compiler(engine), noise, stop)
    return Batch(batched, chance, shot_first, shots, poll)


def run_to_fence(run: Run, epoch: int) -> None:
    """Go on until the fence that ends `epoch` is passed, or to the end where there is none."""
    ends = run.form.fences
    run.run(ends[epoch] if epoch < len(ends) else None)


def take(program: Prepared, engine: str, noise: NoiseModel, run: Run, prove: bool = False) -> bytes:
    """The snapshot of a run that stands at a fence. prove: with a digest of the state itself.

    Takes O(qubits^3) for the proof of one shot; many shots are proved by the bits that hold them.
    """
    assert run.done in run.form.fences, "state is a value at fences only"
    head = Head(
        schema=SCHEMA,
        versions=VERSIONS,
        program=program.lowered.digest,
        engine=engine,
        noise=repr(noise),
        seed=run.chance.seed,
        shot_first=run.shot_first,
        shots=run.shots,
        epoch=run.form.fences.index(run.done),
        proof=proof(run) if prove else "",
    )
    return seal(head, run.save())


def take_rest(
    program: Prepared,
    engine: str,
    noise: NoiseModel,
    seed: int,
    before: Before,
    shot_first: int,
    run: Run | None,
    bytes_max: int = SNAPSHOT_BYTES_MAX,
) -> bytes:
    """The snapshot of what is left of a slice: shots before `shot_first` that are done and nowhere
    else, and the run that stands at a fence, if one does. Raises `TooLarge`."""
    assert run is None or run.done in run.form.fences, "state is a value at fences only"
    head = Head(
        schema=SCHEMA,
        versions=VERSIONS,
        program=program.lowered.digest,
        engine=engine,
        noise=repr(noise),
        seed=seed,
        shot_first=shot_first,
        shots=0 if run is None else run.shots,
        epoch=NOT_BEGUN if run is None else run.form.fences.index(run.done),
    )
    body = {
        "packed": before.packed,
        "data": None if before.data is None else rows_of(before.data),
        "figures": before.figures,
        "run": None if run is None else run.save(),
    }
    if _array_bytes(body) > REST_BODY_BYTES_MAX:
        raise TooLarge
    sealed = seal(head, body)
    if len(sealed) > bytes_max:
        raise TooLarge
    return sealed


def resume(
    program: Prepared, noise: NoiseModel, snapshot: bytes, stop: Stop = lambda: False
) -> Run:
    """The run, as it stood. Raises `Unfit` where it is not of this program, noise and build."""
    head, body = unseal(snapshot)
    _check(head, program, noise)
    return _begun(head, body, program, noise, stop)


def resume_rest(
    program: Prepared,
    engine: str,
    noise: NoiseModel,
    seed: int,
    shot_first: int,
    shots: int,
    snapshot: bytes,
    stop: Stop = lambda: False,
) -> tuple[Before, Run | None]:
    """What `take_rest` was given, if that is left of shots [shot_first, shot_first + shots).

    Raises `Unfit` as `resume` does.
    """
    head, body = unseal(snapshot)
    _check(head, program, noise)
    if (head.engine, head.seed) != (engine, seed):
        raise Unfit(f"it is of {head.engine} with seed {head.seed}, not of {engine} with {seed}")
    done = head.shot_first - shot_first
    if not (done >= 0 and 0 <= head.shots <= shots - done):
        raise Unfit(f"it is of other shots: {head.shots} from {head.shot_first}")
    row_bytes = packed_row_bytes(program.lowered.events)
    try:
        packed, data, figures = body["packed"], body["data"], figures_in(body["figures"])
        if packed.dtype != np.uint8 or packed.shape != (done, row_bytes):
            raise Unfit(f"it does not hold {done} rows of {row_bytes} bytes")
        before = Before(packed, None if data is None else data_of(data, done), figures)
        rest = body["run"]
    except _ILL_FORMED as error:
        raise Unfit(f"what it holds is no rest of a slice: {error}") from error
    if head.epoch == NOT_BEGUN:
        return before, None
    return before, _begun(head, rest, program, noise, stop)


def _check(head: Head, program: Prepared, noise: NoiseModel) -> None:
    for what, here, there in (
        ("program", program.lowered.digest, head.program),
        ("noise", repr(noise), head.noise),
    ):
        if here != there:
            raise Unfit(f"it is of another {what}: {there}, not {here}")


def _begun(
    head: Head, body: dict[str, Any], program: Prepared, noise: NoiseModel, stop: Stop
) -> Run:
    """The run of which a snapshot holds the state."""
    try:
        run = begin(program, head.engine, noise, head.seed, head.shot_first, head.shots, stop)
    except (Unable, *_ILL_FORMED) as error:
        raise Unfit(f"no such run can begin here: {error}") from error
    if not 0 <= head.epoch < len(run.form.fences):
        raise Unfit(f"the program has no fence at the end of epoch {head.epoch}")
    try:
        run.load(body)
    except _ILL_FORMED as error:
        raise Unfit(f"what it holds is no state of this program: {error}") from error
    run.done = run.form.fences[head.epoch]
    run.poll.epoch = head.epoch + 1
    if head.proof and proof(run) != head.proof:
        raise Unfit(f"the state is another: {proof(run)}, not {head.proof}")
    return run


def proof(run: Run) -> str:
    """`stabilizers:` or `bits:` and the SHA-256 of what a run holds besides its events."""
    if isinstance(run, tableau.Shot):
        lines = "\n".join(str(each) for each in run.sim.canonical_stabilizers())
        return "stabilizers:" + hashlib.sha256(lines.encode()).hexdigest()
    held = msgspec.msgpack.encode(run.save(), enc_hook=_array_out)
    return "bits:" + hashlib.sha256(held).hexdigest()


def finish(run: Run) -> Packed:
    """The packed rows of all its shots, once the rest has been run."""
    run.run()
    return run.packed()


# --- bytes ----------------------------------------------------------------------------------------


def seal(head: Head, body: dict[str, Any]) -> bytes:
    """MAGIC, SHA-256 of what follows, compressed MessagePack."""
    whole = msgspec.msgpack.encode(_Whole(head, body), enc_hook=_array_out)
    packed = zlib.compress(whole, COMPRESSION)
    return MAGIC + hashlib.sha256(packed).digest() + packed


def unseal(snapshot: bytes) -> tuple[Head, dict[str, Any]]:
    """The inverse of `seal`. Raises `Unfit` where it is damaged or of another version."""
    digest, packed = snapshot[8:40], snapshot[40:]
    if snapshot[:8] != MAGIC:
        raise Unfit("it is no snapshot")
    if hashlib.sha256(packed).digest() != digest:
        raise Unfit("it is damaged: its digest is another")
    unpacking = zlib.decompressobj()
    try:
        raw = unpacking.decompress(packed, BODY_BYTES_MAX)
    except zlib.error as error:
        raise Unfit(f"it is damaged: {error}") from error
    if unpacking.unconsumed_tail:
        raise Unfit(f"it holds more than {BODY_BYTES_MAX} bytes")
    if not unpacking.eof:
        raise Unfit("it is damaged: its end is missing")
    try:
        whole = msgspec.msgpack.decode(raw, type=_Whole, ext_hook=_array_in)
    except _ILL_FORMED as error:
        raise Unfit(f"it is of another form: {error}") from error
    if whole.head.schema != SCHEMA:
        raise Unfit(f"it is of schema {whole.head.schema}; this build has {SCHEMA}")
    for name, version in VERSIONS.items():
        if whole.head.versions.get(name) != version:
            there = whole.head.versions.get(name)
            raise Unfit(f"it was taken with {name} {there}; this build has {version}")
    return whole.head, whole.body


def in_memory(sealed: bytes) -> int:
    """A descriptor of a memory file that holds it and never changes. Raises OSError."""
    fd = os.memfd_create("qmk-snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(sealed)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def _array_bytes(value: object) -> int:
    """Of all arrays in it."""
    if isinstance(value, dict):
        return sum(map(_array_bytes, value.values()))
    if isinstance(value, list):
        return sum(map(_array_bytes, value))
    return value.nbytes if isinstance(value, np.ndarray) else 0


_ARRAY: Final = 1
_pack: Final[Callable[[Any], bytes]] = msgspec.msgpack.Encoder().encode


def _array_out(value: object) -> Any:
    if isinstance(value, np.ndarray):
        wide = np.ascontiguousarray(value)
        little = wide.astype(wide.dtype.newbyteorder("<"), copy=False)
        fields = (little.dtype.str, list(little.shape), little.tobytes())
        return msgspec.msgpack.Ext(_ARRAY, _pack(fields))
    if isinstance(value, np.integer):
        return int(value)
    raise TypeError(f"no state is made of {type(value).__name__}")


def _array_in(code: int, data: memoryview) -> Any:
    if code != _ARRAY:
        raise ValueError(f"extension {code}")
    kind, shape, raw = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], bytes])
    return np.frombuffer(raw, dtype=np.dtype(kind)).reshape(shape).copy()
