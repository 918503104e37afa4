"""`qmkctl ledger`: the log of manifests, decisions, epochs and keys: prove, verify, read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.table import Table

from runtime.ctl import options as common
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, pairs, print_json
from runtime.ctl.records import add_source, failures, keys_note, source_of, trust_of

if TYPE_CHECKING:
    from runtime.attest.ledger.notes import Verifier

HELP = "the ledger: prove that something is in it, verify a proof or all of it, read its end"
LAST = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_actions(
        parser,
        ("prove", "write a proof that a manifest or a leaf is in the ledger", _add_prove),
        ("verify", "verify a proof, or the whole ledger in a folder", _add_verify),
        ("tail", "the last leaves", _add_tail),
        ("add", "log a record of a decision: any JSON, best one that is signed", _add_add),
        ("checkpoint", "print a signed checkpoint", _add_checkpoint),
        ("trusted-root", "print what `cosign --trusted-root` reads of the ledger", add_source),
    )


def execute(options: argparse.Namespace) -> Exit:
    with failures():
        return _ACTIONS[options.action](options)


def _add_prove(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="JOB|LEAF", help="a job's manifest, or a leaf by number")
    parser.add_argument(
        "--size", type=common.integer(1, 2**62), help="in the head of so many leaves"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.tlog-proof", help="default: print it")
    parser.add_argument("--spicy", action="store_true", help="as torchwood's spicy reads it")
    add_source(parser)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("proof", nargs="?", type=Path, metavar="FILE.tlog-proof")
    parser.add_argument("--leaf", type=Path, metavar="FILE", help="of which the proof must be")
    parser.add_argument(
        "--since", type=Path, metavar="CHECKPOINT", help="that the folder must have grown out of"
    )
    parser.add_argument("--witness", action="append", default=[], metavar="VKEY")
    parser.add_argument("--quorum", type=common.integer(0, 64), help="of these (default: all)")
    add_source(parser)


def _add_tail(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--last", type=common.integer(1, 1000), default=LAST, metavar="N")
    add_source(parser)


def _add_add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("record", type=Path, metavar="FILE")
    add_source(parser)


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=common.integer(1, 2**62), help="of so many leaves")
    add_source(parser)


def _prove(options: argparse.Namespace) -> Exit:
    from runtime.attest.ledger import proofs

    number = int(options.what) if options.what.isdigit() else None
    session = ""
    if options.dir is None and number is None:
        with common.client_of(options) as client:
            session = client.session_id
    with source_of(options, session) as source:
        text = source.proof(options.what, number, options.size)
    proof = proofs.parse(text)
    shown = proof.spicy if options.spicy else text
    if options.out is not None:
        options.out.write_text(shown, encoding="utf-8")
    if options.json:
        print_json({"leaf": proof.number, "hashes": len(proof.path), "proof": shown})
    elif options.out is None:
        sys.stdout.write(shown)
    return Exit.OK


def _verify(options: argparse.Namespace) -> Exit:
    from runtime.attest.ledger import notes, proofs

    trust = trust_of(options)
    verifiers = notes.verifiers_of(trust)
    witnesses = [notes.from_vkey(each) for each in options.witness]
    quorum = len(witnesses) if options.quorum is None else options.quorum
    if options.proof is None:
        if options.dir is None:
            raise Trouble(Exit.USAGE, "Name a proof, or with --dir the folder of a ledger.")
        about = _whole(options, verifiers, witnesses, quorum)
    else:
        proof = proofs.parse(options.proof.read_text(encoding="utf-8"))
        asked = None if options.leaf is None else options.leaf.read_bytes()
        leaf, checkpoint = proofs.verify(proof, verifiers, witnesses, quorum, asked)
        about = {
            "ok": True,
            "leaf": proof.number,
            "size": checkpoint.size,
            "origin": checkpoint.origin,
            "root": checkpoint.root.hex(),
            "data": leaf.decode(errors="replace"),
        }
    if options.json:
        print_json(about | {"keys": keys_note(options)})
    else:
        console().print(pairs("It holds.", list(about.items())[1:]))
        sys.stderr.write(f"qmkctl: keys: {keys_note(options)}\n")
    return Exit.OK


def _whole(
    options: argparse.Namespace, verifiers: list[Verifier], witnesses: list[Verifier], quorum: int
) -> dict[str, object]:
    """Read all leaves of a folder, and make its root anew."""
    from runtime.attest.catalog import PUBLIC
    from runtime.attest.errors import NotAuthentic
    from runtime.attest.ledger import notes, tiles
    from runtime.attest.ledger.tree import (
        EMPTY_ROOT,
        consistency_proof,
        fold,
        root_of,
        verify_consistency,
    )

    folder = options.dir / PUBLIC if (options.dir / PUBLIC).is_dir() else options.dir
    text = (folder / tiles.CHECKPOINT).read_text(encoding="utf-8")
    checkpoint = notes.verify_note(text, verifiers, witnesses, quorum)
    hashes = tiles.leaf_hashes(folder, checkpoint.size)

    def read(level: int, number: int) -> bytes:
        return fold(hashes[number << level : (number + 1) << level])

    if root_of(read, checkpoint.size) != checkpoint.root:
        raise NotAuthentic("The leaves are not those of the signed head.")
    if root_of(tiles.reader(folder, checkpoint.size), checkpoint.size) != checkpoint.root:
        raise NotAuthentic("The tiles are not those of the signed head.")
    since = None
    if options.since is not None:
        old = notes.verify_note(options.since.read_text(encoding="utf-8"), verifiers, witnesses)
        proof = (
            consistency_proof(read, old.size, checkpoint.size)
            if old.size <= checkpoint.size
            else []
        )
        verify_consistency(old.size, checkpoint.size, proof, old.root, checkpoint.root)
        since = old.size
    assert checkpoint.size or checkpoint.root == EMPTY_ROOT, "its root was compared"
    return {
        "ok": True,
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "since": since,
    }


def _tail(options: argparse.Namespace) -> Exit:
    with source_of(options) as source:
        size, leaves = source.tail(options.last)
    if options.json:
        shown = [
            {
                "number": each.number,
                "kind": each.kind,
                "about": each.about,
                "data": msgspec.Raw(each.data),
            }
            for each in leaves
        ]
        print_json({"size": size, "leaves": shown})
        return Exit.OK
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("leaf", "kind", "of", "bytes"):
        table.add_column(name, no_wrap=True)
    for each in leaves:
        table.add_row(str(each.number), each.kind, each.about, str(len(each.data)))
    console().print(table) if leaves else print("No leaves.")
    return Exit.OK


def _add(options: argparse.Namespace) -> Exit:
    from runtime.attest.client import ask, attest_socket

    if options.dir is not None:
        raise Trouble(Exit.USAGE, "Only a follower logs: leave out --dir.")
    try:
        record = msgspec.json.decode(options.record.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Trouble(Exit.USAGE, f"{options.record} is not JSON: {error}.") from error
    told = ask(attest_socket(options.attest), "add", record=record)
    print_json(told) if options.json else print(f"It is leaf {told['leaf']}.")
    return Exit.OK


def _checkpoint(options: argparse.Namespace) -> Exit:
    with source_of(options) as source:
        text = source.checkpoint(options.size)
    print_json({"checkpoint": text}) if options.json else sys.stdout.write(text)
    return Exit.OK


def _trusted_root(options: argparse.Namespace) -> Exit:
    from runtime.attest import views
    from runtime.attest.ledger import rekor

    found = rekor.trusted_root(trust_of(options))
    print_json(found) if options.json else sys.stdout.write(views.as_json(found))
    return Exit.OK


_ACTIONS = {
    "prove": _prove,
    "verify": _verify,
    "tail": _tail,
    "add": _add,
    "checkpoint": _checkpoint,
    "trusted-root": _trusted_root,
}
