"""Holding images out by whole shots, so that no training image is a neighbour of a judging one.

Positions in, positions out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_HELD_OUT_IMAGES = 2
MAX_SHARE_RATIO = 1.5
"""Whole shots may hold out at most this times the share asked for, and at least half of it."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What is held out.

    Attributes:
        positions: Sorted positions of held-out images, i64 [M]; may be empty.
        torn_shot: The shot whose last images are held out while its others are trained on, where no whole shots come
            near the share; None otherwise.
    """

    positions: NDArray[np.int64]
    torn_shot: int | None = None


def hold_out(
    shots: NDArray[np.integer],
    frame_indexes: NDArray[np.integer],
    share: float,
    min_training_images: int,
    rng: np.random.Generator,
) -> HeldOut:
    """Choose the images to be held out: near `share` of them, at least two.

    Of all sets of whole shots the one nearest to the share is taken, if it holds between half and
    `MAX_SHARE_RATIO` times what is asked for; of equally near ones, chance decides. Where there is none, as when one
    long shot is most of what there is, the end of the longest shot is held out. `min_training_images` are left to
    train on wherever there are as many; a character that has fewer is not trained anyway.

    Args:
        shots: Shot number of each image, int [N].
        frame_indexes: Position of each image in its episode, int [N].
        share: Share of the images (0-1); 0 holds out nothing.
        min_training_images: Images that training needs.
        rng: Source of randomness.
    """
    count = len(shots)
    spare = count - (min_training_images if count >= min_training_images else 1)
    if share <= 0 or spare < MIN_HELD_OUT_IMAGES:
        return HeldOut(np.zeros(0, np.int64))
    wanted = min(spare, max(MIN_HELD_OUT_IMAGES, round(share * count)))
    least = max(MIN_HELD_OUT_IMAGES, -(-wanted // 2))
    chosen = _nearest_shots(shots, wanted, least, min(spare, int(MAX_SHARE_RATIO * wanted)), rng)
    if chosen is not None:
        return HeldOut(np.flatnonzero(np.isin(shots, chosen)))
    numbers, sizes = np.unique(shots, return_counts=True)
    # It has more than `wanted` images: shots that have fewer each would add up to something near enough.
    longest = int(numbers[np.argmax(sizes)])
    inside = np.flatnonzero(shots == longest)
    in_time = inside[np.argsort(frame_indexes[inside], kind="stable")]
    return HeldOut(np.sort(in_time[-wanted:]), longest)


def _nearest_shots(
    shots: NDArray[np.integer], wanted: int, least: int, most: int, rng: np.random.Generator
) -> NDArray[np.integer] | None:
    """Return the whole shots that together have nearest to `wanted` images, within `least` to `most`; or None.

    Subset sums as bits of whole numbers: bit n of `reached[i]` is set where some of the first i shots have n images.
    """
    numbers, sizes = np.unique(shots, return_counts=True)
    order = rng.permutation(len(numbers))
    limit = (1 << (most + 1)) - 1
    reached = [1]
    for shot in order:
        reached.append((reached[-1] | (reached[-1] << int(sizes[shot]))) & limit)
    sums = [n for n in range(least, most + 1) if reached[-1] >> n & 1]
    if not sums:
        return None
    rest = min(sums, key=lambda n: (abs(n - wanted), n))
    chosen = []
    for step in range(len(order), 0, -1):
        if not reached[step - 1] >> rest & 1:
            chosen.append(order[step - 1])
            rest -= int(sizes[order[step - 1]])
    return numbers[chosen]
