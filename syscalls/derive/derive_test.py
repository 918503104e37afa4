"""Generated files are held against jsonschema, the OpenRPC rules and a second Python process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from syscalls.derive.__main__ import stale, write
from syscalls.derive.files import OPENRPC, PAGES, STUBS, generated
from syscalls.derive.openrpc import document
from syscalls.derive.samples import sample, sample_value
from syscalls.derive.schema import documents
from syscalls.discover import OpenrpcDocument
from syscalls.errors import ERRORS
from syscalls.events import JobEvent
from syscalls.registry import CALLS, METHODS

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = {name: json.loads(text) for name, text in documents().items()}
FILES = generated()


def reject_where(name: str, value: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMAS[name])
    return [error.message for error in validator.iter_errors(value)]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"].endswith(name.removesuffix(".json"))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.METHOD)
def test_what_is_sent_satisfies_its_schema(call: Any, full: bool) -> None:
    request = json.loads(msgspec.json.encode(sample_value(call, full=full)))
    assert reject_where(f"{call.METHOD}.request.json", request) == []
    reply = json.loads(msgspec.json.encode(sample_value(call.REPLY, full=full)))
    assert reject_where(f"{call.METHOD}.reply.json", reply) == []


def test_notifications_and_errors_satisfy_their_schemas() -> None:
    event = json.loads(msgspec.json.encode(sample_value(JobEvent)))
    assert reject_where("q_event.json", event) == []
    for error in ERRORS:
        data = json.loads(msgspec.json.encode(sample_value(error)))
        assert reject_where("errors.json", data) == []


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.METHOD)
def test_schema_and_decoder_refuse_the_same_requests(call: Any) -> None:
    good = sample(call)
    spoiled: list[dict[str, Any]] = [{**good, "surplus": 1}]
    values: list[Any] = [None, 7, -1, 2**64, "x" * 200, [None], {}]
    for name in good:
        spoiled += [{**good, name: wrong} for wrong in values]
        spoiled.append({key: value for key, value in good.items() if key != name})
    for request in [good, *spoiled]:
        try:
            msgspec.json.decode(json.dumps(request), type=call)
            accepted = True
        except msgspec.ValidationError:
            accepted = False
        assert accepted == (not reject_where(f"{call.METHOD}.request.json", request)), request


@pytest.mark.parametrize("seed", [-1, 0, 2**64 - 1, 2**64])
def test_the_schema_knows_how_wide_a_seed_is(seed: int) -> None:
    request = {"session_id": "s", "graph": {}, "policy": {"seed": seed}}
    assert (not reject_where("q_submit.request.json", request)) == (0 <= seed < 2**64)


def test_the_openrpc_document_is_whole_and_its_references_lead_somewhere() -> None:
    made = document()
    assert msgspec.convert(made, OpenrpcDocument)
    assert made["openrpc"].startswith("1.3.")
    assert [method["name"] for method in made["methods"]] == list(METHODS)
    references = re.findall(r'"\$ref": "([^"]+)"', json.dumps(made))
    assert references
    for reference in references:
        root, *steps = reference.split("/")
        assert root == "#"
        place: Any = made
        for step in steps:
            place = place[step]
    for method in made["methods"]:
        names = [parameter["name"] for parameter in method["params"]]
        assert len(set(names)) == len(names)
        required = [parameter["required"] for parameter in method["params"]]
        assert required == sorted(required, reverse=True), "required parameters come first"
        assert method["paramStructure"] == "by-name"
        assert method["x-available"] == METHODS[method["name"]].AVAILABLE
        assert method["errors"]
        assert all(pair.keys() == {"name", "value"} for pair in method["examples"][0]["params"])


def test_links_between_the_pages_lead_to_a_heading() -> None:
    pages = {name: text for name, text in FILES.items() if name.startswith(PAGES)}
    anchors = {
        Path(name).name: {
            heading.strip("`").lower().replace(".", "")
            for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        }
        for name, text in pages.items()
    }
    for name, text in pages.items():
        for page, anchor in re.findall(r"\]\(([\w.]*)#?([\w.]*)\)", text):
            target = anchors[page or Path(name).name]
            assert not anchor or anchor in target, f"{name}: {page}#{anchor}"


def test_every_call_and_every_error_has_its_place_in_the_pages() -> None:
    for call in CALLS:
        assert f"## `{call.METHOD}`" in FILES[f"{PAGES}/calls.md"]
        assert f"(calls.md#{call.METHOD.replace('.', '')})" in FILES[f"{PAGES}/README.md"]
    for error in ERRORS:
        assert f"### `{error.NAME}`" in FILES[f"{PAGES}/errors.md"]


def test_stubs_build_the_request_they_are_named_after() -> None:
    namespace: dict[str, Any] = {"__name__": "stubs"}
    exec(compile(FILES[STUBS], STUBS, "exec"), namespace)
    for call in CALLS:
        made = sample_value(call)
        function = getattr(namespace["Calls"], call.METHOD.removeprefix("q_").removeprefix("rpc."))
        arguments = {name: getattr(made, name) for name in call.__struct_fields__}
        assert function(**arguments) == made
        assert function.__annotations__["return"] is call


def test_another_process_generates_the_same_bytes() -> None:
    code = (
        "import hashlib, json; from syscalls.derive.files import generated; "
        "print(hashlib.sha256(json.dumps(generated(), sort_keys=True).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"},
            capture_output=True,
            check=True,
        ).stdout
        for seed, zone in (("0", "UTC"), ("1", "Asia/Tokyo"))
    }
    assert len(digests) == 1


def test_stale_missing_and_surplus_files_are_named_and_mended(tmp_path: Path) -> None:
    assert set(write(tmp_path)) == set(FILES)
    assert stale(tmp_path) == []
    (tmp_path / STUBS).write_text("old")
    (tmp_path / OPENRPC).unlink()
    (tmp_path / PAGES / "gone.md").write_text("nobody generates this")
    assert stale(tmp_path) == sorted([STUBS, OPENRPC, f"{PAGES}/gone.md"])
    write(tmp_path)
    assert stale(tmp_path) == []
