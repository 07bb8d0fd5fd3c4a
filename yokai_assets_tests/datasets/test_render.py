"""Rendering: the crop is right, the mask fits, nothing is enlarged."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from yokai_assets.datasets.render import WHITE, crop_box, draw_ground, overlap_share, render_original, render_plain

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


def test_original_shows_the_frame_and_masks_the_character() -> None:
    """Protects: pixels and mask lie on each other."""
    crop = crop_box(BOX, FRAME.size, 0.1)
    image, mask = render_original(FRAME, CUTOUT, BOX, crop, 512)
    assert image.size == mask.size == (48, 48)
    pixels, alpha = np.asarray(image), np.asarray(mask)
    assert (pixels[alpha == 255] == (210, 30, 30)).all()
    assert (pixels[alpha == 0] == (40, 140, 60)).all()


def test_plain_has_nothing_of_the_frame() -> None:
    """Protects: places are not learnt as part of the character."""
    crop = crop_box(BOX, FRAME.size, 0.1)
    image, mask = render_plain(CUTOUT, BOX, crop, WHITE, 512)
    pixels, alpha = np.asarray(image), np.asarray(mask)
    assert (pixels[alpha == 255] == (210, 30, 30)).all()
    assert (pixels[alpha == 0] == 255).all()


@pytest.mark.parametrize(("limit", "size"), [(24, (24, 24)), (48, (48, 48)), (4096, (48, 48)), (1, (1, 1))])
def test_scaled_down_but_never_up(limit: int, size: tuple[int, int]) -> None:
    """Protects: blur that enlarging would teach."""
    crop = crop_box(BOX, FRAME.size, 0.1)
    for image, mask in (
        render_original(FRAME, CUTOUT, BOX, crop, limit),
        render_plain(CUTOUT, BOX, crop, WHITE, limit),
    ):
        assert image.size == mask.size == size


def test_tall_characters_stay_tall_and_have_the_area_of_square_ones() -> None:
    """Protects: a figure standing upright is not trained on with half the pixels of a face."""
    image, mask = render_plain(CUTOUT.resize((40, 160)), (0, 0, 40, 160), (0, 0, 40, 160), WHITE, 60)
    assert image.size == mask.size == (30, 120)


def test_grounds_vary_and_repeat_with_their_seed() -> None:
    """Protects: no ground colour becomes part of the character, and equal seeds give equal files."""
    grounds = [draw_ground(np.random.default_rng(seed)) for seed in range(60)]
    assert {ground.tag for ground in grounds} == {"white background", "grey background", "simple background"}
    assert len({ground.color for ground in grounds}) > 10
    assert grounds == [draw_ground(np.random.default_rng(seed)) for seed in range(60)]


def test_overlap_is_a_share_of_the_crop() -> None:
    """Protects: a stranger at the border of the crop counts little, one within it counts."""
    assert overlap_share((0, 0, 10, 10), (5, 0, 20, 10)) == pytest.approx(0.5)
    assert overlap_share((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert overlap_share((0, 0, 10, 10), (-5, -5, 50, 50)) == 1
