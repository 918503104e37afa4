"""The policy engine: a trained model where it can be trusted, the safe rules where it cannot.

The regressor says what error each method will leave, the ranker which is the best; the least
expected error (by its mean root, which far-off cases pull less) is recommended, and the ranker's
vote decides between those that are about as good. The engine abstains, and says why, where a
question lies outside of what the model was trained on, or the model is not sure; then the rules
answer. Where the bias is below two standard errors, `none` stands unless the model expects another
to leave a tenth less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from policy import rules
from policy.api import METHODS, Advice, Alternative, Asked, Driver, check
from policy.features import NAMES, rows
from policy.forests import joined
from policy.models import BadModel, Model, load
from runtime.signer.api import Sign

Real = NDArray[np.float64]

OOD_MAX: Final = 1.5
CONFIDENCE_MIN: Final = 0.3
TIE: Final = 0.005
"""Mean roots of errors that differ by less than this share are decided by the ranker."""
GAIN_MIN: Final = 0.10
"""Of the error, for which it is worth to mitigate a bias that shots hardly show."""
DRIVERS_MAX: Final = 6
ML_CIRCUITS: Final = 3
"""Of `ml-qem`: the circuit, and two that calibrate readout."""


class Engine:
    """model: None for the rules alone; trouble: why there is none, if one was asked for."""

    def __init__(self, model: Model | None = None, trouble: str = "") -> None:
        self.model = model
        self.trouble = trouble
        self._both = None if model is None else joined(model.regressor, model.ranker)

    @property
    def source(self) -> str:
        return rules.SOURCE if self.model is None else f"model:{self.model.digest}"

    def recommend(self, asked: Sequence[Asked]) -> list[Advice]:
        """Raises BadFeatures."""
        for each in asked:
            check(each)
        safe = rules.Rules().recommend(asked)
        if self.model is None or not asked:
            return [self._remarked(each) for each in safe]
        columns = rows(asked)
        assert self._both is not None
        predicted, votes = np.split(
            self._both.predict(columns), [2 * len(self.model.methods)], axis=1
        )
        far = map(float, distance(self.model, columns))
        return [
            self._advise(*each) for each in zip(asked, safe, predicted, votes, far, strict=True)
        ]

    def _remarked(self, safe: Advice) -> Advice:
        if not self.trouble:
            return safe
        because = (*safe.because, f"There is no model: {self.trouble}")
        return msgspec.structs.replace(safe, because=because, abstained=True, source=rules.INSTEAD)

    def _advise(
        self, asked: Asked, safe: Advice, predicted: Real, votes: Real, far: float
    ) -> Advice:
        assert self.model is not None
        roots, expected = np.split(predicted, 2)
        root = dict(zip(self.model.methods, map(float, roots), strict=True))
        by_rule = {each.method: each for each in safe.alternatives}
        offered = [
            _alternative(asked, by_rule, method, float(expected[place]), self.model, place)
            for place, method in enumerate(self.model.methods)
            if method in by_rule or (method == "ml-qem" and _allowed(asked, ML_CIRCUITS))
        ]
        offered += [each for each in safe.alternatives if each.method not in self.model.methods]
        offered.sort(key=lambda each: (-each.expected_fidelity, METHODS.index(each.method)))
        vote = dict(zip(self.model.methods, map(float, votes), strict=True))
        best = _chosen(offered, root, vote)
        sure = float(np.interp(vote.get(best.method, 0.0), self.model.sure_at, self.model.sure))
        why = ""
        if far > OOD_MAX:
            why = f"The question is unlike what the model was trained on ({far:.2f}, at most 1 is)."
        elif sure < CONFIDENCE_MIN:
            why = f"The model is not sure enough ({sure:.2f})."
        if why:
            told = (f"{why} The safe rules answer.", *safe.because)
            return msgspec.structs.replace(
                safe, because=told, abstained=True, ood=far, source=self.source
            )
        because = [f"The model expects an error of {2 * (1 - best.expected_fidelity):.3g}."]
        none = next(each for each in offered if each.method == "none")
        gain = 1 - (1 - best.expected_fidelity) / max(1e-9, 1 - none.expected_fidelity)
        if gain < GAIN_MIN and _unbiased(asked):
            best = none
            because = list(safe.because)
        return rules.answer(
            best,
            offered,
            because=because,
            source=self.source,
            confidence=sure,
            ood=far,
        )

    def explain(self, asked: Asked) -> tuple[Driver, ...]:
        """Which features drove the recommendation, the strongest first; none without a model.

        Each in turn is put to its usual value (the median in training), the others left.
        """
        if self.model is None:
            return ()
        (advice,) = self.recommend([asked])
        if advice.method not in self.model.methods:
            return ()
        place = len(self.model.methods) + self.model.methods.index(advice.method)
        (column,) = rows([asked])
        others = np.repeat(column[None], len(column) + 1, axis=0)
        others[np.arange(1, len(column) + 1), np.arange(len(column))] = self.model.centre
        found = self.model.regressor.predict(others)[:, place]
        effects = found[0] - found[1:]
        order = np.argsort(-np.abs(effects), kind="stable")[:DRIVERS_MAX]
        return tuple(
            Driver(
                feature=NAMES[at],
                value=float(column[at]),
                usual=float(self.model.centre[at]),
                effect=float(effects[at]),
            )
            for at in order
            if effects[at] != 0
        )


def distance(model: Model, columns: Real) -> Real:
    """1 for a question as far out as one training row in a hundred; shape (questions,)."""
    far = np.sqrt((((columns - model.centre) / model.scale) ** 2).mean(axis=1))
    return np.asarray(far / max(model.ood_one, 1e-9))


def _allowed(asked: Asked, circuits: int) -> bool:
    most = asked.budget.circuits_max
    return most is None or circuits <= most


def _unbiased(asked: Asked) -> bool:
    return not rules.biased(asked, rules.effects(asked)["none"].bias)


def _alternative(
    asked: Asked,
    by_rule: dict[str, Alternative],
    method: str,
    error: float,
    model: Model,
    place: int,
) -> Alternative:
    """What the model expects of a method; its shots are those of the rules, or one run's."""
    low = min(2.0, error * float(model.width[place]))
    mean = min(2.0, max(0.0, error))
    known = by_rule.get(method)
    if known is None:
        known = Alternative(
            method=method,
            params={"model": "residual-forest"},
            shot_multiplier=1 / (1 - rules.CALIBRATION_SHARE),
            shots=_ml_shots(asked),
            circuits=ML_CIRCUITS,
            depth=1 - rules.CALIBRATION_SHARE,
            expected_fidelity=0.0,
            fidelity_low=0.0,
        )
    return msgspec.structs.replace(known, expected_fidelity=1 - mean / 2, fidelity_low=1 - low / 2)


