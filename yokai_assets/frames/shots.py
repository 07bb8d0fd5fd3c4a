"""Where an episode is cut: shots from the hashes, luma and miniatures of neighbouring frames.

Works on numbers that `scan` has measured; no files here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yokai_assets.frames.fingerprint import MINIATURE_PX
from yokai_assets.frames.transitions import find_transitions

LUMA_STEP = 20.0
"""A step of mean luma (0-255) between neighbours from which half the Hamming distance is enough for a cut."""

_SAME_PLACE_SHARE = 0.32
_UNCHANGED_LUMA = 6
_UNCHANGED_SHARE = 0.25
_STRUCTURE_LUMA = 16
_MIN_STRUCTURED_FIELDS = 8


@dataclass(frozen=True, slots=True)
class Cutting:
    """How an episode of N readable frames is cut.

    Attributes:
        shot: int32 [N], from 0, never falling.
        is_faded: bool [N]; inside a fade or a dissolve.
    """

    shot: NDArray[np.int32]
    is_faded: NDArray[np.bool_]


def cut_shots(
    dhash: NDArray[np.uint64],
    miniature: NDArray[np.uint8],
    luma_mean: NDArray[np.float32],
    is_visible: NDArray[np.bool_],
    shot_cut_bits: int,
) -> Cutting:
    """Number the shots of an episode's readable frames, and find the frames between two pictures.

    A cut lies between two neighbours whose hashes differ by `shot_cut_bits` or more, or by half of that when mean
    luma steps by `LUMA_STEP`, unless much of the place stays as it is: a character who leaps across the frame changes
    many bits, but not the scenery beside it. (On two drawn series, 94 leaps counted as cuts without this, none with it;
    of 88 cuts, 5 inside one place are missed.) A cut also lies in the middle of a dissolve, and wherever frames turn
    black or blank or come back from it. Inside a black or blank run hashes say nothing and are not compared, and a
    fade is one shot with its picture.

    Args:
        dhash: uint64 [N], in order of frames.
        miniature: uint8 [N, P].
        luma_mean: float32 [N], 0-255.
        is_visible: bool [N]; false for black and blank frames.
        shot_cut_bits: Hamming distance of a cut.
    """
    if dhash.size == 0:
        return Cutting(np.zeros(0, np.int32), np.zeros(0, bool))
    bits = np.bitwise_count(dhash[1:] ^ dhash[:-1])
    step = np.abs(np.diff(luma_mean.astype(np.float32)))
    both_visible = is_visible[1:] & is_visible[:-1]
    is_other_picture = (bits >= shot_cut_bits) | ((bits >= (shot_cut_bits + 1) // 2) & (step >= LUMA_STEP))
    is_hard_cut = both_visible & is_other_picture
    is_hard_cut[is_hard_cut] = ~_is_same_place(miniature, np.flatnonzero(is_hard_cut))
    between = find_transitions(miniature, is_visible, is_hard_cut, bits, dhash, shot_cut_bits)
    is_cut = (is_visible[1:] != is_visible[:-1]) | (is_hard_cut & ~between.is_joined) | between.is_cut
    return Cutting(np.concatenate([[0], np.cumsum(is_cut)]).astype(np.int32), between.is_faded)


def _is_same_place(miniature: NDArray[np.uint8], before: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say of some frames whether the next one shows the same place: enough fields with scenery in them are unchanged.

    Flat fields do not count: sky, night and paper are alike everywhere.
    """
    from scipy import ndimage

    width, height = MINIATURE_PX
    fields = miniature.reshape(-1, height, width).astype(np.int16)
    first, second = fields[before], fields[before + 1]
    structure = [
        ndimage.maximum_filter(one, (1, 3, 3)) - ndimage.minimum_filter(one, (1, 3, 3)) for one in (first, second)
    ]
    strongest = np.maximum(*structure)
    is_structured = strongest > _STRUCTURE_LUMA
    most = np.minimum(_UNCHANGED_LUMA, _UNCHANGED_SHARE * strongest)
    is_unchanged = is_structured & (np.abs(second - first) <= most)
    counts = is_structured.sum(axis=(1, 2))
    return (counts >= _MIN_STRUCTURED_FIELDS) & (is_unchanged.sum(axis=(1, 2)) >= _SAME_PLACE_SHARE * counts)
