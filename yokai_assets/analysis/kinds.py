"""Is it a figure at all, by words: characters against scenery and lettering.

The words and the reading only; what follows for a group is `yokai_assets.clustering.judging`.
"""

import numpy as np

from yokai_assets.analysis.vocabulary import Attribute, AttributeValue, Vocabulary
from yokai_assets.analysis.zero_shot import Matrix, TextModel, value_probabilities

_TEMPLATES = ("{}", "a cartoon drawing of {}", "{} cut out of an animation frame", "a picture of {} on a plain ground")
_FIGURES = ("a cartoon character", "a person", "an animal", "a monster", "a face", "a talking object with a face")
_SCENERY = ("a tree", "plants and grass", "a cloud", "a building", "a rock", "a landscape", "furniture", "water")
_LETTERING = ("a title card", "text", "a logo", "the credits of a film")

KINDS = Vocabulary(
    name="kinds",
    attributes=(
        Attribute(
            name="kind",
            title="kind of picture",
            kind="identity",
            templates=_TEMPLATES,
            values=tuple(
                AttributeValue(name=phrase, phrases=(phrase,), tag="") for phrase in (*_FIGURES, *_SCENERY, *_LETTERING)
            ),
        ),
    ),
)

MIN_FIGURE_SHARE = 0.6
"""Share of all pictures that must be figures before the words are believed of any: in a series most cut-outs are.

A model whose text side is untrained, or that does not know these words, calls nearly all the same or none.
"""


def scenery_probabilities(vectors: Matrix, model: TextModel) -> np.ndarray | None:
    """Return the probability that a picture shows scenery or lettering and no figure, f32 [N].

    Args:
        vectors: Unit image vectors, f32 [N, D].
        model: The model that made them.

    Returns:
        None where the model cannot tell: fewer than three fifths of the pictures would be figures.
    """
    if not len(vectors):
        return None
    probabilities = value_probabilities(vectors, model, KINDS)["kind"]
    scenery = probabilities[:, len(_FIGURES) :].sum(axis=1)
    return scenery if float((scenery < 0.5).mean()) >= MIN_FIGURE_SHARE else None
