"""The published vectors as arrays, for methods that work on the whole series.

Reading only. Publishing is `database`; searching by SQL is `sql/queries/similar_instances.sql`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from upath import UPath

from yokai_assets.storage.database import open_read_only
from yokai_assets.storage.sql import load_sql
from yokai_assets.tables import EMBEDDINGS


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """Every embedded instance of the series, sorted by instance_id.

    Attributes:
        rows: `instance_id`, `frame_id`, `episode`, `cutout_sha256`, `model_fingerprint`, `vector`.
    """

    rows: pl.DataFrame

    @property
    def vectors(self) -> np.ndarray:
        """Unit vectors, float32 [N, D]; [0, 0] where there are none."""
        if not self.rows.height:
            return np.zeros((0, 0), np.float32)
        return np.ascontiguousarray(self.rows["vector"].to_numpy(), dtype=np.float32)

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
    """Read all published vectors.

    Raises:
        DatabaseError: Nothing is published, or the file is damaged.
    """
    with open_read_only(database) as connection:
        return VectorIndex(connection.sql(load_sql("queries/vectors")).pl())


def embeddings_version(database: UPath | Path) -> str:
    """Return the version of the published vectors: equal content, equal version."""
    with open_read_only(database) as connection:
        row_count, content = connection.sql(load_sql("queries/embeddings_version")).fetchall()[0]
    return f"{row_count}-{content:016x}"
