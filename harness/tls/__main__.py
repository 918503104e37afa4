"""`python -m harness.tls`, or `make tls-demo`: who agrees with whom on what, as others see it.

A daemon, three services before it (one of each mode), and clients of other libraries beside ours.
Prints a table, writes OUT/tls.json, and ends with status 1 where something is not as it should be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from harness.demo.host import daemon
from harness.tls import others
from harness.tls.others import Missing, Seen
from harness.tls.services import HOST, credentials, service
from runtime.client import Client, errors
from runtime.client.address import Remote, TlsMode
from runtime.remote.authority import Authority

HYBRID_GROUP = "X25519MLKEM768"
Meet = Callable[[int, Path], Seen]


class Meeting(msgspec.Struct, frozen=True, kw_only=True):
    """One client and one service. wanted: what should come of it. missing: no such client here."""

    service: TlsMode
    client: str
    wanted: str
    seen: Seen | None = None
    missing: str = ""

    @property
    def as_wanted(self) -> bool:
        if self.seen is None:
            return bool(self.missing)
        if self.wanted == "refused":
            return bool(self.seen.refused)
        if self.seen.refused or not (self.seen.chain and self.seen.answered):
            return False
        shown = self.seen.group.replace("-", "").upper()
        return not shown or (shown == HYBRID_GROUP) == (self.wanted == "hybrid")


def by_ours(mode: TlsMode) -> Meet:
    def meet(port: int, folder: Path) -> Seen:
        library = f"qmkctl --tls-mode {mode.value}"
        try:
            with Client(Remote(host=HOST, port=port, credentials=folder, mode=mode)) as client:
                answered = bool(client.session_id)
                facts = client.remote_facts()
        except errors.QmkError as error:
            return Seen(library=library, refused=str(error).split(": ", 1)[1])
        assert facts is not None
        return Seen(
            library=library, protocol=facts.protocol, group=facts.group, chain=True,
            certificate=facts.peer_certificate, answered=answered,
        )  # fmt: skip

    return meet


def by_node(port: int, folder: Path) -> Seen:
    return others.by_node(HOST, port, folder)


def by_old_node(port: int, folder: Path) -> Seen:
    return others.by_node(HOST, port, folder, groups="X25519", schemes=others.CLASSICAL_SCHEMES)


def by_python(port: int, folder: Path) -> Seen:
    return others.by_python(HOST, port, folder)


def by_new_openssl(port: int, folder: Path) -> Seen:
    return others.by_openssl(others.openssl_program(), HOST, port, folder, kind="ml-dsa-65")


def by_old_openssl(port: int, folder: Path) -> Seen:
    return others.by_openssl("openssl", HOST, port, folder, groups="X25519")


CLASSICAL, HYBRID, PQC = TlsMode.CLASSICAL, TlsMode.HYBRID, TlsMode.PQC_REQUIRED
# Client -> what should come of meeting a service of each mode, in the order of `TlsMode`.
CLIENTS: dict[str, tuple[Meet, dict[TlsMode, str]]] = {
    "ours, hybrid": (by_ours(HYBRID), {CLASSICAL: "fallback", HYBRID: "hybrid", PQC: "hybrid"}),
    "ours, classical": (
        by_ours(CLASSICAL), {CLASSICAL: "fallback", HYBRID: "fallback", PQC: "refused"},
    ),
    "ours, pqc-required": (
        by_ours(PQC), {CLASSICAL: "refused", HYBRID: "hybrid", PQC: "hybrid"},
    ),
    "Node 24": (by_node, {CLASSICAL: "fallback", HYBRID: "hybrid", PQC: "hybrid"}),
    "Node 24, X25519 alone": (
        by_old_node, {CLASSICAL: "fallback", HYBRID: "fallback", PQC: "refused"},
    ),
    "openssl s_client 3.5": (
        by_new_openssl, {CLASSICAL: "refused", HYBRID: "hybrid", PQC: "hybrid"},
    ),
    "openssl s_client, X25519 alone": (
        by_old_openssl, {CLASSICAL: "fallback", HYBRID: "fallback", PQC: "refused"},
    ),
    "Python ssl": (by_python, {CLASSICAL: "fallback", HYBRID: "fallback", PQC: "refused"}),
}  # fmt: skip


def meetings(clients: Sequence[str], modes: Sequence[TlsMode]) -> list[Meeting]:
    """Each of these clients meets each of these services."""
    found: list[Meeting] = []
    authority = Authority("demonstration")
    with tempfile.TemporaryDirectory(prefix="qmk-tls-") as name, daemon() as path:
        folder = Path(name)
        served = credentials(folder, authority, "service", server=True)
        own = credentials(folder, authority, "visitor")
        for mode in modes:
            with service(path, served, mode, "visitor") as (port, _):
                for client in clients:
                    meet, wanted = CLIENTS[client]
                    meeting = Meeting(service=mode, client=client, wanted=wanted[mode])
                    try:
                        found.append(replace(meeting, seen=meet(port, own)))
                    except (Missing, FileNotFoundError) as error:
                        found.append(replace(meeting, missing=str(error)))
    return found


def table(found: list[Meeting]) -> Table:
    shown = Table(title="TLS handshakes", title_justify="left", show_edge=False)
    for name in ("service", "client", "came of it", "key exchange", "server's certificate", ""):
        shown.add_column(name, overflow="fold")
    for each in found:
        if each.seen is None:
            row = ("not here", each.missing, "")
        elif each.seen.refused:
            row = ("refused", each.seen.refused, "")
        else:
            row = (each.wanted, each.seen.group or "(cannot say)", each.seen.certificate)
        mark = "as it should be" if each.as_wanted else f"WRONG, should be {each.wanted}"
        shown.add_row(each.service.value, each.client, *row, mark if each.seen else "-")
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.tls", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for tls.json")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the table")
    arguments = parser.parse_args()
    found = meetings(tuple(CLIENTS), tuple(TlsMode))
    encoded = msgspec.json.format(msgspec.json.encode(found), indent=2)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "tls.json").write_bytes(encoded + b"\n")
    if arguments.json:
        sys.stdout.write(encoded.decode() + "\n")
    else:
        Console().print(table(found))
    return 0 if all(each.as_wanted for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
