"""One night: run the workload, judge residuals, train where there is drift, and say so.

    STATE/nightly.json              the configuration that all nights here have
    STATE/nights/0007/0/            records of the first backend (`records/folder.py`)
    STATE/nights/0007/model.npz     a candidate, where there was drift
    STATE/nights/0007/night.json    the aggregated snapshot; written last, so that what lacks it is
                                    gone on with
    STATE/report.html

Which model serves and what state machines are in follow from the snapshots of earlier nights, which
are never written twice; so a night that is repeated gives the same bytes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.em import running, summary
from harness.em.backends.backend import Refused
from harness.em.backends.registry import open_backend
from harness.em.circuits.families import FAMILIES
from harness.em.circuits.tasks import digest
from harness.em.learning.forest import Forest, ModelDamaged, load
from harness.em.nightly import page, promotion
from harness.em.nightly.drift import Judged, Residual, judge, predicted, residual
from harness.em.nightly.promotion import Verdict
from harness.em.records.folder import Damaged, Folder, code_digest, versions
from harness.em.records.rows import Row
from harness.em.running import Suite, Tell

JUDGED_BY: Final = "readout"
METHODS: Final = ("none", JUDGED_BY, "zne")
NIGHTS_MAX: Final = 3650


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """backends: as of `backends/registry.py`; `{night}` in one stands for the night's number.

    circuits: of each family, the same every night. training_circuits: of each family, fresh ones,
    where there was drift. shots: of each row. seed: of all random choices.
    """

    backends: tuple[str, ...] = (
        "physical:qubits=4,seed=1,day={night},age=1",
        "physical:qubits=4,seed=2,day={night},age=1",
    )
    families: tuple[str, ...] = ("mirror", "ising", "heisenberg", "vqe-hea", "qaoa-ring", "ghz")
    circuits: int = 2
    qubits: int = 4
    methods: tuple[str, ...] = METHODS
    training_circuits: int = 10
    shots: int = 8_000
    seed: int = 1


class BadConfiguration(Exception):
    """A configuration makes no sense; says where."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One backend of one night. trouble: why there are no rows, if so. refused: rows that it
    did not run."""

    backend: str
    rows: int = 0
    rows_sha256: str = ""
    calibration: str = ""
    residual: Residual | None = None
    judged: Judged | None = None
    lines: list[summary.Line] = []
    refused: list[str] = []
    trouble: str = ""


class Night(msgspec.Struct, frozen=True, kw_only=True):
    """The aggregated snapshot. serving: digest of the model that serves after it; empty for
    none. model_night: the night that made it."""

    night: int
    machines: list[Machine]
    alerts: list[str]
    verdict: Verdict | None
    serving: str
    model_night: int | None
    code: str
    versions: dict[str, str]


def configuration(path: Path | None) -> Configuration:
    """From a TOML file, or the usual one. Raises BadConfiguration or OSError."""
    if path is None:
        return Configuration()
    try:
        found = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Configuration)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"{path}: {error}") from error
    unknown = sorted(set(found.families) - set(FAMILIES))
    if unknown:
        raise BadConfiguration(f"{path}: no family is named {', '.join(unknown)}.")
    if JUDGED_BY not in found.methods:
        raise BadConfiguration(f"{path}: drift is judged by `{JUDGED_BY}`: name it in methods.")
    if not found.backends or len(set(found.backends)) < len(found.backends):
        raise BadConfiguration(f"{path}: name one backend or more, each once.")
    for name, most in (("circuits", 10_000), ("training_circuits", promotion.NIGHT_SEEDS)):
        if not 1 <= getattr(found, name) <= most:
            raise BadConfiguration(f"{path}: {name} is 1 to {most}.")
    return found


def nights(state: Path) -> list[Night]:
    """Those that are finished, in order. Raises Damaged."""
    found: list[Night] = []
    for number in range(1, NIGHTS_MAX + 1):
        path = _folder(state, number) / "night.json"
        if not path.exists():
            return found
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Night))
        except msgspec.MsgspecError as error:
            raise Damaged(f"{path} holds no night: {error}") from error
    return found


def run(config: Configuration, state: Path, tell: Tell, processes: int = 1) -> Night:
    """The next night, or the one that was interrupted. Raises Damaged for another's folder."""
    _claim(config, state)
    past = nights(state)
    number = len(past) + 1
    if number > NIGHTS_MAX:
        raise BadConfiguration(f"There are {NIGHTS_MAX} nights in a folder; name another one.")
    folder = _folder(state, number)
    suites = [
        Suite(
            families=config.families,
            seeds=tuple(range(1, config.circuits + 1)),
            qubits=config.qubits,
            methods=config.methods,
            backends=(text.replace("{night}", str(number)),),
            shots=config.shots,
            seed=int(digest([config.seed, number])[:12], 16),
        )
        for text in config.backends
    ]
    places = [folder / str(at) for at in range(len(suites))]
    machines = [
        msgspec.structs.replace(machine, judged=_judged(past, at, machine))
        for at, machine in enumerate(_all(suites, places, tell, processes))
    ]
    alerts = [
        f"{machine.backend}: error rates are as if {1 + machine.residual.value:.2f} times what the "
        "calibration says, beyond the band for the second night."
        for machine in machines
        if machine.residual and machine.judged and machine.judged.state == "drift"
    ]
    serving, made = (past[-1].serving, past[-1].model_night) if past else ("", None)
    verdict = None
    if alerts:
        candidate, verdict = _trained(config, suites, machines, state, serving, made, number)
        if candidate is not None:
            candidate.save(folder / "model.npz")
        if verdict.promoted:
            serving, made = verdict.candidate, number
    found = Night(
        night=number,
        machines=machines,
        alerts=alerts,
        verdict=verdict,
        serving=serving,
        model_night=made,
        code=code_digest(),
        versions=versions(),
    )
    _write(folder / "night.json", _pretty(found))
    _write(state / "report.html", page.drawn([*past, found], config.backends).encode())
    return found


