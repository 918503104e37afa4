"""Methods by name, with parameters as a person writes them: `zne:fit=linear,scales=1+3`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from harness.em.methods.cdr import CliffordRegression
from harness.em.methods.direct import ReadoutMitigation, Unmitigated
from harness.em.methods.distance import DistanceScaled
from harness.em.methods.gap import GapRescaling
from harness.em.methods.learned import learned
from harness.em.methods.pec import ErrorCancellation
from harness.em.methods.plan import Method, Unplannable
from harness.em.methods.zne import ZeroNoise

ABOUT: Final[dict[str, str]] = {
    "none": "the circuit as it is",
    "readout": "readout errors undone, calibrated by two circuits",
    "zne": "zero-noise extrapolation (fit, scales, folding, degree, readout, split)",
    "richardson": "the same with Richardson's polynomial",
    "ds-zne": "extrapolation over code distances (distances)",
    "gap": "rescaling by decoders' gaps",
    "pec": "probabilistic error cancellation (samples, readout)",
    "cdr": "Clifford-data regression (circuits, kept, intercept)",
    "ml-qem": "extrapolation, and a trained forest for what it leaves (model: a file)",
}


def method(text: str) -> Method:
    """The method that a text like `zne:fit=linear,scales=1+3` names. Raises Unplannable."""
    name, _, rest = text.partition(":")
    if name not in ABOUT:
        raise Unplannable(f"No method is named {name!r}; there are {', '.join(ABOUT)}.")
    given = _options(text, rest)
    try:
        made = _MAKERS[name](given)
    except (TypeError, ValueError) as error:
        raise Unplannable(f"{text!r}: {error}.") from error
    if given:
        raise Unplannable(f"{name} has no option {', '.join(given)}: {ABOUT[name]}.")
    return made


def _options(text: str, rest: str) -> dict[str, str]:
    found = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key in found:
            raise Unplannable(f"{text!r}: options are written name=value, each once.")
        found[key] = value
    return found


def _truth(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"{text!r} is neither yes nor no")
    return text == "yes"


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(each) for each in text.split("+"))


def _zero_noise(given: dict[str, str], fit: str = "calibrated") -> Method:
    split = given.pop("split", "optimal")
    if split not in ("optimal", "equal"):
        raise ValueError(f"split is optimal or equal, not {split!r}")
    scales = given.pop("scales", None)
    return ZeroNoise(
        given.pop("fit", fit),
        scales=None if scales is None else _numbers(scales),
        folding=given.pop("folding", "global"),
        degree=int(given.pop("degree", 2)),
        readout=_truth(given.pop("readout", "yes")),
        equal=split == "equal",
    )


def _distances(given: dict[str, str]) -> Method:
    text = given.pop("distances", None)
    return DistanceScaled(None if text is None else [int(d) for d in _numbers(text)])


def _cdr(given: dict[str, str]) -> Method:
    return CliffordRegression(
        int(given.pop("circuits", 12)),
        kept=int(given.pop("kept", 4)),
        intercept=_truth(given.pop("intercept", "no")),
    )


def _pec(given: dict[str, str]) -> Method:
    return ErrorCancellation(
        int(given.pop("samples", 100)), readout=_truth(given.pop("readout", "yes"))
    )


def _learned(given: dict[str, str]) -> Method:
    if "model" not in given:
        raise ValueError("name a model's file: ml-qem:model=FILE")
    return learned(given.pop("model"))


_MAKERS: Final[dict[str, Callable[[dict[str, str]], Method]]] = {
    "none": lambda given: Unmitigated(),
    "readout": lambda given: ReadoutMitigation(),
    "zne": _zero_noise,
    "richardson": lambda given: _zero_noise(given, "richardson"),
    "ds-zne": _distances,
    "gap": lambda given: GapRescaling(),
    "pec": _pec,
    "cdr": _cdr,
    "ml-qem": _learned,
}

assert set(_MAKERS) == set(ABOUT)
