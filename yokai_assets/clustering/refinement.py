"""What is done to the groups of any method, in a full space (half-whitened, if not said otherwise), not a projection.

Each step takes labels int32 [N] (-1: noise) and returns new ones; `cluster_instances` runs them in order. The
thresholds were calibrated on synthetic CLIP-like series and on series drawn by `yokai_assets.demo`, with known truth;
they are shares, ranks and cosines relative to the series' own, so that they hold for models whose vectors lie in a
narrow cone.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yokai_assets.clustering.grouping import NOISE
from yokai_assets.clustering.neighbors import Neighbors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

VOTERS = 10
"""Nearest neighbours that vote on an instance."""

MUTUAL_NEIGHBORS = 10
ADOPTION_VOTE_SHARE = 0.7
ADOPTION_PERCENTILE = 5.0
OUTLIER_MODIFIED_Z = -3.5
MERGE_LINKAGE = 0.75
MIN_FRAME_MATES = 20
SHARED_FRAME_SHARE = 0.02
RARE_PURITY = 0.5
MIN_COHESION, MIN_COHESION_SHARE, MIN_GROUPS_TO_COMPARE = 0.1, 0.4, 3

_BLOCK_ROWS = 65_536


def centroids_of(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the unit mean of every group, float32 [K, D]; K is the largest label plus one."""
    sums = _sums(vectors, labels)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.where(lengths == 0.0, 1.0, lengths)).astype(np.float32)


