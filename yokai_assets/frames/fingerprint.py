"""What a frame looks like in a few numbers: difference hash, luma, a picture of 16x9 pixels, likeness to text.

Measuring only; cuts, fades and near-duplicates are decided in `shots` and `duplicates`. Whoever changes a number here
(thumbnail rule, resampler, bit order) raises `PRINT_VERSION` and the code version of asset `frames`.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PRINT_VERSION = 1
"""Way of measuring; rows of another one are measured again."""

MINIATURE_PX = (16, 9)
"""Width and height of the miniature, whatever the shape of the frame."""

_DHASH_SIDE = 8
_BIT_WEIGHTS = np.uint64(1) << np.arange(63, -1, -1, dtype=np.uint64)

_STRONG_EDGE = 20
_SMOOTH_STEP = 4
_MIN_SMOOTH_SHARE = 0.82
_EDGE_SHARES = (0.008, 0.15)
_SAFE_MARGIN_SHARE = 0.03
_MAX_MARGIN_EDGE_SHARE = 0.01
_LETTERS_REACH_SHARE = 0.05
_LETTERS_MIN_EDGES = 5


@dataclass(frozen=True, slots=True)
class FramePrint:
    """What was measured of a frame.

    Attributes:
        dhash: 64-bit difference hash.
        luma_mean: Mean luma (0-255).
        luma_deviation: Standard deviation of luma (0-255).
        text_share: Share of its strong edges that stand close together in lines, as letters do (0-1); 0 where the
            ground is not plain.
        miniature: Luma means of 16x9 fields, uint8, row by row.
    """

    dhash: int
    luma_mean: float
    luma_deviation: float
    text_share: float
    miniature: bytes


def picture_sha256(picture: Image.Image) -> str:
    """Return the sha256 (hex) of a picture's size and pixels: what `content_sha256` of a video's frame is."""
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


def fingerprint_luma(thumbnail: Image.Image) -> FramePrint:
    """Measure a luma thumbnail (mode `L`, from `decoding`).

    The hash is the horizontal difference hash (Krawetz 2013, "Kind of Like That"): the picture at 9x8 pixels, one
    bit for each pixel that is brighter than its left neighbour, row by row, highest bit first.
    """
    small = np.asarray(thumbnail.resize((_DHASH_SIDE + 1, _DHASH_SIDE), Image.Resampling.LANCZOS))
    bits = small[:, 1:] > small[:, :-1]
    luma = np.asarray(thumbnail)
    return FramePrint(
        dhash=int(_BIT_WEIGHTS[bits.ravel()].sum()),
        luma_mean=float(luma.mean(dtype=np.float32)),
        luma_deviation=float(luma.astype(np.float32).std()),
        text_share=_text_share(luma),
        miniature=thumbnail.resize(MINIATURE_PX, Image.Resampling.BOX).tobytes(),
    )


def _text_share(luma: NDArray[np.uint8]) -> float:
    levels = luma.astype(np.int16)
    step = np.abs(levels[:, 1:] - levels[:, :-1])
    is_edge = step > _STRONG_EDGE
    edge_count = int(is_edge.sum())
    if not _EDGE_SHARES[0] <= edge_count / max(1, is_edge.size) <= _EDGE_SHARES[1]:
        return 0.0
    is_smooth = (step[:-1] <= _SMOOTH_STEP) & (np.abs(levels[1:, :-1] - levels[:-1, :-1]) <= _SMOOTH_STEP)
    if is_smooth.mean() < _MIN_SMOOTH_SHARE:
        return 0.0
    margin = max(1, round(levels.shape[1] * _SAFE_MARGIN_SHARE))
    if is_edge[:, :margin].sum() + is_edge[:, -margin:].sum() > _MAX_MARGIN_EDGE_SHARE * edge_count:
        return 0.0  # text keeps away from the sides; what is cut off by them is a picture
    reach = max(2, round(levels.shape[1] * _LETTERS_REACH_SHARE))
    counts = np.cumsum(np.pad(is_edge, ((0, 0), (reach + 1, reach))), axis=1, dtype=np.int32)
    neighbours = counts[:, 2 * reach + 1 :] - counts[:, : -2 * reach - 1]
    return float((is_edge & (neighbours >= _LETTERS_MIN_EDGES)).sum() / edge_count)
