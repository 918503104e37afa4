"""Runs shots of a prepared program with a chosen engine; packs, counts and hashes the rows.

`prepare` turns graph bytes into what the engines run. `run_slice` hands packed rows to a sink as
they come, so that memory stays bounded; `run_segment` returns them whole. Their form is in
`layout.py`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from functools import partial

import numpy as np

from qmkd.core.ports import USUAL, SegmentReport, Setting
from qmkd.engine import engines, exact, snapshot, tableau
from qmkd.engine.batch import Batch, run_batches
from qmkd.engine.choose import EXACT
from qmkd.engine.layout import Packed
from qmkd.engine.noise import DECODING, IDEAL, NoiseModel
from qmkd.engine.paired import paired
from qmkd.engine.prepared import Poll, Prepared, Rows, Stop, Unable
from qmkd.engine.reports import outcomes_max
from qmkd.engine.slices import NEVER, DataSink, Parked, Parking, Sink, Slice
from qvm.lower import lower
from qvm.program import VerifiedProgram
from qvm.raising import raised_lowered
from qvm.verify import verify_bytes
from syscalls.results import SHOT_BLOCK

__all__ = [
    "DataSink",
    "Parked",
    "Parking",
    "Sink",
    "prepare",
    "run_segment",
    "run_slice",
]


def prepare(graph: bytes) -> Prepared:
    """Read, verify and lower a graph. Raises `Unable` where it is not valid."""
    verified = verify_bytes(graph)
    if not isinstance(verified, VerifiedProgram):
        raise Unable(f"the graph is not valid: {verified[0].path}: {verified[0].message}")
    return Prepared(lower(verified), verified.summary)


def noise_model(
    name: str, program: Prepared, setting: Setting = USUAL, stop: Stop = lambda: False
) -> NoiseModel:
    """The model of that name: `ideal`, `calibrated MODEL STRENGTH`, such as `calibrated uniform
    0.001`, or `decoded` or `physical` with these. All but `ideal` have the errors of the pairs that
    the setting names.

    Raises `Unable` where there is none or the code or the program cannot be decoded, `Uncalibrated`
    where a code's rates are not known, `Stopped` where `stop()` was true while decoders were made.
    """
    if name == "ideal":
        return IDEAL
    # What is compiled for a model is kept under its name.
    larger = "".join(f", {each.code} {each.distance} as {each.to}" for each in setting.raised)
    match name.split():
        case ["calibrated", model, strength] if _is_chance(strength):
            make = partial(_calibrated, name + larger, program, model, float(strength), setting)
        case ["decoded" | "physical", model, strength] if _is_chance(strength):
            make = partial(
                _decoded, name + larger, program, model, float(strength), setting, Poll(stop)
            )
        case _:
            raise Unable(f"there is no noise model {name!r}")
    return program.kept((name, setting), lambda: paired(make(), program.lowered, setting.pairs))


def _calibrated(
    name: str, program: Prepared, model: str, strength: float, setting: Setting
) -> NoiseModel:
    """Imported at need: the table's laws bring SciPy with them."""
    from qmkd.engine.coded import CodedNoise
    from qmkd.engine.rates import TableRates
    from qmkd.engine.tables import table

    named = f"{name}, table {setting.table}" if setting.table else name
    lowered = raised_lowered(program.lowered, setting.raised)
    return CodedNoise(named, lowered, TableRates(table(setting.table), model, strength))


def _decoded(
    name: str, program: Prepared, model: str, strength: float, setting: Setting, poll: Poll
) -> NoiseModel:
    """By lives of qubits, or the program as a whole. Imported at need, likewise."""
    from qmkd.engine.decoded import DecodedNoise
    from qmkd.engine.physical import PhysicalNoise
    from qmkd.engine.rates import TableRates
    from qmkd.engine.tables import table

    rates = TableRates(table(setting.table), model, strength)
    keeps = setting.decoder_data
    kind = PhysicalNoise if name.startswith("physical") else DecodedNoise
    lowered = raised_lowered(program.lowered, setting.raised)
    return kind(name, lowered, rates, model, strength, setting.decoder, keeps, poll)


def _is_chance(text: str) -> bool:
    try:
        return 0 < float(text) < 0.5
    except ValueError:
        return False


def run_segment(
    program: Prepared,
    seed: int,
    shot_first: int,
    shots: int,
    engine: str,
    noise: str = "ideal",
    counts: bool = True,
    stop: Stop = lambda: False,
    setting: Setting = USUAL,
) -> tuple[SegmentReport, bytes]:
    """Run shots [shot_first, shot_first + shots): the report, and their packed rows.

    Raises as `run_slice` does.
    """
    parts: list[bytes] = []
    report = run_slice(
        program, seed, shot_first, shots, engine, noise, counts, stop,
        lambda packed: parts.append(packed.tobytes()), setting,
    )  # fmt: skip
    assert isinstance(report, SegmentReport), "nobody asked it to park"
    return report, b"".join(parts)


