"""Table specs: conforming frames pass, others are refused with table and column named."""

import numpy as np
import polars as pl
import pytest

from yokai_assets.tables import ALL_TABLES, EMBEDDINGS, EVENTS, TableError

VECTORS = pl.DataFrame(
    {
        "instance_id": ["e/000001/0", "e/000002/0"],
        "episode": ["e", "e"],
        "cutout_sha256": ["a", "b"],
        "model_fingerprint": ["m", "m"],
        "vector": np.eye(2, 8, dtype=np.float32),
    }
)


def test_vectors_keep_their_width():
    """A vector column is `Array(Float32, D)`: its width must survive, or DuckDB cannot type it."""
    assert EMBEDDINGS.conform(VECTORS).schema["vector"] == pl.Array(pl.Float32, 8)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (VECTORS.drop("episode"), "missing columns ['episode']"),
        (VECTORS.with_columns(pl.lit(1).alias("extra")), "unexpected columns ['extra']"),
        (pl.concat([VECTORS, VECTORS]), "repeat the key"),
        (VECTORS.with_columns(pl.lit(None, pl.String).alias("episode")), "null values in ['episode']"),
    ],
)
def test_other_frames_are_refused(frame, said):
    """What does not conform must never reach the disk."""
    with pytest.raises(TableError, match="embeddings") as caught:
        EMBEDDINGS.conform(frame)
    assert said in str(caught.value)


def test_empty_tables_conform():
    """An episode without characters is an empty table, not an error."""
    for spec in ALL_TABLES:
        assert spec.conform(spec.empty()).height == 0


def test_nullable_columns_may_be_null():
    """Events without a partner (born, retired) carry no other id."""
    assert {c.name for c in EVENTS.columns if c.is_nullable} == {"other_id"}
