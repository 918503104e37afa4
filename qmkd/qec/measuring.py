"""Measures entries of the calibration table: builds experiments, samples, decodes, subtracts.

A memory is measured at two lengths, because preparing and measuring cost something too: with
L = -ln(1 - 2 chance) / 2, which adds up, L(rounds) = boundary + rounds * rate. A gate is measured
between rounds of memory, whose L, measured over as many rounds without the gate, is taken off what
the whole suffers. Effort is given in seconds but spent as a number of shots that follows from the
circuit alone, so a run can be repeated bit for bit. Read `calibration.py` for the table.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Final, NamedTuple

import msgspec
import numpy as np
import stim

from qmkd.qec import noise
from qmkd.qec.calibration import ERRS, Basis, Entry, Experiment, Term
from qmkd.qec.circuits import (
    injection,
    memory,
    surgery_cnot,
    transversal_cnot,
    transversal_h,
)
from qmkd.qec.codes.bacon_shor import bacon_shor
from qmkd.qec.codes.code import OTHER, Code
from qmkd.qec.codes.shyps import shyps
from qmkd.qec.codes.surface import surface
from qmkd.qec.decoders import (
    BpOsd,
    Decoder,
    Kind,
    Matching,
    error,
    mechanisms,
    model_of,
    of_kind,
)
from qmkd.qec.sampling import (
    CHUNK_SHOTS,
    INTERVAL,
    Stop,
    Tally,
    clopper_pearson,
    from_log,
    sample_and_decode,
    syndrome_weights,
    to_log,
)
from qmkd.qec.windows import Crossing, Part, Stepwise, passes, rounds_of

CODES: Final[dict[str, Callable[[int], Code]]] = {
    "Surface": surface,
    "BaconShor": bacon_shor,
    "SHYPS": shyps,
}
"""By their names in qvm/profiles.py."""
ERRORS_ENOUGH: Final = 800
"""Of each memory: the rate per round then has a relative standard error of 5 %."""
ERRORS_LEAST: Final = 10
"""Fewer in the longer memory, and a point counts as not measurable."""
GATE_ERRORS_ENOUGH: Final = 10_000
"""Of a gate among its rounds, and of these rounds alone: either is then known to 1 %."""
GATE_ERRORS_LEAST: Final = 2_000
"""Fewer, and what a gate adds drowns in what its rounds cost: it counts as not measurable."""
QUIET_ROUNDS: Final = 2
"""In which nothing may be detected, for an injected state to be kept."""
SLOW: Final = "bp+osd"
SLOW_CHUNK_SHOTS: Final = 256
PART_AXIS: Final = 3  # of a detector's coordinates (x, y, round, part)
LIBRARIES: Final = ("stim", "pymatching", "numpy", "ldpc")


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How long to try. seconds: for one experiment on one core of about 3 GHz, roughly."""

    seconds: float = 5.0
    errors: int = ERRORS_ENOUGH


def versions() -> dict[str, str]:
    """Of the libraries that results depend on."""
    return {name: version(name) for name in LIBRARIES}


def seed_of(*parts: object) -> int:
    """A seed from what an experiment is: stable, and different for different experiments."""
    text = "/".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "little")


def _named(model: noise.NoiseModel) -> str:
    return f"{model.name} {model.strength!r}"


class Counted(NamedTuple):
    """An experiment that was run."""

    tally: Tally
    experiment: Experiment
    decoder: str


def run(circuit: stim.Circuit, decoder: Decoder, rounds: int, effort: Effort, seed: int) -> Counted:
    """Sample and decode until there are errors enough or the effort is spent."""
    chunk = SLOW_CHUNK_SHOTS if decoder.name.startswith(SLOW) else CHUNK_SHOTS
    shots = shots_for(circuit, decoder, effort.seconds, seed)
    stop = Stop(shots=max(chunk, shots - shots % chunk), errors=effort.errors)
    tally = sample_and_decode(circuit, decoder, stop, seed, chunk=chunk)
    done = Experiment(rounds=rounds, shots=tally.shots, errors=tally.errors, seed=seed)
    return Counted(tally, done, decoder.name)