def _all(
    suites: Sequence[Suite], places: Sequence[Path], tell: Tell, processes: int
) -> list[Machine]:
    """Every backend in records of its own, so that the order does not matter."""
    if processes == 1:
        return [machine_of(suite, place, tell) for suite, place in zip(suites, places, strict=True)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        found: list[Machine] = []
        for machine in pool.map(machine_of, suites, places):
            found.append(machine)
            tell(len(found), len(suites), machine.backend)
        return found


def silent(done: int, total: int, name: str) -> None:
    """Tells nobody."""


def machine_of(suite: Suite, place: Path, tell: Tell = silent) -> Machine:
    """Run one backend's rows, or what of them is missing. A backend that cannot be opened is told
    of, and holds up no other."""
    folder = Folder(place)
    try:
        rows, refused = running.run(suite, folder, tell)
    except Refused as error:
        return Machine(backend=suite.backends[0], trouble=str(error))
    return Machine(
        backend=rows[0].backend if rows else suite.backends[0],
        rows=len(rows),
        rows_sha256=folder.manifest()["rows_sha256"],
        calibration=rows[0].calibration_digest if rows else "",
        residual=_residual(suite, folder, rows),
        lines=summary.lines(rows),
        refused=sorted(refused),
    )


def _residual(suite: Suite, folder: Folder, rows: Sequence[Row]) -> Residual | None:
    tasks = {task.circuit_id: task for task in running.tasks(suite)}
    found = []
    for row in rows:
        if row.method_text == JUDGED_BY:
            known = folder.calibration(row.calibration_digest)
            off = (row.exact - row.value) / row.spread
            found.append((predicted(tasks[row.circuit_id], known), off, row.std_err / row.spread))
    return residual(found)


def _judged(past: Sequence[Night], at: int, machine: Machine) -> Judged | None:
    """Nights without a residual are left out of the chart."""
    if machine.residual is None:
        return None
    before = [night.machines[at].residual for night in past]
    values = [each.value for each in before if each is not None]
    return judge([*values, machine.residual.value])[-1]


def _trained(
    config: Configuration,
    suites: Sequence[Suite],
    machines: Sequence[Machine],
    state: Path,
    serving: str,
    made: int | None,
    number: int,
) -> tuple[Forest | None, Verdict]:
    there = [suite for suite, each in zip(suites, machines, strict=True) if each.rows]
    backends = [open_backend(suite.backends[0]) for suite in there]
    try:
        found = promotion.gathered(
            backends, config.families, config.training_circuits, config.qubits, config.shots,
            suites[0].seed, number,
        )  # fmt: skip
    finally:
        for backend in backends:
            backend.close()
    calibrations = [each.calibration for each in machines if each.calibration]
    return promotion.judged(found, _serving(state, serving, made), calibrations)


def _serving(state: Path, wanted: str, made: int | None) -> Forest | None:
    """Raises Damaged where the file holds another model than the snapshot names."""
    if made is None:
        return None
    path = _folder(state, made) / "model.npz"
    try:
        found = load(path)
    except (OSError, ModelDamaged) as error:
        raise Damaged(f"The serving model cannot be read: {error}") from error
    if found.digest != wanted:
        raise Damaged(f"{path} is not the model that serves.")
    return found


def _claim(config: Configuration, state: Path) -> None:
    """A folder has one configuration, or its charts would compare what is not alike."""
    state.mkdir(parents=True, exist_ok=True)
    path, wanted = state / "nightly.json", _pretty(config)
    if not path.exists():
        _write(path, wanted)
    elif path.read_bytes() != wanted:
        raise Damaged(f"{state} holds nights of another configuration; name another folder.")


def _folder(state: Path, number: int) -> Path:
    return state / "nights" / f"{number:04}"


def _write(path: Path, raw: bytes) -> None:
    """All of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(raw)
    beside.replace(path)


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"
