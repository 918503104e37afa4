"""Snapshots are held for whoever goes on from them, and found in the store if nobody holds them."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from qmkd.shell import snapshots as snapshots_module
from qmkd.shell.snapshots import READ_AT_ONCE_BYTES_MAX, SEALS, Fetched, Held, Snapshots
from qmkd.shell.store.schema import Damaged


def a_file(content: bytes) -> int:
    fd = os.memfd_create("snapshot", os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    return fd


def content_of(snapshots: Snapshots, ticket: int) -> bytes | None:
    fd = snapshots.descriptor(ticket)
    return None if fd is None else os.pread(fd, 1 << 20, 0)


class Shelf:
    """What is stored, by ticket, or why it cannot be read; fetched when it is told to."""

    def __init__(self, stored: dict[int, bytes | OSError] | None = None) -> None:
        self.stored = {} if stored is None else stored
        self.asked: list[tuple[tuple[int, ...], int, Fetched]] = []

    def __call__(self, tickets: tuple[int, ...], fd: int, fetched: Fetched) -> None:
        self.asked.append((tickets, fd, fetched))

    def tell(self) -> None:
        tickets, fd, fetched = self.asked.pop(0)
        nothing = FileNotFoundError(errno.ENOENT, f"nothing is kept of ticket {tickets[0]}")
        found = next((self.stored[one] for one in tickets if one in self.stored), nothing)
        if isinstance(found, bytes):
            os.write(fd, found)
        fetched(None if isinstance(found, bytes) else found)

    def fetched(self, snapshots: Snapshots, ticket: int) -> bytes | None:
        """What is there of a ticket, fetched if it must be."""
        told: list[OSError | None] = []
        if snapshots.fetch(ticket, told.append):
            assert told == []
            self.tell()
            if told[0] is not None:
                raise told[0]
        return content_of(snapshots, ticket)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_what_is_held_is_there_until_it_and_all_copies_are_dropped() -> None:
    snapshots, fd = Snapshots(), a_file(b"state")
    snapshots.hold(1, fd)
    snapshots.copy(1, 2)
    snapshots.copy(2, 3)
    for ticket in (1, 2, 3):
        assert content_of(snapshots, ticket) == b"state"
    snapshots.drop(1)
    snapshots.drop(2)
    assert content_of(snapshots, 1) is None
    assert content_of(snapshots, 3) == b"state"
    snapshots.drop(3)
    assert not is_open(fd)
    snapshots.drop(3)


def test_the_store_reads_what_is_small_at_once_and_the_rest_while_it_stays_open() -> None:
    snapshots, large = Snapshots(), bytes(READ_AT_ONCE_BYTES_MAX + 1)
    fd = a_file(large)
    snapshots.hold(1, a_file(b"state"))
    snapshots.hold(2, fd)
    assert snapshots.region(1) == b"state"
    region = snapshots.region(2)
    snapshots.close()
    assert isinstance(region, Held)
    assert region.read(1, region.size - 1) == large[1:]
    region.release()
    assert not is_open(fd)


def test_there_is_less_room_the_more_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots_module, "HELD_BYTES_MAX", 100)
    snapshots = Snapshots()
    assert snapshots.room(2) == 50
    snapshots.hold(1, a_file(bytes(40)))
    snapshots.copy(1, 2)
    assert snapshots.room(2) == 30
    snapshots.hold(3, a_file(bytes(70)))
    assert snapshots.room(2) == 0
    snapshots.drop(1)
    assert snapshots.room(2) == 0, "the copy is held still"
    snapshots.drop(2)
    assert snapshots.room(2) == 15
    monkeypatch.setattr(snapshots_module, "SNAPSHOTS_HELD_MAX", 2)
    assert snapshots.room(1) == 30
    assert snapshots.room(2) == 0, "each holds a descriptor"
    snapshots.close()


def test_what_only_the_store_has_is_fetched_and_sealed() -> None:
    shelf = Shelf({7: b"state", 8: b"other"})
    snapshots = Snapshots(shelf)
    with pytest.raises(FileNotFoundError, match="ticket 9"):
        shelf.fetched(snapshots, 9)
    assert shelf.fetched(snapshots, 7) == b"state"
    assert not snapshots.fetch(7, lambda error: None), "it is at hand"
    fd = snapshots.descriptor(7)
    assert fd is not None
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
    snapshots.copy(8, 10)
    snapshots.copy(10, 11)
    assert shelf.fetched(snapshots, 11) == b"other", "the copy is not in the store yet"
    snapshots.copy(8, 12)
    shelf.stored[12] = shelf.stored.pop(8)
    assert shelf.fetched(snapshots, 12) == b"other", "and here what it is a copy of no more"
    snapshots.close()


def test_what_is_fetched_is_fetched_once_for_all_and_goes_if_it_is_dropped_meanwhile() -> None:
    shelf = Shelf({7: b"state"})
    snapshots, told = Snapshots(shelf), list[OSError | None]()
    for _ in range(2):
        assert snapshots.fetch(7, told.append)
    assert (len(shelf.asked), snapshots.descriptor(7)) == (1, None)
    shelf.tell()
    assert told == [None, None]
    snapshots.drop(7)
    for closes in (False, True):
        assert snapshots.fetch(7, told.append)
        ((_, fd, _),) = shelf.asked
        if closes:
            snapshots.close()
        else:
            snapshots.drop(7)
        assert is_open(fd), "it is written to still"
        shelf.tell()
        assert not is_open(fd)
        assert snapshots.descriptor(7) is None
    assert len(told) == 2


def test_what_is_stored_is_not_held_where_much_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots_module, "HELD_FREELY_BYTES", 12)
    stored = {ticket: b"%d 6 by" % ticket for ticket in range(1, 5)}
    shelf = Shelf({**stored})
    snapshots = Snapshots(shelf)
    fds = []
    for ticket in stored:
        fds.append(a_file(stored[ticket]))
        snapshots.hold(ticket, fds[-1])
    snapshots.stored(2)
    snapshots.stored(9)  # dropped meanwhile
    assert [is_open(fd) for fd in fds] == [True, False, True, True]
    snapshots.copy(2, 6)
    snapshots.stored(3)
    assert [is_open(fd) for fd in fds] == [True, False, False, True]
    snapshots.stored(4)
    assert is_open(fds[3]), "two are no more than may be held freely"
    for ticket, content in ((2, stored[2]), (6, stored[2]), (3, stored[3])):
        assert shelf.fetched(snapshots, ticket) == content
    assert len(snapshots._held) <= 2, "what was fetched is stored as well"
    snapshots.close()


def test_what_is_damaged_in_the_store_is_not_handed_out() -> None:
    shelf = Shelf({7: Damaged("its digest is another")})
    snapshots = Snapshots(shelf)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Damaged):
        shelf.fetched(snapshots, 7)
    assert snapshots.descriptor(7) is None
    assert len(os.listdir("/proc/self/fd")) == before
