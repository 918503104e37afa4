"""Results of completed jobs: counts, the events of every shot, and ways to look at them.

Packed rows are laid out as `syscalls.results` says. They are fetched when first asked for, checked
against their layout and their digest, and never copied where they came as a file descriptor.
NumPy is loaded here and nowhere else in the client.
"""

from __future__ import annotations

import base64
import html
import mmap
import os
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from runtime.client.errors import ResultsCorrupt, ResultsUnavailable
from syscalls.ids import JobId
from syscalls.job import ExecutionContext, JobState, JobStatus, JobTelemetry
from syscalls.results import (
    EVENT_BITS_MAX,
    SHOT_BLOCK,
    EventField,
    ResultsReply,
    row_bytes,
    values_bytes,
)

if TYPE_CHECKING:
    from rich.table import Table

ABSENT = 255  # in `samples`: the measurement did not run in that shot
ROWS_SHOWN_MAX = 16  # outcomes in a printed table; the rest is summed up
REPR_OUTCOMES_MAX = 6
BAR_CHARS = 24

assert ABSENT >= 1 << EVENT_BITS_MAX, "an absent event is no value of an event"

COLUMN_TYPES = frozenset({"<u2", "<u4", "<f4"})  # of decoder data

Bytes = NDArray[np.uint8]
DecoderData = NDArray[np.void]
"""What decoders knew of each shot: records, shape (shots,), as `syscalls.decoding.SHOT_COLUMNS`."""


class Packed(Struct, frozen=True, kw_only=True):
    """The packed rows of a job, checked. rows: uint8, shape (shots, row_bytes), read-only."""

    order: list[EventField]
    values_bytes: int
    rows: Bytes

    def unpack(self) -> Bytes:
        """uint8, shape (shots, events): 0 or 1, 0 to 3 for a two-bit event, ABSENT if not run."""
        widths = np.array([event.bits for event in self.order], dtype=np.intp)
        first = np.cumsum(widths) - widths
        bits = _bits(self.rows[:, : self.values_bytes], int(widths.sum()))
        samples = bits[:, first]
        wide = np.flatnonzero(widths == EVENT_BITS_MAX)
        samples[:, wide] |= bits[:, first[wide] + 1] << 1
        ran = _bits(self.rows[:, self.values_bytes :], len(self.order))
        samples[ran == 0] = ABSENT
        return samples

    def counts(self) -> dict[str, int]:
        """Shots per outcome, keyed as on the wire, sorted by key."""
        if self.rows.shape[1] == 0:
            return {"": len(self.rows)}
        rows, shots = np.unique(self.rows, axis=0, return_counts=True)
        distinct = Packed(order=self.order, values_bytes=self.values_bytes, rows=rows)
        letters = np.frombuffer(b"0123" + b"?" * (ABSENT - 4) + b"-", dtype=np.uint8)
        keys = [bytes(row).decode() for row in letters[distinct.unpack()]]
        return dict(sorted(zip(keys, shots.tolist(), strict=True)))


def _bits(part: Bytes, number: int) -> Bytes:
    return np.unpackbits(part, axis=1, count=number, bitorder="little")


def results_digest(rows: bytes | memoryview, width: int) -> str:
    """Name packed rows of `width` bytes: SHA-256, in hex, of the leaves' SHA-256 digests.

    A leaf is SHOT_BLOCK consecutive rows; the last one may be shorter. Empty rows have no leaves.
    """
    view = memoryview(rows)
    step = SHOT_BLOCK * width
    if step == 0:
        return sha256(b"").hexdigest()
    leaves = (sha256(view[at : at + step]).digest() for at in range(0, len(view), step))
    return sha256(b"".join(leaves)).hexdigest()


def read_packed(reply: ResultsReply, fd: int | None) -> Packed:
    """Take packed rows out of an answer, or out of the memory file that came with it.

    Owns `fd` and closes it. Raises ResultsCorrupt where layout, size or digest do not fit.
    """
    try:
        if reply.values_bytes != values_bytes(reply.order) or (
            reply.row_bytes != row_bytes(reply.order)
        ):
            raise ResultsCorrupt("The layout of the results contradicts itself.")
        raw = _checked(reply, fd)
    finally:
        if fd is not None:
            os.close(fd)
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(reply.shots, reply.row_bytes)
    return Packed(order=reply.order, values_bytes=reply.values_bytes, rows=rows)


