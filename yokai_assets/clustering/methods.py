"""Ways of finding groups, behind one interface, by name.

A method turns vectors and their neighbours into raw groups. What holds for any method (refining, one instance a
frame, numbering) is `refinement`. To add a method: write a `GroupingMethod`, enter it in `METHODS`, and add its name
to `ClusteringSettings.method`.
"""

import warnings
from collections.abc import Mapping

import numpy as np

from yokai_assets.clustering.communities import communities
from yokai_assets.clustering.grouping import NOISE, Grouping, GroupingMethod
from yokai_assets.clustering.neighbors import Neighbors
from yokai_assets.settings.model import ClusteringSettings

_MUTUALITY = 0.25
"""UMAP's set_op_mix_ratio: 1 joins all who name each other neighbour, 0 only those who do so mutually.

Nearer to mutual than UMAP's default: strangers name characters as neighbours, but are not named back."""

_MIN_INSTANCES_FOR_UMAP = 32


def umap_hdbscan(vectors: np.ndarray, neighbors: Neighbors, settings: ClusteringSettings, seed: int) -> Grouping:
    """Reduce with UMAP (McInnes et al. 2018), then take density clusters (HDBSCAN, Campello et al. 2013).

    UMAP runs on the given neighbours, seeded and therefore on one thread. HDBSCAN on the vectors themselves finds
    next to nothing: mutual reachability in hundreds of dimensions separates no characters. Fewer than 32 instances
    cannot be reduced and are clustered as they are.
    """
    parameters = {
        "min_cluster_size": settings.min_cluster_size,
        "min_rare_cluster_size": settings.min_rare_cluster_size,
        "min_samples": settings.min_samples,
        "umap_dimensions": settings.umap_dimensions,
        "umap_neighbors": min(settings.umap_neighbors, neighbors.count),
        "seed": seed,
    }
    points = reduce_dimensions(vectors, neighbors, settings, seed)
    labels, probabilities = _hdbscan(points, settings.min_cluster_size, settings.min_samples)
    small_samples = min(settings.min_samples, max(1, settings.min_rare_cluster_size - 1))
    fine, _ = _hdbscan(points, settings.min_rare_cluster_size, small_samples)
    return Grouping(labels, probabilities, fine, parameters)


METHODS: Mapping[str, GroupingMethod] = {"umap_hdbscan": umap_hdbscan, "communities": communities}

AUTO_LIMIT = 4_000
"""Instances up to which `auto` takes UMAP and HDBSCAN, which miss fewer characters of few instances.

Beyond, communities find as many or more and reject more strangers, in a third of the time
(`docs/performance.md`). Asking on a sample which method agrees better with itself was tried instead of a number: it
takes UMAP where communities are better (.87 against .78 at 10,000), for strangers who are always let in agree too."""


def chosen_method(settings: ClusteringSettings, total: int) -> str:
    """Return the name of the method for a series of so many instances."""
    if settings.method != "auto":
        return settings.method
    return "umap_hdbscan" if total <= AUTO_LIMIT else "communities"


def reduce_dimensions(vectors: np.ndarray, neighbors: Neighbors, settings: ClusteringSettings, seed: int) -> np.ndarray:
    """Return UMAP coordinates float64 [N, umap_dimensions], or the vectors where there are too few to reduce."""
    total = len(vectors)
    wanted = min(settings.umap_neighbors, neighbors.count)
    if total < max(_MIN_INSTANCES_FOR_UMAP, 2 * settings.umap_dimensions + 4) or wanted < 3:
        return vectors.astype(np.float64)
    import umap

    near = neighbors.nearest(wanted - 1)
    itself = np.arange(total, dtype=np.int32)[:, None]
    indices = np.hstack([itself, near.indices])
    distances = np.hstack([np.zeros((total, 1), np.float32), np.maximum(1.0 - near.cosines, 0.0)])
    reducer = umap.UMAP(
        n_neighbors=wanted,
        n_components=settings.umap_dimensions,
        min_dist=0.0,
        metric="cosine",
        random_state=seed,
        n_jobs=1,
        set_op_mix_ratio=_MUTUALITY,
        precomputed_knn=(indices, distances),
    )
    with warnings.catch_warnings():
        # Spectral initialisation falls back by itself, and a knn without a search index cannot transform: we do not.
        warnings.simplefilter("ignore")
        points = reducer.fit_transform(vectors)
    return np.asarray(points, dtype=np.float64)


def _hdbscan(points: np.ndarray, min_cluster_size: int, min_samples: int) -> tuple[np.ndarray, np.ndarray]:
    total = len(points)
    if total <= max(min_cluster_size, min_samples):
        return np.full(total, NOISE, dtype=np.int32), np.zeros(total, dtype=np.float32)
    import hdbscan

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        model = hdbscan.HDBSCAN(
            min_cluster_size=min_cluster_size, min_samples=min_samples, core_dist_n_jobs=1, approx_min_span_tree=False
        ).fit(points)
    return model.labels_.astype(np.int32), np.nan_to_num(model.probabilities_).astype(np.float32)
