import numpy as np
import polars as pl
import pytest
from PIL import Image

from yokai_assets.embedding.instances import embed_instances, neutral_ground, vector_matrix
from yokai_assets.settings.model import EmbeddingSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.tables import EMBEDDINGS
from yokai_assets_tests.embedding.conftest import write_instances

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250), (250, 0, 250), (10, 10, 10)]


class MeanColourModel:
    """A fake model: the vector is the mean colour and its distance from grey; it counts what it is given."""

    dimension = 4

    def __init__(self, fingerprint: str = "mean-colour") -> None:
        self.fingerprint = fingerprint
        self.batch_sizes: list[int] = []

    def embed_images(self, images: list[Image.Image], /) -> np.ndarray:
        self.batch_sizes.append(len(images))
        means = np.array([np.asarray(image, np.float32).mean(axis=(0, 1)) for image in images], np.float32)
        vectors = np.hstack([means, np.full((len(images), 1), 50.0, np.float32)])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def settings() -> EmbeddingSettings:
    return EmbeddingSettings(batch_size=3)


def test_neutral_ground_is_a_grey_square_with_the_cutout_in_the_middle() -> None:
    """Neither the frame's background nor the box's shape may be seen by the model."""
    cutout = Image.new("RGBA", (10, 4), (255, 0, 0, 0))
    cutout.paste((0, 0, 255, 255), (5, 0, 10, 4))
    ground = neutral_ground(cutout, 77)
    assert (ground.mode, ground.size) == ("RGB", (10, 10))
    pixels = np.asarray(ground)
    assert (pixels[3:7, 5:] == (0, 0, 255)).all()
    assert (pixels[3:7, :5] == 77).all() and (pixels[:3] == 77).all() and (pixels[7:] == 77).all()


def test_context_shows_faintly_behind_the_cutout_and_nowhere_else() -> None:
    """What surrounds a character may be asked for; the character itself and the ground outside its box stay."""
    cutout = Image.new("RGBA", (10, 4), (200, 0, 0, 0))
    cutout.paste((0, 0, 255, 255), (5, 0, 10, 4))
    pixels = np.asarray(neutral_ground(cutout, 100, 0.25)).astype(int)
    assert (pixels[3:7, 5:] == (0, 0, 255)).all() and (pixels[:3] == 100).all() and (pixels[7:] == 100).all()
    assert abs(pixels[3:7, :5] - (125, 75, 75)).max() <= 1


def test_every_instance_gets_the_vector_of_its_own_cutout(layout: Layout, settings: EmbeddingSettings) -> None:
    """Threads and batches keep rows and pictures together."""
    instances = write_instances(layout, COLOURS)
    model, told = MeanColourModel(), []
    result = embed_instances(
        instances, layout, model, settings, progress=lambda done, total, note="": told.append((done, total))
    )
    assert result.table["instance_id"].to_list() == instances["instance_id"].to_list()
    assert (result.problems, result.reused_count, model.batch_sizes) == ((), 0, [3, 3, 1])
    assert told == [(3, 7), (6, 7), (7, 7)]
    matrix = vector_matrix(result.table)
    assert matrix.shape == (7, 4) and result.table.schema["vector"] == pl.Array(pl.Float32, 4)
    assert matrix[:3, :3].argmax(axis=1).tolist() == [0, 1, 2]


def test_known_pixels_are_not_embedded_again(layout: Layout, settings: EmbeddingSettings) -> None:
    """A second run, and equal pictures within a run, cost nothing; a new model costs everything."""
    first = embed_instances(write_instances(layout, COLOURS[:3]), layout, MeanColourModel(), settings)
    instances = write_instances(layout, [*COLOURS[:5], COLOURS[3], COLOURS[3]])
    model = MeanColourModel()
    second = embed_instances(instances, layout, model, settings, previous=first.table)
    assert (sum(model.batch_sizes), second.reused_count, second.table.height) == (2, 3, 7)
    assert second.table[:3]["vector"].to_list() == first.table["vector"].to_list()
    assert second.table[3, "vector"].to_list() == second.table[5, "vector"].to_list()
    other = MeanColourModel("another")
    third = embed_instances(instances, layout, other, settings, previous=second.table)
    assert (sum(other.batch_sizes), third.reused_count) == (5, 0)
    assert third.table["model_fingerprint"].unique().to_list() == ["another"]


def test_reuse_does_not_read_the_files(layout: Layout, settings: EmbeddingSettings) -> None:
    """With all vectors known, cut-outs may even be gone."""
    instances = write_instances(layout, COLOURS[:3])
    first = embed_instances(instances, layout, MeanColourModel(), settings)
    for file in layout.character_layers("e01").iterdir():
        file.unlink()
    again = embed_instances(instances, layout, MeanColourModel(), settings, previous=first.table)
    assert again.table.equals(first.table) and again.reused_count == 3 and again.problems == ()


def test_an_unreadable_cutout_is_told_and_the_rest_goes_on(layout: Layout, settings: EmbeddingSettings) -> None:
    """One damaged file costs one row."""
    instances = write_instances(layout, COLOURS)
    layout.absolute(instances[2, "cutout"]).write_bytes(b"RIFF damaged")
    layout.absolute(instances[4, "cutout"]).unlink()
    result = embed_instances(instances, layout, MeanColourModel(), settings)
    assert [p.instance_id for p in result.problems] == [instances[2, "instance_id"], instances[4, "instance_id"]]
    assert all(p.reason and "character_layers" in p.remedy for p in result.problems)
    assert result.table["instance_id"].to_list() == [
        i for n, i in enumerate(instances["instance_id"]) if n not in (2, 4)
    ]


def test_an_episode_without_instances_yields_an_empty_table(layout: Layout, settings: EmbeddingSettings) -> None:
    """No characters is a result, with the model's width."""
    result = embed_instances(
        write_instances(layout, COLOURS[:1]).clear(), layout, MeanColourModel(), settings, previous=EMBEDDINGS.empty()
    )
    assert result.table.height == 0 and vector_matrix(result.table).shape == (0, 4)


def test_vector_matrix_takes_lists_and_refuses_mixed_widths() -> None:
    """Tables of either vector type read alike; vectors of two models are never mixed."""
    lists = pl.DataFrame({"vector": [[1.0, 0.0], [0.0, 1.0]]}, schema={"vector": pl.List(pl.Float32)})
    np.testing.assert_array_equal(vector_matrix(lists), np.eye(2, dtype=np.float32))
    assert vector_matrix(EMBEDDINGS.empty()).shape == (0, 0)
    with pytest.raises(ValueError, match="several models"):
        vector_matrix(pl.DataFrame({"vector": [[1.0], [0.0, 1.0]]}, schema={"vector": pl.List(pl.Float32)}))