def shots_for(circuit: stim.Circuit, decoder: Decoder, seconds: float, seed: int) -> int:
    """Shots that take about as long, from the circuit and seed alone.

    Decoding takes time per detection event, and more of it in larger models. Measured with
    PyMatching 2.4 and ldpc 2.4 on one core of a virtual machine (AMD EPYC).
    """
    rows = circuit.compile_detector_sampler(seed=seed).sample(256, bit_packed=True)
    events = float(syndrome_weights(rows).mean())
    if decoder.name.startswith(SLOW):
        each = 1e-4
    elif "correlated" in decoder.name:
        each = 8e-8 * circuit.num_detectors**0.38
    else:
        each = 1.5e-7 * (1 + events / 500)
    cost = 5e-8 + 2e-9 * circuit.num_detectors + each * events
    return int(seconds / cost)


# --- decoders for experiments ---------------------------------------------------------------------


def kinds_of(model: stim.DetectorErrorModel, basis: Basis) -> tuple[Kind, Kind]:
    """Detectors of X checks and of Z checks; all observables are those of `basis`.

    From the detectors' fourth coordinate: odd for Z checks (`circuits/writer.py`).
    """
    parts = _parts(model)
    every = frozenset(range(model.num_observables))
    x, z = (
        Kind(
            frozenset(each for part, those in parts.items() if part % 2 == odd for each in those),
            every if basis == kind else frozenset(),
        )
        for odd, kind in ((0, "X"), (1, "Z"))
    )
    return x, z


def _parts(model: stim.DetectorErrorModel) -> dict[int, frozenset[int]]:
    found: dict[int, set[int]] = {}
    for detector, place in model.get_detector_coordinates().items():
        found.setdefault(int(place[PART_AXIS]), set()).add(detector)
    return {part: frozenset(each) for part, each in found.items()}


def decoder_of_memory(code: Code, circuit: stim.Circuit, basis: Basis) -> Decoder:
    """Correlated matching; plain where X and Z checks learn nothing from each other; or BP+OSD.

    At distance 3 matching is plain: correlated matching takes some single faults for others there,
    and then the rate falls as p, not as p^2. A subsystem code's correlated matching is no better
    than plain matching (Bacon-Shor, d = 3 to 9), at five times the cost. BP+OSD gets only the
    checks of one kind: with both, belief propagation fails on the many short loops of Y errors.
    """
    if not code.matchable:
        model = circuit.detector_error_model(approximate_disjoint_errors=True)
        return BpOsd(of_kind(model, kinds_of(model, basis)["XZ".index(basis)]))
    return Matching(model_of(circuit), correlated=learns(code))


def learns(code: Code) -> bool:
    """Whether correlated matching serves a code: see `decoder_of_memory`."""
    return code.commuting() and code.distance > 3


def decoder_of_cnot(
    code: Code, circuit: stim.Circuit, basis: Basis, when: Sequence[float]
) -> Stepwise:
    """Two passes: first the block that errors of the kind seen in `basis` are copied from.

    when: rounds of the CNOTs, as numbers between those of the rounds before and after.
    """
    model = circuit.detector_error_model(approximate_disjoint_errors=True)
    rounds, parts = rounds_of(model), _parts(model)
    # X errors, which Z checks see, go from control (block 0) to target; Z errors the other way.
    order = (0, 1) if basis == "Z" else (1, 0)
    mine, others = (1, 0) if basis == "Z" else (0, 1)
    correlated = learns(code)
    blocks = [
        Part(parts[2 * block + mine], parts[2 * block + others] if correlated else frozenset())
        for block in order
    ]
    steps = passes(blocks, [Crossing(0, 1, each) for each in when], rounds)
    return Stepwise(model, steps, correlated, kinds_of(model, basis))