def run_slice(
    program: Prepared,
    seed: int,
    shot_first: int,
    shots: int,
    engine: str,
    noise: str,
    counts: bool,
    stop: Stop,
    sink: Sink,
    setting: Setting = USUAL,
    data_sink: DataSink = lambda data: None,
    parking: Parking = NEVER,
    resume: bytes | None = None,
) -> SegmentReport | Parked:
    """Run shots and hand their packed rows to `sink`, in order, as whole SHOT_BLOCKs and the last
    one; what decoders knew of each shot goes to `data_sink`, where the setting keeps it.

    It may park at a fence or between batches, and may go on from where a run of these shots has
    parked: together they give the same rows, leaves, counts and figures as one that never did. A
    run that parks by itself has passed a fence or finished a batch before. Engine EXACT has no rows
    and never parks.

    shot_first is a multiple of SHOT_BLOCK. resume: a snapshot. Raises `Unable` where engine or
    noise model do not exist or do not fit the program, `Stopped` where `stop()` was true at a
    fence, between batches or some time between operations, `Unfit` where the snapshot cannot be
    continued here.
    """
    assert shot_first % SHOT_BLOCK == 0, shot_first
    assert shots >= 1, shots
    if engine == EXACT:
        return _exact(program, noise_model(noise, program, setting, stop), stop)
    started = time.thread_time_ns()
    model = noise_model(noise, program, setting, stop)
    slice_ = Slice(program, engine, model, seed, shot_first, shots, counts, sink, data_sink)
    begun = slice_.resume(resume, stop) if resume is not None else None
    # To make a form is what most of these takes, if they were not made before.
    made_ns = time.thread_time_ns() - started
    spent = partial(
        _spent, program, engine, made_ns if resume is not None or not model.ideal else 0
    )
    parked: Parked | None = None
    for each in _runs(program, engine, model, seed, slice_.at, slice_.end, stop, parking, begun):
        if isinstance(each, tableau.Shots) or (isinstance(each, Batch) and each.ended):
            slice_.add(each)
            continue
        parked = slice_.parked(each, parking)
        if parked is not None:
            break
    report = slice_.report(setting, time.thread_time_ns() - started, spent)
    if parked is None:
        assert report is not None, "there is a shot"
        return report
    return parked._replace(report=report)


def _exact(program: Prepared, noise: NoiseModel, stop: Stop) -> SegmentReport:
    """Probabilities instead of rows. Raises `exact.TooLarge`."""
    started = time.thread_time_ns()
    probabilities = exact.exact(program, noise, stop).probabilities
    most = outcomes_max(len(program.lowered.events))
    if len(probabilities) > most:
        raise exact.TooLarge("outcomes", len(probabilities), most)
    cpu_ns = time.thread_time_ns() - started
    return SegmentReport(
        shots=1,
        counts=None,
        first_row={},
        leaves=hashlib.sha256(b"").digest(),
        engine=EXACT,
        cpu_ns=cpu_ns,
        notes={},
        probabilities=probabilities,
        spent={EXACT: cpu_ns},
    )


def _spent(program: Prepared, engine: str, made_ns: int, cpu_ns: int) -> dict[str, int]:
    """The CPU time of a run by what it went to, as `SegmentReport.spent`.

    made_ns: to make the noise model, decoders among it, which is part of compiling.
    """
    once = {"compile": made_ns} if made_ns else {}
    if engine == engines.TABLEAU:
        return {engine: cpu_ns - made_ns, **once}
    spent = {
        name.removesuffix("_ns"): ns
        for name, ns in program.notes.items()
        if name.endswith("_ns") and not name.startswith(DECODING)
    }
    spent["compile"] += made_ns
    return spent | {"results": cpu_ns - sum(spent.values())}


def packed_rows(
    program: Prepared,
    seed: int,
    shot_first: int,
    shots: int,
    engine: str,
    noise: NoiseModel,
    stop: Stop = lambda: False,
    data_sink: DataSink = lambda data: None,
) -> Iterator[Packed]:
    """The packed rows of the shots, in portions and in order. Raises as `run_slice` does.

    data_sink: is given what decoders knew of a portion just before it, where that is kept.
    """
    end = shot_first + shots
    for each in _runs(program, engine, noise, seed, shot_first, end, stop, NEVER, None):
        assert each is not None, "nobody asked it to park"
        if each.data is not None:
            data_sink(each.data)
        yield each.packed()


def _runs(
    program: Prepared,
    engine: str,
    noise: NoiseModel,
    seed: int,
    first: int,
    end: int,
    stop: Stop,
    pause: Parking,
    begun: snapshot.Run | None,
) -> Iterator[Batch | tableau.Shots | tableau.Shot | None]:
    """Shots [first, end) in portions, each run to its end; the first may have begun elsewhere.

    Where `pause()` is true comes what stands at a fence, or None between batches.
    """
    if first == end:
        return
    if engine == engines.TABLEAU:
        assert begun is None or isinstance(begun, tableau.Shot)
        yield from tableau.run_shots(
            program, noise, seed, first, end - first, stop, pause, pause.back, begun
        )
        return
    assert begun is None or isinstance(begun, Batch)
    started = time.thread_time_ns()
    form = program.form(engines.compiler(engine), noise, stop)
    compile_ns = time.thread_time_ns() - started
    for batch in run_batches(program, form, seed, first, end - first, stop, pause, begun):
        program.notes["compile_ns"] = compile_ns
        yield batch
        if batch.ended and batch.shot_first + batch.shots < end and pause():
            yield None


def event_rows(
    program: Prepared,
    seed: int,
    shot_first: int,
    shots: int,
    engine: str,
    noise: NoiseModel = IDEAL,
    stop: Stop = lambda: False,
) -> Rows:
    """The events of the shots, unpacked. Raises as `run_slice` does."""
    if engine == engines.TABLEAU:
        return tableau.run(program, seed, shot_first, shots, noise, stop)
    form = program.form(engines.compiler(engine), noise, stop)
    batches = run_batches(program, form, seed, shot_first, shots, stop)
    return np.concatenate([batch.values() for batch in batches])
