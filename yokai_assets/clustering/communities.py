"""Groups as communities of the graph of mutual neighbours: for series too large to be projected.

The method for hundreds of thousands of instances; what all methods share is in `methods` and `refinement`.
"""

import numpy as np

from yokai_assets.clustering.grouping import NOISE, Grouping, consecutive
from yokai_assets.clustering.linkage import mean_inside
from yokai_assets.clustering.neighbors import Neighbors
from yokai_assets.settings.model import ClusteringSettings

MIN_COHESION, MIN_COHESION_SHARE = 0.1, 0.48
"""Mean cosine of two members below which a group is what belongs nowhere: absolutely, and as a share of the median.

In a centred space two instances that have nothing in common have a mean cosine of 0. On synthetic series shaped like
CLIP vectors, communities of strangers had .02, those of strangers of one look .15 to .26, the loosest of a hundred
characters .22 to .25 and half of them more than .47.
"""

INSTANCES_PER_RESOLUTION = 50_000
"""Instances for each unit of resolution: modularity overlooks groups that are small beside the whole graph (Fortunato
and Barthélemy 2007), so the larger the series, the finer it is cut; `merge_fragments` joins what was cut too fine."""

_NEIGHBORS = 15


def communities(vectors: np.ndarray, neighbors: Neighbors, settings: ClusteringSettings, seed: int) -> Grouping:
    """Find communities by the Leiden method (Traag, Waltman and van Eck 2019; networkit) among mutual neighbours.

    Two instances are tied if each is among the 15 nearest of the other, by their cosine. Communities below
    `min_cluster_size`, and those that hardly cohere, are noise. Seeded, on one thread: the same labels every time.
    """
    resolution = max(1.0, len(vectors) / INSTANCES_PER_RESOLUTION)
    parameters = {
        "min_cluster_size": settings.min_cluster_size,
        "min_rare_cluster_size": settings.min_rare_cluster_size,
        "neighbors": min(_NEIGHBORS, neighbors.count),
        "resolution": round(resolution, 3),
        "min_cohesion": MIN_COHESION,
        "min_cohesion_share": MIN_COHESION_SHARE,
        "seed": seed,
    }
    if neighbors.count == 0:
        none = np.full(len(vectors), NOISE, np.int32)
        return Grouping(none, np.zeros(len(vectors), np.float32), none, parameters)
    found = _leiden(neighbors.nearest(_NEIGHBORS), resolution, seed)
    sizes = np.bincount(found)
    centroids, cohesion = _centroids(vectors, found, sizes)
    is_large = sizes >= settings.min_cluster_size
    usual = float(np.median(cohesion[is_large & (cohesion >= MIN_COHESION)])) if is_large.any() else 0.0
    is_group = (sizes >= settings.min_rare_cluster_size) & (cohesion >= max(MIN_COHESION, MIN_COHESION_SHARE * usual))
    fine = np.where(is_group[found], found, NOISE).astype(np.int32)
    labels = np.where((sizes >= settings.min_cluster_size)[found], fine, NOISE).astype(np.int32)
    strength = np.einsum("nd,nd->n", vectors, centroids[found]).clip(0.0, 1.0)
    return Grouping(consecutive(labels), np.where(labels == NOISE, 0.0, strength).astype(np.float32), fine, parameters)


def _leiden(neighbors: Neighbors, resolution: float, seed: int) -> np.ndarray:
    """Return the community of each instance, int64 [N], numbered from 0."""
    import networkit

    source, target, weight = _mutual_edges(neighbors)
    threads = networkit.getMaxNumberOfThreads()
    networkit.setSeed(seed, False)
    networkit.setNumberOfThreads(1)
    try:
        edges = weight.astype(np.float64), (source.astype(np.uint64), target.astype(np.uint64))
        graph = networkit.GraphFromCoo(edges, n=len(neighbors.indices), weighted=True, directed=False)
        leiden = networkit.community.ParallelLeiden(graph, iterations=3, randomize=True, gamma=resolution)
        leiden.run()
        partition = np.asarray(leiden.getPartition().getVector(), dtype=np.int64)
    finally:
        networkit.setNumberOfThreads(threads)
    return np.unique(partition, return_inverse=True)[1].ravel()


def _mutual_edges(neighbors: Neighbors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from scipy.sparse import csr_array, triu

    total, count = neighbors.indices.shape
    source = np.repeat(np.arange(total, dtype=np.int32), count)
    weight = np.maximum(neighbors.cosines.ravel(), 1e-4)
    named = csr_array((weight, (source, neighbors.indices.ravel())), shape=(total, total))
    mutual = triu(named.minimum(named.T), k=1).tocoo()
    return mutual.row, mutual.col, mutual.data


def _centroids(vectors: np.ndarray, found: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return unit means float32 [K, D], and the mean cosine of two different members float64 [K]."""
    from scipy.sparse import csr_array

    total = len(vectors)
    belongs = csr_array((np.ones(total, np.float32), (found, np.arange(total))), shape=(len(sizes), total))
    sums = belongs @ vectors
    squares = (sums.astype(np.float64) ** 2).sum(axis=1)
    centroids = (sums / np.sqrt(np.maximum(squares, 1e-12))[:, None]).astype(np.float32)
    return centroids, mean_inside(squares, sizes)
