"""Where a release comes from: an in-toto Statement v1 with a predicate of SLSA, provenance v1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from harness.release import lock
from harness.release.building import Commit, Package

PREDICATE = "https://slsa.dev/provenance/v1"
STATEMENT = "https://in-toto.io/Statement/v1"
BUILD_TYPE = "urn:qmkd:make-release:v1"
BUILDER = "urn:qmkd:builder:make-release"


def statement(
    source: Commit, repository: str, products: Iterable[Package], tools: Mapping[str, str]
) -> dict[str, Any]:
    """What was built from what, with what. tools: as `building.tools`."""
    pinned = lock.locked()
    return {
        "_type": STATEMENT,
        "subject": [{"name": each.name, "digest": {"sha256": each.digest}} for each in products],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"repository": repository, "commit": source.digest},
                "internalParameters": {
                    "SOURCE_DATE_EPOCH": str(source.time),
                    **dict(sorted(tools.items())),
                },
                "resolvedDependencies": [
                    {"uri": repository, "digest": {"gitCommit": source.digest}},
                    {
                        "uri": f"{repository}#{lock.LOCK.name}",
                        "digest": {"sha256": sha256(lock.LOCK.read_bytes()).hexdigest()},
                    },
                    *(
                        {
                            "uri": f"pkg:pypi/{name}@{pinned[name].version}",
                            "annotations": {"archives": list(pinned[name].digests)},
                        }
                        for name in ("setuptools",)
                    ),
                ],
            },
            "runDetails": {
                "builder": {"id": BUILDER},
                "metadata": {"finishedOn": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
            },
        },
    }
