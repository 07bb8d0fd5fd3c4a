"""Places of the demo series: painted panoramas in layers that move at different speeds as the camera pans.

Here belong: which painted elements make a place, its light, and the camera. Not here: the elements themselves
(:mod:`yokai_assets.demo.scenery`), or creatures in front of them (:mod:`yokai_assets.demo.compositing`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from yokai_assets.demo import scenery
from yokai_assets.demo.scenery import RGB, mix, vary

_SUPERSAMPLE = 2
_PAN_SHARE = 0.7
"""How far the camera can pan, as a share of the frame's width, for a layer of depth 1."""


@dataclass(frozen=True)
class Layer:
    """One sheet of a panorama; `depth` 0 stands still (the sky), 1 moves with the ground, more lies before it."""

    image: Image.Image
    depth: float


@dataclass(frozen=True)
class Scene:
    """A painted place.

    `ground_y` is where feet stand, as a share of the frame's height; `light` the gain of R, G and B that falls
    on creatures; `foreground` a layer that hides what stands behind it, or None.
    """

    place: str
    size_px: tuple[int, int]
    layers: tuple[Layer, ...]
    foreground: Layer | None
    ground_y: float
    light: tuple[float, float, float]

    def view(self, camera: float) -> Image.Image:
        """The background seen with the camera at `camera` (0 left end, 1 right end): RGB of `size_px`."""
        picture = Image.new("RGB", self.size_px)
        for layer in self.layers:
            crop = self._crop(layer, camera)
            picture.paste(crop, (0, 0), crop if crop.mode == "RGBA" else None)
        return picture

    def foreground_view(self, camera: float) -> Image.Image | None:
        """What stands before the creatures: RGBA of `size_px`, or None."""
        return None if self.foreground is None else self._crop(self.foreground, camera)

    def _crop(self, layer: Layer, camera: float) -> Image.Image:
        width, height = self.size_px
        left = round(min(max(camera, 0.0), 1.0) * (layer.image.width - width))
        return layer.image.crop((left, 0, left + width, height))


class _Canvas:
    """Supersampled sheets of a place that is being painted."""

    def __init__(self, size_px: tuple[int, int], rng: np.random.Generator) -> None:
        self.frame_px, self.rng = size_px, rng
        self.height = size_px[1] * _SUPERSAMPLE

    def sheet(self, depth: float, colour: tuple[RGB, RGB] | None = None) -> Image.Image:
        width = round(self.frame_px[0] * (1 + _PAN_SHARE * depth)) * _SUPERSAMPLE
        if colour is None:
            return Image.new("RGBA", (width, self.height), (0, 0, 0, 0))
        return scenery.gradient((width, self.height), *colour)

    def finish(self, sheet: Image.Image, depth: float, texture: float = 5.0) -> Layer:
        return Layer(scenery.brush_texture(sheet, self.rng, texture).reduce(_SUPERSAMPLE), depth)

    def along(self, sheet: Image.Image, spacing: float) -> list[float]:
        """Positions from left to right, about `spacing` canvas heights apart."""
        step = spacing * self.height
        count = int(sheet.width / step) + 1
        return [step * (index + self.rng.uniform(-0.35, 0.35)) for index in range(count + 1)]


@dataclass(frozen=True)
class _Air:
    """Sky and light of a time of day."""

    top: RGB
    bottom: RGB
    cloud: RGB
    light: tuple[float, float, float]
    is_night: bool = False


_DAY = _Air((96, 170, 230), (214, 238, 248), (255, 255, 255), (1.0, 1.0, 1.0))
_MORNING = _Air((140, 190, 226), (252, 232, 206), (255, 246, 236), (1.0, 0.97, 0.92))
_SUNSET = _Air((116, 96, 160), (252, 176, 122), (255, 206, 176), (1.02, 0.88, 0.8))
_OVERCAST = _Air((164, 180, 196), (222, 228, 230), (240, 242, 244), (0.93, 0.95, 0.98))
_NIGHT = _Air((18, 22, 62), (62, 74, 128), (74, 84, 136), (0.62, 0.68, 0.88), is_night=True)


def _tinted(colour: RGB, air: _Air) -> RGB:
    red, green, blue = (min(255, round(c * gain)) for c, gain in zip(colour, air.light, strict=True))
    return (red, green, blue) if not air.is_night else mix((red, green, blue), (22, 30, 78), 0.45)


