"""The map of characters: each on a cell of a grid, similar-looking ones near each other.

t-SNE of the centroids (van der Maaten and Hinton 2008), then one assignment to grid cells (Jonker-Volgenant), so
that no picture hides another. Distances on the map mean order, not amounts.
"""

import numpy as np
import polars as pl

_MIN_PROJECTED = 4
_MAX_CHARACTERS = 600
_SPARE_CELLS = 1.5
_ASPECT = 1.8


def place_characters(characters: pl.DataFrame, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return column and row of each character's grid cell, whole numbers from 0.

    Args:
        characters: Rows of `CHARACTERS`; the largest 600 are placed.
        seed: Seed of the projection.

    Returns:
        Positions by character, those of another model than the largest one's left out; empty for fewer than two. Up to
        three stand in a row.
    """
    rows = characters.sort("member_count", "character_id", descending=[True, False]).head(_MAX_CHARACTERS)
    newest = rows["model_fingerprint"][0] if rows.height else ""
    rows = rows.filter(pl.col("model_fingerprint") == newest)
    if rows.height < 2:
        return {}
    if rows.height < _MIN_PROJECTED:
        return {name: (float(index), 0.0) for index, name in enumerate(rows["character_id"])}
    vectors = np.stack([np.asarray(vector, np.float32) for vector in rows["centroid"]])
    cells = _to_grid(_project(vectors, seed))
    return {name: (float(x), float(y)) for name, (x, y) in zip(rows["character_id"], cells, strict=True)}


def _project(vectors: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = max(1.0, min(15.0, (len(vectors) - 1) / 3))
    model = TSNE(2, perplexity=perplexity, metric="cosine", init="random", random_state=seed, n_jobs=1)
    # A few hundred points: on a busy machine more threads wait for each other longer than one computes.
    with threadpool_limits(1):
        return np.asarray(model.fit_transform(vectors), np.float64)


def _to_grid(points: np.ndarray) -> np.ndarray:
    """Return for points f64 [N, 2] distinct grid cells i64 [N, 2], as near to them as one assignment allows."""
    from scipy.optimize import linear_sum_assignment

    cell_count = len(points) * _SPARE_CELLS
    columns = max(2, int(np.ceil(np.sqrt(cell_count * _ASPECT))))
    rows = max(2, int(np.ceil(cell_count / columns)))
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.maximum(high - low, 1e-9) * [columns - 1, rows - 1]
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    distances = ((scaled[:, None, :] - grid[None, :, :]) ** 2).sum(axis=-1)
    _, chosen = linear_sum_assignment(distances)
    return grid[chosen]
