"""The published vectors as arrays, for methods that work on the whole series.

Reading only. Publishing is `database`; searching by SQL is `sql/queries/similar_instances.sql`.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
from upath import UPath

from yokai_assets.storage.database import open_read_only
from yokai_assets.storage.sql import load_sql
from yokai_assets.tables import EMBEDDINGS


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """Every embedded instance of the series, sorted by instance_id; all vectors are of one model.

    Attributes:
        rows: `instance_id`, `frame_id`, `shot` (unique in the series), `episode`, `cutout_sha256`,
            `model_fingerprint`, `vector`.
    """

    rows: pl.DataFrame

    @property
    def vectors(self) -> np.ndarray:
        """Unit vectors, float32 [N, D]; [0, 0] where there are none."""
        if not self.rows.height:
            return np.zeros((0, 0), np.float32)
        return np.ascontiguousarray(self.rows["vector"].to_numpy(), dtype=np.float32)

    @property
    def model_fingerprint(self) -> str:
        """Model of the vectors; empty where there are none."""
        return self.rows["model_fingerprint"][0] if self.rows.height else ""

    @property
    def frame_ids(self) -> list[str]:
        """Frame of each row."""
        return self.rows["frame_id"].to_list()

    def as_embeddings(self) -> pl.DataFrame:
        """Return the rows as the table `EMBEDDINGS`."""
        return (
            EMBEDDINGS.conform(self.rows.select(EMBEDDINGS.schema.names())) if self.rows.height else EMBEDDINGS.empty()
        )

    def align(self, table: pl.DataFrame, column: str, missing: int) -> np.ndarray:
        """Return an integer column of another table in the order of the rows; instances it lacks get `missing`."""
        joined = self.rows.select("instance_id").join(table, on="instance_id", how="left", maintain_order="left")
        return joined[column].fill_null(missing).to_numpy()


def read_vectors(database: UPath | Path) -> VectorIndex:
    """Read all published vectors whose cut-outs are still the instances' own.

    The matrix is held once, whatever the number of vectors: episodes are read one by one into their places.

    Raises:
        DatabaseError: Nothing is published, or the file is damaged.
    """
    with open_read_only(database) as connection:
        rows = connection.sql(load_sql("queries/vector_rows")).pl()
        if rows.is_empty():
            return VectorIndex(rows.with_columns(pl.Series("vector", [], dtype=EMBEDDINGS.schema["vector"])))
        matrix = _matrix(connection, rows)
    return VectorIndex(rows.with_columns(_as_column(matrix)))


def _matrix(connection: duckdb.DuckDBPyConnection, rows: pl.DataFrame) -> np.ndarray:
    """Return the vectors of `rows`, float32 [N, D], in their order."""
    places = rows.select("instance_id", "episode").with_row_index("place")
    matrix: np.ndarray | None = None
    for (episode,), wanted in places.group_by("episode"):
        found = connection.sql(load_sql("queries/vectors"), params=[episode]).pl()
        placed = wanted.join(found, on="instance_id", how="inner")
        vectors = placed["vector"].to_numpy()
        if matrix is None:
            matrix = np.empty((rows.height, vectors.shape[1]), np.float32)
        matrix[placed["place"].to_numpy()] = vectors
    assert matrix is not None
    return matrix


def _as_column(matrix: np.ndarray) -> pl.Series:
    """Return a matrix as a column of arrays without copying it."""
    import pyarrow

    flat = pyarrow.array(matrix.reshape(-1))
    column = pl.from_arrow(pyarrow.FixedSizeListArray.from_arrays(flat, matrix.shape[1]))
    assert isinstance(column, pl.Series)
    return column.alias("vector")


def embeddings_version(database: UPath | Path) -> str:
    """Return the version of the published vectors: equal content, equal version."""
    with open_read_only(database) as connection:
        row_count, content = connection.sql(load_sql("queries/embeddings_version")).fetchall()[0]
    return f"{row_count}-{content:016x}"