def _paint_sky(canvas: _Canvas, air: _Air) -> Layer:
    rng, sheet = canvas.rng, canvas.sheet(0.12, (air.top, air.bottom))
    height = canvas.height
    if air.is_night:
        scenery.paint_stars(sheet, rng, 90, 0.6 * height)
        scenery.paint_disc(sheet, (rng.uniform(0.1, 0.9) * sheet.width, 0.18 * height), 0.07 * height, (250, 244, 214))
    elif rng.random() < 0.6:
        y = 0.42 if air is _SUNSET else 0.16
        scenery.paint_disc(sheet, (rng.uniform(0.1, 0.9) * sheet.width, y * height), 0.07 * height, (255, 244, 196))
    scenery.paint_clouds(sheet, rng, air.cloud, int(rng.integers(2, 6)), 0.4 * height)
    return canvas.finish(sheet, 0.12, 3.0)


def _paint_distance(canvas: _Canvas, air: _Air, colour: RGB, base_y: float, amplitude: float, roughness: int) -> Layer:
    sheet, height = canvas.sheet(0.3), canvas.height
    far = mix(_tinted(colour, air), air.bottom, 0.55)
    scenery.paint_hills(sheet, canvas.rng, base_y * height, amplitude * height, far, roughness)
    scenery.paint_hills(
        sheet,
        canvas.rng,
        (base_y + 0.08) * height,
        0.6 * amplitude * height,
        mix(far, _tinted(colour, air), 0.4),
        roughness,
    )
    return canvas.finish(sheet, 0.3)


def _paint_ground(canvas: _Canvas, colour: RGB, top_y: float, has_grass: bool) -> Layer:
    sheet, height = canvas.sheet(1.0), canvas.height
    scenery.paint_hills(sheet, canvas.rng, top_y * height, 0.012 * height, colour, 2)
    shade = scenery.gradient(sheet.size, mix(colour, (255, 255, 220), 0.08), mix(colour, (20, 30, 50), 0.18))
    sheet.paste(shade, (0, 0), sheet.getchannel("A"))
    if has_grass:
        scenery.paint_grass(ImageDraw.Draw(sheet), canvas.rng, sheet.size, (top_y + 0.03) * height, colour, 130)
    return canvas.finish(sheet, 1.0, 6.0)


def _paint_trees(
    canvas: _Canvas, air: _Air, leaf: RGB, foot_y: float, spacing: float, tallness: float, is_conifer: bool
) -> Layer:
    sheet = canvas.sheet(0.6)
    draw, rng, height = ImageDraw.Draw(sheet), canvas.rng, canvas.height
    paint = scenery.paint_conifer if is_conifer else scenery.paint_broadleaf
    for x in canvas.along(sheet, spacing):
        size = tallness * height * rng.uniform(0.75, 1.25)
        paint(draw, rng, x, (foot_y + rng.uniform(0, 0.03)) * height, size, _tinted(vary(leaf, rng, 18), air))
    return canvas.finish(sheet, 0.6)


def _paint_bushes(canvas: _Canvas, air: _Air, colour: RGB) -> Layer:
    """The foreground: a few clumps, out of focus."""
    sheet = canvas.sheet(1.5)
    draw, rng, height = ImageDraw.Draw(sheet), canvas.rng, canvas.height
    for x in canvas.along(sheet, 1.5):
        scenery.paint_bush(
            draw, rng, x, 1.02 * height, height * rng.uniform(0.14, 0.28), mix(_tinted(colour, air), (16, 30, 40), 0.3)
        )
    return canvas.finish(sheet.filter(ImageFilter.GaussianBlur(1.5)), 1.5)


def _paint_posts(canvas: _Canvas, air: _Air, colour: RGB) -> Layer:
    """The foreground: tall posts or trunks that hide a strip from top to bottom."""
    sheet = canvas.sheet(1.5)
    draw, rng, height = ImageDraw.Draw(sheet), canvas.rng, canvas.height
    for x in canvas.along(sheet, 1.7):
        half = height * rng.uniform(0.025, 0.06)
        shade = mix(_tinted(colour, air), (20, 20, 40), 0.3)
        draw.rectangle([x - half, 0, x + half, height], fill=shade)
        draw.rectangle([x - half, 0, x - half * 0.4, height], fill=mix(shade, (255, 240, 220), 0.15))
    return canvas.finish(sheet.filter(ImageFilter.GaussianBlur(1.5)), 1.5)


