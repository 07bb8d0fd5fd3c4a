"""Rendering: the crop is right, the mask fits, nothing is enlarged."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from yokai_assets.datasets.grounds import WHITE
from yokai_assets.datasets.render import (
    before,
    crop_box,
    overlap_share,
    part_of_plate,
    placed_mask,
    plain,
    scaled_down,
)

BOX = (20, 10, 60, 50)
FRAME = Image.new("RGB", (96, 64), (40, 140, 60))
CUTOUT = Image.new("RGBA", (40, 40))
ImageDraw.Draw(CUTOUT).ellipse((0, 0, 39, 39), fill=(210, 30, 30, 255))
FRAME.paste(CUTOUT, BOX[:2], CUTOUT)


def test_margin_is_clamped_to_the_frame() -> None:
    """Protects: where the frame cuts the character, no empty strip suggests that it ends there."""
    assert crop_box(BOX, (96, 64), 0.1) == (16, 6, 64, 54)
    assert crop_box((0, 10, 40, 64), (96, 64), 0.1) == (0, 5, 45, 64)
    assert crop_box(BOX, (96, 64), 0) == BOX
    assert crop_box((0, 0, 8, 8), (0, 0), 0.5) == (0, 0, 8, 8)


def test_character_stands_before_the_background_and_the_mask_fits() -> None:
    """Protects: pixels and mask lie on each other, and nothing of the frame is left."""
    crop = crop_box(BOX, FRAME.size, 0.1)
    mask = placed_mask(CUTOUT, BOX, crop)
    image = before(plain(crop, WHITE), CUTOUT, BOX, crop)
    assert image.size == mask.size == (48, 48)
    pixels, alpha = np.asarray(image), np.asarray(mask)
    assert (pixels[alpha == 255] == (210, 30, 30)).all()
    assert (pixels[alpha == 0] == 255).all()
    original = np.asarray(FRAME.crop(crop))
    assert (original[alpha == 255] == (210, 30, 30)).all()
    assert (original[alpha == 0] == (40, 140, 60)).all()


@pytest.mark.parametrize("place", [(0.0, 0.0), (1.0, 1.0), (0.3, 0.7)])
def test_plates_are_shown_as_large_as_their_own_frame_would_be(place: tuple[float, float]) -> None:
    """Protects: a background behind a close-up is not a whole landscape in miniature, whatever size plates have."""
    rows, columns = np.mgrid[:90, :160]
    plate = Image.fromarray(np.dstack([columns, rows, columns * 0]).astype(np.uint8))
    part = part_of_plate(plate, (320, 180), (100, 50, 180, 90), place)  # plates are half as wide as frames
    assert part.size == (80, 40)
    pixels = np.asarray(part).astype(int)
    assert abs(pixels[0, -1, 0] - pixels[0, 0, 0] - 40) <= 2  # 80 px of the frame are 40 px of the plate
    assert abs(pixels[0, 0, 0] - place[0] * 120) <= 2 and abs(pixels[0, 0, 1] - place[1] * 70) <= 2


def test_small_plates_fill_the_crop() -> None:
    """Protects: a crop as large as the frame, of a plate of another format, has no empty edge."""
    plate = Image.new("RGB", (50, 50), (9, 90, 9))
    part = part_of_plate(plate, (320, 180), (0, 0, 320, 180), (0.5, 0.5))
    assert part.size == (320, 180) and part.getextrema() == ((9, 9), (90, 90), (9, 9))


@pytest.mark.parametrize(("limit", "size"), [(24, (24, 24)), (48, (48, 48)), (4096, (48, 48)), (1, (1, 1))])
def test_scaled_down_but_never_up(limit: int, size: tuple[int, int]) -> None:
    """Protects: blur that enlarging would teach."""
    crop = crop_box(BOX, FRAME.size, 0.1)
    image, mask = scaled_down(FRAME.crop(crop), placed_mask(CUTOUT, BOX, crop), limit)
    assert image.size == mask.size == size


def test_tall_characters_stay_tall_and_have_the_area_of_square_ones() -> None:
    """Protects: a figure standing upright is not trained on with half the pixels of a face."""
    image, mask = scaled_down(Image.new("RGB", (40, 160)), Image.new("L", (40, 160)), 60)
    assert image.size == mask.size == (30, 120)


def test_overlap_is_a_share_of_the_crop() -> None:
    """Protects: a stranger at the border of the crop counts little, one within it counts."""
    assert overlap_share((0, 0, 10, 10), (5, 0, 20, 10)) == pytest.approx(0.5)
    assert overlap_share((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert overlap_share((0, 0, 10, 10), (-5, -5, 50, 50)) == 1
