"""What the core is handed because it may not fetch it: tenants, how to plan a run, what a run gave.

Plain values and pure functions only; the shell builds them once from the configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from qvm.machine import Hardware, plain
from qvm.program import Summary
from syscalls.decoding import AT_ONCE, DecoderFigures, DecoderSpeed
from syscalls.errors import ProgramTooWide
from syscalls.job import RaisedCode
from syscalls.plan import PlanRow
from syscalls.results import SHOT_BLOCK
from syscalls.rights import Right

UNLIMITED: Final = 2**53 - 1
"""The largest number that every JSON reader takes for itself."""


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """Upper bounds for one tenant.

    logical_qubits, physical_qubits: of jobs that run at the same time; more jobs wait their turn.
    jobs: live at once. queued_bytes: graphs held for live jobs, each once. result_bytes: packed
    rows of live and of kept jobs, and the counts of kept ones. checkpoint_bytes: of all that
    checkpoints keep: rows, counts, snapshots, graphs. t_states_per_minute,
    cpu_ms_per_minute: T states, and predicted CPU time, of the shots of accepted jobs.
    changes_per_minute: sessions opened, jobs accepted and capabilities given, as each leaves a
    line in the audit chain for ever.
    """

    logical_qubits: int = 4096
    physical_qubits: int = 1_000_000
    channels: int = 64
    jobs: int = 256
    queued_bytes: int = 256 << 20
    result_bytes: int = 2 << 30
    sessions: int = 64
    checkpoints: int = 64
    checkpoint_bytes: int = 1 << 30
    t_states_per_minute: int = UNLIMITED
    cpu_ms_per_minute: int = UNLIMITED
    changes_per_minute: int = 600_000


class TenantRule(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant: whose calls it makes, what it may be granted, how much it may hold.

    weight: its part of the machine beside the others', where not all have room.
    """

    name: str
    uids: frozenset[int]
    gids: frozenset[int] = frozenset()
    grantable: frozenset[Right] = frozenset(Right)
    quota: Quota = Quota()
    suspended: bool = False
    weight: int = 1


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine means to run a program.

    ns_fixed, ns_per_shot: predicted CPU nanoseconds. bytes_peak: predicted working memory.
    shots_least: shots below which a slice would mostly pay what each slice pays again.
    rows: what it comes to part by part, for whoever asks.
    """

    engine: str
    why: str
    width: int
    ns_fixed: int
    ns_per_shot: int
    bytes_peak: int
    shots_least: int = SHOT_BLOCK
    rows: tuple[PlanRow, ...] = ()


EXACT: Final = 0
"""Instead of a number of shots: exact probabilities are asked for."""

Planner = Callable[[Summary, int, str, bool], Plan | ProgramTooWide]
"""(program, shots or EXACT, noise as engines know it, whether decoder data is kept) -> plan, or the
refusal that the submitter gets. Pure and cheap."""


class Point(msgspec.Struct, frozen=True, order=True):
    """What is measured together: what one gadget, such as a memory, of a code at a distance suffers
    under a physical noise of some strength."""

    code: str
    distance: int
    noise: str
    p: float
    gadget: str = "memory"

    def __str__(self) -> str:
        what = f"{self.code} d={self.distance} under {self.noise} noise of {self.p:g}"
        return what if self.gadget == "memory" else f"{self.gadget} of {what}"


class PairError(msgspec.Struct, frozen=True):
    """What the Bell pair that a node consumes is like: chances of X, Y and Z on one half of it.

    node: index into the program's nodes, of a USE_CHAN or TELEPORT_CNOT between modules.
    """

    node: int
    x: float
    y: float
    z: float


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What the errors of a run depend on beside the name of its noise.

    decoder: of the machine. decoder_data: keep what decoders knew of each shot. table: names the
    table of points measured here; "" for none. pairs: that nodes consume, in the order of nodes.
    raised: codes that are larger than the program says.
    """

    decoder: DecoderSpeed = AT_ONCE
    decoder_data: bool = False
    table: str = ""
    pairs: tuple[PairError, ...] = ()
    raised: tuple[RaisedCode, ...] = ()


USUAL: Final = Setting()


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine and the daemon as configured. worker_bytes: memory that one worker may use.

    workers_apart: a worker process works for one tenant alone; others get a fresh one.
    durable: what is acknowledged outlives the daemon; the shell has a store and answers `Keep`.
    park_ns: a slice that runs so long parks at its next fence, where others may come first; with a
        store, a kill then loses no more than that. 0 for never.
    hardware: what it is made of; None stands for one module of `physical_qubits`.
    physical_noise: model and strength of what its physical qubits suffer, by their names in the
        calibration table. decoder: how fast each of its decoders is.
    calibrated: of each code, the distances at which logical errors under that noise are known.
    calibrated_at: the same under another noise, for when it drifts; None where only that is known.
    measurable: of each code, the largest distance that is measured here where it is not.
    calibration, table: name the calibration table that ships, and that of points measured here
        before, "" for none.
    """

    physical_qubits: int = 1_000_000
    hardware: Hardware | None = None
    physical_noise: str = "uniform 0.001"
    calibrated: dict[str, frozenset[int]] = {}
    calibrated_at: Callable[[str], dict[str, frozenset[int]]] | None = None
    decoder: DecoderSpeed = AT_ONCE
    calibration: str = ""
    table: str = ""
    measurable: dict[str, int] = {}
    workers: int = 2
    worker_bytes: int = 4 << 30
    workers_apart: bool = False
    durable: bool = False
    park_ns: int = 5_000_000_000
    tenants: tuple[TenantRule, ...] = ()
    versions: dict[str, str] = {}

    def distances(self, noise: str) -> dict[str, frozenset[int]]:
        """Of each code, the distances at which logical errors under a noise are known."""
        if noise == self.physical_noise:
            return self.calibrated
        return {} if self.calibrated_at is None else self.calibrated_at(noise)

    def described(self) -> Hardware:
        """What it is made of."""
        return self.hardware or plain(self.physical_qubits)


class Sandbox(msgspec.Struct, frozen=True):
    """How a worker is held in: what is in force, and what is not and why, by part."""

    in_force: dict[str, str]
    lacking: dict[str, str]


class SegmentReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of the shots it ran.

    first_row: event name -> value for the segment's first shot (absent events left out).
    counts: keyed as on the wire; None where not asked for, or where there are more than
        COUNTS_KEYS_MAX different rows or their keys would take more than COUNTS_CHARS_MAX.
    leaves: SHA-256 (32 bytes each) of the packed rows of every SHOT_BLOCK shots.
    cpu_ns: CPU time of the run. notes: figures of the engine, for the log.
    spent: the same time by what it went to: `read` and `compile` the program, engines by name,
        `rows` of bits that engines share, `results` made of them.
    probabilities: of each outcome, where these were asked for; then there are no rows.
    decoder: what decoders did, where syndromes were decoded. decoder_leaves: as `leaves`, of the
        rows of decoder data, where these are kept.
    """

    shots: int
    counts: dict[str, int] | None
    first_row: dict[str, int]
    leaves: bytes
    engine: str
    cpu_ns: int
    notes: dict[str, int]
    probabilities: dict[str, float] | None = None
    spent: dict[str, int] = {}
    decoder: DecoderFigures | None = None
    decoder_leaves: bytes = b""
