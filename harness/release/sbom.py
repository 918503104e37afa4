"""What is in a release, and what it is installed with: CycloneDX 1.6, as JSON.

One component for each dependency at its pinned version, with the digests of its archives, and which
extra wants it. No time and no random serial number: the same commit has the same bill of materials.
"""

from __future__ import annotations

import re
import tomllib
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.release.building import Commit, Package
from harness.release.lock import Pinned, normalised

SPEC = "1.6"
SCHEMA = f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json"
NAME = re.compile(r"^[A-Za-z0-9._-]+")


def project(root: Path) -> dict[str, Any]:
    """The table `project` of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return table


def direct(table: dict[str, Any]) -> dict[str, list[str]]:
    """Names of direct dependencies, by the extra that wants them; "" for what is always needed."""
    wanted = {"": table["dependencies"], **table["optional-dependencies"]}
    return {extra: [normalised(_name(each)) for each in needs] for extra, needs in wanted.items()}


def bill(
    table: dict[str, Any], pinned: Iterable[Pinned], source: Commit, packages: Iterable[Package]
) -> dict[str, Any]:
    """The bill of materials."""
    wanted = direct(table)
    ref = f"pkg:pypi/{table['name']}@{table['version']}"
    components = [_component(each, wanted) for each in sorted(pinned, key=lambda one: one.name)]
    known = {each["name"]: each["bom-ref"] for each in components}
    needed = sorted({known[name] for names in wanted.values() for name in names if name in known})
    return {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ref + '#' + source.digest)}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "application",
                "bom-ref": ref,
                "name": table["name"],
                "version": table["version"],
                "description": table["description"],
                "licenses": [{"license": {"id": table["license"]}}],
                "purl": ref,
                "properties": [{"name": "qmkd:commit", "value": source.digest}],
                "components": [
                    {
                        "type": "file",
                        "bom-ref": f"file:{each.name}",
                        "name": each.name,
                        "hashes": [{"alg": "SHA-256", "content": each.digest}],
                    }
                    for each in packages
                ],
            },
        },
        "components": components,
        "dependencies": [{"ref": ref, "dependsOn": needed}],
    }


def _name(requirement: str) -> str:
    found = NAME.match(requirement)
    assert found is not None, "a requirement begins with a name"
    return found[0]


def _component(pinned: Pinned, wanted: dict[str, list[str]]) -> dict[str, Any]:
    purl = f"pkg:pypi/{pinned.name}@{pinned.version}"
    extras = sorted(extra or "always" for extra, names in wanted.items() if pinned.name in names)
    always = pinned.name in wanted[""]
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": pinned.name,
        "version": pinned.version,
        "scope": "required" if always else "optional",
        "purl": purl,
        # One archive of these is installed, by platform.
        "properties": [
            {"name": "qmkd:archive-sha256", "value": digest} for digest in sorted(pinned.digests)
        ],
    }
    if extras:
        found["properties"] += [{"name": "qmkd:wanted-by", "value": each} for each in extras]
    if len(pinned.digests) == 1:
        found["hashes"] = [{"alg": "SHA-256", "content": pinned.digests[0]}]
    return found
