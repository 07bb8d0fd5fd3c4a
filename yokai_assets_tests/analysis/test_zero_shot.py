"""Reading attributes with words: right where the image says it, silent where it does not."""

import numpy as np
import pytest

from yokai_assets.analysis.vocabulary import load_vocabulary
from yokai_assets.analysis.zero_shot import class_vectors, tell, value_probabilities
from yokai_assets_tests.small_series import WordModel, unit

CREATURES = load_vocabulary("creatures")


def test_class_vectors_are_unit_and_embedded_once() -> None:
    """Protects: comparable logits, and the cost of one text pass per process however many characters there are."""
    model = WordModel()
    model.fingerprint = "once"
    vectors = class_vectors(model, CREATURES)
    embedded = model.texts_embedded
    assert embedded == sum(len(a.prompts(v)) for a in CREATURES.attributes for v in a.values)
    for name, matrix in vectors.items():
        assert matrix.shape == (len(CREATURES.attribute(name).values), model.dimension)
        assert np.linalg.norm(matrix, axis=1) == pytest.approx(1, abs=1e-5)
    class_vectors(model, CREATURES)
    assert model.texts_embedded == embedded


def test_reads_what_the_image_shows() -> None:
    """Protects: the right value wins in each attribute, for different images in one batch."""
    model = WordModel()
    images = np.stack(
        [
            model.embed_image("a red round creature with horns, three eyes, waving arm"),
            model.embed_image("a green tall creature with antennae, one eye, arms down"),
        ]
    )
    found = value_probabilities(images, model, CREATURES)
    for name, expected in {
        "body_colour": ["red", "green"],
        "top": ["horns", "antennae"],
        "eyes": ["three", "one"],
    }.items():
        attribute = CREATURES.attribute(name)
        assert [attribute.values[i].name for i in found[name].argmax(axis=1)] == expected
        assert found[name].sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_cannot_tell_when_the_image_says_nothing() -> None:
    """Protects: no invented trait; a vector unrelated to every word reaches no high probability."""
    model = WordModel()
    nothing = unit(np.random.default_rng(5).normal(size=model.dimension))
    attribute = CREATURES.attribute("body_colour")
    probabilities = value_probabilities(nothing[None], model, CREATURES)["body_colour"][0]
    reading = tell(attribute, probabilities, 0.9)
    assert reading.value is None
    assert reading.confidence == pytest.approx(probabilities.max())
    assert tell(attribute, probabilities, 0.0).value is not None


def test_temperature_is_the_models_own() -> None:
    """Protects: probabilities mean what the model was trained to mean by them."""
    cold, hot = WordModel(), WordModel()
    hot.logit_scale = 5.0
    image = cold.embed_image("a red round creature")[None]
    sure = value_probabilities(image, cold, CREATURES)["body_colour"].max()
    unsure = value_probabilities(image, hot, CREATURES)["body_colour"].max()
    assert sure > unsure
