"""Frames of the demo series that are all lettering, or all black: title cards, credits, fades.

Not here: places and creatures.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from yokai_assets.demo.scenery import RGB, brush_texture, gradient, mix, vary

_ROLES = ("Story", "Drawings", "Backgrounds", "Colours", "Music", "Sound", "Camera", "Editing", "Voices")
_SYLLABLES = ("ka", "mi", "ro", "su", "na", "to", "ri", "ha", "ya", "ko", "shi", "ma", "te", "no", "ki")
_CARD_COLOURS: tuple[tuple[RGB, RGB], ...] = (
    ((40, 52, 96), (112, 84, 140)),
    ((176, 72, 66), (238, 160, 92)),
    ((36, 92, 96), (128, 184, 150)),
    ((244, 226, 190), (226, 190, 160)),
    ((16, 16, 22), (34, 32, 44)),
)


def made_up_name(rng: np.random.Generator) -> str:
    """A pronounceable name of two or three syllables, such as "Karomi"."""
    return "".join(rng.choice(_SYLLABLES, size=int(rng.integers(2, 4)))).capitalize()


def _write(draw: ImageDraw.ImageDraw, centre: tuple[float, float], text: str, size_px: int, ink: RGB) -> None:
    font = ImageFont.load_default(size=max(8, size_px))
    draw.text(
        (centre[0] + 1, centre[1] + size_px / 16 + 1), text, font=font, fill=mix(ink, (20, 20, 30), 0.7), anchor="mm"
    )
    draw.text(centre, text, font=font, fill=ink, anchor="mm")


def _ground(rng: np.random.Generator, size_px: tuple[int, int]) -> tuple[Image.Image, RGB]:
    top, bottom = _CARD_COLOURS[int(rng.integers(len(_CARD_COLOURS)))]
    card = brush_texture(gradient(size_px, vary(top, rng), vary(bottom, rng)), rng, 4.0)
    ink: RGB = (70, 44, 40) if sum(top) > 480 else (250, 240, 214)
    return card, ink


def title_card(rng: np.random.Generator, size_px: tuple[int, int], title: str, subtitle: str) -> Image.Image:
    """A title on painted ground, with a few discs for ornament: RGB."""
    card, ink = _ground(rng, size_px)
    draw, (width, height) = ImageDraw.Draw(card), size_px
    for _ in range(int(rng.integers(2, 7))):
        x, y, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.03, 0.16) * height
        pixel = card.getpixel((min(width - 1, int(x)), min(height - 1, int(y))))
        ground = pixel if isinstance(pixel, tuple) else (128, 128, 128)
        draw.ellipse(
            [x - radius, y - radius, x + radius, y + radius], fill=mix((ground[0], ground[1], ground[2]), ink, 0.16)
        )
    _write(draw, (width / 2, 0.42 * height), title, round(height * 0.15), ink)
    _write(draw, (width / 2, 0.64 * height), subtitle, round(height * 0.08), mix(ink, (200, 170, 120), 0.4))
    return card


def credits_card(rng: np.random.Generator, size_px: tuple[int, int]) -> Image.Image:
    """Names and roles on dark ground: RGB."""
    card = gradient(size_px, (14, 14, 20), (30, 28, 42))
    draw, (width, height) = ImageDraw.Draw(card), size_px
    rows = int(rng.integers(3, 7))
    for row, role in enumerate(rng.choice(_ROLES, rows, replace=False)):
        y = height * (0.16 + 0.7 * row / max(1, rows - 1))
        _write(draw, (0.33 * width, y), str(role), round(height * 0.065), (168, 170, 190))
        _write(
            draw, (0.66 * width, y), f"{made_up_name(rng)} {made_up_name(rng)}", round(height * 0.065), (236, 236, 240)
        )
    return card


def faded(picture: Image.Image, share: float) -> Image.Image:
    """The picture, darkened to black by `share` (0 unchanged, 1 black)."""
    return Image.blend(picture.convert("RGB"), Image.new("RGB", picture.size), share)
