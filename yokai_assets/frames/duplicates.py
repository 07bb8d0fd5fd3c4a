"""Near-duplicate frames of a shot: which frame stands for which.

Works on numbers that `scan` has measured; no files here, and nothing is ever deleted. Frames that repeat in other
episodes are the matter of `repeats`.
"""

import numpy as np
from numpy.typing import NDArray

CONTRAST_SHARE = 0.95
"""A frame is sharp enough to stand for its group at this share of the group's highest luma deviation."""


def miniature_distances(one: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how far miniatures are apart: the largest difference of a field, after light and contrast are matched.

    Hashes have 72 fields and keep signs only; somebody small who enters changes no sign but a field's mean. Matching
    lets a fade of one picture be that picture.

    Args:
        one: uint8 [P].
        others: uint8 [N, P].

    Returns:
        float32 [N], luma levels (0-255).
    """
    first, second = _standardized(one[None]), _standardized(others)
    scale = np.maximum(one.std(), others.std(axis=1)).astype(np.float32)
    return np.abs(second - first).max(axis=1) * scale


def choose_representatives(
    dhash: NDArray[np.uint64],
    miniature: NDArray[np.uint8],
    shot: NDArray[np.int32],
    luma_deviation: NDArray[np.float32],
    near_duplicate_bits: int,
    near_duplicate_luma: float,
) -> NDArray[np.int64]:
    """Group near-duplicates inside each shot and choose one frame for each group.

    Two frames are near-duplicates within `near_duplicate_bits` of hash and `near_duplicate_luma` of miniature.
    Leader clustering (Hartigan 1975): a frame joins the nearest group of its shot whose leader, the group's first
    frame, is a near-duplicate; else it leads a new group. Nothing is compared through a third frame, so a slow pan
    does not drift into one group. Then the first frame with nearly the group's full contrast (cross-fades and motion
    blur lower it) stands for the group, if every member is its near-duplicate too; otherwise the leader does.

    Args:
        dhash: uint64 [N], in order of frames.
        miniature: uint8 [N, P].
        shot: int32 [N], never falling.
        luma_deviation: float32 [N].
        near_duplicate_bits: Largest Hamming distance of near-duplicates.
        near_duplicate_luma: Largest distance of their miniatures; see `miniature_distances`.

    Returns:
        int64 [N]: the position of the frame that stands for each; its own position if it does.
    """
    from yokai_assets.frames.hamming import nearest_leaders

    limits = near_duplicate_bits, near_duplicate_luma
    representative = np.arange(dhash.size, dtype=np.int64)
    starts = np.flatnonzero(np.diff(shot, prepend=-1))
    ends = np.append(starts[1:], dhash.size)[: starts.size]
    for start, end in zip(starts, ends, strict=True):
        leader = nearest_leaders(dhash[start:end], miniature[start:end], *limits)
        for group in np.split(np.argsort(leader, kind="stable"), np.flatnonzero(np.diff(np.sort(leader))) + 1):
            at = start + group
            representative[at] = at[_sharp_member(dhash[at], miniature[at], luma_deviation[at], *limits)]
    return representative


def _sharp_member(
    dhash: NDArray[np.uint64],
    miniature: NDArray[np.uint8],
    luma_deviation: NDArray[np.float32],
    most_bits: int,
    most_luma: float,
) -> int:
    enough = CONTRAST_SHARE * float(luma_deviation.max())
    for member in np.flatnonzero(luma_deviation >= enough)[:8]:  # the first few: a group may hold thousands
        is_near_to_all = int(np.bitwise_count(dhash ^ dhash[member]).max()) <= most_bits
        if is_near_to_all and float(miniature_distances(miniature[member], miniature).max()) <= most_luma:
            return int(member)
    return 0


def _standardized(miniatures: NDArray[np.uint8]) -> NDArray[np.float32]:
    centred = miniatures - miniatures.mean(axis=1, keepdims=True, dtype=np.float32)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1.0)
