"""Where an episode is cut: shots from the difference hashes and luma of neighbouring frames.

Works on numbers that `scan` has measured; no pixels here.
"""

import numpy as np
from numpy.typing import NDArray

LUMA_STEP = 20.0
"""A step of mean luma (0-255) between neighbours from which half the Hamming distance is enough for a cut."""


def assign_shots(
    dhash: NDArray[np.uint64],
    luma_mean: NDArray[np.float32],
    is_visible: NDArray[np.bool_],
    shot_cut_bits: int,
) -> NDArray[np.int32]:
    """Number the shots of an episode's readable frames, from 0.

    A cut lies between two neighbours whose hashes differ by `shot_cut_bits` or more, or by half of that when mean
    luma steps by `LUMA_STEP`, and wherever frames turn black or blank or come back from it. Inside a black or blank
    run hashes say nothing and are not compared.

    Args:
        dhash: uint64 [N], in order of frames.
        luma_mean: float32 [N], 0-255.
        is_visible: bool [N]; false for dark and blank frames.
        shot_cut_bits: Hamming distance of a cut.

    Returns:
        int32 [N], never falling.
    """
    if dhash.size == 0:
        return np.zeros(0, np.int32)
    bits = np.bitwise_count(dhash[1:] ^ dhash[:-1])
    step = np.abs(np.diff(luma_mean.astype(np.float32)))
    both_visible = is_visible[1:] & is_visible[:-1]
    is_other_picture = (bits >= shot_cut_bits) | ((bits >= (shot_cut_bits + 1) // 2) & (step >= LUMA_STEP))
    is_cut = (is_visible[1:] != is_visible[:-1]) | (both_visible & is_other_picture)
    return np.concatenate([[0], np.cumsum(is_cut)]).astype(np.int32)
