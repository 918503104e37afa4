"""Model files: arrays and a schema, no code. The digest is checked before a byte is looked at.

A file is MAGIC, the length of a JSON header (8 bytes, little-endian), the header, then the arrays
one behind another. Beside it lies FILE.manifest, canonical JSON that names the file's SHA-256; and,
where a signer was there, FILE.dsse, a DSSE envelope over the manifest. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from policy import features
from policy.api import METHODS
from policy.forests import Forest
from policy.forests import check as check_forest

MAGIC: Final = b"QMKPOLICY1\n"
FILE_BYTES_MAX: Final = 256 << 20
PAYLOAD_TYPE: Final = "application/vnd.qmkd.policy-model+json"
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "int32": np.dtype("<i4"),
    "float64": np.dtype("<f8"),
}
FOREST_ARRAYS: Final = ("feature", "threshold", "left", "right", "value", "roots")


class BadModel(Exception):
    """A model file is not what it should be; says why."""


class About(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a model comes from. data: SHA-256 of the rows it was trained on; calibrations: digests
    of the snapshots among them. figures: of its own hold-out, by name."""

    data: str
    rows: int
    calibrations: tuple[str, ...]
    families: tuple[str, ...]
    seed: int
    versions: dict[str, str]
    figures: dict[str, float]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands beside a file."""

    format: str
    sha256: str
    bytes: int
    features: str
    about: About


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A ranker and a regressor over the same features.

    methods: in the order of outputs. regressor: of each row, for each method, the mean root of its
    error, which decides; behind all these, its mean error. ranker: of each row, for each method,
    the chance that it is the best. width: factor from an expected error to one that nineteen of
    twenty stay below, by method. sure_at, sure: what a ranker's vote means as a chance, to be
    interpolated. centre, scale, ood_one: a question's distance is the root of its mean squared
    (feature - centre) / scale; ood_one is that of one training row in a hundred.
    """

    methods: tuple[str, ...]
    regressor: Forest
    ranker: Forest
    width: NDArray[np.float64]
    sure_at: NDArray[np.float64]
    sure: NDArray[np.float64]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    ood_one: float
    about: About
    digest: str = ""


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """arrays: name, dtype, shape; they follow in this order."""

    features: str
    names: tuple[str, ...]
    methods: tuple[str, ...]
    depths: dict[str, int]
    ood_one: float
    arrays: list[tuple[str, str, tuple[int, ...]]]
    about: About


def encode(model: Model) -> bytes:
    """The file's bytes: the same for the same model."""
    arrays: dict[str, NDArray[Any]] = {}
    for name in ("regressor", "ranker"):
        forest: Forest = getattr(model, name)
        arrays |= {f"{name}.{each}": getattr(forest, each) for each in FOREST_ARRAYS}
    arrays |= {
        name: getattr(model, name) for name in ("width", "sure_at", "sure", "centre", "scale")
    }
    kinds = {"i": "int32", "f": "float64"}
    plain = {
        name: np.ascontiguousarray(each, DTYPES[kinds[each.dtype.kind]])
        for name, each in arrays.items()
    }
    header = msgspec.json.encode(
        _Header(
            features=features.VERSION,
            names=features.NAMES,
            methods=model.methods,
            depths={"regressor": model.regressor.depth, "ranker": model.ranker.depth},
            ood_one=model.ood_one,
            arrays=[(name, kinds[each.dtype.kind], each.shape) for name, each in plain.items()],
            about=model.about,
        ),
        order="sorted",
    )
    data = b"".join(each.tobytes() for each in plain.values())
    return MAGIC + len(header).to_bytes(8, "little") + header + data


def manifest_of(data: bytes, about: About) -> Manifest:
    return Manifest(
        format=MAGIC.decode().strip(),
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        features=features.VERSION,
        about=about,
    )


def save(model: Model, path: Path) -> Manifest:
    """Write the file and its manifest, each whole or not at all."""
    data = encode(model)
    manifest = manifest_of(data, model.about)
    for place, content in (
        (path, data),
        (path.with_name(path.name + ".manifest"), msgspec.json.encode(manifest, order="sorted")),
    ):
        beside = place.with_name(place.name + ".new")
        beside.write_bytes(content)
        beside.replace(place)
    return manifest


def load(path: Path, expected: str | None = None) -> Model:
    """expected: the SHA-256 that it must have; without one, what its manifest names.

    Raises BadModel where the bytes are others, or are no model of these features.
    """
    try:
        data = path.read_bytes()
        beside = path.with_name(path.name + ".manifest").read_bytes()
        manifest = msgspec.json.decode(beside, type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadModel(f"{path}: it cannot be read, or has no manifest: {error}.") from error
    if len(data) > FILE_BYTES_MAX:
        raise BadModel(f"{path}: a model has at most {FILE_BYTES_MAX:,} bytes.")
    found = hashlib.sha256(data).hexdigest()
    if found != (manifest.sha256 if expected is None else expected):
        raise BadModel(f"{path}: its bytes are not those that were written: SHA-256 {found[:16]}.")
    try:
        return decode(data, found)
    except (ValueError, KeyError, msgspec.DecodeError) as error:
        raise BadModel(f"{path}: this is no model: {error}.") from error


def decode(data: bytes, digest: str) -> Model:
    """The model in bytes whose digest was checked. Raises ValueError."""
    if not data.startswith(MAGIC):
        raise ValueError("it begins otherwise")
    start = len(MAGIC) + 8
    at = start + int.from_bytes(data[len(MAGIC) : start], "little")
    header = msgspec.json.decode(data[start:at], type=_Header)
    if (header.features, header.names) != (features.VERSION, features.NAMES):
        raise ValueError(f"it is of {header.features}, and these are {features.VERSION}")
    if not set(header.methods) <= set(METHODS):
        raise ValueError("it knows a method that nobody else does")
    arrays = {}
    for name, kind, shape in header.arrays:
        dtype = DTYPES[kind]
        count = int(np.prod(shape, dtype=np.int64))
        if count < 0 or at + count * dtype.itemsize > len(data):
            raise ValueError(f"{name} is cut off")
        arrays[name] = np.frombuffer(data, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
    if at != len(data):
        raise ValueError("there is more than arrays")
    forests = {}
    for name in ("regressor", "ranker"):
        parts: dict[str, Any] = {each: arrays[f"{name}.{each}"] for each in FOREST_ARRAYS}
        forests[name] = Forest(**parts, depth=header.depths[name])
    outputs = {"regressor": 2 * len(header.methods), "ranker": len(header.methods)}
    for name, forest in forests.items():
        check_forest(forest, len(header.names))
        if forest.value.shape[1] != outputs[name]:
            raise ValueError(f"the {name} has other outputs")
    return Model(
        methods=header.methods,
        regressor=forests["regressor"],
        ranker=forests["ranker"],
        width=arrays["width"],
        sure_at=arrays["sure_at"],
        sure=arrays["sure"],
        centre=arrays["centre"],
        scale=arrays["scale"],
        ood_one=header.ood_one,
        about=header.about,
        digest=digest,
    )
