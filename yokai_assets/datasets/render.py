"""Pixels of training images: the crop around the character, its ground and its mask.

One image at a time; which ones and with what ground is decided by `build`.
"""

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Ground:
    """A plain ground: 8-bit sRGB, and the tag that a caption says it with."""

    color: tuple[int, int, int]
    tag: str


WHITE = Ground((255, 255, 255), "white background")
GREY = Ground((128, 128, 128), "grey background")


def draw_ground(rng: np.random.Generator) -> Ground:
    """Draw a plain ground: white, grey or some pastel, so that no single colour is learnt as part of the character."""
    kind = rng.random()
    if kind < 0.4:
        return WHITE
    if kind < 0.65:
        return GREY
    red, green, blue = colorsys.hls_to_rgb(
        float(rng.random()), float(rng.uniform(0.82, 0.92)), float(rng.uniform(0.4, 0.7))
    )
    return Ground((round(red * 255), round(green * 255), round(blue * 255)), "simple background")


def crop_box(box: Box, frame_size: tuple[int, int], margin_share: float) -> Box:
    """Return the box with a margin, clamped to the frame: where the frame cuts the character, there is none.

    Args:
        box: Left, top, right, bottom in the frame, half-open (px).
        frame_size: Width and height of the frame (px).
        margin_share: Margin as a share of the box's longer side.
    """
    x0, y0, x1, y1 = box
    margin = round(margin_share * max(x1 - x0, y1 - y0))
    return (
        max(0, x0 - margin),
        max(0, y0 - margin),
        min(max(frame_size[0], x1), x1 + margin),
        min(max(frame_size[1], y1), y1 + margin),
    )


def render_original(
    frame: Image.Image, cutout: Image.Image, box: Box, crop: Box, resolution_px: int
) -> tuple[Image.Image, Image.Image]:
    """Render the character in its frame.

    Args:
        frame: RGB frame.
        cutout: RGBA cut-out of the size of `box`.
        box: Where the cut-out lies in the frame (px).
        crop: What to show of the frame (px), from `crop_box`.
        resolution_px: Side of the square whose area the result does not exceed, as in training: larger crops are
            scaled down, smaller ones never up.

    Returns:
        RGB image and its mask (L, 255 on the character), of one size.
    """
    return _scaled(frame.crop(crop).convert("RGB"), _placed_alpha(cutout, box, crop), resolution_px)


def render_plain(
    cutout: Image.Image, box: Box, crop: Box, ground: Ground, resolution_px: int
) -> tuple[Image.Image, Image.Image]:
    """Render the character on a plain ground; arguments and result as for `render_original`."""
    picture = Image.new("RGB", (crop[2] - crop[0], crop[3] - crop[1]), ground.color)
    picture.paste(cutout.convert("RGB"), (box[0] - crop[0], box[1] - crop[1]), cutout.getchannel("A"))
    return _scaled(picture, _placed_alpha(cutout, box, crop), resolution_px)


def overlap_share(crop: Box, other: Box) -> float:
    """Return the share of `crop` that `other` covers (0-1)."""
    width = min(crop[2], other[2]) - max(crop[0], other[0])
    height = min(crop[3], other[3]) - max(crop[1], other[1])
    area = (crop[2] - crop[0]) * (crop[3] - crop[1])
    return max(0, width) * max(0, height) / area if area else 0.0


def _placed_alpha(cutout: Image.Image, box: Box, crop: Box) -> Image.Image:
    mask = Image.new("L", (crop[2] - crop[0], crop[3] - crop[1]))
    mask.paste(cutout.getchannel("A"), (box[0] - crop[0], box[1] - crop[1]))
    return mask


def _scaled(image: Image.Image, mask: Image.Image, resolution_px: int) -> tuple[Image.Image, Image.Image]:
    scale = resolution_px / math.sqrt(image.width * image.height)
    if scale >= 1:
        return image, mask
    # Rounded down: a pixel more, and training would scale the picture a second time.
    size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS), mask.resize(size, Image.Resampling.BOX)
