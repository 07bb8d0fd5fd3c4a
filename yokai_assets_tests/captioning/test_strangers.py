"""Captions of anybody: whole descriptions in the vocabulary's own words, the same for a seed."""

from yokai_assets.analysis import load_vocabulary
from yokai_assets.captioning import stranger_captions

VOCABULARY = load_vocabulary("creatures")


def test_every_tag_of_the_vocabulary_is_kept_as_it_is() -> None:
    """Protects: a LoRA that changes what is never named in prior preservation."""
    told = {tag for caption in stranger_captions(VOCABULARY, 200, 0) for tag in caption.split(", ")}
    assert told == {value.tag for attribute in VOCABULARY.attributes for value in attribute.values if value.tag}


def test_descriptions_are_whole_and_possible() -> None:
    """Protects: several traits together, as prompts have them, and never two values of one attribute."""
    attribute_of = {value.tag: a.name for a in VOCABULARY.attributes for value in a.values if value.tag}
    captions = stranger_captions(VOCABULARY, 200, 0)
    traits = [[attribute_of[tag] for tag in caption.split(", ")] for caption in captions]
    assert all(len(set(one)) == len(one) for one in traits)
    assert sum(map(len, traits)) / len(traits) > 3
    assert len(set(captions)) == len(captions) > 190


def test_a_seed_gives_the_same_captions() -> None:
    """Protects: a training that is stopped and continued draws from the same texts."""
    assert stranger_captions(VOCABULARY, 50, 1) == stranger_captions(VOCABULARY, 50, 1)
    assert stranger_captions(VOCABULARY, 50, 1) != stranger_captions(VOCABULARY, 50, 2)
