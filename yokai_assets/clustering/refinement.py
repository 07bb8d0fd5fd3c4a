"""What is done to the groups of any method, in a full space (half-whitened, if not said otherwise), not a projection.

Each step takes labels int32 [N] (-1: noise) and returns new ones; `cluster_instances` runs them in order. The
thresholds were calibrated on synthetic CLIP-like series and on series drawn by `yokai_assets.demo`, with known truth;
they are shares, ranks and cosines relative to the series' own, so that they hold for models whose vectors lie in a
narrow cone.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from yokai_assets.clustering.grouping import NOISE, consecutive
from yokai_assets.clustering.linkage import cohesion_of, group_sums, stranger_cosine
from yokai_assets.clustering.neighbors import Neighbors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

VOTERS = 10
"""Nearest neighbours that vote on an instance."""

MUTUAL_NEIGHBORS = 10
ADOPTION_VOTE_SHARE = 0.7
ADOPTION_PERCENTILE = 5.0
OUTLIER_MODIFIED_Z = -3.5
STRAY_TIES, STRAY_COSINE_SHARE = MUTUAL_NEIGHBORS // 2, 0.3
RARE_PURITY = 0.5
MIN_COHESION, MIN_COHESION_SHARE, MIN_GROUPS_TO_COMPARE = 0.1, 0.4, 3

_BLOCK_ROWS = 65_536


def centroids_of(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the unit mean of every group, float32 [K, D]; K is the largest label plus one."""
    sums = group_sums(vectors, labels)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.where(lengths == 0.0, 1.0, lengths)).astype(np.float32)


