"""Aspect-ratio buckets: sizes, and pixels that are neither blown up nor cut away."""

import numpy as np
import pytest
from PIL import Image

from yokai_assets.training.buckets import MAX_AREA_RATIO, MAX_CROP_SHARE, fit_image, fit_mask, inside_mask, place


@pytest.mark.parametrize("size", [(512, 512), (300, 500), (1920, 1080), (40, 64), (64, 700), (1, 1), (513, 511)])
def test_bucket_sides_are_multiples_and_images_never_grow(size: tuple[int, int]) -> None:
    """No upscaling by default: blown-up pictures teach blur; sides must fit the VAE."""
    placement = place(*size, 512, 64)
    assert placement.width_px % 64 == placement.height_px % 64 == 0
    assert placement.scaled_width_px <= size[0]
    assert placement.scaled_height_px <= size[1]
    assert placement.scaled_width_px * placement.scaled_height_px <= 512 * 512 * 1.01


@pytest.mark.parametrize(("side", "bucket"), [(512, 512), (513, 512), (530, 512), (560, 576), (63, 64), (65, 64)])
def test_a_small_excess_is_cropped_and_a_large_one_padded(side: int, bucket: int) -> None:
    """Cropping may take only a sliver: the margin around a character is 8 % of its side."""
    placement = place(side, 64, 1024, 64)
    assert placement.width_px == bucket
    assert side - placement.width_px <= MAX_CROP_SHARE * side


@pytest.mark.parametrize("size", [(80, 51), (51, 80), (128, 32), (32, 128), (64, 64), (90, 46)])
@pytest.mark.parametrize(("resolution_px", "step_px"), [(64, 64), (64, 32), (100, 64), (32, 64)])
def test_coarse_steps_do_not_blow_the_area_up(size: tuple[int, int], resolution_px: int, step_px: int) -> None:
    """A bucket of twice the area would be half padding, cost twice the memory, and be no size the base knows."""
    placement = place(*size, resolution_px, step_px)
    area = max(resolution_px, step_px) ** 2
    assert placement.width_px * placement.height_px <= MAX_AREA_RATIO * area
    aspect = placement.scaled_width_px / placement.scaled_height_px
    assert aspect == pytest.approx(size[0] / size[1], rel=0.1)
    assert fit_image(Image.new("RGB", size), placement).shape == (placement.height_px, placement.width_px, 3)
    assert inside_mask(placement).sum() > 0.2 * area * min(1, size[0] * size[1] / area)


def test_usual_steps_keep_the_full_area() -> None:
    """Shapes between 1:4 and 4:1 are trained with the resolution's area at the usual step."""
    for width_px in range(1000, 4001, 50):
        placement = place(width_px, 1_000_000 * 4 // width_px, 512, 64)
        assert placement.scaled_width_px * placement.scaled_height_px >= 0.98 * 512 * 512


def test_padding_repeats_edges_and_is_outside_the_mask() -> None:
    """Padding is not part of the picture: it has no weight, and no hard black edge."""
    pixels = np.zeros((30, 16, 3), np.uint8)
    pixels[:, :8], pixels[:, 8:] = 50, 200
    placement = place(16, 30, 32, 32)
    fitted = fit_image(Image.fromarray(pixels), placement)
    mask = fit_mask(Image.new("L", (16, 30), 255), placement)
    inside = inside_mask(placement)
    assert fitted.shape == (32, 32, 3)
    assert (fitted[:, 0] == 50).all()
    assert (fitted[:, -1] == 200).all()
    assert inside.sum() == 16 * 30
    assert ((mask == 255) == (inside == 1)).all()


def test_cropping_is_central() -> None:
    """What is cropped comes from both ends alike."""
    pixels = np.repeat(np.arange(66, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    fitted = fit_image(Image.fromarray(pixels), place(66, 64, 128, 64))
    assert fitted[0, 0, 0] == 1
    assert fitted[0, -1, 0] == 64


def test_sizes_must_be_positive() -> None:
    """A zero side would divide by zero far from its cause."""
    with pytest.raises(ValueError, match="positive"):
        place(0, 10, 512, 64)
