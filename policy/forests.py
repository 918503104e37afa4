"""Forests as flat arrays: what a library trained, walked without it.

All trees lie one behind another. A node has a feature and a threshold and goes to `left` where the
value is not above the threshold, as scikit-learn's trees do, in the same single precision; a leaf
has feature -1 and its values. The answer is the mean over the trees.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]


class Forest(NamedTuple):
    """feature: int32, shape (nodes,), -1 at leaves. threshold: float64. left, right: int32. value:
    float64, shape (nodes, outputs). roots: int32, shape (trees,). depth: of the deepest tree."""

    feature: NDArray[np.int32]
    threshold: Real
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Real
    roots: NDArray[np.int32]
    depth: int

    def leaves(self, rows: Real) -> NDArray[np.int32]:
        """The leaf of every tree for every row: shape (rows, trees)."""
        # scikit-learn casts to single precision before it compares.
        taken = rows.astype(np.float32).astype(np.float64)
        if len(rows) == 1:
            return self._leaves_of_one(taken[0])[None]
        nodes = np.broadcast_to(self.roots, (len(rows), len(self.roots))).copy()
        lines = np.arange(len(rows))[:, None]
        for _ in range(self.depth):
            feature = self.feature[nodes]
            # Leaves point to themselves, so whoever has arrived stays.
            below = taken[lines, feature] <= self.threshold[nodes]
            nodes = np.where(below, self.left[nodes], self.right[nodes])
        return nodes

    def _leaves_of_one(self, row: Real) -> NDArray[np.int32]:
        """The same for one row, where calls cost more than arithmetic."""
        nodes = self.roots
        for _ in range(self.depth):
            below = row.take(self.feature.take(nodes)) <= self.threshold.take(nodes)
            nodes = np.where(below, self.left.take(nodes), self.right.take(nodes))
        return nodes

    def trees(self, rows: Real) -> Real:
        """What every tree says: shape (rows, trees, outputs)."""
        return np.asarray(self.value[self.leaves(rows)])

    def predict(self, rows: Real) -> Real:
        """The mean over trees: shape (rows, outputs)."""
        return np.asarray(self.trees(rows).mean(axis=1))


def joined(one: Forest, other: Forest) -> Forest:
    """Both as one forest whose outputs stand behind one another, to be walked at once."""
    start, trees = len(one.feature), len(one.roots) + len(other.roots)
    value = np.zeros((start + len(other.feature), one.value.shape[1] + other.value.shape[1]))
    # Their mean over all trees is then the mean over their own.
    value[:start, : one.value.shape[1]] = one.value * (trees / len(one.roots))
    value[start:, one.value.shape[1] :] = other.value * (trees / len(other.roots))
    return Forest(
        feature=np.concatenate([one.feature, other.feature]),
        threshold=np.concatenate([one.threshold, other.threshold]),
        left=np.concatenate([one.left, other.left + np.int32(start)]),
        right=np.concatenate([one.right, other.right + np.int32(start)]),
        value=value,
        roots=np.concatenate([one.roots, other.roots + np.int32(start)]),
        depth=max(one.depth, other.depth),
    )


def check(forest: Forest, features: int) -> None:
    """Raises ValueError unless every walk ends at a leaf within `depth` steps."""
    nodes = len(forest.feature)
    shapes = {len(each) for each in forest[:4]} | {len(forest.value)}
    if shapes != {nodes} or nodes == 0 or len(forest.roots) == 0:
        raise ValueError("the arrays of a forest are of different lengths, or empty")
    if not (np.isfinite(forest.threshold).all() and np.isfinite(forest.value).all()):
        raise ValueError("a forest holds what is no number")
    for each in (forest.left, forest.right, forest.roots):
        if each.min() < 0 or each.max() >= nodes:
            raise ValueError("a node leads out of the forest")
    if forest.feature.min() < -1 or forest.feature.max() >= features:
        raise ValueError("a node asks for a feature that there is not")
    if not 0 <= forest.depth <= nodes:
        raise ValueError("the depth is none")
    leaf = forest.feature < 0
    here = np.arange(nodes)
    if not ((forest.left == here) & (forest.right == here))[leaf].all():
        raise ValueError("a leaf leads somewhere")
    if (np.minimum(forest.left, forest.right) <= here)[~leaf].any():
        raise ValueError("a branch leads back")
