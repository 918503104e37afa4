"""Physical noise: what goes wrong beside each operation, and how that is written into a circuit.

A `NoiseModel` is a table of Pauli channels, one per kind of operation and one per kind of waiting.
`apply` writes it into a noiseless Stim circuit whose layers are separated by TICK. Nothing here
knows a code; circuits come from `qmkd.qec.circuits`. Leakage and coherent errors are not modelled:
amplitude and phase damping enter through their Pauli twirl (`twirl`). Read `settings.py` for how a
user writes a model down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, pairwise
from types import MappingProxyType
from typing import Final

import msgspec
import stim

Pauli1 = tuple[float, float, float]
"""Probabilities of X, Y, Z; nothing happens with what is left of 1."""
Pauli2 = tuple[float, ...]
"""Probabilities of the 15 pairs IX, IY, IZ, XI, XX, ... ZZ, in the order of PAULI_CHANNEL_2."""

PAULIS: Final = "IXYZ"
PAIRS: Final = tuple(a + b for a in PAULIS for b in PAULIS)[1:]
NONE1: Final[Pauli1] = (0.0, 0.0, 0.0)
NONE2: Final[Pauli2] = (0.0,) * 15
LAYERS_UNROLLED_MAX: Final = 1 << 20
PERFECT: Final = "perfect"
"""The tag of instructions that suffer no noise: an observer's, who is no part of the experiment."""
_ROUNDING: Final = 1e-12
_NOTHING: Final = 1e-15  # what is left of a zero after a square root

assert len(PAIRS) == len(NONE2)


class NoiseError(ValueError):
    """A model that is no probability distribution, or a circuit that noise cannot be added to."""