def seen_only(model: stim.DetectorErrorModel) -> stim.DetectorErrorModel:
    """Without the mechanisms that no detector sees: no decoder can do anything about these."""
    lines = [error(*each) for each in mechanisms(model) if each.whole().detectors]
    lines.append(f"detector D{model.num_detectors - 1}")
    lines.append(f"logical_observable L{model.num_observables - 1}")
    return stim.DetectorErrorModel("\n".join(lines))


# --- memory ---------------------------------------------------------------------------------------


class Flip(NamedTuple):
    """A flip chance as -ln(1 - 2 chance) / 2, with a 95 % interval."""

    value: float
    low: float
    high: float


def flip_of(counted: Counted, observables: int) -> Flip:
    """The mean flip of one observable, its interval as wide as that of any flip."""
    tally = counted.tally
    low, high = clopper_pearson(tally.errors, tally.shots)
    if not tally.errors:
        return Flip(0.0, 0.0, to_log(high))
    mean = sum(tally.wrong(each) for each in range(observables)) / observables / tally.shots
    per_any = mean / (tally.errors / tally.shots)
    return Flip(to_log(mean), to_log(low * per_any), to_log(high * per_any))


def slope(short: Flip, long: Flip, rounds: int) -> Flip:
    """What one of `rounds` rounds more adds; the interval takes both as independent."""
    value = (long.value - short.value) / rounds
    down = math.hypot(long.value - long.low, short.high - short.value) / rounds
    up = math.hypot(long.high - long.value, short.value - short.low) / rounds
    return Flip(value, max(0.0, value - down), value + up)


def measure_memory(
    code: Code, model: noise.NoiseModel, basis: Basis, effort: Effort
) -> Entry | None:
    """Memories of d and 4d rounds (2d where decoding is slow); shorter ones where these forget.

    None where the longer one has fewer than ERRORS_LEAST errors, or where it is not sure to have
    more than the shorter: a law through such a point would say anything.
    """
    distance = code.distance
    long = 4 * distance if code.matchable else 2 * distance
    for lengths in ((distance, long), (2, 2 + distance), (1, 3)):
        counted = []
        for rounds in reversed(lengths):
            circuit = noise.apply(memory(code, rounds, basis), model)
            seed = seed_of(
                "memory", code.profile, code.variant, distance, _named(model), rounds, basis
            )
            decoder = decoder_of_memory(code, circuit, basis)
            counted.append(run(circuit, decoder, rounds, effort, seed))
            if counted[0].tally.errors < ERRORS_LEAST:
                return None
        later, sooner = (flip_of(each, code.k) for each in counted)
        if later.value < 0.8:  # a flip chance of 0.4
            break
    rate = slope(sooner, later, lengths[1] - lengths[0])
    if rate.low <= 0:
        return None
    term = Term(
        pauli=ERRS[basis],
        rate=from_log(rate.value),
        low=from_log(rate.low),
        high=from_log(rate.high),
    )
    return Entry(
        code=code.profile,
        variant=code.variant,
        distance=distance,
        noise=model.name,
        p=model.strength,
        gadget="memory",
        basis=basis,
        per="round",
        terms=(term,),
        boundary=sooner.value - lengths[0] * rate.value,
        decoder=counted[0].decoder,
        interval=f"{INTERVAL} of each length, propagated",
        experiments=tuple(each.experiment for each in reversed(counted)),
    )


# --- gates ----------------------------------------------------------------------------------------


class Around(NamedTuple):
    """A memory of as many rounds as a gate is measured among, and its L."""

    counted: Counted
    flip: Flip

    def half(self) -> tuple[float, float]:
        """L of half the rounds with one of the two ends, and its standard deviation."""
        return self.flip.value / 2, (self.flip.high - self.flip.low) / 3.92 / 2


def measure_around(
    code: Code, model: noise.NoiseModel, basis: Basis, effort: Effort
) -> Around | None:
    """A memory of 2d rounds. None where it has too few errors to compare with."""
    rounds = 2 * code.distance
    circuit = noise.apply(memory(code, rounds, basis), model)
    seed = seed_of(
        "around", code.profile, code.variant, code.distance, _named(model), rounds, basis
    )
    counted = run(circuit, decoder_of_memory(code, circuit, basis), rounds, effort, seed)
    if counted.tally.errors < GATE_ERRORS_LEAST:
        return None
    return Around(counted, flip_of(counted, code.k))


