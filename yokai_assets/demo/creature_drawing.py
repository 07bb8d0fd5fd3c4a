"""Drawing of demo creatures: a design and a pose become pixels with anti-aliased alpha.

Not here: which creatures exist and what they are called (:mod:`yokai_assets.demo.creature_traits`).

All shapes are given in *creature units*: x right, y down, the canvas spans a little
less than -1..1 on both axes at scale 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from yokai_assets.demo.backgrounds import draw_background
from yokai_assets.demo.creature_traits import COLOURS, CreatureDesign, CreaturePose

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]] | NDArray[np.float64]

_OUTLINE: RGB = (40, 32, 46)
_WHITE: RGB = (255, 255, 255)
_OUTLINE_WIDTH = 0.052
_BODY_CENTRE_Y = 0.1
_UNIT = 1.05  # fills the canvas: the largest creatures reach just short of its edge
_HALF_SIZES = {
    "round": (0.47, 0.47),
    "tall": (0.37, 0.53),
    "wide": (0.58, 0.40),
    "square": (0.44, 0.44),
    "pear-shaped": (0.48, 0.50),
}


def _shade(colour: RGB, factor: float) -> RGB:
    """Darker below 1, mixed with white above 1."""
    if factor <= 1:
        red, green, blue = (int(channel * factor) for channel in colour)
        return red, green, blue
    red, green, blue = (int(channel + (255 - channel) * (factor - 1)) for channel in colour)
    return red, green, blue


def _ellipse(
    x: float,
    y: float,
    radius_x: float,
    radius_y: float,
    start: float = 0.0,
    end: float = 2 * math.pi,
    count: int = 28,
) -> NDArray[np.float64]:
    """Points on an arc; angles in radians, 0 to the right, growing downwards."""
    angles = np.linspace(start, end, count)
    return np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)


@lru_cache(maxsize=256)
def _body_outline(shape: str, width: float, height: float) -> NDArray[np.float64]:
    """The body's outline, (64, 2) creature units."""
    half_width, half_height = _HALF_SIZES[shape]
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    cosine, sine = np.cos(angles), np.sin(angles)
    if shape == "square":  # a superellipse, so that corners are round
        cosine, sine = (np.sign(values) * np.abs(values) ** 0.45 for values in (cosine, sine))
    if shape == "pear-shaped":
        cosine = cosine * (0.76 + 0.26 * sine)
    outline = np.stack([half_width * width * cosine, _BODY_CENTRE_Y + half_height * height * sine], axis=1)
    outline.setflags(write=False)
    return outline


class _Brush:
    """Draws shapes of creature units on a supersampled canvas, under the pose's tilt, flip and scale."""

    def __init__(self, side_px: int, pose: CreaturePose) -> None:
        self.image = Image.new("RGBA", (side_px, side_px), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)
        self.unit_px = side_px / 2 * _UNIT * pose.scale
        self.outline_px = max(2, round(self.unit_px * _OUTLINE_WIDTH))
        cosine, sine = math.cos(pose.tilt), math.sin(pose.tilt)
        sign = -1.0 if pose.is_flipped else 1.0
        stretch = np.array([[sign * pose.squash, 0.0], [0.0, 1.0 / pose.squash]])
        self._matrix = self.unit_px * (np.array([[cosine, -sine], [sine, cosine]]) @ stretch).T
        self._centre = side_px / 2

    def to_pixels(self, points: Points) -> list[tuple[float, float]]:
        pixels = np.asarray(points, dtype=np.float64) @ self._matrix + self._centre
        return [(x, y) for x, y in pixels.tolist()]

    def fill(self, points: Points, colour: RGB, has_outline: bool = True) -> None:
        pixels = self.to_pixels(points)
        self.draw.polygon(pixels, fill=colour)
        if has_outline:
            self.outline(points)

    def outline(self, points: Points) -> None:
        pixels = self.to_pixels(points)
        self.draw.line([*pixels, *pixels[:2]], fill=_OUTLINE, width=self.outline_px, joint="curve")

    def stroke(self, points: Points, colour: RGB, width_px: float) -> None:
        pixels = self.to_pixels(points)
        self.draw.line(pixels, fill=colour, width=round(width_px), joint="curve")
        radius = width_px / 2
        for x, y in (pixels[0], pixels[-1]):
            self.draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)

    def limb(self, points: Points, colour: RGB, width: float) -> None:
        self.stroke(points, _OUTLINE, width * self.unit_px + 1.7 * self.outline_px)
        self.stroke(points, colour, width * self.unit_px)


