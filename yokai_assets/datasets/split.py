"""Holding images out by whole shots, so that no training image is a neighbour of a judging one.

Positions in, positions out.
"""

import numpy as np
from numpy.typing import NDArray

MIN_HELD_OUT_IMAGES = 2


def held_out_positions(
    shots: NDArray[np.integer], share: float, min_training_images: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose whole shots to be held out.

    Shots are drawn at random until `share` of them and at least two images are held out. A shot whose absence would
    leave fewer than `min_training_images` to train on is not drawn; if that allows none at all, single shots may
    go, smallest first, as long as something is left to train on: a character that small is skipped anyway.

    Args:
        shots: Shot number of each image, int [N].
        share: Share of the shots (0-1); 0 holds out nothing.
        min_training_images: Images that training needs.
        rng: Source of randomness.

    Returns:
        Sorted positions of held-out images; empty where all images are of one shot.
    """
    numbers, sizes = np.unique(shots, return_counts=True)
    if share <= 0 or len(numbers) < 2:
        return np.zeros(0, np.int64)
    wanted_shots = max(1, round(share * len(numbers)))
    for least, order in (
        (min_training_images, rng.permutation(len(numbers))),
        (1, np.argsort(sizes, kind="stable")),
    ):
        chosen, held = [], 0
        for shot in order:
            if len(chosen) >= wanted_shots and held >= MIN_HELD_OUT_IMAGES:
                break
            if len(shots) - held - sizes[shot] >= least:
                chosen.append(numbers[shot])
                held += int(sizes[shot])
        if chosen:
            return np.flatnonzero(np.isin(shots, chosen))
    return np.zeros(0, np.int64)
