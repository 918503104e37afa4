from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from qvm import isa, random_programs_test
from qvm.program import VerifiedProgram
from qvm.random_programs import random_program
from qvm.schema import ROOT, SCHEMA_FILE, generated, graph_schema, main, stale
from qvm.verify import verify_bytes
from qvm.verify_test import BAD

VALIDATOR = jsonschema.Draft202012Validator(json.loads((ROOT / SCHEMA_FILE).read_text("utf-8")))

# What JSON Schema can say of these rules, it says; the rest needs the whole program.
EXPRESSIBLE = {
    "structure.type", "structure.missing", "structure.unknown_field", "structure.name",
    "version.unknown", "op.unknown", "operand.count", "arg.missing", "arg.unknown", "arg.type",
    "arg.choice", "arg.group", "guard.shape", "guard.nested", "guard.forbidden", "guard.missing",
    "caps.unknown", "bounds.conditions",
}  # fmt: skip


def test_the_generated_files_are_fresh() -> None:
    assert stale() == []
    assert main(["--check"]) == 0


def test_a_stale_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("qvm.schema.ROOT", tmp_path)
    assert main(["--check"]) == 1
    assert SCHEMA_FILE in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert main(["--chekc"]) == 2


def test_the_schema_is_a_schema_of_its_draft() -> None:
    jsonschema.Draft202012Validator.check_schema(graph_schema())


def test_the_pages_tell_of_every_opcode_and_argument() -> None:
    page = generated()["docs/qvm/instructions.md"]
    for op in isa.TABLE:
        assert f"### {op.name}\n" in page
        for row in op.args:
            assert f"| `{row.name}` |" in page


def test_valid_programs_pass_the_schema() -> None:
    for seed in range(100):
        rng = random.Random(seed)
        document = random_program(rng, nodes_max=16, magic=True, angles=True, channels=True)
        VALIDATOR.validate(document)


# To JSON Schema 2.0 is an integer. Which inputs a guard covers, and how many qubits go with which
# teleport, it does not say here.
BEYOND = {
    ("arg.type", "$.program.nodes[0].args.n", "2.0"),
    ("structure.type", "$.program.nodes[1].guard.equals", "1.0"),
    ("operand.count", "$.program.nodes[3].inputs", '["m", "k"]'),
    ("operand.count", "$.program.nodes[2].vqs", '["a"]'),
}


@pytest.mark.parametrize(("rule", "path", "document"), BAD)
def test_the_schema_refuses_what_it_can_express(rule: str, path: str, document: Any) -> None:
    if rule in EXPRESSIBLE:
        known = (rule, path, json.dumps(random_programs_test.resolve(document, path))) in BEYOND
        assert VALIDATOR.is_valid(document) == known


def test_what_the_schema_refuses_the_verifier_refuses() -> None:
    refused = 0
    for seed in range(400):
        rng = random.Random(f"schema {seed}")
        document = random_program(rng, nodes_max=8, magic=True, channels=True)
        rng.choice(random_programs_test.DAMAGE)(rng, document)
        if not VALIDATOR.is_valid(document):
            refused += 1
            assert not isinstance(verify_bytes(json.dumps(document).encode()), VerifiedProgram)
    assert refused > 100
