"""What a user writes about code, noise and decoder: `qec_scheme`, `error_budget`, `decoder`.

One JSON document in, `Settings` or all findings out, each with its path: unknown fields, fields
that do not fit their type, values out of range, and values that contradict one another. Nothing is
ignored and nothing is guessed in silence; what is left out takes the defaults stated here. From
settings follow a noise model (`noise_model`) and the parameters of Azure's estimator (`to_azure`),
the latter with every difference of meaning named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

from qmkd.qec import azure
from qmkd.qec.noise import (
    Durations,
    NoiseModel,
    decaying,
    depolarizing1,
    depolarizing2,
)
from qvm.findings import field, shown
from qvm.profiles import Profile, parse_profile
from syscalls.findings import Finding

BYTES_MAX: Final = 1 << 16
TIME_US_MAX: Final = 1e9
LAYERS_PER_ROUND: Final = 8
"""Layers of a round of the surface code with ancillas: reset, two of H, four of CX, measure."""

RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "settings.json": "Settings are one JSON object: UTF-8, finite numbers, no trailing text.",
        "settings.unknown_field": "Objects hold no fields but those of the format.",
        "settings.missing": "Every required field is present.",
        "settings.type": "Every field holds the JSON type that the format gives it.",
        "settings.range": "Every value lies within its bounds.",
        "settings.code": "The code exists.",
        "settings.distance": "A code that lacks the distance takes the next one that it has.",
        "settings.contradiction": "No two fields say different things.",
        "settings.decoder": "The decoder exists and can decode the code.",
    }
)
"""Rule name -> what holds in settings that keep it."""

DECODERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "MWPM": "matching",
        "MWPM_correlated": "correlated",
        "lookup": "lookup",
        "BP_OSD": "bp_osd",
    }
)
"""`decoder.type` -> the name in `decoders.py`."""
MATCHABLE: Final = frozenset({"Surface", "BaconShor"})
HASTINGS_HAAH: Final = frozenset({"hastings_haah", "hastings-haah", "floquet_code", "honeycomb"})


class QecScheme(msgspec.Struct, frozen=True, kw_only=True):
    """code_family, as in profiles. code_distance: asked for.

    logical_cycle_time_us: of one logical cycle, that is code_distance rounds of syndrome
    extraction, as in Azure's `logicalCycleTime`. physical_qubit_count: of one block with ancillas.
    """

    code_family: str
    code_distance: int
    logical_cycle_time_us: float | None = None
    physical_qubit_count: int | None = None


class ErrorBudget(msgspec.Struct, frozen=True, kw_only=True):
    """Physical error rates. (Azure's field of that name is the failure allowed to a program.)

    physical_gate_error_rate: of one- and two-qubit gates and of resets. measurement_error_rate:
    of a wrong result; left out, it is the gate's. idle_error_rate: depolarizing, per layer of
    waiting, beside decay; left out, it is 0 where T1 and T2 are given and the gate's otherwise.
    t1_us, t2_us: relaxation and coherence time, both or neither.
    """

    physical_gate_error_rate: float
    measurement_error_rate: float | None = None
    idle_error_rate: float | None = None
    t1_us: float | None = None
    t2_us: float | None = None


class DecoderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """type: a key of DECODERS. max_syndrome_weight: detection events that it can take in a round;
    a heavier round is an overload. cycle_time_us: time it needs for one round. None: unlimited.
    """

    type: str = "MWPM"
    max_syndrome_weight: int | None = None
    cycle_time_us: float | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings without contradictions. profile: the code that runs. warnings: worth knowing."""

    qec_scheme: QecScheme
    error_budget: ErrorBudget
    decoder: DecoderSettings = DecoderSettings()
    profile: Profile
    warnings: tuple[Finding, ...] = ()

    @property
    def decoding(self) -> str:
        """The decoder's name in `decoders.py`."""
        return DECODERS[self.decoder.type]

    @property
    def round_us(self) -> float | None:
        """Time of one round of syndrome extraction; None where no cycle time is given."""
        cycle = self.qec_scheme.logical_cycle_time_us
        return None if cycle is None else cycle / self.qec_scheme.code_distance


class _Field(msgspec.Struct, frozen=True):
    """How one field is read. low and high: bounds, both allowed unless `above` excludes low."""

    kind: Literal["text", "whole", "number"]
    required: bool = False
    low: float = 0.0
    high: float = math.inf
    above: bool = False


_RATE: Final = _Field("number", high=0.5)
_TIME: Final = _Field("number", high=TIME_US_MAX, above=True)
_FORMAT: Final[Mapping[str, Mapping[str, _Field]]] = MappingProxyType(
    {
        "qec_scheme": {
            "code_family": _Field("text", required=True),
            "code_distance": _Field("whole", required=True, low=2, high=99),
            "logical_cycle_time_us": _TIME,
            "physical_qubit_count": _Field("whole", low=1, high=10**9),
        },
        "error_budget": {
            "physical_gate_error_rate": _Field("number", required=True, high=0.5),
            "measurement_error_rate": _RATE,
            "idle_error_rate": _RATE,
            "t1_us": _TIME,
            "t2_us": _TIME,
        },
        "decoder": {
            "type": _Field("text"),
            "max_syndrome_weight": _Field("whole", low=1, high=10**9),
            "cycle_time_us": _TIME,
        },
    }
)
_REQUIRED: Final = ("qec_scheme", "error_budget")
_KINDS: Final = {"text": "a string", "whole": "a whole number", "number": "a number"}


class _Found(list[Finding]):
    def error(self, rule: str, path: str, message: str) -> None:
        self._add("error", rule, path, message)

    def warning(self, rule: str, path: str, message: str) -> None:
        self._add("warning", rule, path, message)

    def _add(
        self, severity: Literal["error", "warning"], rule: str, path: str, message: str
    ) -> None:
        assert rule in RULES, rule
        finding = Finding(rule=rule, severity=severity, node=None, path=path, message=message)
        self.append(finding)

    @property
    def broken(self) -> bool:
        return any(each.severity == "error" for each in self)


def read_settings(raw: bytes) -> Settings | list[Finding]:
    """Read one JSON document. Never raises.

    Returns settings, with their warnings; or findings, at least one of them an error.
    """
    found = _Found()
    document = _decoded(raw, found)
    parts: dict[str, dict[str, Any]] = {}
    if document is not None:
        for name in document.keys() - _FORMAT.keys():
            known = ", ".join(_FORMAT)
            found.error("settings.unknown_field", field("$", name), f"there are only {known}")
        for name, fields in _FORMAT.items():
            if name in document:
                parts[name] = _part(document[name], fields, f"$.{name}", found)
            elif name in _REQUIRED:
                found.error("settings.missing", "$", f"{name} is missing")
    if found.broken:
        return list(found)
    scheme = msgspec.convert(parts["qec_scheme"], QecScheme)
    budget = msgspec.convert(parts["error_budget"], ErrorBudget)
    decoder = msgspec.convert(parts.get("decoder", {}), DecoderSettings)
    profile = _profile(scheme, found)
    _check_times(budget, scheme, found)
    if profile is not None:
        _check_footprint(scheme, profile, found)
        _check_decoder(decoder, scheme, profile, found)
    if found.broken or profile is None:
        return list(found)
    return Settings(
        qec_scheme=scheme,
        error_budget=budget,
        decoder=decoder,
        profile=profile,
        warnings=tuple(found),
    )


def _decoded(raw: bytes, found: _Found) -> dict[str, Any] | None:
    if len(raw) > BYTES_MAX:
        found.error("settings.json", "$", f"settings have at most {BYTES_MAX} bytes")
        return None
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        found.error("settings.json", "$", str(error) or "the document nests too deep")
        return None
    if not isinstance(document, dict):
        found.error("settings.type", "$", f"an object was expected, not {shown(document)}")
        return None
    return document


def _part(value: Any, fields: Mapping[str, _Field], path: str, found: _Found) -> dict[str, Any]:
    """The fields of one object that are sound; everything else becomes a finding."""
    if not isinstance(value, dict):
        found.error("settings.type", path, f"an object was expected, not {shown(value)}")
        return {}
    for name in sorted(value.keys() - fields.keys()):
        message = f"there are only {', '.join(fields)}"
        found.error("settings.unknown_field", field(path, name), message)
    kept = {}
    for name, form in fields.items():
        if name not in value:
            if form.required:
                found.error("settings.missing", path, f"{name} is missing")
            continue
        if _fits(value[name], form, f"{path}.{name}", found):
            kept[name] = value[name]
    return kept


def _fits(value: Any, form: _Field, path: str, found: _Found) -> bool:
    types = {"text": (str,), "whole": (int,), "number": (int, float)}[form.kind]
    if isinstance(value, bool) or not isinstance(value, types):
        found.error("settings.type", path, f"{_KINDS[form.kind]} was expected, not {shown(value)}")
        return False
    if not isinstance(value, int | float):
        return True
    if not form.low <= value <= form.high or (form.above and value == form.low):
        low = f"more than {form.low:g}" if form.above else f"at least {form.low:g}"
        found.error("settings.range", path, f"{low} and at most {form.high:g}, not {shown(value)}")
        return False
    return True


def _profile(scheme: QecScheme, found: _Found) -> Profile | None:
    path = "$.qec_scheme.code_family"
    family = scheme.code_family
    if family.lower() in HASTINGS_HAAH:
        found.error(
            "settings.code",
            path,
            f"{shown(family)} is the Floquet code of Hastings and Haah, which runs no programs; "
            "if the subsystem hypergraph product simplex code is meant, write SHYPS",
        )
        return None
    profile = parse_profile(f"logical:{family}(d={scheme.code_distance})")
    if isinstance(profile, str):
        found.error("settings.code", path, profile)
        return None
    if profile.code == "ideal":
        found.error("settings.code", path, "the ideal profile has no code")
        return None
    if profile.distance != scheme.code_distance:
        message = f"{profile.code} has no distance {scheme.code_distance}; {profile.distance} runs"
        found.warning("settings.distance", "$.qec_scheme.code_distance", message)
    return profile


def _check_footprint(scheme: QecScheme, profile: Profile, found: _Found) -> None:
    given = scheme.physical_qubit_count
    ours = profile.block_physical
    azures = 2 * profile.distance**2  # Azure's formula counts one ancilla too many
    if given is None or given == ours or (profile.code == "Surface" and given == azures):
        return
    also = f" (Azure's formula: {azures})" if profile.code == "Surface" else ""
    found.error(
        "settings.contradiction",
        "$.qec_scheme.physical_qubit_count",
        f"a block of {profile.code} at distance {profile.distance} has {ours} qubits{also}, "
        f"not {given}",
    )


def _check_times(budget: ErrorBudget, scheme: QecScheme, found: _Found) -> None:
    t1, t2 = budget.t1_us, budget.t2_us
    if (t1 is None) != (t2 is None):
        name = "t1_us" if t1 is None else "t2_us"
        found.error("settings.missing", "$.error_budget", f"{name} is missing beside the other")
    elif t1 is not None and t2 is not None and t2 > 2 * t1:
        message = f"T2 is at most 2*T1, that is {2 * t1:g} us, not {t2:g} us"
        found.error("settings.contradiction", "$.error_budget.t2_us", message)
    if t1 is not None and scheme.logical_cycle_time_us is None:
        message = "logical_cycle_time_us is missing: T1 and T2 need a time to decay over"
        found.error("settings.missing", "$.qec_scheme", message)


def _check_decoder(
    decoder: DecoderSettings, scheme: QecScheme, profile: Profile, found: _Found
) -> None:
    path = "$.decoder.type"
    if decoder.type not in DECODERS:
        message = f"there are {', '.join(DECODERS)}, not {shown(decoder.type)}"
        found.error("settings.decoder", path, message)
    elif decoder.type.startswith("MWPM") and profile.code not in MATCHABLE:
        message = (
            f"errors of {profile.code} are not edges, so matching cannot decode it: BP_OSD can"
        )
        found.error("settings.decoder", path, message)
    cycle, needed = scheme.logical_cycle_time_us, decoder.cycle_time_us
    if cycle is not None and needed is not None and needed > cycle / scheme.code_distance:
        message = "longer than a round of the code takes, so the decoder falls behind for ever"
        found.warning("settings.decoder", "$.decoder.cycle_time_us", message)


def noise_model(settings: Settings, layers_per_round: int = LAYERS_PER_ROUND) -> NoiseModel:
    """The circuit-level noise that the settings describe, per layer.

    With T1 and T2, every layer of waiting decays for round time / layers_per_round: settings give
    no times of single operations.
    """
    budget = settings.error_budget
    gate = budget.physical_gate_error_rate
    decays = budget.t1_us is not None and budget.t2_us is not None
    idle = budget.idle_error_rate
    if idle is None:
        idle = 0.0 if decays else gate
    waiting = depolarizing1(idle)
    model = NoiseModel(
        name="settings",
        strength=gate,
        one_qubit=depolarizing1(gate),
        two_qubit=depolarizing2(gate),
        reset=gate,
        measure=gate if budget.measurement_error_rate is None else budget.measurement_error_rate,
        measured=depolarizing1(gate),
        measured_pair=depolarizing2(gate),
        idle_one=waiting,
        idle_two=waiting,
        idle_reset=waiting,
        idle_measure=waiting,
    )
    if budget.t1_us is None or budget.t2_us is None:
        return model
    assert settings.round_us is not None, "T1 and T2 are read only with a cycle time"
    layer_ns = 1e3 * settings.round_us / layers_per_round
    durations = Durations(
        one_qubit_ns=layer_ns, two_qubit_ns=layer_ns, reset_ns=layer_ns, measure_ns=layer_ns
    )
    return decaying(model, durations, 1e3 * budget.t1_us, 1e3 * budget.t2_us)


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters for a code that Azure's estimator does not know."""

    threshold: float
    prefactor: float


class AzureParameters(msgspec.Struct, frozen=True, kw_only=True):
    """qubit and scheme for `azure.estimate`. notes: what does not mean the same, by path."""

    qubit: azure.Qubit
    scheme: azure.Scheme
    notes: tuple[tuple[str, str], ...]


_NOTES: Final = (
    (
        "$.qec_scheme.code_distance",
        "the estimator computes the distance; ours is shown beside it",
    ),
    (
        "$.qec_scheme.logical_cycle_time_us",
        "becomes a formula in ns that grows in proportion to the distance, through the time given",
    ),
    (
        "$.qec_scheme.physical_qubit_count",
        "becomes a formula that grows as the square of the distance, per logical qubit of a block",
    ),
    (
        "$.error_budget",
        "the estimator's errorBudget is the failure allowed to the whole program, not these rates",
    ),
    (
        "$.error_budget.physical_gate_error_rate",
        "serves as one-qubit, two-qubit and T gate error rate; resets have no field",
    ),
    (
        "$.error_budget.measurement_error_rate",
        "counts in full: the worst of all rates drives the estimator's distance",
    ),
    (
        "$.error_budget.t1_us",
        "the estimator has no T1 and T2: idleErrorRate is the idle rate joined with their twirl "
        "over one layer",
    ),
    (
        "$.decoder",
        "the estimator has no decoder; its law stands for one that keeps up",
    ),
)
_IDLE_LEAST: Final = 1e-15  # the estimator refuses rates of 0


def to_azure(settings: Settings, law: Law | None = None) -> AzureParameters:
    """The settings in the terms of Azure's estimator, with what changes its meaning.

    law: for codes other than Surface, which the estimator does not know.
    Raises azure.EstimateError without one.
    """
    surface = settings.profile.code == "Surface"
    if law is None:
        if not surface:
            raise azure.EstimateError(
                f"the estimator has no law for {settings.profile.code}: give one for it"
            )
        law = Law(threshold=azure.SURFACE_GATES.threshold, prefactor=azure.SURFACE_GATES.prefactor)
    default = azure.QUBITS["qubit_gate_ns_e3"]
    gate = max(_IDLE_LEAST, settings.error_budget.physical_gate_error_rate)
    model = noise_model(settings)
    qubit = msgspec.structs.replace(
        default,
        name="from settings",
        gate_error=gate,
        pair_error=gate,
        t_error=gate,
        measure_error=max(_IDLE_LEAST, model.measure),
        idle_error=max(_IDLE_LEAST, sum(model.idle_two)),
    )
    scheme = azure.Scheme(
        name="surface_code" if surface else settings.profile.code,
        threshold=law.threshold,
        prefactor=law.prefactor,
        cycle_time=_cycle_formula(settings),
        qubits=_qubit_formula(settings),
    )
    notes = [note for note in _NOTES if _concerns(settings, note[0])]
    if settings.qec_scheme.logical_cycle_time_us is None:
        notes.append(
            (
                "$.qec_scheme",
                "without a cycle time, gates of 50 ns and measurements of "
                "100 ns as in qubit_gate_ns_e3",
            )
        )
    else:
        notes.append(
            (
                "$.qec_scheme",
                "T gates of factories on bare qubits take 50 ns, as in "
                "qubit_gate_ns_e3; settings have no times of single operations",
            )
        )
    return AzureParameters(qubit=qubit, scheme=scheme, notes=tuple(notes))


def _concerns(settings: Settings, path: str) -> bool:
    """Whether the field that a note is about was given."""
    value: Any = settings
    for name in path.removeprefix("$.").split("."):
        value = getattr(value, name)
    return value is not None


def _cycle_formula(settings: Settings) -> str:
    if settings.round_us is None:
        return azure.SURFACE_GATES.cycle_time
    cycle_ns = 1e3 * (settings.qec_scheme.logical_cycle_time_us or 0.0)
    return f"{_plain(cycle_ns)} * codeDistance / {settings.qec_scheme.code_distance}"


def _qubit_formula(settings: Settings) -> str:
    profile = settings.profile
    count = settings.qec_scheme.physical_qubit_count or profile.block_physical
    if profile.code == "Surface" and count == 2 * profile.distance**2:
        return azure.SURFACE_GATES.qubits
    return f"{count} * codeDistance * codeDistance / {profile.distance**2 * profile.block}"


def _plain(value: float) -> str:
    """A number as formulas take it: without an exponent, without a needless point."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
