"""Aspect-ratio buckets: which size an image is trained at, and how its pixels get there.

Images are scaled down to the resolution's area, never up. Where the bucket step is so coarse that the bucket would be
far larger than that (a step of 64 at a resolution of 64), they are scaled down into one that is not. A side that is
not a multiple of the bucket step is cropped by up to `MAX_CROP_SHARE`, else padded; padding never counts in the loss.
So nothing of a character is cut away to fit, and a small picture is not blown up into a blurred one. Pixels only;
latents are made in `encoding`.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_CROP_SHARE = 0.04
"""Largest share of a side that is cropped (both ends together) rather than padded."""

MAX_AREA_RATIO = 1.25
"""Largest area of a bucket, padding included, over the resolution's area: it bounds the memory of a step."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How an image is put into its bucket. All lengths in pixels.

    Attributes:
        width_px: Bucket width.
        height_px: Bucket height.
        scaled_width_px: Width the image is scaled to (at most its own).
        scaled_height_px: Height the image is scaled to.
        crop_left_px: Columns of the scaled image left out at the left.
        crop_top_px: Rows of the scaled image left out at the top.
        pad_left_px: Columns of padding at the left.
        pad_top_px: Rows of padding at the top.
    """

    width_px: int
    height_px: int
    scaled_width_px: int
    scaled_height_px: int
    crop_left_px: int
    crop_top_px: int
    pad_left_px: int
    pad_top_px: int


def place(width_px: int, height_px: int, resolution_px: int, step_px: int) -> Placement:
    """Return how an image of `width_px` x `height_px` is trained.

    Args:
        width_px: Image width.
        height_px: Image height.
        resolution_px: Side of the square whose area is not exceeded before rounding to `step_px`, and by at most
            `MAX_AREA_RATIO` after it.
        step_px: Bucket sides are multiples of this.

    Raises:
        ValueError: A side is not positive.
    """
    if min(width_px, height_px, resolution_px, step_px) < 1:
        raise ValueError(f"sides must be positive: {width_px} x {height_px}, {resolution_px}, step {step_px}")
    scale = min(1.0, resolution_px / math.sqrt(width_px * height_px))
    scaled_width, scaled_height = max(1, round(width_px * scale)), max(1, round(height_px * scale))
    width, height = _bucket_side(scaled_width, step_px), _bucket_side(scaled_height, step_px)
    area = max(resolution_px, step_px) ** 2
    if width * height > MAX_AREA_RATIO * area:
        width, height = _roomiest_bucket(width_px, height_px, area, step_px)
        scale = min(1.0, width / width_px, height / height_px)
        scaled_width, scaled_height = max(1, int(width_px * scale)), max(1, int(height_px * scale))
    return Placement(
        width_px=width,
        height_px=height,
        scaled_width_px=scaled_width,
        scaled_height_px=scaled_height,
        crop_left_px=max(0, scaled_width - width) // 2,
        crop_top_px=max(0, scaled_height - height) // 2,
        pad_left_px=max(0, width - scaled_width) // 2,
        pad_top_px=max(0, height - scaled_height) // 2,
    )


def _bucket_side(side_px: int, step_px: int) -> int:
    shorter = side_px // step_px * step_px
    if shorter and side_px - shorter <= MAX_CROP_SHARE * side_px:
        return shorter
    return shorter + step_px if shorter < side_px else shorter


def _roomiest_bucket(width_px: int, height_px: int, area_px: int, step_px: int) -> tuple[int, int]:
    """Return the bucket of at most `area_px` that shows the whole image largest; of equal ones the smallest."""
    buckets = [
        (width, area_px // width // step_px * step_px) for width in range(step_px, area_px // step_px + 1, step_px)
    ]
    return max(buckets, key=lambda side: (min(side[0] / width_px, side[1] / height_px), -side[0] * side[1]))


def fit_image(image: Image.Image, placement: Placement) -> np.ndarray:
    """Return the image in its bucket: u8 [height, width, 3]; padding repeats the edge pixels."""
    return _fit(image.convert("RGB"), placement, pad_mode="edge")


def fit_mask(mask: Image.Image, placement: Placement) -> np.ndarray:
    """Return the mask in its bucket: u8 [height, width]; 0 in the padding."""
    return _fit(mask.convert("L"), placement, pad_mode="constant")


def inside_mask(placement: Placement) -> np.ndarray:
    """Return 1.0 where the bucket shows the image and 0.0 where it is padding: f32 [height, width]."""
    inside = np.zeros((placement.height_px, placement.width_px), np.float32)
    top, left = placement.pad_top_px, placement.pad_left_px
    inside[top : top + placement.scaled_height_px, left : left + placement.scaled_width_px] = 1.0
    return inside


def _fit(image: Image.Image, placement: Placement, pad_mode: str) -> np.ndarray:
    size = (placement.scaled_width_px, placement.scaled_height_px)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    top, left = placement.crop_top_px, placement.crop_left_px
    pixels = np.asarray(image)[top : top + placement.height_px, left : left + placement.width_px]
    below = placement.height_px - pixels.shape[0] - placement.pad_top_px
    right = placement.width_px - pixels.shape[1] - placement.pad_left_px
    padding = [(placement.pad_top_px, below), (placement.pad_left_px, right)] + [(0, 0)] * (pixels.ndim - 2)
    return np.pad(pixels, padding, mode=pad_mode)  # pyright: ignore[reportCallIssue, reportArgumentType]
