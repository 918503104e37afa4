"""`python -m harness.bench [NAME ...]`: run the benchmarks, print tables, write bench.json."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import msgspec
from rich.console import Console

from harness.bench.rows import Row, print_rows

NAMES = {
    "syscall": "A system call beside its limits and peers",
    "latency": "Latency under load",
    "hostile": "Latency beside hostile clients",
    "jobs": "Jobs end to end",
    "sandbox": "What the sandbox of workers costs",
    "metrics": "What counting costs",
    "traces": "What traces cost",
    "fairness": "Eight tenants on one small machine",
    "engine": "Engines beside raw Stim and other simulators",
    "snapshot": "Runs as values",
    "growth": "Growth with qubits, operations and shots",
    "million": "Circuits of up to a million gates",
    "verify": "The verifier",
    "qec": "Sampling, decoding and calibration",
    "store": "Durability",
    "durable": "Durability, as clients see it",
    "corpora": "Circuits that nobody here wrote",
    "synthesis": "Rotations in Clifford and T gates",
    "optimiser": "The optimiser beside Qiskit, tket and pyzx",
    "placing": "Circuits over several modules, and partitioners",
    "factories": "Waiting for T states, model and simulation",
    "estimate": "Estimates of OpenQASM programs beside qdk's",
    "mitigation": "Error mitigation beside mitiq, and on logical qubits",
    "nightly": "Nights of error mitigation: time, jumps found, false alarms",
    "scheduler": "The scheduler on real calibrations and a replayable trace",
    "policy": "The policy engine, by regret",
    "signing": "Manifests and the ledger beside cosign and pymerkle",
    "tls": "Handshakes, and calls from other hosts",
    "jit": "Plans beside fixed profiles, and beside what is measured",
}
LIBRARIES = ("msgspec", "numpy", "stim", "trio", "jsonrpcserver")


def machine() -> dict[str, object]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, wider error")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of tables")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for bench.json")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark is named {', '.join(sorted(unknown))}")
    console = Console(quiet=arguments.json)
    report: dict[str, object] = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    report["machine"] = machine()
    results: dict[str, list[Row]] = {}
    for name in arguments.names or NAMES:
        with console.status(f"{NAMES[name]} ..."):
            results[name] = importlib.import_module(f"harness.bench.{name}_bench").run(
                arguments.quick
            )
        print_rows(NAMES[name], results[name], console)
    report["results"] = results
    encoded = msgspec.json.format(msgspec.json.encode(report), indent=2)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "bench.json").write_bytes(encoded + b"\n")
    if arguments.json:
        sys.stdout.write(encoded.decode() + "\n")
    missed = [one["metric"] for rows in results.values() for one in rows if one["ok"] is False]
    if missed:
        console.print(f"{len(missed)} goals missed: " + "; ".join(missed))
    console.print(f"Written to {arguments.out / 'bench.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
