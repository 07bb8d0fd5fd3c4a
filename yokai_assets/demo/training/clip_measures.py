"""How good the demo's CLIP is on creatures that it has never seen: identity, attributes by prompts, captions.

Works on an exported folder, through the platform's own embedding and zero-shot code. Not here: training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yokai_assets.analysis.vocabulary import Vocabulary, load_vocabulary
from yokai_assets.analysis.zero_shot import tell, value_probabilities
from yokai_assets.demo.creatures import ATTRIBUTES
from yokai_assets.demo.training.augmentation import softened
from yokai_assets.demo.training.random_crops import CropSet
from yokai_assets.embedding.model import ImageTextModel, open_image_text_model
from yokai_assets.evaluation.measures import Interval, bootstrap_mean
from yokai_assets.settings.model import AnalysisSettings, EmbeddingSettings

_RESAMPLES = 2000
_CAPTIONS = 200


def open_folder(folder: Path) -> ImageTextModel:
    """The exported model as the platform uses it."""
    return open_image_text_model(EmbeddingSettings(model=f"local-dir:{folder}"), "cpu")


def measure_clip(folder: Path, crops: CropSet, with_backgrounds: CropSet, seed: int = 0) -> dict[str, Interval]:
    """Measures of an exported model, with 95 % intervals over creatures, of which each has many pictures.

    Both sets hold as many creatures and as many pictures of each.

    `identity_1nn` is the share of crops whose nearest other crop shows the same creature, `identity_1nn_soft` the
    same for crops that were reduced and enlarged again, `identity_1nn_with_background` for crops among others that all
    keep their background; `cosine_within` and `cosine_between` are mean cosines of
    crops of one creature and of two; `zero_shot_<attribute>` the share of crops whose best value, by prompts alone,
    is right. At the default confidence `told_<attribute>` is the share of crops of which a value is told at all, and
    `right_when_told_<attribute>` the share of these that are right; `overconfidence_<attribute>` is mean probability
    minus share right, 0 when calibrated. `caption_retrieval_of_200`: own caption best among those of 200 crops.
    """
    model, vocabulary, rng = open_folder(folder), load_vocabulary("creatures"), np.random.default_rng(seed)
    pictures = np.asarray(crops.pictures)
    images = model.embed_images([Image.fromarray(picture) for picture in pictures])
    soft = model.embed_images([Image.fromarray(softened(picture, rng)) for picture in pictures])
    owner = np.repeat(np.arange(crops.designs), crops.views)

    def over_creatures(values: NDArray) -> Interval:
        """Pictures of one creature are alike: the creatures are resampled, not the pictures."""
        by_creature = [values[owner == one] for one in range(crops.designs)]
        means = np.array([np.nanmean(one) for one in by_creature if not np.isnan(one).all()])
        return bootstrap_mean(means, _RESAMPLES, seed)

    uncut = model.embed_images([Image.fromarray(picture) for picture in np.asarray(with_backgrounds.pictures)])
    itself = np.eye(len(owner), dtype=bool)
    is_same = (owner[:, None] == owner[None]) & ~itself
    cosines = images @ images.T
    measures = {
        "identity_1nn": over_creatures(_is_nearest_own(cosines, itself, owner)),
        "identity_1nn_soft": over_creatures(_is_nearest_own(soft @ images.T, itself, owner)),
        "identity_1nn_with_background": over_creatures(_is_nearest_own(uncut @ uncut.T, itself, owner)),
        "cosine_within": over_creatures(np.nanmean(np.where(is_same, cosines, np.nan), axis=1)),
        "cosine_between": over_creatures(np.nanmean(np.where(is_same | itself, np.nan, cosines), axis=1)),
    }
    for name, values in _attribute_values(model, vocabulary, images, crops.labels).items():
        if not np.isnan(values).all():  # a model that tells nothing is neither right nor wrong when it tells
            measures[name] = over_creatures(values)
    chosen = np.linspace(0, len(owner) - 1, min(_CAPTIONS, len(owner))).astype(int)
    captions = model.embed_texts([crops.captions[index][0] for index in chosen])
    is_own_best = (images[chosen] @ captions.T).argmax(axis=1) == np.arange(len(chosen))
    measures["caption_retrieval_of_200"] = bootstrap_mean(is_own_best.astype(float), _RESAMPLES, seed)
    return measures


def _is_nearest_own(cosines: NDArray, itself: NDArray[np.bool_], owner: NDArray[np.int64]) -> NDArray[np.float64]:
    return (owner[np.where(itself, -2, cosines).argmax(axis=1)] == owner).astype(float)


def _attribute_values(
    model: ImageTextModel, vocabulary: Vocabulary, images: NDArray[np.float32], labels: NDArray[np.int64]
) -> Mapping[str, NDArray[np.float64]]:
    """Per picture and attribute: right or not, told or not, right if told (else NaN), probability minus right."""
    min_confidence = AnalysisSettings().min_confidence
    probabilities = value_probabilities(images, model, vocabulary)
    measures: dict[str, NDArray[np.float64]] = {}
    for index, name in enumerate(ATTRIBUTES):
        attribute = vocabulary.attribute(name)
        is_right = (probabilities[name].argmax(axis=1) == labels[:, index]).astype(float)
        is_told = np.array([tell(attribute, row, min_confidence).value is not None for row in probabilities[name]])
        measures[f"zero_shot_{name}"] = is_right
        measures[f"told_{name}"] = is_told.astype(float)
        measures[f"right_when_told_{name}"] = np.where(is_told, is_right, np.nan)
        measures[f"overconfidence_{name}"] = probabilities[name].max(axis=1) - is_right
    return measures
