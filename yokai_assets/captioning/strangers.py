"""Captions of nobody in particular: what prior preservation keeps as it is.

Made of the vocabulary's tags, so that they reach as far as the words that the series is described with.
"""

import numpy as np

from yokai_assets.analysis.vocabulary import Attribute, Vocabulary

_SHARE_OF_IDENTITY, _SHARE_OF_VARYING = 0.7, 0.4


def stranger_captions(vocabulary: Vocabulary, count: int, seed: int) -> tuple[str, ...]:
    """Return captions that describe characters drawn at random, without a trigger word.

    Args:
        vocabulary: Its tags, one value of an attribute at a time.
        count: How many to draw; there may be fewer if the vocabulary is small, because they are unlike.
        seed: Of the drawing.

    Returns:
        Captions in the order of drawing, each at least one tag, comma-separated as in training captions.
    """
    rng = np.random.default_rng(seed)
    drawn = (_draw(vocabulary, rng) for _ in range(count))
    return tuple(dict.fromkeys(caption for caption in drawn if caption))


def _draw(vocabulary: Vocabulary, rng: np.random.Generator) -> str:
    tags = [_tag(attribute, rng) for attribute in vocabulary.attributes]
    return ", ".join(tag for tag in tags if tag)


def _tag(attribute: Attribute, rng: np.random.Generator) -> str:
    share = _SHARE_OF_IDENTITY if attribute.is_identity else _SHARE_OF_VARYING
    value = attribute.values[rng.integers(len(attribute.values))]
    return value.tag if rng.random() < share else ""
