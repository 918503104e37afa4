"""Merkle trees of SHA-256: roots, proofs, and their verification (RFC 6962, RFC 9162 section 2.1).

A complete subtree is named by level and index: level 0 are the leaves' hashes, and node (l, i)
covers leaves i * 2^l up to (i + 1) * 2^l. `Reader` says how those are found; verification needs
none. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from runtime.attest.errors import NotAuthentic

HASH_BYTES = 32
PROOF_HASHES_MAX = 64
EMPTY_ROOT = sha256(b"").digest()

Reader = Callable[[int, int], bytes]
"""The hash of the complete subtree of this level and index."""


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root over these, a power of two of them."""
    assert len(hashes).bit_count() == 1, "a complete subtree"
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def range_hash(read: Reader, begin: int, end: int) -> bytes:
    """MTH of leaves begin up to end, where begin is a multiple of the range's largest power of two.

    end > begin.
    """
    size = end - begin
    assert size > 0, "a tree over something"
    if not size & (size - 1):
        level = size.bit_length() - 1
        return read(level, begin >> level)
    half = _half(size)
    return node_hash(range_hash(read, begin, begin + half), range_hash(read, begin + half, end))


def root_of(read: Reader, size: int) -> bytes:
    """The root of the tree over the first `size` leaves."""
    return range_hash(read, 0, size) if size else EMPTY_ROOT


def inclusion_proof(read: Reader, index: int, size: int) -> list[bytes]:
    """PATH of RFC 9162, 2.1.3.1: from the leaf's sibling up. 0 <= index < size."""
    assert 0 <= index < size, "a leaf of the tree"
    begin, end, path = 0, size, []
    while end - begin > 1:
        middle = begin + _half(end - begin)
        if index < middle:
            path.append(range_hash(read, middle, end))
            end = middle
        else:
            path.append(range_hash(read, begin, middle))
            begin = middle
    return path[::-1]


def consistency_proof(read: Reader, old: int, new: int) -> list[bytes]:
    """PROOF of RFC 9162, 2.1.4.1, between trees of these sizes. 0 <= old <= new.

    Nothing is to be proven of the empty tree, nor between equal sizes.
    """
    assert 0 <= old <= new, "a tree and one that it grew into"
    if old in (0, new):
        return []
    begin, end, path, whole = 0, new, [], True
    while old != end:
        middle = begin + _half(end - begin)
        if old <= middle:
            path.append(range_hash(read, middle, end))
            end = middle
        else:
            path.append(range_hash(read, begin, middle))
            begin, whole = middle, False
    if not whole:
        path.append(range_hash(read, begin, end))
    return path[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """RFC 9162, 2.1.3.2. leaf: its hash. Raises NotAuthentic."""
    if not 0 <= index < size:
        raise NotAuthentic(f"A tree of {size} leaves has no leaf {index}.")
    _check_hashes(proof, leaf, root)
    at, last, found = index, size - 1, leaf
    for each in proof:
        if last == 0:
            raise NotAuthentic("The proof is longer than the tree is high.")
        if at & 1 or at == last:
            found = node_hash(each, found)
            if not at & 1:
                while at and not at & 1:
                    at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, each)
        at, last = at >> 1, last >> 1
    if last != 0:
        raise NotAuthentic("The proof is shorter than the tree is high.")
    if found != root:
        raise NotAuthentic("The proof does not lead from this leaf to this root.")


def verify_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """RFC 9162, 2.1.4.2. Raises NotAuthentic."""
    _check_hashes(proof, old_root, new_root)
    if not 0 <= old <= new:
        raise NotAuthentic(f"A log of {old} leaves does not grow into one of {new}.")
    if old in (0, new):
        if proof:
            raise NotAuthentic("Nothing is to be proven here, and there is a proof.")
        if old == new and old_root != new_root:
            raise NotAuthentic("Two roots are told of one size.")
        if old == 0 and old_root != EMPTY_ROOT:
            raise NotAuthentic("The old root is not that of an empty log.")
        return
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        raise NotAuthentic("The proof is empty.")
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    was = now = path[0]
    for each in path[1:]:
        if last == 0:
            raise NotAuthentic("The proof is longer than the tree is high.")
        if at & 1 or at == last:
            was, now = node_hash(each, was), node_hash(each, now)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            now = node_hash(now, each)
        at, last = at >> 1, last >> 1
    if last != 0:
        raise NotAuthentic("The proof is shorter than the tree is high.")
    if was != old_root or now != new_root:
        raise NotAuthentic("The proof does not lead from the old root to the new one.")


def _half(size: int) -> int:
    """The largest power of two below it."""
    return 1 << (size - 1).bit_length() - 1


def _check_hashes(proof: Sequence[bytes], *roots: bytes) -> None:
    if len(proof) > PROOF_HASHES_MAX or any(len(e) != HASH_BYTES for e in (*proof, *roots)):
        raise NotAuthentic("A hash has not 32 bytes, or the proof too many.")
