"""Simple named backgrounds for portraits of demo creatures: plain colours, and scenes of sky and ground.

Not here: the moving, layered backgrounds of the demo series' episodes; the series paints those itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

PLAIN_COLOURS: Mapping[str, RGB] = MappingProxyType(
    {
        "white": (255, 255, 255),
        "cream": (255, 244, 214),
        "sky blue": (184, 224, 250),
        "mint": (196, 242, 212),
        "lavender": (222, 208, 250),
        "gray": (188, 192, 198),
    }
)
"""Plain backgrounds: name -> 8-bit sRGB. Pale, so that they never pass for a body colour."""

SCENES: Mapping[str, tuple[str, RGB, RGB]] = MappingProxyType(
    {
        "meadow": ("in a meadow", (176, 222, 250), (142, 206, 112)),
        "desert": ("in a desert", (252, 228, 178), (226, 182, 112)),
        "snow": ("in the snow", (160, 196, 232), (240, 246, 252)),
        "night": ("at night", (48, 52, 104), (34, 66, 74)),
    }
)
"""Scenes: name -> (phrase, sky, ground) with 8-bit sRGB colours."""

BACKGROUNDS: tuple[str, ...] = (*PLAIN_COLOURS, *SCENES)
"""All background names."""

_HORIZON = 0.7


def background_phrase(background: str) -> str:
    """The words of a caption for a background, such as "on a mint background" or "at night".

    Raises:
        ValueError: the name is unknown.
    """
    if background in PLAIN_COLOURS:
        return f"on a {background} background"
    if background in SCENES:
        return SCENES[background][0]
    raise ValueError(f"background {background!r} is unknown; choose from {', '.join(BACKGROUNDS)}")


def draw_background(background: str, size_px: int, supersample: int = 4) -> Image.Image:
    """A square RGB picture of `size_px` × `size_px` pixels.

    Raises:
        ValueError: the name is unknown.
    """
    background_phrase(background)
    if background in PLAIN_COLOURS:
        return Image.new("RGB", (size_px, size_px), PLAIN_COLOURS[background])
    _, sky, ground = SCENES[background]
    side = size_px * supersample
    image = Image.new("RGB", (side, side), sky)
    ImageDraw.Draw(image).ellipse([-0.5 * side, _HORIZON * side, 1.5 * side, 1.9 * side], fill=ground)
    return image.reduce(supersample)
