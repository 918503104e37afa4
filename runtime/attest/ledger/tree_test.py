"""The tree against published roots and proofs, and against every way in which these can be wrong.

Leaves, roots and proofs are those of Certificate Transparency's reference tests, which
transparency-dev/merkle (Apache-2.0) uses as well; the ways to spoil them are those of its
`proof/verify_test.go`, here for all proofs of all trees of up to 20 leaves too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

import pytest

from runtime.attest.errors import NotAuthentic
from runtime.attest.ledger.tree import (
    EMPTY_ROOT,
    Reader,
    consistency_proof,
    fold,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [
    bytes.fromhex(each)
    for each in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    bytes.fromhex(each)
    for each in (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
G = "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f"
# Number of the leaf from 1, size, proof.
INCLUSION: list[tuple[int, int, list[str]]] = [
    (1, 1, []),
    (1, 8, [A, B, C]),
    (6, 8, [D, E, ROOTS[3].hex()]),
    (3, 3, [ROOTS[1].hex()]),
    (2, 5, [ROOTS[0].hex(), B, D]),
]
CONSISTENCY: list[tuple[int, int, list[str]]] = [
    (1, 1, []),
    (1, 8, [A, B, C]),
    (6, 8, [F, E, ROOTS[3].hex()]),
    (2, 5, [B, D]),
    (6, 7, [F, G, ROOTS[3].hex()]),
]
SOME_HASH = bytes.fromhex("abacaba000000000000000000000000000000000000000000060061e00123456")
SIZE_MAX = 20


def reader(leaves: Sequence[bytes]) -> Reader:
    def read(level: int, number: int) -> bytes:
        return fold([leaf_hash(e) for e in leaves[number << level : (number + 1) << level]])

    return read


def slow_root(leaves: Sequence[bytes]) -> bytes:
    """MTH as RFC 6962 defines it, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(slow_root(leaves[:k]), slow_root(leaves[k:]))