def read_decoder_data(reply: ResultsReply, fd: int | None) -> DecoderData:
    """Take decoder data out of an answer, or out of the memory file that came with it.

    Owns `fd` and closes it. Raises ResultsCorrupt where layout, size or digest do not fit.
    """
    try:
        types = [column.type for column in reply.columns]
        if not set(types) <= COLUMN_TYPES:
            raise ResultsCorrupt(f"Decoder data has columns of unknown types: {types}.")
        kind = np.dtype([(column.name, column.type) for column in reply.columns])
        if not types or kind.itemsize != reply.row_bytes:
            raise ResultsCorrupt("The layout of the decoder data contradicts itself.")
        raw = _checked(reply, fd)
    finally:
        if fd is not None:
            os.close(fd)
    return np.frombuffer(raw, dtype=kind)


def _checked(reply: ResultsReply, fd: int | None) -> memoryview:
    """The bytes of all rows. Raises ResultsCorrupt where size or digest do not fit."""
    size = reply.shots * reply.row_bytes
    raw = _inline(reply.data) if fd is None else _mapped(fd, size)
    if len(raw) != size:
        raise ResultsCorrupt(f"The results have {len(raw)} bytes, {size} were announced.")
    if results_digest(raw, reply.row_bytes) != reply.digest:
        raise ResultsCorrupt("The results do not match their digest.")
    return raw


def _inline(data: str | None) -> memoryview:
    if data is None:
        raise ResultsCorrupt("The answer holds no rows.")
    try:
        return memoryview(base64.b64decode(data, validate=True))
    except ValueError as error:
        raise ResultsCorrupt(f"The rows are not base64: {error}.") from error


def _mapped(fd: int, size: int) -> memoryview:
    """The first `size` bytes of the file, mapped read-only; what is shorter is not mapped."""
    if size == 0 or os.fstat(fd).st_size != size:
        return memoryview(bytes(0 if size == 0 else os.fstat(fd).st_size))
    # Private: before Linux 6.7 a write-sealed memfd could not be mapped shared at all.
    return memoryview(mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))


