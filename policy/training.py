"""From records of runs to a model: two forests, their bounds, and what a vote is worth.

scikit-learn trains, and its trees are copied into arrays. Bounds and the worth of votes come from
predictions for groups that a forest has not seen (cross-validation by circuit), so that a model
does not judge itself on what it has learnt by heart.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from policy.api import Asked
from policy.features import rows
from policy.forests import Forest
from policy.models import About, Model

Real = NDArray[np.float64]

TREES: Final = 120
LEAF_MIN: Final = 5
FOLDS: Final = 4
WIDTH: Final = 0.95
NEAR: Final = 0.10
"""An alternative is better if its error is smaller by more than this share."""
BINS: Final = 10
ERROR_MIN: Final = 1e-4


def splits(
    groups: Sequence[str], folds: int, seed: int, apart: Sequence[str] = ()
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Train and test masks; no group is in both, and each is tested once.

    apart: other groups that may not be in both either, such as circuits where `groups` are backends
    and a circuit ran on several: what is tested then is left out of training.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise ValueError("one group alone cannot be split")
    rng = np.random.Generator(np.random.PCG64(seed))
    fold = dict(zip(names, rng.permutation(len(names)) % min(folds, len(names)), strict=True))
    each = np.array([fold[name] for name in groups])
    for number in sorted(set(fold.values())):
        train, test = each != number, each == number
        if len(apart):
            tested = {name for name, inside in zip(apart, test, strict=True) if inside}
            train &= np.array([name not in tested for name in apart])
        yield train, test


def flat(trained: Any) -> Forest:
    """The arrays of a scikit-learn forest."""
    parts: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("feature", "threshold", "left", "right", "value")
    }
    roots, start, depth = [], 0, 0
    for estimator in trained.estimators_:
        tree = estimator.tree_
        here = np.arange(start, start + tree.node_count)
        leaf = tree.children_left < 0
        parts["feature"].append(np.where(leaf, -1, tree.feature))
        parts["threshold"].append(np.where(leaf, 0.0, tree.threshold))
        parts["left"].append(np.where(leaf, here, tree.children_left + start))
        parts["right"].append(np.where(leaf, here, tree.children_right + start))
        parts["value"].append(tree.value[:, :, 0])
        roots.append(start)
        start += tree.node_count
        depth = max(depth, tree.max_depth)
    return Forest(
        feature=np.concatenate(parts["feature"]).astype(np.int32),
        threshold=np.concatenate(parts["threshold"]).astype(np.float64),
        left=np.concatenate(parts["left"]).astype(np.int32),
        right=np.concatenate(parts["right"]).astype(np.int32),
        value=np.concatenate(parts["value"]).astype(np.float64),
        roots=np.array(roots, np.int32),
        depth=depth,
    )


def fit(
    asked: Sequence[Asked],
    errors: Real,
    methods: Sequence[str],
    groups: Sequence[str],
    *,
    seed: int,
    data: str,
    calibrations: Sequence[str] = (),
    trees: int = TREES,
) -> Model:
    """errors: the expected |error| of each method, shape (questions, methods). groups: of
    circuits."""
    columns = rows(asked)
    errors = np.maximum(errors, ERROR_MIN)
    logs = np.log(errors)
    if not (np.isfinite(columns).all() and np.isfinite(logs).all()):
        raise ValueError("there are rows that hold what is no number")
    best = np.eye(len(methods))[errors.argmin(axis=1)]
    roots, unseen, votes = (np.zeros_like(logs) for _ in range(3))
    for train, test in splits(groups, FOLDS, seed):
        one, two = _forests(columns[train], errors[train], best[train], seed, trees)
        predicted = one.predict(columns[test])
        roots[test], unseen[test] = predicted[:, : len(methods)], predicted[:, len(methods) :]
        votes[test] = two.predict(columns[test])
    regressor, ranker = _forests(columns, errors, best, seed, trees)
    ratios = errors / np.maximum(unseen, ERROR_MIN)
    at, sure = _sure(roots, votes, errors)
    centre, scale = np.median(columns, axis=0), _spread(columns)
    distance = np.sqrt((((columns - centre) / scale) ** 2).mean(axis=1))
    return Model(
        methods=tuple(methods),
        regressor=regressor,
        ranker=ranker,
        width=np.maximum(1.0, np.quantile(ratios, WIDTH, axis=0)),
        sure_at=at,
        sure=sure,
        centre=centre,
        scale=scale,
        ood_one=float(np.quantile(distance, 0.99)),
        about=About(
            data=data,
            rows=len(asked),
            calibrations=tuple(calibrations),
            families=tuple(sorted({each.circuit.family for each in asked})),
            seed=seed,
            versions={
                "python": f"{sys.version_info.major}.{sys.version_info.minor}",
                "numpy": np.__version__,
                "scikit-learn": sklearn.__version__,
            },
            figures={
                "unseen_circuits_log_error": float(
                    np.abs(np.log(np.maximum(unseen, ERROR_MIN)) - logs).mean()
                )
            },
        ),
    )


def _forests(
    columns: Real, errors: Real, best: Real, seed: int, trees: int
) -> tuple[Forest, Forest]:
    regressor = ExtraTreesRegressor(
        n_estimators=trees, min_samples_leaf=LEAF_MIN, max_features=0.5, random_state=seed, n_jobs=1
    )
    regressor.fit(columns, np.hstack([np.sqrt(errors), errors]))
    ranker = ExtraTreesRegressor(
        n_estimators=trees, min_samples_leaf=LEAF_MIN, max_features=0.5, random_state=seed + 1,
        n_jobs=1,
    )  # fmt: skip
    ranker.fit(columns, best)
    return flat(regressor), flat(ranker)


def _spread(columns: Real) -> Real:
    """Robust: of a feature that never changes, its own size."""
    low, high = np.quantile(columns, (0.05, 0.95), axis=0)
    found = (high - low) / 3.29  # of a normal variable this is one deviation
    return np.asarray(np.where(found > 1e-9, found, np.maximum(1e-3, np.abs(columns).max(axis=0))))


def _sure(roots: Real, votes: Real, errors: Real) -> tuple[Real, Real]:
    """How often, at a vote for the method that is chosen, none was better by more than NEAR."""
    lines = np.arange(len(errors))
    chosen = roots.argmin(axis=1)
    vote = votes[lines, chosen]
    right = errors[lines, chosen] <= errors.min(axis=1) * (1 + NEAR)
    order = np.argsort(vote, kind="stable")
    parts = [each for each in np.array_split(order, BINS) if len(each)]
    at = np.array([vote[each].mean() for each in parts])
    sure = np.array([right[each].mean() for each in parts])
    return at, np.maximum.accumulate(sure)
