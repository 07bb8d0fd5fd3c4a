"""Painted elements of the demo series' backgrounds: skies, clouds, hills, trees, houses, furniture.

Each painter draws one element on an RGBA canvas; sizes and positions are in pixels of that canvas. Nothing here
has the dark outline that creatures have. Not here: which elements make a place (:mod:`yokai_assets.demo.scenes`).
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

RGB = tuple[int, int, int]


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """The colour `share` (0..1) of the way from the first to the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def vary(colour: RGB, rng: np.random.Generator, spread: int = 14) -> RGB:
    """The colour, a little lighter or darker and a little shifted."""
    shift = rng.integers(-spread, spread + 1) + rng.integers(-spread // 3, spread // 3 + 1, 3)
    red, green, blue = (int(np.clip(c + s, 0, 255)) for c, s in zip(colour, shift, strict=True))
    return red, green, blue


def gradient(size_px: tuple[int, int], top: RGB, bottom: RGB) -> Image.Image:
    """A vertical gradient, RGB."""
    width, height = size_px
    column = np.linspace(0, 1, height)[:, None] * (np.array(bottom) - np.array(top)) + np.array(top)
    return Image.fromarray(np.repeat(column[:, None, :].round().astype(np.uint8), width, axis=1))


def brush_texture(image: Image.Image, rng: np.random.Generator, strength: float = 7.0) -> Image.Image:
    """The picture with soft, broad light and dark strokes, as paint has them; alpha stays."""
    width, height = image.size
    coarse = rng.normal(0, strength, (max(2, height // 14), max(2, width // 40))).astype(np.float32)
    strokes = np.asarray(Image.fromarray(coarse).resize(image.size, Image.Resampling.BICUBIC))
    colours = np.asarray(image.convert("RGB"), dtype=np.float32) + strokes[..., None]
    painted = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    if image.mode == "RGBA":
        painted.putalpha(image.getchannel("A"))
    return painted


def paint_clouds(image: Image.Image, rng: np.random.Generator, colour: RGB, count: int, lowest_y: float) -> None:
    """Soft heaps of cloud above `lowest_y`."""
    width, height = image.size
    clouds = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(clouds)
    for _ in range(count):
        x, y = rng.uniform(0, width), rng.uniform(0.06 * height, lowest_y)
        size = rng.uniform(0.05, 0.11) * height
        for _ in range(int(rng.integers(4, 8))):
            offset_x, lift = rng.normal(0, 1.7 * size), rng.uniform(0, 0.7) * size
            radius = size * rng.uniform(0.5, 1.0)
            draw.ellipse(
                [x + offset_x - 1.5 * radius, y - lift - radius, x + offset_x + 1.5 * radius, y - lift + radius * 0.5],
                fill=215,
            )
    image.paste(Image.new("RGB", image.size, colour), (0, 0), clouds.filter(ImageFilter.GaussianBlur(height / 180)))


def paint_disc(image: Image.Image, centre: tuple[float, float], radius: float, colour: RGB) -> None:
    """A sun or moon with a glow."""
    glow = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(glow)
    for step, opacity in ((2.6, 40), (1.8, 70), (1.0, 255)):
        reach = radius * step
        draw.ellipse([centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach], fill=opacity)
    image.paste(Image.new("RGB", image.size, colour), (0, 0), glow.filter(ImageFilter.GaussianBlur(radius / 8)))


def paint_stars(image: Image.Image, rng: np.random.Generator, count: int, lowest_y: float) -> None:
    """Small stars of different brightness."""
    draw = ImageDraw.Draw(image)
    for _ in range(count):
        x, y = rng.uniform(0, image.width), rng.uniform(0, lowest_y)
        radius = rng.choice([0.8, 1.2, 1.8]) * image.height / 400
        draw.ellipse(
            [x - radius, y - radius, x + radius, y + radius], fill=mix((90, 96, 160), (255, 250, 220), rng.random())
        )


def paint_hills(
    image: Image.Image, rng: np.random.Generator, base_y: float, amplitude: float, colour: RGB, roughness: int = 3
) -> None:
    """Rolling hills (or, with more roughness, mountains) from `base_y` down to the canvas' bottom."""
    width, height = image.size
    x = np.linspace(0, width, 160)
    ridge = np.zeros_like(x)
    for octave in range(1, roughness + 1):
        waves = rng.uniform(0.6, 1.4) * octave * 1.6
        ridge += np.sin(2 * math.pi * (waves * x / width + rng.random())) / octave
    ridge = base_y - amplitude * ridge / 1.6
    ImageDraw.Draw(image).polygon(
        [(0, height), *zip(x.tolist(), ridge.tolist(), strict=True), (width, height)], fill=colour
    )


def paint_broadleaf(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, foot_y: float, height: float, leaf: RGB
) -> None:
    """A round-crowned tree."""
    trunk = height * 0.07
    draw.polygon(
        [
            (x - trunk, foot_y),
            (x + trunk, foot_y),
            (x + trunk * 0.6, foot_y - height * 0.6),
            (x - trunk * 0.6, foot_y - height * 0.6),
        ],
        fill=vary((116, 84, 62), rng),
    )
    for shade, count in ((mix(leaf, (20, 50, 40), 0.3), 5), (leaf, 5), (mix(leaf, (250, 250, 170), 0.22), 3)):
        lift = 0.08 if shade[1] > leaf[1] else 0.0
        for _ in range(count):
            offset_x, offset_y = rng.normal(0, 0.14) * height, rng.uniform(-0.16, 0.14) * height
            radius = height * rng.uniform(0.12, 0.22) * (0.6 if lift else 1.0)
            centre_y = foot_y - height * (0.7 + lift) + offset_y
            draw.ellipse(
                [x + offset_x - radius, centre_y - radius, x + offset_x + radius, centre_y + radius], fill=shade
            )


def paint_conifer(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, foot_y: float, height: float, leaf: RGB
) -> None:
    """A fir of three or four tiers."""
    draw.rectangle([x - height * 0.03, foot_y - height * 0.2, x + height * 0.03, foot_y], fill=vary((104, 76, 60), rng))
    tiers = int(rng.integers(3, 5))
    for tier in range(tiers):
        bottom = foot_y - height * (0.12 + 0.6 * tier / tiers)
        top, half = bottom - height * 0.42, height * 0.26 * (1 - 0.7 * tier / tiers)
        draw.polygon([(x - half, bottom), (x + half, bottom), (x, top)], fill=mix(leaf, (230, 240, 210), 0.1 * tier))


def paint_house(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, foot_y: float, width: float, is_night: bool
) -> None:
    """A small gabled house with windows."""
    walls = ((240, 214, 178), (226, 176, 160), (206, 218, 226), (238, 226, 200), (196, 206, 176), (222, 190, 210))
    roofs = ((170, 84, 74), (96, 108, 142), (128, 92, 80), (84, 124, 118))
    wall, roof = (vary(colours[int(rng.integers(len(colours)))], rng, 8) for colours in (walls, roofs))
    if is_night:
        wall, roof = mix(wall, (30, 34, 80), 0.6), mix(roof, (22, 26, 66), 0.6)
    height, eaves = width * rng.uniform(0.8, 1.5), width * 0.1
    top = foot_y - height
    draw.rectangle([x, top, x + width, foot_y], fill=wall)
    draw.polygon(
        [(x - eaves, top), (x + width + eaves, top), (x + width * 0.5, top - width * rng.uniform(0.4, 0.6))], fill=roof
    )
    columns, rows = 2 if width > 40 else 1, max(1, int(height / width * 2))
    pane = width * 0.2
    for row in range(rows):
        for column in range(columns):
            left = x + width * (column + 0.5) / columns - pane / 2
            upper = top + height * (0.12 + 0.8 * row / rows)
            is_lit = is_night and rng.random() < 0.7
            glass = (255, 222, 130) if is_lit else mix((150, 190, 214), wall, 0.2)
            draw.rectangle([left, upper, left + pane, upper + pane * 1.2], fill=glass)


def paint_waves(image: Image.Image, rng: np.random.Generator, top_y: float, bottom_y: float, colour: RGB) -> None:
    """Light crests on water."""
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        depth = rng.random() ** 1.4
        x, y = rng.uniform(0, image.width), top_y + depth * (bottom_y - top_y)
        half = (0.015 + 0.05 * depth) * image.height
        width = max(1, round((0.004 + 0.006 * depth) * image.height))
        draw.arc(
            [x - 2 * half, y, x + 2 * half, y + half],
            200,
            340,
            fill=mix(colour, (255, 255, 255), rng.uniform(0.25, 0.6)),
            width=width,
        )


def paint_grass(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, size_px: tuple[int, int], top_y: float, colour: RGB, count: int
) -> None:
    """Tufts and a few flowers on the ground."""
    width, height = size_px
    for _ in range(count):
        x, y = rng.uniform(0, width), rng.uniform(top_y, height)
        length = height * rng.uniform(0.01, 0.03)
        for lean in (-0.5, 0.0, 0.5):
            draw.line(
                [(x, y), (x + lean * length, y - length)],
                fill=vary(mix(colour, (20, 60, 30), 0.25), rng, 10),
                width=max(1, height // 200),
            )
        if rng.random() < 0.2:
            radius = length * 0.28
            draw.ellipse(
                [x - radius, y - length - radius, x + radius, y - length + radius], fill=vary((244, 226, 170), rng, 30)
            )


def paint_bush(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, foot_y: float, radius: float, colour: RGB
) -> None:
    """A low bush or, in grey, a rock pile."""
    for shade in (mix(colour, (10, 30, 30), 0.25), colour):
        for _ in range(7):
            offset, size = rng.normal(0, 0.5) * radius, radius * rng.uniform(0.35, 0.6)
            centre_y = foot_y - radius * rng.uniform(0.1, 0.5)
            draw.ellipse([x + offset - size, centre_y - size, x + offset + size, foot_y + size], fill=shade)


def paint_bookcase(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, foot_y: float, width: float, height: float
) -> None:
    """A bookcase with coloured spines."""
    wood = vary((150, 106, 72), rng, 10)
    draw.rectangle([x, foot_y - height, x + width, foot_y], fill=wood)
    for shelf in range(3):
        top = foot_y - height + height * (0.06 + 0.31 * shelf)
        draw.rectangle(
            [x + width * 0.06, top, x + width * 0.94, top + height * 0.25], fill=mix(wood, (40, 24, 20), 0.5)
        )
        at = x + width * 0.08
        while at < x + width * 0.86:
            thick, tall = width * rng.uniform(0.04, 0.09), height * rng.uniform(0.15, 0.23)
            colour = mix((200, 120, 90), (90, 140, 190), rng.random())
            draw.rectangle(
                [at, top + height * 0.25 - tall, at + thick, top + height * 0.25], fill=vary(colour, rng, 30)
            )
            at += thick * 1.15


def paint_window(draw: ImageDraw.ImageDraw, x: float, y: float, width: float, height: float, glass: RGB) -> None:
    """A crossed window on a wall."""
    frame = width * 0.06
    draw.rectangle([x - frame, y - frame, x + width + frame, y + height + frame], fill=(246, 240, 228))
    draw.rectangle([x, y, x + width, y + height], fill=glass)
    draw.polygon(
        [
            (x, y + height * 0.8),
            (x + width * 0.5, y + height * 0.6),
            (x + width, y + height * 0.85),
            (x + width, y + height),
            (x, y + height),
        ],
        fill=mix(glass, (96, 160, 100), 0.6),
    )
    draw.rectangle([x + width / 2 - frame / 2, y, x + width / 2 + frame / 2, y + height], fill=(246, 240, 228))
    draw.rectangle([x, y + height * 0.45 - frame / 2, x + width, y + height * 0.45 + frame / 2], fill=(246, 240, 228))
