"""How good a clustering is, without knowing the truth.

Numbers and a table per group; which number fails a check is the caller's decision.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from yokai_assets.clustering.grouping import NOISE
from yokai_assets.clustering.refinement import centroids_of, own_cosines

SILHOUETTE_SAMPLE = 5_000


@dataclass(frozen=True, slots=True)
class ClusterQuality:
    """Judgement of one clustering.

    Attributes:
        instance_count: Instances clustered.
        noise_share: Share of instances in no group (0 where there are no instances).
        silhouette: Mean silhouette coefficient by cosine distance (Rousseeuw 1987) over at most 5,000 sampled
            members; None with fewer than two groups.
        cluster_count: Groups, rare ones included.
        rare_count: Groups found among what the first pass left over.
        smallest: Members of the smallest group; 0 without groups.
        largest: Members of the largest group; 0 without groups.
        clusters: One row per group: `cluster_label`, `size`, `is_rare_group`, `cohesion` (mean cosine of its members
            to its centroid), `nearest_label` and `nearest_cosine` (the most similar other centroid; null for one
            group alone).
    """

    instance_count: int
    noise_share: float
    silhouette: float | None
    cluster_count: int
    rare_count: int
    smallest: int
    largest: int
    clusters: pl.DataFrame


def assess_clustering(
    vectors: np.ndarray, labels: np.ndarray, seed: int, *, is_rare_group: np.ndarray | None = None
) -> ClusterQuality:
    """Judge labels int32 [N] of unit vectors float32 [N, D].

    Args:
        vectors: The vectors that were clustered.
        labels: Group of each, numbered from 0 without gaps; -1 is noise.
        seed: Seed of the silhouette's sample.
        is_rare_group: bool [N], as in `Clustering`; none are rare where it is not given.
    """
    is_rare = np.zeros(len(labels), dtype=bool) if is_rare_group is None else is_rare_group
    clusters = _cluster_table(vectors, labels, is_rare)
    sizes = clusters["size"].to_list()
    return ClusterQuality(
        instance_count=len(labels),
        noise_share=float((labels == NOISE).mean()) if len(labels) else 0.0,
        silhouette=_silhouette(vectors, labels, seed),
        cluster_count=len(sizes),
        rare_count=int(clusters["is_rare_group"].sum()),
        smallest=min(sizes, default=0),
        largest=max(sizes, default=0),
        clusters=clusters,
    )


def _cluster_table(vectors: np.ndarray, labels: np.ndarray, is_rare: np.ndarray) -> pl.DataFrame:
    centroids = centroids_of(vectors, labels)
    cosines = own_cosines(vectors, labels, centroids)
    between = centroids @ centroids.T
    np.fill_diagonal(between, -np.inf)
    rows = []
    for label in range(len(centroids)):
        members = labels == label
        nearest = int(between[label].argmax())
        rows.append(
            {
                "cluster_label": label,
                "size": int(members.sum()),
                "is_rare_group": bool(is_rare[members].any()),
                "cohesion": float(cosines[members].mean()),
                "nearest_label": nearest if len(centroids) > 1 else None,
                "nearest_cosine": float(between[label, nearest]) if len(centroids) > 1 else None,
            }
        )
    schema = {
        "cluster_label": pl.Int32,
        "size": pl.Int32,
        "is_rare_group": pl.Boolean,
        "cohesion": pl.Float32,
        "nearest_label": pl.Int32,
        "nearest_cosine": pl.Float32,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _silhouette(vectors: np.ndarray, labels: np.ndarray, seed: int) -> float | None:
    members = np.flatnonzero(labels != NOISE)
    if len(members) > SILHOUETTE_SAMPLE:
        members = np.sort(np.random.default_rng(seed).choice(members, SILHOUETTE_SAMPLE, replace=False))
    found = len(np.unique(labels[members]))
    if found < 2 or found >= len(members):
        return None
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(vectors[members], labels[members], metric="cosine"))
