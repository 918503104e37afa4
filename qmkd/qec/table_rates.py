"""A calibration table as a source of rates for estimates.

Apart from `resources.py`, because a table's module loads the decoders that filled it, which an
estimate from a law can do without.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from qmkd.qec.calibration import NotKnown, Table
from qmkd.qec.flips import from_log, to_log
from qmkd.qec.resources import Rate


class TableRates(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of a calibration table: memories under one kind of noise, X and Z errors added.

    Rates per round and logical qubit, of X errors and of Z errors, become rates of d rounds in the
    bulk, and are added: the unit of `ErrorRates` and of Azure's law. What preparing and measuring
    add is left out, as a program's logical qubits live for many cycles.
    """

    table: Table
    noise: str = "uniform"

    def rate(self, code: str, distance: int, p: float) -> Rate | None:
        """See `ErrorRates`; None where the table has nothing and no law reaches."""
        try:
            found = self.table.look_up(code, distance, self.noise, p, "memory")
        except NotKnown:
            return None

        def of_cycle(rates: Iterable[float]) -> float:
            return sum(from_log(distance * to_log(rate)) for rate in rates)

        return Rate(
            value=of_cycle(term.rate for term in found.terms),
            low=of_cycle(term.low for term in found.terms),
            high=of_cycle(term.high for term in found.terms),
            how=found.how,
            source=found.source,
        )
