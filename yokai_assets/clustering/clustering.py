"""The entry: vectors of a series in, one group per instance out.

The order of the steps and the constraint that one frame shows no character twice. The steps are `refinement`, the
exchangeable method is `methods`; settings thresholds for checks are judged by the caller.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from yokai_assets.clustering import refinement
from yokai_assets.clustering.grouping import NOISE, Grouping
from yokai_assets.clustering.linkage import merge_fragments
from yokai_assets.clustering.methods import METHODS, chosen_method
from yokai_assets.clustering.neighbors import Neighbors, cosine_neighbors
from yokai_assets.clustering.representatives import representatives_of
from yokai_assets.clustering.whitening import half_whiten
from yokai_assets.settings.model import ClusteringSettings

_MANY, _UNIT_TOLERANCE = 100_000, 1e-5
_COLLAPSE_ROUNDS = 4


class ClusteringError(ValueError):
    """Vectors that cannot be clustered; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Clustering:
    """Groups of one clustering.

    Attributes:
        labels: int32 [N]; 0 is the largest group, -1 noise. Labels mean nothing across clusterings.
        probabilities: float32 [N], strength of membership in 0..1; 0 for noise.
        is_rare_group: bool [N]; the instance's group was found among what the first pass left over.
        method: Name in `METHODS`.
        parameters: Everything that decided the outcome besides the vectors.
        stands_for: int64 [N]; the row that stood for each row while groups were found; itself if it did.
        seconds: Wall time.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    is_rare_group: np.ndarray
    method: str
    parameters: dict[str, Any]
    stands_for: np.ndarray
    seconds: float


def cluster_instances(
    vectors: np.ndarray,
    frame_ids: Sequence[str] | np.ndarray,
    settings: ClusteringSettings,
    seed: int,
    *,
    pools: np.ndarray | None = None,
) -> Clustering:
    """Find the groups of instances that show one character.

    Vectors are half-whitened for the method, and near-identical ones of a pool (a shot, a repeated picture) stand
    back for one of them until groups are found; then each goes where that one went. The method's groups lose their
    strangers and outliers, fragments of one character are joined (by the vectors as they came), noise whose neighbours
    agree is adopted, rare groups are confirmed among the rest and joined likewise, and each group keeps at most one
    instance of a frame. Equal arguments give equal labels (on one machine; floating point may differ between
    processors).

    Args:
        vectors: float [N, D]; made unit length here. N may be 0.
        frame_ids: The frame of every instance, N long.
        settings: Method and sizes.
        seed: Seed of everything random.
        pools: int [N], from `representatives.pools_of`: which instances may be near-identical. Unset: none are.

    Raises:
        ClusteringError: Vectors that are not finite, are zero, or do not match the frame ids.
    """
    started = time.perf_counter()
    vectors = _unit(vectors)
    if len(frame_ids) != len(vectors):
        raise ClusteringError(f"{len(vectors)} vectors but {len(frame_ids)} frame ids: pass the frame of every vector.")
    frame_codes = np.unique(np.asarray(frame_ids, dtype=str), return_inverse=True)[1].ravel()
    stands, whitened = _collapse(vectors, pools)
    chosen, place = np.unique(stands, return_inverse=True)
    if len(chosen) < len(vectors):
        found = _cluster(vectors[chosen], whitened, frame_codes[chosen], settings, seed)
        labels = _one_a_frame(vectors, found.labels[place], frame_codes)
        found = replace(
            found,
            labels=labels,
            probabilities=np.where(labels == NOISE, 0.0, found.probabilities[place]).astype(np.float32),
            is_rare_group=found.is_rare_group[place] & (labels != NOISE),
        )
    else:
        found = _cluster(vectors, whitened, frame_codes, settings, seed)
    return replace(found, stands_for=stands, seconds=time.perf_counter() - started)


def _collapse(vectors: np.ndarray, pools: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the row that stands for each row, and the half-whitened vectors of those that stand for some.

    More than one round: stills that were held long bend the space in which they are compared at first.
    """
    stands, whitened = np.arange(len(vectors)), half_whiten(vectors)
    if pools is None:
        return stands, whitened
    for _ in range(_COLLAPSE_ROUNDS):
        chosen = np.unique(stands)
        again = chosen[representatives_of(whitened, pools[chosen])]
        if np.array_equal(again, chosen):
            break
        stands = again[np.searchsorted(chosen, stands)]
        whitened = half_whiten(vectors[np.unique(stands)])
    return stands, whitened


