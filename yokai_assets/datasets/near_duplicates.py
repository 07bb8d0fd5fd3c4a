"""Copies of one picture in a folder of training images, and a hold-out that never parts them.

For pictures of unknown origin: re-encoded, resized, brightened and mirrored copies count, crops do not. Near-duplicate
frames of an episode are `frames.duplicates`, those of a selection are `selection` (both know more of their pictures).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from yokai_assets.datasets.split import MIN_HELD_OUT_IMAGES, HeldOut, hold_out
from yokai_assets.frames.decoding import THUMBNAIL_PX
from yokai_assets.frames.duplicates import miniature_distances
from yokai_assets.frames.fingerprint import fingerprint_luma

MAX_HASH_BITS = 10
MAX_MINIATURE_LUMA = 20.0
"""Limits of near-duplicates, as in `frames.duplicates`.

Wider than those of frames (4 and 10), whose size and encoder are one: of 212 training images of cartoons, 95 of 100
copies at half the size or as JPEG of quality 20 are within them, and 7 of 6500 pairs that are no copies.
"""

MIN_PICTURES = 8
"""None of fewer pictures are held out; of so many, two."""


@dataclass(frozen=True, slots=True)
class PicturePrint:
    """What a picture and its mirror image look like: difference hashes (64 bits) and luma miniatures (bytes)."""

    dhash: int
    miniature: bytes
    mirrored_dhash: int
    mirrored_miniature: bytes


def print_of(image: Image.Image) -> PicturePrint:
    """Measure a picture, whatever its size: equal pixels give equal prints."""
    # One size for all: the fields of a miniature cut through pixels otherwise, differently in every size.
    thumbnail = image.convert("L").resize(THUMBNAIL_PX, Image.Resampling.BILINEAR)
    upright, mirrored = fingerprint_luma(thumbnail), fingerprint_luma(ImageOps.mirror(thumbnail))
    return PicturePrint(upright.dhash, upright.miniature, mirrored.dhash, mirrored.miniature)


def group_near_duplicates(prints: Sequence[PicturePrint]) -> NDArray[np.int64]:
    """Return the group of each picture, int [N]: the position of the group's first picture.

    A near-duplicate of a near-duplicate is in the same group, so a slow pan is one group.
    """
    dhash = np.array([p.dhash for p in prints], np.uint64)
    miniature = np.array([list(p.miniature) for p in prints], np.uint8)
    groups = np.arange(len(prints), dtype=np.int64)
    for position, own in enumerate(prints):
        near = np.zeros(len(prints), bool)
        near[position] = True
        sides = ((own.dhash, own.miniature), (own.mirrored_dhash, own.mirrored_miniature))
        for bits, fields in sides:
            # Each pair once: a mirrored copy's mirror image is this picture.
            apart = np.bitwise_count(dhash[position + 1 :] ^ np.uint64(bits))
            close = position + 1 + np.flatnonzero(apart <= MAX_HASH_BITS)
            distances = miniature_distances(np.frombuffer(fields, np.uint8), miniature[close])
            near[close[distances <= MAX_MINIATURE_LUMA]] = True
        joined = np.unique(groups[near])
        groups[np.isin(groups, joined)] = joined[0]
    return groups


def hold_out_pictures(prints: Sequence[PicturePrint], share: float, seed: int) -> HeldOut:
    """Choose pictures to be held out, as `split.hold_out` chooses shots, but only whole groups of near-duplicates.

    Args:
        prints: Of all pictures.
        share: Share of the pictures (0-1); 0 holds out nothing.
        seed: Of the choice.

    Returns:
        None held out where there are fewer than `MIN_PICTURES`, or (then `torn_shot` is set) no groups add up to
        anything near the share.
    """
    if share <= 0 or len(prints) < MIN_PICTURES:
        return HeldOut(np.zeros(0, np.int64))
    groups, order = group_near_duplicates(prints), np.arange(len(prints))
    found = hold_out(groups, order, share, MIN_PICTURES - MIN_HELD_OUT_IMAGES, np.random.default_rng(seed))
    return found if found.torn_shot is None else HeldOut(np.zeros(0, np.int64), found.torn_shot)
