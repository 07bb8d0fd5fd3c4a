"""Near-duplicate frames of a shot: which frame stands for which.

Works on numbers that `scan` has measured; no pixels here, and nothing is ever deleted.
"""

import numpy as np
from numpy.typing import NDArray

CONTRAST_SHARE = 0.95
"""A frame is sharp enough to stand for its group at this share of the group's highest luma deviation."""


def choose_representatives(
    dhash: NDArray[np.uint64],
    shot: NDArray[np.int32],
    luma_deviation: NDArray[np.float32],
    near_duplicate_bits: int,
) -> NDArray[np.int64]:
    """Group near-duplicates inside each shot and choose one frame for each group.

    Leader clustering (Hartigan 1975): a frame joins the nearest group of its shot whose leader, the group's first
    frame, is within `near_duplicate_bits`; else it leads a new group. Nothing is compared through a third frame, so
    a slow pan does not drift into one group. Then the first frame with nearly the group's full contrast (cross-fades
    and motion blur lower it) stands for the group, if every member is within `near_duplicate_bits` of it too;
    otherwise the leader does.

    Args:
        dhash: uint64 [N], in order of frames.
        shot: int32 [N], never falling.
        luma_deviation: float32 [N].
        near_duplicate_bits: Largest Hamming distance of near-duplicates.

    Returns:
        int64 [N]: the position of the frame that stands for each; its own position if it does.
    """
    representative = np.arange(dhash.size, dtype=np.int64)
    starts = np.flatnonzero(np.diff(shot, prepend=-1))
    ends = np.append(starts[1:], dhash.size)[: starts.size]
    for start, end in zip(starts, ends, strict=True):
        leader = _leaders(dhash[start:end], near_duplicate_bits)
        for group in np.split(np.argsort(leader, kind="stable"), np.flatnonzero(np.diff(np.sort(leader))) + 1):
            chosen = _sharp_member(dhash[start + group], luma_deviation[start + group], near_duplicate_bits)
            representative[start + group] = start + group[chosen]
    return representative


def _leaders(dhash: NDArray[np.uint64], near_duplicate_bits: int) -> NDArray[np.int64]:
    leader = np.zeros(dhash.size, np.int64)
    positions = np.zeros(dhash.size, np.int64)
    hashes = np.zeros(dhash.size, np.uint64)
    count = 0
    for position, value in enumerate(dhash):
        if count:
            distances = np.bitwise_count(hashes[:count] ^ value)
            nearest = int(distances.argmin())
            if distances[nearest] <= near_duplicate_bits:
                leader[position] = positions[nearest]
                continue
        hashes[count], positions[count] = value, position
        leader[position] = position
        count += 1
    return leader


def _sharp_member(dhash: NDArray[np.uint64], luma_deviation: NDArray[np.float32], near_duplicate_bits: int) -> int:
    enough = CONTRAST_SHARE * float(luma_deviation.max())
    for member in np.flatnonzero(luma_deviation >= enough)[:8]:  # the first few: a group may hold thousands
        if int(np.bitwise_count(dhash ^ dhash[member]).max()) <= near_duplicate_bits:
            return int(member)
    return 0