def spoiled_inclusion(
    number: int, size: int, proof: list[bytes], root: bytes, leaf: bytes
) -> Iterator[tuple[int, int, list[bytes], bytes, bytes]]:
    for other in (number - 1, number + 1, number ^ 2):
        yield other, size, proof, root, leaf
    for other in (size * 2, size // 2):
        yield number, other, proof, root, leaf
    yield number, size, proof, root, b"WrongLeaf"
    yield number, size, proof, EMPTY_ROOT, leaf
    yield number, size, proof, SOME_HASH, leaf
    for garbage in (b"", root):
        yield number, size, [*proof, garbage], root, leaf
        yield number, size, [garbage, *proof], root, leaf
    for at, each in enumerate(proof):
        flipped = bytes([each[0] ^ 8]) + each[1:]
        yield number, size, [*proof[:at], flipped, *proof[at + 1 :]], root, leaf
    if proof:
        yield number, size, proof[:-1], root, leaf
    if len(proof) > 1:
        yield number, size, [proof[0], SOME_HASH, *proof[1:]], root, leaf


def spoiled_consistency(
    old: int, new: int, proof: list[bytes], was: bytes, now: bytes
) -> Iterator[tuple[int, int, list[bytes], bytes, bytes]]:
    for other in (old - 1, old + 1, old ^ 2):
        yield other, new, proof, was, now
    for other in (new * 2, new // 2):
        yield old, other, proof, was, now
    yield old, new, proof, b"WrongRoot", now
    yield old, new, proof, was, b"WrongRoot"
    yield old, new, proof, now, was
    yield old, new, [], was, now
    for garbage in (b"", was, now, proof[0]):
        yield old, new, [garbage, *proof], was, now
        if garbage is not proof[0]:
            yield old, new, [*proof, garbage], was, now
    yield old, new, proof[:-1], was, now
    for at, each in enumerate(proof):
        flipped = bytes([each[0] ^ 16]) + each[1:]
        yield old, new, [*proof[:at], flipped, *proof[at + 1 :]], was, now


def check_inclusion(number: int, size: int, proof: list[bytes], root: bytes, leaf: bytes) -> int:
    """How many spoiled ones were refused; fails at one that is not."""
    verify_inclusion(leaf, number, size, proof, root)
    refused = 0
    for wrong in spoiled_inclusion(number, size, proof, root, leaf):
        other, claimed, path, top, bottom = wrong
        with pytest.raises(NotAuthentic):
            verify_inclusion(bottom, other, claimed, path, top)
        refused += 1
    return refused


def check_consistency(old: int, new: int, proof: list[bytes], was: bytes, now: bytes) -> int:
    verify_consistency(old, new, proof, was, now)
    refused = 0
    for wrong in spoiled_consistency(old, new, proof, was, now) if proof else ():
        with pytest.raises(NotAuthentic):
            verify_consistency(*wrong)
        refused += 1
    return refused


def test_roots_are_the_published_ones() -> None:
    assert root_of(reader(LEAVES), 0) == EMPTY_ROOT
    assert [root_of(reader(LEAVES), size) for size in range(1, 9)] == ROOTS


@pytest.mark.parametrize(("number", "size", "proof"), INCLUSION)
def test_published_inclusion_proofs_are_made_and_hold_and_no_spoiled_one_does(
    number: int, size: int, proof: list[str]
) -> None:
    told = [bytes.fromhex(each) for each in proof]
    assert inclusion_proof(reader(LEAVES), number - 1, size) == told
    leaf = leaf_hash(LEAVES[number - 1])
    assert check_inclusion(number - 1, size, told, ROOTS[size - 1], leaf) >= 12


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_published_consistency_proofs_are_made_and_hold_and_no_spoiled_one_does(
    old: int, new: int, proof: list[str]
) -> None:
    told = [bytes.fromhex(each) for each in proof]
    assert consistency_proof(reader(LEAVES), old, new) == told
    refused = check_consistency(old, new, told, ROOTS[old - 1], ROOTS[new - 1])
    assert refused >= 18 or not told


def test_all_proofs_of_small_trees_hold_and_no_spoiled_one_does() -> None:
    leaves = [b"%d" % number for number in range(SIZE_MAX)]
    read, refused = reader(leaves), 0
    roots = [slow_root(leaves[:size]) for size in range(SIZE_MAX + 1)]
    for size in range(1, SIZE_MAX + 1):
        assert root_of(read, size) == roots[size]
        for number in range(size):
            proof = inclusion_proof(read, number, size)
            leaf = leaf_hash(leaves[number])
            refused += check_inclusion(number, size, proof, roots[size], leaf)
        for old in range(size + 1):
            proof = consistency_proof(read, old, size)
            refused += check_consistency(old, size, proof, roots[old], roots[size])
    assert refused > 5000


def test_a_proof_of_nothing_proves_nothing() -> None:
    for number, size in ((0, 0), (1, 0), (2, 1), (-1, 1)):
        with pytest.raises(NotAuthentic):
            verify_inclusion(SOME_HASH, number, size, [], SOME_HASH)
    for old, new, was in ((1, 0, SOME_HASH), (1, 2, SOME_HASH), (0, 1, SOME_HASH)):
        with pytest.raises(NotAuthentic):
            verify_consistency(old, new, [], was, SOME_HASH)
    with pytest.raises(NotAuthentic, match="one size"):
        verify_consistency(1, 1, [], SOME_HASH, EMPTY_ROOT)
    with pytest.raises(NotAuthentic):
        verify_inclusion(SOME_HASH, 0, 2**70, [SOME_HASH] * 70, SOME_HASH)


def test_another_implementation_makes_the_same_roots_and_believes_our_proofs() -> None:
    pymerkle = pytest.importorskip("pymerkle", reason="pymerkle is not installed")
    leaves = [b"leaf %d" % number for number in range(37)]
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    read = reader(leaves)
    for size, leaf in enumerate(leaves, 1):
        tree.append_entry(leaf)
        assert tree.get_root() == root_of(read, size)
    for number in range(len(leaves)):
        theirs = tree.prove_inclusion(number + 1).serialize()["path"]
        ours = inclusion_proof(read, number, len(leaves))
        assert [bytes.fromhex(each) for each in theirs][1:] == ours
