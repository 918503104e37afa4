"""Holds the engines to the bits that they always gave."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from qmkd.engine import chance
from qmkd.engine.digests import RUNS, Digests, Reference, complaint, computed, runs, stored

ROOT = Path(__file__).parents[3]
NOW = Reference(3, {"one": Digests("p", "a"), "two": Digests("q", "b")})


def test_reference_runs_give_the_bits_that_they_always_gave() -> None:
    wrong = complaint(stored(), computed())
    assert wrong is None, wrong


def test_there_are_two_hundred_different_reference_runs() -> None:
    reference = stored()
    assert list(reference.runs) == [one.name for one in runs()]
    assert len(reference.runs) == RUNS == 200
    # Some random programs end with nothing measured: their rows are empty.
    assert len({digest.rows for digest in reference.runs.values()}) > 0.9 * RUNS


def test_users_are_told_of_every_version_of_the_random_words() -> None:
    sentence = f"version {chance.VERSION} of the random words"
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "changelog.d").glob("*.md")]
    if (gathered := ROOT / "CHANGELOG.md").exists():
        texts.append(gathered.read_text(encoding="utf-8"))
    found = any(sentence in " ".join(text.split()) for text in texts)
    assert found, f"no entry of the change log says {sentence!r}"


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        (NOW, None),
        (msgspec.structs.replace(NOW, version=2), "those of version 2 .* this is version 3"),
        (
            Reference(3, {"one": Digests("p", "a"), "two": Digests("q", "c")}),
            "1 of 2 reference runs give other bits .* 'two'.* chance.DOMAIN.* changelog.d",
        ),
        (Reference(3, {"one": Digests("p", "a"), "two": Digests("r", "c")}), "other programs"),
        (Reference(3, {"one": Digests("p", "a")}), "other programs"),
    ],
)
def test_a_change_is_told_in_words_that_say_what_to_do(
    before: Reference, sentence: str | None
) -> None:
    found = complaint(before, NOW)
    if sentence is None:
        assert found is None
    else:
        assert re.search(sentence, found or ""), found
