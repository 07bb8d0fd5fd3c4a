"""Looks of a character: a change of clothes is one, light, size, pose and close-ups are not."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.metrics import adjusted_rand_score

from yokai_assets.analysis.outfits import MIN_ALL_IMAGES, Outfits, find_outfits

RED, BLUE, GREEN = ((190, 40, 50), (70, 40, 50)), ((50, 90, 200), (230, 225, 215)), ((70, 150, 70), (220, 180, 60))
"""Shirt and trousers."""

NIGHT = ((0.3, 0.42, 0.8), (6, 10, 30))
SUNSET = ((1.05, 0.66, 0.42), (30, 8, 0))
DAY = ((1.0, 1.0, 1.0), (0, 0, 0))


def drawn(clothes: tuple[tuple[int, int, int], tuple[int, int, int]], rng: np.random.Generator) -> Image.Image:
    """Return a figure with brown hair, in a pose and a size of its own."""
    shirt, trousers = clothes
    picture = Image.new("RGBA", (90, 150), (0, 255, 0, 0))
    draw = ImageDraw.Draw(picture)
    lean, reach = (int(v) for v in rng.integers(-6, 7, 2))
    draw.line((45, 66, 12, 80 + 2 * reach), fill=(246, 212, 182, 255), width=9)
    draw.line((45, 66, 78, 80 - 2 * reach), fill=(246, 212, 182, 255), width=9)
    draw.rectangle((30, 56, 60, 104), fill=(*shirt, 255))
    draw.polygon([(30, 104), (60, 104), (58 + lean, 149), (30 - lean, 149)], fill=(*trousers, 255))
    draw.ellipse((22 + lean, 6, 68 + lean, 60), fill=(246, 212, 182, 255))
    draw.pieslice((20 + lean, 2, 70 + lean, 56), 180, 360, fill=(110, 66, 36, 255))
    draw.ellipse((34 + lean, 32, 40 + lean, 42), fill=(20, 18, 20, 255))
    draw.ellipse((50 + lean, 32, 56 + lean, 42), fill=(20, 18, 20, 255))
    picture = picture.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC, expand=True)
    scale = rng.uniform(0.4, 1.2)
    return picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.LANCZOS)


def lit(picture: Image.Image, light: tuple, strength: float = 1.0) -> Image.Image:
    gain, offset = (np.array(part) for part in light)
    pixels = np.asarray(picture).astype(float)
    pixels[..., :3] = np.clip(pixels[..., :3] * gain * strength + offset, 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def vectors_of(count: int) -> NDArray[np.float32]:
    return np.eye(count, dtype=np.float32)


def looks(pictures: list[Image.Image]) -> Outfits:
    return find_outfits(pictures, vectors_of(len(pictures)), seed=0)


def test_a_change_of_clothes_is_another_look() -> None:
    """Protects: two outfits are told apart in any light, the more frequent one first, with their shares."""
    rng = np.random.default_rng(0)
    worn = np.repeat([1, 0], [12, 28])
    lights = [DAY, NIGHT, SUNSET]
    found = looks([lit(drawn((RED, BLUE)[w], rng), lights[i % 3]) for i, w in enumerate(worn)])
    np.testing.assert_array_equal(found.labels, worn)
    assert found.labels.dtype == np.int32
    assert found.shares == pytest.approx((0.7, 0.3))


def test_three_looks() -> None:
    """Protects: the number of looks is found, not set to two."""
    rng = np.random.default_rng(1)
    worn = np.repeat([0, 1, 2], [24, 14, 10])
    found = looks([drawn((RED, BLUE, GREEN)[w], rng) for w in worn])
    assert adjusted_rand_score(worn, found.labels) == 1
    assert found.shares == pytest.approx((24 / 48, 14 / 48, 10 / 48))


def test_a_look_of_a_tenth_of_the_images_is_found() -> None:
    """Protects: an outfit of one episode in ten is not swallowed."""
    rng = np.random.default_rng(2)
    worn = np.repeat([0, 1], [63, 7])
    found = looks([drawn((RED, GREEN)[w], rng) for w in worn])
    np.testing.assert_array_equal(found.labels, worn)


def test_light_is_no_look() -> None:
    """Protects: scenes at night and at sunset do not become outfits of their own."""
    rng = np.random.default_rng(3)
    lights = [DAY] * 30 + [NIGHT] * 18 + [SUNSET] * 12
    found = looks([lit(drawn(RED, rng), light, rng.uniform(0.6, 1.0)) for light in lights])
    assert found.shares == (1.0,)


def test_close_ups_are_no_look() -> None:
    """Protects: images of head and shoulders, where no trousers are seen, do not become an outfit of their own."""
    rng = np.random.default_rng(4)
    pictures = [drawn(BLUE, rng) for _ in range(50)]
    for row in range(18):
        width, height = pictures[row].size
        pictures[row] = pictures[row].crop((0, 0, width, int(height * rng.uniform(0.35, 0.6))))
    assert looks(pictures).shares == (1.0,)


def test_few_images_have_one_look() -> None:
    """Protects: nothing is split on the evidence of a handful of images."""
    rng = np.random.default_rng(5)
    pictures = [drawn((RED, BLUE)[row % 2], rng) for row in range(MIN_ALL_IMAGES - 1)]
    assert looks(pictures).shares == (1.0,)
    none = find_outfits([], np.zeros((0, 4), np.float32), seed=0)
    assert len(none.labels) == 0
    assert none.shares == ()


def test_empty_cutouts_follow_their_nearest_vector() -> None:
    """Protects: an image without solid pixels does not break the looks of the others, and has one, too."""
    rng = np.random.default_rng(6)
    worn = np.repeat([0, 1], [18, 12])
    pictures = [drawn((RED, BLUE)[w], rng) for w in worn] + [Image.new("RGBA", (20, 20))]
    vectors = np.concatenate([vectors_of(30), vectors_of(30)[20:21]])
    found = find_outfits(pictures, vectors, seed=0)
    np.testing.assert_array_equal(found.labels, [*worn, 1])


def test_same_seed_same_looks_whatever_lies_under_transparency() -> None:
    """Protects: results can be repeated, and the scenery behind a character is never its clothes."""
    rng = np.random.default_rng(7)
    pictures = [drawn((RED, BLUE)[row % 3 == 0], rng) for row in range(36)]
    behind = []
    for row, picture in enumerate(pictures):
        pixels = np.array(picture)
        pixels[pixels[..., 3] == 0, :3] = ((250, 0, 250), (0, 250, 250))[row % 2]
        behind.append(Image.fromarray(pixels))
    first, again = looks(pictures), looks(behind)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert len(first.shares) == 2


def test_cutouts_and_vectors_belong_together() -> None:
    """Protects: a caller who mixes up samples is told."""
    with pytest.raises(ValueError, match="one vector for each"):
        find_outfits([Image.new("RGBA", (4, 4))], vectors_of(2), seed=0)
