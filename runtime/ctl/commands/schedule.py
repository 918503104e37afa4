"""`qmkctl schedule`: which backend a job goes to, with which mitigation, why, and made again.

Asks no daemon. The book of decisions is a database of its own; a policy engine and a signer are
asked where they are named (docs/scheduling.md).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
from rich.table import Table

from policy.api import Advise
from policy.client import PolicyClient
from policy.rules import SOURCE, Rules
from runtime.ctl import options as common
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, pairs, print_json
from runtime.scheduler.book import Book, Kept
from runtime.scheduler.calibrations import Snapshot, hazards, parse_time
from runtime.scheduler.catalogue import Listed, put_all, read
from runtime.scheduler.errors import Damaged, NotReplayed, SchedulerError
from runtime.scheduler.ibm import snapshots
from runtime.scheduler.jobs import Backend, Job, Reservation, Scoring, State
from runtime.scheduler.records import decode, replay
from runtime.scheduler.scoring import SCORERS
from runtime.signer.api import Sign
from runtime.signer.errors import SignerError
from runtime.storage.database import Database, StorageError

HELP = "choose backends and error mitigation for jobs, and say why"
DATABASE: Final = "QMK_SCHEDULE_DB"
SHOWN: Final = 20
SHOWN_MAX: Final = 100_000
IBM_COST_PER_SECOND: Final = 1.6
"""Of the catalogue made from IBM's snapshots: of the order of the list price of a second."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text, add_own in (
        ("backends", "show the catalogue, or put backends into it", _add_backends),
        ("decide", "decide jobs, and keep the decisions", _add_decide),
        ("explain", "why a decision came out as it did", _add_name),
        ("replay", "make a decision again and compare every byte", _add_replay),
        ("list", "the last decisions", _add_list),
        ("again", "decide a job elsewhere whose run failed", _add_again),
        ("reserve", "keep a backend for a tenant for some time", _add_reserve),
        ("sign", "have the decisions signed that are not", _add_signer),
        ("verify", "check the chain of decisions and their signatures", _add_signer),
    ):
        action = parts.add_parser(name, help=text, description=text)
        add_own(action)
        action.add_argument(
            "--database",
            metavar="URL",
            help=f"a SQLite file or postgresql://... (default: ${DATABASE}, or the user's own)",
        )
        common.add_json(action)


def _add_backends(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("file", metavar="FILE", nargs="?", type=Path, help="JSON: a list of them")
    source.add_argument(
        "--ibm", action="store_true", help="the snapshots that qiskit-ibm-runtime ships"
    )


def _add_decide(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="JSON: a job, or a list of them")
    parser.add_argument("--scorer", choices=list(SCORERS), default=Scoring().name)
    _add_world(parser)
    _add_signer(parser)


def _add_world(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", metavar="FILE", type=Path, help="JSON: how busy backends are, by name"
    )
    parser.add_argument("--policy", metavar="SOCKET", type=Path, help="a policy engine's socket")
    parser.add_argument("--now", metavar="TIME", help="reckon with this time (default: the clock)")


def _add_signer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--signer", metavar="SOCKET", type=Path, help="the signer's socket")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("decision", metavar="DECISION", help="number, id, digest, or a job's id")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "decision", metavar="DECISION", help="number, id, digest, a job's id, or a decision's file"
    )
    parser.add_argument(
        "--calibrations",
        metavar="FILE",
        type=Path,
        help="take snapshots from a file of backends instead of the database",
    )
    parser.add_argument("--model", metavar="FILE", type=Path, help="the model that was asked then")


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--last", metavar="N", type=common.integer(1, SHOWN_MAX), default=SHOWN)