class Result:
    """A completed job's results.

    counts: shots per outcome, one character per event, `-` where its measurement did not run.
    probabilities: of each outcome, keyed likewise, where the job was to work these out; it then has
    no counts and no samples.
    events: shot 0. samples: uint8, shape (shots, events), ABSENT (255) where not run.
    samples_packed: uint8, shape (shots, row_bytes), as `syscalls.results` lays it out.

    decoder_data: where the policy asked for it, what decoders knew of each shot: records,
    read-only, shape (shots,), with the fields gap, weight, flips and undecoded.

    The samples and the decoder data are fetched when first used, while the client is still open.
    """

    def __init__(
        self,
        status: JobStatus,
        fetch: Callable[[], Packed],
        fetch_data: Callable[[], DecoderData] | None = None,
    ) -> None:
        assert status.state is JobState.COMPLETED, "only a completed job has results"
        self.status = status
        self._fetch = fetch
        self._fetch_data = fetch_data or no_longer
        self._data: DecoderData | None = None
        self._packed: Packed | None = None
        self._samples: Bytes | None = None
        self._counts = status.counts

    @property
    def job_id(self) -> JobId:
        return self.status.job_id

    @property
    def shots(self) -> int:
        return self.status.progress.shots_total

    @property
    def seed(self) -> int:
        """The seed with which the same bits come again."""
        return self.execution_context.seed

    @property
    def counts(self) -> dict[str, int]:
        """As the kernel counted; where it left counting out, counted here from the samples.

        Raises ResultsUnavailable where there are probabilities instead.
        """
        if self._counts is None:
            self._counts = self.packed.counts()
        return self._counts

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Exact, and they sum to 1 up to rounding; None where shots were run."""
        return self.status.probabilities

    @property
    def events(self) -> dict[str, int]:
        return self.status.events

    @property
    def telemetry(self) -> JobTelemetry:
        return self.status.telemetry

    @property
    def execution_context(self) -> ExecutionContext:
        """Engine, seed, digests and versions: all that is needed to get the same bits again."""
        assert self.status.execution_context is not None, "a completed job says how it ran"
        return self.status.execution_context

    @property
    def packed(self) -> Packed:
        """The packed rows with their layout; raises ResultsUnavailable once the session is over."""
        if self.probabilities is not None:
            raise ResultsUnavailable("This job ran no shots: see its `.probabilities`.")
        if self._packed is None:
            self._packed = self._fetch()
        return self._packed

    @property
    def samples_packed(self) -> Bytes:
        return self.packed.rows

    @property
    def samples(self) -> Bytes:
        if self._samples is None:
            self._samples = self.packed.unpack()
        return self._samples

    @property
    def decoder_data(self) -> DecoderData:
        """Raises Refused where the job has none, ResultsUnavailable once the session is over."""
        if self._data is None:
            self._data = self._fetch_data()
        return self._data

    @property
    def event_names(self) -> list[str]:
        """The events in the order of the columns of `samples`."""
        return [event.name for event in self.packed.order]

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw counts or probabilities into a picture file; the ending of `path` says which kind.

        Raises PlottingUnavailable without matplotlib.
        """
        from runtime.client.plot import draw_bars

        measure = "shots" if self.probabilities is None else "probability"
        draw_bars(self._sizes(), Path(path), title=f"{self.job_id}, {self._title()}", of=measure)

    def __repr__(self) -> str:
        what = "exact" if self.probabilities is not None else f"shots={self.shots}"
        if self.probabilities is None and self._counts is None:
            return f"Result({self.job_id}, {what})"
        sizes = self._sizes()
        head = dict(_by_size(sizes)[:REPR_OUTCOMES_MAX])
        left = len(sizes) - len(head)
        more = f", and {left} more outcomes" if left else ""
        return f"Result({self.job_id}, {what}, {head}{more})"

    def __rich__(self) -> Table:
        from rich.table import Table

        title = self._title()
        table = Table(title=title, title_justify="left", min_width=len(title))
        table.add_column("outcome", no_wrap=False, overflow="fold")
        for name in self._columns():
            table.add_column(name, justify="right")
        table.add_column("")
        for outcome, figures, share in self._rows():
            table.add_row(outcome, *figures, "█" * round(share * BAR_CHARS))
        return table

    def _repr_html_(self) -> str:
        heads = "".join(f"<th>{name}</th>" for name in ("outcome", *self._columns()))
        rows = "".join(
            f"<tr><td><code>{html.escape(outcome)}</code></td>"
            + "".join(f"<td>{figure}</td>" for figure in figures)
            + "</tr>"
            for outcome, figures, _ in self._rows()
        )
        return (
            f"<table><caption>{html.escape(self.job_id)}: {self._title()}</caption>"
            f"<tr>{heads}</tr>{rows}</table>"
        )

    def _title(self) -> str:
        if self.probabilities is not None:
            return "exact probabilities"
        return f"{self.shots} shots, seed {self.seed}"

    def _columns(self) -> tuple[str, ...]:
        return ("shots", "share") if self.probabilities is None else ("probability",)

    def _sizes(self) -> Mapping[str, float]:
        """Of each outcome what there is of it: shots, or probability."""
        return self.counts if self.probabilities is None else self.probabilities

    def _rows(self) -> list[tuple[str, tuple[str, ...], float]]:
        """Outcome, figures and share, the largest first; beyond a bound they are summed up."""
        sizes = self._sizes()
        total = sum(sizes.values())
        ranked = [(key or "(no events)", size) for key, size in _by_size(sizes)]
        if rest := ranked[ROWS_SHOWN_MAX:]:
            left = sum(size for _, size in rest)
            ranked[ROWS_SHOWN_MAX:] = [(f"{len(rest)} other outcomes", left)]
        exact = self.probabilities is not None
        return [
            (key, (f"{size:.9f}",) if exact else (str(size), f"{size / total:.4f}"), size / total)
            for key, size in ranked
        ]


def _by_size(sizes: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))


def no_longer() -> NoReturn:
    """Stands in for fetching, once there is no session to fetch through."""
    raise ResultsUnavailable(
        "The samples were not fetched while the session was open. Use `.samples` inside the `with` "
        "block, or fetch them at once with `wait(samples=True)`."
    )
