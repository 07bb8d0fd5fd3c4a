"""Are the looks of a character told apart, and is a character with one look left whole? Foreign figures, dressed anew.

`python -m yokai_assets_tests.benchmarks.outfits [--weights FOLDER] [--seeds 0,1,2]`, about two minutes a seed. Each
character is a drawn figure (Fluent Emoji 3D) in 30 to 110 cut-outs, each varied as in benchmark `identities`; a row of
the table draws 16 characters a seed. Who has several looks either has the hue of its lower half turned by 90 degrees
(only figures on which that is plainly visible) or a band of its body dyed. Shots put half of the images under night,
sunset or fog, some images in a row; close-ups show the upper half or less.

Found: the groups agree with the looks (adjusted Rand index of at least .8), close-ups aside, for on many of them no
clothes are seen. Split: there are more groups than looks. Who is who is given, so that mistakes of clustering are not
counted here. `find_outfits` needs vectors only for images with next to no solid pixel, so all get the same vector, and
no network is needed. Fetched figures are kept in `--weights`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from yokai_assets.analysis.outfits import find_outfits
from yokai_assets.demo.real_data import NotFetched, fetch_figures
from yokai_assets_tests.benchmarks.identities import recoloured, varied

CHARACTERS = 16
"""Drawn for each row and seed, of different figures."""

FOUND_ARI = 0.8

MOST_IMAGES = 110

MIN_VISIBLE, VISIBLE_DIFFERENCE = 0.15, 15
"""A turned hue is plainly visible where this share of the figure changes by more than this (CIEDE2000)."""

LIGHTS = {
    "day": ((1, 1, 1), (0, 0, 0)),
    "night": ((0.30, 0.42, 0.80), (6, 10, 30)),
    "sunset": ((1.05, 0.66, 0.42), (30, 8, 0)),
    "fog": ((0.60, 0.62, 0.65), (80, 82, 88)),
}
"""Gain and offset of red, green and blue."""

LIGHT_SHARES = (0.5, 0.25, 0.15, 0.1)
LONGEST_SHOT = 7

DYES = (
    (200, 40, 50), (40, 90, 190), (60, 150, 70), (230, 200, 60), (60, 50, 60), (235, 230, 225), (130, 60, 160),
)  # fmt: skip
DYED_BAND = (0.45, 0.85)
CLOSE_UP = (0.35, 0.55)
"""Shares of the height, from the top."""

SOLID_ALPHA = 200


@dataclass(frozen=True, slots=True)
class Kind:
    """How the characters of one row are drawn.

    Attributes:
        name: As the table prints it.
        shares: Probability of each look in an image; they sum to 1.
        change: What differs between looks.
        has_shots: Whether light changes by shots.
        close_ups: Probability that an image is a close-up.
        fewest: Images of a character, at least.
    """

    name: str
    shares: tuple[float, ...] = (1.0,)
    change: Literal["nothing", "hue", "clothes"] = "nothing"
    has_shots: bool = False
    close_ups: float = 0.0
    fewest: int = 30


KINDS = (
    Kind("hue, 35 %", (0.65, 0.35), "hue"),
    Kind("hue, 12 %", (0.88, 0.12), "hue", fewest=60),
    Kind("hue, 35 %, shots", (0.65, 0.35), "hue", has_shots=True),
    Kind("clothes, 35 %", (0.65, 0.35), "clothes"),
    Kind("clothes, 40 %, close-ups", (0.6, 0.4), "clothes", close_ups=0.3),
    Kind("clothes, 40 %, shots, close-ups", (0.6, 0.4), "clothes", has_shots=True, close_ups=0.25),
    Kind("clothes, three looks (50, 30, 20 %)", (0.5, 0.3, 0.2), "clothes"),
    Kind("one look, as in `identities`"),
    Kind("one look, shots", has_shots=True),
    Kind("one look, close-ups", close_ups=0.3),
    Kind("one look, shots, close-ups", has_shots=True, close_ups=0.3),
)


@dataclass(frozen=True, slots=True)
class Character:
    """Cut-outs of a character, the look that each shows, and whether it is a close-up."""

    cutouts: list[Image.Image]
    looks: NDArray[np.int64]
    is_close_up: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a character: see the docstring of the module; `is_one` where it was left as one look."""

    is_found: bool
    is_one: bool
    is_split: bool


