"""Scenery by words: told apart where the model knows the words, and not believed where it does not."""

import numpy as np

from yokai_assets.analysis.kinds import scenery_probabilities
from yokai_assets_tests.small_series import WordModel


def test_scenery_is_told_from_figures() -> None:
    """Protects: a group of trees is known as such, and a character is not."""
    model = WordModel()
    pictures = ["a monster"] * 4 + ["a person", "an animal", "a tree", "a title card"]
    found = scenery_probabilities(np.stack([model.embed_image(text) for text in pictures]), model)
    assert found is not None and found.shape == (8,) and found.dtype == np.float32
    assert (found[:6] < 0.5).all() and (found[6:] > 0.5).all()


def test_a_model_that_calls_most_pictures_scenery_is_not_believed() -> None:
    """Protects: characters from a model whose text side is untrained, for which all pictures are the same."""
    model = WordModel()
    assert scenery_probabilities(np.stack([model.embed_image("a landscape")] * 5), model) is None
    assert scenery_probabilities(np.zeros((0, model.dimension), np.float32), model) is None
