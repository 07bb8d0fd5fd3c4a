"""What is behind the character in each training image: the frame's own background, a plain one, another shot's plate.

Decisions only, from the seed and ids alone: of images and plates that come or go, few of the others change.
Pixels are `render`.
"""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from yokai_assets.datasets.seeding import digest, generator_of
from yokai_assets.settings.model import GroundShares

GroundKind = Literal["original", "plain", "plate", "transparent"]

_KINDS: tuple[GroundKind, ...] = ("transparent", "plate", "plain", "original")

MAX_FILLED_SHARE = 0.6
"""Plates of which more was never seen, and painted in, are not shown."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What is behind a character.

    Attributes:
        kind: Which sort.
        color: 8-bit sRGB of a plain ground, and what lies under transparency.
        tag: What a caption says of it; empty: nothing.
        plate: Clean plate, relative to the data root.
        place: Where in the plate the crop lies, as shares of the free width and height (0-1).
    """

    kind: GroundKind
    color: tuple[int, int, int] = (255, 255, 255)
    tag: str = ""
    plate: str = ""
    place: tuple[float, float] = (0.5, 0.5)


ORIGINAL = Ground("original")
TRANSPARENT = Ground("transparent", tag="transparent background")
WHITE = Ground("plain", (255, 255, 255), "white background")
GREY = Ground("plain", (128, 128, 128), "grey background")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image that needs a ground: whether its own will do is known."""

    instance_id: str
    episode: str
    shot: int
    has_own: bool


def plain_ground(instance_id: str, seed: int) -> Ground:
    """Return the plain ground of an image."""
    return draw_ground(generator_of(seed, instance_id))


def draw_ground(rng: np.random.Generator) -> Ground:
    """Draw a plain ground: white, grey or some pastel, so that no single colour is learnt as part of the character."""
    kind = rng.random()
    if kind < 0.4:
        return WHITE
    if kind < 0.65:
        return GREY
    hue, lightness, saturation = rng.random(), rng.uniform(0.82, 0.92), rng.uniform(0.4, 0.7)
    red, green, blue = colorsys.hls_to_rgb(float(hue), float(lightness), float(saturation))
    return Ground("plain", (round(red * 255), round(green * 255), round(blue * 255)), "simple background")


def assign_grounds(
    images: Sequence[Wanted], shares: GroundShares, plates: pl.DataFrame, seed: int
) -> dict[str, Ground]:
    """Return instance_id -> ground.

    Numbers follow the shares to the image (largest remainders). Images whose own background will not do get another
    one, and where only that was asked for, a plain one. Where no other shot has a plate, plain grounds take their part.

    Args:
        images: Images of one split.
        shares: The mixture asked for.
        plates: BACKGROUNDS that may be shown.
        seed: Of everything random.
    """
    usable = plates.filter(pl.col("filled_share") <= MAX_FILLED_SHARE).sort("episode", "shot")
    parts: dict[GroundKind, float] = {
        "transparent": shares.transparent,
        "plate": shares.plate if usable.height else 0.0,
        "plain": shares.plain + (0.0 if usable.height else shares.plate),
        "original": shares.original,
    }
    left = _numbers(parts, len(images))
    # Those without an own background choose first; within each part chance decides, by id.
    queue = sorted(images, key=lambda image: (image.has_own, digest(f"{seed}/{image.instance_id}"), image.instance_id))
    found = {}
    for image in queue:
        kind = _next_kind(left, has_own=image.has_own)
        left[kind] -= 1
        found[image.instance_id] = _ground(kind, image, usable, seed)
    return found


def _next_kind(left: Mapping[GroundKind, int], *, has_own: bool) -> GroundKind:
    for kind in _KINDS:
        if left[kind] > 0 and (has_own or kind != "original"):
            return kind
    return "plain"


def _ground(kind: GroundKind, image: Wanted, plates: pl.DataFrame, seed: int) -> Ground:
    match kind:
        case "original":
            return ORIGINAL
        case "transparent":
            return TRANSPARENT
        case "plate":
            is_own = (pl.col("episode") == image.episode) & (pl.col("shot") == image.shot)
            others = plates.filter(~is_own)["plate"]
            if others.len():
                rng = generator_of(seed, image.instance_id)
                plate = min(others, key=lambda name: digest(f"{seed}/{image.instance_id}/{name}"))
                return Ground("plate", plate=plate, place=(float(rng.random()), float(rng.random())))
    return plain_ground(image.instance_id, seed)


def _numbers(parts: Mapping[GroundKind, float], count: int) -> dict[GroundKind, int]:
    exact = {kind: count * parts[kind] / sum(parts.values()) for kind in _KINDS}
    numbers = {kind: int(exact[kind]) for kind in _KINDS}
    rest = sorted(_KINDS, key=lambda kind: numbers[kind] - exact[kind])[: count - sum(numbers.values())]
    return {kind: numbers[kind] + (kind in rest) for kind in _KINDS}