def _ml_shots(asked: Asked) -> int:
    wanted = math.ceil(asked.budget.shots / (1 - rules.CALIBRATION_SHARE))
    return wanted if asked.budget.shots_max is None else min(wanted, asked.budget.shots_max)


def _chosen(
    offered: Sequence[Alternative], root: dict[str, float], vote: dict[str, float]
) -> Alternative:
    """The least mean root; between those that are about as good, the ranker's favourite.

    A method that the model does not know counts with what the rules expect of it.
    """

    def left(each: Alternative) -> float:
        return root.get(each.method, math.sqrt(2 * (1 - each.expected_fidelity)))

    least = min(map(left, offered))
    near = [each for each in offered if left(each) <= least * (1 + TIE)]
    return max(near, key=lambda each: (vote.get(each.method, 0.0), -METHODS.index(each.method)))


def engine_of(path: Path | None, expected: str | None = None, signer: Sign | None = None) -> Engine:
    """With the model of a file; with the rules alone, and the reason, where it cannot be had.

    signer: where there is one, a model counts only if its signature holds.
    """
    if path is None:
        return Engine()
    try:
        if signer is not None:
            # Only who verifies loads cryptography.
            from policy.signing import load_signed

            return Engine(load_signed(path, signer))
        return Engine(load(path, expected))
    except BadModel as error:
        return Engine(trouble=str(error))
