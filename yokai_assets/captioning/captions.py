"""Captions: what the text of each image says, and in which order.

Order of a caption: the trigger word; tags that a person wants always; tags of what varies, most certain first; tags
of what belongs to the character but is not constant, most certain first. What is constant gets no tag, so that
training binds it to the trigger word (the "core tag" pruning known from character-LoRA practice). Instead of tags,
or after them, a caption can be a sentence.
"""

import logging
from collections.abc import Mapping
from itertools import chain

import polars as pl

from yokai_assets.analysis.profile import CharacterProfile
from yokai_assets.analysis.vocabulary import Vocabulary
from yokai_assets.analysis.zero_shot import TextModel
from yokai_assets.captioning.overrides import CaptionOverrides, read_overrides
from yokai_assets.captioning.tags import Tag, reader_tags, vocabulary_tags, without_overlaps
from yokai_assets.captioning.trigger import trigger_word
from yokai_assets.embedding.instances import vector_matrix
from yokai_assets.settings.model import CaptionSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import CAPTIONS
from yokai_assets.tagging import ImageReading

_LOG = logging.getLogger(__name__)


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
    readings: Mapping[str, ImageReading] | None = None,
) -> pl.DataFrame:
    """Caption every member of a character.

    Args:
        profile: The character's profile.
        members: MEMBERS; those of other characters are left out.
        embeddings: EMBEDDINGS that hold the members' rows; members without a vector get a caption without tags, and
            no correction of their own.
        model: The image-text model that made the vectors.
        vocabulary: Words to read.
        settings: Trigger prefix, pruning, length and form.
        series: Name of the series, part of the trigger word.
        layout: Where a person's corrections may lie; unset: none are looked for.
        readings: instance_id -> what a tagger or captioner says. Where it has tags, they are taken instead of the
            vocabulary's.

    Returns:
        CAPTIONS, sorted by instance.

    Raises:
        OverridesError: There are corrections that cannot be read.
    """
    character_id, readings = profile.character_id, readings or {}
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
    if any(reading.tags for reading in readings.values()):
        tags = reader_tags(
            [readings[i].tags if i in readings else {} for i in known["instance_id"]],
            vocabulary, settings.core_tag_share,
        )  # fmt: skip
    elif known.height:
        tags = vocabulary_tags(vector_matrix(known), model, vocabulary, profile.min_confidence, settings.core_tag_share)
    else:
        tags = []
    tags_of = dict(zip(known["instance_id"], tags, strict=True))
    trigger = overrides.trigger or trigger_word(character_id, series, settings.trigger_prefix)
    phrase_of = {v.tag: v.phrases[0] for attribute in vocabulary.attributes for v in attribute.values if v.tag}
    rows = []
    for instance_id in own["instance_id"]:
        key = key_of.get(instance_id)
        ordered = _ordered(tags_of.get(instance_id, []), overrides, key, settings)
        texts = [tag.text for tag in ordered]
        said = readings[instance_id].sentence if instance_id in readings else None
        sentence = said or ", ".join(phrase_of.get(text, text) for text in texts)
        rows.append(
            {
                "character_id": character_id,
                "instance_id": instance_id,
                "trigger": trigger,
                "tags": texts,
                "scores": [round(tag.score, 4) for tag in ordered],
                "sentence": sentence,
                "caption": _caption(trigger, texts, sentence, "tags" if key is not None else settings.form),
            }
        )
    return CAPTIONS.from_rows(rows)


def _caption(trigger: str, tags: list[str], sentence: str, form: str) -> str:
    match form:
        case "sentence":
            return f"a picture of {trigger}, {sentence}" if sentence else f"a picture of {trigger}"
        case "both":
            return ", ".join([trigger, *tags, *([sentence] if sentence and tags != [sentence] else [])])
        case _:
            return ", ".join([trigger, *tags])


def told_values(captions: pl.DataFrame, vocabulary: Vocabulary, attribute: str) -> dict[str, str]:
    """Return instance_id -> value of an attribute, of the images whose caption says one.

    Args:
        captions: CAPTIONS.
        vocabulary: Words that captions are made of.
        attribute: Name of the attribute; one that the vocabulary does not have is told of no image.
    """
    name_of = {
        value.tag: value.name
        for known in vocabulary.attributes
        if known.name == attribute
        for value in known.values
        if value.tag
    }
    return {
        instance_id: name_of[tag]
        for instance_id, tags in captions.select("instance_id", "tags").iter_rows()
        for tag in tags
        if tag in name_of
    }


def _ordered(tags: list[Tag], overrides: CaptionOverrides, key: str | None, settings: CaptionSettings) -> list[Tag]:
    if key is not None:
        return [Tag(text, 1.0, is_identity=False) for text in overrides.captions[key]]
    wanted = list(dict.fromkeys(chain.from_iterable(overrides.always)))
    hidden = {text.casefold() for text in (*settings.blacklist, *chain.from_iterable(overrides.blacklist), *wanted)}
    shown = sorted(
        without_overlaps([tag for tag in tags if tag.text.casefold() not in hidden]),
        key=lambda tag: (tag.is_identity, -tag.score, tag.text),
    )
    always = [Tag(text, 1.0, is_identity=False) for text in wanted]
    return [*always, *shown][: settings.max_tags]


def _warn_of_unknown(overrides: CaptionOverrides, used: set[str | None], character_id: str) -> None:
    unknown = sorted(set(overrides.captions) - used)
    if unknown:
        _LOG.warning(
            "captions.toml of %s names %d picture(s) that it does not have (any more), e.g. %s: nothing is done with "
            "them. Pictures that were cut out anew have another cutout_sha256.",
            character_id, len(unknown), unknown[0],
        )  # fmt: skip
