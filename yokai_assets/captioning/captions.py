"""Captions: which tags each image gets, and in which order.

Order of a caption: the trigger word; tags that a person wants always; tags of what varies, most certain first; tags
of what belongs to the character but is not constant, most certain first. What is constant gets no tag, so that
training binds it to the trigger word (the "core tag" pruning known from character-LoRA practice).
"""

import logging
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl

from yokai_assets.analysis.profile import CharacterProfile
from yokai_assets.analysis.vocabulary import Attribute, Vocabulary
from yokai_assets.analysis.zero_shot import Matrix, TextModel, value_probabilities
from yokai_assets.captioning.overrides import CaptionOverrides, read_overrides
from yokai_assets.captioning.trigger import trigger_word
from yokai_assets.embedding.instances import vector_matrix
from yokai_assets.settings.model import CaptionSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import CAPTIONS

_LOG = logging.getLogger(__name__)
_MIN_DEVIATING_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class _Tag:
    text: str
    score: float
    is_identity: bool


def caption_members(
    profile: CharacterProfile,
    members: pl.DataFrame,
    embeddings: pl.DataFrame,
    model: TextModel,
    vocabulary: Vocabulary,
    settings: CaptionSettings,
    series: str,
    *,
    layout: Layout | None = None,
) -> pl.DataFrame:
    """Caption every member of a character.

    A value is a tag where its probability reaches the profile's `min_confidence`. Tags of identity attributes are
    pruned where the same value is told in at least `core_tag_share` of the character's images; beside such a value,
    another one of the same attribute is kept only if at least a tenth of the images carry it (a second outfit), and
    taken for a misreading otherwise.

    Args:
        profile: The character's profile.
        members: MEMBERS; those of other characters are left out.
        embeddings: EMBEDDINGS that hold the members' rows; members without a vector get a caption without tags, and
            no correction of their own.
        model: The image-text model that made the vectors.
        vocabulary: Words to read.
        settings: Trigger prefix, pruning and length.
        series: Name of the series, part of the trigger word.
        layout: Where a person's corrections may lie; unset: none are looked for.

    Returns:
        CAPTIONS, sorted by instance.

    Raises:
        OverridesError: There are corrections that cannot be read.
    """
    character_id = profile.character_id
    own = (
        members.filter(pl.col("character_id") == character_id)
        .select("instance_id")
        .join(embeddings.select("instance_id", "cutout_sha256", "vector"), on="instance_id", how="left")
        .sort("instance_id")
    )
    sha256_of = dict(own.select("instance_id", "cutout_sha256").iter_rows())
    overrides = read_overrides(layout, character_id, sha256_of) if layout else CaptionOverrides()
    if own.is_empty():
        return CAPTIONS.empty()
    key_of = {i: overrides.key_of(sha256) for i, sha256 in sha256_of.items() if sha256}
    _warn_of_unknown(overrides, set(key_of.values()), character_id)
    known = own.filter(pl.col("vector").is_not_null())
    tags = (
        _tags(vector_matrix(known), model, vocabulary, profile.min_confidence, settings.core_tag_share)
        if len(known)
        else []
    )
    tags_of = dict(zip(known["instance_id"], tags, strict=True))
    trigger = trigger_word(character_id, series, settings.trigger_prefix)
    rows = []
    for instance_id in own["instance_id"]:
        ordered = _ordered(tags_of.get(instance_id, []), overrides, key_of.get(instance_id), settings.max_tags)
        texts = [tag.text for tag in ordered]
        rows.append(
            {
                "character_id": character_id,
                "instance_id": instance_id,
                "trigger": trigger,
                "tags": texts,
                "scores": [round(tag.score, 4) for tag in ordered],
                "caption": ", ".join([trigger, *texts]),
            }
        )
    return CAPTIONS.from_rows(rows)


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


def _tags(
    vectors: Matrix, model: TextModel, vocabulary: Vocabulary, min_confidence: float, core_tag_share: float
) -> list[list[_Tag]]:
    probabilities = value_probabilities(vectors, model, vocabulary)
    tags: list[list[_Tag]] = [[] for _ in vectors]
    for attribute in vocabulary.attributes:
        scores = probabilities[attribute.name]
        best, score = scores.argmax(axis=1), scores.max(axis=1)
        is_told = score >= min_confidence
        kept = _kept_values(attribute, is_told, best, core_tag_share)
        for image in np.flatnonzero(is_told):
            value = attribute.values[best[image]]
            if value.tag and int(best[image]) in kept:
                tags[image].append(_Tag(value.tag, float(score[image]), attribute.is_identity))
    return tags


def _kept_values(attribute: Attribute, is_told: np.ndarray, best: np.ndarray, core_tag_share: float) -> set[int]:
    every = set(range(len(attribute.values)))
    if not attribute.is_identity:
        return every
    core = core_values(is_told, best, len(every), core_tag_share)
    if not core:
        return every
    counts = np.bincount(best[is_told], minlength=len(every))
    return {value for value in every - core if counts[value] >= _MIN_DEVIATING_SHARE * len(best)}


def _ordered(tags: list[_Tag], overrides: CaptionOverrides, key: str | None, max_tags: int) -> list[_Tag]:
    if key is not None:
        return [_Tag(text, 1.0, is_identity=False) for text in overrides.captions[key]]
    wanted = list(dict.fromkeys(chain.from_iterable(overrides.always)))
    hidden = {text.casefold() for text in (*chain.from_iterable(overrides.blacklist), *wanted)}
    shown = sorted(
        (tag for tag in tags if tag.text.casefold() not in hidden),
        key=lambda tag: (tag.is_identity, -tag.score, tag.text),
    )
    always = [_Tag(text, 1.0, is_identity=False) for text in wanted]
    return [*always, *shown][:max_tags]


def _warn_of_unknown(overrides: CaptionOverrides, used: set[str | None], character_id: str) -> None:
    unknown = sorted(set(overrides.captions) - used)
    if unknown:
        _LOG.warning(
            "captions.toml of %s names %d picture(s) that it does not have (any more), e.g. %s: nothing is done with "
            "them. Pictures that were cut out anew have another cutout_sha256.",
            character_id, len(unknown), unknown[0],
        )  # fmt: skip
