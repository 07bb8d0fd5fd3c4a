"""What a frame looks like in a few numbers: difference hash, mean and deviation of luma.

Measuring only; cuts and near-duplicates are decided in `shots` and `duplicates`.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

DHASH_VERSION = 1
"""Raise when the numbers change: thumbnail rule, resampler (Lanczos, pinned) or bit order."""

_DHASH_SIDE = 8
_BIT_WEIGHTS = np.uint64(1) << np.arange(63, -1, -1, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class FramePrint:
    """A frame's 64-bit difference hash, and mean and standard deviation of its luma (0-255)."""

    dhash: int
    luma_mean: float
    luma_deviation: float


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
    luma = np.asarray(thumbnail, dtype=np.float32)
    return FramePrint(int(_BIT_WEIGHTS[bits.ravel()].sum()), float(luma.mean()), float(luma.std()))
