"""ML-DSA-65 alone: our providers beside liboqs called directly and `openssl speed`.

Signatures for each second of CPU time, of a message of 32 bytes, which is what `openssl speed`
signs. A provider unpacks its key for every signature, because it holds none; liboqs and OpenSSL
are given theirs once. Rounds are interleaved, ratios are within a round, medians of all.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from harness.bench.rows import Row, median_ratio, missing, row
from harness.tls.others import Missing, openssl_program
from runtime.signer.providers.base import Provider
from runtime.signer.providers.chain import Chain

NAME: Final = "ML-DSA-65"
MESSAGE: Final = bytes(32)
CPU_S: Final = 1.0  # of each side in a round


def run(rounds: int) -> list[Row]:
    sides: dict[str, Callable[[], float]] = {}
    found: list[Row] = []
    chain = Chain()
    for provider in chain.providers:
        sides[f"our provider {provider.name}"] = _of_provider(provider)
    if "liboqs" in chain.missing:
        found.append(missing(f"{NAME} beside liboqs", chain.missing["liboqs"]))
    else:
        sides["liboqs"] = _of_liboqs()
    try:
        program = openssl_program()
    except Missing as why:
        found.append(missing(f"{NAME} beside OpenSSL", str(why)))
    else:
        sides["openssl speed"] = lambda: _by_openssl(program)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            rates[name].append(side())
    found += [
        row(f"{NAME} signatures by {name}, of CPU time", median(each), "1/s")
        for name, each in rates.items()
    ]
    for ours, theirs in (("cryptography", "openssl speed"), ("liboqs", "liboqs")):
        mine = rates.get(f"our provider {ours}")
        if mine is not None and theirs in rates:
            what = f"{NAME} signatures, our provider {ours} / {theirs}"
            found.append(row(what, median_ratio(mine, rates[theirs]), "x"))
    return found


def _of_provider(provider: Provider) -> Callable[[], float]:
    secret, _ = provider.generate(NAME)
    return lambda: _rate(lambda: provider.sign(NAME, secret, MESSAGE))


def _of_liboqs() -> Callable[[], float]:
    import oqs  # found and loaded by the chain

    signer: Any = oqs.Signature(NAME)
    signer.generate_keypair()
    return lambda: _rate(lambda: signer.sign(MESSAGE))


def _rate(sign: Callable[[], object]) -> float:
    began, done = time.process_time(), 0
    while (spent := time.process_time() - began) < CPU_S:
        sign()
        done += 1
    return done / spent


def _by_openssl(program: str) -> float:
    """`+F10:NUMBER:KEYS:SIGNATURES:VERIFICATIONS`, each a second of CPU time."""
    command = [program, "speed", "-seconds", "1", "-mr", "-signature-algorithms", NAME]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = (each for each in told.stdout.splitlines() if each.startswith("+F10:"))
    return float(line.split(":")[3])
