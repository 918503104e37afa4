"""`qmkctl caps`: hand rights on to another tenant, take them back, use those that one was given."""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta

from rich.table import Table

from runtime.client import Client
from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, print_json
from runtime.ctl.session_cache import reopen
from syscalls.capability import (
    EXPIRY_MS_MAX,
    CapabilityInfo,
    Delegate,
    Delegated,
    Revoke,
    Revoked,
    Share,
)
from syscalls.ids import CapabilityId, TenantId
from syscalls.rights import Right
from syscalls.telemetry import GetTelemetry, Telemetry

UNTOLD = "qmkctl: it is for the tenant {!r}; whether there is one of that name is told nobody\n"
HELP = "delegate rights to another tenant, revoke them, list and use delegated ones"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_actions(
        parser,
        ("list", "capabilities from this session, or offered to its tenant", lambda _: None),
        ("delegate", "give rights to another tenant", _add_terms),
        (
            "revoke",
            "take a capability back, with all derived from it",
            lambda it: it.add_argument("capability", metavar="CAPABILITY"),
        ),
        (
            "use",
            "replace qmkctl's session by one that holds these capabilities too",
            lambda it: it.add_argument("capability", metavar="CAPABILITY", nargs="+"),
        ),
    )


def _add_terms(action: argparse.ArgumentParser) -> None:
    action.add_argument("tenant", metavar="TENANT")
    action.add_argument("right", metavar="CAP_NAME", nargs="+", choices=[*map(str, Right)])
    seconds = common.integer(1, EXPIRY_MS_MAX // 1000)
    action.add_argument("--expires", metavar="S", type=seconds, help="end after so many seconds")
    for name in Share.__struct_fields__:
        flag = "--" + name.replace("_", "-")
        action.add_argument(flag, metavar="N", type=common.integer(0, 2**53 - 1), help="of a share")


def execute(options: argparse.Namespace) -> Exit:
    if options.action == "use":
        return _use(options)
    with common.client_of(options) as client:
        if options.action == "delegate":
            reply = _delegate(client, options)
            if options.json:
                print_json(reply)
            else:
                print(reply.capability_id)
                sys.stderr.write(UNTOLD.format(options.tenant))
        elif options.action == "revoke":
            name = CapabilityId(options.capability)
            call = Revoke(session_id=client.session_id, capability_id=name)
            revoked = client.call(call)
            assert isinstance(revoked, Revoked)
            print_json(revoked) if options.json else print(f"Revoked: {revoked.revoked}.")
        else:
            _list(client, options)
    return Exit.OK


def _delegate(client: Client, options: argparse.Namespace) -> Delegated:
    share = Share(**{name: getattr(options, name) for name in Share.__struct_fields__})
    call = Delegate(
        session_id=client.session_id,
        rights=[Right(name) for name in options.right],
        tenant_id=TenantId(options.tenant),
        share=share,
        expires_after_ms=None if options.expires is None else options.expires * 1000,
    )
    reply = client.call(call)
    assert isinstance(reply, Delegated)
    return reply


def _use(options: argparse.Namespace) -> Exit:
    session = reopen(common.server_of(options), options.capability)
    refused = [name for name in options.capability if name in session.denied]
    if options.json:
        print_json(session)
    else:
        idle = timedelta(seconds=session.expires_after_idle_s)
        print(f"Granted: {', '.join(session.granted)}. Closes after {idle} without a call.")
        if refused:
            print(f"Not given to this tenant, or no more: {', '.join(refused)}.")
    return Exit.REFUSED if refused else Exit.OK


def _list(client: Client, options: argparse.Namespace) -> None:
    call = GetTelemetry(session_id=client.session_id, list_capabilities=True)
    reply = client.call(call)
    assert isinstance(reply, Telemetry)
    found = reply.capabilities or []
    if options.json:
        print_json({"capabilities": found})
    elif found:
        console().print(_table(found))
    else:
        print("No capabilities.")


def _table(found: list[CapabilityInfo]) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("capability", "", "tenant", "rights", "share", "expires"):
        table.add_column(column, overflow="fold")
    for each in found:
        amounts = {name: getattr(each.share, name) for name in Share.__struct_fields__}
        shown = [f"{name} {amount}" for name, amount in amounts.items() if amount is not None]
        role = "in use" if each.in_use else "given" if each.given else "offered"
        table.add_row(
            each.capability_id,
            role,
            each.tenant_id,
            ", ".join(each.rights),
            ", ".join(shown),
            each.expires_at or "",
        )
    return table