class _Figure:
    """One creature being drawn: the body's measures that all its parts hang on."""

    def __init__(self, design: CreatureDesign, pose: CreaturePose, brush: _Brush) -> None:
        self.design, self.pose, self.brush = design, pose, brush
        self.body = _body_outline(design.body_shape, design.body_width, design.body_height)
        self.half_width = float(self.body[:, 0].max())
        self.top_y, self.bottom_y = float(self.body[:, 1].min()), float(self.body[:, 1].max())
        self.colour, self.accent = COLOURS[design.body_colour], COLOURS[design.accent_colour]

    def half_width_at(self, y: float) -> float:
        right = self.body[self.body[:, 0] >= 0]
        order = np.argsort(right[:, 1])
        return float(np.interp(y, right[order, 1], right[order, 0]))

    def upper_edge_at(self, x: float) -> float:
        upper = self.body[self.body[:, 1] <= _BODY_CENTRE_Y]
        order = np.argsort(upper[:, 0])
        return float(np.interp(x, upper[order, 0], upper[order, 1]))


def _draw_wings(figure: _Figure) -> None:
    inner, outer = figure.half_width * 0.6, min(figure.half_width + 0.34, 0.86)
    for side in (-1, 1):
        shape = [
            (inner, -0.06),
            (outer, -0.36),
            (outer, -0.06),
            (outer - 0.1, 0.02),
            (outer - 0.12, 0.16),
            (inner, 0.2),
        ]
        figure.brush.fill([(side * x, y) for x, y in shape], _shade(figure.accent, 1.35))


def _draw_tail(figure: _Figure) -> None:
    start = figure.half_width * 0.6
    if figure.design.tail == "curly":
        along = np.linspace(0, 1, 18)
        x = start + (min(figure.half_width + 0.28, 0.8) - start) * along
        figure.brush.limb(np.stack([x, 0.36 + 0.08 * np.sin(9 * along) - 0.1 * along], axis=1), figure.colour, 0.1)
    elif figure.design.tail == "pointed":
        end = min(figure.half_width + 0.18, 0.64)
        figure.brush.limb([(start, 0.36), (end, 0.4)], figure.colour, 0.07)
        figure.brush.fill([(end, 0.26), (end + 0.2, 0.4), (end, 0.54)], figure.accent)


def _draw_legs(figure: _Figure) -> None:
    if figure.design.legs == "none":
        return
    is_two = figure.design.legs == "two"
    fractions = (-0.42, 0.42) if is_two else (-0.66, -0.24, 0.24, 0.66)
    thickness, foot = (0.17, 0.15) if is_two else (0.12, 0.11)
    ground_y = _ground_y(figure)
    for index, fraction in enumerate(fractions):
        angle = 2 * math.pi * (figure.pose.walk_phase + index / 2)
        swing = math.sin(2 * math.pi * figure.pose.walk_phase) * math.cos(math.pi * index) * 0.07
        lift = max(0.0, math.sin(angle)) * 0.05
        hip_x = fraction * figure.half_width
        foot_x, foot_y = hip_x + swing, ground_y - lift
        colour = _shade(figure.colour, 0.82)
        figure.brush.limb([(hip_x, figure.bottom_y - 0.16), (foot_x, foot_y - 0.04)], colour, thickness)
        figure.brush.fill(_ellipse(foot_x + 0.02, foot_y, foot, 0.075), colour)


def _ground_y(figure: _Figure) -> float:
    """Height of the feet when standing."""
    return figure.bottom_y + 0.17


def _draw_arms(figure: _Figure) -> None:
    shoulder_y = _BODY_CENTRE_Y + 0.12
    shoulder_x = figure.half_width_at(shoulder_y)
    for side in (-1, 1):
        is_up = figure.pose.arms == "up" or (figure.pose.arms == "waving" and side == 1)
        rise = -0.36 if is_up else 0.22
        hand = (side * min(shoulder_x + 0.19, 0.76), shoulder_y + rise)
        elbow = (side * min(shoulder_x + 0.14, 0.73), shoulder_y + rise * 0.35)
        figure.brush.limb([(side * shoulder_x * 0.8, shoulder_y), elbow, hand], figure.colour, 0.15)


