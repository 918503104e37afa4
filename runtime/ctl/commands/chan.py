"""`qmkctl chan`: open channels between held qubits, say how they are, close them."""

from __future__ import annotations

import argparse

from qvm.pairs import PROTOCOLS
from runtime.client import Client
from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import print_json
from syscalls.channel import ChanClosed, ChanState, CloseChan
from syscalls.ids import ChannelId

HELP = "open, look at and close channels between held qubits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_actions(
        parser,
        ("open", "open a channel; prints its name", _add_ends),
        ("status", "how good its pair is now, and how often it was used", _add_name),
        ("close", "close it", _add_name),
    )


def _add_ends(action: argparse.ArgumentParser) -> None:
    action.add_argument("one", metavar="HANDLE")
    action.add_argument("other", metavar="HANDLE")
    action.add_argument("--fidelity", metavar="F", type=float, help="the least that will do")
    action.add_argument("--type", choices=[*PROTOCOLS], help="how its pairs are purified")


def _add_name(action: argparse.ArgumentParser) -> None:
    action.add_argument("channel", metavar="CHANNEL")


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        if options.action == "open":
            _open(client, options)
        elif options.action == "status":
            told = client.chan_status(options.channel)
            print_json(told) if options.json else print(_sentence(told))
        else:
            name = ChannelId(options.channel)
            reply = client.call(CloseChan(session_id=client.session_id, channel_id=name))
            assert isinstance(reply, ChanClosed)
            print_json(reply) if options.json else print("Closed.")
    return Exit.OK


def _open(client: Client, options: argparse.Namespace) -> None:
    opened = client.open_chan(
        options.one, options.other, fidelity=options.fidelity, type=options.type
    )
    print_json(opened) if options.json else print(opened.channel_id)


def _sentence(told: ChanState) -> str:
    made = f"made in {told.purification_rounds} rounds"
    used = f"used {told.uses} times, {told.raw_pairs:.6g} raw pairs"
    return f"Fidelity {told.actual_fidelity:.6g} after {told.age_cycles} cycles, {made}; {used}."
