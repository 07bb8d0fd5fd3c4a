"""How alike groups are, on a scale that the series itself sets; joining those that are pieces of one character.

Sums and mean cosines of groups, from which all of it follows. What else is done to groups is `refinement`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yokai_assets.clustering.grouping import NOISE, consecutive

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MERGE_LINKAGE = 0.75
MIN_FRAME_MATES = 20
SHARED_FRAME_SHARE = 0.02

_BLOCK_ROWS = 65_536


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
    return consecutive(np.append(groups.name_of, NOISE)[labels])


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

        sums = group_sums(vectors, labels)
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
    np.fill_diagonal(means, mean_inside(np.diag(products), sizes))
    return means


def _on_the_series_scale(cosines: np.ndarray, stranger_cosine: float) -> np.ndarray:
    inside = np.maximum.outer(np.diag(cosines), np.diag(cosines))
    return (cosines - stranger_cosine) / np.maximum(inside - stranger_cosine, 1e-6)


def stranger_cosine(vectors: np.ndarray, labels: np.ndarray, frame_codes: np.ndarray) -> float:
    """Return the usual cosine of two different characters: of instances in one frame, else of groups."""
    mates = _cosine_of_frame_mates(vectors, frame_codes)
    if mates is not None:
        return mates
    sums, sizes = group_sums(vectors, labels), np.bincount(labels[labels != NOISE])
    if len(sizes) < 2:
        return 0.0
    return float(np.nanmedian(_mean_cosines(sums, sizes.astype(np.float64))[np.triu_indices(len(sizes), k=1)]))


def linkages(vectors: np.ndarray, labels: np.ndarray, stranger: float) -> np.ndarray:
    """Return the linkage of every two groups on the scale of `merge_fragments`, float64 [K, K]; NaN on the diagonal.

    Args:
        vectors: Unit vectors float32 [N, D] as the model gave them.
        labels: int32 [N]; groups numbered from 0 without gaps.
        stranger: `stranger_cosine` of the series.
    """
    sizes = np.bincount(labels[labels != NOISE]).astype(np.float64)
    found = _on_the_series_scale(_mean_cosines(group_sums(vectors, labels), sizes), stranger)
    np.fill_diagonal(found, np.nan)
    return found


def _cosine_of_frame_mates(vectors: np.ndarray, frame_codes: np.ndarray) -> float | None:
    """Return the median cosine of instances of one frame; None where too few frames show two."""
    order = np.argsort(frame_codes, kind="stable")
    first = np.flatnonzero(np.diff(frame_codes[order]) == 0)
    if len(first) < MIN_FRAME_MATES:
        return None
    return float(np.median(np.einsum("nd,nd->n", vectors[order[first]], vectors[order[first + 1]])))


def group_sums(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
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


def cohesion_of(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean cosine of two different members of every group, float64 [K]."""
    sizes = np.bincount(labels[labels != NOISE]).astype(np.float64)
    return mean_inside((group_sums(vectors, labels) ** 2).sum(axis=1), sizes)


def mean_inside(squares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the mean cosine of two different members of groups, from the squared lengths of their sums [K]."""
    return (squares - sizes) / np.maximum(sizes * (sizes - 1.0), 1.0)
