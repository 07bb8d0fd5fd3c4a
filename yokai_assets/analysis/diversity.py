"""Choosing few of many so that they differ: farthest-point selection and quotas that share evenly.

Numbers in, positions out; images and tables are the callers' matter. Profiles and training sets both choose so.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def even_quotas(available: NDArray[np.integer], total: int) -> NDArray[np.int64]:
    """Share `total` among groups as evenly as their sizes allow (water filling).

    Args:
        available: Members of each group, [G].
        total: Members wanted; more than there are means all.

    Returns:
        i64 [G]: no group gets more than it has; any two groups that are not exhausted differ by at most one.
        What is left over goes to the earlier groups.
    """
    available = np.asarray(available, np.int64)
    total = int(min(total, available.sum()))
    quotas = np.zeros_like(available)
    while (rest := total - int(quotas.sum())) > 0:
        is_open = np.flatnonzero(quotas < available)
        step = max(1, rest // len(is_open))
        for group in is_open[:rest]:
            quotas[group] += min(step, int(available[group] - quotas[group]))
    return quotas


def medoids(vectors: NDArray[np.floating], count: int) -> list[int]:
    """Choose `count` vectors that stand for all: each is the most central of those nearest to it.

    k-medoids by alternation (Park and Jun 2009), begun with `farthest_first`.

    Args:
        vectors: Unit vectors, float [N, D]; all N x N cosines are held.
        count: How many; more than N means all.

    Returns:
        Positions, those that stand for most vectors first. Deterministic.
    """
    points = np.asarray(vectors, np.float32)
    chosen = np.array(farthest_first(points, count), np.int64)
    if len(chosen) == 0:
        return []
    cosines = points @ points.T
    for _ in range(50):
        owner = cosines[:, chosen].argmax(axis=1)
        groups = [np.flatnonzero(owner == number) for number in range(len(chosen))]
        central = [int(own[cosines[np.ix_(own, own)].sum(axis=1).argmax()]) if len(own) else -1 for own in groups]
        moved = np.where(np.array(central) < 0, chosen, np.array(central))
        if np.array_equal(moved, chosen):
            break
        chosen = moved
    sizes = np.bincount(cosines[:, chosen].argmax(axis=1), minlength=len(chosen))
    return [int(chosen[number]) for number in np.argsort(-sizes, kind="stable")]


def farthest_first(
    vectors: NDArray[np.floating],
    count: int,
    groupings: Sequence[NDArray[np.integer]] = (),
    start: int | None = None,
) -> list[int]:
    """Choose `count` vectors so that each next one is farthest from all chosen ones.

    The greedy 2-approximation of the k-centre problem (Gonzalez 1985), under quotas where groupings are given, so
    that long episodes do not crowd out short ones.

    Args:
        vectors: Unit vectors, float [N, D].
        count: How many; more than N means all.
        groupings: Group numbers of the vectors, int [N] each, most important first. Quotas of each are those of
            `even_quotas`; groups that need all that they have come first. Where no vector is left that all quotas
            allow, the last grouping is overlooked, then the one before it.
        start: Position of the first choice; unset: the vector nearest to the mean.

    Returns:
        Chosen positions in the order of choice. Deterministic: ties go to the lower position.
    """
    if len(vectors) == 0 or count <= 0:
        return []
    points = np.asarray(vectors, np.float32)
    numbers = [np.unique(groups, return_inverse=True)[1].ravel() for groups in groupings]
    quotas = [even_quotas(np.bincount(groups), count) for groups in numbers]
    is_left = np.ones(len(points), bool)
    distance = np.full(len(points), np.inf, np.float32)
    if start is None:
        start = int(np.argmax(np.where(_open(is_left, numbers, quotas), points @ points.mean(axis=0), -np.inf)))
    chosen: list[int] = []
    position = start
    for _ in range(min(count, len(points))):
        chosen.append(position)
        is_left[position] = False
        for groups, quota in zip(numbers, quotas, strict=True):
            quota[groups[position]] -= 1
        distance = np.minimum(distance, 1 - points @ points[position])
        position = int(np.argmax(np.where(_open(is_left, numbers, quotas), distance, -np.inf)))
    return chosen


def _open(
    is_left: NDArray[np.bool_], numbers: Sequence[NDArray[np.integer]], quotas: Sequence[NDArray[np.int64]]
) -> NDArray[np.bool_]:
    """Return which vectors may be chosen next, bool [N]; first those of groups that need all that they have left."""
    found = is_left
    is_needed = np.zeros(len(is_left), bool)
    for groups, quota in zip(numbers, quotas, strict=True):
        allowed = found & (quota[groups] > 0)
        if not allowed.any():
            break
        found = allowed
        is_needed |= (quota >= np.bincount(groups[is_left], minlength=len(quota)))[groups]
    needed = found & is_needed
    return needed if needed.any() else found


def balanced_sample(groups: NDArray[np.integer], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` positions at random, evenly over groups.

    Args:
        groups: Group number of each position, int [N].
        count: How many; more than N means all.
        rng: Source of randomness.

    Returns:
        Sorted positions, i64.
    """
    # Shuffled, as what `even_quotas` has left over goes to the earlier groups: of many episodes, to the first ones.
    numbers = np.unique(groups, return_inverse=True)[1]
    numbers = rng.permutation(int(numbers.max(initial=-1)) + 1)[numbers]
    quotas = even_quotas(np.bincount(numbers), count)
    drawn = [rng.choice(np.flatnonzero(numbers == g), size=int(q), replace=False) for g, q in enumerate(quotas) if q]
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)
