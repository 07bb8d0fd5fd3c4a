"""Palettes: the character's own colours, by share, with their names."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from yokai_assets.analysis.palette import NAMED_COLORS, color_name, extract_palette


def two_colored(hidden: tuple[int, int, int] = (0, 255, 0)) -> Image.Image:
    """Return red on three quarters, blue on one, beside as much transparent green."""
    picture = Image.new("RGBA", (80, 40), (*hidden, 0))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 39, 29), fill=(214, 44, 44, 255))
    draw.rectangle((0, 30, 39, 39), fill=(50, 108, 218, 255))
    return picture


def test_colours_and_shares_of_the_solid_part_only() -> None:
    """Protects: the ground under the transparent part never becomes a colour of the character."""
    palette = extract_palette([two_colored(), two_colored()], 5, seed=0)
    assert [color.name for color in palette] == ["red", "blue"]
    assert palette[0].share == pytest.approx(0.75, abs=0.05)
    assert sum(color.share for color in palette) == pytest.approx(1, abs=0.001)
    assert palette[0].hex == "#d62c2c"


def test_large_images_do_not_outvote_small_ones() -> None:
    """Protects: a close-up of a sleeve does not decide the palette."""
    blue = Image.new("RGBA", (400, 400), (50, 108, 218, 255))
    red = Image.new("RGBA", (10, 10), (214, 44, 44, 255))
    shares = {color.name: color.share for color in extract_palette([blue, red], 3, seed=0)}
    assert shares == {"blue": pytest.approx(0.5, abs=0.01), "red": pytest.approx(0.5, abs=0.01)}


def test_shades_of_one_colour_take_one_place() -> None:
    """Protects: five places for five colours, not for five shades."""
    pixels = np.full((64, 64, 4), (200, 40, 40, 255), np.uint8)
    pixels[..., 0] += np.arange(64, dtype=np.uint8) // 4
    shaded = Image.fromarray(pixels)
    assert len(extract_palette([shaded], 5, seed=0)) == 1


def test_nothing_solid_gives_no_colours() -> None:
    """Protects: an empty cut-out does not break the profile."""
    assert extract_palette([Image.new("RGBA", (8, 8))], 5, seed=0) == []
    assert extract_palette([], 5, seed=0) == []


def test_every_named_colour_is_named_after_itself() -> None:
    """Protects: names are told apart; no two of the list stand for one colour."""
    assert [color_name(rgb) for rgb in NAMED_COLORS.values()] == list(NAMED_COLORS)
