"""Reading attributes off image vectors with words alone, and saying so when it cannot be told.

Vectors and probabilities only. Where vectors come from is `yokai_assets.embedding`; which words there are is
`vocabulary`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from yokai_assets.analysis.vocabulary import Attribute, AttributeValue, Vocabulary
from yokai_assets.embedding.model import CLIP_LOGIT_SCALE

Matrix = NDArray[np.float32]


class TextModel(Protocol):
    """The text side of an image-text model; `yokai_assets.embedding.model.ImageTextModel` is one.

    A `logit_scale` attribute, the factor from cosine to logit that the model was trained with, is used where there
    is one.
    """

    fingerprint: str
    """Sha256 of what makes the vectors."""

    def embed_texts(self, texts: list[str], /) -> Matrix:
        """Return unit vectors, f32 [N, D]."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """An attribute read off one image or many: the value, or None where it cannot be told, with its probability."""

    value: AttributeValue | None
    confidence: float


_CLASS_VECTORS: dict[tuple[str, str], dict[str, Matrix]] = {}


def class_vectors(model: TextModel, vocabulary: Vocabulary) -> Mapping[str, Matrix]:
    """Return attribute -> one unit vector per value, f32 [V, D].

    A value's vector is the normalised mean over its prompts' unit vectors, the prompt ensemble of Radford et al.
    2021 (section 3.1.4). Every prompt is embedded once per process and model.
    """
    key = (model.fingerprint, vocabulary.fingerprint)
    if key not in _CLASS_VECTORS:
        owners: list[tuple[str, int]] = []
        prompts: list[str] = []
        for attribute in vocabulary.attributes:
            for number, value in enumerate(attribute.values):
                wordings = attribute.prompts(value)
                prompts += wordings
                owners += [(attribute.name, number)] * len(wordings)
        vectors = np.asarray(model.embed_texts(prompts), np.float32)
        sums = {a.name: np.zeros((len(a.values), vectors.shape[1]), np.float32) for a in vocabulary.attributes}
        for (name, number), vector in zip(owners, vectors, strict=True):
            sums[name][number] += vector
        _CLASS_VECTORS[key] = {name: _unit(total) for name, total in sums.items()}
    return _CLASS_VECTORS[key]


def value_probabilities(vectors: Matrix, model: TextModel, vocabulary: Vocabulary) -> dict[str, Matrix]:
    """Return attribute -> probability of each value for each image.

    Args:
        vectors: Unit image vectors, f32 [N, D].
        model: The model that made them.
        vocabulary: Attributes and their words.

    Returns:
        f32 [N, V] per attribute; rows sum to 1. The temperature is the model's own `logit_scale`, else CLIP's.
    """
    scale = float(getattr(model, "logit_scale", CLIP_LOGIT_SCALE))
    return {name: _softmax(scale * (vectors @ classes.T)) for name, classes in class_vectors(model, vocabulary).items()}


def tell(attribute: Attribute, probabilities: NDArray[np.floating], min_confidence: float) -> Reading:
    """Name the most probable value, or none where its probability lies below `min_confidence`.

    Args:
        attribute: The attribute that was read.
        probabilities: [V], of one image or a mean over images.
        min_confidence: Probability from which a value is named (0-1).
    """
    best = int(np.argmax(probabilities))
    confidence = float(probabilities[best])
    return Reading(attribute.values[best] if confidence >= min_confidence else None, confidence)


def _softmax(logits: Matrix) -> Matrix:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)


def _unit(vectors: Matrix) -> Matrix:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
