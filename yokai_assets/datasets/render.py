"""Pixels of training images: the crop around the character, what is behind it, and its mask.

One image at a time; which ones and on what ground is decided by `build` and `grounds`.
"""

import math

from PIL import Image

from yokai_assets.datasets.grounds import Ground

Box = tuple[int, int, int, int]


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


def placed_mask(cutout: Image.Image, box: Box, crop: Box) -> Image.Image:
    """Return the mask of a cut-out in its crop, L: 255 on the character.

    Args:
        cutout: RGBA cut-out of the size of `box`.
        box: Where the cut-out lies in the frame (px).
        crop: What is shown of the frame (px), from `crop_box`.
    """
    mask = Image.new("L", (crop[2] - crop[0], crop[3] - crop[1]))
    mask.paste(cutout.getchannel("A"), (box[0] - crop[0], box[1] - crop[1]))
    return mask


def before(behind: Image.Image, cutout: Image.Image, box: Box, crop: Box) -> Image.Image:
    """Return the character before a background (RGB, of the size of the crop); arguments as for `placed_mask`."""
    picture = behind.copy()
    picture.paste(cutout.convert("RGB"), (box[0] - crop[0], box[1] - crop[1]), cutout.getchannel("A"))
    return picture


def scaled_down(image: Image.Image, mask: Image.Image, resolution_px: int) -> tuple[Image.Image, Image.Image]:
    """Return image and mask at the area that training wants, never larger than they are.

    Args:
        image: RGB.
        mask: L, of the same size.
        resolution_px: Side of the square whose area the result does not exceed.
    """
    scale = resolution_px / math.sqrt(image.width * image.height)
    if scale >= 1:
        return image, mask
    # Rounded down: a pixel more, and training would scale the picture a second time.
    size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS), mask.resize(size, Image.Resampling.BOX)


def plain(crop: Box, ground: Ground) -> Image.Image:
    """Return a plain background of the size of a crop, RGB."""
    return Image.new("RGB", (crop[2] - crop[0], crop[3] - crop[1]), ground.color)


def part_of_plate(
    plate: Image.Image, frame_size: tuple[int, int], crop: Box, place: tuple[float, float]
) -> Image.Image:
    """Return a part of another shot's clean plate, as large in it as the crop is in its frame.

    Args:
        plate: RGB, of any size.
        frame_size: Width and height of the frame that the crop is of (px).
        crop: The crop (px).
        place: Where to take it, as shares of the free width and height (0-1).

    Returns:
        RGB of the size of the crop.
    """
    width, height = crop[2] - crop[0], crop[3] - crop[1]
    scale = min(plate.width / max(frame_size[0], 1), plate.width / width, plate.height / height)
    part = (max(1, int(width * scale)), max(1, int(height * scale)))
    left, top = round(place[0] * (plate.width - part[0])), round(place[1] * (plate.height - part[1]))
    box = (left, top, left + part[0], top + part[1])
    return plate.convert("RGB").resize((width, height), Image.Resampling.LANCZOS, box=box)


def overlap_share(crop: Box, other: Box) -> float:
    """Return the share of `crop` that `other` covers (0-1)."""
    width = min(crop[2], other[2]) - max(crop[0], other[0])
    height = min(crop[3], other[3]) - max(crop[1], other[1])
    area = (crop[2] - crop[0]) * (crop[3] - crop[1])
    return max(0, width) * max(0, height) / area if area else 0.0