def _cluster(
    vectors: np.ndarray, whitened: np.ndarray, frame_codes: np.ndarray, settings: ClusteringSettings, seed: int
) -> Clustering:
    neighbors = cosine_neighbors(whitened, max(settings.umap_neighbors, refinement.VOTERS), seed)
    method = chosen_method(settings, len(vectors))
    grouping = METHODS[method](whitened, neighbors, settings, seed)
    labels = refinement.drop_incoherent(vectors, whitened, grouping.labels, frame_codes)
    is_dropped = (labels == NOISE) & (grouping.labels != NOISE)
    labels = refinement.expel_strays(whitened, labels, neighbors)
    labels = refinement.expel_strangers(whitened, labels, neighbors)
    labels = refinement.expel_outliers(whitened, labels)
    labels = merge_fragments(vectors, labels, frame_codes)
    labels, votes = refinement.adopt_noise(whitened, labels, neighbors)
    candidates = np.where(labels == NOISE, grouping.fine_labels, NOISE)
    # Among strangers fine groups come about by chance; one that is large may be a frequent character in their midst.
    large = np.flatnonzero(np.bincount(candidates[candidates != NOISE]) >= settings.min_cluster_size)
    candidates = np.where(is_dropped & ~np.isin(candidates, large), NOISE, candidates)
    labels, is_rare = refinement.confirm_rare_groups(labels, candidates, neighbors, settings.min_rare_cluster_size)
    # A few views of a frequent character (cut by the frame's edge, say) may look like a rare one until held against it.
    labels = merge_fragments(vectors, labels, frame_codes)
    is_rare = is_rare & ~np.isin(labels, labels[~is_rare & (labels != NOISE)])
    labels = refinement.separate_frame_mates(whitened, labels, neighbors, frame_codes)
    labels = refinement.number_by_size(refinement.drop_small_groups(labels, settings.min_rare_cluster_size))
    return Clustering(
        labels=labels,
        probabilities=_probabilities(labels, grouping, neighbors, votes),
        is_rare_group=is_rare & (labels != NOISE),
        method=method,
        parameters=grouping.parameters,
        stands_for=np.arange(len(vectors)),
        seconds=0.0,
    )


def _one_a_frame(vectors: np.ndarray, labels: np.ndarray, frame_codes: np.ndarray) -> np.ndarray:
    """Make noise of instances that met another one of their frame when groups were expanded; number by size again."""
    cosines = refinement.own_cosines(vectors, labels, refinement.centroids_of(vectors, labels))
    kept = labels.copy()
    kept[refinement.surplus(labels, frame_codes, cosines)] = NOISE
    return refinement.number_by_size(kept)


def _probabilities(labels: np.ndarray, grouping: Grouping, neighbors: Neighbors, votes: np.ndarray) -> np.ndarray:
    """Take the method's own strength; the share of agreeing neighbours where it saw noise and a later step did not."""
    by_neighbors = np.maximum(votes, refinement.votes_for(labels, neighbors, labels))
    strength = np.where(grouping.labels == NOISE, by_neighbors, grouping.probabilities)
    return np.where(labels == NOISE, 0.0, np.clip(strength, 0.0, 1.0)).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2:
        raise ClusteringError(f"vectors must be a matrix [N, D], not of shape {vectors.shape}.")
    lengths = np.concatenate(
        [np.linalg.norm(vectors[at : at + _MANY], axis=1) for at in range(0, len(vectors) or 1, _MANY)]
    )
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0.0))
    if len(bad):
        raise ClusteringError(
            f"{len(bad)} of {len(vectors)} vectors are zero or not finite (first at row {bad[0]}). "
            "Materialize the embeddings of their episodes again."
        )
    if len(vectors) >= _MANY and np.abs(lengths - 1.0).max() < _UNIT_TOLERANCE:
        return vectors  # as embeddings are: a second copy of a million of them would be gigabytes
    return vectors / lengths[:, None]