def _draw_top(figure: _Figure) -> None:
    top, size, brush = figure.design.top, figure.design.top_size, figure.brush
    if top == "none":
        return
    x = (0.3 if top in {"antennae", "bunny ears"} else 0.52) * min(figure.half_width, 0.5)
    y = figure.upper_edge_at(x) + 0.04

    def part(side: int, points: Points) -> NDArray[np.float64]:
        return (np.asarray(points) * size + [x, y]) * [side, 1]

    for side in (-1, 1):
        if top == "horns":
            brush.fill(
                part(side, [(-0.1, 0.08), (-0.02, -0.14), (0.13, -0.32), (0.16, -0.08), (0.12, 0.12)]),
                figure.accent,
            )
        elif top == "pointy ears":
            brush.fill(part(side, [(-0.18, 0.06), (0.1, -0.33), (0.2, 0.18)]), figure.colour)
            brush.fill(part(side, [(-0.07, 0.04), (0.08, -0.2), (0.13, 0.1)]), figure.accent, has_outline=False)
        elif top == "round ears":
            brush.fill(part(side, _ellipse(0.06, -0.08, 0.19, 0.19)), figure.colour)
            brush.fill(part(side, _ellipse(0.06, -0.08, 0.1, 0.1)), figure.accent, has_outline=False)
        elif top == "bunny ears":
            brush.fill(part(side, _ellipse(0.03, -0.12, 0.115, 0.26)), figure.colour)
            brush.fill(part(side, _ellipse(0.03, -0.12, 0.055, 0.17)), figure.accent, has_outline=False)
        else:
            brush.stroke(part(side, [(0, 0.06), (0.04, -0.16), (0.14, -0.26)]), _OUTLINE, brush.outline_px * 1.2)
            brush.fill(part(side, _ellipse(0.14, -0.28, 0.1, 0.1)), figure.accent)


def _pattern_shapes(figure: _Figure) -> list[Points]:
    middle, bottom, width = _BODY_CENTRE_Y, figure.bottom_y, figure.half_width
    if figure.design.pattern == "stripes":
        return [[(-1, y - 0.07), (1, y - 0.07), (1, y + 0.07), (-1, y + 0.07)] for y in (-0.32, -0.03, 0.26, 0.55)]
    if figure.design.pattern == "spots":
        spots = (
            (-0.72, -0.44),
            (0.72, -0.44),
            (-0.74, 0.36),
            (0.74, 0.36),
            (0.0, 0.82),
        )
        half_height = bottom - middle
        return [_ellipse(x * width, middle + y * half_height, 0.13, 0.13, count=18) for x, y in spots]
    if figure.design.pattern == "belly":
        return [_ellipse(0, bottom - 0.2, width * 0.62, 0.28)]
    return []


def _draw_body(figure: _Figure) -> None:
    brush = figure.brush
    brush.fill(figure.body, figure.colour, has_outline=False)
    shapes = _pattern_shapes(figure)
    if shapes and figure.design.pattern_colour:
        body_mask, pattern_mask = (Image.new("L", brush.image.size, 0) for _ in range(2))
        ImageDraw.Draw(body_mask).polygon(brush.to_pixels(figure.body), fill=255)
        for shape in shapes:
            ImageDraw.Draw(pattern_mask).polygon(brush.to_pixels(shape), fill=255)
        brush.image.paste(COLOURS[figure.design.pattern_colour], (0, 0), ImageChops.multiply(body_mask, pattern_mask))
    brush.outline(figure.body)


def _draw_eyes(figure: _Figure) -> float:
    """Draws the eyes and eyebrows; returns the lowest point of the eyes."""
    brush, pose = figure.brush, figure.pose
    spacing = min(1.0, figure.half_width / 0.47)
    offsets, radius = {
        "one": ([(0.0, -0.01)], 0.24),
        "two": ([(-0.18, 0.0), (0.18, 0.0)], 0.165),
        "three": ([(-0.26 * spacing, 0.06), (0.0, -0.12), (0.26 * spacing, 0.06)], 0.135),
    }[figure.design.eyes]
    radius *= figure.design.eye_size
    eye_y = _BODY_CENTRE_Y - 0.14
    # The flip mirrors the figure, but eyes look where the pose says.
    look_x = -pose.gaze[0] if pose.is_flipped else pose.gaze[0]
    reach = 0.2 * radius
    for x, y in offsets:
        brush.fill(_ellipse(x, eye_y + y, radius, radius * 1.06), _WHITE)
        pupil_x, pupil_y = x + look_x * reach, eye_y + y + pose.gaze[1] * reach * 0.8
        brush.fill(_ellipse(pupil_x, pupil_y, radius * 0.56, radius * 0.6), _OUTLINE, has_outline=False)
    if pose.expression in {"angry", "sad"}:
        slope = 0.07 if pose.expression == "angry" else -0.07
        inner = 0.16 if figure.design.eyes == "three" else 0.06  # the third eye lies between
        brow_y, outer = eye_y - radius * 0.92, radius + abs(offsets[0][0]) * 0.75
        for side in (-1, 1):
            brow = [(side * inner, brow_y + slope), (side * outer, brow_y - slope)]
            brush.stroke(brow, _OUTLINE, brush.outline_px * 1.9)
    return eye_y + radius * 1.06