def _entry(
    gadget: str, code: Code, model: noise.NoiseModel, basis: Basis, counted: Counted,
    terms: tuple[Term, ...], *around: Around,
) -> Entry:  # fmt: skip
    return Entry(
        code=code.profile,
        variant=code.variant,
        distance=code.distance,
        noise=model.name,
        p=model.strength,
        gadget=gadget,
        basis=basis,
        per="gate",
        terms=terms,
        decoder=counted.decoder,
        interval="normal 95 %, memory taken off",
        experiments=(counted.experiment, *(each.counted.experiment for each in around)),
    )


def measure_cnot(
    code: Code, model: noise.NoiseModel, basis: Basis, around: Around, effort: Effort
) -> Entry | None:
    """The transversal CNOT between d rounds before and d after, memory of these taken off."""
    d = code.distance
    circuit = noise.apply(transversal_cnot(code, d, d, basis), model)
    seed = seed_of("cnot", code.profile, code.variant, d, _named(model), basis)
    counted = run(circuit, decoder_of_cnot(code, circuit, basis, [d - 0.5]), 2 * d, effort, seed)
    if counted.tally.errors < GATE_ERRORS_LEAST:
        return None
    terms = _two_qubit_terms(counted, basis, *around.half())
    return _entry("cnot", code, model, basis, counted, terms, around)


def measure_surgery(
    code: Code, model: noise.NoiseModel, basis: Basis, around: Around, effort: Effort
) -> Entry | None:
    """The CNOT by two joint measurements of d rounds each, which are part of the gate."""
    d = code.distance
    circuit = noise.apply(surgery_cnot(d, d, d, d, basis), model)
    seed = seed_of("cnot_surgery", code.profile, code.variant, d, _named(model), basis)
    decoder = Matching(model_of(circuit), correlated=learns(code))
    counted = run(circuit, decoder, 4 * d, effort, seed)
    if counted.tally.errors < GATE_ERRORS_LEAST:
        return None
    terms = _two_qubit_terms(counted, basis, *around.half())
    return _entry("cnot_surgery", code, model, basis, counted, terms, around)


def _two_qubit_terms(
    counted: Counted, basis: Basis, half: float, half_deviation: float
) -> tuple[Term, ...]:
    """Chances of the three logical Paulis of one type, from parities of the two observables.

    ln of the mean sign of each parity adds up over independent parts; flips before the gate are
    copied by it, from control to target in basis Z and from target to control in basis X. half: L
    of one qubit's rounds before the gate, and as well of those after it.
    """
    tally = counted.tally
    logs: dict[int, tuple[float, float]] = {}
    for mask in (1, 2, 3):
        odd = sum(count for bits, count in tally.patterns if (bits & mask).bit_count() % 2)
        chance = odd / tally.shots
        deviation = math.sqrt(max(odd, 1)) / tally.shots / (1 - 2 * chance)
        halves = _copied(mask, basis).bit_count() + mask.bit_count()
        value = to_log(chance) - halves * half
        logs[mask] = (value, math.hypot(deviation, halves * half_deviation))
    letter = ERRS[basis]
    terms = []
    for bits, pauli in ((1, f"{letter}I"), (2, f"I{letter}"), (3, letter * 2)):
        signs = {mask: (-1) ** (mask & bits).bit_count() for mask in logs}
        mean = (1 + sum(signs[mask] * math.exp(-2 * logs[mask][0]) for mask in logs)) / 4
        deviation = math.sqrt(sum(each**2 for _, each in logs.values())) / 2
        rate = max(0.0, mean)
        low, high = max(0.0, mean - 1.96 * deviation), max(0.0, mean + 1.96 * deviation)
        terms.append(Term(pauli=pauli, rate=rate, low=low, high=high))
    return tuple(terms)