def _choose_air(rng: np.random.Generator, *airs: _Air) -> _Air:
    return airs[int(rng.integers(len(airs)))]


def _meadow(canvas: _Canvas) -> Scene:
    air = _choose_air(canvas.rng, _DAY, _MORNING, _OVERCAST)
    grass = _tinted(vary((128, 188, 96), canvas.rng, 12), air)
    layers = (
        _paint_sky(canvas, air),
        _paint_distance(canvas, air, (104, 160, 110), 0.56, 0.07, 3),
        _paint_trees(canvas, air, (92, 160, 84), 0.68, 0.9, 0.3, is_conifer=False),
        _paint_ground(canvas, grass, 0.66, has_grass=True),
    )
    return Scene("meadow", canvas.frame_px, layers, _paint_bushes(canvas, air, (92, 150, 80)), 0.8, air.light)


def _forest(canvas: _Canvas) -> Scene:
    air = _choose_air(canvas.rng, _DAY, _MORNING, _OVERCAST)
    moss = _tinted(vary((106, 146, 82), canvas.rng, 10), air)
    is_conifer = bool(canvas.rng.random() < 0.5)
    layers = (
        _paint_sky(canvas, air),
        _paint_distance(canvas, air, (70, 124, 92), 0.4, 0.05, 5),
        _paint_trees(canvas, air, (74, 132, 86), 0.64, 0.26, 0.5, is_conifer),
        _paint_trees(canvas, air, (58, 116, 70), 0.7, 0.55, 0.62, is_conifer),
        _paint_ground(canvas, moss, 0.68, has_grass=True),
    )
    return Scene("forest", canvas.frame_px, layers, _paint_posts(canvas, air, (108, 82, 62)), 0.82, air.light)


def _sea(canvas: _Canvas) -> Scene:
    air = _choose_air(canvas.rng, _DAY, _SUNSET, _MORNING)
    rng, height = canvas.rng, canvas.height
    water = _tinted((62, 146, 186), air)
    sheet = canvas.sheet(0.4)
    ImageDraw.Draw(sheet).rectangle([0, 0.46 * height, sheet.width, height], fill=water)
    shade = scenery.gradient(sheet.size, mix(water, air.bottom, 0.7), mix(water, (20, 50, 90), 0.15))
    sheet.paste(shade, (0, 0), sheet.getchannel("A"))
    scenery.paint_waves(sheet, rng, 0.47 * height, 0.74 * height, water)
    sand = _tinted(vary((236, 212, 160), rng, 8), air)
    layers = (
        _paint_sky(canvas, air),
        _paint_distance(canvas, air, (110, 140, 150), 0.5, 0.05, 4),
        canvas.finish(sheet, 0.4),
        _paint_ground(canvas, sand, 0.72, has_grass=False),
    )
    return Scene("sea", canvas.frame_px, layers, _paint_bushes(canvas, air, (132, 126, 124)), 0.84, air.light)


def _town(canvas: _Canvas, air: _Air | None = None, name: str = "town") -> Scene:
    air = air or _choose_air(canvas.rng, _DAY, _SUNSET, _MORNING)
    rng, height = canvas.rng, canvas.height
    houses = []
    for depth, foot_y, size in ((0.45, 0.66, 0.16), (0.7, 0.7, 0.24)):
        sheet = canvas.sheet(depth)
        draw = ImageDraw.Draw(sheet)
        for x in canvas.along(sheet, size * 1.25):
            scenery.paint_house(draw, rng, x, foot_y * height, size * height * rng.uniform(0.8, 1.15), air.is_night)
        houses.append(canvas.finish(sheet, depth))
    street = _tinted(vary((190, 180, 172), rng, 8), air)
    layers = (_paint_sky(canvas, air), *houses, _paint_ground(canvas, street, 0.69, has_grass=False))
    return Scene(name, canvas.frame_px, layers, _paint_posts(canvas, air, (92, 98, 116)), 0.83, air.light)


def _night_town(canvas: _Canvas) -> Scene:
    return _town(canvas, _NIGHT, "night town")


