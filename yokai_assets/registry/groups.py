"""Groups of a clustering with their centroids, and the vectors that both are made of.

Arithmetic on members and vectors only; which group is whom is `matching`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

MAX_EXEMPLARS = 12


class RegistryError(ValueError):
    """Clusters that no registry can be made of, or a version that cannot be read; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Group:
    """Instances taken as one.

    Attributes:
        members: Rows of `Vectors.placed`, sorted by instance.
        centroid: Unit mean of their vectors, float32 [D].
    """

    members: pl.DataFrame
    centroid: np.ndarray


class Vectors:
    """Unit vectors of a series by instance.

    Vectors stay where they are and are taken group by group: joined and sorted, a series' gigabyte would be there
    three times.
    """

    def __init__(self, embeddings: pl.DataFrame) -> None:
        self._places = embeddings.select("instance_id", "model_fingerprint").with_row_index("place")
        self._column = embeddings["vector"]

    def placed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with `place`, which `at` takes, and `model_fingerprint`; null where there is no vector."""
        return rows.join(self._places, on="instance_id", how="left", maintain_order="left")

    def at(self, places: pl.Series) -> np.ndarray:
        """Return the vectors float32 [N, D] at some places."""
        column = self._column.gather(places)
        if column.is_empty():
            return np.zeros((0, 0), np.float32)
        arrays = column if isinstance(column.dtype, pl.Array) else column.list.to_array(len(column[0]))
        return arrays.to_numpy().astype(np.float32, copy=False)


def require_vectors(rows: pl.DataFrame) -> str:
    """Return the model that the vectors of placed rows are of; empty where there are no rows.

    Raises:
        RegistryError: A row has no vector, or they are of several models.
    """
    missing = rows.filter(pl.col("place").is_null())
    if missing.height:
        raise RegistryError(
            f"{missing.height} clustered instances have no vector (first: {missing['instance_id'][0]}). "
            "Materialize `embedding_index` and `clusters` again."
        )
    models = rows["model_fingerprint"].unique().to_list()
    if len(models) > 1:
        raise RegistryError(
            "The clustered vectors are of several embedding models. Materialize `embeddings` of every episode, then "
            "`embedding_index` and `clusters`."
        )
    return models[0] if models else ""


def grouped_by(rows: pl.DataFrame, column: str, vectors: Vectors) -> dict[Any, Group]:
    """Return value of `column` -> its group, sorted by value."""
    parts = rows.sort(column, "instance_id").partition_by(column, maintain_order=True, as_dict=True)
    return {value: Group(part, centroid_of(vectors.at(part["place"]))) for (value,), part in parts.items()}


def centroid_of(matrix: np.ndarray) -> np.ndarray:
    """Return the unit mean float32 [D] of vectors [N, D]."""
    mean = matrix.mean(axis=0, dtype=np.float64)
    return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)


def exemplars_of(members: pl.DataFrame) -> list[str]:
    """Return up to 12 instance_ids that show the character best, most typical first, from many episodes.

    The most typical of each episode come before any episode's second.

    Args:
        members: Rows with `instance_id`, `episode`, `centroid_cosine`.
    """
    order = members.sort(["centroid_cosine", "instance_id"], descending=[True, False])
    ranked = order.with_columns(pl.int_range(pl.len()).over("episode").alias("rank"))
    chosen = ranked.sort("rank", maintain_order=True).head(MAX_EXEMPLARS)
    return chosen.sort(["centroid_cosine", "instance_id"], descending=[True, False])["instance_id"].to_list()
