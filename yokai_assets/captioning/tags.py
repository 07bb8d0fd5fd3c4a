"""Which tags each image of a character gets, and which are left to the trigger word because they never change.

Tags and their pruning. How they stand in a caption is `captions`; what reads them is `yokai_assets.analysis` (words
on vectors) or `yokai_assets.tagging` (a network on pixels).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from yokai_assets.analysis.vocabulary import Attribute, Vocabulary
from yokai_assets.analysis.zero_shot import Matrix, TextModel, value_probabilities

MIN_DEVIATING_SHARE = 0.2
"""Share of the images that another value of a constant trait must have to be a second look rather than a misreading.

On six drawn series of one look each, a fifth left 229 such tags in captions, a tenth 284; 178 of these were misread."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of one image: its text, its probability (0-1), and whether it belongs to the character's looks."""

    text: str
    score: float
    is_identity: bool


def vocabulary_tags(
    vectors: Matrix, model: TextModel, vocabulary: Vocabulary, min_confidence: float, core_tag_share: float
) -> list[list[Tag]]:
    """Return the tags of images by the words of a vocabulary.

    A value is a tag where its probability reaches `min_confidence`. Values of identity attributes that are told in at
    least `core_tag_share` of the images are pruned; beside such a value, another one of the same attribute is kept
    only if enough images have it (a second outfit), and taken for a misreading otherwise.

    Args:
        vectors: Unit image vectors of all images of one character, f32 [N, D].
        model: The image-text model that made them.
        vocabulary: Words to read.
        min_confidence: Probability from which a value is told (0-1).
        core_tag_share: Share of the images from which a value is constant (0-1).
    """
    probabilities = value_probabilities(vectors, model, vocabulary)
    tags: list[list[Tag]] = [[] for _ in vectors]
    for attribute in vocabulary.attributes:
        scores = probabilities[attribute.name]
        best, score = scores.argmax(axis=1), scores.max(axis=1)
        is_told = score >= min_confidence
        kept = _kept_values(attribute, is_told, best, core_tag_share)
        for image in np.flatnonzero(is_told):
            value = attribute.values[best[image]]
            if value.tag and int(best[image]) in kept:
                tags[image].append(Tag(value.tag, float(score[image]), attribute.is_identity))
    return tags


def reader_tags(
    readings: Sequence[Mapping[str, float]], vocabulary: Vocabulary, core_tag_share: float
) -> list[list[Tag]]:
    """Return the tags of images by a tagger.

    A tagger does not say which tags belong to the character. What at least `core_tag_share` of the images carry is
    taken for its looks and pruned, unless the vocabulary knows the tag as one that varies: a character that always
    smiles is still to be asked for with a smile.

    Args:
        readings: Of all images of one character: tag -> probability.
        vocabulary: Which tags vary.
        core_tag_share: Share of the images from which a tag is constant (0-1).
    """
    varying = {
        value.tag.casefold()
        for attribute in vocabulary.attributes
        if not attribute.is_identity
        for value in attribute.values
    }
    counts = Counter(tag for reading in readings for tag in reading)
    core = {tag for tag, count in counts.items() if count >= core_tag_share * len(readings)}
    return [
        [Tag(tag, score, is_identity=False) for tag, score in reading.items()
         if tag not in core or tag.casefold() in varying]
        for reading in readings
    ]  # fmt: skip


def core_values(is_told: np.ndarray, best: np.ndarray, value_count: int, core_tag_share: float) -> set[int]:
    """Return the values told in at least `core_tag_share` of all images.

    Args:
        is_told: Whether an attribute can be told in each image, bool [N].
        best: Its most probable value in each image, int [N].
        value_count: Values of the attribute.
        core_tag_share: Share from which a value is constant (0-1).
    """
    counts = np.bincount(best[is_told], minlength=value_count)
    return {int(value) for value in np.flatnonzero((counts > 0) & (counts >= core_tag_share * len(best)))}


def without_overlaps(tags: Sequence[Tag]) -> list[Tag]:
    """Drop tags whose words all stand, together, in a longer one: `hat` beside `blue hat`."""
    words = [tag.text.casefold().split() for tag in tags]
    return [
        tag
        for tag, own in zip(tags, words, strict=True)
        if not any(len(own) < len(other) and _stands_in(own, other) for other in words)
    ]


def _stands_in(part: list[str], whole: list[str]) -> bool:
    return any(whole[start : start + len(part)] == part for start in range(len(whole) - len(part) + 1))


def _kept_values(attribute: Attribute, is_told: np.ndarray, best: np.ndarray, core_tag_share: float) -> set[int]:
    every = set(range(len(attribute.values)))
    if not attribute.is_identity:
        return every
    core = core_values(is_told, best, len(every), core_tag_share)
    if not core:
        return every
    counts = np.bincount(best[is_told], minlength=len(every))
    return {value for value in every - core if counts[value] >= MIN_DEVIATING_SHARE * len(best)}
