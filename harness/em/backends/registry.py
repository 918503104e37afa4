"""Backends by what a person writes: `physical:seed=3,qubits=6`, `logical:d=5+7`, `aer:fake_lima`.

Those of vendors are `ibm` and `braket`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from harness.em.backends.backend import Backend, Refused
from harness.em.backends.physical import Physical

ABOUT: Final[dict[str, str]] = {
    "physical": "noisy simulator: qubits, seed, day, age, strength, told, turn, twirl",
    "logical": "qubits of a running qmkd: code, d (as 5+3+7, the usual one first), noise, socket, "
    "memory_shots",
    "aer": "Qiskit Aer with a snapshot of an IBM device, named first: qubits",
    "ibm": "a machine of IBM's, named first: on (its qubits, as 3+4+5), decoupling, twirl, wait",
    "braket": "a device of Amazon Braket, its ARN first: bucket, prefix, on (qubits of a QPU, as "
    "1+2), region, wait",
}


def open_backend(text: str) -> Backend:
    """The backend that the text names. Raises Refused."""
    kind, _, rest = text.partition(":")
    if kind not in _MAKERS:
        raise Refused(f"No backend is named {kind!r}; there are {', '.join(ABOUT)}.")
    given: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = "", key
        if key in given:
            raise Refused(f"{text!r}: options are written name=value, each once.")
        given[key] = value
    try:
        made = _MAKERS[kind](given)
    except ValueError as error:
        raise Refused(f"{text!r}: {error}.") from error
    if given:
        made.close()
        unknown = ", ".join(given)
        raise Refused(f"{kind} has no option {unknown}; it has: {ABOUT[kind]}.")
    return made


def _physical(given: dict[str, str]) -> Backend:
    return Physical(
        int(given.pop("qubits", 8)),
        int(given.pop("seed", 1)),
        day=int(given.pop("day", 0)),
        age_days=int(given.pop("age", 0)),
        strength=float(given.pop("strength", 1)),
        turn_2q=float(given.pop("turn", 0.02)),
        twirl=given.pop("twirl", "0") == "1",
        told=float(given.pop("told")) if "told" in given else None,
    )


def _logical(given: dict[str, str]) -> Backend:
    # A client of the daemon is loaded only where there is to be one.
    from harness.em.backends.logical import MEMORY_SHOTS, Logical

    return Logical(
        given.pop("socket", None),
        code=given.pop("code", "Surface"),
        distances=tuple(int(each) for each in given.pop("d", "5+3+7").split("+")),
        noise=given.pop("noise", "calibrated"),
        memory_shots=int(given.pop("memory_shots", MEMORY_SHOTS)),
    )


def _aer(given: dict[str, str]) -> Backend:
    # Qiskit takes seconds to load.
    from harness.em.backends.snapshots import Snapshot

    name = given.pop("", "")
    if not name:
        raise Refused("Name a snapshot: aer:fake_lima, for one.")
    return Snapshot(name, int(given.pop("qubits", 5)))


def _ibm(given: dict[str, str]) -> Backend:
    from harness.em.backends.ibm_runtime import IAM, URL, WAIT_S, IbmRuntime

    name = given.pop("", "")
    if not name:
        raise Refused("Name a machine and its qubits: ibm:ibm_kingston,on=3+4+5, for one.")
    if given.keys() & {"resilience", "resilience_level"}:
        told = "SamplerV2 has no resilience options, and they would do nothing"
        raise Refused(f"{told}: methods mitigate here.")
    return IbmRuntime(
        name,
        _qubits(given),
        decoupling=given.pop("decoupling", ""),
        twirl=given.pop("twirl", "0") == "1",
        wait_s=float(given.pop("wait", WAIT_S)),
        url=given.pop("url", URL),
        iam=given.pop("iam", IAM),
    )


def _braket(given: dict[str, str]) -> Backend:
    from harness.em.backends.braket import PREFIX, WAIT_S, Braket

    name, bucket = given.pop("", ""), given.pop("bucket", "")
    if not name or not bucket:
        raise Refused("Name a device and where results go: braket:ARN,bucket=amazon-braket-mine.")
    return Braket(
        name,
        bucket,
        _qubits(given),
        prefix=given.pop("prefix", PREFIX),
        region=given.pop("region", ""),
        wait_s=float(given.pop("wait", WAIT_S)),
        url=given.pop("url", ""),
        s3=given.pop("s3", ""),
    )


def _qubits(given: dict[str, str]) -> list[int]:
    return [int(each) for each in given.pop("on", "").split("+") if each]


_MAKERS: Final[dict[str, Callable[[dict[str, str]], Backend]]] = {
    "physical": _physical,
    "logical": _logical,
    "aer": _aer,
    "ibm": _ibm,
    "braket": _braket,
}

assert set(_MAKERS) == set(ABOUT)
