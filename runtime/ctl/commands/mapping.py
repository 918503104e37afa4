"""`qmkctl mapping`: which physical qubits carry a job's virtual ones."""

from __future__ import annotations

import argparse

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, pairs, print_json
from syscalls.ids import JobId
from syscalls.telemetry import GetMapping, Mapping

HELP = "say which physical qubits carry a job's virtual ones (CAP_DEBUG)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_one(parser, "job")


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        reply = client.call(GetMapping(session_id=client.session_id, job_id=JobId(options.job)))
    assert isinstance(reply, Mapping)
    if options.json:
        print_json(reply)
    elif reply.mapping:
        rows: list[tuple[str, object]] = []
        rows += [(name, _spans(qubits)) for name, qubits in reply.mapping.items()]
        console().print(pairs(f"epoch {reply.epoch}", rows))
    else:
        print("The job holds no physical qubits now.")
    return Exit.OK


def _spans(qubits: list[int]) -> str:
    """The numbers, with runs of neighbours as `first..last`."""
    spans: list[list[int]] = []
    for qubit in sorted(qubits):
        if spans and spans[-1][1] + 1 == qubit:
            spans[-1][1] = qubit
        else:
            spans.append([qubit, qubit])
    return ", ".join(f"{low}..{high}" if low < high else str(low) for low, high in spans)