def own_cosines(vectors: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return each instance's cosine to its own group's centroid, float32 [N]; NaN for noise."""
    cosines = np.full(len(labels), np.nan, dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        part = labels[start : start + _BLOCK_ROWS]
        members = start + np.flatnonzero(part != NOISE)
        cosines[members] = np.einsum("nd,nd->n", vectors[members], centroids[labels[members]])
    return cosines


def votes_for(labels: np.ndarray, neighbors: Neighbors, candidates: np.ndarray) -> np.ndarray:
    """Return the share of an instance's `VOTERS` nearest neighbours that carry the label in `candidates`."""
    near = neighbors.nearest(VOTERS).indices
    if near.shape[1] == 0:
        return np.zeros(len(labels), dtype=np.float32)
    return (labels[near] == candidates[:, None]).mean(axis=1, dtype=np.float32)


def drop_incoherent(
    vectors: np.ndarray, whitened: np.ndarray, labels: np.ndarray, frame_codes: np.ndarray
) -> np.ndarray:
    """Make noise of groups whose members have next to nothing in common: what density gathers of strangers.

    A group goes when two measures agree. In the half-whitened space, where two instances with nothing in common have a
    cosine of 0, the mean cosine of two members is below .1 or below .4 of the median group's; and by the vectors as
    they came, it exceeds that of strangers (`stranger_cosine`) by less than .4 of what the median group's does. One of
    them alone errs: whitening leaves a handful of characters little in common, and frame mates of one show look alike.
    Fewer than three groups have no median worth the name.
    """
    inside, usual = cohesion_of(whitened, labels), cohesion_of(vectors, labels)
    if len(inside) < MIN_GROUPS_TO_COMPARE:
        return labels
    above = usual - stranger_cosine(vectors, labels, frame_codes)
    is_loose = (inside < MIN_COHESION) | (inside < MIN_COHESION_SHARE * np.median(inside))
    is_dropped = is_loose & (above < MIN_COHESION_SHARE * np.median(above))
    return consecutive(np.where(np.append(is_dropped, True)[labels], NOISE, labels).astype(np.int32))


def expel_strays(vectors: np.ndarray, labels: np.ndarray, neighbors: Neighbors) -> np.ndarray:
    """Make noise of members that hang on few ties and have next to nothing in common with the group.

    A projection lays strangers beside the group that they name as neighbours; a third of a group may be such. Its core
    are the members with at least the median number of mutual neighbours in it. Another member goes when it has at most
    half as many mutual neighbours as it could have, and its cosine to the core's centroid is below .3 of the core's
    median: in the half-whitened space two instances with nothing in common have a cosine of 0. An outfit of its own has
    the second, but not the first. Strangers also tie rare characters to a group: after this, `expel_strangers` frees
    those.
    """
    is_mutual = _mutual_graph(labels, neighbors)
    ties = np.asarray(is_mutual.sum(axis=1), dtype=np.int64).ravel()
    core = labels.copy()
    for members in _groups(labels):
        core[members[ties[members] < np.median(ties[members])]] = NOISE
    centroids = centroids_of(vectors, core)
    cosines = own_cosines(vectors, labels, centroids)
    refined = labels.copy()
    for members in _groups(labels):
        usual = np.median(cosines[members[core[members] != NOISE]])
        is_stray = (cosines[members] < STRAY_COSINE_SHARE * usual) & (ties[members] <= STRAY_TIES)
        refined[members[is_stray]] = NOISE
    return refined


def _groups(labels: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of each group, in one pass over all."""
    order = np.argsort(labels, kind="stable")
    order = order[np.searchsorted(labels[order], 0) :]
    yield from np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else ()


def expel_strangers(vectors: np.ndarray, labels: np.ndarray, neighbors: Neighbors) -> np.ndarray:
    """Make noise of parts of a group that are not tied to it and lie outside it.

    Parts are the connected components of the graph of mutual neighbours within the group; the largest is its core.
    Another part goes when its mean cosine to the core's centroid is below the 5th percentile of the core. So a long
    shot, alike in itself only, stays with its character, while a rare character or a stranger that a projection laid
    beside a large group does not.
    """
    from scipy.sparse.csgraph import connected_components

    refined = labels.copy()
    _, part_of = connected_components(_mutual_graph(labels, neighbors), directed=False)
    for label in range(int(labels.max(initial=NOISE)) + 1):
        members = np.flatnonzero(labels == label)
        parts, sizes = np.unique(part_of[members], return_counts=True)
        if len(parts) < 2:
            continue
        is_core = part_of[members] == parts[sizes.argmax()]
        centroid = vectors[members[is_core]].mean(axis=0)
        cosines = vectors[members] @ (centroid / max(float(np.linalg.norm(centroid)), 1e-12))
        floor = np.percentile(cosines[is_core], ADOPTION_PERCENTILE)
        for part in parts:
            is_part = part_of[members] == part
            if cosines[is_part].mean() < floor:
                refined[members[is_part]] = NOISE
    return refined


def _mutual_graph(labels: np.ndarray, neighbors: Neighbors) -> "csr_array":
    """Return the graph [N, N] of pairs of one group that name each other among their neighbours."""
    from scipy.sparse import csr_array

    near = neighbors.nearest(MUTUAL_NEIGHBORS)
    source = np.repeat(np.arange(len(labels)), near.count)
    target = near.indices.ravel()
    is_within = (labels[source] == labels[target]) & (labels[source] != NOISE)
    ones = np.ones(int(is_within.sum()), dtype=np.int8)
    named = csr_array((ones, (source[is_within], target[is_within])), shape=(len(labels), len(labels)))
    return csr_array(named.multiply(named.T))


def expel_outliers(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Make noise of members far outside their own group's spread.

    The measure is the modified z-score (Iglewicz and Hoaglin 1993) of the cosine to the centroid, computed by median
    and median absolute deviation, so that the outliers themselves do not widen the spread. Below -3.5 a member goes.
    """
    refined = labels.copy()
    cosines = own_cosines(vectors, labels, centroids_of(vectors, labels))
    for label in range(int(labels.max(initial=NOISE)) + 1):
        members = np.flatnonzero(labels == label)
        if len(members) < 3:
            continue
        own = cosines[members].astype(np.float64)
        median = np.median(own)
        deviation = np.median(np.abs(own - median))
        if deviation > 0.0:
            refined[members[0.6745 * (own - median) / deviation < OUTLIER_MODIFIED_Z]] = NOISE
    return refined


def adopt_noise(vectors: np.ndarray, labels: np.ndarray, neighbors: Neighbors) -> tuple[np.ndarray, np.ndarray]:
    """Give noise to the group that its neighbours agree on.

    An instance joins when at least 70 % of its 10 nearest neighbours are in one group and its cosine to that group's
    centroid is at least the 5th percentile of the group's members.

    Returns:
        The labels, and the votes float32 [N] (0 where nothing was adopted).
    """
    adopted, votes = labels.copy(), np.zeros(len(labels), dtype=np.float32)
    noise = np.flatnonzero(labels == NOISE)
    near = labels[neighbors.nearest(VOTERS).indices[noise]]
    if near.size == 0:
        return adopted, votes
    centroids = centroids_of(vectors, labels)
    floors = cluster_floors(vectors, labels, centroids)
    for label in range(len(centroids)):
        share = (near == label).mean(axis=1, dtype=np.float32)
        fits = (share >= ADOPTION_VOTE_SHARE) & (vectors[noise] @ centroids[label] >= floors[label])
        adopted[noise[fits]] = label
        votes[noise[fits]] = share[fits]
    return adopted, votes


def cluster_floors(
    vectors: np.ndarray, labels: np.ndarray, centroids: np.ndarray, *, percentile: float = ADOPTION_PERCENTILE
) -> np.ndarray:
    """Return, for every group, a low percentile of its members' cosine to its centroid; infinity where empty."""
    cosines = own_cosines(vectors, labels, centroids)
    return np.array(
        [
            np.percentile(cosines[labels == label], percentile) if (labels == label).any() else np.inf
            for label in range(len(centroids))
        ],
        dtype=np.float32,
    )


def confirm_rare_groups(
    labels: np.ndarray, candidates: np.ndarray, neighbors: Neighbors, min_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Add those rare candidates that are groups in the space of the vectors too.

    A member stays when at least half of its nearest neighbours (as many as the group has other members, at most 10)
    belong to the group; the group stays when `min_size` members do. Strangers that a projection happened to put
    together fail this.

    Returns:
        The labels with rare groups numbered after the others, and which instances are in one (bool [N]).
    """
    refined = labels.copy()
    is_rare = np.zeros(len(labels), dtype=bool)
    following = int(labels.max(initial=NOISE)) + 1
    for candidate in range(int(candidates.max(initial=NOISE)) + 1):
        members = np.flatnonzero((candidates == candidate) & (labels == NOISE))
        near = neighbors.nearest(min(VOTERS, max(len(members) - 1, 0))).indices[members]
        if near.size == 0:
            continue
        confirmed = members[np.isin(near, members).mean(axis=1) >= RARE_PURITY]
        if len(confirmed) >= min_size:
            refined[confirmed], is_rare[confirmed] = following, True
            following += 1
    return refined, is_rare


def separate_frame_mates(
    vectors: np.ndarray, labels: np.ndarray, neighbors: Neighbors, frame_codes: np.ndarray
) -> np.ndarray:
    """Leave each group at most one instance of a frame: no character is twice in one picture.

    The instance nearest the centroid stays. Another goes to the next best group if that has no instance of the frame,
    at least half as many of its neighbours as an adoption needs, and a member floor (5th percentile) that it reaches;
    else it becomes noise.
    """
    refined = labels.copy()
    centroids = centroids_of(vectors, labels)
    if len(centroids) == 0:
        return refined
    floors = cluster_floors(vectors, labels, centroids)
    cosines = own_cosines(vectors, labels, centroids)
    too_many = surplus(labels, frame_codes, cosines)
    taken = set(zip(frame_codes.tolist(), labels.tolist(), strict=True))
    near = neighbors.nearest(VOTERS).indices
    for row in too_many.tolist():
        own, frame = int(labels[row]), int(frame_codes[row])
        refined[row] = NOISE
        if near.shape[1] == 0:
            continue
        found, counts = np.unique(labels[near[row]], return_counts=True)
        for place in np.argsort(-counts, kind="stable"):
            label, share = int(found[place]), counts[place] / near.shape[1]
            if label in (NOISE, own) or (frame, label) in taken or share < ADOPTION_VOTE_SHARE / 2:
                continue
            if float(vectors[row] @ centroids[label]) >= floors[label]:
                refined[row] = label
                taken.add((frame, label))
                break
    return refined


def surplus(labels: np.ndarray, frame_codes: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    """Return the rows that are not the nearest to the centroid among those of their frame and group."""
    rows = np.flatnonzero(labels != NOISE)
    order = rows[np.lexsort((rows, -cosines[rows], labels[rows], frame_codes[rows]))]
    same = (np.diff(frame_codes[order]) == 0) & (np.diff(labels[order]) == 0)
    return order[1:][same]


def drop_small_groups(labels: np.ndarray, min_size: int) -> np.ndarray:
    """Make noise of groups with fewer than `min_size` members."""
    sizes = np.bincount(labels[labels != NOISE], minlength=1)
    refined = labels.copy()
    refined[np.isin(labels, np.flatnonzero(sizes < min_size))] = NOISE
    return consecutive(refined)


def number_by_size(labels: np.ndarray) -> np.ndarray:
    """Number groups from 0, largest first; of equal ones, the one with the earliest member first."""
    found, first_rows, sizes = np.unique(labels[labels != NOISE], return_index=True, return_counts=True)
    first_rows = np.flatnonzero(labels != NOISE)[first_rows]
    numbered = np.full(len(labels), NOISE, dtype=np.int32)
    for number, place in enumerate(np.lexsort((first_rows, -sizes))):
        numbered[labels == found[place]] = number
    return numbered
