"""The published vectors as arrays: in order, of one model, of pixels that are still there, held once."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from upath import UPath

from yokai_assets.storage.database import publish
from yokai_assets.storage.parquet import write_table
from yokai_assets.storage.vectors import embeddings_version, read_vectors
from yokai_assets.tables import EMBEDDINGS, INSTANCES
from yokai_assets_tests.storage.rows import embeddings_of, instance_row, write_episode


@pytest.fixture
def root(tmp_path: Path) -> UPath:
    return UPath(tmp_path)


def published(root: UPath, tables: dict[str, dict[str, UPath]]) -> UPath:
    publish(root / "yokai.duckdb", tables)
    return root / "yokai.duckdb"


def episodes(root: UPath, models: dict[str, str]) -> dict[str, dict[str, UPath]]:
    tables: dict[str, dict[str, UPath]] = {"instances": {}, "embeddings": {}}
    for episode, model in models.items():
        for table, file in write_episode(root, episode, model=model).items():
            tables[table][episode] = file
    return tables


def test_each_vector_stands_in_its_row(root: UPath) -> None:
    """Episodes are read one by one: a vector in another's row would give a face to another character."""
    tables = episodes(root, {"e10": "m1", "e1": "m1", "e1-b": "m1"})
    index = read_vectors(published(root, tables))
    assert index.rows["instance_id"].is_sorted() and index.rows.height == 24
    expected = pl.concat(pl.read_parquet(str(file)) for file in tables["embeddings"].values())
    wanted = index.rows.select("instance_id").join(expected, on="instance_id", maintain_order="left")
    np.testing.assert_array_equal(index.vectors, wanted["vector"].to_numpy())
    assert index.vectors.dtype == np.float32
    assert EMBEDDINGS.conform(index.as_embeddings()).height == 24


def test_the_matrix_is_held_once(root: UPath) -> None:
    """A series' vectors are a gigabyte: asking for them twice must not make two."""
    index = read_vectors(published(root, episodes(root, {"e1": "m1"})))
    assert np.shares_memory(index.vectors, index.vectors)
    assert np.shares_memory(index.vectors, index.as_embeddings()["vector"].to_numpy())


def test_a_half_changed_model_is_never_mixed(root: UPath) -> None:
    """While episodes are embedded anew, those of the other model are left out, then all are of the new one."""
    tables = episodes(root, {"e1": "old", "e2": "old", "e3": "new"})
    report = publish(root / "yokai.duckdb", tables)
    assert [problem.partition for problem in report.problems] == ["e3"]
    assert set(read_vectors(root / "yokai.duckdb").rows["model_fingerprint"]) == {"old"}
    for episode in ("e1", "e2"):
        tables["embeddings"][episode] = write_episode(root, episode, model="new")["embeddings"]
    rows = read_vectors(published(root, tables)).rows
    assert set(rows["model_fingerprint"]) == {"new"} and set(rows["episode"]) == {"e1", "e2", "e3"}


def test_vectors_of_pixels_that_are_gone_are_left_out(root: UPath) -> None:
    """An episode cut out again but not embedded again: its old vectors show something else under the same ids."""
    tables = episodes(root, {"e1": "m1", "e2": "m1"})
    database = published(root, tables)
    before = embeddings_version(database)
    again = INSTANCES.from_rows([instance_row("e2", frame) | {"cutout_sha256": "other"} for frame in range(4)])
    write_table(INSTANCES, again, tables["instances"]["e2"])
    published(root, tables)
    assert set(read_vectors(database).rows["episode"]) == {"e1"}
    assert embeddings_version(database) != before, "the clustering would not hear of it"
    write_table(EMBEDDINGS, embeddings_of(again), tables["embeddings"]["e2"])
    published(root, tables)
    assert set(read_vectors(database).rows["episode"]) == {"e1", "e2"}


def test_nothing_embedded_is_an_empty_index(root: UPath) -> None:
    """A series without a single character must reach the clustering's own message, not crash before it."""
    instances, embeddings = root / "i.parquet", root / "e.parquet"
    write_table(INSTANCES, INSTANCES.empty(), instances)
    write_table(EMBEDDINGS, EMBEDDINGS.empty(), embeddings)
    index = read_vectors(published(root, {"instances": {"e1": instances}, "embeddings": {"e1": embeddings}}))
    assert index.vectors.shape == (0, 0) and index.as_embeddings().is_empty()
