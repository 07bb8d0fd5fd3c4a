"""The colours of a character: few, from its own pixels only, in order of share, with names.

Colours only; which cut-outs they are read from is decided by `profile`.
"""

import warnings
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

_PIXELS_PER_IMAGE = 600
_SOLID_ALPHA = 200
_SAME_COLOR_DELTA_E = 12.0

NAMED_COLORS: dict[str, tuple[int, int, int]] = {
    "black": (20, 18, 20),
    "dark grey": (70, 70, 72),
    "grey": (128, 128, 128),
    "light grey": (200, 200, 202),
    "white": (250, 250, 248),
    "cream": (250, 240, 208),
    "beige": (226, 204, 166),
    "skin": (246, 212, 182),
    "tan": (206, 160, 112),
    "brown": (134, 88, 54),
    "dark brown": (74, 46, 30),
    "maroon": (120, 28, 36),
    "red": (214, 44, 44),
    "salmon": (250, 136, 118),
    "orange": (246, 142, 36),
    "gold": (222, 176, 40),
    "yellow": (252, 222, 66),
    "olive": (130, 130, 46),
    "lime": (166, 214, 56),
    "green": (66, 166, 72),
    "dark green": (26, 84, 48),
    "mint": (170, 232, 200),
    "teal": (24, 132, 132),
    "turquoise": (74, 208, 204),
    "sky blue": (134, 200, 242),
    "blue": (50, 108, 218),
    "navy": (28, 36, 92),
    "indigo": (76, 52, 156),
    "purple": (134, 66, 190),
    "lavender": (198, 178, 236),
    "magenta": (212, 48, 160),
    "pink": (248, 150, 192),
    "pale pink": (252, 214, 224),
}
"""Everyday colour names as 8-bit sRGB; a colour is named after the nearest one (CIEDE2000)."""


class PaletteColor(BaseModel):
    """One colour of a palette: `hex` as `#rrggbb`, its everyday name, and its share of the character's area (0-1)."""

    model_config = ConfigDict(frozen=True)

    hex: str
    name: str
    share: float


def extract_palette(cutouts: Iterable[Image.Image], colors: int, seed: int) -> list[PaletteColor]:
    """Find the main colours of cut-outs by k-means in CIELAB, where distances are near to what eyes see.

    Every image counts the same, whatever its size. Twice as many colours as asked for are sought, and those
    that look alike are put together, so that a large flat area does not take several places.

    Args:
        cutouts: RGBA pictures; only solid pixels count.
        colors: Most colours to return.
        seed: Of the pixel sample and of k-means.

    Returns:
        Colours by falling share; empty where there is no solid pixel. Shares sum to at most 1.
    """
    from scipy.cluster.vq import kmeans2
    from skimage.color import rgb2lab

    samples = [pixels for cutout in cutouts if len(pixels := _solid_pixels(cutout, seed))]
    if not samples:
        return []
    rgb = np.concatenate(samples)
    lab = np.asarray(rgb2lab(rgb[None] / 255.0))[0]
    clusters = min(2 * colors, len(np.unique(rgb, axis=0)))
    with warnings.catch_warnings(action="ignore"):  # an emptied cluster has share 0 and is left out below
        start = _spread_start(lab, clusters, np.random.default_rng(seed))
        centers, labels = kmeans2(lab, start, iter=30, minit="matrix")
    shares = np.bincount(labels, minlength=len(centers)) / len(labels)
    return _named(_merged(centers, shares)[:colors])


def color_name(rgb: tuple[int, int, int]) -> str:
    """Return the everyday name of an 8-bit sRGB colour."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    known = rgb2lab(np.asarray(list(NAMED_COLORS.values()))[None] / 255.0)[0]
    wanted = rgb2lab(np.asarray(rgb, float)[None, None] / 255.0)[0]
    return list(NAMED_COLORS)[int(np.argmin(deltaE_ciede2000(known, wanted)))]


def _solid_pixels(cutout: Image.Image, seed: int) -> NDArray[np.uint8]:
    rgba = np.asarray(cutout.convert("RGBA"))
    pixels = rgba[rgba[..., 3] >= _SOLID_ALPHA][:, :3]
    if not len(pixels):
        return pixels
    rng = np.random.default_rng(seed)
    return pixels[rng.choice(len(pixels), _PIXELS_PER_IMAGE, replace=len(pixels) < _PIXELS_PER_IMAGE)]


def _spread_start(lab: NDArray[np.floating], count: int, rng: np.random.Generator) -> NDArray[np.floating]:
    """Draw starting centres far from each other (k-means++, Arthur and Vassilvitskii 2007)."""
    chosen = [int(rng.integers(len(lab)))]
    squared = ((lab - lab[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count:
        chosen.append(int(rng.choice(len(lab), p=squared / squared.sum())))
        squared = np.minimum(squared, ((lab - lab[chosen[-1]]) ** 2).sum(axis=1))
    return lab[chosen]


def _merged(centers: NDArray[np.floating], shares: NDArray[np.floating]) -> list[tuple[NDArray[np.floating], float]]:
    """Put look-alikes together, largest first; the larger one gives the colour."""
    from skimage.color import deltaE_ciede2000

    kept: list[tuple[NDArray[np.floating], float]] = []
    for index in np.argsort(-shares, kind="stable"):
        if not shares[index]:
            break
        for place, (center, share) in enumerate(kept):
            if float(deltaE_ciede2000(center, centers[index])) < _SAME_COLOR_DELTA_E:
                kept[place] = (center, share + float(shares[index]))
                break
        else:
            kept.append((centers[index], float(shares[index])))
    return sorted(kept, key=lambda item: -item[1])


def _named(colors: list[tuple[NDArray[np.floating], float]]) -> list[PaletteColor]:
    from skimage.color import lab2rgb

    palette = []
    for center, share in colors:
        red, green, blue = (int(v) for v in np.clip(np.round(lab2rgb(center[None, None])[0, 0] * 255), 0, 255))
        palette.append(
            PaletteColor(
                hex=f"#{red:02x}{green:02x}{blue:02x}", name=color_name((red, green, blue)), share=round(share, 4)
            )
        )
    return palette