def _copied(mask: int, basis: Basis) -> int:
    """The parity of flips before the CNOT that this parity of flips after it is."""
    control, target = mask & 1, mask >> 1
    if basis == "Z":
        return (control ^ target) | target << 1
    return control | (control ^ target) << 1


def measure_h(
    code: Code, model: noise.NoiseModel, basis: Basis, around: Around, other: Around, effort: Effort
) -> Entry | None:
    """The transversal H between d rounds before, in `basis`, and d after, in the other one.

    around, other: 2d rounds in `basis`, and in the other one.
    """
    d = code.distance
    circuit = noise.apply(transversal_h(code, d, d, basis), model)
    seed = seed_of("h", code.profile, code.variant, d, _named(model), basis)
    decoder = Matching(model_of(circuit), correlated=learns(code))
    counted = run(circuit, decoder, 2 * d, effort, seed)
    if counted.tally.errors < GATE_ERRORS_LEAST:
        return None
    flip, early, late = flip_of(counted, 1), around.half(), other.half()
    value = flip.value - early[0] - late[0]
    deviation = math.hypot((flip.high - flip.low) / 3.92, early[1], late[1])
    term = _term(ERRS[OTHER[basis]], value, deviation)
    return _entry("h", code, model, basis, counted, (term,), around, other)


def _term(pauli: str, value: float, deviation: float) -> Term:
    """A single Pauli of that L."""
    low, middle, high = (from_log(max(0.0, value + at * deviation)) for at in (-1.96, 0.0, 1.96))
    return Term(pauli=pauli, rate=middle, low=low, high=high)


def measure_injection(
    code: Code, model: noise.NoiseModel, basis: Basis, effort: Effort, quiet: bool = False
) -> Entry:
    """State injection and d rounds. One fault of the corner is enough to err.

    quiet: only states are kept that nothing was detected of in the first QUIET_ROUNDS rounds; the
    decoder then says what share that was.
    """
    d = code.distance
    circuit = noise.apply(injection(d, d, basis), model)
    decoder = Matching(seen_only(model_of(circuit)), correlated=learns(code))
    gadget = "inject_quiet" if quiet else "inject"
    seed = seed_of(gadget, code.profile, code.variant, d, _named(model), basis)
    if quiet:
        counted = _run_quiet(circuit, decoder, d, effort, seed)
    else:
        counted = run(circuit, decoder, d, effort, seed)
    low, high = clopper_pearson(counted.tally.errors, counted.tally.shots)
    value = counted.tally.errors / counted.tally.shots
    term = Term(pauli=ERRS[basis], rate=value, low=low, high=high)
    return msgspec.structs.replace(
        _entry(gadget, code, model, basis, counted, (term,)), interval=INTERVAL
    )


def _run_quiet(
    circuit: stim.Circuit, decoder: Decoder, rounds: int, effort: Effort, seed: int
) -> Counted:
    """As `run`; shots in which early rounds detect anything are thrown away, and not counted."""
    when = rounds_of(circuit.detector_error_model(approximate_disjoint_errors=True))
    early = np.packbits(when < QUIET_ROUNDS, bitorder="little")
    shots, kept, errors = shots_for(circuit, decoder, effort.seconds, seed), 0, 0
    sampler = circuit.compile_detector_sampler(seed=seed)
    done = 0
    while done < shots and errors < effort.errors:
        detections, observables = sampler.sample(
            CHUNK_SHOTS, separate_observables=True, bit_packed=True
        )
        still = ~(detections & early).any(axis=1)
        wrong = decoder.decode(np.ascontiguousarray(detections[still])) ^ observables[still]
        done, kept, errors = done + CHUNK_SHOTS, kept + len(wrong), errors + int(wrong.sum())
    tally = Tally(shots=kept, errors=errors, patterns=((1, errors),))
    name = f"{decoder.name}, the {kept / done:.3f} that are quiet"
    return Counted(tally, Experiment(rounds=rounds, shots=kept, errors=errors, seed=seed), name)