def _add_again(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument("--why", required=True, help="what went wrong, for the record")
    _add_world(parser)
    _add_signer(parser)


def _add_reserve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backend", metavar="BACKEND")
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--from", dest="starts", metavar="TIME", required=True)
    parser.add_argument("--to", dest="ends", metavar="TIME", required=True)


def execute(options: argparse.Namespace) -> Exit:
    try:
        with _book(options) as book:
            return _ACTIONS[options.action](book, options)
    except (Damaged, NotReplayed) as error:
        raise Trouble(Exit.DAMAGED, str(error)) from error
    except (SchedulerError, StorageError) as error:
        raise Trouble(Exit.USAGE, str(error)) from error
    except SignerError as error:
        raise Trouble(Exit.UNREACHABLE, str(error)) from error


@contextmanager
def _book(options: argparse.Namespace) -> Iterator[Book]:
    url = options.database or os.environ.get(DATABASE) or str(_folder() / "decisions.db")
    with Database(url) as database:
        beside = _folder() if database.is_postgres else Path(url.removeprefix("sqlite:///")).parent
        yield Book(database, beside / "decisions")


def _folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "qmk" / "schedule"


# --- actions ------------------------------------------------------------------------------------


def _backends(book: Book, options: argparse.Namespace) -> Exit:
    now = datetime.now(UTC)
    if options.ibm:
        put_all(book.catalogue, (_ibm(each.backend, each) for each in snapshots()))
    elif options.file is not None:
        put_all(book.catalogue, read(options.file.read_bytes(), list[Listed], str(options.file)))
    rows: list[dict[str, Any]] = [
        {
            "backend": backend.backend_id,
            "vendor": backend.vendor,
            "qubits": 0 if snapshot is None else len(snapshot.calibration.qubits),
            "calibrated": "" if snapshot is None else snapshot.calibration.taken_at,
            "calibration": "" if snapshot is None else snapshot.digest,
            "crypto_modes": backend.crypto_modes,
            "remarks": ["there is no calibration"]
            if snapshot is None
            else hazards(snapshot.calibration, now),
        }
        for backend, snapshot in book.catalogue.backends()
    ]
    if options.json:
        print_json({"backends": rows})
        return Exit.OK
    table = _table("backend", "qubits", "calibrated (UTC)", "remarks")
    for row in rows:
        told = "; ".join(row["remarks"])
        table.add_row(row["backend"], str(row["qubits"]), str(row["calibrated"])[:16], told)
    console().print(table)
    return Exit.OK


def _ibm(name: str, calibration: Any) -> Listed:
    backend = Backend(
        backend_id=name,
        vendor="IBM",
        cost_per_second=IBM_COST_PER_SECOND,
        crypto_modes=("classical", "hybrid"),
    )
    return Listed(backend=backend, calibration=calibration)


def _decide(book: Book, options: argparse.Namespace) -> Exit:
    data = options.file.read_bytes()
    one = data.lstrip().startswith(b"{")
    jobs = [read(data, Job, str(options.file))] if one else read(data, list[Job], str(options.file))
    kept = book.decide(
        jobs, _states(options), _policy(options), Scoring(name=options.scorer), _now(options)
    )
    remark = _signed(book, options)
    _show_all(kept, options, remark)
    return Exit.OK if all(each.decision.chosen_backend for each in kept) else Exit.REFUSED


def _again(book: Book, options: argparse.Namespace) -> Exit:
    kept = book.again(
        options.decision, options.why, _states(options), _policy(options), _now(options)
    )
    remark = _signed(book, options)
    _show_all([kept], options, remark)
    return Exit.OK if kept.decision.chosen_backend else Exit.REFUSED


def _explain(book: Book, options: argparse.Namespace) -> Exit:
    kept = book.find(options.decision)
    decision = kept.decision
    if options.json:
        print_json({"digest": kept.digest, "signed": kept.signed, "decision": decision})
        return Exit.OK
    chosen = decision.chosen
    sla = msgspec.to_builtins(decision.job.sla)
    rows: list[tuple[str, object]] = [
        ("job", f"{decision.job.job_id}, tenant {decision.job.tenant}"),
        ("decided", decision.decided_at),
        ("asked for", {**sla, "shots": decision.job.shots, "mode": decision.job.crypto_mode}),
        ("chosen", f"{decision.chosen_backend}, {decision.method}" if chosen else "none"),
        ("SLA kept", "yes" if decision.sla_kept else "no"),
        ("score", decision.score),
        ("digest", kept.digest),
        ("signed", "yes" if kept.signed else "no"),
        ("remarks", list(decision.remarks) or None),
    ]
    if decision.retry is not None:
        rows.append(("made again after", decision.retry.of))
    console().print(pairs(f"Decision {decision.number}", rows))
    table = _table("backend", "method", "verdict", "score", "fidelity", "from", "begins", "why")
    for each in decision.candidates:
        table.add_row(
            each.backend_id,
            each.method,
            each.verdict,
            "" if each.score is None else f"{each.score:.4g}",
            f"{each.expected_fidelity:.4f}" if each.shots else "",
            f"{each.fidelity_low:.4f}" if each.shots else "",
            f"{each.starts_s:,.0f} s" if each.shots else "",
            " ".join(each.reasons),
        )
    console().print(table)
    advised = next(
        (o for o in decision.offers if chosen and o.backend.backend_id == chosen.backend_id), None
    )
    if advised is not None:
        for sentence in (*advised.because, *advised.notes):
            console().print(f"{advised.backend.backend_id}: {sentence}")
    return Exit.OK


def _replay(book: Book, options: argparse.Namespace) -> Exit:
    file = Path(options.decision)
    decision = decode(file.read_bytes()) if file.is_file() else book.find(options.decision).decision
    policies: dict[str, Advise] = {SOURCE: Rules()}
    if options.model is not None:
        # Only who replays a model's advice loads numerics.
        from policy.engine import engine_of

        engine = engine_of(options.model)
        if engine.trouble:
            raise Trouble(Exit.USAGE, engine.trouble)
        policies[engine.source] = engine
    if options.calibrations is None:
        done = book.replay(decision, policies)
    else:
        data = options.calibrations.read_bytes()
        listed = read(data, list[Listed], str(options.calibrations))
        known = [Snapshot(each.calibration) for each in listed if each.calibration is not None]
        done = replay(decision, {each.digest: each for each in known}, policies)
    if options.json:
        print_json({"ok": True, **msgspec.to_builtins(done)})
    else:
        how = "advice included" if done.asked_again else "the recorded advice was taken as it is"
        print(f"Decision {decision.number} comes out the same, {how}: {done.digest}")
    return Exit.OK


def _list(book: Book, options: argparse.Namespace) -> Exit:
    _show_all(book.last(options.last), options, "")
    return Exit.OK


def _reserve(book: Book, options: argparse.Namespace) -> Exit:
    made = Reservation(
        reservation_id=str(uuid4()),
        backend_id=options.backend,
        tenant=options.tenant,
        starts_at=options.starts,
        ends_at=options.ends,
    )
    book.catalogue.reserve(made)
    if options.json:
        print_json(made)
    else:
        print(f"{made.backend_id} is {made.tenant}'s from {made.starts_at} to {made.ends_at}.")
    return Exit.OK


def _sign(book: Book, options: argparse.Namespace) -> Exit:
    signer = _signer(options)
    if signer is None:
        raise Trouble(Exit.USAGE, "Say where the signer is: --signer SOCKET.")
    remark = _signed(book, options)
    if options.json:
        print_json({"ok": not remark, "remark": remark})
    else:
        print(remark or "All decisions are signed.")
    return Exit.OK if not remark else Exit.UNREACHABLE


def _verify(book: Book, options: argparse.Namespace) -> Exit:
    count, head, signed = book.verify(_signer(options))
    checked = options.signer is not None
    if options.json:
        print_json(
            {"ok": True, "decisions": count, "head": head, "signed": signed, "checked": checked}
        )
        return Exit.OK
    print(f"The chain holds from the first decision to the last, {count}. Head: {head}")
    told = "their signatures hold" if checked else "signatures were not looked at"
    print(f"{signed} of them are signed; {told}.")
    return Exit.OK


_ACTIONS = {
    "backends": _backends,
    "decide": _decide,
    "explain": _explain,
    "replay": _replay,
    "list": _list,
    "again": _again,
    "reserve": _reserve,
    "sign": _sign,
    "verify": _verify,
}


# --- what they share ----------------------------------------------------------------------------


def _now(options: argparse.Namespace) -> datetime:
    return datetime.now(UTC) if options.now is None else parse_time(options.now)


def _states(options: argparse.Namespace) -> dict[str, State]:
    if options.state is None:
        return {}
    return read(options.state.read_bytes(), dict[str, State], str(options.state))


def _policy(options: argparse.Namespace) -> Advise:
    return Rules() if options.policy is None else PolicyClient(options.policy)


def _signer(options: argparse.Namespace) -> Sign | None:
    if options.signer is None:
        return None
    # Only who signs loads what speaks with the signer.
    from runtime.signer.client import SignerClient

    return SignerClient(options.signer)


def _signed(book: Book, options: argparse.Namespace) -> str:
    """Have everything signed if there is a signer; a sentence where that did not work."""
    signer = _signer(options)
    if signer is None:
        return ""
    from runtime.attest.errors import AttestError

    try:
        book.sign_all(signer)
    except (SignerError, AttestError) as error:
        return f"Kept, and not signed: {error} qmkctl schedule sign does it later."
    return ""


def _show_all(kept: list[Kept], options: argparse.Namespace, remark: str) -> None:
    if options.json:
        rows = [
            {
                "number": each.decision.number,
                "decision_id": each.decision.decision_id,
                "job_id": each.decision.job.job_id,
                "chosen_backend": each.decision.chosen_backend or None,
                "method": each.decision.method,
                "params": each.decision.params,
                "score": each.decision.score,
                "sla_kept": each.decision.sla_kept,
                "expected_fidelity": chosen.expected_fidelity if chosen else None,
                "fidelity_low": chosen.fidelity_low if chosen else None,
                "shots": chosen.shots if chosen else None,
                "starts_s": chosen.starts_s if chosen else None,
                "qpu_seconds": chosen.qpu_seconds if chosen else None,
                "money": chosen.money if chosen else None,
                "decided_at": each.decision.decided_at,
                "remarks": each.decision.remarks,
                "digest": each.digest,
                "signed": each.signed,
            }
            for each in kept
            for chosen in (each.decision.chosen,)
        ]
        print_json({"decisions": rows, **({"remark": remark} if remark else {})})
        return
    table = _table(
        "number", "job", "backend", "method", "fidelity", "from", "begins", "money", "SLA"
    )
    for each in kept:
        chosen = each.decision.chosen
        told = ("-",) * 6 if chosen is None else (
            chosen.backend_id, chosen.method, f"{chosen.expected_fidelity:.4f}",
            f"{chosen.fidelity_low:.4f}", f"{chosen.starts_s:,.0f} s", f"{chosen.money:.4g}",
        )  # fmt: skip
        kept_sla = "kept" if each.decision.sla_kept else "not kept"
        table.add_row(str(each.decision.number), each.decision.job.job_id, *told, kept_sla)
    console().print(table)
    for sentence in dict.fromkeys(r for each in kept for r in each.decision.remarks):
        print(sentence)
    if remark:
        print(remark)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, no_wrap=name not in ("why", "remarks"), overflow="fold")
    return table