def _draw_mouth(figure: _Figure, eyes_bottom_y: float) -> None:
    brush, expression = figure.brush, figure.pose.expression
    y, thick_px = eyes_bottom_y + 0.1, brush.outline_px * 1.4
    if expression == "happy":
        brush.fill(_ellipse(0, y - 0.05, 0.18, 0.17, 0, math.pi, count=16), (176, 44, 60))
    elif expression == "sad":
        brush.stroke(_ellipse(0, y + 0.08, 0.13, 0.1, 1.1 * math.pi, 1.9 * math.pi, count=14), _OUTLINE, thick_px)
    elif expression == "surprised":
        brush.fill(_ellipse(0, y + 0.02, 0.09, 0.11, count=20), (176, 44, 60))
    elif expression == "angry":
        brush.stroke([(-0.12, y + 0.02), (0.12, y + 0.02)], _OUTLINE, thick_px)
    else:
        brush.stroke([(-0.17, y - 0.01), (0.17, y - 0.01)], _OUTLINE, thick_px)
        for side in (-1, 1):
            brush.fill([(side * 0.03, y), (side * 0.15, y), (side * 0.09, y + 0.14)], _WHITE)


def _draw_accessory(figure: _Figure) -> None:
    design, brush = figure.design, figure.brush
    if design.accessory == "none" or design.accessory_colour is None:
        return
    colour = COLOURS[design.accessory_colour]
    if design.accessory == "hat":
        y = figure.top_y
        brush.fill([(-0.19, y + 0.02), (-0.17, y - 0.22), (0.17, y - 0.22), (0.19, y + 0.02)], colour)
        brush.fill([(-0.28, y), (0.28, y), (0.28, y + 0.08), (-0.28, y + 0.08)], colour)
        return
    y = _BODY_CENTRE_Y + 0.76 * (figure.bottom_y - _BODY_CENTRE_Y)
    if design.accessory == "scarf":
        half = figure.half_width_at(y) + 0.03
        brush.fill([(-half, y - 0.08), (half, y - 0.08), (half, y + 0.06), (-half, y + 0.06)], colour)
        brush.fill([(0.08, y), (0.25, y), (0.28, y + 0.27), (0.1, y + 0.27)], colour)
    else:
        for side in (-1, 1):
            brush.fill([(0, y), (side * 0.22, y - 0.12), (side * 0.22, y + 0.12)], colour)
        brush.fill(_ellipse(0, y, 0.06, 0.07, count=16), _shade(colour, 0.8))


def _apply_light(image: Image.Image, light: tuple[float, float, float]) -> Image.Image:
    if light == (1.0, 1.0, 1.0):
        return image
    *colours, alpha = image.split()
    lit = [
        band.point([min(255, round(level * gain)) for level in range(256)])
        for band, gain in zip(colours, light, strict=True)
    ]
    return Image.merge("RGBA", (*lit, alpha))


def draw_creature(design: CreatureDesign, pose: CreaturePose, size_px: int, supersample: int = 4) -> Image.Image:
    """Draws a creature on a transparent square; the same design and pose give the same pixels.

    Args:
        design: who.
        pose: how.
        size_px: side of the canvas; up to the spread of `sample_pose` the creature stays within it.
        supersample: the drawing is made this many times larger, then averaged down.

    Returns:
        RGBA (straight, not premultiplied alpha), `size_px` × `size_px`.

    Raises:
        ValueError: `size_px` or `supersample` below 1.
    """
    if size_px < 1 or supersample < 1:
        raise ValueError(f"size_px and supersample must be at least 1, got {size_px} and {supersample}")
    brush = _Brush(size_px * supersample, pose)
    figure = _Figure(design, pose, brush)
    if design.has_wings:
        _draw_wings(figure)
    for draw_part in (_draw_tail, _draw_legs, _draw_arms, _draw_top, _draw_body):
        draw_part(figure)
    _draw_mouth(figure, _draw_eyes(figure))
    _draw_accessory(figure)
    image = brush.image.reduce(supersample) if supersample > 1 else brush.image
    return _apply_light(image, pose.light)


def draw_portrait(
    design: CreatureDesign, pose: CreaturePose, background: str, size_px: int, supersample: int = 4
) -> Image.Image:
    """A creature before a named background: RGB, `size_px` × `size_px`.

    Raises:
        ValueError: the background is unknown, or a size is below 1.
    """
    creature = draw_creature(design, pose, size_px, supersample)
    portrait = draw_background(background, size_px, supersample)
    portrait.paste(creature, (0, 0), creature)
    return portrait
