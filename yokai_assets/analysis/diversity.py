"""Choosing few of many so that they differ: farthest-point selection and quotas that share evenly.

Numbers in, positions out; images and tables are the callers' matter. Profiles and training sets both choose so.
"""

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
    vectors: NDArray[np.floating], count: int, groups: NDArray[np.integer] | None = None, start: int | None = None
) -> list[int]:
    """Choose `count` vectors so that each next one is farthest from all chosen ones.

    The greedy 2-approximation of the k-centre problem (Gonzalez 1985), under a quota per group where groups are
    given, so that long episodes do not crowd out short ones.

    Args:
        vectors: Unit vectors, float [N, D].
        count: How many; more than N means all.
        groups: Group number of each vector, int [N]; quotas are those of `even_quotas`.
        start: Position of the first choice; unset: the vector nearest to the mean.

    Returns:
        Chosen positions in the order of choice. Deterministic: ties go to the lower position.
    """
    if len(vectors) == 0 or count <= 0:
        return []
    points = np.asarray(vectors, np.float32)
    groups = np.zeros(len(points), np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    quotas = even_quotas(np.bincount(groups), count)
    is_open = quotas[groups] > 0
    distance = np.full(len(points), np.inf, np.float32)
    if start is None:
        start = int(np.argmax(np.where(is_open, points @ points.mean(axis=0), -np.inf)))
    chosen: list[int] = []
    position = start
    for _ in range(int(quotas.sum())):
        chosen.append(position)
        group = groups[position]
        quotas[group] -= 1
        is_open[position] = False
        if quotas[group] == 0:
            is_open[groups == group] = False
        distance = np.minimum(distance, 1 - points @ points[position])
        position = int(np.argmax(np.where(is_open, distance, -np.inf)))
    return chosen


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