def visible_share(figure: Image.Image) -> float:
    """Return the share of the figure (0-1) that plainly changes where the hue of its lower half is turned."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    is_solid = np.asarray(figure)[..., 3] > SOLID_ALPHA
    before, after = (np.asarray(rgb2lab(np.asarray(one.convert("RGB"))))[is_solid] for one in (figure, turned(figure)))
    return float((np.asarray(deltaE_ciede2000(before, after)) > VISIBLE_DIFFERENCE).mean())


def turned(figure: Image.Image) -> Image.Image:
    """Return the figure in its second outfit, as `varied` draws it."""
    return recoloured(figure, 90)


def dyed(figure: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Give a band of the body another colour, its shading kept: clothes."""
    pixels = np.array(figure, np.float64)
    band = slice(*(int(share * len(pixels)) for share in DYED_BAND))
    shading = pixels[band, :, :3].mean(axis=2, keepdims=True)
    shading /= max(1.0, float(shading[pixels[band, :, 3] > SOLID_ALPHA].mean()))
    pixels[band, :, :3] = np.clip(shading * colour, 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def lit(picture: Image.Image, light: str, rng: np.random.Generator) -> Image.Image:
    """Return the picture in a light of `LIGHTS`, a little different each time."""
    if light == "day":
        return picture
    gain, offset = map(np.array, LIGHTS[light])
    pixels = np.array(picture, np.float64)
    pixels[..., :3] = pixels[..., :3] * gain * rng.uniform(0.85, 1.15, 3) + offset * rng.uniform(0.6, 1.2)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def lights(rng: np.random.Generator) -> Iterator[str]:
    """Yield the light of each image: one light a shot, a shot being one to some images."""
    while True:
        light = str(rng.choice(list(LIGHTS), p=LIGHT_SHARES))
        for _ in range(int(rng.integers(1, LONGEST_SHOT + 1))):
            yield light


def upper_part(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a close-up: about the upper half."""
    return picture.crop((0, 0, picture.width, max(8, int(picture.height * rng.uniform(*CLOSE_UP)))))


def looks_of(figure: Image.Image, kind: Kind, rng: np.random.Generator) -> list[tuple[Image.Image, int]]:
    """Return the looks of one character, as `varied` takes them: a figure and an outfit."""
    if kind.change == "clothes":
        return [(dyed(figure, DYES[dye]), 0) for dye in rng.choice(len(DYES), len(kind.shares), replace=False)]
    return [(figure, turns) for turns in range(len(kind.shares))]


def draw(figure: Image.Image, kind: Kind, rng: np.random.Generator) -> Character:
    """Draw one character."""
    looks, light = looks_of(figure, kind, rng), lights(rng)
    count = int(np.exp(rng.uniform(np.log(kind.fewest), np.log(MOST_IMAGES))))
    shown = rng.choice(len(looks), count, p=kind.shares)
    is_close_up = rng.random(count) < kind.close_ups
    cutouts = []
    for look, is_close in zip(shown, is_close_up, strict=True):
        worn, outfit = looks[look]
        picture = varied(worn, outfit, rng)
        if is_close:
            picture = upper_part(picture, rng)
        cutouts.append(lit(picture, next(light), rng) if kind.has_shots else picture)
    return Character(cutouts, shown, is_close_up)


def judge(character: Character, seed: int) -> Judged:
    """Tell the looks of a character and hold them against the truth."""
    vectors = np.ones((len(character.cutouts), 1), np.float32)
    labels = find_outfits(character.cutouts, vectors, seed).labels
    is_whole = ~character.is_close_up
    agreement = adjusted_rand_score(character.looks[is_whole], labels[is_whole])
    groups, looks = len(np.unique(labels)), len(np.unique(character.looks))
    return Judged(is_found=agreement >= FOUND_ARI, is_one=groups == 1, is_split=groups > looks)


def row(kind: Kind, judged: list[Judged]) -> str:
    """Return a row of the table; who has one look can only be split."""
    split = f"{sum(one.is_split for one in judged)} of {len(judged)}"
    if len(kind.shares) == 1:
        return f"| {kind.name} | | | {split} |"
    found, left = sum(one.is_found for one in judged), sum(one.is_one for one in judged)
    return f"| {kind.name} | {found} of {len(judged)} | {left} | {split} |"


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("build/real"), help="Where fetched files are kept.")
    parser.add_argument("--seeds", default="0", help="Of the series, with commas.")
    options = parser.parse_args()
    options.weights.mkdir(parents=True, exist_ok=True)
    try:
        figures = [Image.open(file).convert("RGBA") for file in fetch_figures(options.weights)]
    except NotFetched as error:
        print(f"nothing to measure on: {error}")
        return
    turnable = [figure for figure in figures if visible_share(figure) >= MIN_VISIBLE]
    print(f"{len(figures)} figures, {len(turnable)} of which show a turned hue; seeds {options.seeds}\n")
    print("| characters | found | left as one look | split |\n|---|---|---|---|", flush=True)
    for number, kind in enumerate(KINDS):
        pool, judged = turnable if kind.change == "hue" else figures, []
        for seed in map(int, options.seeds.split(",")):
            rng = np.random.default_rng([seed, number])
            chosen = rng.choice(len(pool), min(CHARACTERS, len(pool)), replace=False)
            judged += [judge(draw(pool[figure], kind, rng), seed) for figure in chosen]
        print(row(kind, judged), flush=True)


if __name__ == "__main__":
    main()
