"""Logical error rates for `coded.py`, from the calibration table and the codes' own tables.

Durations are rounds of syndrome extraction. An operation between two rounds is followed by one, as
in the circuits that were calibrated; Paulis are bookkeeping and take no time. Where a code has no
native way for an operation, it takes as many rounds as its distance, by way of a helper patch.

Beyond their rounds, CNOT and H err as was measured, CZ as a CNOT whose target is seen in the other
basis. What nobody measured, SHYPS gates and S among it, errs by its rounds alone. T states are made
in surface code patches, whatever code consumes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from qmkd.core.ports import Point
from qmkd.engine.coded import Flips
from qmkd.engine.prepared import Uncalibrated
from qmkd.qec.calibration import Answer, NotKnown, Table
from qmkd.qec.codes.bacon_shor import bacon_shor
from qmkd.qec.codes.code import Code, Native
from qmkd.qec.codes.shyps import shyps
from qmkd.qec.codes.surface import surface
from qmkd.qec.magic import fifteen_to_one
from qvm.profiles import Profile

_CODES: Final[dict[str, Callable[[int], Code]]] = {
    "Surface": surface,
    "BaconShor": bacon_shor,
    "SHYPS": shyps,
}
_FREE: Final = frozenset({"APPLY_X", "APPLY_Y", "APPLY_Z", "COND_PAULI"})
_NATIVE: Final = {
    "APPLY_H": "H",
    "APPLY_S": "S",
    "APPLY_SDG": "S",
    "APPLY_CNOT": "CNOT",
    "TELEPORT_CNOT": "CNOT",
    "APPLY_CZ": "CNOT",
    "APPLY_SWAP": "SWAP",
}
_GADGETS: Final = {
    "APPLY_CNOT": "cnot",
    "TELEPORT_CNOT": "cnot",
    "APPLY_CZ": "cnot",
    "APPLY_H": "h",
}
_INJECTION: Final = ("Surface", "inject_quiet")
_TURNED: Final = str.maketrans("XZ", "ZX")
_ENDS: Final = ("ALLOC_LQ", "RESET", "INJECT_T_STATE", "MEASURE_")
"""Operations that are one round themselves, the first or last of a memory."""


class TableRates:
    """Rates of one noise model at one strength, from a table.

    Raises `Uncalibrated` where the table knows nothing within reach of what is asked for.
    """

    def __init__(self, table: Table, noise: str, strength: float) -> None:
        self._table = table
        self._noise = noise
        self._strength = strength

    def memory(self, profile: Profile) -> Flips:
        found = self._answer(profile, "memory")
        return found.rate("X"), found.rate("Z")

    def ends(self, profile: Profile) -> Flips:
        found = self._answer(profile, "memory")
        return found.end("X"), found.end("Z")

    def rounds(self, profile: Profile, op: str) -> int:
        if op in _FREE or op == "FREE_LQ":
            return 0
        if op.startswith(_ENDS):
            return 1
        native = _native(profile.code, profile.distance).get(_NATIVE.get(op, op))
        return profile.distance if native is None else max(1, native.rounds_at(profile.distance))

    def extra(self, profile: Profile, op: str) -> tuple[tuple[str, float], ...]:
        gadget = _GADGETS.get(op)
        if gadget is None:
            return ()
        try:
            found = self._table.look_up(
                profile.code, profile.distance, self._noise, self._strength, gadget
            )
        except NotKnown:
            return ()
        terms = [(term.pauli, term.rate) for term in found.terms if term.rate]
        if op == "APPLY_CZ":
            terms = [(pauli[0] + pauli[1].translate(_TURNED), rate) for pauli, rate in terms]
        return tuple(terms)

    def magic(self, profile: Profile) -> float:
        """A T state as measured where it is injected, and distilled once, 15 to 1.

        Of 15 states that err independently and operations that do not err (`qmkd/qec/magic.py`).
        """
        found = self.injected(profile)
        return distilled(found.rate("X"), found.rate("Z"))

    def injected(self, profile: Profile) -> Answer:
        """What is known of states that are injected into a patch of this distance."""
        code, gadget = _INJECTION
        return self._known(code, profile.distance, gadget, profile)

    def how(self, profile: Profile) -> Answer:
        """Where the rates of a memory come from."""
        return self._answer(profile, "memory")

    def _answer(self, profile: Profile, gadget: str) -> Answer:
        return self._known(profile.code, profile.distance, gadget, profile)

    def _known(self, code: str, distance: int, gadget: str, profile: Profile) -> Answer:
        try:
            return self._table.look_up(code, distance, self._noise, self._strength, gadget)
        except NotKnown as unknown:
            point = Point(code, distance, self._noise, self._strength, gadget)
            raise Uncalibrated(
                point,
                f"the errors of {profile.asked} under {self._noise} noise of "
                f"{self._strength:g} are not known: {unknown}",
            ) from None


def distilled(x: float, z: float) -> float:
    """Chance of Z on a T state that is distilled of such as X and Z errors strike."""
    return fifteen_to_one(_as_z_errors(x, z)).error


def _as_z_errors(x: float, z: float) -> float:
    """Chance of Z after the twirl of a T state that independent X and Z errors strike.

    |<T|X|T>|^2 = |<T|Y|T>|^2 = 1/2: half the X and Y errors are Z errors, and half are none.
    """
    return z * (1 - x) + x / 2


@lru_cache(maxsize=256)
def _native(code: str, distance: int) -> Mapping[str, Native]:
    made: Code = _CODES[code](distance)
    return made.native
