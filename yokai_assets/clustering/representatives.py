"""Near-identical instances, collapsed to one that stands for them while groups are found.

A pose held for three seconds is one sight of a character, not 72: left in, such stills fill each other's lists of
neighbours and pull centres to themselves. Near-duplicate *frames* are gone before (`frames.duplicates`); these are
instances that stay alike while the frame around them moves, and pictures that come back in other episodes.
"""

from collections.abc import Mapping, Sequence

import numpy as np

NEAR_IDENTICAL_COSINE = 0.9
"""Cosine of half-whitened vectors from which two instances of a pool are one sight of a character.

Among 1,040 pairs of one shot in a drawn series, those of different characters were below .1, other poses of one
character mostly between .3 and .8; above .9 nothing differs but a pupil or a step. No pair of a pool can be of two
characters and come near it."""

_MAX_LEADERS = 20_000


def pools_of(shots: Sequence[str], frame_ids: Sequence[str], repeat_of: Mapping[str, str]) -> np.ndarray:
    """Return the pool of each instance, int32 [N]: its shot, or the shot in which its frame's picture was first shown.

    Args:
        shots: Shot of each instance, unique in the series.
        frame_ids: Frame of each instance.
        repeat_of: Frame -> first frame with the same picture (table `repeats`).
    """
    shot_of = dict(zip(frame_ids, shots, strict=True))
    first = (repeat_of.get(frame, frame) for frame in frame_ids)
    pools = [shot_of.get(frame, shot) for frame, shot in zip(first, shots, strict=True)]
    return np.unique(np.asarray(pools, dtype=str), return_inverse=True)[1].astype(np.int32).ravel()


def representatives_of(vectors: np.ndarray, pools: np.ndarray) -> np.ndarray:
    """Return the row that stands for each row, int64 [N]: itself, or an earlier one of its pool that is nearly it.

    Each row goes to the nearest leader that it reaches; a row that reaches none becomes a leader. So every row is
    within `NEAR_IDENTICAL_COSINE` of the one that stands for it, and chains do not drift.

    Args:
        vectors: Half-whitened unit vectors float32 [N, D].
        pools: int [N]; only rows of one pool are compared.
    """
    stands = np.arange(len(vectors))
    order = np.argsort(pools, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(pools[order])) + 1):
        if len(rows) > 1:
            stands[rows] = rows[_leaders(vectors[rows])]
    return stands


def _leaders(vectors: np.ndarray) -> np.ndarray:
    """Return the leader of each row of one pool."""
    total = len(vectors)
    leader_of = np.arange(total)
    leaders = np.empty((min(total, _MAX_LEADERS), vectors.shape[1]), np.float32)
    places: list[int] = []
    for row in range(total):
        if places:
            cosines = leaders[: len(places)] @ vectors[row]
            best = int(cosines.argmax())
            if cosines[best] >= NEAR_IDENTICAL_COSINE:
                leader_of[row] = places[best]
                continue
        if len(places) < len(leaders):
            leaders[len(places)] = vectors[row]
            places.append(row)
    return leader_of