class NoiseModel(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong beside each operation, per layer.

    name and strength: how calibration tables call the model, for example `uniform` at 1e-3.
    one_qubit, two_qubit: after each Clifford gate. reset: chance of preparing the opposite state.
    measure: chance that a result, of one qubit or of a pair, is reported wrongly; the state is then
    disturbed by `measured` or `measured_pair`. A reset in the same instruction (MR) disturbs the
    state as a reset does, and not by `measured`.
    idle_*: on every qubit of the system that a layer does not touch. Of the kinds of operation in
    the layer, the one with the largest idle channel counts: the others are over sooner.

    Raises NoiseError where a probability is outside 0..1, a flip is above 1/2, or a sum above 1.
    """

    name: str
    strength: float
    one_qubit: Pauli1 = NONE1
    two_qubit: Pauli2 = NONE2
    reset: float = 0.0
    measure: float = 0.0
    measured: Pauli1 = NONE1
    measured_pair: Pauli2 = NONE2
    idle_one: Pauli1 = NONE1
    idle_two: Pauli1 = NONE1
    idle_reset: Pauli1 = NONE1
    idle_measure: Pauli1 = NONE1

    def __post_init__(self) -> None:
        for flip in ("reset", "measure"):
            if not 0 <= getattr(self, flip) <= 0.5:
                raise NoiseError(f"{self.name}: {flip} is {getattr(self, flip)}, outside 0..1/2")
        for channel, length in _CHANNELS.items():
            chances = getattr(self, channel)
            if len(chances) != length:
                raise NoiseError(f"{self.name}: {channel} needs {length} probabilities")
            if not (all(chance >= 0 for chance in chances) and sum(chances) <= 1 + _ROUNDING):
                raise NoiseError(f"{self.name}: {channel} is no distribution: {chances}")

    def scaled(self, factor: float) -> NoiseModel:
        """The model with every probability multiplied. Raises as construction does."""
        if not (math.isfinite(factor) and factor >= 0):
            raise NoiseError(f"{self.name}: cannot scale by {factor}")
        if factor == 1:
            return self
        changed: dict[str, object] = {
            channel: tuple(factor * chance for chance in getattr(self, channel))
            for channel in _CHANNELS
        }
        return msgspec.structs.replace(
            self,
            strength=factor * self.strength,
            reset=factor * self.reset,
            measure=factor * self.measure,
            **changed,
        )


_CHANNELS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "one_qubit": 3,
        "two_qubit": 15,
        "measured": 3,
        "measured_pair": 15,
        "idle_one": 3,
        "idle_two": 3,
        "idle_reset": 3,
        "idle_measure": 3,
    }
)


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A model whose strength changes over time.

    knots: (time, factor) with times ascending; between them the factor is interpolated linearly,
    outside them it stays. The unit of time in `apply` is one layer.
    """

    model: NoiseModel
    knots: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.knots:
            raise NoiseError("a drift needs at least one (time, factor)")
        if any(late <= early for (early, _), (late, _) in pairwise(self.knots)):
            raise NoiseError("the times of a drift ascend")
        for _, factor in self.knots:
            self.model.scaled(factor)  # refuses here what would not be a distribution later

    def factor(self, time: float) -> float:
        """By how much the model is stronger at this time."""
        before = [knot for knot in self.knots if knot[0] <= time]
        if not before:
            return self.knots[0][1]
        if len(before) == len(self.knots):
            return self.knots[-1][1]
        (early, low), (late, high) = before[-1], self.knots[len(before)]
        return low + (high - low) * (time - early) / (late - early)

    def at(self, time: float) -> NoiseModel:
        """The model at this time."""
        return self.model.scaled(self.factor(time))


def depolarizing1(p: float) -> Pauli1:
    """X, Y or Z, each with p/3."""
    return (p / 3, p / 3, p / 3)


def depolarizing2(p: float) -> Pauli2:
    """One of the 15 pairs of Paulis, each with p/15."""
    return (p / 15,) * 15


def compose1(first: Pauli1, second: Pauli1) -> Pauli1:
    """One channel after the other, as one channel."""
    a, b = (1 - sum(first), *first), (1 - sum(second), *second)
    # With I, X, Y, Z as 0..3 the product of two Paulis is their XOR, up to X*Y = Z: 1 ^ 2 = 3.
    chances = [sum(a[k] * b[k ^ product] for k in range(4)) for product in range(4)]
    return (chances[1], chances[2], chances[3])


def uniform(p: float) -> NoiseModel:
    """Every operation and every layer of waiting errs with strength p.

    Gates depolarize; a reset prepares the opposite state; a result is flipped and the measured
    qubits depolarize; idle qubits depolarize in each layer. The model called UniformDepolarizing by
    McEwen, Bacon and Gidney (arXiv:2302.02192), whose counts we compare with.
    """
    idle = depolarizing1(p)
    return NoiseModel(
        name="uniform",
        strength=p,
        one_qubit=idle,
        two_qubit=depolarizing2(p),
        reset=p,
        measure=p,
        measured=idle,
        measured_pair=depolarizing2(p),
        idle_one=idle,
        idle_two=idle,
        idle_reset=idle,
        idle_measure=idle,
    )


def si1000(p: float) -> NoiseModel:
    """A superconducting device with cycles of about 1000 ns.

    Gidney, Newman, Fowler, Broughton, arXiv:2108.10457, table 2: two-qubit gates p, one-qubit gates
    and idling p/10, reset 2p, measurement 5p, and 2p more for those who wait for measurement or
    reset. As in arXiv:2302.02192 the result is flipped, and the measured qubit depolarizes by p.
    The paper has only Z-basis measurement and reset; those in X and Y get the same rates here.
    """
    idle = depolarizing1(p / 10)
    waiting = compose1(idle, depolarizing1(2 * p))
    return NoiseModel(
        name="si1000",
        strength=p,
        one_qubit=idle,
        two_qubit=depolarizing2(p),
        reset=2 * p,
        measure=5 * p,
        measured=depolarizing1(p),
        measured_pair=depolarizing2(p),
        idle_one=idle,
        idle_two=idle,
        idle_reset=waiting,
        idle_measure=waiting,
    )


def biased1(p: float, bias: float) -> Pauli1:
    """Strength p with Z `bias` times as likely as X and Y together; 1/2 is depolarizing."""
    return (p / (2 + 2 * bias), p / (2 + 2 * bias), p * bias / (1 + bias))


def biased2(p: float, bias: float) -> Pauli2:
    """Strength p, both qubits biased: P on one and Q on the other in proportion to w(P) w(Q).

    w is 1 for X and Y, and 2*bias for Z and I. So each qubit alone sees Z `bias` times as often as
    X and Y together; a bias of 1/2 is depolarizing, and IZ, ZI, ZZ are alike as it grows.
    """
    weight = {"I": 2 * bias, "X": 1.0, "Y": 1.0, "Z": 2 * bias}
    weights = [weight[pair[0]] * weight[pair[1]] for pair in PAIRS]
    return tuple(p * each / sum(weights) for each in weights)


def biased(p: float, bias: float) -> NoiseModel:
    """As `uniform`, but gates and waiting are biased towards Z.

    Results and resets still flip with p. Noise after a CX is biased too, as if that gate preserved
    the bias; where it does not, a smaller bias is the honest one.
    Raises NoiseError unless the bias is finite and positive.
    """
    if not (math.isfinite(bias) and bias > 0):
        raise NoiseError(f"a bias is finite and positive, not {bias}")
    idle, pair = biased1(p, bias), biased2(p, bias)
    return NoiseModel(
        name=f"biased{bias:g}",
        strength=p,
        one_qubit=idle,
        two_qubit=pair,
        reset=p,
        measure=p,
        measured=idle,
        measured_pair=pair,
        idle_one=idle,
        idle_two=idle,
        idle_reset=idle,
        idle_measure=idle,
    )


PRESETS: Final[Mapping[str, Callable[[float], NoiseModel]]] = MappingProxyType(
    {"uniform": uniform, "si1000": si1000, "biased10": lambda p: biased(p, 10)}
)
"""Models with one parameter, by name."""


def twirl(time: float, t1: float, t2: float) -> Pauli1:
    """Amplitude and phase damping over `time`, Pauli-twirled. All three in one unit.

    px = py = (1 - exp(-t/T1))/4 and pz = (1 - exp(-t/T2))/2 - px: Ghosh, Fowler, Geller,
    arXiv:1210.5799, section II. Raises NoiseError where T2 > 2*T1, which no qubit can have: the Z
    probability would be negative.
    """
    if not (t1 > 0 and t2 > 0 and time >= 0 and math.isfinite(time)):
        raise NoiseError(f"times are positive: t={time}, T1={t1}, T2={t2}")
    if t2 > 2 * t1:
        raise NoiseError(f"T2={t2} exceeds 2*T1={2 * t1}: dephasing would have to be negative")
    flip = -math.expm1(-time / t1) / 4
    # At T2 = 2*T1 the Z probability is flip^2 * 4, far below flip; written as a difference of two
    # numbers near 2*flip it could round to less than zero.
    phase = max(0.0, -math.expm1(-time / t2) / 2 - flip)
    return (flip, flip, phase)


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """How long operations take, in nanoseconds."""

    one_qubit_ns: float
    two_qubit_ns: float
    reset_ns: float
    measure_ns: float


def decaying(model: NoiseModel, durations: Durations, t1_ns: float, t2_ns: float) -> NoiseModel:
    """The model with decay added to all waiting.

    Rates of operations stay as they are: an error rate measured for a gate holds its decay already.
    Raises NoiseError where T2 > 2*T1.
    """

    def waiting(idle: Pauli1, time_ns: float) -> Pauli1:
        return compose1(idle, twirl(time_ns, t1_ns, t2_ns))

    return msgspec.structs.replace(
        model,
        name=f"{model.name}+decay",
        idle_one=waiting(model.idle_one, durations.one_qubit_ns),
        idle_two=waiting(model.idle_two, durations.two_qubit_ns),
        idle_reset=waiting(model.idle_reset, durations.reset_ns),
        idle_measure=waiting(model.idle_measure, durations.measure_ns),
    )


def apply(
    circuit: stim.Circuit, model: NoiseModel | Drift, immune: Iterable[int] = ()
) -> stim.Circuit:
    """The circuit with noise written into it.

    circuit: noiseless, its layers separated by TICK, each qubit used at most once per layer. The
    system is every qubit used anywhere; qubits that a layer does not use wait in it, `I` being a
    way to wait. A layer without operations takes no time. The start and the end of a REPEAT block
    are ends of layers too. Pauli feedback (`CX rec[-1] 5`) is classical: free and instantaneous.
    immune: qubits that nothing happens to.
    Instructions tagged PERFECT are copied as they are; a layer of nothing else takes no time.
    model: with a Drift, REPEAT blocks are unrolled, up to LAYERS_UNROLLED_MAX layers.

    Channels that are not depolarizing are written as independent X, Y, Z errors where such exist
    (they do for decay), else as PAULI_CHANNEL_1 or _2; ask Stim for the detector error model with
    `approximate_disjoint_errors=True` then.
    Raises NoiseError where the circuit holds noise already, uses a qubit twice in a layer, or holds
    an instruction that the model says nothing about (MPP of three or more, SPP, ...).
    """
    spared = frozenset(immune)
    waiting = _system(circuit) - spared
    if isinstance(model, Drift):
        out = stim.Circuit()
        time = 0
        for layer in _layers(_unrolled(circuit)):
            assert isinstance(layer, _Layer), "an unrolled circuit has no blocks"
            _write(out, layer, model.at(time), waiting, spared)
            time += bool(layer.touched)
        return out
    return _applied(circuit, model, waiting, spared)


def _applied(
    circuit: stim.Circuit, model: NoiseModel, waiting: frozenset[int], spared: frozenset[int]
) -> stim.Circuit:
    out = stim.Circuit()
    for layer in _layers(circuit):
        if isinstance(layer, stim.CircuitRepeatBlock):
            body = _applied(layer.body_copy(), model, waiting, spared)
            out.append(stim.CircuitRepeatBlock(layer.repeat_count, body, tag=layer.tag))
        else:
            _write(out, layer, model, waiting, spared)
    return out


_Group = list[stim.GateTarget]

_RESETS: Final = {"R": "X_ERROR", "RX": "Z_ERROR", "RY": "X_ERROR"}
_MEASUREMENTS: Final = {"M", "MX", "MY"}
_PAIR_MEASUREMENTS: Final = {"MXX", "MYY", "MZZ"}
_MEASURE_RESETS: Final = {"MR": "X_ERROR", "MRX": "Z_ERROR", "MRY": "X_ERROR"}
_ANNOTATIONS: Final = {
    "DETECTOR", "OBSERVABLE_INCLUDE", "QUBIT_COORDS", "SHIFT_COORDS", "MPAD", "TICK",
}  # fmt: skip
# The kind of operation -> the model's channel for those who wait in its layer.
_IDLE: Final = {
    "one": "idle_one",
    "two": "idle_two",
    "reset": "idle_reset",
    "measure": "idle_measure",
}


def _kind(instruction: stim.CircuitInstruction) -> str:
    """one, two, reset, measure, ..., wait, annotation or perfect. Raises NoiseError."""
    name = instruction.name
    if name in _ANNOTATIONS:
        return "annotation"
    if instruction.tag == PERFECT:
        return "perfect"
    if instruction.gate_args_copy():
        raise NoiseError(f"the circuit holds noise already: {instruction}")
    if name in {"I", "II"}:
        return "wait"
    if name in _RESETS:
        return "reset"
    if name in _MEASUREMENTS:
        return "measure"
    if name in _MEASURE_RESETS:
        return "measure_reset"
    if name in _PAIR_MEASUREMENTS or name == "MPP":
        return "pair"
    gate = stim.gate_data(name)
    if gate.is_unitary and gate.is_single_qubit_gate:
        return "one"
    if gate.is_unitary and gate.is_two_qubit_gate:
        return "two"
    raise NoiseError(f"the model says nothing about {name}")


class _Layer:
    """The instructions between two TICKs, and how each qubit is used in them."""

    def __init__(self) -> None:
        self.instructions: list[tuple[str, stim.CircuitInstruction]] = []
        self.touched: set[int] = set()  # by anything, waiting included
        self.waits: set[int] = set()
        self.kinds: set[str] = set()
        self.tick: stim.CircuitInstruction | None = None

    def add(self, instruction: stim.CircuitInstruction) -> None:
        kind = _kind(instruction)
        self.instructions.append((kind, instruction))
        if kind in {"annotation", "perfect"}:
            return
        for group in instruction.target_groups():
            qubits = _qubits(group)
            if not qubits:
                continue
            again = self.touched.intersection(qubits)
            if again or len(set(qubits)) != len(qubits):
                raise NoiseError(f"used twice in one layer: qubits {sorted(again)}, {instruction}")
            self.touched.update(qubits)
            if kind == "wait":
                self.waits.update(qubits)
            else:
                self.kinds.add({"measure_reset": "measure", "pair": "measure"}.get(kind, kind))


def _qubits(group: _Group) -> list[int]:
    """The qubits of one target group; none where a classical bit controls a Pauli."""
    if any(each.is_measurement_record_target or each.is_sweep_bit_target for each in group):
        return []
    return [each.value for each in group if not each.is_combiner]


def _system(circuit: stim.Circuit) -> frozenset[int]:
    found: set[int] = set()
    for item in circuit:
        if isinstance(item, stim.CircuitRepeatBlock):
            found |= _system(item.body_copy())
        elif item.name not in _ANNOTATIONS:
            for group in item.target_groups():
                found.update(_qubits(group))
    return frozenset(found)


def _layers(
    circuit: Iterable[stim.CircuitInstruction | stim.CircuitRepeatBlock],
) -> Iterator[_Layer | stim.CircuitRepeatBlock]:
    layer = _Layer()
    for item in circuit:
        if isinstance(item, stim.CircuitRepeatBlock):
            yield layer
            layer = _Layer()
            yield item
        elif item.name == "TICK":
            layer.tick = item
            yield layer
            layer = _Layer()
        else:
            layer.add(item)
    yield layer


def _unrolled(circuit: stim.Circuit) -> Iterator[stim.CircuitInstruction]:
    """Every instruction in the order of time; coordinate shifts stay instructions."""
    if circuit.num_ticks > LAYERS_UNROLLED_MAX:
        raise NoiseError(f"{circuit.num_ticks} layers are too many to unroll")
    for item in circuit:
        if isinstance(item, stim.CircuitRepeatBlock):
            body = item.body_copy()
            for _ in range(item.repeat_count):
                yield from _unrolled(body)
        else:
            yield item


def _write(
    out: stim.Circuit,
    layer: _Layer,
    model: NoiseModel,
    waiting: frozenset[int],
    spared: frozenset[int],
) -> None:
    """Append the layer: its operations, then the noise after them, then that of waiting."""
    after = stim.Circuit()
    for kind, instruction in layer.instructions:
        if kind in {"annotation", "wait", "perfect"}:
            out.append(instruction)
            continue
        groups = instruction.target_groups()
        for noisy, run in groupby(groups, lambda group: spared.isdisjoint(_qubits(group))):
            _write_run(out, after, kind, instruction, list(run), model if noisy else None)
    out += after
    if layer.touched:
        idle = max((getattr(model, _IDLE[kind]) for kind in layer.kinds or {"one"}), key=sum)
        _channel1(out, sorted(waiting - (layer.touched - layer.waits)), idle)
    if layer.tick is not None:
        out.append(layer.tick)


def _write_run(
    out: stim.Circuit,
    after: stim.Circuit,
    kind: str,
    instruction: stim.CircuitInstruction,
    groups: list[_Group],
    model: NoiseModel | None,
) -> None:
    """Append some target groups of one instruction to `out` and their noise to `after`."""
    name = instruction.name
    targets = [target for group in groups for target in group]
    if name == "MPP":
        targets = [target for group in groups for target in _product(group)]
    measures = kind in {"measure", "measure_reset", "pair"}
    flip = [model.measure] if model is not None and measures and model.measure else []
    out.append(stim.CircuitInstruction(name, targets, flip, tag=instruction.tag))
    if model is None:
        return
    struck = [_qubits(group) for group in groups]
    each = [qubit for qubits in struck for qubit in qubits]
    match kind:
        case "one":
            _channel1(after, each, model.one_qubit)
        case "two":
            _channel2(after, each, model.two_qubit)
        case "reset" | "measure_reset":
            if model.reset and each:
                after.append((_RESETS | _MEASURE_RESETS)[name], each, model.reset)
        case "measure":
            _channel1(after, each, model.measured)
        case "pair":
            if any(len(qubits) > 2 for qubits in struck):
                raise NoiseError(f"the model says nothing about products of three: {instruction}")
            _channel1(
                after, [q for qubits in struck if len(qubits) == 1 for q in qubits], model.measured
            )
            _channel2(
                after,
                [q for qubits in struck if len(qubits) == 2 for q in qubits],
                model.measured_pair,
            )
        case _:
            raise AssertionError(f"no kind is called {kind}")


def _product(group: _Group) -> Iterator[stim.GateTarget]:
    """The targets of one MPP product with combiners between them, whether or not they were kept."""
    factors = [target for target in group if not target.is_combiner]
    for index, factor in enumerate(factors):
        if index:
            yield stim.target_combiner()
        yield factor


def independent1(channel: Pauli1) -> Pauli1 | None:
    """Probabilities with which X, Y and Z errors, drawn independently, give the channel.

    None where no such probabilities exist. The channel multiplies Z by (1-2x)(1-2y), and so on in a
    circle; three equations for x, y and z.
    """
    px, py, pz = channel
    keep_x, keep_y, keep_z = 1 - 2 * (py + pz), 1 - 2 * (px + pz), 1 - 2 * (px + py)
    if min(keep_x, keep_y, keep_z) <= 0:
        return None
    squares = (keep_y * keep_z / keep_x, keep_x * keep_z / keep_y, keep_x * keep_y / keep_z)
    if max(squares) > 1 + _ROUNDING:
        return None
    x, y, z = (max(0.0, (1 - math.sqrt(square)) / 2) for square in squares)
    return (x, y, z)


def _channel1(out: stim.Circuit, qubits: list[int], channel: Pauli1) -> None:
    if not qubits or not any(channel):
        return
    if max(channel) - min(channel) <= _ROUNDING * max(channel):
        out.append("DEPOLARIZE1", qubits, sum(channel))
        return
    alone = independent1(channel)
    if alone is None:
        out.append("PAULI_CHANNEL_1", qubits, channel)
        return
    for name, chance in zip(("X_ERROR", "Y_ERROR", "Z_ERROR"), alone, strict=True):
        if chance > _NOTHING:
            out.append(name, qubits, chance)


def _channel2(out: stim.Circuit, qubits: list[int], channel: Pauli2) -> None:
    if not qubits or not any(channel):
        return
    if max(channel) - min(channel) <= _ROUNDING * max(channel):
        out.append("DEPOLARIZE2", qubits, math.fsum(channel))
    else:
        out.append("PAULI_CHANNEL_2", qubits, channel)
