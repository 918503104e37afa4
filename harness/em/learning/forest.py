"""A forest of regression trees as plain arrays: kept without pickle, used without scikit-learn.

scikit-learn grows it (`grown`); walking down all trees at once needs NumPy alone and gives the same
bits. A file holds arrays and a JSON header, and is checked against its digest before it is used.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
Whole = NDArray[np.int32]

LEAF: Final = -1
ARRAYS: Final = ("roots", "feature", "threshold", "left", "right", "value", "low", "high")
FORMAT: Final = 1


class ModelDamaged(Exception):
    """A file holds no forest, or another one than it says; says which file."""


class Forest(msgspec.Struct, frozen=True, kw_only=True):
    """roots: the first node of each tree. feature, threshold, left, right, value: by node; LEAF has
    no feature. low, high: of each feature in training. about: names of features, digest of the
    data, splits and errors.
    """

    roots: Whole
    feature: Whole
    threshold: Real
    left: Whole
    right: Whole
    value: Real
    low: Real
    high: Real
    about: dict[str, Any]

    def predict(self, rows: Real) -> tuple[Real, Real]:
        """The mean over trees and their standard deviation. rows: shape (rows, features)."""
        # scikit-learn compares in single precision.
        narrow = rows.astype(np.float32)
        at = np.repeat(self.roots[:, None], len(rows), axis=1)
        where = np.arange(len(rows))[None, :]
        while True:
            feature = self.feature[at]
            inner = feature != LEAF
            if not inner.any():
                found = self.value[at]
                return found.mean(axis=0), found.std(axis=0)
            down = narrow[where, np.maximum(feature, 0)] <= self.threshold[at]
            at = np.where(inner, np.where(down, self.left[at], self.right[at]), at)

    def outside(self, row: Real) -> float:
        """How far the worst feature lies outside of what training had, in ranges of training."""
        reach = np.maximum(self.high - self.low, 1e-12)
        return float(np.max(np.maximum(self.low - row, row - self.high) / reach))

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of arrays and header."""
        found = hashlib.sha256(_header(self.about))
        for name in ARRAYS:
            array = np.ascontiguousarray(getattr(self, name))
            found.update(f"{name}{array.dtype.str}{array.shape}".encode() + array.tobytes())
        return found.hexdigest()

    def save(self, path: Path) -> str:
        """Write it; its digest, which is in the file as well."""
        held = io.BytesIO()
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS}
        header = {"format": FORMAT, "digest": self.digest, "about": self.about}
        raw = np.frombuffer(msgspec.json.encode(header, order="deterministic"), dtype=np.uint8)
        np.savez(held, header=raw, **arrays)
        path.write_bytes(held.getvalue())
        return self.digest


def load(path: Path) -> Forest:
    """The forest in a file. Raises ModelDamaged, and OSError where there is none."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
            header = msgspec.json.decode(held["header"].tobytes(), type=dict[str, Any])
            found = Forest(about=header["about"], **{name: held[name] for name in ARRAYS})
    except OSError:
        raise
    except Exception as error:  # whatever a damaged archive makes NumPy raise
        raise ModelDamaged(f"{path} holds no forest: {error}.") from error
    if header.get("format") != FORMAT or found.digest != header.get("digest"):
        raise ModelDamaged(f"{path} does not hold the forest that its digest names.")
    return found


def grown(model: Any, rows: Real, about: dict[str, Any]) -> Forest:
    """From a fitted ensemble of scikit-learn's trees. rows: what it was fitted to."""
    parts: dict[str, list[Any]] = {
        name: [] for name in ("feature", "threshold", "left", "right", "value")
    }
    roots, start = [], 0
    for each in model.estimators_:
        tree = each.tree_
        leaf = tree.children_left < 0
        roots.append(start)
        parts["feature"].append(np.where(leaf, LEAF, tree.feature))
        parts["threshold"].append(tree.threshold)
        parts["left"].append(np.where(leaf, 0, tree.children_left + start))
        parts["right"].append(np.where(leaf, 0, tree.children_right + start))
        parts["value"].append(tree.value[:, 0, 0])
        start += tree.node_count
    whole = {name: np.concatenate(part) for name, part in parts.items()}
    return Forest(
        roots=np.array(roots, dtype=np.int32),
        feature=whole["feature"].astype(np.int32),
        threshold=whole["threshold"].astype(np.float64),
        left=whole["left"].astype(np.int32),
        right=whole["right"].astype(np.int32),
        value=whole["value"].astype(np.float64),
        low=rows.min(axis=0),
        high=rows.max(axis=0),
        about=about,
    )


def _header(about: dict[str, Any]) -> bytes:
    return msgspec.json.encode(about, order="deterministic")
