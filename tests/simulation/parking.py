"""What stands at a fence in the simulated world: how workers park, and what the shell then holds.

A snapshot here is its own digest, and that says which shots of which seed it is of, and where they
stand. So one that comes to the wrong shots, or is gone while somebody needs it, is found at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.ports import SegmentReport
from qmkd.core.records import SnapshotRow
from qvm.program import VerifiedProgram
from tests.simulation import cast
from tests.simulation.disk import Disk

SHOT_BLOCK = 1024
SIZE = 100  # of each snapshot, in bytes


def address(seed: int, first: int, shots: int, epoch: int) -> bytes:
    """What a snapshot of these shots holds."""
    return f"{seed} {first} {shots} {epoch}".encode()


def parked(
    rng: random.Random,
    unit: fx.RunSegment,
    report: Callable[[fx.RunSegment], SegmentReport],
    stood: int,
) -> ev.SegmentParked | None:
    """Some whole blocks are done, and the next may stand at a fence; None where it goes on.

    stood: the epoch at which its first shots stood; it gets further, or goes on.
    """
    program = cast.verified(unit.graph)
    assert isinstance(program, VerifiedProgram)
    blocks = rng.randint(0, (unit.shots - 1) // SHOT_BLOCK)
    epochs = program.summary.epochs
    done = blocks * SHOT_BLOCK
    first = 1 if done else stood + 1
    if unit.engine == cast.EXACT or not (done or first < epochs):
        return None
    said = report(msgspec.structs.replace(unit, shots=done)) if done else None
    if epochs == 1 or (done and rng.random() < 0.3):
        return ev.SegmentParked(unit.worker, unit.ticket, said)  # too large, or between batches
    epoch = rng.randint(first, epochs - 1)
    digest = address(unit.seed, unit.shot_first + done, unit.shots - done, epoch)
    return ev.SegmentParked(unit.worker, unit.ticket, said, epoch, SIZE, digest)


class Snapshots:
    """Those in memory, by ticket; those of an earlier life are on the disk."""

    def __init__(self, disk: Disk | None) -> None:
        self.disk = disk
        self.held: dict[int, bytes] = {}

    def hold(self, event: ev.SegmentParked) -> None:
        """A worker has made one."""
        if event.size:
            assert event.ticket not in self.held
            self.held[event.ticket] = event.digest

    def find(self, ticket: int) -> bytes:
        """What is in one that must be there."""
        if ticket in self.held:
            return self.held[ticket]
        assert self.disk is not None, "nobody has this snapshot"
        return self.disk.tables.snapshots[ticket].digest

    def perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.RunSegment() if effect.resume:
                found = self.find(effect.resume).rpartition(b" ")[0]
                wanted = address(effect.seed, effect.shot_first, effect.shots, 0)
                assert found == wanted.rpartition(b" ")[0], "it is of other shots"
            case fx.CopySnapshot():
                assert effect.target not in self.held
                self.held[effect.target] = self.find(effect.source)
            case fx.DropSnapshots():
                for ticket in effect.tickets:
                    self.held.pop(ticket, None)
            case fx.Keep():
                for row in effect.rows:
                    if isinstance(row, SnapshotRow):
                        assert self.find(row.ticket) == row.digest, "what is kept is there"