def _night_hills(canvas: _Canvas) -> Scene:
    layers = (
        _paint_sky(canvas, _NIGHT),
        _paint_distance(canvas, _NIGHT, (80, 100, 150), 0.58, 0.08, 4),
        _paint_trees(canvas, _NIGHT, (70, 110, 110), 0.7, 0.7, 0.32, is_conifer=True),
        _paint_ground(canvas, _tinted((90, 130, 110), _NIGHT), 0.68, has_grass=True),
    )
    return Scene("night sky", canvas.frame_px, layers, _paint_bushes(canvas, _NIGHT, (60, 100, 96)), 0.82, _NIGHT.light)


def _snow(canvas: _Canvas) -> Scene:
    air = _choose_air(canvas.rng, _DAY, _OVERCAST)
    layers = (
        _paint_sky(canvas, air),
        _paint_distance(canvas, air, (150, 170, 200), 0.5, 0.16, 6),
        _paint_trees(canvas, air, (96, 142, 130), 0.7, 0.6, 0.36, is_conifer=True),
        _paint_ground(canvas, _tinted((224, 232, 242), air), 0.68, has_grass=False),
    )
    return Scene("snow", canvas.frame_px, layers, _paint_bushes(canvas, air, (214, 224, 238)), 0.82, air.light)


def _room(canvas: _Canvas) -> Scene:
    rng, height = canvas.rng, canvas.height
    papers: tuple[RGB, ...] = ((226, 206, 178), (186, 206, 196), (204, 190, 214), (228, 190, 176), (176, 196, 216))
    paper = vary(papers[int(rng.integers(len(papers)))], rng, 8)
    sheet = canvas.sheet(0.8, (mix(paper, (255, 255, 240), 0.2), paper))
    draw = ImageDraw.Draw(sheet)
    stripe = mix(paper, (255, 250, 240), 0.25)
    for x in np.arange(0, sheet.width, 0.11 * height):
        draw.rectangle([x, 0, x + 0.035 * height, 0.7 * height], fill=stripe)
    for index, x in enumerate(canvas.along(sheet, 0.85)):
        if index % 2 == 0:
            scenery.paint_window(draw, x, 0.14 * height, 0.3 * height, 0.3 * height, (168, 212, 240))
        else:
            scenery.paint_bookcase(draw, rng, x, 0.72 * height, 0.34 * height, 0.52 * height)
    wood = vary((176, 128, 88), rng, 12)
    draw.rectangle([0, 0.68 * height, sheet.width, 0.72 * height], fill=mix(paper, (90, 60, 40), 0.4))
    floor = canvas.sheet(1.0)
    floor_draw = ImageDraw.Draw(floor)
    floor_draw.rectangle([0, 0.72 * height, floor.width, height], fill=wood)
    for y in (0.72, 0.77, 0.83, 0.91):
        floor_draw.line([(0, y * height), (floor.width, y * height)], fill=mix(wood, (60, 36, 24), 0.35), width=3)
    rug = vary((150, 96, 110), rng, 30)
    centre = floor.width * rng.uniform(0.3, 0.7)
    for reach, colour in ((0.55, rug), (0.45, mix(rug, (255, 240, 220), 0.3))):
        floor_draw.ellipse(
            [
                centre - reach * height,
                (0.9 - 0.16 * reach) * height,
                centre + reach * height,
                (0.9 + 0.16 * reach) * height,
            ],
            fill=colour,
        )
    light = (1.0, 0.96, 0.88) if rng.random() < 0.7 else (0.86, 0.8, 0.78)
    return Scene(
        "room",
        canvas.frame_px,
        (canvas.finish(sheet, 0.8), canvas.finish(floor, 1.0)),
        _paint_posts(canvas, _DAY, (150, 104, 76)),
        0.86,
        light,
    )


_PAINTERS: dict[str, Callable[[_Canvas], Scene]] = {
    "meadow": _meadow,
    "forest": _forest,
    "sea": _sea,
    "town": _town,
    "night town": _night_town,
    "night sky": _night_hills,
    "snow": _snow,
    "room": _room,
}
PLACES: tuple[str, ...] = tuple(_PAINTERS)
"""All places."""


def paint_scene(place: str, rng: np.random.Generator, size_px: tuple[int, int]) -> Scene:
    """Paints a place; the same generator state gives the same pixels.

    Args:
        place: one of :data:`PLACES`.
        rng: source of randomness.
        size_px: width and height of a frame.

    Raises:
        ValueError: the place is unknown.
    """
    if place not in _PAINTERS:
        raise ValueError(f"place {place!r} is unknown; choose from {', '.join(PLACES)}")
    return _PAINTERS[place](_Canvas(size_px, rng))
