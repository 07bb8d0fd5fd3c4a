"""Nearest neighbours by cosine: the graph that grouping and refinement share.

Searching only; what neighbours mean is decided by `methods` and `refinement`.
"""

import math
from dataclasses import dataclass

import numpy as np

EXACT_LIMIT = 20_000
"""Instances up to which every pair is compared: exact, and at this size no slower than an index."""

_BLOCK_BYTES = 256 * 1024 * 1024
_BLOCK_ROWS = 65_536
_PROBED_LISTS = 16


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The k nearest other instances of each instance, nearest first.

    Attributes:
        indices: int32 [N, k].
        cosines: float32 [N, k], descending along a row.
    """

    indices: np.ndarray
    cosines: np.ndarray

    @property
    def count(self) -> int:
        """Neighbours per instance (k)."""
        return self.indices.shape[1]

    def nearest(self, count: int) -> "Neighbors":
        """Return the `count` nearest of these neighbours (all of them where there are fewer)."""
        return Neighbors(self.indices[:, :count], self.cosines[:, :count])


def cosine_neighbors(vectors: np.ndarray, count: int, seed: int) -> Neighbors:
    """Find nearest neighbours: exact up to `EXACT_LIMIT` instances, by inverted lists (faiss) beyond.

    Args:
        vectors: Unit vectors float32 [N, D].
        count: Neighbours wanted; at most N - 1 are returned.
        seed: Seed of the lists; unused where the search is exact.
    """
    count = max(0, min(count, len(vectors) - 1))
    if count == 0:
        empty = np.empty((len(vectors), 0))
        return Neighbors(empty.astype(np.int32), empty.astype(np.float32))
    if len(vectors) <= EXACT_LIMIT:
        return _exact(vectors, count)
    return _inverted_lists(vectors, count, seed)


def _exact(vectors: np.ndarray, count: int) -> Neighbors:
    total = len(vectors)
    indices = np.empty((total, count), dtype=np.int32)
    cosines = np.empty((total, count), dtype=np.float32)
    block = max(1, _BLOCK_BYTES // (4 * total))
    for start in range(0, total, block):
        rows = np.arange(start, min(start + block, total))
        similarity = vectors[rows] @ vectors.T
        similarity[np.arange(len(rows)), rows] = -np.inf
        nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        nearest.sort(axis=1)  # equal cosines then keep the order of the rows: reproducible
        values = np.take_along_axis(similarity, nearest, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        indices[rows] = np.take_along_axis(nearest, order, axis=1)
        cosines[rows] = np.take_along_axis(values, order, axis=1)
    return Neighbors(indices, cosines)


def _inverted_lists(vectors: np.ndarray, count: int, seed: int) -> Neighbors:
    import faiss

    total, width = vectors.shape
    lists = max(1, int(4 * math.sqrt(total)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.nprobe = seed, min(lists, _PROBED_LISTS)
    some = np.random.default_rng(seed).choice(total, min(total, 40 * lists), replace=False)
    index.train(vectors[np.sort(some)])
    index.add(vectors)
    indices = np.empty((total, count), dtype=np.int32)
    cosines = np.empty((total, count), dtype=np.float32)
    for start in range(0, total, _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, total))
        similarity, found = index.search(vectors[rows], count + 1)
        # A row normally begins with itself; among exact duplicates it may stand elsewhere or be missing.
        is_self = found == rows[:, None]
        is_self[~is_self.any(axis=1), -1] = True
        indices[rows] = found[~is_self].reshape(len(rows), count)
        cosines[rows] = similarity[~is_self].reshape(len(rows), count)
    is_missing = indices < 0  # fewer than asked for in the lists that were searched
    indices[is_missing], cosines[is_missing] = np.broadcast_to(indices[:, :1], indices.shape)[is_missing], -1.0
    return Neighbors(indices, cosines)
