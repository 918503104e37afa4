"""One row for each mitigated number: SPEC-001's ten columns first, then what is needed beside them.

Fidelity of a value is 1 - |value - exact| / (2 spread), spread being the observable's sum of
|weights|: 1 where it is exact, 0 where it could not be more wrong. `runtime_seconds` is the time
that the machine would be busy, by its calibration: wall time of a simulation says nothing of a
machine and would be another one each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

SPEC_COLUMNS: Final = (
    "job_id", "circuit_id", "family", "shots", "raw_histogram_path", "unmitigated_fidelity",
    "mitigated_fidelity", "method", "parameters", "runtime_seconds",
)  # fmt: skip


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """shots: in all, calibration and training among them, of which these are `shots_beside`.

    parameters: JSON. harm: farther off than no mitigation at as many shots, by more than twice the
    standard errors of both. seed: every random choice of this row follows from it.
    """

    job_id: str
    circuit_id: str
    family: str
    shots: int
    raw_histogram_path: str
    unmitigated_fidelity: float
    mitigated_fidelity: float
    method: str
    parameters: str
    runtime_seconds: float
    backend: str
    calibration_digest: str
    task: str
    method_text: str
    repeat: int
    seed: int
    exact: float
    exact_by: str
    spread: float
    value: float
    std_err: float
    ci_low: float
    ci_high: float
    clipped: bool
    unmitigated_value: float
    unmitigated_std_err: float
    harm: bool
    note: str
    circuits: int
    shots_beside: int
    qubits: int
    gates_1q: int
    gates_2q: int
    depth: int
    money: float
    plan_digest: str

    @property
    def error(self) -> float:
        """Of the value, as a share of the spread."""
        return abs(self.value - self.exact) / self.spread

    @property
    def unmitigated_error(self) -> float:
        """Likewise without mitigation, at as many shots."""
        return abs(self.unmitigated_value - self.exact) / self.spread


assert Row.__struct_fields__[: len(SPEC_COLUMNS)] == SPEC_COLUMNS

_TYPES: Final = {"str": "string", "int": "int64", "float": "float64", "bool": "bool_"}


def _schema() -> Any:
    import pyarrow

    annotations = Row.__annotations__
    return pyarrow.schema(
        [(name, getattr(pyarrow, _TYPES[annotations[name]])()) for name in Row.__struct_fields__]
    )


def write(rows: Sequence[Row], path: Path, about: str) -> None:
    """As Parquet. The same rows with the same library give the same bytes.

    about: kept in the file's metadata.
    """
    import pyarrow
    import pyarrow.parquet

    columns = {name: [getattr(row, name) for row in rows] for name in Row.__struct_fields__}
    table = pyarrow.table(columns, schema=_schema())
    table = table.replace_schema_metadata({"qmkd-em": about})
    pyarrow.parquet.write_table(table, path, compression="zstd", version="2.6")


def read(path: Path) -> list[Row]:
    """The rows of a file that `write` wrote. Raises OSError or msgspec.ValidationError."""
    import pyarrow
    import pyarrow.parquet

    try:
        found = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise OSError(f"{path} is no Parquet file that can be read: {error}") from error
    return msgspec.convert(found, list[Row])
