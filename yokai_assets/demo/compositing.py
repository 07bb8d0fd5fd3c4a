"""Creatures before a scene: one frame, and which pixels of it show whom.

Not here: who acts how over time (:mod:`yokai_assets.demo.story`), or the painting of either part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from yokai_assets.demo.creatures import CreatureDesign, CreaturePose, draw_creature
from yokai_assets.demo.scenes import Scene

_FEET_Y = 0.9
"""Where feet stand in a creature's canvas, as a share of its side."""


@dataclass(frozen=True)
class Actor:
    """A creature in a frame.

    `x` is the middle of its canvas as a share of the frame's width, `feet_y` where its feet stand as a share
    of the frame's height, `size_px` the side of its square canvas.
    """

    design: CreatureDesign
    pose: CreaturePose
    x: float
    feet_y: float
    size_px: int


@dataclass(frozen=True)
class Composite:
    """A frame and its truth.

    `image` is RGB; `alphas` has for each actor the visible alpha, (H, W) uint8: what is hidden by other
    creatures, by the foreground or by the frame's edge is 0. `full_areas_px` is each actor's alpha area if
    nothing hid it.
    """

    image: Image.Image
    alphas: list[NDArray[np.uint8]]
    full_areas_px: list[float]


def _cast_shadow(picture: Image.Image, actor: Actor) -> None:
    width, height = picture.size
    x, y, half = actor.x * width, actor.feet_y * height, actor.size_px * 0.26
    shadow = Image.new("L", picture.size, 0)
    ImageDraw.Draw(shadow).ellipse([x - half, y - half * 0.16, x + half, y + half * 0.2], fill=95)
    blurred = shadow.filter(ImageFilter.GaussianBlur(max(1.0, actor.size_px / 60)))
    picture.paste(Image.new("RGB", picture.size, (24, 22, 48)), (0, 0), blurred)


def compose(scene: Scene, camera: float, actors: list[Actor], has_foreground: bool, supersample: int = 4) -> Composite:
    """Draws the frame.

    Args:
        scene: the place.
        camera: 0 at the left end of the panorama, 1 at the right.
        actors: from back to front.
        has_foreground: whether the scene's foreground layer is in the picture.
        supersample: of the creatures' drawing.
    """
    picture = scene.view(camera)
    alphas: list[Image.Image] = []
    full_areas: list[float] = []
    for actor in actors:
        lit = replace(actor.pose, light=_multiply(actor.pose.light, scene.light))
        creature = draw_creature(actor.design, lit, actor.size_px, supersample)
        corner = (
            round(actor.x * picture.width - actor.size_px / 2),
            round(actor.feet_y * picture.height - _FEET_Y * actor.size_px),
        )
        _cast_shadow(picture, actor)
        picture.paste(creature, corner, creature)
        own = Image.new("L", picture.size, 0)
        own.paste(creature.getchannel("A"), corner)
        alphas = [_hide(alpha, own) for alpha in alphas]
        alphas.append(own)
        full_areas.append(float(np.asarray(creature.getchannel("A"), dtype=np.float64).sum() / 255))
    foreground = scene.foreground_view(camera) if has_foreground else None
    if foreground is not None:
        picture.paste(foreground, (0, 0), foreground)
        alphas = [_hide(alpha, foreground.getchannel("A")) for alpha in alphas]
    return Composite(picture, [np.asarray(alpha, dtype=np.uint8) for alpha in alphas], full_areas)


def _hide(alpha: Image.Image, cover: Image.Image) -> Image.Image:
    return ImageChops.multiply(alpha, ImageChops.invert(cover))


def _multiply(first: tuple[float, float, float], second: tuple[float, float, float]) -> tuple[float, float, float]:
    return first[0] * second[0], first[1] * second[1], first[2] * second[2]
