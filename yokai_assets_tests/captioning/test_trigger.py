"""Trigger words: one per character, always the same, no word of any language model's training text."""

import re

import pytest

from yokai_assets.analysis.vocabulary import load_vocabulary
from yokai_assets.captioning import trigger_word


def test_words_of_a_series_never_coincide() -> None:
    """Protects: two LoRAs of one series can be used together."""
    words = {trigger_word(f"cluster_{number:03d}", "series", "ykai") for number in range(20_000)}
    assert len(words) == 20_000


def test_words_of_different_series_differ() -> None:
    """Protects: LoRAs of two series can be used together."""
    first, second = ({trigger_word(f"cluster_{n:03d}", s, "ykai") for n in range(200)} for s in ("first", "second"))
    assert not first & second


def test_word_never_changes() -> None:
    """Protects: published LoRAs keep their trigger; a changed rule would orphan them."""
    assert trigger_word("cluster_000", "demo", "ykai") == trigger_word("cluster_000", "demo", "ykai")
    assert trigger_word("cluster_000", "demo", "ykai") != trigger_word("cluster_000", "demo", "other")
    assert [trigger_word(f"cluster_00{n}", "demo", "ykai") for n in range(3)] == PINNED


@pytest.mark.parametrize("character_id", ["cluster_000", "cluster_1048576", "Kitarō 鬼太郎", "x" * 300, "9" * 40])
def test_word_is_pronounceable_ascii(character_id: str) -> None:
    """Protects: the word can be typed and is one token sequence in any tokenizer, whatever the id."""
    assert re.fullmatch(r"ykai[xzqvj][aeiou]([bdfgjklmnprstvxz][aeiou]){3}", trigger_word(character_id, "s", "ykai"))


def test_prefix_is_reduced_to_letters_and_digits() -> None:
    """Protects: no comma, dot or capital splits the word in a caption."""
    assert trigger_word("cluster_000", "s", "My.Show-2").startswith("myshow2")


def test_word_is_none_of_the_vocabulary() -> None:
    """Protects: the trigger does not mean a trait as well."""
    words = {
        word
        for name in ("anime", "creatures")
        for attribute in load_vocabulary(name).attributes
        for value in attribute.values
        for phrase in (value.tag, *value.phrases)
        for word in phrase.lower().split()
    }
    assert not words & {trigger_word(f"cluster_{n:03d}", "s", "y") for n in range(1000)}


PINNED = ["ykaivozipini", "ykaiqarigoma", "ykaixikivuki"]
