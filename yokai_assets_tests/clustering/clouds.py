"""Small clouds of unit vectors with known groups, for tests of what is done to groups."""

import numpy as np

from yokai_assets.clustering.neighbors import Neighbors, cosine_neighbors

DIMENSION = 32


def cloud(axis: int, count: int, spread: float = 0.15, seed: int = 0) -> np.ndarray:
    """Return unit vectors around an axis, float32 [count, 32]."""
    points = np.eye(DIMENSION)[axis] + np.random.default_rng(100 * axis + seed).normal(size=(count, DIMENSION)) * spread
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def between(first: int, second: int, share: float) -> np.ndarray:
    point = (1 - share) * np.eye(DIMENSION)[first] + share * np.eye(DIMENSION)[second]
    return (point / np.linalg.norm(point)).astype(np.float32)[None]


def near(vectors: np.ndarray) -> Neighbors:
    return cosine_neighbors(vectors, 15, seed=0)


def labels_of(*sizes: int) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)


def frames(count: int) -> np.ndarray:
    return np.arange(count)
