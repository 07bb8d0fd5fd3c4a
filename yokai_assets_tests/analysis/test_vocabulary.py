"""Vocabularies: the shipped ones are whole, broken ones are refused with a reason."""

from pathlib import Path

import pytest

from yokai_assets.analysis.vocabulary import VocabularyError, load_vocabulary, shipped_vocabularies
from yokai_assets.demo.creatures import ABSENT_VALUES, ATTRIBUTES, IDENTITY_ATTRIBUTES

GOOD = """
name = "mine"
[attributes.hat]
kind = "identity"
[attributes.hat.values]
"red hat" = "a red hat"
"none" = { phrases = ["no hat", "a bare head"], tag = "" }
"""


@pytest.mark.parametrize("name", ["anime", "creatures"])
def test_shipped_vocabulary_has_both_kinds_of_attributes(name: str) -> None:
    """Protects: without varying attributes captions would say nothing, without identity ones profiles would."""
    vocabulary = load_vocabulary(name)
    assert {attribute.kind for attribute in vocabulary.attributes} == {"identity", "varying"}
    assert name in shipped_vocabularies()


def test_creatures_speak_the_words_of_the_demo_family() -> None:
    """Protects: the bundled CLIP knows only the words of its captions; a renamed trait must be renamed here, too."""
    vocabulary = load_vocabulary("creatures")
    assert {a.name for a in vocabulary.attributes} == set(ATTRIBUTES)
    for name, phrases in ATTRIBUTES.items():
        attribute = vocabulary.attribute(name)
        assert attribute.is_identity == (name in IDENTITY_ATTRIBUTES)
        assert {value.name for value in attribute.values} == set(phrases)
        for value in attribute.values:
            assert (value.tag == "") == (value.name in ABSENT_VALUES)
            assert all(phrases[value.name] in prompt for prompt in attribute.prompts(value))


def test_own_file_with_short_and_long_form(tmp_path: Path) -> None:
    """Protects: people can write their own words, with a bare string where one wording is enough."""
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    hat = load_vocabulary(str(path)).attribute("hat")
    assert hat.prompts(hat.values[0]) == ["a red hat"]
    assert hat.values[0].tag == "red hat"
    assert hat.prompts(hat.values[1]) == ["no hat", "a bare head"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = ", "not valid TOML"),
        (GOOD.replace('kind = "identity"', 'kind = "other"'), "attributes.0.kind"),
        (GOOD.replace('"red hat" = "a red hat"\n', ""), "at least 2"),
        (
            GOOD + '[attributes.hat2]\nkind = "varying"\nvalues = { a = { tag = "red hat" }, b = "b" }',
            "belongs to both",
        ),
        (GOOD.replace('kind = "identity"', 'kind = "identity"\ntemplates = ["a hat"]'), "exactly one"),
        ('name = "x"', "attributes"),
    ],
)
def test_broken_file_is_refused_with_its_reason(tmp_path: Path, text: str, reason: str) -> None:
    """Protects: a mistake in an edited vocabulary is named, not trained on."""
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(VocabularyError, match=reason) as raised:
        load_vocabulary(str(path))
    assert "broken.toml" in str(raised.value)


def test_unknown_name_lists_what_there_is() -> None:
    """Protects: a typing mistake in the settings is answered with the choices."""
    with pytest.raises(VocabularyError, match="anime, creatures"):
        load_vocabulary("animee")


def test_fingerprint_follows_the_words(tmp_path: Path) -> None:
    """Protects: nothing read with other words passes for the same."""
    path = tmp_path / "v.toml"
    path.write_text(GOOD)
    before = load_vocabulary(str(path)).fingerprint
    path.write_text(GOOD.replace("a bare head", "a bald head"))
    assert load_vocabulary(str(path)).fingerprint != before