def _sums(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the sum of every group's vectors, float64 [K, D]."""
    from scipy.sparse import csr_array

    count = int(labels.max(initial=NOISE)) + 1
    sums = np.zeros((count, vectors.shape[1]), dtype=np.float64)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        part = labels[start : start + _BLOCK_ROWS]
        members = np.flatnonzero(part != NOISE)
        belongs = csr_array((np.ones(len(members)), (part[members], members)), shape=(count, len(part)))
        sums += belongs @ vectors[start : start + _BLOCK_ROWS].astype(np.float64)
    return sums


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
    inside, usual = _cohesion(whitened, labels), _cohesion(vectors, labels)
    if len(inside) < MIN_GROUPS_TO_COMPARE:
        return labels
    above = usual - stranger_cosine(vectors, labels, frame_codes)
    is_loose = (inside < MIN_COHESION) | (inside < MIN_COHESION_SHARE * np.median(inside))
    is_dropped = is_loose & (above < MIN_COHESION_SHARE * np.median(above))
    return _consecutive(np.where(np.append(is_dropped, True)[labels], NOISE, labels).astype(np.int32))


def _cohesion(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean cosine of two different members of every group, float64 [K]."""
    sizes = np.bincount(labels[labels != NOISE]).astype(np.float64)
    squares = (_sums(vectors, labels) ** 2).sum(axis=1)
    return (squares - sizes) / np.maximum(sizes * (sizes - 1.0), 1.0)


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


def merge_fragments(vectors: np.ndarray, labels: np.ndarray, frame_codes: np.ndarray) -> np.ndarray:
    """Join groups that are pieces of one character: its shots, its sizes, its near and far views.

    The measure is average linkage (Sokal and Michener 1958) on a scale that the series itself sets: 0 is the cosine
    of two different characters (two instances in one frame are that for certain), 1 the cosine inside the tighter of
    the two groups. Pairs of at least 0.75 are joined, nearest first, and all is measured anew. Groups that appear
    together (more than one frame, and more than 2 % of the smaller one's frames, show both) are never joined: one
    frame shows no character twice. Outfits far apart stay separate.

    Args:
        vectors: Unit vectors float32 [N, D] as the model gave them: whitening damps what sets characters apart when
            they are few, and here nothing but the mean cosine counts.
        labels: int32 [N].
        frame_codes: int [N]; equal for instances of one frame.
    """
    groups = _Groups.of(vectors, labels, frame_codes)
    mates_cosine = _cosine_of_frame_mates(vectors, frame_codes)
    while (pair := groups.nearest_pair(mates_cosine)) is not None:
        groups.join(*pair)
    return _consecutive(np.append(groups.name_of, NOISE)[labels])


@dataclass
class _Groups:
    """What average linkage needs of K groups, so that joining two touches no instance.

    Attributes:
        sums: float64 [K, D], of the members' unit vectors.
        sizes: float64 [K]; 0 for a group that was joined to another.
        shows: int32 sparse [K, F]; which frames show the group.
        name_of: int32 [K]; the group that each first group has become.
    """

    sums: np.ndarray
    sizes: np.ndarray
    shows: "csr_array"
    name_of: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, labels: np.ndarray, frame_codes: np.ndarray) -> "_Groups":
        from scipy.sparse import csr_array

        sums = _sums(vectors, labels)
        is_member = labels != NOISE
        pairs = np.unique(np.stack([labels[is_member], frame_codes[is_member]]), axis=1)
        shape = (len(sums), int(frame_codes.max(initial=0)) + 1)
        shows = csr_array((np.ones(pairs.shape[1], np.int32), (pairs[0], pairs[1])), shape=shape)
        sizes = np.bincount(labels[is_member], minlength=len(sums)).astype(np.float64)
        return cls(sums, sizes, shows, np.arange(len(sums), dtype=np.int32))

    def nearest_pair(self, mates_cosine: float | None) -> tuple[int, int] | None:
        """Return the two groups of highest linkage; None where none reaches `MERGE_LINKAGE`."""
        alive = np.flatnonzero(self.sizes)
        if len(alive) < 2:
            return None
        cosines = _mean_cosines(self.sums[alive], self.sizes[alive])
        first, second = np.triu_indices(len(alive), k=1)
        stranger = float(np.median(cosines[first, second])) if mates_cosine is None else mates_cosine
        linkage = _on_the_series_scale(cosines, stranger)[first, second]
        for place in np.argsort(-linkage, kind="stable"):
            if linkage[place] < MERGE_LINKAGE:
                return None
            pair = int(alive[first[place]]), int(alive[second[place]])
            if not self._appear_together(*pair):
                return pair
        return None

    def join(self, keep: int, goes: int) -> None:
        """Make one group of two."""
        self.sums[keep] += self.sums[goes]
        self.sizes[keep] += self.sizes[goes]
        self.sizes[goes] = 0.0
        self.shows = self._with_row(keep, self.shows[[keep]].maximum(self.shows[[goes]]))
        self.name_of[self.name_of == goes] = keep

    def _with_row(self, at: int, row: "csr_array") -> "csr_array":
        from scipy.sparse import csr_array, vstack

        return csr_array(vstack([self.shows[:at], row, self.shows[at + 1 :]]))

    def _appear_together(self, first: int, second: int) -> bool:
        one, other = self.shows[[first]], self.shows[[second]]
        shared = one.multiply(other).nnz
        return shared > max(1.0, SHARED_FRAME_SHARE * min(one.nnz, other.nnz))


def _mean_cosines(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return [K, K]: mean cosine of all pairs of instances of two groups; on the diagonal, of two different ones."""
    products = sums @ sums.T
    with np.errstate(invalid="ignore", divide="ignore"):  # an empty group is like nobody: NaN
        means = products / np.outer(sizes, sizes)
    np.fill_diagonal(means, (np.diag(products) - sizes) / np.maximum(sizes * (sizes - 1), 1.0))
    return means


def _on_the_series_scale(cosines: np.ndarray, stranger_cosine: float) -> np.ndarray:
    inside = np.maximum.outer(np.diag(cosines), np.diag(cosines))
    return (cosines - stranger_cosine) / np.maximum(inside - stranger_cosine, 1e-6)


def stranger_cosine(vectors: np.ndarray, labels: np.ndarray, frame_codes: np.ndarray) -> float:
    """Return the usual cosine of two different characters: of instances in one frame, else of groups."""
    mates = _cosine_of_frame_mates(vectors, frame_codes)
    if mates is not None:
        return mates
    sums, sizes = _sums(vectors, labels), np.bincount(labels[labels != NOISE])
    if len(sizes) < 2:
        return 0.0
    return float(np.median(_mean_cosines(sums, sizes.astype(np.float64))[np.triu_indices(len(sizes), k=1)]))


def linkages(vectors: np.ndarray, labels: np.ndarray, stranger: float) -> np.ndarray:
    """Return the linkage of every two groups on the scale of `merge_fragments`, float64 [K, K]; NaN on the diagonal.

    Args:
        vectors: Unit vectors float32 [N, D] as the model gave them.
        labels: int32 [N]; groups numbered from 0 without gaps.
        stranger: `stranger_cosine` of the series.
    """
    sizes = np.bincount(labels[labels != NOISE]).astype(np.float64)
    found = _on_the_series_scale(_mean_cosines(_sums(vectors, labels), sizes), stranger)
    np.fill_diagonal(found, np.nan)
    return found


def _cosine_of_frame_mates(vectors: np.ndarray, frame_codes: np.ndarray) -> float | None:
    """Return the median cosine of instances of one frame; None where too few frames show two."""
    order = np.argsort(frame_codes, kind="stable")
    first = np.flatnonzero(np.diff(frame_codes[order]) == 0)
    if len(first) < MIN_FRAME_MATES:
        return None
    return float(np.median(np.einsum("nd,nd->n", vectors[order[first]], vectors[order[first + 1]])))


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
    return _consecutive(refined)


def number_by_size(labels: np.ndarray) -> np.ndarray:
    """Number groups from 0, largest first; of equal ones, the one with the earliest member first."""
    found, first_rows, sizes = np.unique(labels[labels != NOISE], return_index=True, return_counts=True)
    first_rows = np.flatnonzero(labels != NOISE)[first_rows]
    numbered = np.full(len(labels), NOISE, dtype=np.int32)
    for number, place in enumerate(np.lexsort((first_rows, -sizes))):
        numbered[labels == found[place]] = number
    return numbered


def _consecutive(labels: np.ndarray) -> np.ndarray:
    numbered = np.full(len(labels), NOISE, dtype=np.int32)
    for number, label in enumerate(np.unique(labels[labels != NOISE])):
        numbered[labels == label] = number
    return numbered
